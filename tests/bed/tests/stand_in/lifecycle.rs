//! Lifecycle policies: put, and carried out as the documentation has it; and what is told of images that left.

use aws_sdk_ecr::Client;
use aws_sdk_ecr::types::{ImageStatusFilter, TargetStorageClass};
use serde_json::{Value, json};

use crate::bed::{ACCOUNT, Bed, REGION, code, refused};
use crate::images::{IMAGE, by_digest, by_tag, digest, put, put_manifest};

pub(crate) fn policy(rules: &Value) -> String {
    json!({ "rules": rules }).to_string()
}

/// Keeps the newest image of those with tags that begin so, or without tags.
pub(crate) fn keep_one(priority: u32, tags: &Value) -> Value {
    let mut selection = json!({ "countType": "imageCountMoreThan", "countNumber": 1 });
    for (key, value) in tags.as_object().unwrap() {
        selection[key] = value.clone();
    }
    json!({ "rulePriority": priority, "selection": selection, "action": { "type": "expire" } })
}

pub(crate) fn keep_one_of_any() -> String {
    policy(&json!([keep_one(1, &json!({ "tagStatus": "any" }))]))
}

pub(crate) fn archive_after(days: u32) -> String {
    policy(&json!([{
        "rulePriority": 1,
        "selection": { "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days },
        "action": { "type": "transition", "targetStorageClass": "archive" },
    }, {
        "rulePriority": 2,
        "selection": { "tagStatus": "any", "storageClass": "archive", "countType": "sinceImageTransitioned", "countUnit": "days", "countNumber": 90 },
        "action": { "type": "expire" },
    }]))
}

/// A bed with the repository `app`, and an administrator's client.
pub(crate) async fn start() -> (Bed, Client) {
    let bed = Bed::start().await;
    let ecr = bed.admin_ecr().await;
    ecr.create_repository().repository_name("app").send().await.unwrap();
    (bed, ecr)
}

pub(crate) async fn put_policy(ecr: &Client, text: &str) {
    let put = ecr.put_lifecycle_policy().repository_name("app");
    put.lifecycle_policy_text(text).send().await.unwrap();
}

pub(crate) async fn age(bed: &Bed, digest: &str, days_ago: Value) {
    let body =
        json!({ "account": ACCOUNT, "region": REGION, "repository": "app", "digest": digest, "daysAgo": days_ago });
    bed.control("POST", "/age", body).await.unwrap();
}

/// Puts an image of so many days; gives its digest.
pub(crate) async fn aged(bed: &Bed, ecr: &Client, tag: &str, days: i64) -> String {
    let (_, digest) = put(ecr, "app", tag).await;
    age(bed, &digest, json!({ "pushed": days })).await;
    digest
}

/// What lifecycle policies do so many days from now: digests and actions.
pub(crate) async fn run(bed: &Bed, days: i64) -> Vec<(String, String)> {
    let body = json!({ "account": ACCOUNT, "region": REGION, "daysFromNow": days });
    let done = bed.control("POST", "/lifecycle", body).await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let done = done.as_array().unwrap().iter();
    done.map(|done| (text(&done["digest"]), text(&done["action"])))
        .collect()
}

async fn departures(bed: &Bed) -> Vec<Value> {
    let route = format!("/departures?account={ACCOUNT}&region={REGION}");
    bed.control("GET", &route, Value::Null)
        .await
        .unwrap()
        .as_array()
        .unwrap()
        .clone()
}

#[tokio::test]
async fn a_lifecycle_policy_comes_back_in_another_layout_and_goes_when_told() {
    let (_bed, ecr) = start().await;
    let missing = ecr.get_lifecycle_policy().repository_name("app").send().await;
    assert_eq!(code(missing), "LifecyclePolicyNotFoundException");
    let patterns = json!({ "tagStatus": "tagged", "tagPatternList": ["a*", "b*"] });
    let text = policy(&json!([
        keep_one(7, &json!({ "tagStatus": "untagged" })),
        keep_one(3, &patterns)
    ]));
    put_policy(&ecr, &text).await;
    let read = ecr.get_lifecycle_policy().repository_name("app").send().await.unwrap();
    let read: Value = serde_json::from_str(read.lifecycle_policy_text().unwrap()).unwrap();
    assert_eq!(read["rules"][0]["rulePriority"], 3);
    assert_eq!(read["rules"][0]["selection"]["tagPatternList"], json!(["b*", "a*"]));
    assert_eq!(read["rules"][1]["rulePriority"], 7);
    ecr.delete_lifecycle_policy()
        .repository_name("app")
        .send()
        .await
        .unwrap();
    let gone = ecr.delete_lifecycle_policy().repository_name("app").send().await;
    assert_eq!(code(gone), "LifecyclePolicyNotFoundException");
}

#[tokio::test]
async fn what_is_against_the_grammar_is_refused_and_nothing_is_kept() {
    let (_bed, ecr) = start().await;
    let any = keep_one(1, &json!({ "tagStatus": "any" }));
    let untagged = keep_one(2, &json!({ "tagStatus": "untagged" }));
    let mut pulled = keep_one(1, &json!({ "tagStatus": "any" }));
    pulled["selection"]["countType"] = json!("sinceImagePulled");
    pulled["selection"]["countUnit"] = json!("days");
    for rules in [
        json!([any, untagged]),
        json!([pulled]),
        json!([]),
        json!([{ "rulePriority": 1 }]),
    ] {
        let text = policy(&rules);
        let put = ecr
            .put_lifecycle_policy()
            .repository_name("app")
            .lifecycle_policy_text(&text);
        let (code, message) = refused(put.send().await);
        assert_eq!(code, "InvalidParameterException", "{text}");
        assert!(message.starts_with("Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: '"));
        let start = ecr.start_lifecycle_policy_preview().repository_name("app");
        let start = start.lifecycle_policy_text(&text).send().await;
        assert_eq!(self::code(start), "InvalidParameterException", "{text}");
    }
    let missing = ecr.get_lifecycle_policy().repository_name("app").send().await;
    assert_eq!(code(missing), "LifecyclePolicyNotFoundException");
}

#[tokio::test]
async fn rights_are_asked_for_by_each_operation() {
    let (bed, ecr) = start().await;
    put_policy(&ecr, &keep_one_of_any()).await;
    let nobody = bed.principal(ACCOUNT, "user", "nobody", Value::Null).await;
    let nobody = bed.ecr(&nobody, REGION);
    let text = keep_one_of_any();
    let denied = "AccessDeniedException";
    let put = nobody
        .put_lifecycle_policy()
        .repository_name("app")
        .lifecycle_policy_text(&text);
    assert_eq!(code(put.send().await), denied);
    assert_eq!(
        code(nobody.get_lifecycle_policy().repository_name("app").send().await),
        denied
    );
    assert_eq!(
        code(nobody.delete_lifecycle_policy().repository_name("app").send().await),
        denied
    );
    assert_eq!(
        code(
            nobody
                .start_lifecycle_policy_preview()
                .repository_name("app")
                .send()
                .await
        ),
        denied
    );
    assert_eq!(
        code(
            nobody
                .get_lifecycle_policy_preview()
                .repository_name("app")
                .send()
                .await
        ),
        denied
    );
}

#[tokio::test]
async fn a_run_deletes_what_the_policy_says_and_tells_why() {
    let (bed, ecr) = start().await;
    let (manifest, beta_and_prod) = put(&ecr, "app", "beta-1").await;
    age(&bed, &beta_and_prod, json!({ "pushed": 10 })).await;
    put_manifest(&ecr, "app", &manifest, IMAGE, Some("prod-1"))
        .await
        .unwrap();
    let second = aged(&bed, &ecr, "beta-2", 9).await;
    let tagged = |prefix: &str| json!({ "tagStatus": "tagged", "tagPrefixList": [prefix] });
    assert_eq!(run(&bed, 0).await, [], "there is no policy");
    put_policy(
        &ecr,
        &policy(&json!([keep_one(1, &tagged("prod")), keep_one(2, &tagged("beta"))])),
    )
    .await;
    // The first is out of reach of the second rule, and the second is the newest.
    assert_eq!(run(&bed, 0).await, []);
    let third = aged(&bed, &ecr, "beta-3", 8).await;
    assert_eq!(run(&bed, 0).await, [(second.clone(), "EXPIRE".to_owned())]);
    let gone = ecr
        .describe_images()
        .repository_name("app")
        .image_ids(by_tag("beta-2"))
        .send()
        .await;
    assert_eq!(code(gone), "ImageNotFoundException");
    let read = ecr.get_lifecycle_policy().repository_name("app").send().await.unwrap();
    assert!(read.last_evaluated_at().unwrap().secs() > 0);
    let left = departures(&bed).await;
    let why = json!({
        "account": ACCOUNT, "region": REGION, "repository": "app", "digest": second, "tags": ["beta-2"],
        "cause": "Lifecycle", "rule": 2,
    });
    assert_eq!(left, [why]);
    let listed = ecr.describe_images().repository_name("app").send().await.unwrap();
    let mut there: Vec<_> = listed
        .image_details()
        .iter()
        .filter_map(|image| image.image_digest())
        .collect();
    there.sort_unstable();
    let mut expected = [beta_and_prod.as_str(), third.as_str()];
    expected.sort_unstable();
    assert_eq!(there, expected);
}

#[tokio::test]
async fn images_are_archived_restored_and_deleted_from_the_archive() {
    let (bed, ecr) = start().await;
    let image = aged(&bed, &ecr, "v1", 31).await;
    put_policy(&ecr, &archive_after(30)).await;
    assert_eq!(run(&bed, 0).await, [(image.clone(), "TRANSITION".to_owned())]);
    assert_eq!(departures(&bed).await, Vec::<Value>::new());
    let filter = aws_sdk_ecr::types::DescribeImagesFilter::builder().image_status(ImageStatusFilter::Archived);
    let archived = ecr
        .describe_images()
        .repository_name("app")
        .filter(filter.build())
        .send()
        .await
        .unwrap();
    assert_eq!(archived.image_details()[0].image_digest(), Some(image.as_str()));
    assert!(archived.image_details()[0].last_archived_at().is_some());
    let restore = ecr
        .update_image_storage_class()
        .repository_name("app")
        .image_id(by_digest(&image));
    restore
        .target_storage_class(TargetStorageClass::Standard)
        .send()
        .await
        .unwrap();
    // As young as its return, however long ago it was pushed.
    assert_eq!(run(&bed, 29).await, []);
    assert_eq!(run(&bed, 31).await, [(image.clone(), "TRANSITION".to_owned())]);
    assert_eq!(run(&bed, 31 + 89).await, []);
    assert_eq!(run(&bed, 31 + 91).await, [(image.clone(), "EXPIRE".to_owned())]);
    assert_eq!(departures(&bed).await[0]["rule"], 2);
}

#[tokio::test]
async fn a_pull_keeps_an_image_out_of_the_archive() {
    let (bed, ecr) = start().await;
    let [pulled, left] = [aged(&bed, &ecr, "v1", 99).await, aged(&bed, &ecr, "v2", 99).await];
    age(&bed, &pulled, json!({ "pulled": 3 })).await;
    age(&bed, &left, json!({ "pulled": 31 })).await;
    let text = policy(&json!([{
        "selection": { "tagStatus": "any", "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 30 },
        "action": { "type": "transition", "targetStorageClass": "archive" },
    }]));
    put_policy(&ecr, &text).await;
    assert_eq!(run(&bed, 0).await, [(left, "TRANSITION".to_owned())]);
}

#[tokio::test]
async fn whoever_deletes_images_is_known_and_by_which_ids() {
    let (bed, ecr) = start().await;
    let (manifest, tagged_twice) = put(&ecr, "app", "v1").await;
    put_manifest(&ecr, "app", &manifest, IMAGE, Some("stable"))
        .await
        .unwrap();
    let (_, forced) = put(&ecr, "app", "v2").await;
    let delete = |id| ecr.batch_delete_image().repository_name("app").image_ids(id).send();
    delete(by_tag("stable")).await.unwrap();
    let mismatch = by_tag_and_digest("v1", &forced);
    let failed = delete(mismatch).await.unwrap();
    assert_eq!(
        failed.failures()[0].failure_code().unwrap().as_str(),
        "ImageTagDoesNotMatchDigest"
    );
    assert_eq!(
        departures(&bed).await,
        Vec::<Value>::new(),
        "a tag that goes leaves its image"
    );
    delete(by_tag_and_digest("v1", &tagged_twice)).await.unwrap();
    ecr.delete_repository()
        .repository_name("app")
        .force(true)
        .send()
        .await
        .unwrap();
    let admin = bed.admin(ACCOUNT).await.arn;
    let of = |digest: &str, tag: &str, rest: Value| {
        let mut whole =
            json!({ "account": ACCOUNT, "region": REGION, "repository": "app", "digest": digest, "tags": [tag] });
        for (key, value) in rest.as_object().unwrap() {
            whole[key] = value.clone();
        }
        whole
    };
    let ids = json!([{ "imageTag": "v1", "imageDigest": tagged_twice }]);
    let by_call = json!({ "cause": "BatchDelete", "principal": admin, "imageIds": ids });
    let by_force = json!({ "cause": "RepositoryDeleted", "principal": admin });
    assert_eq!(
        departures(&bed).await,
        [of(&tagged_twice, "v1", by_call), of(&forced, "v2", by_force)]
    );
}

fn by_tag_and_digest(tag: &str, digest: &str) -> aws_sdk_ecr::types::ImageIdentifier {
    let id = aws_sdk_ecr::types::ImageIdentifier::builder();
    id.image_tag(tag).image_digest(digest).build()
}

#[tokio::test]
async fn a_lifecycle_policy_deletes_nothing_at_once() {
    let (bed, ecr) = start().await;
    for index in 0..3 {
        aged(&bed, &ecr, &format!("v{index}"), 400).await;
    }
    put_policy(&ecr, &keep_one_of_any()).await;
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
}

#[tokio::test]
async fn a_referrer_goes_with_its_subject() {
    let (bed, ecr) = start().await;
    let image = aged(&bed, &ecr, "v1", 31).await;
    let (signature, first) = put(&ecr, "app", "signature").await;
    let mut manifest: Value = serde_json::from_str(&signature).unwrap();
    manifest["subject"] = json!({ "mediaType": IMAGE, "digest": image, "size": 7 });
    let manifest = manifest.to_string();
    put_manifest(&ecr, "app", &manifest, IMAGE, None).await.unwrap();
    let delete = ecr.batch_delete_image().repository_name("app");
    delete.image_ids(by_digest(&first)).send().await.unwrap();
    let after = |days: u32, tags: &str| {
        policy(&json!([{
            "selection": { "tagStatus": tags, "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days },
            "action": { "type": "expire" },
        }]))
    };
    put_policy(&ecr, &after(1, "untagged")).await;
    assert_eq!(run(&bed, 9).await, []);
    put_policy(&ecr, &after(30, "any")).await;
    let gone = ["EXPIRE".to_owned(), "EXPIRE".to_owned()];
    let [image, signature] = [image, digest(&manifest)];
    assert_eq!(
        run(&bed, 0).await,
        [image, signature].into_iter().zip(gone).collect::<Vec<_>>()
    );
}
