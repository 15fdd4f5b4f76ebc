//! LifecyclePolicy and ClusterLifecyclePolicy: clean-up that many repositories share.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

mod rule;
mod status;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use rule::LIST_RULES;
pub use rule::{
    ActionType, CountType, CountUnit, LifecycleAction, LifecycleRule, LifecycleSelection, StorageClass, TagStatus,
};
pub use status::{AppliedLifecycle, DoomedImage, LifecyclePolicyStatus, LifecyclePreview, PolicyLine};

use super::names::RepositoryName;

/// The most rules of a policy: ECR takes 50, and two are kept for those that protect images in use.
pub const MOST_RULES: usize = 48;

/// Clean-up of images for the Repositories of a namespace that it selects.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "LifecyclePolicy",
    plural = "lifecyclepolicies",
    namespaced,
    shortname = "ecrlp",
    category = "ecr",
    status = "LifecyclePolicyStatus",
    derive = "PartialEq",
    doc = "Clean-up of images by age and count for the Repositories of its namespace that it selects. Where several select one Repository, one that names it beats one that selects it by labels, and both beat a ClusterLifecyclePolicy.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(name = "Repositories", type_ = "integer", json_path = ".status.repositories"),
    printcolumn(name = "Applied", type_ = "integer", json_path = ".status.applied"),
    printcolumn(name = "Blocked", type_ = "integer", json_path = ".status.blocked"),
    printcolumn(name = "Images to expire", type_ = "integer", json_path = ".status.imagesToExpire"),
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
    validation = Rule::new("has(self.repositorySelector) != has(self.repositoryNames)")
        .message("spec takes exactly one of repositorySelector and repositoryNames; repositorySelector: {} means every Repository of the namespace")
)]
#[serde(rename_all = "camelCase")]
pub struct LifecyclePolicySpec {
    /// The Repositories of the namespace meant, by their labels; `{}` means all of them. Exactly one of this and
    /// `repositoryNames` is to be given. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_selector: Option<LabelSelector>,

    /// The Repositories of the namespace meant, by their names in ECR. 1 to 500. Exactly one of this and
    /// `repositorySelector` is to be given. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub repository_names: Option<Vec<RepositoryName>>,

    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the spec"
    )]
    pub cleanup: Cleanup,
}

/// Clean-up of images for Repositories of many namespaces.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "ClusterLifecyclePolicy",
    plural = "clusterlifecyclepolicies",
    shortname = "ecrclp",
    category = "ecr",
    status = "LifecyclePolicyStatus",
    derive = "PartialEq",
    doc = "Clean-up of images by age and count for Repositories of many namespaces. Where a LifecyclePolicy of the namespace selects a Repository too, that one applies.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", priority = 1),
    printcolumn(name = "Repositories", type_ = "integer", json_path = ".status.repositories"),
    printcolumn(name = "Applied", type_ = "integer", json_path = ".status.applied"),
    printcolumn(name = "Blocked", type_ = "integer", json_path = ".status.blocked"),
    printcolumn(name = "Images to expire", type_ = "integer", json_path = ".status.imagesToExpire"),
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
    validation = Rule::new("has(self.repositorySelector) != has(self.repositoryNames)")
        .message("spec takes exactly one of repositorySelector and repositoryNames; repositorySelector: {} means every Repository of the namespaces")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterLifecyclePolicySpec {
    /// The namespaces whose Repositories are meant, by their labels; `{}` means every namespace. Required.
    pub namespace_selector: LabelSelector,

    /// The Repositories meant, by their labels; `{}` means all of them. Exactly one of this and `repositoryNames` is to
    /// be given. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_selector: Option<LabelSelector>,

    /// The Repositories meant, by their names in ECR. 1 to 500. Exactly one of this and `repositorySelector` is to be
    /// given. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub repository_names: Option<Vec<RepositoryName>>,

    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the spec"
    )]
    pub cleanup: Cleanup,
}

/// What is cleaned up, and how carefully.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cleanup {
    /// The rules, in ECR's own terms: what AWS's documentation gives as JSON is valid here. 1 to 48: ECR takes 50, and two
    /// are kept for those that protect images in use. The whole document, which is composed from them, may have 30,720
    /// characters. Required.
    #[schemars(length(min = 1, max = 48))]
    #[x_kube(
        validation = Rule::new(LIST_RULES[0].0).message(LIST_RULES[0].1),
        validation = Rule::new(LIST_RULES[1].0).message(LIST_RULES[1].1),
        validation = Rule::new(LIST_RULES[2].0).message(LIST_RULES[2].1),
        validation = Rule::new(LIST_RULES[3].0).message(LIST_RULES[3].1),
        validation = Rule::new(LIST_RULES[4].0).message(LIST_RULES[4].1),
        validation = Rule::new(LIST_RULES[5].0).message(LIST_RULES[5].1)
    )]
    pub rules: Vec<LifecycleRule>,

    /// `Enforce`: the rules are put on the repositories. `Preview`: ECR only works out what they would do, which is shown
    /// in status; what is on the repositories stays. Default: Enforce.
    #[serde(default)]
    pub mode: CleanupMode,

    /// How much may go at once from one repository before somebody has to look. Default: 20 % of its images.
    #[serde(default)]
    pub guard: Guard,

    /// Whether images that a cluster runs, or is about to run, are kept from expiring and from the archive by rules that
    /// are put before these. Default: true.
    #[serde(default = "yes")]
    pub protect_in_use: bool,

    /// Pauses the object: its repositories stay as they are, new ones get nothing. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

fn yes() -> bool {
    true
}

/// Whether rules are put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum CleanupMode {
    #[default]
    Enforce,
    Preview,
}

/// How much may expire or be archived at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guard {
    /// `Enabled`: a change of the rules is previewed by ECR, and is put only where it stays within the limits. `Disabled`: it
    /// is put at once; only images in use are still looked after. Default: Enabled.
    #[serde(default)]
    pub mode: GuardMode,

    /// How many images of one repository may expire or be archived at once. Default: no limit of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_images: Option<u32>,

    /// How many per cent of the images of one repository may expire or be archived at once, 0 to 100. Default: 20 where
    /// `maxImages` is absent, else no limit of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_percent: Option<u32>,
}

/// Whether the guard is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum GuardMode {
    #[default]
    Enabled,
    Disabled,
}
