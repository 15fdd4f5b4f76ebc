//! The calls to ECR that the operator makes, in types of its own. One function an operation.

use std::{collections::BTreeMap, sync::Arc};

use aws_sdk_ecr::{
    Client,
    types::{
        EncryptionConfiguration, EncryptionType, ImageScanningConfiguration, ImageStatusFilter, ImageTagMutability,
        ImageTagMutabilityExclusionFilter, ImageTagMutabilityExclusionFilterType, ListImagesFilter, Tag, TagStatus,
    },
};

use super::{
    error::{AwsError, Fault},
    pace::Pace,
    record::{Mutability, Record, StoredEncryption},
    written::Written,
};
use crate::{
    api::names::{AccountId, RepositoryName},
    control::gate::Gate,
};

/// The most names `DescribeRepositories` takes.
pub(crate) const DESCRIBE_LIMIT: usize = 100;

/// The most entries a page of a listing holds.
pub(super) const PAGE: i32 = 1_000;

/// ECR for one registry. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Ecr {
    pub(super) client: Client,
    pub(super) sts: aws_sdk_sts::Client,
    pub(super) registry_id: AccountId,
    pub(super) pace: Arc<Pace>,
    pub(super) written: Arc<Written>,
    pub(super) writable: bool,
    pub(super) gate: Gate,
}

/// What `CreateRepository` is asked for. What is `None` is left to ECR's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Creation {
    pub mutability: Option<Mutability>,
    pub scan_on_push: Option<bool>,
    pub encryption: Option<StoredEncryption>,
    pub tags: BTreeMap<String, String>,
}

/// Runs one call: waits for its turn, sends, tells the pace, classifies.
macro_rules! call {
    ($self:ident, read $operation:literal, $request:expr) => {{
        $self.pace.turn($operation).await;
        let answer = $request.send().await.map_err(|error| AwsError::new($operation, &error));
        $self.pace.answered($operation, answer)
    }};
    ($self:ident, write $operation:literal, $request:expr) => {{
        if !$self.writable {
            return Err(AwsError::read_only($operation));
        }
        call!($self, promote $operation, $request)
    }};
    // What promotions ask for is written by clusters that only observe, too.
    ($self:ident, promote $operation:literal, $request:expr) => {{
        $self.pace.turn($operation).await;
        let under_way = $self.written.begin();
        // After the turn, which may be long in coming; the SDK's own attempts are all behind the gate.
        let Ok(answer) = $self.gate.guard($request.send()).await else {
            return Err(AwsError::not_leading($operation));
        };
        if let Some(id) = answer.as_ref().ok().and_then(aws_types::request_id::RequestId::request_id) {
            $self.written.note(id);
        }
        drop(under_way);
        $self
            .pace
            .answered($operation, answer.map_err(|error| AwsError::new($operation, &error)))
    }};
}

pub(super) use call;

// After the macro, which it uses.
mod images;

impl Ecr {
    pub(crate) fn new(
        client: Client,
        sts: aws_sdk_sts::Client,
        registry_id: AccountId,
        writable: bool,
        pace: Arc<Pace>,
        gate: Gate,
    ) -> Self {
        Self {
            client,
            sts,
            registry_id,
            pace,
            written: Arc::default(),
            writable,
            gate,
        }
    }

    /// With all rights in an account of the stand-in, for reads.
    #[cfg(test)]
    pub(crate) async fn of_admin(aws: &bed::Aws, account: &str, region: &str) -> anyhow::Result<Self> {
        let sts = aws_sdk_sts::Config::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .build();
        Ok(Self::new(
            aws.ecr(region, &aws.admin(account).await?),
            aws_sdk_sts::Client::from_conf(sts),
            account.parse()?,
            false,
            Arc::default(),
            Gate::closed(),
        ))
    }

    /// Waits for the answers of writes that are under way, for a while at most.
    pub(crate) async fn settle(&self) {
        self.written.settle().await;
    }

    /// Whether AWS gave this request id to a write of ours.
    pub(crate) fn wrote(&self, request_id: &str) -> bool {
        self.written.holds(request_id)
    }

    /// The pace of its calls, for those to the same registry that go another way.
    pub(crate) fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    /// The account whose credentials are used. Needs no rights.
    pub(crate) async fn account(&self) -> Result<String, AwsError> {
        let answer = call!(self, read "GetCallerIdentity", self.sts.get_caller_identity())?;
        answer
            .account
            .ok_or_else(|| AwsError::incomplete("GetCallerIdentity", "the account"))
    }

    /// Every repository of the registry, page after page; fails as a whole if a page fails.
    pub(crate) async fn list(&self) -> Result<Vec<Record>, AwsError> {
        let mut records = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .client
                .describe_repositories()
                .registry_id(self.registry_id.as_str())
                .max_results(PAGE)
                .set_next_token(token);
            let page = call!(self, read "DescribeRepositories", request)?;
            for repository in page.repositories.unwrap_or_default() {
                records.push(Record::read("DescribeRepositories", repository)?);
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(records);
            }
        }
    }

    /// The repositories of these names, at most [`DESCRIBE_LIMIT`]. One that does not exist fails the call.
    pub(crate) async fn describe(&self, names: &[RepositoryName]) -> Result<Vec<Record>, AwsError> {
        let request = self
            .client
            .describe_repositories()
            .registry_id(self.registry_id.as_str())
            .set_repository_names(Some(names.iter().map(ToString::to_string).collect()));
        let answer = call!(self, read "DescribeRepositories", request)?;
        answer
            .repositories
            .unwrap_or_default()
            .into_iter()
            .map(|repository| Record::read("DescribeRepositories", repository))
            .collect()
    }

    /// Creates a repository. The answer is what ECR stored; the tags are those that were sent, since ECR applies them in
    /// the same step.
    pub(crate) async fn create(&self, name: &RepositoryName, creation: &Creation) -> Result<Record, AwsError> {
        const OPERATION: &str = "CreateRepository";
        let mut request = self
            .client
            .create_repository()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .set_tags(Some(tags(OPERATION, &creation.tags)?));
        if let Some(mutability) = &creation.mutability {
            request = request
                .image_tag_mutability(ImageTagMutability::from(mutability.value.as_str()))
                .set_image_tag_mutability_exclusion_filters(filters(OPERATION, mutability)?);
        }
        if let Some(scan_on_push) = creation.scan_on_push {
            let scanning = ImageScanningConfiguration::builder().scan_on_push(scan_on_push).build();
            request = request.image_scanning_configuration(scanning);
        }
        if let Some(encryption) = &creation.encryption {
            let configuration = EncryptionConfiguration::builder()
                .encryption_type(EncryptionType::from(encryption.encryption_type.as_str()))
                .set_kms_key(encryption.kms_key.clone())
                .build()
                .map_err(|error| unbuildable(OPERATION, &error))?;
            request = request.encryption_configuration(configuration);
        }
        let answer = call!(self, write "CreateRepository", request)?;
        let repository = answer
            .repository
            .ok_or_else(|| AwsError::incomplete(OPERATION, "the repository"))?;
        Record::read(OPERATION, repository)
    }

    /// Deletes a repository. Without `force`, ECR refuses one that holds an image; with it, the images go too.
    pub(crate) async fn delete(&self, name: &RepositoryName, force: bool) -> Result<(), AwsError> {
        let request = self
            .client
            .delete_repository()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .force(force);
        call!(self, write "DeleteRepository", request).map(drop)
    }

    /// Replaces the tag mutability and its filters. Returns what ECR stored.
    pub(crate) async fn put_mutability(
        &self,
        name: &RepositoryName,
        mutability: &Mutability,
    ) -> Result<Mutability, AwsError> {
        const OPERATION: &str = "PutImageTagMutability";
        let request = self
            .client
            .put_image_tag_mutability()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .image_tag_mutability(ImageTagMutability::from(mutability.value.as_str()))
            .set_image_tag_mutability_exclusion_filters(filters(OPERATION, mutability)?);
        let answer = call!(self, write "PutImageTagMutability", request)?;
        let value = answer
            .image_tag_mutability
            .ok_or_else(|| AwsError::incomplete(OPERATION, "imageTagMutability"))?;
        let filters = answer.image_tag_mutability_exclusion_filters.unwrap_or_default();
        Ok(Mutability::new(
            value.as_str(),
            filters.into_iter().map(|filter| filter.filter),
        ))
    }

    /// Replaces the scanning setting. Returns what ECR stored.
    pub(crate) async fn put_scan_on_push(&self, name: &RepositoryName, scan_on_push: bool) -> Result<bool, AwsError> {
        let request = self
            .client
            .put_image_scanning_configuration()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .image_scanning_configuration(ImageScanningConfiguration::builder().scan_on_push(scan_on_push).build());
        let answer = call!(self, write "PutImageScanningConfiguration", request)?;
        answer
            .image_scanning_configuration
            .map(|scanning| scanning.scan_on_push)
            .ok_or_else(|| AwsError::incomplete("PutImageScanningConfiguration", "imageScanningConfiguration"))
    }

    /// The repository's policy as text, `None` where it has none.
    pub(crate) async fn policy(&self, name: &RepositoryName) -> Result<Option<String>, AwsError> {
        let request = self
            .client
            .get_repository_policy()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str());
        match call!(self, read "GetRepositoryPolicy", request) {
            Ok(answer) => answer
                .policy_text
                .map(Some)
                .ok_or_else(|| AwsError::incomplete("GetRepositoryPolicy", "policyText")),
            Err(error) if error.is("RepositoryPolicyNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the repository's policy. Returns the text that ECR stored. `force` is not set: ECR then refuses a policy
    /// that would lock its author out.
    pub(crate) async fn set_policy(&self, name: &RepositoryName, text: &str) -> Result<String, AwsError> {
        let request = self
            .client
            .set_repository_policy()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .policy_text(text);
        let answer = call!(self, write "SetRepositoryPolicy", request)?;
        answer
            .policy_text
            .ok_or_else(|| AwsError::incomplete("SetRepositoryPolicy", "policyText"))
    }

    /// Takes the repository's policy off. None to take off is a success.
    pub(crate) async fn delete_policy(&self, name: &RepositoryName) -> Result<(), AwsError> {
        let request = self
            .client
            .delete_repository_policy()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str());
        match call!(self, write "DeleteRepositoryPolicy", request) {
            Err(error) if error.is("RepositoryPolicyNotFoundException") => Ok(()),
            other => other.map(drop),
        }
    }

    /// The tags of a repository, AWS's own left out.
    pub(crate) async fn tags(&self, arn: &str) -> Result<BTreeMap<String, String>, AwsError> {
        let answer = call!(self, read "ListTagsForResource", self.client.list_tags_for_resource().resource_arn(arn))?;
        let tags = answer.tags.unwrap_or_default();
        Ok(tags
            .into_iter()
            .map(|tag| (tag.key, tag.value))
            .filter(|(key, _)| !key.starts_with("aws:"))
            .collect())
    }

    /// Sets tags; those not named stay.
    pub(crate) async fn tag(&self, arn: &str, set: &BTreeMap<String, String>) -> Result<(), AwsError> {
        let request = self
            .client
            .tag_resource()
            .resource_arn(arn)
            .set_tags(Some(tags("TagResource", set)?));
        call!(self, write "TagResource", request).map(drop)
    }

    /// Takes tags off; keys that are not there are no error.
    pub(crate) async fn untag(&self, arn: &str, keys: &[String]) -> Result<(), AwsError> {
        let request = self
            .client
            .untag_resource()
            .resource_arn(arn)
            .set_tag_keys(Some(keys.to_vec()));
        call!(self, write "UntagResource", request).map(drop)
    }

    /// Whether the repository holds an image, archived ones included.
    pub(crate) async fn holds_images(&self, name: &RepositoryName) -> Result<bool, AwsError> {
        let request = self
            .client
            .list_images()
            .registry_id(self.registry_id.as_str())
            .repository_name(name.as_str())
            .filter(ListImagesFilter::builder().image_status(ImageStatusFilter::Any).build())
            .max_results(1);
        let answer = call!(self, read "ListImages", request)?;
        // An empty page with a token says nothing yet; taken for "holds images", the cautious side.
        Ok(answer.next_token.is_some() || !answer.image_ids.unwrap_or_default().is_empty())
    }

    /// The first image tag that begins with `prefix`, archived images included. Reads every page before it says that
    /// there is none, and fails if a page fails.
    pub(crate) async fn find_image_tag(&self, name: &RepositoryName, prefix: &str) -> Result<Option<String>, AwsError> {
        let mut token = None;
        loop {
            let filter = ListImagesFilter::builder()
                .tag_status(TagStatus::Tagged)
                .image_status(ImageStatusFilter::Any)
                .build();
            let request = self
                .client
                .list_images()
                .registry_id(self.registry_id.as_str())
                .repository_name(name.as_str())
                .filter(filter)
                .max_results(PAGE)
                .set_next_token(token);
            let page = call!(self, read "ListImages", request)?;
            let tags = page
                .image_ids
                .unwrap_or_default()
                .into_iter()
                .filter_map(|id| id.image_tag);
            if let Some(found) = tags.into_iter().find(|tag| tag.starts_with(prefix)) {
                return Ok(Some(found));
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(None);
            }
        }
    }
}

pub(super) fn tags(operation: &'static str, tags: &BTreeMap<String, String>) -> Result<Vec<Tag>, AwsError> {
    tags.iter()
        .map(|(key, value)| {
            Tag::builder()
                .key(key)
                .value(value)
                .build()
                .map_err(|error| unbuildable(operation, &error))
        })
        .collect()
}

/// `None` where there are no filters: ECR refuses an empty list.
pub(super) fn filters(
    operation: &'static str,
    mutability: &Mutability,
) -> Result<Option<Vec<ImageTagMutabilityExclusionFilter>>, AwsError> {
    if mutability.filters.is_empty() {
        return Ok(None);
    }
    let build = |filter: &String| {
        ImageTagMutabilityExclusionFilter::builder()
            .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
            .filter(filter)
            .build()
            .map_err(|error| unbuildable(operation, &error))
    };
    mutability.filters.iter().map(build).collect::<Result<_, _>>().map(Some)
}

pub(super) fn unbuildable(operation: &'static str, error: &aws_sdk_ecr::error::BuildError) -> AwsError {
    AwsError {
        operation,
        fault: Fault::Invalid,
        code: String::new(),
        message: error.to_string(),
    }
}
