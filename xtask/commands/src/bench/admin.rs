//! The hand that looks for itself and edits behind the operator's back. It counts its own calls, so that they can be taken
//! off the stand-in's count, which does not tell callers apart.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use aws_sdk_ecr::Client;
use aws_sdk_ecr::operation::describe_images::DescribeImagesError;
use aws_sdk_ecr::types::{ImageIdentifier, ImageTagMutability, Repository};
use serde_json::{Value, json};

use super::figures::Counts;

#[derive(Debug)]
pub(super) struct Admin {
    ecr: Client,
    calls: Mutex<Counts>,
}

impl Admin {
    pub(super) fn new(ecr: Client) -> Self {
        Self {
            ecr,
            calls: Mutex::default(),
        }
    }

    /// The calls made so far.
    pub(super) fn calls(&self) -> Counts {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a call that somebody else made with an administrator's rights.
    pub(super) fn counts(&self, operation: &str) {
        self.count(operation);
    }

    fn count(&self, operation: &str) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(operation.to_owned()).or_default() += 1;
    }

    /// Makes a repository's tags mutable.
    pub(super) async fn make_mutable(&self, name: &str) -> Result<()> {
        self.count("PutImageTagMutability");
        let put = self.ecr.put_image_tag_mutability().repository_name(name);
        let put = put.image_tag_mutability(ImageTagMutability::Mutable).send().await;
        put.map(drop).with_context(|| format!("editing {name}"))
    }

    /// How many of these repositories, at most 100, are not as asked.
    pub(super) async fn edited(&self, names: &[String]) -> Result<usize> {
        self.count("DescribeRepositories");
        let describe = self
            .ecr
            .describe_repositories()
            .set_repository_names(Some(names.to_vec()));
        let found = describe.send().await?.repositories.unwrap_or_default();
        Ok(found.iter().filter(|one| !is_as_asked(one)).count())
    }

    /// The manifest of an image.
    pub(super) async fn manifest(&self, repository: &str, digest: &str) -> Result<Value> {
        self.count("BatchGetImage");
        let id = ImageIdentifier::builder().image_digest(digest).build();
        let get = self.ecr.batch_get_image().repository_name(repository).image_ids(id);
        let image = get
            .send()
            .await?
            .images
            .unwrap_or_default()
            .pop()
            .context("there is no such image")?;
        Ok(serde_json::from_str(
            image.image_manifest().context("the image has no manifest")?,
        )?)
    }

    /// Puts an image of the same layers under a tag, made another one by an annotation; gives its digest.
    pub(super) async fn put_variant(&self, repository: &str, manifest: &Value, tag: &str) -> Result<String> {
        self.count("PutImage");
        let mut variant = manifest.clone();
        variant["annotations"] = json!({ "variant": tag });
        let put = self.ecr.put_image().repository_name(repository).image_tag(tag);
        let put = put.image_manifest(variant.to_string()).send().await;
        let put = put.with_context(|| format!("putting {repository}:{tag}"))?;
        let digest = put.image.and_then(|image| image.image_id?.image_digest);
        digest.context("the image has no digest")
    }

    /// The digest of the image with this tag.
    pub(super) async fn digest(&self, repository: &str, tag: &str) -> Result<String> {
        self.count("DescribeImages");
        let id = ImageIdentifier::builder().image_tag(tag).build();
        let describe = self.ecr.describe_images().repository_name(repository).image_ids(id);
        let described = describe
            .send()
            .await
            .with_context(|| format!("looking for {repository}:{tag}"))?;
        let image = described.image_details.unwrap_or_default().pop();
        image
            .and_then(|image| image.image_digest)
            .context("the image has no digest")
    }

    /// Whether there is an image with this tag.
    pub(super) async fn has_tag(&self, repository: &str, tag: &str) -> Result<bool> {
        self.count("DescribeImages");
        let id = ImageIdentifier::builder().image_tag(tag).build();
        let describe = self.ecr.describe_images().repository_name(repository).image_ids(id);
        match describe.send().await {
            Ok(_) => Ok(true),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(DescribeImagesError::is_image_not_found_exception) =>
            {
                Ok(false)
            }
            Err(error) => Err(error).with_context(|| format!("looking for {repository}:{tag}")),
        }
    }

    /// The text of the lifecycle policy of a repository that has one.
    pub(super) async fn lifecycle_policy(&self, repository: &str) -> Result<Value> {
        self.count("GetLifecyclePolicy");
        let get = self.ecr.get_lifecycle_policy().repository_name(repository).send().await;
        let policy = get.with_context(|| format!("the lifecycle policy of {repository}"))?;
        Ok(serde_json::from_str(
            policy.lifecycle_policy_text().unwrap_or_default(),
        )?)
    }

    /// All repositories.
    pub(super) async fn list(&self) -> Result<Vec<Repository>> {
        let (mut all, mut token) = (Vec::new(), None);
        loop {
            self.count("DescribeRepositories");
            let describe = self
                .ecr
                .describe_repositories()
                .max_results(1_000)
                .set_next_token(token);
            let page = describe.send().await?;
            all.extend(page.repositories.unwrap_or_default());
            token = page.next_token;
            if token.is_none() {
                return Ok(all);
            }
        }
    }
}

/// Whether it is set as all measured Repositories ask.
pub(super) fn is_as_asked(one: &Repository) -> bool {
    one.image_tag_mutability() == Some(&ImageTagMutability::Immutable)
        && one
            .image_scanning_configuration()
            .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push)
}
