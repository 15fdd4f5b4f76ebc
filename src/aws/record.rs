//! A repository as `DescribeRepositories` shows it, in types of our own.

use jiff::Timestamp;

use super::error::AwsError;
use crate::api::names::RepositoryName;

/// What one listing tells of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub name: RepositoryName,
    pub arn: String,
    pub uri: String,
    pub registry_id: String,
    pub created_at: Timestamp,
    pub mutability: Mutability,
    pub scan_on_push: bool,
    pub encryption: StoredEncryption,
}

/// Tag mutability with its exceptions. The value is kept as AWS spells it, so that one we do not know yet is shown and
/// compared rather than lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mutability {
    pub value: String,
    /// Sorted: ECR's order carries no meaning.
    pub filters: Vec<String>,
}

/// Encryption as ECR stores it: the key as an ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredEncryption {
    pub encryption_type: String,
    pub kms_key: Option<String>,
}

impl Mutability {
    pub(crate) fn new(value: impl Into<String>, filters: impl IntoIterator<Item = String>) -> Self {
        let mut filters: Vec<String> = filters.into_iter().collect();
        filters.sort_unstable();
        filters.dedup();
        Self {
            value: value.into(),
            filters,
        }
    }
}

impl std::fmt::Display for Mutability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.value)?;
        match self.filters.is_empty() {
            true => Ok(()),
            false => write!(f, " [{}]", self.filters.join(", ")),
        }
    }
}

impl Record {
    /// Reads an answer of ECR. Every field that we rest a decision on must be there.
    pub(crate) fn read(operation: &'static str, repository: aws_sdk_ecr::types::Repository) -> Result<Self, AwsError> {
        let lacks = |what: &str| AwsError::incomplete(operation, what);
        let name = repository.repository_name.ok_or_else(|| lacks("repositoryName"))?;
        let created_at = repository.created_at.ok_or_else(|| lacks("createdAt"))?;
        let encryption = repository.encryption_configuration;
        let filters = repository.image_tag_mutability_exclusion_filters.unwrap_or_default();
        Ok(Self {
            name: name
                .parse()
                .map_err(|error| AwsError::incomplete(operation, &format!("a valid name ({error})")))?,
            arn: repository.repository_arn.ok_or_else(|| lacks("repositoryArn"))?,
            uri: repository.repository_uri.unwrap_or_default(),
            registry_id: repository.registry_id.ok_or_else(|| lacks("registryId"))?,
            created_at: timestamp(&created_at).ok_or_else(|| lacks("a valid createdAt"))?,
            mutability: Mutability::new(
                repository
                    .image_tag_mutability
                    .as_ref()
                    .map_or("MUTABLE", |value| value.as_str()),
                filters.into_iter().map(|filter| filter.filter),
            ),
            scan_on_push: repository
                .image_scanning_configuration
                .is_some_and(|scanning| scanning.scan_on_push),
            encryption: StoredEncryption {
                encryption_type: encryption
                    .as_ref()
                    .map_or("AES256", |encryption| encryption.encryption_type.as_str())
                    .to_owned(),
                kms_key: encryption.and_then(|encryption| encryption.kms_key),
            },
        })
    }
}

/// ECR gives `createdAt` in milliseconds at most; what is finer is noise of the floating-point number on the wire, and
/// would make one repository look like two.
pub(super) fn timestamp(time: &aws_sdk_ecr::primitives::DateTime) -> Option<Timestamp> {
    Timestamp::from_millisecond(time.to_millis().ok()?).ok()
}
