//! Who may do what, and how a refusal reads.

use aws_sdk_ecr::types::Tag;
use serde_json::{Value, json};

use crate::bed::{ACCOUNT, Bed, Keys, OTHER, REGION, code, refused};
use crate::signed;

/// Every operation of the ECR API, as AWS lists them.
const OPERATIONS: [&str; 62] = [
    "BatchCheckLayerAvailability",
    "BatchDeleteImage",
    "BatchGetImage",
    "BatchGetRepositoryScanningConfiguration",
    "CompleteLayerUpload",
    "CreatePullThroughCacheRule",
    "CreateRepository",
    "CreateRepositoryCreationTemplate",
    "DeleteLifecyclePolicy",
    "DeletePullThroughCacheRule",
    "DeleteRegistryPolicy",
    "DeleteRepository",
    "DeleteRepositoryCreationTemplate",
    "DeleteRepositoryPolicy",
    "DeleteSigningConfiguration",
    "DeregisterPullTimeUpdateExclusion",
    "DescribeImageReplicationStatus",
    "DescribeImageScanFindings",
    "DescribeImageSigningStatus",
    "DescribeImages",
    "DescribePullThroughCacheRules",
    "DescribeRegistry",
    "DescribeReplicationBackfillResults",
    "DescribeRepositories",
    "DescribeRepositoryCreationTemplates",
    "GetAccountSetting",
    "GetAuthorizationToken",
    "GetDownloadUrlForLayer",
    "GetLifecyclePolicy",
    "GetLifecyclePolicyPreview",
    "GetRegistryPolicy",
    "GetRegistryScanningConfiguration",
    "GetRepositoryPolicy",
    "GetSigningConfiguration",
    "InitiateLayerUpload",
    "ListImageReferrers",
    "ListImages",
    "ListPullTimeUpdateExclusions",
    "ListReplicationBackfills",
    "ListTagsForResource",
    "PutAccountSetting",
    "PutImage",
    "PutImageScanningConfiguration",
    "PutImageTagMutability",
    "PutLifecyclePolicy",
    "PutRegistryPolicy",
    "PutRegistryScanningConfiguration",
    "PutReplicationConfiguration",
    "PutSigningConfiguration",
    "RegisterPullTimeUpdateExclusion",
    "SetRepositoryPolicy",
    "StartImageScan",
    "StartLifecyclePolicyPreview",
    "StartReplicationBackfill",
    "StopReplicationBackfill",
    "TagResource",
    "UntagResource",
    "UpdateImageStorageClass",
    "UpdatePullThroughCacheRule",
    "UpdateRepositoryCreationTemplate",
    "UploadLayerPart",
    "ValidatePullThroughCacheRule",
];

#[tokio::test]
async fn every_operation_is_handled_and_denied_under_an_empty_policy() {
    let bed = Bed::start().await;
    let nobody = bed.principal(ACCOUNT, "user", "nobody", Value::Null).await;
    let admin = bed.admin(ACCOUNT).await;
    for operation in OPERATIONS {
        let (status, id, body) = signed::ecr(&bed, &nobody, operation, &json!({ "repositoryName": "app" })).await;
        assert_eq!(
            (status, body["__type"].as_str()),
            (400, Some("AccessDeniedException")),
            "{operation}: {body}"
        );
        assert!(!id.is_empty(), "{operation}");
        let (status, id, body) = signed::ecr(&bed, &admin, operation, &json!({ "repositoryName": "app" })).await;
        let handled = status == 200
            || !matches!(
                body["__type"].as_str(),
                Some("UnknownOperationException" | "InvalidAction")
            );
        assert!(handled && status < 500, "{operation}: {status} {body}");
        assert!(!id.is_empty(), "{operation}");
    }
    let calls = bed.control("GET", "/calls", Value::Null).await.unwrap();
    assert_eq!(calls["total"], 2 * OPERATIONS.len());
}

#[tokio::test]
async fn a_denial_reads_as_iam_words_it() {
    let bed = Bed::start().await;
    let allow = json!({ "Effect": "Allow", "Action": "ecr:Describe*", "Resource": "*" });
    let deny = json!({ "Effect": "Deny", "Action": "ecr:DescribeRegistry", "Resource": "*" });
    let keys = bed
        .principal(ACCOUNT, "user", "reader", json!({ "Statement": [allow, deny] }))
        .await;
    let ecr = bed.ecr(&keys, REGION);
    ecr.describe_repositories().send().await.unwrap();
    let (_, message) = refused(ecr.create_repository().repository_name("app").send().await);
    assert_eq!(
        message,
        "User: arn:aws:iam::111122223333:user/reader is not authorized to perform: ecr:CreateRepository on resource: \
         arn:aws:ecr:eu-west-1:111122223333:repository/app because no identity-based policy allows the \
         ecr:CreateRepository action"
    );
    let (_, message) = refused(ecr.describe_registry().send().await);
    assert!(
        message.ends_with("on resource: * with an explicit deny in an identity-based policy"),
        "{message}"
    );
}

#[tokio::test]
async fn resources_and_tags_narrow_rights() {
    let bed = Bed::start().await;
    let tag = |key: &str, value: &str| Tag::builder().key(key).value(value).build().unwrap();
    let admin = bed.admin_ecr().await;
    for (name, team) in [("team-a/app", "a"), ("team-b/app", "b")] {
        admin
            .create_repository()
            .repository_name(name)
            .tags(tag("team", team))
            .send()
            .await
            .unwrap();
    }
    let scoped = json!({
        "Effect": "Allow", "Action": ["ecr:CreateRepository", "ecr:DeleteRepository"],
        "Resource": "arn:aws:ecr:*:111122223333:repository/team-a/*",
    });
    let tagged = |key: &str| {
        json!({
            "Effect": "Allow", "Action": "ecr:DescribeImages", "Resource": "*",
            "Condition": { "StringEquals": { key: "a" } },
        })
    };
    let tagging = json!({
        "Effect": "Allow", "Action": "ecr:TagResource", "Resource": "*",
        "Condition": { "StringLike": { "aws:RequestTag/team": "a*" } },
    });
    for key in ["aws:ResourceTag/team", "ecr:ResourceTag/team"] {
        let policy = json!({ "Statement": [scoped, tagged(key), tagging] });
        let ecr = bed.ecr(&bed.principal(ACCOUNT, "user", "scoped", policy).await, REGION);
        ecr.describe_images()
            .repository_name("team-a/app")
            .send()
            .await
            .unwrap();
        let other = ecr.describe_images().repository_name("team-b/app").send().await;
        assert_eq!(code(other), "AccessDeniedException", "{key}");
        let create = |name: &str| ecr.create_repository().repository_name(name);
        assert_eq!(code(create("team-b/new").send().await), "AccessDeniedException");
        create("team-a/new").send().await.unwrap();
        ecr.delete_repository()
            .repository_name("team-a/new")
            .send()
            .await
            .unwrap();
        // Tags at creation need the right to tag.
        let (_, message) = refused(create("team-a/new").tags(tag("team", "b")).send().await);
        assert!(message.contains("ecr:TagResource"), "{message}");
        create("team-a/new").tags(tag("team", "a1")).send().await.unwrap();
        ecr.delete_repository()
            .repository_name("team-a/new")
            .send()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn keys_that_do_not_work_are_told_apart() {
    let bed = Bed::start().await;
    let user = bed.principal(ACCOUNT, "user", "one", json!("admin")).await;
    let list = |keys: &Keys| bed.ecr(keys, REGION).describe_repositories().send();
    list(&user).await.unwrap();
    let unknown = Keys {
        id: "AKIAUNKNOWNUNKNOWN00".to_owned(),
        ..user.clone()
    };
    assert_eq!(code(list(&unknown).await), "UnrecognizedClientException");
    assert_eq!(
        code(bed.sts(&unknown).get_caller_identity().send().await),
        "InvalidClientTokenId"
    );
    let wrong = Keys {
        secret: "wrong".to_owned(),
        ..user.clone()
    };
    assert_eq!(code(list(&wrong).await), "InvalidSignatureException");
    let role = bed.principal(ACCOUNT, "role", "two", json!("admin")).await;
    list(&role).await.unwrap();
    let stripped = Keys {
        token: None,
        ..role.clone()
    };
    assert_eq!(code(list(&stripped).await), "UnrecognizedClientException");
    bed.control("POST", "/expire", json!({ "accessKeyId": role.id }))
        .await
        .unwrap();
    let (code_of, message) = refused(list(&role).await);
    assert_eq!(code_of, "ExpiredTokenException");
    assert_eq!(message, "The security token included in the request is expired");
    bed.control("DELETE", "/principals", json!({ "account": ACCOUNT, "name": "one" }))
        .await
        .unwrap();
    assert_eq!(code(list(&user).await), "UnrecognizedClientException");
}

#[tokio::test]
async fn a_principal_keeps_its_keys_while_its_policy_is_replaced() {
    let bed = Bed::start().await;
    for kind in ["user", "role"] {
        let none = bed.principal(OTHER, kind, "same", Value::Null).await;
        let ecr = bed.ecr(&none, REGION);
        assert_eq!(code(ecr.describe_registry().send().await), "AccessDeniedException");
        let all = bed.principal(OTHER, kind, "same", json!("admin")).await;
        assert_eq!((&none.id, &none.arn), (&all.id, &all.arn));
        ecr.describe_registry().send().await.unwrap();
        bed.principal(OTHER, kind, "same", Value::Null).await;
        assert_eq!(code(ecr.describe_registry().send().await), "AccessDeniedException");
    }
    let wrong = bed
        .control(
            "POST",
            "/principals",
            json!({ "account": "1", "name": "x", "kind": "user" }),
        )
        .await;
    assert!(wrong.unwrap_err().contains("12 digits"));
}

#[tokio::test]
async fn iam_answers_whoever_may_ask() {
    let bed = Bed::start().await;
    let (admin, nobody) = (
        bed.admin(ACCOUNT).await,
        bed.principal(ACCOUNT, "user", "nobody", Value::Null).await,
    );
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let list = async |keys| signed::post(&bed, keys, "iam", &form, "Action=ListUsers&Version=2010-05-08").await;
    let listed = list(&admin).await;
    assert_eq!(listed.status, 200);
    assert!(listed.body.contains("<UserName>nobody</UserName>"), "{}", listed.body);
    let denied = list(&nobody).await;
    assert_eq!(denied.status, 403);
    assert!(denied.body.contains("<Code>AccessDenied</Code>"), "{}", denied.body);
}

#[tokio::test]
async fn what_is_not_signed_or_not_known_is_refused() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let unsigned = reqwest::Client::new()
        .post(&bed.endpoint)
        .body("{}")
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 400);
    assert!(
        unsigned
            .text()
            .await
            .unwrap()
            .contains("MissingAuthenticationTokenException")
    );
    let (status, _, body) = signed::ecr(&bed, &admin, "MakeCoffee", &json!({})).await;
    assert_eq!(
        (status, body["__type"].as_str()),
        (400, Some("UnknownOperationException"))
    );
}
