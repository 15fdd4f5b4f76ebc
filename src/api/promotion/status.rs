//! What a promotion has done, and where it stands. The engine resumes from this alone.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{
    super::{
        names::{Digest, Tag},
        status::CommonStatus,
    },
    TargetKind, Until, Via,
};

/// What was seen and done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePromotionStatus {
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the status"
    )]
    pub common: CommonStatus,

    /// Where it stands, in one word, such as `Promoted`, `RollingOut` or `Held`; at most 32 characters. Default: absent
    /// until it was first looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub phase: Option<String>,

    /// The repository that all this speaks of, as `<account>/<region>/<name>`; where `spec.source` names another, everything
    /// but what was rejected begins anew. At most 400 characters. Default: absent until it was first looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 400))]
    pub repository: Option<String>,

    /// The image that the policy picks now. Default: absent where it picks none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<ImageStatus>,

    /// The image that the targets run, as far as this promotion brought it there or found it there. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<ImageStatus>,

    /// The image that the targets ran before. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<ImageStatus>,

    /// The last image whose rollout and verification succeeded; what a rollback returns to. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<ImageStatus>,

    /// Images that were taken back or rejected and are not rolled out again; the oldest go first. At most 20. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub rejected: Vec<Rejection>,

    /// Why nothing is rolled out for the time being. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,

    /// The image that a request asked for in place of the policy's, until it is rolled out. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<ImageStatus>,

    /// What the candidate waits for. At most 8. Default: nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub blocked_by: Vec<Blocked>,

    /// What is wrong with the running image by the scan gate, at most 1,024 characters. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub regression: Option<String>,

    /// The workloads. At most 100. Default: none until they were first looked at.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub targets: Vec<TargetStatus>,

    /// The rollout under way. Default: absent at rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,

    /// Ended rollouts, the latest first. At most `spec.historyLimit`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub history: Vec<HistoryEntry>,

    /// Approvals that count. At most 20. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub approvals: Vec<Approval>,

    /// The last handled value of each request annotation, by the name of the request. At most 8 entries, each of at most
    /// 512 characters. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8), extend("additionalProperties" = { "type": "string", "maxLength": 512 }))]
    pub last_handled_requests: BTreeMap<String, String>,

    /// What became of the last request, in words, at most 1,024 characters. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_answer: Option<String>,

    /// The image that the tag of `onVerified` was last put on. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_tag: Option<ImageStatus>,

    /// The digest that `publishTo` was last told. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Digest>,

    /// The number of the last rollout. Default: 0.
    #[serde(default)]
    pub last_rollout: u64,
}

/// An image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImageStatus {
    /// Its name for people: the tag, or the first digits of the digest; at most 128 characters. Required.
    #[schemars(length(max = 128))]
    pub name: String,

    /// Its digest. Required.
    pub digest: Digest,

    /// The tag under which it was picked. Default: absent where it was picked by digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,

    /// When it was pushed, as ECR says. Default: absent where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub pushed_at: Option<Timestamp>,

    /// Since when it is what it is here: picked, current, good. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub since: Option<Timestamp>,
}

/// Who caused something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Actor {
    #[default]
    Operator,
    Request,
    Spec,
    Workload,
}

/// An image that is not rolled out again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// The image. Required.
    pub digest: Digest,

    /// Its name for people; at most 128 characters. Required.
    #[schemars(length(max = 128))]
    pub name: String,

    /// Why, at most 512 characters. Required.
    #[schemars(length(max = 512))]
    pub reason: String,

    /// `Operator`: a rollout failed. `Request`: somebody asked for it. `Workload`: it was found on a workload. Default:
    /// Operator.
    #[serde(default)]
    pub by: Actor,

    /// When. Required.
    #[schemars(with = "MicroTime")]
    pub at: Timestamp,
}

/// Why nothing is rolled out for the time being.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// `RolledBack`: an image was taken back. `Person`: somebody took a workload back by hand, or asked for another
    /// image. `Pinned`: a request pinned it. `Failed`: a rollout failed and was left as it is. Required.
    pub kind: HoldKind,

    /// Why, at most 512 characters. Required.
    #[schemars(length(max = 512))]
    pub reason: String,

    /// Since when. Required.
    #[schemars(with = "MicroTime")]
    pub since: Timestamp,

    /// The image that was left. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_from: Option<Digest>,

    /// An image pushed after this one was ends the hold, where `until` is `NewerImage`. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub newer_than: Option<Timestamp>,

    /// What ends it: `NewerImage` or `Resume`. Required.
    pub until: Until,
}

/// A kind of hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum HoldKind {
    RolledBack,
    Person,
    Pinned,
    Failed,
}

/// A gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Gate {
    From,
    MinAge,
    Scan,
    Signature,
    Approval,
    Window,
}

/// What a candidate waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Blocked {
    /// The gate: `From`, `MinAge`, `Scan`, `Signature`, `Approval` or `Window`. Required.
    pub gate: Gate,

    /// What it waits for, at most 1,024 characters. Required.
    #[schemars(length(max = 1024))]
    pub message: String,

    /// Since when this gate has held this candidate. Required.
    #[schemars(with = "MicroTime")]
    pub since: Timestamp,
}

/// A workload as it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Its kind. Required.
    pub kind: TargetKind,

    /// Its name, at most 253 characters. Required.
    #[schemars(length(max = 253))]
    pub name: String,

    /// How the digest gets there. Required.
    pub via: Via,

    /// Its UID, at most 64 characters: another one is another workload. Default: absent where it does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,

    /// The digest that its containers run. Default: absent where they run none, or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,

    /// Since when it has had that digest. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub since: Option<Timestamp>,

    /// `Healthy`, `Progressing`, `Failed`, `Contested` (somebody else keeps writing the image), `Refused` (a tool owns
    /// it, and `via` is `Auto`) or `Missing`. Required.
    pub phase: TargetPhase,

    /// What there is to say about it, at most 1,024 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,

    /// How often somebody else wrote the image back since `contestedSince`. Default: 0.
    #[serde(default)]
    pub reverts: u32,

    /// When the count began. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub contested_since: Option<Timestamp>,

    /// The `resourceVersion` with the last counted write, so that none is counted twice; at most 64 characters. Default:
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub counted: Option<String>,

    /// The generation of the promotion in which they were counted: an edit of its spec begins the count anew. Default:
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counted_generation: Option<i64>,

    /// The field manager that wrote it back last, at most 128 characters. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub contested_by: Option<String>,
}

/// How a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum TargetPhase {
    Healthy,
    Progressing,
    Failed,
    Contested,
    Refused,
    Missing,
}

/// A rollout under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Its number. Required.
    pub id: u64,

    /// `Promotion`: to the picked image. `Rollback`: to an earlier one. `Pin`: to the pinned one. Required.
    pub kind: RolloutKind,

    /// The image that is rolled out. Required.
    pub image: ImageStatus,

    /// The image that ran before. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ImageStatus>,

    /// `Copying`, `RollingOut`, `Stabilizing` or `Verifying`. Required.
    pub phase: Phase,

    /// Since when it is in this phase. Required.
    #[schemars(with = "MicroTime")]
    pub since: Timestamp,

    /// When it began. Required.
    #[schemars(with = "MicroTime")]
    pub started_at: Timestamp,

    /// Which verification runs, from 0. Default: 0.
    #[serde(default)]
    pub verification: u8,

    /// Why it was begun, at most 512 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub reason: String,

    /// Who began it: `Operator`, `Request`, `Spec` or `Workload`. Default: Operator.
    #[serde(default)]
    pub by: Actor,

    /// For a rollback: what had failed. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// What had failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The number of the rollout that failed. Required.
    pub rollout: u64,

    /// Why it failed, at most 512 characters. Required.
    #[schemars(length(max = 512))]
    pub reason: String,
}

/// A kind of rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum RolloutKind {
    Promotion,
    Rollback,
    Pin,
}

/// A phase of a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Phase {
    Copying,
    RollingOut,
    Stabilizing,
    Verifying,
}

/// How a rollout ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Outcome {
    Succeeded,
    Failed,
    Superseded,
}

/// An ended rollout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Its number; 0 is the image that was found at first. Required.
    pub id: u64,

    /// `Promotion`, `Rollback` or `Pin`. Required.
    pub kind: RolloutKind,

    /// Its image. Required.
    pub image: ImageStatus,

    /// When it began. Required.
    #[schemars(with = "MicroTime")]
    pub started_at: Timestamp,

    /// When it ended. Required.
    #[schemars(with = "MicroTime")]
    pub finished_at: Timestamp,

    /// `Succeeded`, `Failed`, or `Superseded` by another before it ended. Required.
    pub outcome: Outcome,

    /// Why it was begun, or why it failed, at most 512 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub reason: String,

    /// Who began it: `Operator`, `Request`, `Spec` or `Workload`. Default: Operator.
    #[serde(default)]
    pub by: Actor,
}

/// An approval that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// What was approved. Required.
    pub digest: Digest,

    /// By whom: the name of the user as Kubernetes knows it, at most 253 characters. Required.
    #[schemars(length(max = 253))]
    pub by: String,

    /// When it was handled. Required.
    #[schemars(with = "MicroTime")]
    pub at: Timestamp,
}
