//! Encryption settings as ECR fills them in.

use fakecloud_core::service::AwsServiceError;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Registry;
use super::errors::{optional, required, unsatisfied};

/// Type and key of a new repository, from what the request says of them.
pub(super) fn resolve(
    registry: &Registry,
    configuration: Option<&Value>,
) -> Result<(String, Option<String>), AwsServiceError> {
    let Some(configuration) = configuration.filter(|value| !value.is_null()) else {
        return Ok(("AES256".to_owned(), None));
    };
    let encryption = required(configuration, "encryptionType")?;
    let key = optional(configuration, "kmsKey").filter(|key| !key.is_empty());
    match (encryption, key) {
        ("AES256", None) => Ok((encryption.to_owned(), None)),
        ("AES256", Some(_)) => Err(unsatisfied(
            "encryptionConfiguration",
            "kmsKey can only be specified with encryptionType KMS",
        )),
        ("KMS" | "KMS_DSSE", key) => Ok((encryption.to_owned(), Some(key_arn(registry, key)))),
        _ => Err(unsatisfied(
            "encryptionType",
            "Member must satisfy enum value set: [AES256, KMS, KMS_DSSE]",
        )),
    }
}

/// The ARN behind a key as it is given: an ARN, an id, an alias, or nothing for the account's own `aws/ecr` key.
fn key_arn(registry: &Registry, key: Option<&str>) -> String {
    let id = match key {
        Some(arn) if arn.starts_with("arn:") && !arn.contains(":alias/") => return arn.to_owned(),
        Some(alias) if alias.contains("alias/") => id_behind(registry, alias),
        Some(id) => id.to_owned(),
        None => id_behind(registry, "alias/aws/ecr"),
    };
    format!("arn:aws:kms:{}:{}:key/{id}", registry.region, registry.account)
}

/// A key id that is the same whenever the alias is used in this registry: there is no KMS to ask.
fn id_behind(registry: &Registry, alias: &str) -> String {
    let alias = alias.rsplit_once("alias/").map_or(alias, |(_, name)| name);
    let hash = Sha256::digest(format!("{}/{}/{alias}", registry.account, registry.region));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()
}
