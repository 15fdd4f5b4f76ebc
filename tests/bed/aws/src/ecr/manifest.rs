//! What a manifest says about itself.

use fakecloud_core::service::AwsServiceError;
use serde_json::Value;

use super::errors::unsatisfied;

/// The parts of a manifest that the registry looks at.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) media_type: Option<String>,
    /// Config and layers that have to be in the repository.
    pub(super) blobs: Vec<String>,
    /// The sizes of all blobs added up.
    pub(super) size: u64,
    /// The manifests that an index refers to.
    pub(super) children: Vec<String>,
    pub(super) artifact_type: Option<String>,
}

impl Manifest {
    pub(super) fn parse(text: &str) -> Result<Self, AwsServiceError> {
        let manifest: Value =
            serde_json::from_str(text).map_err(|_| unsatisfied("ImageManifest", "Invalid JSON syntax"))?;
        if !manifest.is_object() {
            return Err(unsatisfied("ImageManifest", "Invalid JSON syntax"));
        }
        let listed = |member: &str| manifest.get(member).and_then(Value::as_array).into_iter().flatten();
        let config = manifest.get("config").into_iter();
        let descriptors: Vec<&Value> = config.chain(listed("layers")).collect();
        let digest = |descriptor: &Value| descriptor.get("digest").and_then(Value::as_str).map(str::to_owned);
        let text_at = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            media_type: text_at("/mediaType"),
            // A foreign layer stays where its URLs point to.
            blobs: descriptors
                .iter()
                .filter(|layer| layer.get("urls").is_none())
                .filter_map(|d| digest(d))
                .collect(),
            size: descriptors
                .iter()
                .filter_map(|descriptor| descriptor.get("size")?.as_u64())
                .sum(),
            children: listed("manifests").filter_map(digest).collect(),
            artifact_type: text_at("/artifactType").or_else(|| text_at("/config/mediaType")),
        })
    }
}
