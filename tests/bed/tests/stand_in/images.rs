//! Images by the API: put, described, deleted, scanned.

use aws_sdk_ecr::Client;
use aws_sdk_ecr::primitives::Blob;
use aws_sdk_ecr::types::{ImageFailureCode, ImageIdentifier, ImageTagMutability};
use bed_programs::sha256;
use serde_json::json;

use crate::bed::{Bed, code};

pub(crate) const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub(crate) fn digest(bytes: impl AsRef<[u8]>) -> String {
    format!("sha256:{}", sha256(bytes))
}

/// Uploads a layer by the API, if it is not there.
async fn upload(ecr: &Client, repository: &str, layer: &[u8]) -> String {
    let upload = ecr
        .initiate_layer_upload()
        .repository_name(repository)
        .send()
        .await
        .unwrap();
    let id = upload.upload_id().unwrap();
    let last = i64::try_from(layer.len()).unwrap() - 1;
    let part = ecr
        .upload_layer_part()
        .repository_name(repository)
        .upload_id(id)
        .part_first_byte(0);
    part.part_last_byte(last)
        .layer_part_blob(Blob::new(layer))
        .send()
        .await
        .unwrap();
    let complete = ecr.complete_layer_upload().repository_name(repository).upload_id(id);
    let done = complete.layer_digests(digest(layer)).send().await;
    if done.is_err() {
        assert_eq!(code(done), "LayerAlreadyExistsException");
    }
    digest(layer)
}

/// Puts an image that differs by its tag; gives its manifest and its digest.
pub(crate) async fn put(ecr: &Client, repository: &str, tag: &str) -> (String, String) {
    let layer = format!("layer of {tag}");
    let blob = upload(ecr, repository, layer.as_bytes()).await;
    let descriptor = json!({ "mediaType": "application/octet-stream", "digest": blob, "size": layer.len() });
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": IMAGE, "config": descriptor, "layers": [descriptor] }).to_string();
    put_manifest(ecr, repository, &manifest, IMAGE, Some(tag))
        .await
        .unwrap();
    let digest = digest(&manifest);
    (manifest, digest)
}

pub(crate) async fn put_manifest(
    ecr: &Client,
    repository: &str,
    manifest: &str,
    media_type: &str,
    tag: Option<&str>,
) -> Result<(), aws_sdk_ecr::Error> {
    let put = ecr.put_image().repository_name(repository).image_manifest(manifest);
    put.image_manifest_media_type(media_type)
        .set_image_tag(tag.map(str::to_owned))
        .send()
        .await?;
    Ok(())
}

pub(crate) fn by_tag(tag: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_tag(tag).build()
}

pub(crate) fn by_digest(digest: &str) -> ImageIdentifier {
    ImageIdentifier::builder().image_digest(digest).build()
}

pub(crate) async fn repository(bed: &Bed, mutability: ImageTagMutability) -> Client {
    let ecr = bed.admin_ecr().await;
    ecr.create_repository()
        .repository_name("app")
        .image_tag_mutability(mutability)
        .send()
        .await
        .unwrap();
    ecr
}

#[tokio::test]
async fn an_image_needs_its_layers_and_is_described_with_their_size() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    let missing = json!({ "schemaVersion": 2, "config": { "digest": digest("nowhere"), "size": 7 }, "layers": [] });
    let outcome = put_manifest(&ecr, "app", &missing.to_string(), IMAGE, Some("x")).await;
    assert_eq!(code(outcome), "LayersNotFoundException");
    let (manifest, digest) = put(&ecr, "app", "v1").await;
    let same = put_manifest(&ecr, "app", &manifest, IMAGE, Some("v1")).await;
    assert_eq!(code(same), "ImageAlreadyExistsException");
    let before = ecr.describe_images().repository_name("app").send().await.unwrap();
    put_manifest(&ecr, "app", &manifest, IMAGE, Some("stable"))
        .await
        .unwrap();
    let after = ecr.describe_images().repository_name("app").send().await.unwrap();
    let [detail] = after.image_details() else {
        panic!("one image")
    };
    assert_eq!(detail.image_digest(), Some(digest.as_str()));
    assert_eq!(detail.image_tags(), ["stable", "v1"]);
    assert_eq!(
        detail.image_size_in_bytes(),
        Some(2 * i64::try_from("layer of v1".len()).unwrap())
    );
    assert_eq!(detail.image_pushed_at(), before.image_details()[0].image_pushed_at());
}

#[tokio::test]
async fn immutable_tags_stay_and_excluded_ones_move() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Immutable).await;
    put(&ecr, "app", "v1").await;
    put(&ecr, "app", "dev-1").await;
    let (other, _) = put(&ecr, "app", "other").await;
    let moved = put_manifest(&ecr, "app", &other, IMAGE, Some("v1")).await;
    assert_eq!(code(moved), "ImageTagAlreadyExistsException");
    // A new tag on an image is no move.
    put_manifest(&ecr, "app", &other, IMAGE, Some("v2")).await.unwrap();
    let filter = aws_sdk_ecr::types::ImageTagMutabilityExclusionFilter::builder()
        .filter_type(aws_sdk_ecr::types::ImageTagMutabilityExclusionFilterType::Wildcard)
        .filter("dev-*")
        .build()
        .unwrap();
    for (mutability, stays, moves) in [
        (ImageTagMutability::ImmutableWithExclusion, "v1", "dev-1"),
        (ImageTagMutability::MutableWithExclusion, "dev-1", "v1"),
    ] {
        put(&ecr, "app", "fresh").await;
        let put = ecr
            .put_image_tag_mutability()
            .repository_name("app")
            .image_tag_mutability(mutability.clone());
        put.image_tag_mutability_exclusion_filters(filter.clone())
            .send()
            .await
            .unwrap();
        let fresh = format!("{mutability}");
        let (manifest, _) = self::put(&ecr, "app", &fresh).await;
        let kept = put_manifest(&ecr, "app", &manifest, IMAGE, Some(stays)).await;
        assert_eq!(code(kept), "ImageTagAlreadyExistsException", "{mutability}");
        put_manifest(&ecr, "app", &manifest, IMAGE, Some(moves)).await.unwrap();
        ecr.put_image_tag_mutability()
            .repository_name("app")
            .image_tag_mutability(ImageTagMutability::Mutable)
            .send()
            .await
            .unwrap();
        let id = by_tag("fresh");
        ecr.batch_delete_image()
            .repository_name("app")
            .image_ids(id)
            .send()
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_tag_that_belongs_to_another_digest_is_left_alone() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    let (manifest, first) = put(&ecr, "app", "v1").await;
    let (_, second) = put(&ecr, "app", "v2").await;
    put_manifest(&ecr, "app", &manifest, IMAGE, Some("stable"))
        .await
        .unwrap();
    let delete = |id: ImageIdentifier| ecr.batch_delete_image().repository_name("app").image_ids(id).send();
    let wrong = ImageIdentifier::builder().image_tag("v1").image_digest(&second).build();
    let outcome = delete(wrong).await.unwrap();
    assert!(outcome.image_ids().is_empty());
    assert_eq!(
        outcome.failures()[0].failure_code(),
        Some(&ImageFailureCode::ImageTagDoesNotMatchDigest)
    );
    let untagged = delete(by_tag("v1")).await.unwrap();
    assert_eq!(untagged.image_ids()[0].image_digest(), Some(first.as_str()));
    assert_eq!(
        ecr.describe_images()
            .repository_name("app")
            .send()
            .await
            .unwrap()
            .image_details()
            .len(),
        2
    );
    delete(by_tag("stable")).await.unwrap();
    let gone = ecr
        .describe_images()
        .repository_name("app")
        .image_ids(by_digest(&first))
        .send()
        .await;
    assert_eq!(code(gone), "ImageNotFoundException");
    let missing = delete(by_tag("v1")).await.unwrap();
    assert_eq!(
        missing.failures()[0].failure_code(),
        Some(&ImageFailureCode::ImageNotFound)
    );
}

#[tokio::test]
async fn an_index_keeps_its_images() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    let (manifest, child) = put(&ecr, "app", "v1").await;
    let entry = |digest: &str| json!({ "mediaType": IMAGE, "digest": digest, "size": manifest.len() });
    let broken = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&digest("nowhere"))] });
    let outcome = put_manifest(&ecr, "app", &broken.to_string(), INDEX, Some("multi")).await;
    assert_eq!(code(outcome), "ReferencedImagesNotFoundException");
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry(&child)] }).to_string();
    put_manifest(&ecr, "app", &index, INDEX, Some("multi")).await.unwrap();
    let delete = |id: ImageIdentifier| ecr.batch_delete_image().repository_name("app").image_ids(id).send();
    let outcome = delete(by_digest(&child)).await.unwrap();
    assert_eq!(
        outcome.failures()[0].failure_code(),
        Some(&ImageFailureCode::ImageReferencedByManifestList)
    );
    delete(by_tag("multi")).await.unwrap();
    assert!(delete(by_digest(&child)).await.unwrap().failures().is_empty());
}

#[tokio::test]
async fn only_an_empty_repository_is_deleted_without_force() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    put(&ecr, "app", "v1").await;
    let outcome = ecr.delete_repository().repository_name("app").send().await;
    assert_eq!(code(outcome), "RepositoryNotEmptyException");
    ecr.delete_repository()
        .repository_name("app")
        .force(true)
        .send()
        .await
        .unwrap();
    let outcome = ecr.delete_repository().repository_name("app").force(true).send().await;
    assert_eq!(code(outcome), "RepositoryNotFoundException");
}

#[tokio::test]
async fn images_are_listed_in_pages_and_by_tag_status() {
    use aws_sdk_ecr::types::{DescribeImagesFilter, ListImagesFilter, TagStatus};
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    for index in 0..4 {
        put(&ecr, "app", &format!("v{index}")).await;
    }
    let (manifest, _) = put(&ecr, "app", "moving").await;
    put_manifest(&ecr, "app", &manifest, IMAGE, Some("v0")).await.unwrap();
    let mut pages = ecr
        .list_images()
        .repository_name("app")
        .into_paginator()
        .page_size(2)
        .items()
        .send();
    let mut tags = Vec::new();
    while let Some(id) = pages.next().await {
        tags.push(id.unwrap().image_tag);
    }
    tags.sort();
    let wanted = [None, Some("moving"), Some("v0"), Some("v1"), Some("v2"), Some("v3")];
    assert_eq!(tags, wanted.map(|tag| tag.map(str::to_owned)));
    let untagged = DescribeImagesFilter::builder().tag_status(TagStatus::Untagged).build();
    let untagged = ecr
        .describe_images()
        .repository_name("app")
        .filter(untagged)
        .send()
        .await
        .unwrap();
    assert_eq!(untagged.image_details().len(), 1);
    let tagged = ListImagesFilter::builder().tag_status(TagStatus::Tagged).build();
    let tagged = ecr
        .list_images()
        .repository_name("app")
        .filter(tagged)
        .send()
        .await
        .unwrap();
    assert_eq!(tagged.image_ids().len(), 5);
    let mut pages = ecr
        .describe_images()
        .repository_name("app")
        .into_paginator()
        .page_size(2)
        .items()
        .send();
    let mut images = 0;
    while let Some(detail) = pages.next().await {
        detail.unwrap();
        images += 1;
    }
    assert_eq!(images, 5);
}

#[tokio::test]
async fn manifests_are_read_by_tag_or_digest() {
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    let (manifest, first) = put(&ecr, "app", "v1").await;
    let (_, second) = put(&ecr, "app", "v2").await;
    let both = ImageIdentifier::builder().image_tag("v1").image_digest(&second).build();
    let ids = vec![
        by_tag("v1"),
        by_digest(&first),
        both,
        by_tag("gone"),
        ImageIdentifier::builder().build(),
    ];
    let read = ecr
        .batch_get_image()
        .repository_name("app")
        .set_image_ids(Some(ids))
        .send()
        .await
        .unwrap();
    let found: Vec<_> = read
        .images()
        .iter()
        .map(|image| image.image_manifest().unwrap())
        .collect();
    assert_eq!(found, [manifest.as_str(), manifest.as_str()]);
    let id = read.images()[0].image_id().unwrap();
    assert_eq!((id.image_tag(), id.image_digest()), (Some("v1"), Some(first.as_str())));
    let failures: Vec<_> = read
        .failures()
        .iter()
        .map(|failure| failure.failure_code().unwrap().clone())
        .collect();
    let wanted = [
        ImageFailureCode::ImageTagDoesNotMatchDigest,
        ImageFailureCode::ImageNotFound,
        ImageFailureCode::MissingDigestAndTag,
    ];
    assert_eq!(failures, wanted);
}

#[tokio::test]
async fn layers_are_there_or_not() {
    use aws_sdk_ecr::types::LayerAvailability;
    let bed = Bed::start().await;
    let ecr = repository(&bed, ImageTagMutability::Mutable).await;
    let there = upload(&ecr, "app", b"content").await;
    let check = ecr
        .batch_check_layer_availability()
        .repository_name("app")
        .layer_digests(&there);
    let checked = check
        .layer_digests(digest("other"))
        .layer_digests("nonsense")
        .send()
        .await
        .unwrap();
    let seen: Vec<_> = checked
        .layers()
        .iter()
        .map(|layer| layer.layer_availability().unwrap().clone())
        .collect();
    assert_eq!(seen, [LayerAvailability::Available, LayerAvailability::Unavailable]);
    assert_eq!(checked.failures().len(), 1);
    let begun = ecr.initiate_layer_upload().repository_name("app").send().await.unwrap();
    let complete = ecr
        .complete_layer_upload()
        .repository_name("app")
        .upload_id(begun.upload_id().unwrap());
    assert_eq!(
        code(complete.layer_digests(&there).send().await),
        "LayerAlreadyExistsException"
    );
}
