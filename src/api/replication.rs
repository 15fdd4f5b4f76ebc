//! ReplicationConfig: a part of what a registry replicates. All of a registry are put together into the one document
//! that ECR has.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    names::{AccountId, Region, RepositoryName},
    repository::{DriftStatus, RegistryRef},
    span::Span,
    status::CommonStatus,
};

/// Images that are replicated to other Regions and accounts.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "ReplicationConfig",
    plural = "replicationconfigs",
    shortname = "ecrrc",
    category = "ecr",
    status = "ReplicationConfigStatus",
    selectable = ".spec.registryRef.name",
    derive = "PartialEq",
    doc = "Images that are replicated to other Regions and accounts. All ReplicationConfigs of a registry are put together into the one document that ECR has; rules that nobody here wrote stay in it.",
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registryRef.name"),
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
        .message("spec.registryRef cannot be changed: create another ReplicationConfig for the other registry instead")
        .field_path(".registryRef")
)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationConfigSpec {
    /// The Registry that replicates. Required, cannot be changed.
    pub registry_ref: RegistryRef,

    /// What is replicated to where, in ECR's own terms: a rule of AWS's `replicationConfiguration` is valid here. Rules
    /// of the same destinations and the same `deleteReplication`, here and in other ReplicationConfigs of the registry,
    /// become one with all their filters. 1 to 25; ECR takes 25 rules and 25 different destinations for a registry.
    /// Required.
    #[schemars(length(min = 1, max = 25))]
    pub rules: Vec<ReplicationRule>,

    /// Whether images that were pushed before a rule are replicated, too: ECR itself replicates only what is pushed from
    /// then on. `OnChange` starts a backfill of ECR whenever a rule of this object brings repositories to a destination
    /// that the registry did not replicate there before, once for each destination, whatever number of objects change
    /// together. It takes all that the registry replicates to the destination, and AWS charges for what is sent. What was
    /// in force when this was set is not sent. Default: `Never`.
    #[serde(default)]
    pub backfill: Backfill,

    /// Asks ECR now and then whether images have arrived. Default: it is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,

    /// Pauses the object: nothing is looked at or written for it, and what it has in ECR stays. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// When backfills are started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Backfill {
    #[default]
    Never,
    OnChange,
}

/// How it is verified that images have arrived: those that clusters are known to use, and the newest of each repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// How often. 10m to 7d. Default: 6h.
    #[serde(default = "six_hours")]
    #[x_kube(validation = Rule::new("self.matches('^[1-7]d$') || !self.contains('d') && duration(self) >= duration('10m') && duration(self) <= duration('168h')")
        .message("spec.verify.interval is 10m to 7d, such as 30m, 6h or 1d"))]
    pub interval: Span,

    /// How many calls one round may take: one for each image, and one for each 1,000 images of a repository to find the
    /// newest. Where that is not enough, the next round goes on where this one has ended. 10 to 2,000. Default: 200.
    #[serde(default = "two_hundred")]
    #[schemars(range(min = 10, max = 2_000))]
    pub max_calls: u32,
}

const fn six_hours() -> Span {
    Span::seconds(6 * 3_600)
}

const fn two_hundred() -> u32 {
    200
}

/// What is replicated to where.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationRule {
    /// Where images are replicated to. 1 to 25, each once. Required.
    #[schemars(
        length(min = 1, max = 25),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["region", "registryId"])
    )]
    pub destinations: Vec<ReplicationDestination>,

    /// Which repositories are replicated. 1 to 100, each once. Default: every repository of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 100),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["filter"])
    )]
    pub repository_filters: Option<Vec<ReplicationFilter>>,

    /// Whether deletions are replicated, too. Default: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_replication: Option<DeleteReplication>,
}

/// A registry that images are replicated to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationDestination {
    /// The AWS Region, such as `us-east-1`. Required.
    pub region: Region,

    /// The AWS account, twelve digits; the registry's own for another Region of it. Required.
    pub registry_id: AccountId,
}

/// Repositories by the beginning of their names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationFilter {
    /// What the names begin with, as text: `team-a/` is a whole path segment, `team-a` also holds `team-ab/web`. 2 to 256
    /// characters. Required.
    #[schemars(
        length(min = 2, max = 256),
        regex(pattern = r"^(?:[a-z0-9]+(?:[._-][a-z0-9]*)*/)*[a-z0-9]*(?:[._-][a-z0-9]*)*$")
    )]
    pub filter: String,

    /// How the filter is compared. ECR knows `PREFIX_MATCH` alone. Required.
    pub filter_type: FilterType,
}

/// How a filter is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum FilterType {
    #[serde(rename = "PREFIX_MATCH")]
    PrefixMatch,
}

/// Whether deletions are replicated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeleteReplication {
    /// Whether a deletion in the registry is carried over: of a tag, of an image, and what a lifecycle policy expires.
    /// It needs `spec.replication.allowDelete` of the Registry. It waits until it is known which images the destinations
    /// use, for which each needs a Registry in this cluster, and until those are kept from clean-up at the source.
    /// Required.
    pub enabled: bool,
}

/// What was seen of the object's rules in ECR.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationConfigStatus {
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the status"
    )]
    pub common: CommonStatus,

    /// The rules of this object that are in ECR, as they were put last; while the object is held up they stay. At most
    /// 25. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25))]
    pub in_force: Vec<ReplicationRule>,

    /// What the registry policies of destinations in other accounts have to say, or nothing arrives there. Those are left out
    /// that a Registry of this cluster keeps: one that manages the destination and names this account in
    /// `spec.replication.from`. Whether the others have it cannot be seen from here. At most 25. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25))]
    pub policies_needed: Vec<PolicyNeeded>,

    /// The last backfill of each destination. At most 25. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25))]
    pub backfills: Vec<BackfillStatus>,

    /// What ECR said when it was asked last whether images have arrived. Default: absent until it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,

    /// Rules that somebody else had changed or removed. Default: absent while none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,
}

/// What a registry policy has to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyNeeded {
    /// The registry.
    #[serde(flatten)]
    pub destination: ReplicationDestination,

    /// The policy as JSON, with one statement. Required.
    #[schemars(length(max = 1024))]
    pub policy: String,
}

/// A backfill as ECR shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillStatus {
    /// Where it sends images to.
    #[serde(flatten)]
    pub destination: ReplicationDestination,

    /// `Waiting` before it was started, then what ECR calls it: `PREPARING`, `IN_PROGRESS`, `COMPLETE`, `FAILED`,
    /// `STOPPING` or `STOPPED`. Required.
    #[schemars(length(max = 64))]
    pub state: String,

    /// By which ECR knows it. Default: absent before it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub id: Option<String>,

    /// How many images there are to send, one for each tag. Default: 0, also while ECR does not say.
    #[serde(default)]
    pub total: u32,

    /// How many have arrived. Default: 0.
    #[serde(default)]
    pub complete: u32,

    /// How many have not, and will not. Default: 0.
    #[serde(default)]
    pub failed: u32,

    /// Why it failed, in ECR's words. Default: absent where it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub failure_code: Option<String>,

    /// Some of the images that failed. At most 5. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub examples: Vec<ImageOnItsWay>,

    /// When it was started. Default: absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub started_at: Option<Timestamp>,

    /// When it ended. Default: absent before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub ended_at: Option<Timestamp>,
}

/// An image that has not arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageOnItsWay {
    /// Its repository. Required.
    #[schemars(length(max = 256))]
    pub repository: String,

    /// Its digest, or its tag where ECR names no digest. Required.
    #[schemars(length(max = 300))]
    pub image: String,

    /// Why, in ECR's words. Default: absent where ECR does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub failure_code: Option<String>,
}

/// What ECR said of images that are replicated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// When it was asked. Required.
    #[schemars(with = "MicroTime")]
    pub at: Timestamp,

    /// Of how many images it was asked. Required.
    pub images: u32,

    /// The last repository that the calls were enough for; the next round goes on after it. Default: absent where they
    /// were enough for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<RepositoryName>,

    /// Why it could not be asked. Default: absent where it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,

    /// The answers for each destination of the object's rules. At most 25. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25))]
    pub destinations: Vec<DestinationStatus>,
}

/// How the images fare on their way to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationStatus {
    /// Where they go.
    #[serde(flatten)]
    pub destination: ReplicationDestination,

    /// How many have arrived. Required.
    pub complete: u32,

    /// How many are on their way. Required.
    pub in_progress: u32,

    /// How many have failed. Required.
    pub failed: u32,

    /// How many ECR has never sent there: they were pushed before the rule, and no backfill has taken them. Required.
    pub not_replicated: u32,

    /// Some that have failed or were never sent. At most 5. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub examples: Vec<ImageOnItsWay>,
}
