//! How an image is rolled out, verified and taken back.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::span::Span;

/// How an image is rolled out, and when that has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutSettings {
    /// `Together`: all targets at once. `InOrder`: each one once the one before is healthy. Default: Together.
    #[serde(default)]
    pub order: RolloutOrder,

    /// How long each target may take until all its pods are new and available. Default: 10m.
    #[serde(default = "ten_minutes")]
    pub timeout: Span,

    /// How long all targets must stay healthy afterwards. Default: 1m.
    #[serde(default = "one_minute")]
    pub stabilization: Span,

    /// How many restarts the new pods of a target may have together before the rollout has failed; a container that
    /// waits in CrashLoopBackOff after more than this fails it at once. 0 to 1,000. Default: 3.
    #[serde(default = "three")]
    #[schemars(range(min = 0, max = 1_000))]
    pub max_restarts: u32,
}

fn ten_minutes() -> Span {
    Span::seconds(600)
}

fn one_minute() -> Span {
    Span::seconds(60)
}

fn thirty_seconds() -> Span {
    Span::seconds(30)
}

fn three() -> u32 {
    3
}

fn yes() -> bool {
    true
}

impl Default for RolloutSettings {
    fn default() -> Self {
        Self {
            order: RolloutOrder::default(),
            timeout: ten_minutes(),
            stabilization: one_minute(),
            max_restarts: three(),
        }
    }
}

/// In which order targets are rolled out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum RolloutOrder {
    #[default]
    Together,
    InOrder,
}

/// A check after the rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.job) != has(self.prometheus)")
        .message("a verification is either a job or a prometheus query")
)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// A Job that must complete. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobVerification>,

    /// A query whose answer must fulfil a condition. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusVerification>,

    /// How long it may take. Default: 10m.
    #[serde(default = "ten_minutes")]
    pub timeout: Span,
}

/// A Job to run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobVerification {
    /// A Job's `spec`, as `batch/v1` has it. Each container gets the environment variables `ECR_OPERATOR_IMAGE` (with
    /// the digest), `ECR_OPERATOR_DIGEST` and `ECR_OPERATOR_TAG`. Whoever writes this needs the right to create Jobs in
    /// the namespace. Required.
    #[schemars(schema_with = "any_object")]
    pub spec: serde_json::Map<String, serde_json::Value>,
}

/// The apiserver checks a Job's spec when it is created; its whole schema here would only be an older copy.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A query to Prometheus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrometheusVerification {
    /// The address of Prometheus, an `http` or `https` URL of at most 2,048 characters. It must begin with one of the
    /// installation's allowed addresses. Required.
    #[schemars(length(min = 10, max = 2048), regex(pattern = r"^https?://[^\s@?#]+$"))]
    pub address: String,

    /// The query, in PromQL; its answer is a single number, or a vector of one. 1 to 2,048 characters. Required.
    #[schemars(length(min = 1, max = 2048))]
    pub query: String,

    /// The condition for the number, such as `< 0.01`. Required.
    #[schemars(
        length(min = 2, max = 40),
        regex(pattern = r"^(<|<=|>|>=|==|!=) ?-?[0-9]{1,15}(\.[0-9]{1,15})?$")
    )]
    pub success_when: String,

    /// How often it is asked. Default: 30s.
    #[serde(default = "thirty_seconds")]
    pub interval: Span,

    /// How long the condition must hold; one answer against it fails the verification. Default: 0s, one answer is
    /// enough.
    #[serde(default)]
    pub hold: Span,
}

/// What happens when a rollout fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RollbackSettings {
    /// Whether a failed rollout or verification takes every target back to the last good image. Otherwise the targets
    /// stay as they are, and the object says so. Default: true.
    #[serde(default = "yes")]
    pub on_failure: bool,

    /// Whether findings of the scan gate that appear on the running image take the targets back too. Otherwise they are
    /// only reported. Default: false.
    #[serde(default)]
    pub on_scan_regression: bool,

    /// What ends the time after a rollback in which nothing is rolled out. `NewerImage`: the policy picks an image that
    /// was pushed after the one that was taken back. `Resume`: only the request `resume`. Default: NewerImage.
    #[serde(default)]
    pub until: Until,
}

impl Default for RollbackSettings {
    fn default() -> Self {
        Self {
            on_failure: true,
            on_scan_regression: false,
            until: Until::default(),
        }
    }
}

/// What ends a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Until {
    #[default]
    NewerImage,
    Resume,
}
