//! The workloads that run the image.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A workload, or those that a selector finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.name) != has(self.selector)")
        .message("a target has either a name or a selector"),
    validation = Rule::new("!has(self.via) || (self.via in ['Auto', 'Direct', 'Publish']) != has(self.viaRef)")
        .message("viaRef names the object that the digest is written to: it goes with the other values of via than Auto, Direct and Publish, and is required there")
)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The kind of workload: `Deployment`, `StatefulSet`, `DaemonSet`, or `CronJob`, which counts as rolled out when its
    /// template is written. Required.
    pub kind: TargetKind,

    /// Its name, 1 to 253 characters. Default: absent; then `selector` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,

    /// Those of the kind whose labels match; at most 50 are taken, `{}` takes all. Default: absent; then `name` is
    /// required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,

    /// The containers that run the image, by name. `*` means those that run an image of this repository already. At
    /// most 20. Default: `*`.
    #[serde(default = "any")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 63)))]
    pub containers: Vec<String>,

    /// The init containers that run the image, by name, or `*` as above. At most 20. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 63)))]
    pub init_containers: Vec<String>,

    /// How the digest gets there. `Auto`: by server-side apply where neither a GitOps tool nor Helm owns the workload,
    /// otherwise refused with what that tool needs. `Direct`: by server-side apply in any case. `FluxKustomization`,
    /// `FluxHelmRelease`, `ArgoApplication`, `ConfigMap`: written to the object of `viaRef`, where the owner reads it.
    /// `Publish`: told to `publishTo` only, for CI to write it to Git. The rollout is watched in each case. Default:
    /// Auto.
    #[serde(default)]
    pub via: Via,

    /// The object that the digest is written to. Default: absent; required with some values of `via`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via_ref: Option<ViaRef>,
}

fn any() -> Vec<String> {
    vec!["*".into()]
}

/// A kind of workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum TargetKind {
    Deployment,
    StatefulSet,
    DaemonSet,
    CronJob,
}

impl TargetKind {
    /// As Kubernetes spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::CronJob => "CronJob",
        }
    }
}

/// A way in which the digest gets to a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Via {
    #[default]
    Auto,
    Direct,
    FluxKustomization,
    FluxHelmRelease,
    ArgoApplication,
    ConfigMap,
    Publish,
}

/// An object that the digest is written to, for its owner to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ViaRef {
    /// Its name, 1 to 253 characters. Required.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Its namespace, 1 to 63 characters; an object of another namespace must carry the annotation
    /// `ecr-operator.dev/promotable-from` with this one. Default: this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,

    /// Where in the object, at most 253 characters: the name of the image in the manifests for `FluxKustomization`,
    /// `FluxHelmRelease` and `ArgoApplication` with Kustomize, `helm:<parameter>` for `ArgoApplication` with Helm, the
    /// key for `ConfigMap`. A parameter or key whose name ends with `digest` gets the digest alone, any other the whole
    /// image, `repository@digest`; one that ends with `tag` is refused. Default: the repository's URI, or `image` for
    /// `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}
