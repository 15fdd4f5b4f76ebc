//! Storage classes: fakecloud archives and restores, and here it is told.

use std::sync::Arc;

use fakecloud_core::service::AwsRequest;
use serde_json::{Value, json};

use super::errors::{required, unsatisfied};
use super::{Answer, Registry};
use crate::events::{Event, send};
use crate::world::World;

impl Registry {
    pub(super) async fn update_image_storage_class(
        &self,
        world: &Arc<World>,
        request: AwsRequest,
        body: &Value,
    ) -> Answer {
        let (name, class) = (required(body, "repositoryName")?, required(body, "targetStorageClass")?);
        let id = body
            .get("imageId")
            .ok_or_else(|| unsatisfied("imageId", "Member must not be null"))?;
        let answer = self.fall_through(request).await?;
        let image = self.with_repository(name, |repository| {
            let image = self.find_image(repository, id)?;
            Ok((image.image_digest.clone(), image.image_manifest_media_type.clone()))
        });
        // Deleted in the same moment: there is nothing to tell of.
        let Ok((digest, media_type)) = image else {
            return Ok(answer);
        };
        let mut detail = json!({
            "result": "SUCCESS",
            "repository-name": name,
            "image-digest": digest,
            "action-type": "UPDATE_STORAGE_CLASS",
            "target-storage-class": class,
            "manifest-media-type": media_type,
        });
        if class == "STANDARD" {
            detail["last-activated-at"] = json!(crate::events::now());
        }
        let event = Event {
            detail_type: "ECR Image Action",
            resources: Vec::new(),
            detail,
        };
        send(world, self, event);
        Ok(answer)
    }
}
