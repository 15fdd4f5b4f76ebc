//! Previews of lifecycle policies.

use std::time::Duration;

use aws_sdk_ecr::Client;
use aws_sdk_ecr::operation::get_lifecycle_policy_preview::GetLifecyclePolicyPreviewOutput;
use aws_sdk_ecr::types::{
    ImageActionType, LifecyclePolicyPreviewFilter, LifecyclePolicyPreviewStatus, LifecyclePolicyStorageClass, TagStatus,
};
use serde_json::{Value, json};

use crate::bed::{Bed, code};
use crate::images::{IMAGE, INDEX, by_digest, by_tag, digest, put, put_manifest};
use crate::lifecycle::{age, aged, archive_after, keep_one, keep_one_of_any, policy, put_policy, run, start};

async fn preview(ecr: &Client, text: Option<&str>) -> GetLifecyclePolicyPreviewOutput {
    let start = ecr.start_lifecycle_policy_preview().repository_name("app");
    start
        .set_lifecycle_policy_text(text.map(str::to_owned))
        .send()
        .await
        .unwrap();
    ended(ecr).await
}

async fn ended(ecr: &Client) -> GetLifecyclePolicyPreviewOutput {
    loop {
        let seen = ecr
            .get_lifecycle_policy_preview()
            .repository_name("app")
            .send()
            .await
            .unwrap();
        if seen.status() != Some(&LifecyclePolicyPreviewStatus::InProgress) {
            return seen;
        }
        assert!(seen.preview_results().is_empty());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn previews(bed: &Bed, wanted: Value) {
    bed.control("PUT", "/previews", wanted).await.unwrap();
}

fn digests(seen: &GetLifecyclePolicyPreviewOutput) -> Vec<&str> {
    seen.preview_results()
        .iter()
        .filter_map(|result| result.image_digest())
        .collect()
}

#[tokio::test]
async fn a_preview_is_one_at_a_time_and_takes_a_while() {
    let (bed, ecr) = start().await;
    let none = ecr.get_lifecycle_policy_preview().repository_name("app").send().await;
    assert_eq!(code(none), "LifecyclePolicyPreviewNotFoundException");
    let no_policy = ecr.start_lifecycle_policy_preview().repository_name("app").send().await;
    assert_eq!(code(no_policy), "LifecyclePolicyNotFoundException");
    let old = aged(&bed, &ecr, "v1", 9).await;
    aged(&bed, &ecr, "v2", 7).await;
    let text = keep_one_of_any();
    let start = || {
        ecr.start_lifecycle_policy_preview()
            .repository_name("app")
            .lifecycle_policy_text(&text)
    };
    let started = start().send().await.unwrap();
    assert_eq!(started.status(), Some(&LifecyclePolicyPreviewStatus::InProgress));
    assert_eq!(code(start().send().await), "LifecyclePolicyPreviewInProgressException");
    // Computed at the end: an image that comes meanwhile is in it.
    let newest = aged(&bed, &ecr, "v3", 0).await;
    let seen = ended(&ecr).await;
    assert_eq!(seen.status(), Some(&LifecyclePolicyPreviewStatus::Complete));
    assert_eq!(digests(&seen).len(), 2);
    assert!(!digests(&seen).contains(&newest.as_str()));
    let first = &seen.preview_results()[0];
    assert_eq!(first.image_digest(), Some(old.as_str()));
    assert_eq!(first.image_tags(), ["v1"]);
    assert_eq!(first.applied_rule_priority(), Some(1));
    assert_eq!(first.action().unwrap().r#type(), Some(&ImageActionType::Expire));
    assert_eq!(first.storage_class(), Some(&LifecyclePolicyStorageClass::Standard));
    assert_eq!(seen.summary().unwrap().expiring_image_total_count(), Some(2));
    // Nothing is stored by it, nothing is deleted, and the next one takes its place.
    assert_eq!(
        ecr.list_images()
            .repository_name("app")
            .send()
            .await
            .unwrap()
            .image_ids()
            .len(),
        3
    );
    let archiving = preview(&ecr, Some(&archive_after(8))).await;
    assert_eq!(digests(&archiving), [&old]);
    let totals = archiving.summary().unwrap().transitioning_image_total_counts();
    assert_eq!(totals[0].image_total_count(), Some(1));
    assert_eq!(archiving.summary().unwrap().expiring_image_total_count(), Some(0));
}

#[tokio::test]
async fn a_preview_without_a_text_is_of_the_policy_in_force() {
    let (bed, ecr) = start().await;
    let old = aged(&bed, &ecr, "v1", 9).await;
    aged(&bed, &ecr, "v2", 8).await;
    put_policy(&ecr, &keep_one_of_any()).await;
    previews(&bed, json!({ "millis": 0 })).await;
    assert_eq!(digests(&preview(&ecr, None).await), [&old]);
}

#[tokio::test]
async fn previews_come_in_pages_by_tag_status_and_by_id() {
    let (bed, ecr) = start().await;
    previews(&bed, json!({ "millis": 0 })).await;
    let mut all = Vec::new();
    for index in 0..5 {
        all.push(aged(&bed, &ecr, &format!("v{index}"), 9 - index).await);
    }
    let (manifest, _) = put(&ecr, "app", "moving").await;
    age(&bed, &digest(&manifest), json!({ "pushed": 20 })).await;
    put(&ecr, "app", "other").await;
    let other = ecr
        .batch_get_image()
        .repository_name("app")
        .image_ids(by_tag("other"))
        .send()
        .await
        .unwrap();
    let other = other.images()[0].image_manifest().unwrap().to_owned();
    put_manifest(&ecr, "app", &other, IMAGE, Some("moving")).await.unwrap();
    preview(&ecr, Some(&keep_one_of_any())).await;
    let get = || ecr.get_lifecycle_policy_preview().repository_name("app");
    let page = get().max_results(4).send().await.unwrap();
    assert_eq!(page.preview_results().len(), 4);
    let rest = get()
        .max_results(4)
        .next_token(page.next_token().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(digests(&rest), &all[3..]);
    assert!(rest.next_token().is_none());
    assert_eq!(rest.summary().unwrap().expiring_image_total_count(), Some(6));
    let untagged = LifecyclePolicyPreviewFilter::builder()
        .tag_status(TagStatus::Untagged)
        .build();
    assert_eq!(
        digests(&get().filter(untagged).send().await.unwrap()),
        [digest(&manifest)]
    );
    let ids = [by_tag("v2"), by_digest(&all[0]), by_tag("other")];
    let named = get().set_image_ids(Some(ids.to_vec())).send().await.unwrap();
    assert_eq!(digests(&named), [&all[0], &all[2]]);
    let both = get().image_ids(by_tag("v2")).max_results(4).send().await;
    assert_eq!(code(both), "InvalidParameterException");
    assert_eq!(code(get().max_results(101).send().await), "InvalidParameterException");
}

#[tokio::test]
async fn previews_fail_and_expire_when_told() {
    let (bed, ecr) = start().await;
    previews(&bed, json!({ "millis": 0, "ending": "FAILED" })).await;
    let failed = preview(&ecr, Some(&keep_one_of_any())).await;
    assert_eq!(failed.status(), Some(&LifecyclePolicyPreviewStatus::Failed));
    previews(&bed, json!({ "ending": "COMPLETE" })).await;
    let complete = preview(&ecr, Some(&keep_one_of_any())).await;
    assert_eq!(complete.status(), Some(&LifecyclePolicyPreviewStatus::Complete));
    previews(&bed, json!({ "ending": "EXPIRED" })).await;
    assert_eq!(ended(&ecr).await.status(), Some(&LifecyclePolicyPreviewStatus::Expired));
}

#[tokio::test]
async fn images_of_an_index_stay_with_it_in_preview_and_run() {
    let (bed, ecr) = start().await;
    previews(&bed, json!({ "millis": 0 })).await;
    let (child_manifest, child) = put(&ecr, "app", "child").await;
    age(&bed, &child, json!({ "pushed": 30 })).await;
    let descriptor = json!({ "mediaType": IMAGE, "digest": child, "size": child_manifest.len() });
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] }).to_string();
    put_manifest(&ecr, "app", &index, INDEX, Some("in-use.1"))
        .await
        .unwrap();
    let free = aged(&bed, &ecr, "free", 30).await;
    let guarded = policy(&json!([
        keep_one(1, &json!({ "tagStatus": "tagged", "tagPrefixList": ["in-use."] })),
        { "rulePriority": 2, "selection": { "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1 }, "action": { "type": "expire" } },
    ]));
    put_policy(&ecr, &guarded).await;
    assert_eq!(digests(&preview(&ecr, None).await), [&free]);
    assert_eq!(run(&bed, 100).await, [(free, "EXPIRE".to_owned())]);
    let freed = ecr
        .batch_delete_image()
        .repository_name("app")
        .image_ids(by_tag("in-use.1"))
        .send()
        .await
        .unwrap();
    assert!(freed.failures().is_empty());
    assert_eq!(run(&bed, 100).await, [(child, "EXPIRE".to_owned())]);
}
