//! ImagePromotion: which image of a repository runs in which workloads, and how it gets there and back.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

mod gates;
pub(crate) mod request;
mod rollout;
mod source;
mod status;
mod target;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    gates::{
        ApprovalGate, CosignKey, Gates, IgnoredFinding, OnUnavailable, ScanGate, SignatureGate, Weekday, Window,
        WindowKind,
    },
    rollout::{
        JobVerification, PrometheusVerification, RollbackSettings, RolloutOrder, RolloutSettings, Until, Verification,
    },
    source::{Direction, Filter, From, Order, Policy, PromotionRef, RepositoryRef, Semver, Source, TagPolicy},
    status::{
        Actor, Approval, Blocked, Failure, Gate, HistoryEntry, Hold, HoldKind, ImagePromotionStatus, ImageStatus,
        Outcome, Phase, Rejection, RolloutKind, RolloutStatus, TargetPhase, TargetStatus,
    },
    target::{Target, TargetKind, Via, ViaRef},
};
use super::{
    names::{Digest, RepositoryName, Tag},
    repository::RegistryRef,
    span::Span,
};

/// Keeps workloads on the image that a policy picks and that passed its gates, and takes them back by itself.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "ImagePromotion",
    plural = "imagepromotions",
    namespaced,
    shortname = "ecrip",
    category = "ecr",
    status = "ImagePromotionStatus",
    derive = "PartialEq",
    doc = "Keeps workloads on the image of a repository that a policy picks and that passed its gates, by digest, and takes them back to the last good one by itself.",
    printcolumn(name = "Current", type_ = "string", json_path = ".status.current.name"),
    printcolumn(name = "Candidate", type_ = "string", json_path = ".status.candidate.name"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Waits for", type_ = "string", json_path = ".status.blockedBy[0].gate"),
    printcolumn(name = "Last good", type_ = "string", json_path = ".status.lastGood.name", priority = 1),
    printcolumn(name = "Held", type_ = "string", json_path = ".status.hold.kind", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // With its namespace written out, an admission policy sees it: a schema's rules are not told their object's namespace.
    validation = Rule::new(
        "!has(self.spec.source.from) || self.spec.source.from.promotionRef.name != self.metadata.name || has(self.spec.source.from.promotionRef.__namespace__)"
    )
    .message("spec.source.from.promotionRef names this promotion itself: nothing would ever be promoted; name the promotion that comes before it"),
)]
#[x_kube(
    validation = Rule::new("!has(self.pin) || !has(self.reject) || !self.reject.exists(r, r.digest == self.pin.digest)")
        .message("spec.pin names a digest that spec.reject forbids; remove it from one of them")
        .field_path(".pin"),
    validation = Rule::new("has(self.targets) && self.targets.size() > 0 || has(self.copyTo) || has(self.onVerified) && !has(self.verification)")
        .message("spec has no targets, no copyTo, and no onVerified that tags what the policy picks: there is nothing to do; name the workloads that are to run the image"),
    validation = Rule::new("!has(self.targets) || !self.targets.exists(t, has(t.via) && t.via == 'Publish') || has(self.publishTo)")
        .message("spec.publishTo is required where a target's via is Publish")
        .field_path(".targets")
)]
#[serde(rename_all = "camelCase")]
pub struct ImagePromotionSpec {
    /// Where images come from and which one is wanted. Required.
    pub source: Source,

    /// Copies the image to another repository first, digest preserved; the targets run the copy. Default: the targets
    /// run the image of the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_to: Option<CopyTo>,

    /// The workloads that run the image, in this namespace; several move as one. At most 16. Default: none, which is of
    /// use with `copyTo` or `onVerified` only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub targets: Vec<Target>,

    /// What an image must pass before it is rolled out. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<Gates>,

    /// How it is rolled out, and when that has failed. Default: as each of its fields says.
    #[serde(default)]
    pub rollout: RolloutSettings,

    /// What must succeed after the rollout, in order, before the image counts as good. At most 8. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub verification: Vec<Verification>,

    /// What happens when a rollout or its verification fails. Default: as each of its fields says.
    #[serde(default)]
    pub rollback: RollbackSettings,

    /// Stay on this image, whatever the policy picks; gates do not apply to it. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,

    /// Images that must never be rolled out. At most 50. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub reject: Vec<Reject>,

    /// The tag that the last good image gets in its repository, for promotions in other clusters to follow. Default:
    /// absent, no tag is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_verified: Option<OnVerified>,

    /// An HTTP address that is told of the approved digest, for targets with `via: Publish`. The installation must
    /// allow it. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_to: Option<PublishTo>,

    /// How often the repository is looked at; pushes that an event tells of are seen at once. 30s to 1d. Default: 5m.
    #[serde(default = "five_minutes")]
    #[x_kube(validation = Rule::new("self == '1d' || !self.contains('d') && duration(self) >= duration('30s') && duration(self) <= duration('24h')")
        .message("spec.interval is 30s to 1d, such as 90s, 5m or 1h30m"))]
    pub interval: Span,

    /// How many ended rollouts the status keeps. 1 to 50. Default: 10.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 50))]
    pub history_limit: u8,

    /// Pauses the object: nothing is looked at or written until it is false again. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

fn five_minutes() -> Span {
    Span::seconds(300)
}

fn ten() -> u8 {
    10
}

/// Where a copy goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.repositoryRef) != (has(self.registryRef) && has(self.repositoryName)) && has(self.registryRef) == has(self.repositoryName)")
        .message("copyTo takes either repositoryRef, or registryRef together with repositoryName")
)]
#[serde(rename_all = "camelCase")]
pub struct CopyTo {
    /// A Repository of this namespace. Default: absent; then `registryRef` and `repositoryName` are required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_ref: Option<RepositoryRef>,

    /// The Registry of the destination. Default: absent; then `repositoryRef` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_ref: Option<RegistryRef>,

    /// The name of the repository in that registry; it must exist. Default: absent; then `repositoryRef` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_name: Option<RepositoryName>,

    /// The tag of the copy. A tag that is on another image already is not moved; the copy then is reported as blocked.
    /// Default: the tag under which the image was picked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.startsWith('in-use.') && !self.matches('^sha256-[0-9a-f]{64}')")
        .message("copyTo.tag: tags that begin with 'in-use.' are the operator's, those that begin with 'sha256-' and a digest are of signatures; choose another"))]
    pub tag: Option<Tag>,
}

/// An image to stay on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// The image. Required.
    pub digest: Digest,

    /// Why, for whoever reads it later; at most 256 characters. Required.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
}

/// An image that must not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reject {
    /// The image. Required.
    pub digest: Digest,

    /// Why, for whoever reads it later; at most 256 characters. Required.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
}

/// What is done with an image that proved good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnVerified {
    /// The tag to move to it, such as `staging-verified`; nobody else may move that tag. When a later check fails, it
    /// goes back to the image before. The repository must allow the tag to be moved. Required.
    #[x_kube(validation = Rule::new("!self.startsWith('in-use.') && !self.matches('^sha256-[0-9a-f]{64}')")
        .message("onVerified.tag: tags that begin with 'in-use.' are the operator's, those that begin with 'sha256-' and a digest are of signatures; choose another"))]
    pub tag: Tag,
}

/// Who is told of an approved digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishTo {
    /// The address that gets a POST with a signed JSON body, an `http` or `https` URL of at most 2,048 characters. It
    /// must begin with one of the installation's allowed addresses. Required.
    #[schemars(length(min = 10, max = 2048), regex(pattern = r"^https?://[^\s@]+$"))]
    pub url: String,
}
