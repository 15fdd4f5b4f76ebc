//! ReplicationConfig: a part of what a registry replicates. All of a registry are put together into the one document
//! that ECR has.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    names::{AccountId, Region},
    repository::{DriftStatus, RegistryRef},
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

    /// Pauses the object: nothing is looked at or written for it, and what it has in ECR stays. Default: false.
    #[serde(default)]
    pub suspend: bool,
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

    /// Rules that somebody else had changed or removed. Default: absent while none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,
}
