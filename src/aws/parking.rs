//! How a tag of ours goes without the image that it is on: it is moved to a manifest that holds nothing, and taken away
//! there. `BatchDeleteImage` deletes an image with its last tag, and by a digest all of it; so it is given nothing but a
//! [`ReleasedTag`]. docs/decisions/0013-in-use.md has the reasons.

use std::sync::OnceLock;

use aws_sdk_ecr::types::ImageIdentifier;

use super::{
    client::{Ecr, call},
    error::{AwsError, Fault},
};
use crate::api::names::{Digest, RepositoryName, Tag};

/// The manifest. The same bytes in every version of the operator, or tags that were parked by an older one would never go.
const MANIFEST: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.ecr-operator.parking.v1+json","config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}],"annotations":{"dev.ecr-operator.parking":"ecr-operator takes tags in-use.* off images by way of this manifest. It holds nothing and may be deleted."}}"#;

/// The digest of the parking manifest.
pub(crate) fn digest() -> &'static Digest {
    static DIGEST: OnceLock<Digest> = OnceLock::new();
    DIGEST.get_or_init(|| Digest::of(MANIFEST.as_bytes()))
}

/// A tag of ours that was seen on the parking manifest, or was just moved there. There is no other way to make one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReleasedTag(Tag);

impl ReleasedTag {
    /// `None` unless the tag is one of ours and what holds it is the parking manifest.
    pub(crate) fn seen_on(holder: &Digest, tag: &Tag) -> Option<Self> {
        (holder == digest() && tag.keeps().is_some()).then(|| Self(tag.clone()))
    }
}

impl Ecr {
    /// Moves a tag of ours to the parking manifest. `None` for a tag that is not ours: it stays where it is.
    pub(crate) async fn park(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<ReleasedTag>, AwsError> {
        let Some(released) = ReleasedTag::seen_on(digest(), tag) else {
            return Ok(None);
        };
        self.put_manifest_of_nothing(repository, MANIFEST, tag).await?;
        Ok(Some(released))
    }

    /// Takes a tag off the parking manifest, which goes with its last one. False where the tag is not there any more.
    /// ECR compares the digest with what the tag is on: one that was moved back meanwhile stays.
    pub(crate) async fn take_away(&self, repository: &RepositoryName, tag: ReleasedTag) -> Result<bool, AwsError> {
        const OPERATION: &str = "BatchDeleteImage";
        let id = ImageIdentifier::builder()
            .image_tag(tag.0.as_str())
            .image_digest(digest().as_str())
            .build();
        let request = self
            .client
            .batch_delete_image()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .image_ids(id);
        let answer = call!(self, write "BatchDeleteImage", request)?;
        let Some(failure) = answer.failures.unwrap_or_default().into_iter().next() else {
            return Ok(true);
        };
        let code = failure
            .failure_code
            .as_ref()
            .map_or("", |code| code.as_str())
            .to_owned();
        match code.as_str() {
            "ImageNotFound" | "ImageTagDoesNotMatchDigest" => Ok(false),
            _ => Err(AwsError {
                operation: OPERATION,
                fault: Fault::Unavailable,
                code,
                message: failure.failure_reason.unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parking_place_is_the_same_for_ever() {
        assert_eq!(
            digest().as_str(),
            "sha256:828453525f6e15f99b069acf68f230c83c3e0ac20fe6bff65f3537e20305ac50"
        );
        assert!(serde_json::from_str::<serde_json::Value>(MANIFEST).is_ok());
    }

    #[test]
    fn only_a_tag_of_ours_on_the_parking_manifest_can_be_released() {
        let image = Digest::of(b"an image");
        let ours = image.in_use_tag();
        assert!(ReleasedTag::seen_on(digest(), &ours).is_some());
        assert_eq!(ReleasedTag::seen_on(&image, &ours), None);
        for other in ["v1", "in-use.x", "latest"] {
            assert_eq!(ReleasedTag::seen_on(digest(), &other.parse().unwrap()), None);
        }
    }
}
