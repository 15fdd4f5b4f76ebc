//! PullThroughCacheRule: images of another registry, pulled through this one and kept in it.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    names::{CachePrefix, RoleArn, SecretArn},
    prefixed::{OwnedStatus, RetainOrDelete},
    repository::{Adoption, DriftStatus, RegistryRef},
    status::CommonStatus,
};

/// A pull-through cache rule of a registry.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "PullThroughCacheRule",
    plural = "pullthroughcacherules",
    shortname = "ecrptc",
    category = "ecr",
    status = "PullThroughCacheRuleStatus",
    selectable = ".spec.registryRef.name",
    derive = "PartialEq",
    doc = "A pull-through cache rule of a registry: what is pulled below a prefix and is not there yet is fetched from another registry and kept.",
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.owned) || self.spec.upstreamRegistryUrl == oldSelf.spec.upstreamRegistryUrl"
    )
    .message("spec.upstreamRegistryUrl cannot be changed once the rule exists: ECR fixes it at creation; delete the rule, or create another one with another prefix")
    .field_path(".spec.upstreamRegistryUrl"),
    validation = Rule::new(
        "!has(oldSelf.status) || !has(oldSelf.status.owned) || (has(self.spec.upstreamRepositoryPrefix) ? self.spec.upstreamRepositoryPrefix : 'ROOT') == (has(oldSelf.spec.upstreamRepositoryPrefix) ? oldSelf.spec.upstreamRepositoryPrefix : 'ROOT')"
    )
    .message("spec.upstreamRepositoryPrefix cannot be changed once the rule exists: ECR fixes it at creation; delete the rule, or create another one with another prefix"),
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registryRef.name"),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".spec.ecrRepositoryPrefix"),
    printcolumn(name = "Upstream", type_ = "string", json_path = ".spec.upstreamRegistryUrl"),
    printcolumn(name = "Validation", type_ = "string", json_path = ".status.validation.state"),
    printcolumn(name = "Deletion", type_ = "string", json_path = ".spec.deletionPolicy", priority = 1),
    printcolumn(name = "Drift repaired", type_ = "integer", json_path = ".status.drift.repaired", priority = 1),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(
    validation = Rule::new("self.registryRef.name == oldSelf.registryRef.name")
        .message("spec.registryRef cannot be changed: create another PullThroughCacheRule for the other registry instead")
        .field_path(".registryRef"),
    validation = Rule::new("self.ecrRepositoryPrefix == oldSelf.ecrRepositoryPrefix")
        .message("spec.ecrRepositoryPrefix cannot be changed: ECR fixes it at creation; create another PullThroughCacheRule instead")
        .field_path(".ecrRepositoryPrefix"),
    validation = Rule::new(
        "has(self.credentialArn) || !(self.upstreamRegistryUrl in ['registry-1.docker.io', 'ghcr.io', 'registry.gitlab.com', 'cgr.dev'] || self.upstreamRegistryUrl.endsWith('.azurecr.io'))"
    )
    .message("spec.credentialArn is required with this upstreamRegistryUrl: it takes nobody without credentials")
)]
#[serde(rename_all = "camelCase")]
pub struct PullThroughCacheRuleSpec {
    /// The Registry the rule is in. Required, cannot be changed.
    pub registry_ref: RegistryRef,

    /// What the names of the repositories begin with that the rule makes, 2 to 30 characters, such as `docker-hub`; `ROOT`
    /// means every name that no other rule has. Required, cannot be changed.
    #[x_kube(validation = Rule::new("self != 'ecr-operator' && !self.startsWith('ecr-operator/')")
        .message("spec.ecrRepositoryPrefix: names below 'ecr-operator/' belong to the operator; choose another prefix"))]
    pub ecr_repository_prefix: CachePrefix,

    /// The registry that images come from, as a host name without a scheme, such as `registry-1.docker.io`,
    /// `public.ecr.aws` or `<account>.dkr.ecr.<region>.amazonaws.com`; at most 253 characters. Cannot be changed once the
    /// rule exists. Required.
    #[schemars(length(min = 4, max = 253))]
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9]+([.-]+[a-z0-9]+)*$')")
        .message("spec.upstreamRegistryUrl is a host name in lower case without a scheme and without a path, such as registry-1.docker.io"))]
    pub upstream_registry_url: String,

    /// The kind of registry: `ecr`, `ecr-public`, `quay`, `k8s`, `docker-hub`, `github-container-registry`,
    /// `azure-container-registry`, `gitlab-container-registry` or `chainguard`. It has to fit `upstreamRegistryUrl`.
    /// Default: ECR tells it by the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_registry: Option<UpstreamRegistry>,

    /// What the names of the repositories upstream begin with, 2 to 30 characters; `ROOT` means all. Cannot be changed once
    /// the rule exists. Default: ROOT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_repository_prefix: Option<CachePrefix>,

    /// The secret in AWS Secrets Manager that holds the credentials for the upstream; its name begins with
    /// `ecr-pullthroughcache/`. Required for Docker Hub, GitHub, GitLab, Azure and Chainguard. It can be changed and not be
    /// taken out: ECR knows no way. Default: none at creation, not managed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_arn: Option<SecretArn>,

    /// The IAM role by which ECR pulls from a registry of another account. It can be changed and not be taken out. Default:
    /// none at creation, not managed afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_role_arn: Option<RoleArn>,

    /// What to do where a rule for this prefix exists and belongs to no object. `Never`: report `Exists` and write nothing.
    /// `Adopt`: take it as this object's and manage what the spec names. Default: Never.
    #[serde(default)]
    pub adoption: Adoption,

    /// What becomes of the rule when the object is deleted. `Retain`: it stays. `Delete`: it is deleted; repositories and
    /// images stay. Can be changed while the object waits for its deletion. Default: Retain.
    #[serde(default)]
    pub deletion_policy: RetainOrDelete,

    /// Pauses the object: nothing is looked at or written until it is false again, a deletion included. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// The kinds of registries that ECR pulls from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum UpstreamRegistry {
    Ecr,
    EcrPublic,
    Quay,
    K8s,
    DockerHub,
    GithubContainerRegistry,
    AzureContainerRegistry,
    GitlabContainerRegistry,
    Chainguard,
}

impl UpstreamRegistry {
    /// As ECR spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::EcrPublic => "ecr-public",
            Self::Quay => "quay",
            Self::K8s => "k8s",
            Self::DockerHub => "docker-hub",
            Self::GithubContainerRegistry => "github-container-registry",
            Self::AzureContainerRegistry => "azure-container-registry",
            Self::GitlabContainerRegistry => "gitlab-container-registry",
            Self::Chainguard => "chainguard",
        }
    }
}

/// What was seen of the rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PullThroughCacheRuleStatus {
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the status"
    )]
    pub common: CommonStatus,

    /// Which rule in ECR is this object's. Default: absent until one was asked for or adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owned: Option<OwnedStatus>,

    /// The kind of the upstream registry as ECR names it, at most 64 characters. Default: absent until it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub upstream_registry: Option<String>,

    /// Whether ECR can pull by the rule, as ECR itself says; asked after each change and with each full check. Default:
    /// absent until it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationStatus>,

    /// Changes behind our back that were put right. Default: absent while there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftStatus>,

    /// A digest of everything the object asks for, at most 64 characters. Default: absent until the object was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub desired_hash: Option<String>,
}

/// ECR's own validation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationStatus {
    /// `Valid`: ECR reaches the upstream. `Invalid`: it does not. `Unknown`: ECR could not be asked. Required.
    pub state: ValidationState,

    /// Why not, in ECR's words, at most 512 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}

/// What ECR says of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum ValidationState {
    Valid,
    Invalid,
    Unknown,
}
