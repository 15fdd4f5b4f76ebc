//! Settings of a repository in ECR's own terms, used by several kinds.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether tags can be moved to another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum ImageTagMutability {
    Mutable,
    Immutable,
    MutableWithExclusion,
    ImmutableWithExclusion,
}

impl ImageTagMutability {
    /// As ECR spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mutable => "MUTABLE",
            Self::Immutable => "IMMUTABLE",
            Self::MutableWithExclusion => "MUTABLE_WITH_EXCLUSION",
            Self::ImmutableWithExclusion => "IMMUTABLE_WITH_EXCLUSION",
        }
    }

    /// Whether exclusion filters go with it: they are required then, and refused otherwise.
    #[must_use]
    pub const fn takes_filters(self) -> bool {
        matches!(self, Self::MutableWithExclusion | Self::ImmutableWithExclusion)
    }
}

/// How an exclusion filter is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum ExclusionFilterType {
    #[default]
    Wildcard,
}

/// Tags that are excepted from the repository's mutability.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExclusionFilter {
    /// How `filter` is matched. ECR knows `WILDCARD` only. Default: WILDCARD.
    #[serde(default)]
    pub filter_type: ExclusionFilterType,

    /// The tags meant, with `*` for any characters, such as `dev-*`. 1 to 128 letters, digits and `.`, `_`, `*`, `-`.
    /// Required.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[0-9a-zA-Z._*-]{1,128}$"))]
    pub filter: String,
}

/// How the images of a repository are encrypted at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum EncryptionType {
    #[serde(rename = "AES256")]
    Aes256,
    #[serde(rename = "KMS")]
    Kms,
    #[serde(rename = "KMS_DSSE")]
    KmsDsse,
}

impl EncryptionType {
    /// As ECR spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES256",
            Self::Kms => "KMS",
            Self::KmsDsse => "KMS_DSSE",
        }
    }
}

/// Encryption at rest. ECR fixes it when the repository is created.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.kmsKey) || self.encryptionType != 'AES256'")
        .message("encryption.kmsKey goes with encryptionType KMS or KMS_DSSE only; remove kmsKey, or set encryptionType to KMS")
        .field_path(".kmsKey")
)]
#[serde(rename_all = "camelCase")]
pub struct Encryption {
    /// `AES256` (keys of S3), `KMS` (a key of AWS KMS) or `KMS_DSSE` (two layers with a key of KMS; only in the
    /// GovCloud Regions). Required.
    pub encryption_type: EncryptionType,

    /// The key: its id, its ARN, or an alias. Id and ARN of one key are equal; an alias cannot be told apart from
    /// another key without rights on KMS, so it is used at creation and not checked later. 1 to 2,048 characters.
    /// Default: the AWS managed key for ECR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub kms_key: Option<String>,
}

/// Tags of an AWS resource, by key. The operator takes one of ECR's fifty for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tags(pub BTreeMap<String, String>);

impl JsonSchema for Tags {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Tags".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "maxProperties": MAX_TAGS,
            "additionalProperties": { "type": "string", "maxLength": 256 },
            "x-kubernetes-validations": [
                {
                    "rule": "self.all(key, !key.lowerAscii().startsWith('aws:'))",
                    "message": "tags: keys that begin with 'aws:' belong to AWS; choose another key"
                },
                {
                    "rule": "self.all(key, !key.startsWith('ecr-operator.dev/'))",
                    "message": "tags: keys that begin with 'ecr-operator.dev/' belong to the operator; choose another key"
                },
                {
                    "rule": "self.all(key, size(key) >= 1 && size(key) <= 128)",
                    "message": "tags: a key has 1 to 128 characters"
                }
            ]
        })
    }
}

/// Tags a user may set: ECR's fifty less the one that says whose the repository is.
pub const MAX_TAGS: usize = 49;

impl Tags {
    /// The key that is not for users, if there is one; the schema refuses it too, an older stored object may have it.
    #[must_use]
    pub fn reserved(&self) -> Option<&str> {
        self.0
            .keys()
            .find(|key| key.to_ascii_lowercase().starts_with("aws:") || key.starts_with(super::TAG_PREFIX))
            .map(String::as_str)
    }
}
