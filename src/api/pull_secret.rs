//! PullSecret: a Secret by which pods pull images, kept fresh.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{CustomResource, KubeSchema, ResourceExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{repository::RegistryRef, status::CommonStatus};

/// The most Registries of one PullSecret.
pub const MOST_REGISTRIES: usize = 10;

/// The most ServiceAccounts of one PullSecret.
pub const MOST_SERVICE_ACCOUNTS: usize = 20;

/// A Secret of type `kubernetes.io/dockerconfigjson` with which pods of the namespace pull images.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "PullSecret",
    plural = "pullsecrets",
    namespaced,
    shortname = "ecrps",
    category = "ecr",
    status = "PullSecretStatus",
    derive = "PartialEq",
    doc = "A Secret of type kubernetes.io/dockerconfigjson with which pods of its namespace pull images, and nothing else: its tokens are those of spec.pull.roleArn of the Registries, narrowed to pulling from the prefixes of the namespace. It is renewed before they expire.",
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretName"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".status.expiresAt"),
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
    validation = Rule::new("has(self.secretName) == has(oldSelf.secretName) && (!has(self.secretName) || self.secretName == oldSelf.secretName)")
        .message("spec.secretName cannot be changed, added or removed: pods refer to it; create another PullSecret instead")
        .field_path(".secretName"),
    validation = Rule::new("self.registryRefs.all(ref, self.registryRefs.exists_one(other, other.name == ref.name))")
        .message("spec.registryRefs names each Registry once")
        .field_path(".registryRefs")
)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretSpec {
    /// The Registries to pull from; the Secret gets an entry for each. Each needs `spec.pull`, and a tenant with
    /// `may: [Pull]` for the namespace. 1 to 10, each named once. Required.
    #[schemars(length(min = 1, max = 10))]
    pub registry_refs: Vec<RegistryRef>,

    /// The name of the Secret, which must not exist yet. 1 to 253 characters. Cannot be changed, added or removed. Default:
    /// the name of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub secret_name: Option<String>,

    /// ServiceAccounts of the namespace, by name, to whose `imagePullSecrets` the Secret is added, so that their new pods pull
    /// with it. The entry is taken out again with the name or the object; an entry that was there before stays. At most 20,
    /// each of 1 to 253 characters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 20),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        ),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub service_accounts: Vec<String>,

    /// Pauses the object: the Secret is neither renewed nor removed, and expires. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// What was seen of the Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullSecretStatus {
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the status"
    )]
    pub common: CommonStatus,

    /// The Secret, at most 253 characters. Default: absent while there is none of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,

    /// When the first of its entries expires, if it is not renewed. Default: absent while there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub expires_at: Option<Timestamp>,

    /// The entries of the Secret, by Registry. At most 10. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub registries: Vec<PullRegistry>,

    /// The ServiceAccounts that have the Secret from this object. At most 40: those of the spec, and those that are still to
    /// be left. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 40), inner(length(max = 253)))]
    pub service_accounts: Vec<String>,
}

/// An entry of the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullRegistry {
    /// The Registry, at most 253 characters. Required.
    #[schemars(length(max = 253))]
    pub name: String,

    /// The host that the entry is for, at most 253 characters. Default: empty while there is no entry.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub host: String,

    /// When the entry expires, if it is not renewed. Default: absent while there is no entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub expires_at: Option<Timestamp>,

    /// What keeps the entry from being made or renewed, and what would mend it; at most 1,024 characters. Default: empty while
    /// nothing is wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

impl PullSecret {
    /// The name of the Secret.
    #[must_use]
    pub fn secret_name(&self) -> String {
        self.spec.secret_name.clone().unwrap_or_else(|| self.name_any())
    }
}
