//! What became of a policy, repository by repository.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::status::CommonStatus;

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifecyclePolicyStatus {
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the status"
    )]
    pub common: CommonStatus,

    /// To how many Repositories it applies: those it selects and for which no other policy comes first. Default: 0.
    #[serde(default)]
    pub repositories: u32,

    /// On how many of them its rules are in force. Default: 0.
    #[serde(default)]
    pub applied: u32,

    /// On how many of them something keeps its rules from being put: the guard, an image in use, a tie with another policy,
    /// a refusal of ECR. Default: 0.
    #[serde(default)]
    pub blocked: u32,

    /// How many Repositories it selects for which another policy comes first. Default: 0.
    #[serde(default)]
    pub overruled: u32,

    /// How many images the rules would expire where they are not in force yet, by ECR's own preview. Default: 0.
    #[serde(default)]
    pub images_to_expire: u64,

    /// How many images they would move into the archive there. Default: 0.
    #[serde(default)]
    pub images_to_archive: u64,

    /// How many bytes these images have together, layers that they share counted for each. Default: 0.
    #[serde(default)]
    pub bytes: u64,

    /// The 20 Repositories with the most to tell: blocked ones first, then by how many images would go. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub worst: Vec<PolicyLine>,
}

impl LifecyclePolicyStatus {
    /// The conditions of the status, none where it was never written.
    #[must_use]
    pub fn conditions(status: Option<&Self>) -> &[Condition] {
        status.map_or(&[], |status| &status.common.conditions)
    }
}

/// What became of a policy on one Repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyLine {
    /// The Repository, as `namespace/name`. At most 380 characters. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 380))]
    pub repository: String,

    /// A reason as conditions have it, such as `Settled`, `Guarded` or `Denied`. At most 64 characters. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub reason: String,

    /// What is wrong or waited for there. At most 1,024 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,

    /// How many images would expire. Default: 0.
    #[serde(default)]
    pub images_to_expire: u64,

    /// How many images would be moved into the archive. Default: 0.
    #[serde(default)]
    pub images_to_archive: u64,

    /// What accepts exactly this preview, as the value of the annotation `ecr-operator.dev/accept-lifecycle-preview` on the
    /// Repository or on the policy. At most 64 characters. Default: empty where nothing waits for it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub token: String,
}

/// What a Repository knows of its clean-up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppliedLifecycle {
    /// The policy that applies, as `LifecyclePolicy <name>` or `ClusterLifecyclePolicy <name>`. At most 300 characters.
    /// Default: empty where none does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 300))]
    pub policy: String,

    /// A reason as conditions have it: `Settled` where the policy is in force, `Observed` where it is only previewed, or why
    /// it is not. At most 64 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,

    /// What is wrong or waited for. At most 1,024 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,

    /// A digest of the document that this object put last. A document that somebody else put has another one, and is not
    /// taken off with a policy that no longer applies. At most 64 characters. Default: empty where it put none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub put: String,

    /// A digest of the document that is about to be put, written before it is: should the answer be lost, it is known as this
    /// object's own. At most 64 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub putting: String,

    /// Whether images in use keep a tag: a document with the rules that heed it is in force, or about to be. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub protects: bool,

    /// A digest of what was asked for when `reason` was found: the document, the mode, the guard, what was accepted. While
    /// it is unchanged, nothing is looked at before the next full check. At most 64 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub asked: String,

    /// What ECR says the policy would do, where it is not in force. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<LifecyclePreview>,
}

/// What a policy would do to a repository, by ECR's own preview.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifecyclePreview {
    /// What accepts exactly this preview, as the value of the annotation `ecr-operator.dev/accept-lifecycle-preview` on the
    /// Repository or on the policy, several separated by commas. At most 64 characters. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub token: String,

    /// How many images the repository holds outside the archive. Default: 0.
    #[serde(default)]
    pub images: u64,

    /// How many images would expire. Default: 0.
    #[serde(default)]
    pub images_to_expire: u64,

    /// How many images would be moved into the archive. Default: 0.
    #[serde(default)]
    pub images_to_archive: u64,

    /// How many bytes these images have together, layers that they share counted for each. Default: 0.
    #[serde(default)]
    pub bytes: u64,

    /// Up to 10 of these images, the oldest first. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub examples: Vec<DoomedImage>,

    /// When ECR was asked. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>")]
    pub at: Option<Timestamp>,
}

/// An image that a policy would act on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DoomedImage {
    /// Its digest. At most 80 characters. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 80))]
    pub digest: String,

    /// Up to 5 of its tags, each of at most 300 characters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5), inner(length(max = 300)))]
    pub tags: Vec<String>,

    /// What becomes of it: `expire` or `transition`. At most 20 characters. Default: empty.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub action: String,

    /// The priority of the rule that says so, in the document as it is composed. Default: 0.
    #[serde(default)]
    pub rule_priority: u32,
}
