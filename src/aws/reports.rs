//! The reports of which images clusters use, as they are kept in ECR.

use aws_sdk_ecr::primitives::Blob;

use super::{
    client::{Ecr, call},
    error::AwsError,
    images::{ImageRef, MANIFEST_TYPES},
};
use crate::{
    api::{
        IN_USE_REPOSITORY,
        names::{Digest, RepositoryName, Tag},
    },
    in_use::report::{EMPTY_BLOB, EMPTY_DIGEST, MANIFEST_TYPE},
};

/// What becomes of reports that newer ones have replaced.
const CLEAN_UP: &str = r#"{"rules":[{"rulePriority":1,"description":"Reports that newer ones have replaced","selection":{"tagStatus":"untagged","countType":"imageCountMoreThan","countNumber":5},"action":{"type":"expire"}}]}"#;

impl Ecr {
    /// The report with this tag, as it is stored; `None` where there is none.
    pub(crate) async fn report(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Vec<u8>>, AwsError> {
        const OPERATION: &str = "BatchGetImage";
        let request = self
            .client
            .batch_get_image()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .image_ids(ImageRef::Tag(tag.clone()).id())
            .set_accepted_media_types(Some(MANIFEST_TYPES.map(str::to_owned).to_vec()));
        let answer = call!(self, read "BatchGetImage", request)?;
        if let Some(image) = answer.images.unwrap_or_default().into_iter().next() {
            let manifest = image
                .image_manifest
                .ok_or_else(|| AwsError::incomplete(OPERATION, "imageManifest"))?;
            return Ok(Some(manifest.into_bytes()));
        }
        let failure = answer.failures.unwrap_or_default().into_iter().next();
        match failure.and_then(|failure| failure.failure_code) {
            Some(code) if code.as_str() == "ImageNotFound" => Ok(None),
            _ => Err(AwsError::incomplete(OPERATION, "the report and why it is not there")),
        }
    }

    /// Puts a manifest of the empty blob under a tag, which is moved where it is on another one. Clusters that only
    /// observe publish their reports so, too.
    pub(crate) async fn put_manifest_of_nothing(
        &self,
        repository: &RepositoryName,
        manifest: &str,
        tag: &Tag,
    ) -> Result<(), AwsError> {
        match self.put_once(repository, manifest, tag).await {
            // The first one in this repository, or ECR has cleaned up what nothing referred to.
            Err(error) if error.is("LayersNotFoundException") => {
                self.upload_empty_blob(repository).await?;
                self.put_once(repository, manifest, tag).await
            }
            other => other,
        }
    }

    async fn put_once(&self, repository: &RepositoryName, manifest: &str, tag: &Tag) -> Result<(), AwsError> {
        let request = self
            .client
            .put_image()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .image_manifest(manifest)
            .image_manifest_media_type(MANIFEST_TYPE)
            .image_digest(Digest::of(manifest.as_bytes()).as_str())
            .image_tag(tag.as_str());
        match call!(self, promote "PutImage", request) {
            // An earlier attempt got through, and only its answer did not.
            Err(error) if error.is("ImageAlreadyExistsException") => Ok(()),
            other => other.map(drop),
        }
    }

    async fn upload_empty_blob(&self, repository: &RepositoryName) -> Result<(), AwsError> {
        const OPERATION: &str = "InitiateLayerUpload";
        let request = self
            .client
            .initiate_layer_upload()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str());
        let answer = call!(self, promote "InitiateLayerUpload", request)?;
        let upload = answer
            .upload_id
            .ok_or_else(|| AwsError::incomplete(OPERATION, "uploadId"))?;
        let last = i64::try_from(EMPTY_BLOB.len()).unwrap_or_default() - 1;
        let request = self
            .client
            .upload_layer_part()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .upload_id(&upload)
            .part_first_byte(0)
            .part_last_byte(last)
            .layer_part_blob(Blob::new(EMPTY_BLOB));
        call!(self, promote "UploadLayerPart", request)?;
        let request = self
            .client
            .complete_layer_upload()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .upload_id(&upload)
            .layer_digests(EMPTY_DIGEST);
        match call!(self, promote "CompleteLayerUpload", request) {
            Err(error) if error.is("LayerAlreadyExistsException") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Has ECR delete reports that newer ones have replaced, unless somebody has given the repository of reports a
    /// lifecycle policy already. For that repository alone.
    pub(crate) async fn clean_up_reports(&self) -> Result<(), AwsError> {
        let request = self
            .client
            .get_lifecycle_policy()
            .registry_id(self.registry_id.as_str())
            .repository_name(IN_USE_REPOSITORY);
        match call!(self, read "GetLifecyclePolicy", request) {
            Ok(_) => return Ok(()),
            Err(error) if error.is("LifecyclePolicyNotFoundException") => {}
            Err(error) => return Err(error),
        }
        let request = self
            .client
            .put_lifecycle_policy()
            .registry_id(self.registry_id.as_str())
            .repository_name(IN_USE_REPOSITORY)
            .lifecycle_policy_text(CLEAN_UP);
        call!(self, write "PutLifecyclePolicy", request).map(drop)
    }
}
