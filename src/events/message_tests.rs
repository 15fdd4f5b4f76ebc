//! Messages as AWS documents them, and as nobody should write them.

use serde_json::json;

use super::*;

const DIGEST: &str = "sha256:7f5b2640fe6fb4f46592dfd3410c4a79dac4f89e4782432e0378abcd1234abcd";

fn with_home<T>(act: impl FnOnce(Home<'_>) -> T) -> T {
    let (account, region) = ("111122223333".parse().unwrap(), "eu-west-1".parse().unwrap());
    act(Home {
        account: &account,
        region: &region,
    })
}

fn envelope(source: &str, detail_type: &str, detail: Value) -> Value {
    let mut envelope = json!({
        "version": "0", "id": "13cde686-328b-6117-af20-0e5566167482", "detail-type": detail_type, "source": source,
        "account": "111122223333", "time": "2026-11-16T01:54:34Z", "region": "eu-west-1", "resources": [],
    });
    envelope["detail"] = detail;
    envelope
}

fn read_value(message: &Value) -> Reading {
    with_home(|home| read(&message.to_string(), home))
}

fn ecr(detail_type: &str, detail: Value) -> Meaning {
    read_value(&envelope("aws.ecr", detail_type, detail)).meaning
}

fn image(repository: &str, what: ImageChange) -> Meaning {
    changed(Subject::Image(repository.parse().unwrap(), what))
}

fn call(operation: &str, parameters: Value) -> Value {
    let mut record = json!({
        "eventVersion": "1.11", "userIdentity": { "type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/x" },
        "eventTime": "2026-11-16T01:54:34Z", "eventSource": "ecr.amazonaws.com", "eventName": operation,
        "awsRegion": "eu-west-1", "responseElements": null, "requestID": "b7bbfe5a-7c5e-4f2e-9d3c-0123456789ab",
        "eventID": "1", "readOnly": false, "eventType": "AwsApiCall", "managementEvent": true,
        "recipientAccountId": "111122223333",
    });
    record["requestParameters"] = parameters;
    record
}

fn api(operation: &str, parameters: Value) -> Meaning {
    ecr("AWS API Call via CloudTrail", call(operation, parameters))
}

#[test]
fn pushes_deletions_and_storage_classes_of_images_are_told() {
    let action = |action: &str| {
        json!({ "result": "SUCCESS", "repository-name": "team-a/web", "image-digest": DIGEST, "action-type": action,
                "image-tag": "v1" })
    };
    let (digest, tag) = (Some(DIGEST.to_owned()), Some("v1".to_owned()));
    assert_eq!(
        ecr("ECR Image Action", action("PUSH")),
        image(
            "team-a/web",
            ImageChange::Pushed {
                digest: digest.clone(),
                tag: tag.clone()
            }
        )
    );
    assert_eq!(
        ecr("ECR Image Action", action("DELETE")),
        image("team-a/web", ImageChange::Deleted { digest, tag })
    );
    let archived = json!({ "action-type": "UPDATE_STORAGE_CLASS", "target-storage-class": "ARCHIVE",
        "image-digest": DIGEST, "repository-name": "team-a/web", "result": "SUCCESS",
        "manifest-media-type": "application/vnd.oci.image.manifest.v1+json" });
    let expected = image("team-a/web", ImageChange::StorageClass { digest: DIGEST.into() });
    assert_eq!(ecr("ECR Image Action", archived.clone()), expected);
    assert_eq!(ecr("ECR Referrer Action", archived), expected);
}

#[test]
fn a_push_by_digest_alone_has_no_tag_and_a_failed_one_is_of_no_concern() {
    let detail =
        json!({ "result": "SUCCESS", "repository-name": "web", "image-digest": DIGEST, "action-type": "PUSH" });
    let expected = image(
        "web",
        ImageChange::Pushed {
            digest: Some(DIGEST.into()),
            tag: None,
        },
    );
    assert_eq!(ecr("ECR Image Action", detail), expected);
    let failed = json!({ "result": "FAILED", "repository-name": "web", "image-digest": DIGEST, "action-type": "PUSH" });
    assert_eq!(ecr("ECR Image Action", failed), Meaning::Nothing);
}

#[test]
fn scans_replications_and_caches_are_told() {
    let basic = json!({ "scan-status": "COMPLETE", "repository-name": "web", "image-digest": DIGEST,
        "finding-severity-counts": { "CRITICAL": 0 }, "image-tags": ["v1"] });
    let scanned = image("web", ImageChange::Scanned { digest: DIGEST.into() });
    assert_eq!(ecr("ECR Image Scan", basic), scanned);
    let replicated = json!({ "result": "SUCCESS", "repository-name": "web", "image-digest": DIGEST,
        "source-account": "444455556666", "action-type": "REPLICATE", "source-region": "us-west-2", "image-tag": "v1" });
    let expected = ImageChange::Replicated {
        digest: Some(DIGEST.into()),
        tag: Some("v1".into()),
    };
    assert_eq!(ecr("ECR Replication Action", replicated), image("web", expected));
    let cached = json!({ "rule-version": "1", "sync-status": "SUCCESS", "ecr-repository-prefix": "docker-hub",
        "repository-name": "docker-hub/library/alpine", "upstream-registry-url": "public.ecr.aws",
        "image-tag": "3.17.2", "image-digest": DIGEST });
    let expected = ImageChange::Pushed {
        digest: Some(DIGEST.into()),
        tag: Some("3.17.2".into()),
    };
    assert_eq!(
        ecr("ECR Pull Through Cache Action", cached),
        image("docker-hub/library/alpine", expected)
    );
    let settings = json!({ "action-type": "SCAN_FREQUENCY_CHANGE", "resource-type": "REPOSITORY", "scan-type": "ENHANCED",
        "repositories": [{ "repository-name": "web", "scan-frequency": "MANUAL" }] });
    assert_eq!(ecr("ECR Scan Resource Change", settings), changed(Subject::Registry));
}

#[test]
fn inspector_tells_of_images_in_ecr_and_what_it_tells_of_others_is_left() {
    let scanned = image("team-a/web", ImageChange::Scanned { digest: DIGEST.into() });
    let scan = |arn: &str| {
        let detail = json!({ "scan-status": "INITIAL_SCAN_COMPLETE", "repository-name": arn, "image-digest": DIGEST,
            "finding-severity-counts": { "CRITICAL": 0, "TOTAL": 0 }, "image-tags": [] });
        read_value(&envelope("aws.inspector2", "Inspector2 Scan", detail)).meaning
    };
    assert_eq!(
        scan("arn:aws:ecr:eu-west-1:111122223333:repository/team-a/web"),
        scanned
    );
    assert_eq!(
        scan("arn:aws:ecr:eu-west-1:444455556666:repository/team-a/web"),
        Meaning::Elsewhere
    );
    assert_eq!(
        scan("arn:aws:lambda:eu-west-1:111122223333:function:x"),
        Meaning::NotEcr
    );
    let finding = |resource: Value| {
        let detail = json!({ "findingArn": "arn:aws:inspector2:…", "severity": "CRITICAL", "status": "ACTIVE",
            "firstObservedAt": "Dec 3, 2021, 6:02:30 PM", "resources": [resource] });
        read_value(&envelope("aws.inspector2", "Inspector2 Finding", detail)).meaning
    };
    let of = |registry: &str| {
        json!({ "type": "AWS_ECR_CONTAINER_IMAGE", "details": { "awsEcrContainerImage": {
            "imageHash": DIGEST, "imageTags": ["v1"], "repositoryName": "team-a/web", "registry": registry } } })
    };
    assert_eq!(finding(of("111122223333")), scanned);
    assert_eq!(finding(of("444455556666")), Meaning::Elsewhere);
    let instance = json!({ "type": "AWS_EC2_INSTANCE", "details": { "awsEc2Instance": {} } });
    assert_eq!(finding(instance), Meaning::NotEcr);
}

#[test]
fn calls_that_change_a_repository_name_it_by_name_or_arn() {
    let expected = Meaning::Changed {
        subjects: vec![Subject::Repository("team-a/web".parse().unwrap())],
        request: Some("b7bbfe5a-7c5e-4f2e-9d3c-0123456789ab".into()),
    };
    for operation in [
        "CreateRepository",
        "DeleteRepository",
        "SetRepositoryPolicy",
        "PutImageTagMutability",
    ] {
        assert_eq!(
            api(operation, json!({ "repositoryName": "team-a/web" })),
            expected,
            "{operation}"
        );
    }
    let arn =
        |account: &str| json!({ "resourceArn": format!("arn:aws:ecr:eu-west-1:{account}:repository/team-a/web") });
    assert_eq!(api("TagResource", arn("111122223333")), expected);
    assert_eq!(api("UntagResource", arn("444455556666")), Meaning::Elsewhere);
    let foreign = json!({ "repositoryName": "team-a/web", "registryId": "444455556666" });
    assert_eq!(api("SetRepositoryPolicy", foreign), Meaning::Elsewhere);
}

#[test]
fn calls_that_change_the_registry_concern_it_and_reads_and_images_concern_nobody() {
    let Meaning::Changed { subjects, .. } = api("PutRegistryPolicy", json!({ "policyText": "{}" })) else {
        panic!("it concerns the registry");
    };
    assert_eq!(subjects, [Subject::Registry]);
    for operation in [
        "PutImage",
        "BatchGetImage",
        "DescribeRepositories",
        "GetAuthorizationToken",
        "StartImageScan",
    ] {
        assert_eq!(
            api(operation, json!({ "repositoryName": "web" })),
            Meaning::Nothing,
            "{operation}"
        );
    }
    assert_eq!(
        api("InventedByAws", json!({ "repositoryName": "web" })),
        Meaning::Unknown
    );
    let mut refused = call("DeleteRepository", json!({ "repositoryName": "web" }));
    refused["errorCode"] = json!("RepositoryNotEmptyException");
    assert_eq!(ecr("AWS API Call via CloudTrail", refused), Meaning::Nothing);
}

#[test]
fn calls_that_change_what_is_kept_by_prefix_concern_that_prefix_or_any_where_they_name_none() {
    let subject = |operation: &str, parameters: Value| match api(operation, parameters) {
        Meaning::Changed { subjects, .. } => subjects,
        meaning => panic!("{operation}: {meaning:?}"),
    };
    let of = |setting, prefix: &str| [Subject::Setting(setting, Some(prefix.into()))];
    for act in ["Create", "Update", "Delete"] {
        let (rule, template) = (
            format!("{act}PullThroughCacheRule"),
            format!("{act}RepositoryCreationTemplate"),
        );
        let parameters = json!({ "ecrRepositoryPrefix": "docker-hub", "registryId": "111122223333" });
        assert_eq!(subject(&rule, parameters), of(Setting::CacheRule, "docker-hub"));
        let parameters = json!({ "prefix": "team/", "description": "of the team" });
        assert_eq!(subject(&template, parameters), of(Setting::Template, "team/"));
        for none in [json!(null), json!({}), json!({ "registryId": "111122223333" })] {
            assert_eq!(
                subject(&rule, none.clone()),
                [Subject::Setting(Setting::CacheRule, None)]
            );
            assert_eq!(subject(&template, none), [Subject::Setting(Setting::Template, None)]);
        }
    }
    let root = json!({ "prefix": "ROOT" });
    assert_eq!(
        subject("UpdateRepositoryCreationTemplate", root),
        of(Setting::Template, "ROOT")
    );
    let elsewhere = json!({ "prefix": "team", "registryId": "444455556666" });
    assert_eq!(api("UpdateRepositoryCreationTemplate", elsewhere), Meaning::Elsewhere);
    for nonsense in ["../etc", "Team", "a b"] {
        let parameters = json!({ "ecrRepositoryPrefix": nonsense });
        assert_eq!(api("UpdatePullThroughCacheRule", parameters), Meaning::Malformed);
    }
}

#[test]
fn what_another_account_or_region_tells_is_elsewhere() {
    let detail =
        json!({ "result": "SUCCESS", "repository-name": "web", "image-digest": DIGEST, "action-type": "PUSH" });
    let message = envelope("aws.ecr", "ECR Image Action", detail);
    for (key, other) in [
        ("account", json!("444455556666")),
        ("region", json!("us-east-1")),
        ("account", json!("")),
    ] {
        let mut message = message.clone();
        message[key] = other;
        assert_eq!(read_value(&message).meaning, Meaning::Elsewhere, "{key}");
    }
}

#[test]
fn what_is_no_event_of_ecr_is_left_and_what_ecr_invents_is_unknown() {
    let left = |body: &str| with_home(|home| read(body, home)).meaning;
    for body in [
        "",
        "hello",
        "[]",
        "null",
        "{}",
        "\"x\"",
        "{\"source\":7}",
        "{\"source\":\"aws.ecr\"}",
        "\u{0}",
    ] {
        assert_eq!(left(body), Meaning::NotEcr, "{body}");
    }
    for source in ["aws.ec2", "com.example", "AWS.ECR", "aws.ecr2", "aws.s3"] {
        let message = envelope(source, "ECR Image Action", json!({}));
        assert_eq!(read_value(&message).meaning, Meaning::NotEcr, "{source}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(left(&deep), Meaning::NotEcr);
    let giant = envelope("aws.ecr", "ECR Image Action", json!({ "x": "y".repeat(LONGEST) })).to_string();
    assert_eq!(left(&giant), Meaning::NotEcr);
    assert_eq!(ecr("ECR Something New", json!({ "a": 1 })), Meaning::Unknown);
    let other_service = json!({ "eventSource": "s3.amazonaws.com", "eventName": "PutObject" });
    assert_eq!(ecr("AWS API Call via CloudTrail", other_service), Meaning::Unknown);
}

#[test]
fn nonsense_in_an_event_of_ecr_is_malformed() {
    let push = |name: Value, digest: Value, tag: Value| {
        let detail = json!({ "result": "SUCCESS", "repository-name": name, "image-digest": digest,
            "action-type": "PUSH", "image-tag": tag });
        ecr("ECR Image Action", detail)
    };
    assert!(matches!(
        push(json!("web"), json!(DIGEST), json!("v1")),
        Meaning::Changed { .. }
    ));
    for (name, digest, tag) in [
        (json!("../etc"), json!(DIGEST), json!("v1")),
        (json!("a".repeat(300)), json!(DIGEST), json!("v1")),
        (json!(["web"]), json!(DIGEST), json!("v1")),
        (json!("web"), json!("sha256:zz"), json!("v1")),
        (json!("web"), json!(DIGEST), json!("a\nb")),
        (json!("web"), json!(DIGEST), json!("a".repeat(301))),
    ] {
        assert_eq!(
            push(name.clone(), digest.clone(), tag.clone()),
            Meaning::Malformed,
            "{name} {digest} {tag}"
        );
    }
    for detail in [
        json!(null),
        json!([]),
        json!("x"),
        json!({}),
        json!({ "action-type": 5 }),
    ] {
        for kind in [
            "ECR Image Action",
            "ECR Image Scan",
            "ECR Replication Action",
            "AWS API Call via CloudTrail",
        ] {
            assert_eq!(ecr(kind, detail.clone()), Meaning::Malformed, "{kind} {detail}");
        }
    }
    assert_eq!(
        api("TagResource", json!({ "resourceArn": "arn:aws:s3:::bucket" })),
        Meaning::Malformed
    );
    assert_eq!(api("SetRepositoryPolicy", json!(null)), Meaning::Malformed);
    let twice = r#"{"source":"aws.ecr","source":"aws.ecr","detail-type":"ECR Image Action"}"#;
    assert_eq!(with_home(|home| read(twice, home)).meaning, Meaning::NotEcr);
}
