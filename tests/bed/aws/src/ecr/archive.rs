//! Storage classes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use fakecloud_core::service::AwsResponse;
use fakecloud_ecr::Image;
use serde_json::{Value, json};

use super::errors::{required, unsatisfied};
use super::{Answer, Registry};
use crate::events::{Event, send};
use crate::world::World;

const STANDARD: &str = "STANDARD";
pub(super) const ARCHIVE: &str = "ARCHIVE";

/// Moves an image to a storage class; whether it was in the other one.
pub(super) fn store(image: &mut Image, class: &str, now: DateTime<Utc>) -> bool {
    let archive = class == ARCHIVE;
    if archive == (image.image_status == "ARCHIVED") {
        return false;
    }
    if archive {
        "ARCHIVED".clone_into(&mut image.image_status);
        image.last_archived_at = Some(now);
    } else {
        "ACTIVE".clone_into(&mut image.image_status);
        image.last_activated_at = Some(now);
    }
    true
}

impl Registry {
    pub(super) fn update_image_storage_class(&self, world: &Arc<World>, body: &Value) -> Answer {
        let (name, class) = (required(body, "repositoryName")?, required(body, "targetStorageClass")?);
        if ![STANDARD, ARCHIVE].contains(&class) {
            return Err(unsatisfied(
                "targetStorageClass",
                "Member must satisfy enum value set: [ARCHIVE, STANDARD]",
            ));
        }
        let id = body
            .get("imageId")
            .ok_or_else(|| unsatisfied("imageId", "Member must not be null"))?;
        let (digest, status, moved) = self.with_repository(name, |repository| {
            let digest = self.find_image(repository, id)?.image_digest.clone();
            let moved = repository
                .images
                .get_mut(&digest)
                .is_some_and(|image| store(image, class, Utc::now()));
            let status = self.find_image(repository, id)?.image_status.clone();
            Ok((digest, status, moved))
        })?;
        if moved {
            self.announce_storage_class(world, name, &digest, class);
        }
        Ok(AwsResponse::ok_json(json!({
            "registryId": self.account,
            "repositoryName": name,
            "imageId": id,
            "imageStatus": status,
        })))
    }

    /// Tells of an image that was archived or restored.
    pub(super) fn announce_storage_class(&self, world: &Arc<World>, name: &str, digest: &str, class: &str) {
        let media_type = self.with_repository(name, |repository| {
            let image = repository.images.get(digest);
            Ok(image.map(|image| image.image_manifest_media_type.clone()))
        });
        // Deleted in the same moment: there is nothing to tell of.
        let Ok(Some(media_type)) = media_type else {
            return;
        };
        let mut detail = json!({
            "result": "SUCCESS",
            "repository-name": name,
            "image-digest": digest,
            "action-type": "UPDATE_STORAGE_CLASS",
            "target-storage-class": class,
            "manifest-media-type": media_type,
        });
        if class == STANDARD {
            detail["last-activated-at"] = json!(crate::events::now());
        }
        let event = Event {
            detail_type: "ECR Image Action",
            resources: Vec::new(),
            detail,
        };
        send(world, self, event);
    }
}
