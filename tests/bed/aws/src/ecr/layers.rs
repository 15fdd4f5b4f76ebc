//! Layers: whether they are there, how an upload ends, and mounting them from another repository.

use fakecloud_core::service::{AwsRequest, AwsResponse};
use serde_json::{Value, json};

use super::errors::{required, unsatisfied};
use super::{Answer, Registry, names};
use crate::answer::refusal;

impl Registry {
    pub(super) fn batch_check_layer_availability(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let digests = body
            .get("layerDigests")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if !(1..=100).contains(&digests.len()) {
            return Err(unsatisfied("layerDigests", "Member must have length between 1 and 100"));
        }
        self.with_repository(name, |repository| {
            let (mut layers, mut failures) = (Vec::new(), Vec::new());
            for digest in digests.iter().filter_map(Value::as_str) {
                if !names::is_digest(digest) {
                    failures.push(json!({
                        "layerDigest": digest,
                        "failureCode": "InvalidLayerDigest",
                        "failureReason": "Invalid request parameters: layer digest should satisfy the regex",
                    }));
                } else if let Some(layer) = repository.layers.get(digest) {
                    layers.push(json!({
                        "layerDigest": digest,
                        "layerAvailability": "AVAILABLE",
                        "layerSize": layer.size,
                        "mediaType": layer.media_type,
                    }));
                } else {
                    layers.push(json!({ "layerDigest": digest, "layerAvailability": "UNAVAILABLE" }));
                }
            }
            Ok(AwsResponse::ok_json(json!({ "layers": layers, "failures": failures })))
        })
    }

    pub(super) async fn complete_layer_upload(&self, request: AwsRequest, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let digests = body
            .get("layerDigests")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let there = self.with_repository(name, |repository| {
            Ok(digests
                .iter()
                .filter_map(Value::as_str)
                .find(|digest| repository.layers.contains_key(*digest)))
        })?;
        if let Some(digest) = there {
            self.drop_upload(required(body, "uploadId")?);
            return Err(refusal(
                400,
                "LayerAlreadyExistsException",
                format!(
                    "Layer with digest '{digest}' already exists in the repository with name '{name}' in registry with \
                     id '{}'",
                    self.account
                ),
            ));
        }
        self.fall_through(request).await.map_err(|error| match error.code() {
            // Not one of the service's codes.
            "LayerDigestMismatchException" => refusal(400, "InvalidLayerException", error.message()),
            _ => error,
        })
    }

    /// Whether the repository has the layer.
    pub(crate) fn has_layer(&self, name: &str, digest: &str) -> bool {
        self.with_state(|state| {
            state
                .repositories
                .get(name)
                .is_some_and(|repository| repository.layers.contains_key(digest))
        })
    }

    /// Forgets an upload that is not needed, with the file that its parts are kept in.
    fn drop_upload(&self, id: &str) {
        if let Some(upload) = self.with_state(|state| state.layer_uploads.remove(id)) {
            // It may never have been written to.
            let _ = std::fs::remove_file(upload.spool_path);
        }
    }

    /// Takes a layer over from another repository, as the service does: if the registry is set to, the layer belongs to
    /// an image there, and both repositories are encrypted alike.
    pub(crate) fn mount(&self, from: &str, name: &str, digest: &str) -> bool {
        let enabled = self
            .extra
            .lock()
            .settings
            .get("BLOB_MOUNTING")
            .is_some_and(|value| value == "ENABLED");
        enabled
            && self.with_state(|state| {
                let (Some(source), Some(target)) = (state.repositories.get(from), state.repositories.get(name)) else {
                    return false;
                };
                let (there, here) = (&source.encryption_configuration, &target.encryption_configuration);
                let alike = there.encryption_type == here.encryption_type && there.kms_key == here.kms_key;
                let used = source
                    .images
                    .values()
                    .any(|image| image.image_manifest.contains(digest));
                let layer = source.layers.get(digest).filter(|_| alike && used).cloned();
                let target = state.repositories.get_mut(name);
                match (layer, target) {
                    (Some(layer), Some(target)) => {
                        target.layers.insert(digest.to_owned(), layer);
                        true
                    }
                    _ => false,
                }
            })
    }
}
