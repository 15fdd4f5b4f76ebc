//! Images carried over to other registries.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{ACCOUNT, Bed, OTHER, REGION};
use crate::signed;

const FAR: &str = "us-east-1";

async fn replicate_to(bed: &Bed, account: &str, region: &str, deletions: Option<bool>) -> Value {
    let mut rule = json!({
        "destinations": [{ "region": region, "registryId": account }],
        "repositoryFilters": [{ "filter": "team/", "filterType": "PREFIX_MATCH" }],
    });
    if let Some(enabled) = deletions {
        rule["deleteReplication"] = json!({ "enabled": enabled });
    }
    let body = json!({ "replicationConfiguration": { "rules": [rule] } });
    let admin = bed.admin(ACCOUNT).await;
    let (status, _, answer) = signed::ecr(bed, &admin, "PutReplicationConfiguration", &body).await;
    assert_eq!((status, &answer), (200, &body));
    let (_, _, registry) = signed::ecr(bed, &admin, "DescribeRegistry", &json!({})).await;
    registry["replicationConfiguration"]["rules"][0].clone()
}

/// The images of a repository once there are `count`.
async fn images(ecr: &aws_sdk_ecr::Client, repository: &str, count: usize) -> Vec<String> {
    for _ in 0..100 {
        let listed = ecr.list_images().repository_name(repository).send().await;
        let ids = listed
            .map(|listed| listed.image_ids.unwrap_or_default())
            .unwrap_or_default();
        if ids.len() == count {
            return ids.into_iter().filter_map(|id| id.image_tag).collect();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!("the images did not arrive");
}

#[tokio::test]
async fn the_switch_for_deletions_is_kept() {
    let bed = Bed::start().await;
    let rule = replicate_to(&bed, ACCOUNT, FAR, Some(true)).await;
    assert_eq!(rule["deleteReplication"], json!({ "enabled": true }));
    let rule = replicate_to(&bed, ACCOUNT, FAR, None).await;
    assert_eq!(rule.get("deleteReplication"), None);
}

#[tokio::test]
async fn pushes_arrive_and_deletions_only_if_wanted() {
    let bed = Bed::start().await;
    let admin = bed.admin(ACCOUNT).await;
    let (near, far) = (bed.ecr(&admin, REGION), bed.ecr(&admin, FAR));
    for name in ["team/app", "other"] {
        near.create_repository().repository_name(name).send().await.unwrap();
    }
    crate::images::put(&near, "team/app", "early").await;
    replicate_to(&bed, ACCOUNT, FAR, None).await;
    for name in ["team/app", "other"] {
        crate::images::put(&near, name, "v1").await;
    }
    assert_eq!(images(&far, "team/app", 1).await, ["v1"]);
    assert_eq!(
        far.describe_repositories().send().await.unwrap().repositories().len(),
        1
    );
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("v1").build();
    let status = near
        .describe_image_replication_status()
        .repository_name("team/app")
        .image_id(id.clone());
    let status = status.send().await.unwrap();
    assert_eq!(status.replication_statuses()[0].status().unwrap().as_str(), "COMPLETE");
    // What was there before a rule comes by a backfill.
    let to = aws_sdk_ecr::types::ReplicationDestination::builder()
        .region(FAR)
        .registry_id(ACCOUNT)
        .build()
        .unwrap();
    let started = near.start_replication_backfill().destination(to).send().await.unwrap();
    let backfill = started.replication_backfill_id().unwrap();
    assert_eq!(images(&far, "team/app", 2).await.len(), 2);
    let listed = near.list_replication_backfills().send().await.unwrap();
    assert_eq!(listed.backfills().len(), 1);
    let results = near
        .describe_replication_backfill_results()
        .replication_backfill_id(backfill)
        .send()
        .await
        .unwrap();
    assert_eq!(results.replication_backfill_id(), Some(backfill));
    let delete = || {
        near.batch_delete_image()
            .repository_name("team/app")
            .image_ids(id.clone())
            .send()
    };
    delete().await.unwrap();
    assert_eq!(images(&far, "team/app", 2).await.len(), 2);
    crate::images::put(&near, "team/app", "v1").await;
    replicate_to(&bed, ACCOUNT, FAR, Some(true)).await;
    delete().await.unwrap();
    assert_eq!(images(&far, "team/app", 1).await, ["early"]);
}

#[tokio::test]
async fn another_account_has_to_let_images_in() {
    let bed = Bed::start().await;
    let (source, target) = (bed.admin_ecr().await, bed.ecr(&bed.admin(OTHER).await, FAR));
    source
        .create_repository()
        .repository_name("team/app")
        .send()
        .await
        .unwrap();
    replicate_to(&bed, OTHER, FAR, None).await;
    crate::images::put(&source, "team/app", "v1").await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let status = |tag: &str| {
        let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag(tag).build();
        source
            .describe_image_replication_status()
            .repository_name("team/app")
            .image_id(id)
            .send()
    };
    let failed = status("v1").await.unwrap();
    assert_eq!(failed.replication_statuses()[0].status().unwrap().as_str(), "FAILED");
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::111122223333:root" },
        "Action": ["ecr:ReplicateImage", "ecr:CreateRepository"],
        "Resource": "arn:aws:ecr:us-east-1:444455556666:repository/*",
    }]});
    target
        .put_registry_policy()
        .policy_text(policy.to_string())
        .send()
        .await
        .unwrap();
    crate::images::put(&source, "team/app", "v2").await;
    assert_eq!(images(&target, "team/app", 1).await, ["v2"]);
}
