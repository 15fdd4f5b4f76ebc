//! The same repository in another registry.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{RegistryRef, Repository, RepositoryStatus};
use crate::api::{names::AccountId, status::CommonStatus};

/// What was seen of the repository in another Registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaStatus {
    /// The name of the Registry, 1 to 253 characters. Required.
    #[schemars(length(min = 1, max = 253))]
    pub registry: String,

    /// The ARN of the repository there, at most 2,048 characters. Default: absent until it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub arn: Option<String>,

    /// The name under which images are pulled from there, without a tag; at most 2,048 characters. Default: absent until it
    /// was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub uri: Option<String>,

    /// The account that holds it, 12 digits. Default: absent until it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_id: Option<AccountId>,

    /// Whether anything was written there, or may have been, so that it is given up one day. Default: false.
    #[serde(default)]
    pub begun: bool,

    /// When ECR created it; a repository of the same name with another time is another repository. Default: absent until it
    /// was seen to be this object's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>")]
    pub created_at: Option<Timestamp>,

    /// The tag keys that this object set there; only these are ever removed. At most 49. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 49), inner(length(max = 128)))]
    pub managed_tags: Vec<String>,

    /// A digest of everything that is asked for there, at most 64 characters. Default: absent until it was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub desired_hash: Option<String>,

    /// Whether it was seen to be as the object asks. Default: false.
    #[serde(default)]
    pub ready: bool,

    /// Why it is or is not ready, as the reasons of the condition `Ready`; at most 64 characters. Default: empty until it was
    /// looked at.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub reason: String,

    /// The same in words, at most 1,024 characters. Default: empty where nothing is to be said.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
}

impl ReplicaStatus {
    /// Whether there may be something of the object's there.
    pub(crate) fn holds(&self) -> bool {
        self.begun || self.created_at.is_some()
    }

    /// One of which nothing is known yet.
    pub(crate) fn new(registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            ..Self::default()
        }
    }
}

impl Repository {
    /// Whether the repository, or a replica of it, is in this Registry, or was and is not released yet.
    pub(crate) fn is_in(&self, registry: &str) -> bool {
        self.spec.registry_ref.name == registry
            || self.spec.replica_registry_refs.iter().any(|of| of.name == registry)
            || self.replicas().iter().any(|replica| replica.registry == registry)
    }

    /// What is recorded of the replicas.
    pub(crate) fn replicas(&self) -> &[ReplicaStatus] {
        self.status.as_ref().map_or(&[], |status| &status.replicas)
    }

    /// The object as if this Registry were the one that it names: what holds for a repository holds for its replica by being
    /// asked of this one.
    pub(crate) fn as_replica(&self, registry: &str) -> Self {
        let recorded = self.replicas().iter().find(|replica| replica.registry == registry);
        let recorded = recorded.cloned().unwrap_or_else(|| ReplicaStatus::new(registry));
        let mut replica = self.clone();
        replica.spec.registry_ref = RegistryRef {
            name: registry.to_owned(),
        };
        replica.spec.replica_registry_refs = Vec::new();
        replica.status = Some(RepositoryStatus {
            common: CommonStatus {
                conditions: vec![Condition {
                    type_: "Ready".to_owned(),
                    status: if recorded.ready { "True" } else { "False" }.to_owned(),
                    reason: recorded.reason,
                    message: recorded.message,
                    // The digest says for what it was settled.
                    observed_generation: self.metadata.generation,
                    last_transition_time: Time(Timestamp::UNIX_EPOCH),
                }],
                ..CommonStatus::default()
            },
            arn: recorded.arn,
            uri: recorded.uri,
            registry_id: recorded.registry_id,
            created_at: recorded.created_at,
            managed_tags: recorded.managed_tags,
            desired_hash: recorded.desired_hash,
            ..RepositoryStatus::default()
        });
        replica
    }
}
