//! What ECR is asked about lifecycle policies. One function an operation.

use aws_sdk_ecr::types::{
    DescribeImagesFilter, ImageActionType, ImageDetail, ImageStatus, ImageStatusFilter, LifecyclePolicyPreviewStatus,
    TagStatus,
};
use aws_smithy_types::DateTime;
use jiff::Timestamp;

use super::{
    client::{Ecr, PAGE, call},
    error::AwsError,
};
use crate::{
    api::names::RepositoryName,
    document::lifecycle::{Action, Image},
};

/// A preview as far as it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Preview {
    Running,
    /// It failed, or its result is no longer kept.
    Ended(String),
    Done {
        text: String,
        doomed: Vec<Listed>,
    },
}

/// An image that a policy would act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub digest: String,
    pub tags: Vec<String>,
    pub action: Action,
    pub rule: u32,
}

/// How many images a repository holds outside the archive, and how large each is that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stock {
    pub images: u64,
    /// Of the images asked for, together.
    pub bytes: u64,
}

impl Ecr {
    /// The repository's lifecycle policy as text, `None` where it has none.
    pub(crate) async fn lifecycle(&self, name: &RepositoryName) -> Result<Option<String>, AwsError> {
        let request = self
            .client
            .get_lifecycle_policy()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str());
        match call!(self, read "GetLifecyclePolicy", request) {
            Ok(answer) => answer
                .lifecycle_policy_text
                .map(Some)
                .ok_or_else(|| AwsError::incomplete("GetLifecyclePolicy", "lifecyclePolicyText")),
            Err(error) if error.is("LifecyclePolicyNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the repository's lifecycle policy. Returns the text that ECR stored. A power to delete: ECR acts on it
    /// within a day.
    pub(crate) async fn put_lifecycle(&self, name: &RepositoryName, text: &str) -> Result<String, AwsError> {
        let request = self
            .client
            .put_lifecycle_policy()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .lifecycle_policy_text(text);
        let answer = call!(self, write "PutLifecyclePolicy", request)?;
        answer
            .lifecycle_policy_text
            .ok_or_else(|| AwsError::incomplete("PutLifecyclePolicy", "lifecyclePolicyText"))
    }

    /// Takes the repository's lifecycle policy off. None to take off is a success.
    pub(crate) async fn delete_lifecycle(&self, name: &RepositoryName) -> Result<(), AwsError> {
        let request = self
            .client
            .delete_lifecycle_policy()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str());
        match call!(self, write "DeleteLifecyclePolicy", request) {
            Err(error) if error.is("LifecyclePolicyNotFoundException") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Lets ECR work out what a policy would do. It changes nothing in the repository, but takes the place of an earlier
    /// preview. False: one that somebody started is under way.
    pub(crate) async fn start_preview(&self, name: &RepositoryName, text: &str) -> Result<bool, AwsError> {
        let request = self
            .client
            .start_lifecycle_policy_preview()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .lifecycle_policy_text(text);
        match call!(self, read "StartLifecyclePolicyPreview", request) {
            Ok(_) => Ok(true),
            Err(error) if error.is("LifecyclePolicyPreviewInProgressException") => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The preview of the repository, whoever started it, all pages of it.
    pub(crate) async fn preview(&self, name: &RepositoryName) -> Result<Preview, AwsError> {
        const OPERATION: &str = "GetLifecyclePolicyPreview";
        let mut doomed = Vec::new();
        let mut first: Option<String> = None;
        let mut token = None;
        loop {
            let request = self
                .client
                .get_lifecycle_policy_preview()
                .registry_id(self.registry_id.as_str())
                .repository_name(name.as_str())
                .max_results(100)
                .set_next_token(token);
            let page = match call!(self, read "GetLifecyclePolicyPreview", request) {
                Ok(page) => page,
                Err(error) if error.is("LifecyclePolicyPreviewNotFoundException") => {
                    return Ok(Preview::Ended("ECR has none".into()));
                }
                Err(error) => return Err(error),
            };
            match page.status {
                Some(LifecyclePolicyPreviewStatus::Complete) => {}
                Some(LifecyclePolicyPreviewStatus::InProgress) => return Ok(Preview::Running),
                Some(other) => return Ok(Preview::Ended(format!("ECR says {}", other.as_str()))),
                None => return Err(AwsError::incomplete(OPERATION, "status")),
            }
            let text = page
                .lifecycle_policy_text
                .ok_or_else(|| AwsError::incomplete(OPERATION, "lifecyclePolicyText"))?;
            if *first.get_or_insert_with(|| text.clone()) != text {
                return Ok(Preview::Ended("another one took its place while it was read".into()));
            }
            for result in page.preview_results.unwrap_or_default() {
                let action = match result.action.and_then(|action| action.r#type) {
                    Some(ImageActionType::Transition) => Action::Archive,
                    // What AWS adds later is taken for the worst.
                    _ => Action::Expire,
                };
                doomed.push(Listed {
                    digest: result
                        .image_digest
                        .ok_or_else(|| AwsError::incomplete(OPERATION, "imageDigest"))?,
                    tags: result.image_tags.unwrap_or_default(),
                    action,
                    rule: result
                        .applied_rule_priority
                        .and_then(|rule| u32::try_from(rule).ok())
                        .unwrap_or_default(),
                });
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(Preview::Done { text, doomed });
            }
        }
    }

    /// All images of the repository as a policy is evaluated over them. Which images an index lists is not among what is
    /// known: to read its manifest would count as a pull, by which policies tell what is used.
    pub(crate) async fn images_by_age(&self, name: &RepositoryName) -> Result<Vec<Image>, AwsError> {
        let mut images = Vec::new();
        let mut token = None;
        loop {
            let filter = DescribeImagesFilter::builder()
                .image_status(ImageStatusFilter::Any)
                .build();
            let request = self
                .client
                .describe_images()
                .registry_id(self.registry_id.as_str())
                .repository_name(name.as_str())
                .filter(filter)
                .max_results(PAGE)
                .set_next_token(token);
            let page = call!(self, read "DescribeImages", request)?;
            for detail in page.image_details.unwrap_or_default() {
                images.push(image(detail)?);
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(images);
            }
        }
    }

    /// Counts the images outside the archive, and the bytes of those for which `meant` says yes.
    pub(crate) async fn stock(
        &self,
        name: &RepositoryName,
        meant: impl Fn(&str) -> bool + Send,
    ) -> Result<Stock, AwsError> {
        let mut stock = Stock::default();
        let mut token = None;
        loop {
            let filter = DescribeImagesFilter::builder()
                .tag_status(TagStatus::Any)
                .image_status(ImageStatusFilter::Active)
                .build();
            let request = self
                .client
                .describe_images()
                .registry_id(self.registry_id.as_str())
                .repository_name(name.as_str())
                .filter(filter)
                .max_results(PAGE)
                .set_next_token(token);
            let page = call!(self, read "DescribeImages", request)?;
            for image in page.image_details.unwrap_or_default() {
                stock.images += 1;
                if image.image_digest.as_deref().is_some_and(&meant) {
                    let bytes = image.image_size_in_bytes.unwrap_or_default();
                    stock.bytes = stock.bytes.saturating_add(u64::try_from(bytes).unwrap_or_default());
                }
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(stock);
            }
        }
    }
}

fn image(detail: ImageDetail) -> Result<Image, AwsError> {
    let lacks = |what: &str| AwsError::incomplete("DescribeImages", what);
    let is_archived = detail.image_status == Some(ImageStatus::Archived);
    Ok(Image {
        digest: detail.image_digest.ok_or_else(|| lacks("imageDigest"))?,
        tags: detail.image_tags.unwrap_or_default(),
        pushed_at: detail
            .image_pushed_at
            .and_then(time)
            .ok_or_else(|| lacks("imagePushedAt"))?,
        pulled_at: detail.last_recorded_pull_time.and_then(time),
        archived_at: detail.last_archived_at.and_then(time).filter(|_| is_archived),
        activated_at: detail.last_activated_at.and_then(time),
        children: Vec::new(),
        subject: detail.subject_manifest_digest,
    })
}

fn time(time: DateTime) -> Option<Timestamp> {
    Timestamp::from_millisecond(time.to_millis().ok()?).ok()
}
