//! RepositoryCreationTemplate: how repositories begin that ECR makes by itself.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ecr::{EncryptionType, ExclusionFilter, ImageTagMutability, Tags},
    lifecycle::{LIST_RULES, LifecycleRule},
    names::{KmsKeyArn, RoleArn, TemplatePrefix},
    prefixed::{OwnedStatus, RetainOrDelete},
    repository::{Adoption, DriftStatus, RegistryRef},
    status::CommonStatus,
};

/// A repository creation template of a registry.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "RepositoryCreationTemplate",
    plural = "repositorycreationtemplates",
    shortname = "ecrrct",
    category = "ecr",
    status = "RepositoryCreationTemplateStatus",
    selectable = ".spec.registryRef.name",
    derive = "PartialEq",
    doc = "A repository creation template of a registry: the settings of repositories below a prefix that ECR makes by itself, for replication, for pull-through cache rules or on a push. Repositories that exist already are not changed by it.",
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registryRef.name"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.prefix"),
    printcolumn(name = "Applied for", type_ = "string", json_path = ".spec.appliedFor"),
    printcolumn(
        name = "Mutability",
        type_ = "string",
        json_path = ".spec.imageTagMutability",
        priority = 1
    ),
    printcolumn(
        name = "Deletion",
        type_ = "string",
        json_path = ".spec.deletionPolicy",
        priority = 1
    ),
    printcolumn(
        name = "Drift repaired",
        type_ = "integer",
        json_path = ".status.drift.repaired",
        priority = 1
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.registryRef.name == oldSelf.registryRef.name")
        .message("spec.registryRef cannot be changed: create another RepositoryCreationTemplate for the other registry instead")
        .field_path(".registryRef"),
    validation = Rule::new("self.prefix == oldSelf.prefix")
        .message("spec.prefix cannot be changed: ECR fixes it at creation; create another RepositoryCreationTemplate instead")
        .field_path(".prefix"),
    validation = Rule::new(
        "(has(self.imageTagMutability) && self.imageTagMutability.endsWith('_WITH_EXCLUSION')) == has(self.imageTagMutabilityExclusionFilters)"
    )
    .message("spec.imageTagMutabilityExclusionFilters go with imageTagMutability MUTABLE_WITH_EXCLUSION or IMMUTABLE_WITH_EXCLUSION, and with no other")
    .field_path(".imageTagMutabilityExclusionFilters"),
    validation = Rule::new(
        "has(self.customRoleArn) || !((has(self.resourceTags) && self.resourceTags.size() > 0) || (has(self.encryption) && self.encryption.encryptionType != 'AES256'))"
    )
    .message("spec.customRoleArn is required with resourceTags and with a KMS key: without it, ECR cannot make the repositories")
)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryCreationTemplateSpec {
    /// The Registry the template is in. Required, cannot be changed.
    pub registry_ref: RegistryRef,

    /// What the names of the repositories begin with that the template is for, 1 to 256 characters, such as `team-a`;
    /// `ROOT` means every name that no other template has. Of several the longest counts. Required, cannot be changed.
    #[x_kube(validation = Rule::new("self != 'ecr-operator' && !self.startsWith('ecr-operator/')")
        .message("spec.prefix: names below 'ecr-operator/' belong to the operator; choose another prefix"))]
    pub prefix: TemplatePrefix,

    /// When ECR makes repositories by the template: `REPLICATION`, `PULL_THROUGH_CACHE`, `CREATE_ON_PUSH`. 1 to 3, each
    /// once. Required.
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub applied_for: Vec<AppliedFor>,

    /// What the template is for, at most 256 characters; an empty text means: none. Default: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub description: Option<String>,

    /// Whether tags can be moved to another image: `MUTABLE`, `IMMUTABLE`, or either `_WITH_EXCLUSION` for the tags that
    /// the filters name. Default: ECR's at creation, MUTABLE; not managed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<ImageTagMutability>,

    /// Tags excepted from the mutability; required with a `_WITH_EXCLUSION` value, refused otherwise. 1 to 5. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5))]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ExclusionFilter>>,

    /// Encryption at rest of the repositories. KMS needs `customRoleArn`. Default: ECR's at creation, AES256; not managed
    /// afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<TemplateEncryption>,

    /// Tags of the repositories in AWS, at most 49; all the tags of the template. They need `customRoleArn`. `{}` means:
    /// none. Default: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_tags: Option<Tags>,

    /// The policy of the repositories in IAM's grammar, as AWS documents it for ECR, written as YAML or JSON; at most 10,240
    /// characters. `{}` means: none. Default: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub repository_policy: Option<serde_json::Map<String, serde_json::Value>>,

    /// The lifecycle policy of the repositories. Images in use are kept by it only where a Repository and a LifecyclePolicy
    /// take over. Default: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_policy: Option<TemplateLifecycle>,

    /// The IAM role by which ECR makes the repositories; required with `resourceTags` and with a KMS key. It can be changed
    /// and not be taken out. Default: none at creation, not managed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<RoleArn>,

    /// What to do where a template for this prefix exists and belongs to no object. `Never`: report `Exists` and write
    /// nothing. `Adopt`: take it as this object's and manage what the spec names. Default: Never.
    #[serde(default)]
    pub adoption: Adoption,

    /// What becomes of the template when the object is deleted. `Retain`: it stays. `Delete`: it is deleted; repositories and
    /// images stay. Can be changed while the object waits for its deletion. Default: Retain.
    #[serde(default)]
    pub deletion_policy: RetainOrDelete,

    /// Pauses the object: nothing is looked at or written until it is false again, a deletion included. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// An object whose shape is not structural: IAM takes a scalar or a list in many places.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// When ECR makes a repository by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum AppliedFor {
    Replication,
    PullThroughCache,
    CreateOnPush,
}

impl AppliedFor {
    /// As ECR spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replication => "REPLICATION",
            Self::PullThroughCache => "PULL_THROUGH_CACHE",
            Self::CreateOnPush => "CREATE_ON_PUSH",
        }
    }
}

/// Encryption at rest of repositories to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.kmsKey) || self.encryptionType != 'AES256'")
        .message("encryption.kmsKey goes with encryptionType KMS or KMS_DSSE only; remove kmsKey, or set encryptionType to KMS")
        .field_path(".kmsKey")
)]
#[serde(rename_all = "camelCase")]
pub struct TemplateEncryption {
    /// `AES256` (keys of S3), `KMS` (a key of AWS KMS) or `KMS_DSSE` (two layers with a key of KMS; only in the
    /// GovCloud Regions). Required.
    pub encryption_type: EncryptionType,

    /// The key as its full ARN, which is the only form that templates take; at most 2,048 characters. Default: the AWS
    /// managed key for ECR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kms_key: Option<KmsKeyArn>,
}

/// A lifecycle policy in ECR's own terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateLifecycle {
    /// The rules, as AWS documents them, at most 50; the document has at most 30,720 characters. An empty list means: no
    /// lifecycle policy. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 50))]
    #[x_kube(
        validation = Rule::new(LIST_RULES[0].0).message(LIST_RULES[0].1),
        validation = Rule::new(LIST_RULES[1].0).message(LIST_RULES[1].1),
        validation = Rule::new(LIST_RULES[2].0).message(LIST_RULES[2].1),
        validation = Rule::new(LIST_RULES[3].0).message(LIST_RULES[3].1),
        validation = Rule::new(LIST_RULES[4].0).message(LIST_RULES[4].1),
        validation = Rule::new(LIST_RULES[5].0).message(LIST_RULES[5].1)
    )]
    pub rules: Vec<LifecycleRule>,
}

/// What was seen of the template.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryCreationTemplateStatus {
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the status"
    )]
    pub common: CommonStatus,

    /// Which template in ECR is this object's. Default: absent until one was asked for or adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned: Option<OwnedStatus>,

    /// Changes behind our back that were put right. Default: absent while there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,

    /// A digest of everything the object asks for, at most 64 characters. Default: absent until the object was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub desired_hash: Option<String>,
}
