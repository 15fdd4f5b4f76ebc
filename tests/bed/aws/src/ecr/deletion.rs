//! `BatchDeleteImage`.

use std::sync::Arc;

use fakecloud_core::service::AwsResponse;
use fakecloud_ecr::Repository;
use serde_json::{Value, json};

use super::errors::{optional, required, unsatisfied};
use super::listing::tags_of;
use super::{Answer, Registry, names};
use crate::credentials::Caller;
use crate::departures::Cause;
use crate::world::World;

/// Why one image of a batch was left alone: code and reason.
type Failure = (&'static str, String);

/// What was taken away: a digest, and a tag unless the image had none.
#[derive(Clone)]
struct Removed {
    digest: String,
    tag: Option<String>,
}

impl Registry {
    pub(super) fn batch_delete_image(self: &Arc<Self>, world: &Arc<World>, caller: &Caller, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let ids = body
            .get("imageIds")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if !(1..=100).contains(&ids.len()) {
            return Err(unsatisfied("imageIds", "Member must have length between 1 and 100"));
        }
        let (removed, failures) = self.with_repository(name, |repository| {
            let (mut removed, mut failures) = (Vec::new(), Vec::new());
            for id in ids {
                match remove(repository, id) {
                    Ok(gone) => {
                        if let Some(left) = gone
                            .first()
                            .filter(|gone| !repository.images.contains_key(&gone.digest))
                        {
                            let tags: Vec<_> = gone.iter().filter_map(|gone| gone.tag.as_deref()).collect();
                            let cause = Cause::BatchDelete {
                                principal: caller.principal.arn.clone(),
                                image_ids: ids.to_vec(),
                            };
                            world.departures.record(self, name, &left.digest, &tags, cause);
                        }
                        removed.extend(gone);
                    }
                    Err((code, reason)) => {
                        failures.push(json!({ "imageId": id, "failureCode": code, "failureReason": reason }));
                    }
                }
            }
            Ok((removed, failures))
        })?;
        for gone in &removed {
            self.announce_image(world, "DELETE", name, &gone.digest, gone.tag.as_deref());
            self.replicate_deletion(world, name, &gone.digest, gone.tag.as_deref());
        }
        let ids: Vec<_> = removed
            .iter()
            .map(|gone| match &gone.tag {
                Some(tag) => json!({ "imageDigest": gone.digest, "imageTag": tag }),
                None => json!({ "imageDigest": gone.digest }),
            })
            .collect();
        Ok(AwsResponse::ok_json(json!({ "imageIds": ids, "failures": failures })))
    }
}

/// A tag goes alone unless it is the image's last; a digest goes with all its tags.
fn remove(repository: &mut Repository, id: &Value) -> Result<Vec<Removed>, Failure> {
    let not_found = || ("ImageNotFound", "Requested image not found".to_owned());
    let (digest, tag) = (optional(id, "imageDigest"), optional(id, "imageTag"));
    if digest.is_some_and(|digest| !names::is_digest(digest)) {
        return Err((
            "InvalidImageDigest",
            "Invalid request parameters: image digest should satisfy the regex".into(),
        ));
    }
    if tag.is_some_and(|tag| !names::is_tag(tag)) {
        return Err((
            "InvalidImageTag",
            "Invalid request parameters: image tag should satisfy the regex".into(),
        ));
    }
    let Some(tag) = tag else {
        let digest = digest.ok_or(("MissingDigestAndTag", "Neither digest nor tag was specified".to_owned()))?;
        if !repository.images.contains_key(digest) {
            return Err(not_found());
        }
        return remove_image(repository, digest);
    };
    let holder = repository.image_tags.get(tag).cloned().ok_or_else(not_found)?;
    if digest.is_some_and(|digest| digest != holder) {
        return Err((
            "ImageTagDoesNotMatchDigest",
            format!("The tag '{tag}' does not match the digest that was specified with it"),
        ));
    }
    if tags_of(repository, &holder).len() == 1 {
        return remove_image(repository, &holder);
    }
    repository.image_tags.remove(tag);
    Ok(vec![Removed {
        digest: holder,
        tag: Some(tag.to_owned()),
    }])
}

fn remove_image(repository: &mut Repository, digest: &str) -> Result<Vec<Removed>, Failure> {
    let lists: Vec<_> = repository
        .images
        .values()
        .filter(|image| refers_to(&image.image_manifest, digest))
        .map(|image| image.image_digest.as_str())
        .collect();
    if !lists.is_empty() {
        let lists = lists.join(", ");
        return Err((
            "ImageReferencedByManifestList",
            format!("Requested image referenced by manifest list: [{lists}]"),
        ));
    }
    let tags: Vec<_> = tags_of(repository, digest).into_iter().map(str::to_owned).collect();
    repository.images.remove(digest);
    repository.image_tags.retain(|_, holder| holder != digest);
    let gone = |tag| Removed {
        digest: digest.to_owned(),
        tag,
    };
    Ok(if tags.is_empty() {
        vec![gone(None)]
    } else {
        tags.into_iter().map(|tag| gone(Some(tag))).collect()
    })
}

fn refers_to(manifest: &str, digest: &str) -> bool {
    // Most manifests do not even contain the text.
    manifest.contains(digest)
        && serde_json::from_str::<Value>(manifest).is_ok_and(|manifest| {
            let children = manifest
                .get("manifests")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            children
                .into_iter()
                .any(|child| optional(child, "digest") == Some(digest))
        })
}
