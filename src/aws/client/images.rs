//! What is asked of ECR's API about images; the images themselves travel over the data plane (`crate::oci`).

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use aws_sdk_ecr::types::{DescribeImagesFilter, ImageIdentifier, ImageStatusFilter, SubjectIdentifier};

use super::{Ecr, unbuildable};
use crate::{api::names::RepositoryName, aws::error::AwsError};

/// The most referrers of a page.
const REFERRERS_PAGE: i32 = 50;

/// How long a token is taken to last where AWS does not say: half of what it grants.
const TOKEN_LIFETIME: Duration = Duration::from_hours(6);

/// The way into a data plane.
#[derive(Clone)]
pub(crate) struct Authorization {
    /// For `Authorization: Basic`. Carries the rights of whoever asked for it.
    pub token: String,
    /// The data plane of the caller's own registry, an URL.
    pub endpoint: String,
    /// How long the token lasts from now on.
    pub lasts: Duration,
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorization")
            .field("endpoint", &self.endpoint)
            .field("lasts", &self.lasts)
            .finish_non_exhaustive()
    }
}

impl Ecr {
    /// A token for the data plane of every registry that the credentials give rights to.
    pub(crate) async fn authorization(&self) -> Result<Authorization, AwsError> {
        const OPERATION: &str = "GetAuthorizationToken";
        let answer = call!(self, read "GetAuthorizationToken", self.client.get_authorization_token())?;
        let data = answer.authorization_data.unwrap_or_default().into_iter().next();
        let data = data.ok_or_else(|| AwsError::incomplete(OPERATION, "authorizationData"))?;
        let lasts = data
            .expires_at
            .and_then(|time| SystemTime::try_from(time).ok())
            .and_then(|time| time.duration_since(SystemTime::now()).ok());
        Ok(Authorization {
            token: data
                .authorization_token
                .ok_or_else(|| AwsError::incomplete(OPERATION, "authorizationToken"))?,
            endpoint: data
                .proxy_endpoint
                .ok_or_else(|| AwsError::incomplete(OPERATION, "proxyEndpoint"))?,
            lasts: lasts.unwrap_or(TOKEN_LIFETIME),
        })
    }

    /// The digest of the image that has the tag, archived ones included; `None` where no image has it.
    pub(crate) async fn tag_holder(&self, name: &RepositoryName, tag: &str) -> Result<Option<String>, AwsError> {
        let request = self
            .client
            .describe_images()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .image_ids(ImageIdentifier::builder().image_tag(tag).build())
            .filter(
                DescribeImagesFilter::builder()
                    .image_status(ImageStatusFilter::Any)
                    .build(),
            );
        match call!(self, read "DescribeImages", request) {
            Ok(answer) => answer
                .image_details
                .unwrap_or_default()
                .into_iter()
                .next()
                .and_then(|detail| detail.image_digest)
                .map(Some)
                .ok_or_else(|| AwsError::incomplete("DescribeImages", "imageDigest")),
            Err(error) if error.is("ImageNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The digests of what says something about the image (signatures, attestations), archived ones left out. None where
    /// there is no such image, or where the registry knows no referrers.
    pub(crate) async fn referrers(&self, name: &RepositoryName, digest: &str) -> Result<Vec<String>, AwsError> {
        const OPERATION: &str = "ListImageReferrers";
        let mut found = Vec::new();
        let mut token = None;
        loop {
            let subject = SubjectIdentifier::builder()
                .image_digest(digest)
                .build()
                .map_err(|error| unbuildable(OPERATION, &error))?;
            let request = self
                .client
                .list_image_referrers()
                .registry_id(self.registry_id.as_str())
                .repository_name(name.as_str())
                .subject_id(subject)
                .max_results(REFERRERS_PAGE)
                .set_next_token(token);
            let page = match call!(self, read "ListImageReferrers", request) {
                Ok(page) => page,
                Err(error)
                    if error.is("ImageNotFoundException")
                        || error.is("UnknownOperationException")
                        || error.is("UnableToListUpstreamImageReferrersException") =>
                {
                    return Ok(found);
                }
                Err(error) => return Err(error),
            };
            found.extend(page.referrers.into_iter().flatten().map(|referrer| referrer.digest));
            token = page.next_token;
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}
