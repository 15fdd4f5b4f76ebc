//! What an image must pass before it is rolled out.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::span::Span;

/// What an image must pass. Every gate that is given must let it through; each is asked again until it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gates {
    /// Findings of the image scan. Default: not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanGate>,

    /// A signature. Default: not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureGate>,

    /// The word of people. Default: not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalGate>,

    /// When rollouts may begin. With `Allow` windows only within one of them, never within a `Deny` window. At most 20.
    /// Default: at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub windows: Vec<Window>,

    /// How long ago the image must have been pushed. Default: 0s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_age: Option<Span>,
}

/// How many findings an image may have. Each platform of an index is looked at on its own, those of `source.platforms`
/// where there are any, and each must pass. Findings are read from ECR whenever they are judged, never taken from an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanGate {
    /// How many findings of severity CRITICAL are let through. Default: 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_critical: u32,

    /// How many of severity HIGH are let through. 0 to 100,000. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_high: Option<u32>,

    /// How many of severity MEDIUM are let through. 0 to 100,000. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub max_medium: Option<u32>,

    /// Whether only findings count for which a fix is available; known with enhanced scanning only, so that with basic
    /// scanning all count. Default: false.
    #[serde(default)]
    pub fixable_only: bool,

    /// Findings that do not count. At most 100. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub ignore: Vec<IgnoredFinding>,

    /// What a scan means that ECR cannot give: an image it does not support, a scan that failed or whose findings
    /// expired. `Block`: it does not pass. `Allow`: it passes. A scan that is only pending is waited for in both cases.
    /// Default: Block.
    #[serde(default)]
    pub on_unavailable: OnUnavailable,
}

/// A finding that does not count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IgnoredFinding {
    /// Its id, such as `CVE-2026-12345`; 1 to 128 characters. Required.
    #[schemars(length(min = 1, max = 128))]
    pub id: String,

    /// Why it does not count; at most 256 characters. Required.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,

    /// Until when; afterwards it counts again. Required.
    #[schemars(with = "Time")]
    pub expires: Timestamp,
}

/// What a missing scan means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum OnUnavailable {
    #[default]
    Block,
    Allow,
}

/// Whose signature an image must carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignatureGate {
    /// Keys of cosign; a valid signature by one of them, over this digest, is enough. 1 to 5. Required.
    #[schemars(length(min = 1, max = 5))]
    pub cosign: Vec<CosignKey>,
}

/// A public key of cosign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CosignKey {
    /// The public key in PEM, as `cosign public-key` prints it: ECDSA on P-256. At most 1,024 characters. Required.
    #[schemars(length(min = 100, max = 1024))]
    #[x_kube(validation = Rule::new("self.trim().startsWith('-----BEGIN PUBLIC KEY-----') && self.trim().endsWith('-----END PUBLIC KEY-----')")
        .message("signature.cosign.key is a public key in PEM, beginning with -----BEGIN PUBLIC KEY-----"))]
    pub key: String,
}

/// How many people must approve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalGate {
    /// How many different people with the verb `approve` on this object must approve the digest. 1 to 5. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 5))]
    pub required: u8,
}

fn one() -> u8 {
    1
}

/// A time in which rollouts may, or may not, begin: either weekly, or once. When clocks go back, a time that comes twice
/// begins a window the first time and ends it the second time; when they go forward, a time that is left out is the moment
/// of the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.start) == has(self.end) && has(self.start) != (has(self.from) && has(self.to)) && has(self.from) == has(self.to)")
        .message("a window has either from and to, times of the day, or start and end, points in time"),
    validation = Rule::new("!has(self.from) || self.from != self.to")
        .message("a window whose from equals its to never opens; for a whole day write from 00:00 to 24:00"),
    validation = Rule::new("!has(self.start) || self.start < self.end")
        .message("a window whose end is not after its start never opens"),
    validation = Rule::new("has(self.from) || !has(self.days) && !has(self.timeZone)")
        .message("days and timeZone go with from and to")
)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// `Allow`: rollouts may begin. `Deny`: they may not. Required.
    pub kind: WindowKind,

    /// The days on which it begins. At most 7. Default: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub days: Vec<Weekday>,

    /// When it begins, as `HH:MM`. Default: absent; then `start` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5), regex(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: Option<String>,

    /// When it ends, as `HH:MM`; not after `from` means on the next day, and `24:00` is the end of the day. Default:
    /// absent; then `end` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 5, max = 5), regex(pattern = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"))]
    pub to: Option<String>,

    /// The time zone of `days`, `from` and `to`, as the IANA database names it, such as `Europe/Berlin`. At most 64
    /// characters. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("timestamp('2026-01-01T00:00:00Z').getHours(self) >= 0")
        .message("timeZone is not a time zone of the IANA database, such as Europe/Berlin"))]
    pub time_zone: Option<String>,

    /// When it begins, once. Default: absent; then `from` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub start: Option<Timestamp>,

    /// When it ends. Default: absent; then `to` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Time>")]
    pub end: Option<Timestamp>,
}

/// Whether a window opens or shuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum WindowKind {
    Allow,
    Deny,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}
