//! `BatchGetImage`: manifests by tag or digest; reading one counts as a pull.

use chrono::Utc;
use fakecloud_core::service::AwsResponse;
use fakecloud_ecr::Repository;
use serde_json::{Value, json};

use super::errors::{optional, required, unsatisfied};
use super::{Answer, Registry, names};
use crate::credentials::Caller;

impl Registry {
    pub(super) fn batch_get_image(&self, caller: &Caller, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let ids = body
            .get("imageIds")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if !(1..=100).contains(&ids.len()) {
            return Err(unsatisfied("imageIds", "Member must have length between 1 and 100"));
        }
        let excluded = self.with_state(|state| {
            let mut exclusions = state.pull_time_exclusions.keys();
            exclusions.any(|arn| *arn == caller.principal.arn || is_session_of(arn, &caller.principal.arn))
        });
        self.with_repository(name, |repository| {
            let (mut images, mut failures) = (Vec::new(), Vec::new());
            for id in ids {
                let digest = match wanted(repository, id) {
                    Ok(digest) => digest,
                    Err((code, reason)) => {
                        failures.push(json!({ "imageId": id, "failureCode": code, "failureReason": reason }));
                        continue;
                    }
                };
                let Some(image) = repository.images.get_mut(&digest) else {
                    continue;
                };
                if image.image_status == "ARCHIVED" {
                    // It cannot be pulled before it is restored ("Archiving an image" in the User Guide); the code is not documented.
                    failures.push(json!({ "imageId": id, "failureCode": "ImageNotFound",
                        "failureReason": "Requested image is archived" }));
                    continue;
                }
                if !excluded {
                    image.last_recorded_pull_time = Some(Utc::now());
                }
                let mut id = id.clone();
                id["imageDigest"] = json!(digest);
                images.push(json!({
                    "registryId": self.account,
                    "repositoryName": name,
                    "imageId": id,
                    "imageManifest": image.image_manifest,
                    "imageManifestMediaType": image.image_manifest_media_type,
                }));
            }
            Ok(AwsResponse::ok_json(json!({ "images": images, "failures": failures })))
        })
    }
}

/// Whether `session` is one of the role `role`.
fn is_session_of(role: &str, session: &str) -> bool {
    let name = role
        .split_once(":role/")
        .map(|(_, path)| path.rsplit('/').next().unwrap_or(path));
    name.is_some_and(|name| session.contains(&format!(":assumed-role/{name}/")))
}

/// The digest that an id names, or why there is none: code and reason.
fn wanted(repository: &Repository, id: &Value) -> Result<String, (&'static str, &'static str)> {
    let (digest, tag) = (optional(id, "imageDigest"), optional(id, "imageTag"));
    if digest.is_some_and(|digest| !names::is_digest(digest)) {
        return Err((
            "InvalidImageDigest",
            "Invalid request parameters: image digest should satisfy the regex",
        ));
    }
    if tag.is_some_and(|tag| !names::is_tag(tag)) {
        return Err((
            "InvalidImageTag",
            "Invalid request parameters: image tag should satisfy the regex",
        ));
    }
    let not_found = ("ImageNotFound", "Requested image not found");
    let holder = match tag {
        Some(tag) => Some(repository.image_tags.get(tag).ok_or(not_found)?.as_str()),
        None => None,
    };
    match (digest, holder) {
        (None, None) => Err(("MissingDigestAndTag", "Neither digest nor tag was specified")),
        (Some(digest), Some(holder)) if digest != holder => Err((
            "ImageTagDoesNotMatchDigest",
            "The tag does not match the digest that was specified with it",
        )),
        (Some(digest), _) | (None, Some(digest)) if repository.images.contains_key(digest) => Ok(digest.to_owned()),
        _ => Err(not_found),
    }
}
