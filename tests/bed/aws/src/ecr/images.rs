//! Images coming in, by `PutImage` or by the data plane.

use std::sync::Arc;

use chrono::Utc;
use fakecloud_core::service::{AwsResponse, AwsServiceError};
use fakecloud_ecr::{Image, Repository};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::errors::{optional, required, unsatisfied};
use super::manifest::Manifest;
use super::{Answer, Registry, mutability, names};
use crate::answer::refusal;
use crate::world::World;

/// An image to be stored.
pub(crate) struct Push<'request> {
    pub(crate) repository: &'request str,
    pub(crate) manifest: &'request str,
    pub(crate) media_type: Option<&'request str>,
    pub(crate) tag: Option<&'request str>,
    pub(crate) digest: Option<&'request str>,
}

/// What a push changed.
struct Stored {
    digest: String,
    media_type: String,
    new_image: bool,
}

/// How many tags an image has at most (`Tags per image` in the service quotas of ECR).
const MOST_TAGS: usize = 1_000;

impl Registry {
    pub(super) fn put_image(self: &Arc<Self>, world: &Arc<World>, body: &Value) -> Answer {
        let push = Push {
            repository: required(body, "repositoryName")?,
            manifest: required(body, "imageManifest")?,
            media_type: optional(body, "imageManifestMediaType"),
            tag: optional(body, "imageTag"),
            digest: optional(body, "imageDigest"),
        };
        let stored = self.store(&push, false)?;
        self.after_push(world, &push, &stored);
        let mut id = json!({ "imageDigest": stored.digest });
        if let Some(tag) = push.tag {
            id["imageTag"] = json!(tag);
        }
        Ok(AwsResponse::ok_json(json!({ "image": {
            "registryId": self.account,
            "repositoryName": push.repository,
            "imageId": id,
            "imageManifest": push.manifest,
            "imageManifestMediaType": stored.media_type,
        }})))
    }

    /// A push over the data plane, where repeating one is no error; gives the digest.
    pub(crate) fn push(self: &Arc<Self>, world: &Arc<World>, push: &Push<'_>) -> Result<String, AwsServiceError> {
        let stored = self.store(push, true)?;
        self.after_push(world, push, &stored);
        Ok(stored.digest)
    }

    fn after_push(self: &Arc<Self>, world: &Arc<World>, push: &Push<'_>, stored: &Stored) {
        self.announce_image(world, "PUSH", push.repository, &stored.digest, push.tag);
        if stored.new_image {
            self.scan_on_push(world, push.repository, &stored.digest);
        }
        self.replicate(world, push.repository, &stored.digest, push.tag);
    }

    /// Stores the image, or only moves the tag if it is there. `repeat` tells whether nothing new is fine as well.
    fn store(&self, push: &Push<'_>, repeat: bool) -> Result<Stored, AwsServiceError> {
        let manifest = Manifest::parse(push.manifest)?;
        let digest = format!("sha256:{:x}", Sha256::digest(push.manifest));
        if push.digest.is_some_and(|expected| expected != digest) {
            return Err(refusal(
                400,
                "ImageDigestDoesNotMatchException",
                "The specified image digest does not match the digest that Amazon ECR calculated for the image.",
            ));
        }
        if push.tag.is_some_and(|tag| !names::is_tag(tag)) {
            return Err(unsatisfied(
                "imageTag",
                "must satisfy regular expression '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,299}'",
            ));
        }
        let media_type = push
            .media_type
            .map(str::to_owned)
            .or_else(|| manifest.media_type.clone());
        let media_type = media_type.ok_or_else(|| {
            unsatisfied(
                "imageManifestMediaType",
                "must be given if the manifest has no mediaType field",
            )
        })?;
        let filters = self
            .extra
            .lock()
            .filters
            .get(push.repository)
            .cloned()
            .unwrap_or_default();
        self.with_repository(push.repository, |repository| {
            check_references(repository, &manifest)?;
            let known = repository.images.contains_key(&digest);
            let holder = push.tag.and_then(|tag| repository.image_tags.get(tag));
            let unchanged = known && push.tag.is_none_or(|_| holder == Some(&digest));
            if unchanged && !repeat {
                return Err(already_there(repository, push, &digest));
            }
            if let (Some(tag), Some(holder)) = (push.tag, holder)
                && *holder != digest
                && mutability::is_immutable(&repository.image_tag_mutability, &filters, tag)
            {
                return Err(refusal(
                    400,
                    "ImageTagAlreadyExistsException",
                    format!(
                        "The image tag '{tag}' already exists in the '{}' repository and cannot be overwritten because \
                         the tag is immutable.",
                        push.repository
                    ),
                ));
            }
            if let Some(tag) = push.tag
                && holder != Some(&digest)
                && repository.image_tags.values().filter(|of| **of == digest).count() >= MOST_TAGS
            {
                return Err(refusal(
                    400,
                    "LimitExceededException",
                    format!(
                        "The tag '{tag}' cannot be added: the maximum number of tags per image, {MOST_TAGS}, is reached"
                    ),
                ));
            }
            if let Some(tag) = push.tag {
                repository.image_tags.insert(tag.to_owned(), digest.clone());
            }
            if !known {
                let image = new_image(&digest, &media_type, push.manifest, &manifest);
                repository.images.insert(digest.clone(), image);
            }
            Ok(Stored {
                digest: digest.clone(),
                media_type: media_type.clone(),
                new_image: !known,
            })
        })
    }
}

fn new_image(digest: &str, media_type: &str, text: &str, manifest: &Manifest) -> Image {
    Image {
        image_digest: digest.to_owned(),
        image_manifest: text.to_owned(),
        image_manifest_media_type: media_type.to_owned(),
        artifact_media_type: manifest.artifact_type.clone(),
        image_size_in_bytes: if manifest.blobs.is_empty() {
            text.len() as u64
        } else {
            manifest.size
        },
        image_pushed_at: Utc::now(),
        last_recorded_pull_time: None,
        image_status: "ACTIVE".to_owned(),
        last_archived_at: None,
        last_activated_at: None,
        last_in_use_at: None,
        in_use_count: 0,
    }
}

fn already_there(repository: &Repository, push: &Push<'_>, digest: &str) -> AwsServiceError {
    let tag = push.tag.map(|tag| format!(" and tag '{tag}'")).unwrap_or_default();
    refusal(
        400,
        "ImageAlreadyExistsException",
        format!(
            "Image with digest '{digest}'{tag} already exists in the repository with name '{}' in registry with id '{}'",
            repository.repository_name, repository.registry_id
        ),
    )
}

/// An image is only taken once its layers, or an index's images, are in the repository.
fn check_references(repository: &Repository, manifest: &Manifest) -> Result<(), AwsServiceError> {
    let missing = |digests: &[String], there: &dyn Fn(&String) -> bool| {
        digests
            .iter()
            .filter(|digest| !there(digest))
            .cloned()
            .collect::<Vec<_>>()
            .join(", ")
    };
    let layers = missing(&manifest.blobs, &|digest| repository.layers.contains_key(digest));
    if !layers.is_empty() {
        return Err(refusal(
            400,
            "LayersNotFoundException",
            format!(
                "The layers with digests '[{layers}]' do not exist in the repository with name '{}' in the registry \
                 with id '{}'",
                repository.repository_name, repository.registry_id
            ),
        ));
    }
    let images = missing(&manifest.children, &|digest| repository.images.contains_key(digest));
    if images.is_empty() {
        return Ok(());
    }
    Err(refusal(
        400,
        "ReferencedImagesNotFoundException",
        format!(
            "The images with digests '[{images}]' required for the image index do not exist in the repository with \
             name '{}' in the registry with id '{}'",
            repository.repository_name, repository.registry_id
        ),
    ))
}
