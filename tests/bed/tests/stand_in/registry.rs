//! Settings of a whole registry.

use aws_sdk_ecr::types::{
    ImageTagMutability, RctAppliedFor, RegistryScanningRule, ReplicationConfiguration, ReplicationDestination,
    ReplicationRule, ScanFrequency, ScanType, ScanningRepositoryFilter, ScanningRepositoryFilterType,
    SigningConfiguration, SigningRule,
};
use serde_json::{Value, json};

use crate::bed::{ACCOUNT, Bed, REGION, code};

fn rule(account: &str, region: &str) -> ReplicationRule {
    let destination = ReplicationDestination::builder()
        .region(region)
        .registry_id(account)
        .build()
        .unwrap();
    ReplicationRule::builder().destinations(destination).build().unwrap()
}

#[tokio::test]
async fn replication_rules_are_kept_and_checked() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let put = |rules: Vec<ReplicationRule>| {
        let configuration = ReplicationConfiguration::builder()
            .set_rules(Some(rules))
            .build()
            .unwrap();
        ecr.put_replication_configuration()
            .replication_configuration(configuration)
            .send()
    };
    put(vec![rule(ACCOUNT, "us-east-1")]).await.unwrap();
    let read = ecr.describe_registry().send().await.unwrap();
    assert_eq!(
        read.replication_configuration().unwrap().rules(),
        [rule(ACCOUNT, "us-east-1")]
    );
    assert_eq!(
        code(put(vec![rule(ACCOUNT, REGION)]).await),
        "InvalidParameterException"
    );
    assert_eq!(
        code(put(vec![rule(ACCOUNT, "us-east-1"); 26]).await),
        "InvalidParameterException"
    );
    put(Vec::new()).await.unwrap();
    let read = ecr.describe_registry().send().await.unwrap();
    assert!(read.replication_configuration().unwrap().rules().is_empty());
}

#[tokio::test]
async fn each_registry_has_its_own_settings() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let (here, there) = (bed.ecr(&admin, REGION), bed.ecr(&admin, "us-east-1"));
    let statement = r#"{"Effect": "Allow", "Principal": "*", "Action": "ecr:ReplicateImage", "Resource": "*"}"#;
    let policy = format!(r#"{{"Version": "2012-10-17", "Statement": [{statement}]}}"#);
    here.put_registry_policy().policy_text(policy).send().await.unwrap();
    assert_eq!(
        here.get_registry_policy().send().await.unwrap().registry_id(),
        Some(ACCOUNT)
    );
    assert_eq!(
        code(there.get_registry_policy().send().await),
        "RegistryPolicyNotFoundException"
    );
    let setting = here
        .put_account_setting()
        .name("BLOB_MOUNTING")
        .value("ENABLED")
        .send()
        .await
        .unwrap();
    assert_eq!(setting.value(), Some("ENABLED"));
}

#[tokio::test]
async fn templates_keep_their_filters_and_shape_new_repositories() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let ecr = bed.ecr(&admin, REGION);
    let filter = aws_sdk_ecr::types::ImageTagMutabilityExclusionFilter::builder()
        .filter_type(aws_sdk_ecr::types::ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("dev-*")
        .build()
        .unwrap();
    let create = |prefix: &str| {
        ecr.create_repository_creation_template()
            .prefix(prefix)
            .applied_for(RctAppliedFor::CreateOnPush)
            .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
            .image_tag_mutability_exclusion_filters(filter.clone())
            .send()
    };
    create("team").await.unwrap();
    assert_eq!(code(create("team").await), "TemplateAlreadyExistsException");
    create("ROOT").await.unwrap();
    let update = ecr
        .update_repository_creation_template()
        .prefix("ROOT")
        .description("all others");
    update.send().await.unwrap();
    let read = ecr.describe_repository_creation_templates().send().await.unwrap();
    let read = read.repository_creation_templates();
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].description(), Some("all others"));
    assert_eq!(read[1].image_tag_mutability_exclusion_filters(), [filter]);
    let (host, auth) = crate::plane::login(&bed, &admin, REGION).await;
    let client = crate::plane::client(false);
    crate::plane::push(&client, &host, &auth, "team/app:v1", b"content")
        .await
        .unwrap();
    let made = ecr
        .describe_repositories()
        .repository_names("team/app")
        .send()
        .await
        .unwrap();
    assert_eq!(
        made.repositories()[0].image_tag_mutability(),
        Some(&ImageTagMutability::ImmutableWithExclusion)
    );
    for prefix in ["team", "ROOT"] {
        ecr.delete_repository_creation_template()
            .prefix(prefix)
            .send()
            .await
            .unwrap();
    }
    let missing = ecr.delete_repository_creation_template().prefix("team").send().await;
    assert_eq!(code(missing), "TemplateNotFoundException");
    let refused = crate::plane::push(&client, &host, &auth, "team/other:v1", b"content").await;
    assert!(refused.unwrap_err().contains("NAME_UNKNOWN"));
}

#[tokio::test]
async fn registry_documents_are_absent_until_put() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    assert_eq!(
        code(ecr.get_signing_configuration().send().await),
        "SigningConfigurationNotFoundException"
    );
    let profile = "arn:aws:signer:eu-west-1:111122223333:/signing-profiles/release";
    let rule = SigningRule::builder().signing_profile_arn(profile).build().unwrap();
    let signing = SigningConfiguration::builder().rules(rule).build().unwrap();
    ecr.put_signing_configuration()
        .signing_configuration(signing.clone())
        .send()
        .await
        .unwrap();
    let read = ecr.get_signing_configuration().send().await.unwrap();
    assert_eq!(read.signing_configuration(), Some(&signing));
    ecr.delete_signing_configuration().send().await.unwrap();
    assert_eq!(
        code(ecr.delete_signing_configuration().send().await),
        "SigningConfigurationNotFoundException"
    );

    let setting = ecr
        .get_account_setting()
        .name("REGISTRY_POLICY_SCOPE")
        .send()
        .await
        .unwrap();
    assert_eq!(setting.value(), Some("V2"));
    let wrong = ecr
        .put_account_setting()
        .name("BLOB_MOUNTING")
        .value("MAYBE")
        .send()
        .await;
    assert_eq!(code(wrong), "ValidationException");

    let excluded = "arn:aws:iam::111122223333:role/scanner";
    let register = || ecr.register_pull_time_update_exclusion().principal_arn(excluded).send();
    register().await.unwrap();
    assert_eq!(code(register().await), "ExclusionAlreadyExistsException");
    let listed = ecr.list_pull_time_update_exclusions().send().await.unwrap();
    assert_eq!(listed.pull_time_update_exclusions(), [excluded]);
    let deregister = || {
        ecr.deregister_pull_time_update_exclusion()
            .principal_arn(excluded)
            .send()
    };
    deregister().await.unwrap();
    assert_eq!(code(deregister().await), "ExclusionNotFoundException");

    let nothing = ecr.put_registry_policy().policy_text("{}").send().await;
    assert_eq!(code(nothing), "InvalidParameterException");
}

#[tokio::test]
async fn scanning_rules_tell_how_each_repository_is_scanned() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    for name in ["prod/app", "test/app"] {
        ecr.create_repository().repository_name(name).send().await.unwrap();
    }
    let rule = |frequency: ScanFrequency, text: &str| {
        let kind = ScanningRepositoryFilterType::Wildcard;
        let filter = ScanningRepositoryFilter::builder()
            .filter_type(kind)
            .filter(text)
            .build()
            .unwrap();
        RegistryScanningRule::builder()
            .scan_frequency(frequency)
            .repository_filters(filter)
            .build()
            .unwrap()
    };
    let put = |kind: ScanType, rule: RegistryScanningRule| {
        ecr.put_registry_scanning_configuration()
            .scan_type(kind)
            .rules(rule)
            .send()
    };
    let wrong = put(ScanType::Basic, rule(ScanFrequency::ContinuousScan, "*")).await;
    assert_eq!(code(wrong), "InvalidParameterException");
    put(ScanType::Basic, rule(ScanFrequency::ScanOnPush, "prod"))
        .await
        .unwrap();
    let names = ["prod/app", "test/app", "gone"].map(str::to_owned).to_vec();
    let read = ecr
        .batch_get_repository_scanning_configuration()
        .set_repository_names(Some(names))
        .send()
        .await;
    let read = read.unwrap();
    let frequencies: Vec<_> = read
        .scanning_configurations()
        .iter()
        .map(|found| found.scan_frequency().unwrap().as_str())
        .collect();
    assert_eq!(frequencies, ["SCAN_ON_PUSH", "MANUAL"]);
    assert_eq!(read.failures()[0].repository_name(), Some("gone"));
}

#[tokio::test]
async fn pull_through_rules_are_checked_and_kept() {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    let create = |prefix: &str, url: &str| {
        ecr.create_pull_through_cache_rule()
            .ecr_repository_prefix(prefix)
            .upstream_registry_url(url)
    };
    assert_eq!(
        code(create("hub", "example.org").send().await),
        "UnsupportedUpstreamRegistryException"
    );
    assert_eq!(
        code(create("hub", "registry-1.docker.io").send().await),
        "InvalidParameterException"
    );
    create("quay", "quay.io")
        .upstream_repository_prefix("ROOT")
        .send()
        .await
        .unwrap();
    assert_eq!(
        code(create("quay", "quay.io").send().await),
        "PullThroughCacheRuleAlreadyExistsException"
    );
    let read = ecr
        .describe_pull_through_cache_rules()
        .ecr_repository_prefixes("quay")
        .send()
        .await
        .unwrap();
    assert_eq!(
        read.pull_through_cache_rules()[0].upstream_repository_prefix(),
        Some("ROOT")
    );
    let missing = ecr
        .describe_pull_through_cache_rules()
        .ecr_repository_prefixes("gone")
        .send()
        .await;
    assert_eq!(code(missing), "PullThroughCacheRuleNotFoundException");
    let validate = || {
        ecr.validate_pull_through_cache_rule()
            .ecr_repository_prefix("quay")
            .send()
    };
    assert!(validate().await.unwrap().is_valid());
    let upstream =
        |failure: Value| json!({ "account": ACCOUNT, "region": REGION, "prefix": "quay", "failure": failure });
    bed.control("PUT", "/upstream", upstream(json!("no such host")))
        .await
        .unwrap();
    let answer = validate().await.unwrap();
    assert!(!answer.is_valid() && answer.failure() == Some("no such host"));
    bed.control("PUT", "/upstream", upstream(Value::Null)).await.unwrap();
    assert!(validate().await.unwrap().is_valid());
    ecr.delete_pull_through_cache_rule()
        .ecr_repository_prefix("quay")
        .send()
        .await
        .unwrap();
}
