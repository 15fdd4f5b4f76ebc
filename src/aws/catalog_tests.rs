//! The merging of what is read, as plain functions; and the calls it takes, against the stand-in.

use std::collections::BTreeSet;

use anyhow::Context as _;
use aws_sdk_ecr::types::TargetStorageClass;
use bed::{Aws, Bed, Fault as Injected};
use futures::future::join_all;
use serde_json::json;

use super::*;

const ACCOUNT: &str = "111122223333";
const REGION: &str = "eu-west-1";

fn digest(number: u32) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

fn record(number: u32, tags: &[&str]) -> Record {
    Record {
        digest: digest(number).to_bytes(),
        pushed_at: Timestamp::from_second(i64::from(number)).unwrap(),
        is_index: false,
        can_run: true,
        storage: Storage::Active,
        tags: tags.iter().map(|tag| Box::from(*tag)).collect(),
    }
}

/// Each image as its number, with its tags.
fn shown(snapshot: &Snapshot) -> Vec<String> {
    let mut shown: Vec<String> = snapshot
        .images()
        .map(|image| {
            let tags: Vec<&str> = image.tags.iter().map(Tag::as_str).collect();
            format!("{} {}", &image.digest.as_str()[69..], tags.join(","))
        })
        .collect();
    shown.sort();
    shown
}

#[test]
fn a_tag_that_moved_is_on_one_image_only() {
    let mut snapshot = Snapshot::new(vec![record(1, &["latest", "v1"]), record(2, &["v2"])]);
    snapshot.apply(Change::Found(record(2, &["latest", "v2"])));
    assert_eq!(shown(&snapshot), ["01 v1", "02 latest,v2"]);
    snapshot.apply(Change::Found(record(3, &["v2"])));
    assert_eq!(shown(&snapshot), ["01 v1", "02 latest", "03 v2"]);
    assert_eq!(snapshot.by_tag(&"v2".parse().unwrap()).unwrap().digest, digest(3));
    assert_eq!(snapshot.image(&digest(1)).unwrap().digest, digest(1));
}

#[test]
fn what_is_gone_goes() {
    let mut snapshot = Snapshot::new(vec![record(1, &["latest", "v1"]), record(2, &["v2"])]);
    snapshot.apply(Change::NoTag("latest".parse().unwrap()));
    snapshot.apply(Change::NoDigest(digest(2).to_bytes()));
    snapshot.apply(Change::NoDigest(digest(9).to_bytes()));
    assert_eq!(shown(&snapshot), ["01 v1"]);
    assert_eq!(snapshot.image(&digest(2)), None);
}

#[test]
fn of_an_image_that_two_pages_show_the_later_page_counts() {
    let snapshot = Snapshot::new(vec![record(2, &["old"]), record(1, &[]), record(2, &["new"])]);
    assert_eq!(shown(&snapshot), ["01 ", "02 new"]);
}

#[test]
fn a_list_of_ids_moves_tags_finds_new_images_and_leaves_out_what_is_gone() {
    let archived = Record {
        storage: Storage::Archived,
        ..record(4, &["v4"])
    };
    let known = Snapshot::new(vec![
        record(1, &["v1"]),
        record(2, &["v2"]),
        record(3, &["v3"]),
        archived.clone(),
    ]);
    let ids = |entries: &[(u32, &[&str])]| -> Ids {
        let tags = |tags: &[&str]| tags.iter().map(|tag| Box::from(*tag)).collect();
        entries
            .iter()
            .map(|(number, own)| (digest(*number).to_bytes(), tags(own)))
            .collect()
    };
    // Nothing has vanished: archived records stay without being listed.
    let (records, new) = known.merge(
        &mut ids(&[(1, &["v1", "prod"]), (2, &["v2"]), (3, &[]), (9, &["v9"])]),
        None,
    );
    assert_eq!(shown(&Snapshot::new(records)), ["01 prod,v1", "02 v2", "03 ", "04 v4"]);
    assert_eq!(new, [digest(9).to_bytes()]);
    // 1 is archived now, 2 is gone, 4 is restored.
    let all = ids(&[(1, &["v1"]), (3, &["v3"]), (4, &["v4"])]);
    let (records, new) = known.merge(&mut ids(&[(3, &["v3"]), (4, &["v4"])]), Some(&all));
    let merged = Snapshot::new(records);
    let storage = |number: u32| merged.image(&digest(number)).map(|image| image.storage);
    assert_eq!(
        [storage(1), storage(2), storage(3), storage(4)],
        [
            Some(Storage::Archived),
            None,
            Some(Storage::Active),
            Some(Storage::Active)
        ]
    );
    assert!(new.is_empty());
}

#[test]
fn what_could_not_run_is_kept_and_not_offered() {
    let signature = Record {
        can_run: false,
        ..record(2, &["sha256-aa.sig"])
    };
    let snapshot = Snapshot::new(vec![record(1, &["v1"]), signature]);
    assert_eq!(shown(&snapshot), ["01 v1"]);
    assert!(snapshot.by_tag(&"sha256-aa.sig".parse().unwrap()).is_some());
    assert_eq!(snapshot.len(), 2);
}

#[test]
fn fifty_thousand_images_take_less_than_twelve_megabytes() {
    let records = (0..50_000)
        .map(|number| {
            record(
                number,
                &[&format!("v1.{number}.0"), &format!("build-{number}-0123456789abcdef")],
            )
        })
        .collect();
    let snapshot = Snapshot::new(records);
    assert!(snapshot.bytes() < 12 << 20, "{}", snapshot.bytes());
    assert!(snapshot.bytes() > 50_000 * 64);
}

/// A repository in the stand-in, its catalog, and what it takes to look at both.
struct Stage {
    aws: Aws,
    by_hand: aws_sdk_ecr::Client,
    catalog: Catalog,
    /// The parts of a manifest that ECR has the blobs of.
    parts: serde_json::Value,
    _bed: Bed,
}

impl Stage {
    async fn new() -> anyhow::Result<Self> {
        let bed = Bed::new()?;
        let aws = Aws::start(&bed).await?;
        let admin = aws.admin(ACCOUNT).await?;
        let by_hand = aws.ecr(REGION, &admin);
        by_hand.create_repository().repository_name("team-a/web").send().await?;
        let first = aws
            .push_image(ACCOUNT, REGION, "team-a/web", "first", b"content")
            .await?;
        let ecr = Ecr::of_admin(&aws, ACCOUNT, REGION).await?;
        let repository: RepositoryName = "team-a/web".parse()?;
        let (_, manifest) = ecr
            .manifest(&repository, &first.parse()?)
            .await?
            .context("no manifest")?;
        Ok(Self {
            catalog: Catalog::new(ecr, repository),
            parts: serde_json::from_slice(&manifest)?,
            aws,
            by_hand,
            _bed: bed,
        })
    }

    /// Puts an image without moving any blob; gives its digest.
    async fn put(&self, number: u32, tag: Option<&str>) -> anyhow::Result<Digest> {
        let mut manifest = self.parts.clone();
        manifest["annotations"] = json!({ "number": number.to_string() });
        let put = self
            .by_hand
            .put_image()
            .repository_name("team-a/web")
            .image_manifest(manifest.to_string())
            .image_manifest_media_type("application/vnd.oci.image.manifest.v1+json")
            .set_image_tag(tag.map(str::to_owned));
        let id = put.send().await?.image.and_then(|image| image.image_id);
        Ok(id.and_then(|id| id.image_digest).context("no digest")?.parse()?)
    }

    /// What it takes to see the repository anew: calls of `DescribeImages` and of `ListImages`.
    async fn refresh(&self) -> anyhow::Result<(Arc<Snapshot>, u64, u64)> {
        self.aws.reset_calls(ACCOUNT, REGION).await?;
        let snapshot = self.catalog.get(Duration::ZERO).await?;
        let calls = self.aws.calls(ACCOUNT, REGION).await?;
        Ok((snapshot, calls.of("DescribeImages"), calls.of("ListImages")))
    }
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

#[tokio::test]
async fn those_who_ask_together_share_one_listing_and_its_failure() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    let refused = Injected::error("DescribeImages", 400, "AccessDeniedException", "no").times(1);
    stage.aws.inject(&refused).await?;
    stage.aws.reset_calls(ACCOUNT, REGION).await?;
    let answers = join_all((0..20).map(|_| stage.catalog.get(Duration::from_mins(5)))).await;
    assert!(answers.iter().all(Result::is_err));
    assert_eq!(stage.aws.calls(ACCOUNT, REGION).await?.of("DescribeImages"), 1);

    let answers = join_all((0..20).map(|_| stage.catalog.get(Duration::from_mins(5)))).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|snapshot| snapshot.len() == 1))
    );
    assert_eq!(stage.aws.calls(ACCOUNT, REGION).await?.of("DescribeImages"), 2);
    Ok(())
}

#[tokio::test]
async fn a_change_that_was_heard_of_is_one_small_read_and_a_listing_that_fails_changes_nothing() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.catalog.changed(&ImageRef::Tag(tag("first"))).await?;
    assert_eq!(
        stage.aws.calls(ACCOUNT, REGION).await?.of("DescribeImages"),
        0,
        "nothing to keep current yet"
    );
    stage.catalog.get(Duration::ZERO).await?;

    let second = stage.put(2, Some("latest")).await?;
    stage.catalog.changed(&ImageRef::Digest(second.clone())).await?;
    let third = stage.put(3, Some("latest")).await?;
    stage.catalog.changed(&ImageRef::Tag(tag("latest"))).await?;
    let seen = stage.catalog.get(Duration::from_mins(5)).await?;
    assert_eq!(seen.by_tag(&tag("latest")).context("no latest")?.digest, third);
    assert_eq!(seen.image(&second).context("no second")?.tags, []);
    assert_eq!(stage.aws.calls(ACCOUNT, REGION).await?.of("DescribeImages"), 3);

    stage
        .aws
        .inject(&Injected::error("DescribeImages", 400, "AccessDeniedException", "no"))
        .await?;
    assert!(stage.catalog.get(Duration::ZERO).await.is_err());
    assert!(stage.catalog.changed(&ImageRef::Digest(second.clone())).await.is_err());
    assert_eq!(*stage.catalog.get(Duration::from_mins(5)).await?, *seen);
    stage.aws.remove_faults().await?;

    let gone = aws_sdk_ecr::types::ImageIdentifier::builder()
        .image_digest(second.as_str())
        .build();
    let delete = stage
        .by_hand
        .batch_delete_image()
        .repository_name("team-a/web")
        .image_ids(gone);
    delete.send().await?;
    stage.catalog.changed(&ImageRef::Digest(second.clone())).await?;
    assert_eq!(stage.catalog.get(Duration::from_mins(5)).await?.image(&second), None);
    Ok(())
}

#[tokio::test]
async fn above_a_page_a_refresh_lists_ids_and_describes_what_is_new() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    for number in 0..1_100 {
        stage
            .put(number, (number % 2 == 0).then(|| format!("v{number}")).as_deref())
            .await?;
    }
    let (seen, described, listed) = stage.refresh().await?;
    assert_eq!(
        (seen.len(), described, listed),
        (1_101, 2, 0),
        "in full at first, 1,000 images a call"
    );
    let (again, described, listed) = stage.refresh().await?;
    assert_eq!((described, listed), (0, 2));
    assert_eq!(*again, *seen);

    let mut new = BTreeSet::new();
    for number in 2_000..2_150 {
        new.insert(stage.put(number, None).await?);
    }
    let moved = stage.put(1, Some("v0")).await?;
    let archived = seen.by_tag(&tag("v10")).context("no v10")?.digest;
    let id = aws_sdk_ecr::types::ImageIdentifier::builder()
        .image_digest(archived.as_str())
        .build();
    let archive = stage
        .by_hand
        .update_image_storage_class()
        .repository_name("team-a/web")
        .image_id(id);
    archive.target_storage_class(TargetStorageClass::Archive).send().await?;
    let id = aws_sdk_ecr::types::ImageIdentifier::builder()
        .image_digest(seen.by_tag(&tag("v12")).context("no v12")?.digest.as_str())
        .build();
    stage
        .by_hand
        .batch_delete_image()
        .repository_name("team-a/web")
        .image_ids(id)
        .send()
        .await?;

    let (seen, described, listed) = stage.refresh().await?;
    assert_eq!(
        (described, listed),
        (2, 4),
        "150 new ones by id, and the archived ones since something vanished"
    );
    assert_eq!(seen.len(), 1_101 + 150 - 1);
    assert!(new.iter().all(|digest| seen.image(digest).is_some()));
    assert_eq!(seen.by_tag(&tag("v0")).context("no v0")?.digest, moved);
    assert_eq!(seen.by_tag(&tag("v10")).context("no v10")?.storage, Storage::Archived);
    assert_eq!(seen.by_tag(&tag("v12")), None);
    let (again, described, listed) = stage.refresh().await?;
    assert_eq!((described, listed), (0, 2));
    assert_eq!(*again, *seen);
    Ok(())
}

#[tokio::test]
async fn after_a_doubt_the_next_who_asks_gets_a_new_listing() -> anyhow::Result<()> {
    let stage = Stage::new().await?;
    stage.catalog.get(Duration::ZERO).await?;
    let second = stage.put(2, Some("second")).await?;
    let seen = stage.catalog.get(Duration::from_mins(5)).await?;
    assert_eq!(seen.image(&second), None, "it was not heard of");
    stage.catalog.doubt();
    stage.aws.reset_calls(ACCOUNT, REGION).await?;
    for _ in 0..2 {
        let seen = stage.catalog.get(Duration::from_mins(5)).await?;
        assert!(seen.image(&second).is_some());
    }
    assert_eq!(stage.aws.calls(ACCOUNT, REGION).await?.of("DescribeImages"), 1);
    Ok(())
}
