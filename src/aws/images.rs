//! What ECR tells of images: descriptions, ids, manifests, referrers. Reads only.

use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageDetail, ImageIdentifier, ImageStatus, ImageStatusFilter, ListImageReferrersFilter,
    ListImagesFilter, SubjectIdentifier,
};
use jiff::Timestamp;

use super::{
    blobs::check,
    client::{Ecr, PAGE, call},
    error::{AwsError, Fault},
};
use crate::{
    api::names::{Digest, RepositoryName, Tag},
    promotion::facts::Storage,
};

/// The most images that `DescribeImages` takes by id.
pub(crate) const IDS_LIMIT: usize = 100;

/// How many referrers of one type are looked at.
const MOST_REFERRERS: usize = 20;

/// The media types of manifests. Asked for by digest, ECR gives what is stored and translates nothing.
pub(super) const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// One image, as `DescribeImages` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub digest: Digest,
    /// In alphabetical order. Those that no OCI client could name are left out.
    pub tags: Vec<Tag>,
    pub pushed_at: Timestamp,
    /// The type of its manifest.
    pub media_type: String,
    /// The type of its configuration, or what its author says that it is; empty for an index.
    pub artifact_type: String,
    /// The image that it belongs to, as a signature does.
    pub subject: Option<Digest>,
    pub storage: Storage,
}

/// How an image is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ImageRef {
    Digest(Digest),
    Tag(Tag),
}

/// A page of a listing, and the token of the next.
#[derive(Clone, Debug)]
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

impl Described {
    /// Whether it is an index.
    pub(crate) fn is_index(&self) -> bool {
        self.media_type.ends_with("image.index.v1+json") || self.media_type.ends_with("manifest.list.v2+json")
    }

    /// Whether it could run: an index, or an image with a configuration of one. What belongs to another image, and
    /// charts and other artifacts, could not.
    pub(crate) fn can_run(&self) -> bool {
        self.subject.is_none()
            && (self.is_index()
                || matches!(
                    self.artifact_type.as_str(),
                    "" | "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json"
                ))
    }

    /// Reads an answer. `None` for a digest that is not SHA-256: no image that could be promoted has one.
    fn read(detail: ImageDetail) -> Result<Option<Self>, AwsError> {
        let lacks = |what: &str| AwsError::incomplete("DescribeImages", what);
        let Ok(digest) = detail.image_digest.ok_or_else(|| lacks("imageDigest"))?.parse() else {
            return Ok(None);
        };
        let pushed_at = detail.image_pushed_at.ok_or_else(|| lacks("imagePushedAt"))?;
        let mut tags: Vec<Tag> = detail
            .image_tags
            .unwrap_or_default()
            .into_iter()
            .filter_map(|tag| tag.parse().ok())
            .collect();
        tags.sort_unstable();
        Ok(Some(Self {
            digest,
            tags,
            pushed_at: pushed_at
                .to_millis()
                .ok()
                .and_then(|millis| Timestamp::from_millisecond(millis).ok())
                .ok_or_else(|| lacks("a valid imagePushedAt"))?,
            media_type: detail.image_manifest_media_type.unwrap_or_default(),
            artifact_type: detail.artifact_media_type.unwrap_or_default(),
            subject: detail.subject_manifest_digest.and_then(|digest| digest.parse().ok()),
            storage: match detail.image_status {
                None | Some(ImageStatus::Active) => Storage::Active,
                Some(ImageStatus::Activating) => Storage::Activating,
                // What AWS adds later is no state from which we know that it can be pulled.
                Some(_) => Storage::Archived,
            },
        }))
    }
}

impl ImageRef {
    pub(super) fn id(&self) -> ImageIdentifier {
        match self {
            Self::Digest(digest) => ImageIdentifier::builder().image_digest(digest.as_str()).build(),
            Self::Tag(tag) => ImageIdentifier::builder().image_tag(tag.as_str()).build(),
        }
    }
}

impl Ecr {
    /// A page of up to 1,000 images, archived ones included.
    pub(crate) async fn describe_images_page(
        &self,
        repository: &RepositoryName,
        token: Option<String>,
    ) -> Result<Page<Described>, AwsError> {
        let request = self
            .client
            .describe_images()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .filter(
                DescribeImagesFilter::builder()
                    .image_status(ImageStatusFilter::Any)
                    .build(),
            )
            .max_results(PAGE)
            .set_next_token(token);
        let page = call!(self, read "DescribeImages", request)?;
        Ok(Page {
            items: described(page.image_details)?,
            next: page.next_token,
        })
    }

    /// The images of these ids, at most [`IDS_LIMIT`], archived ones included. One that does not exist fails the call
    /// with `ImageNotFoundException`.
    pub(crate) async fn describe_images(
        &self,
        repository: &RepositoryName,
        images: &[ImageRef],
    ) -> Result<Vec<Described>, AwsError> {
        let request = self
            .client
            .describe_images()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .filter(
                DescribeImagesFilter::builder()
                    .image_status(ImageStatusFilter::Any)
                    .build(),
            )
            .set_image_ids(Some(images.iter().map(ImageRef::id).collect()));
        let answer = call!(self, read "DescribeImages", request)?;
        described(answer.image_details)
    }

    /// One image; `None` where there is none.
    pub(crate) async fn describe_image(
        &self,
        repository: &RepositoryName,
        image: &ImageRef,
    ) -> Result<Option<Described>, AwsError> {
        match self.describe_images(repository, std::slice::from_ref(image)).await {
            Ok(found) => Ok(found.into_iter().next()),
            Err(error) if error.is("ImageNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A page of up to 1,000 ids: each image once for each of its tags, or once without one. Either only those that can
    /// be pulled, or archived ones too.
    pub(crate) async fn list_image_ids(
        &self,
        repository: &RepositoryName,
        archived_too: bool,
        token: Option<String>,
    ) -> Result<Page<(Digest, Option<Tag>)>, AwsError> {
        let status = match archived_too {
            true => ImageStatusFilter::Any,
            false => ImageStatusFilter::Active,
        };
        let request = self
            .client
            .list_images()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .filter(ListImagesFilter::builder().image_status(status).build())
            .max_results(PAGE)
            .set_next_token(token);
        let page = call!(self, read "ListImages", request)?;
        let ids = page.image_ids.unwrap_or_default().into_iter();
        Ok(Page {
            items: ids
                .filter_map(|id| {
                    Some((
                        id.image_digest?.parse().ok()?,
                        id.image_tag.and_then(|tag| tag.parse().ok()),
                    ))
                })
                .collect(),
            next: page.next_token,
        })
    }

    /// The bytes of a manifest as they are stored, and its media type; `None` where there is none. Their digest has been
    /// checked. ECR counts this as a pull.
    pub(crate) async fn manifest(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
    ) -> Result<Option<(String, Vec<u8>)>, AwsError> {
        const OPERATION: &str = "BatchGetImage";
        let request = self
            .client
            .batch_get_image()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .image_ids(ImageRef::Digest(digest.clone()).id())
            .set_accepted_media_types(Some(MANIFEST_TYPES.map(str::to_owned).to_vec()));
        let answer = call!(self, read "BatchGetImage", request)?;
        if let Some(image) = answer.images.unwrap_or_default().into_iter().next() {
            let manifest = image
                .image_manifest
                .ok_or_else(|| AwsError::incomplete(OPERATION, "imageManifest"))?
                .into_bytes();
            check(OPERATION, &manifest, digest)?;
            return Ok(Some((image.image_manifest_media_type.unwrap_or_default(), manifest)));
        }
        let failure = answer.failures.unwrap_or_default().into_iter().next();
        let code = failure.as_ref().and_then(|failure| failure.failure_code.as_ref());
        let code = code.map_or("", |code| code.as_str()).to_owned();
        match code.as_str() {
            "ImageNotFound" => Ok(None),
            "" => Err(AwsError::incomplete(OPERATION, "the image and why it is not there")),
            _ => Err(AwsError {
                operation: OPERATION,
                fault: Fault::Unavailable,
                code,
                message: failure.and_then(|failure| failure.failure_reason).unwrap_or_default(),
            }),
        }
    }

    /// Puts one more tag on an image; one that another image has is moved. Nothing of the image itself travels.
    pub(crate) async fn put_tag(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        tag: &Tag,
    ) -> Result<(), AwsError> {
        const OPERATION: &str = "PutImage";
        let Some((media_type, manifest)) = self.manifest(repository, digest).await? else {
            return Err(AwsError::unanswered(
                OPERATION,
                Fault::NotFound,
                format!("the image {digest} is not there"),
            ));
        };
        // Verbatim: it was read from UTF-8.
        let manifest = String::from_utf8(manifest)
            .map_err(|error| AwsError::unanswered(OPERATION, Fault::Invalid, error.to_string()))?;
        let request = self
            .client
            .put_image()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .image_manifest(manifest)
            .image_manifest_media_type(media_type)
            .image_digest(digest.as_str())
            .image_tag(tag.as_str());
        match call!(self, promote "PutImage", request) {
            // The same image has the tag already.
            Err(error) if error.is("ImageAlreadyExistsException") => Ok(()),
            other => other.map(drop),
        }
    }

    /// The digests of what refers to an image and is of the given type; at most 20.
    pub(crate) async fn referrers_of_type(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        artifact_type: &str,
    ) -> Result<Vec<Digest>, AwsError> {
        const OPERATION: &str = "ListImageReferrers";
        let subject = SubjectIdentifier::builder()
            .image_digest(digest.as_str())
            .build()
            .map_err(|error| AwsError::unanswered(OPERATION, Fault::Invalid, error.to_string()))?;
        let filter = ListImageReferrersFilter::builder()
            .artifact_types(artifact_type)
            .build();
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .client
                .list_image_referrers()
                .registry_id(self.registry_id.as_str())
                .repository_name(repository.as_str())
                .subject_id(subject.clone())
                .filter(filter.clone())
                .max_results(50)
                .set_next_token(token);
            let page = call!(self, read "ListImageReferrers", request)?;
            found.extend(
                page.referrers
                    .unwrap_or_default()
                    .into_iter()
                    .filter(|referrer| referrer.artifact_type.as_deref() == Some(artifact_type))
                    .filter_map(|referrer| referrer.digest.parse().ok()),
            );
            token = page.next_token;
            if token.is_none() || found.len() >= MOST_REFERRERS {
                found.truncate(MOST_REFERRERS);
                return Ok(found);
            }
        }
    }
}

fn described(details: Option<Vec<ImageDetail>>) -> Result<Vec<Described>, AwsError> {
    details
        .unwrap_or_default()
        .into_iter()
        .filter_map(|detail| Described::read(detail).transpose())
        .collect()
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
