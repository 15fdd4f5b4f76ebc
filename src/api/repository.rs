//! Repository: one repository of a registry, its settings, its policy and its tags.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

mod replica;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::replica::ReplicaStatus;
use super::{
    ecr::{Encryption, ExclusionFilter, ImageTagMutability, Tags},
    lifecycle::AppliedLifecycle,
    names::{AccountId, RepositoryName},
    status::CommonStatus,
};

/// A repository in Amazon ECR. A field that is left out is decided once, when the repository is created, and is left
/// alone from then on.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "Repository",
    plural = "repositories",
    namespaced,
    shortname = "ecrrepo",
    category = "ecr",
    status = "RepositoryStatus",
    selectable = ".spec.registryRef.name",
    derive = "PartialEq",
    doc = "A repository in Amazon ECR. A field that is left out is decided once, when the repository is created, and is left alone from then on.",
    validation = Rule::new("self.metadata.name.size() <= 128")
        .message("metadata.name has at most 128 characters, so that the tag that marks the repository as this object's can hold it"),
    validation = Rule::new("has(self.spec.name) || self.metadata.name.size() >= 1 && self.metadata.name.matches('^[a-z0-9]+((\\\\.|_|__|-+)[a-z0-9]+)*$')")
        .message("metadata.name is not a valid last part of a repository name; set spec.name"),
    printcolumn(name = "URI", type_ = "string", json_path = ".status.uri"),
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registryRef.name"),
    printcolumn(name = "Mutability", type_ = "string", json_path = ".spec.imageTagMutability", priority = 1),
    printcolumn(name = "Deletion", type_ = "string", json_path = ".spec.deletionPolicy", priority = 1),
    printcolumn(name = "Clean-up", type_ = "string", json_path = ".status.lifecyclePolicy.reason", priority = 1),
    printcolumn(name = "Drift repaired", type_ = "integer", json_path = ".status.drift.repaired", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.registryRef.name == oldSelf.registryRef.name")
        .message("spec.registryRef cannot be changed: create another Repository in the other registry instead")
        .field_path(".registryRef"),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)")
        .message("spec.name cannot be changed, added or removed: ECR does not rename repositories; create another Repository instead")
        .field_path(".name"),
    validation = Rule::new(
        "has(self.encryption) == has(oldSelf.encryption) && (!has(self.encryption) || self.encryption == oldSelf.encryption)"
    )
    .message("spec.encryption cannot be changed, added or removed: ECR fixes it at creation; create another Repository instead")
    .field_path(".encryption"),
    validation = Rule::new(
        "(has(self.imageTagMutability) && self.imageTagMutability.endsWith('_WITH_EXCLUSION')) == has(self.imageTagMutabilityExclusionFilters)"
    )
    .message("spec.imageTagMutabilityExclusionFilters go with imageTagMutability MUTABLE_WITH_EXCLUSION or IMMUTABLE_WITH_EXCLUSION, and with no other")
    .field_path(".imageTagMutabilityExclusionFilters"),
    validation = Rule::new("!has(self.replicaRegistryRefs) || self.replicaRegistryRefs.all(ref, ref.name != self.registryRef.name)")
        .message("spec.replicaRegistryRefs: spec.registryRef has the repository already; name other Registries, or leave this one out")
        .field_path(".replicaRegistryRefs")
)]
#[serde(rename_all = "camelCase")]
pub struct RepositorySpec {
    /// The Registry the repository is in. Required, cannot be changed.
    pub registry_ref: RegistryRef,

    /// Other Registries that have the same repository with the same settings, such as those of other Regions that ECR
    /// replicates to. Each is created, kept and released or deleted like the repository itself, with the rights that the
    /// namespace has there, and by `spec.adoption` where it exists already, which replication may have brought about. What
    /// the spec leaves out is decided by that Registry's `creationDefaults`. A lifecycle policy is not part of it: whatever
    /// is there is left alone. The repository of a Registry that is taken out of the list stays, without the mark of
    /// ownership. At most 10, each named once, and never `spec.registryRef` itself. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 10),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub replica_registry_refs: Vec<RegistryRef>,

    /// The name of the repository in ECR, 2 to 256 characters; names below `ecr-operator/` are the operator's own.
    /// Cannot be changed, added or removed. Default: `<namespace>/<name of the object>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.startsWith('ecr-operator/')")
        .message("spec.name: names below 'ecr-operator/' belong to the operator; choose another name"))]
    pub name: Option<RepositoryName>,

    /// Whether tags can be moved to another image: `MUTABLE`, `IMMUTABLE`, or either `_WITH_EXCLUSION` for the tags that
    /// the filters name. Default at creation: the Registry's `creationDefaults`, else ECR's, MUTABLE; not managed
    /// afterwards. Where images in use are protected, an immutable repository gets one more exclusion filter, `in-use.*`, for the
    /// tags that keep them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<ImageTagMutability>,

    /// Tags excepted from the mutability; required with a `_WITH_EXCLUSION` value, refused otherwise. 1 to 5. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5))]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ExclusionFilter>>,

    /// Encryption at rest; ECR fixes it at creation, so it cannot be changed, added or removed. Default at creation: the
    /// Registry's `creationDefaults`, else ECR's, AES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// Whether images are scanned when they are pushed (ECR's `imageScanningConfiguration.scanOnPush`, for registries
    /// with basic scanning). Default at creation: the Registry's `creationDefaults`, else ECR's, false; not managed
    /// afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_on_push: Option<bool>,

    /// Who else may use the repository. Default: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RepositoryPolicy>,

    /// Tags of the repository in AWS. At most 49; keys of 1 to 128 and values of up to 256 characters; keys that begin
    /// with `aws:` or `ecr-operator.dev/` are refused. Tags that others set stay. `{}` means: none of ours. Default at
    /// creation: the Registry's `creationDefaults`; not managed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,

    /// What to do where a repository of this name exists and belongs to no object. `Never`: report `Exists` and write
    /// nothing. `Adopt`: mark it as this object's and manage what the spec names. Default: Never.
    #[serde(default)]
    pub adoption: Adoption,

    /// What becomes of the repository when the object is deleted. `Retain`: it stays, only the mark of ownership is
    /// taken off. `DeleteIfEmpty`: it is deleted once it holds no image. `DeleteWithImages`: it is deleted with its
    /// images, if the annotation `ecr-operator.dev/delete-images-of` names the repository. Can be changed while the
    /// object waits for its deletion. Default: Retain.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// Pauses the object: nothing is looked at or written until it is false again, a deletion included. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// A reference to a Registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryRef {
    /// The name of the Registry, 1 to 253 characters. Required.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Who may use the repository, as helpers or as a whole document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.access) != has(self.document)")
        .message("spec.policy takes exactly one of access and document")
)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryPolicy {
    /// Grants in few words. They become the statements whose Sid begins with `EcrOperator`; statements of others in the
    /// repository's policy are left alone. `{}` means: none of ours. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,

    /// The whole policy in IAM's grammar, as AWS documents it for ECR, written as YAML or JSON; at most 10,240
    /// characters. It replaces every statement that others put there. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub document: Option<serde_json::Map<String, serde_json::Value>>,
}

/// An object whose shape is not structural: IAM takes a scalar or a list in many places. A `ValidatingAdmissionPolicy`
/// checks what a schema cannot.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// Who may pull images. Default: nobody beyond the rights of IAM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<Grantees>,

    /// Who may push and pull images. Default: nobody beyond the rights of IAM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<Grantees>,

    /// Whose Lambda functions may run images of the repository. Default: nobody's beyond the rights of IAM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<LambdaSources>,
}

/// AWS principals and organizations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grantees {
    /// Account ids, `arn:aws:iam::<account>:root`, or ARNs of roles and users. Never `*`: for everyone of an
    /// organization there is `organizationIds`. At most 50, each of 12 to 512 characters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50), inner(length(max = 512)))]
    #[x_kube(
        validation = Rule::new("self.all(p, p != '*')")
            .message("principals: '*' would open the repository to everyone; name accounts or roles, or use organizationIds"),
        validation = Rule::new(
            "self.all(p, p == '*' || p.matches('^([0-9]{12}|arn:aws[a-z-]*:iam::[0-9]{12}:(root|(role|user)/[A-Za-z0-9+=,.@_/-]+))$'))"
        )
        .message("principals: each is an account id, arn:aws:iam::<account>:root, or the ARN of an IAM role or user")
    )]
    pub principals: Vec<String>,

    /// Organizations of AWS Organizations, as `o-` and 10 to 32 letters and digits: everyone in their accounts. At most
    /// 20. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 34), regex(pattern = "^o-[a-z0-9]{10,32}$")))]
    pub organization_ids: Vec<String>,
}

/// Accounts whose Lambda functions are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LambdaSources {
    /// Account ids whose functions in the registry's Region may run images of the repository. At most 50. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub source_accounts: Vec<AccountId>,
}

/// What to do with a repository that exists already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Adoption {
    #[default]
    Never,
    Adopt,
}

/// What becomes of the repository with its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum DeletionPolicy {
    #[default]
    Retain,
    DeleteIfEmpty,
    DeleteWithImages,
}

/// What was seen of the repository.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryStatus {
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the status"
    )]
    pub common: CommonStatus,

    /// The ARN of the repository, at most 2,048 characters. Default: absent until it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub arn: Option<String>,

    /// The name under which images are pushed and pulled, without a tag; at most 2,048 characters. Default: absent until
    /// it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub uri: Option<String>,

    /// The account that holds the repository, 12 digits. Default: absent until it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<AccountId>,

    /// When ECR created the repository; a repository of the same name with another time is another repository. Default:
    /// absent until it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>")]
    pub created_at: Option<Timestamp>,

    /// The tag keys that this object set; only these are ever removed. At most 49. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 49), inner(length(max = 128)))]
    pub managed_tags: Vec<String>,

    /// The clean-up of the repository. Default: absent where no policy applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifecycle_policy: Option<AppliedLifecycle>,

    /// Changes behind our back that were put right. Default: absent while there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,

    /// The repository in other Registries: those of `spec.replicaRegistryRefs`, and those taken out of it that are not
    /// released yet. At most 20. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 20),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["registry"])
    )]
    pub replicas: Vec<ReplicaStatus>,

    /// A digest of everything the object asks for, the Registry's part included, at most 64 characters. While it is
    /// unchanged, a settled object is looked at only when its turn comes. Default: absent until the object was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub desired_hash: Option<String>,
}

/// Changes behind our back that were put right.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftStatus {
    /// How many settings were put right since the object was created. Default: 0.
    #[serde(default)]
    pub repaired: u32,

    /// What was put right last, in words, at most 1,024 characters. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub last: String,

    /// When it was put right last. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>")]
    pub last_at: Option<Timestamp>,
}

impl Repository {
    /// The name in ECR: `spec.name`, else `<namespace>/<name of the object>`.
    pub fn repository_name(&self) -> Result<RepositoryName, super::names::NameError> {
        if let Some(name) = &self.spec.name {
            return Ok(name.clone());
        }
        let namespace = self.metadata.namespace.as_deref().unwrap_or_default();
        let name = self.metadata.name.as_deref().unwrap_or_default();
        format!("{namespace}/{name}").parse()
    }
}

impl RepositoryStatus {
    /// The conditions of the status, none where it was never written.
    #[must_use]
    pub fn conditions(status: Option<&Self>) -> &[Condition] {
        status.map_or(&[], |status| &status.common.conditions)
    }
}
