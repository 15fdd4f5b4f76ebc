//! What ECR keeps once for a whole registry: its documents and settings, and what was seen of them.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The documents of a registry. One that is left out is neither read nor written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryDocuments {
    /// How ECR scans the images of the registry. Once it is named, the whole configuration is the spec's: rules that others
    /// put there are replaced, and an Event keeps what they said. Taken out again, it leaves in ECR what is there. Default:
    /// not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanning: Option<Scanning>,

    /// The registry's policy: who may replicate into it, import and create repositories in it and, in scope V2, whatever else
    /// it names. Statements of others in it stay. Taken out again, it leaves in ECR what is there. Default: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<RegistryPolicy>,

    /// Which images ECR signs when they are pushed. Once it is named, the whole configuration is the spec's: rules that others
    /// put there are replaced, and an Event keeps what they said. Taken out again, it leaves in ECR what is there. Default:
    /// not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<Signing>,

    /// Settings of the account in this Region. Default: none is managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Settings>,

    /// IAM roles and users whose pulls do not count as the last pull of an image, such as those of scanners, as ARNs of 20 to
    /// 200 characters. Those that others registered stay; one that is taken out of the list is only deregistered where it was
    /// registered from here, as `status.documents.managedExclusions` shows. At most 100; `[]` means: none of ours. Default:
    /// not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 100),
        inner(
            length(min = 20, max = 200),
            regex(pattern = r"^arn:aws(-[a-z]+)*:iam::[0-9]{12}:(role|user)/[\w+=,.@-]+(/[\w+=,.@-]+)*$")
        )
    )]
    pub pull_time_update_exclusions: Option<Vec<String>>,
}

/// ECR's scanning configuration of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.rules) || self.rules.size() < 2 || self.rules[0].scanFrequency != self.rules[1].scanFrequency")
        .message("spec.scanning.rules takes one rule for each scanFrequency: put the filters of both into one")
        .field_path(".rules"),
    validation = Rule::new("self.scanType != 'BASIC' || !has(self.rules) || self.rules.all(r, r.scanFrequency == 'SCAN_ON_PUSH')")
        .message("spec.scanning.rules: with scanType BASIC the scanFrequency is SCAN_ON_PUSH; CONTINUOUS_SCAN needs ENHANCED")
        .field_path(".rules")
)]
#[serde(rename_all = "camelCase")]
pub struct Scanning {
    /// `BASIC`: ECR's own scans. `ENHANCED`: Amazon Inspector, which AWS bills, and which needs rights of its own. Required.
    pub scan_type: ScanType,

    /// Which repositories are scanned when. At most 2, one for each frequency. Those that no rule matches are scanned on
    /// request only (`BASIC`) or not at all (`ENHANCED`). Default: no rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub rules: Vec<ScanningRule>,
}

/// Who scans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum ScanType {
    Basic,
    Enhanced,
}

impl ScanType {
    /// As ECR spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "BASIC",
            Self::Enhanced => "ENHANCED",
        }
    }
}

/// Which repositories are scanned how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanningRule {
    /// `SCAN_ON_PUSH`: once, when an image is pushed. `CONTINUOUS_SCAN`: again whenever a vulnerability becomes known; it wins
    /// where both match. Required.
    pub scan_frequency: ScanFrequency,

    /// The repositories meant: those that one of the filters matches. 1 to 100. Required.
    #[schemars(length(min = 1, max = 100))]
    pub repository_filters: Vec<ScanningFilter>,
}

/// How often a repository is scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum ScanFrequency {
    ScanOnPush,
    ContinuousScan,
}

impl ScanFrequency {
    /// As ECR spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ScanOnPush => "SCAN_ON_PUSH",
            Self::ContinuousScan => "CONTINUOUS_SCAN",
        }
    }
}

/// Repositories by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanningFilter {
    /// What the names match. Without `*` it may stand anywhere in a name: `prod` means `team/prod-web` too. With `*`, for any
    /// characters, it stands for the whole name. 1 to 255 lowercase letters, digits and `.`, `_`, `-`, `/`, `*`. Required.
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[a-z0-9*](?:[._\-/a-z0-9*]?[a-z0-9*]+)*$")
    )]
    pub filter: String,

    /// How `filter` is matched. ECR knows `WILDCARD` only. Default: WILDCARD.
    #[serde(default)]
    pub filter_type: ScanningFilterType,
}

/// How a scanning filter is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum ScanningFilterType {
    #[default]
    Wildcard,
}

/// The registry's policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryPolicy {
    /// A policy in IAM's grammar, as AWS documents it for ECR's registry permissions, written as YAML or JSON. Its statements
    /// are put beside those of others and told from them by their `Sid`, which each must have: a statement is ours when its
    /// Sid begins with `EcrOperator` or is named here. The whole has at most 10,240 characters. Default: absent, which means
    /// none of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub document: Option<serde_json::Map<String, serde_json::Value>>,
}

/// An object whose shape is not structural: IAM takes a scalar or a list in many places. A `ValidatingAdmissionPolicy`
/// checks what a schema cannot.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// ECR's signing configuration of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Signing {
    /// What is signed with which profile. At most 10; `[]` means that nothing is. Required.
    #[schemars(length(max = 10))]
    pub rules: Vec<SigningRule>,
}

/// Which repositories' images are signed with a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningRule {
    /// The ARN of a signing profile of AWS Signer, at most 200 characters. Whoever pushes needs `signer:SignPayload` on it.
    /// Required.
    #[schemars(
        length(max = 200),
        regex(pattern = r"^arn:aws(-\w+)*:signer:[a-z0-9-]+:[0-9]{12}:/signing-profiles/[a-zA-Z0-9_]{2,}$")
    )]
    pub signing_profile_arn: String,

    /// The repositories meant: those that one of the filters matches. 1 to 100. Default: every repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100))]
    pub repository_filters: Option<Vec<SigningFilter>>,
}

/// Repositories by their names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SigningFilter {
    /// What the names match, with `*` for any characters. 1 to 256 lowercase letters, digits and `.`, `_`, `-`, `/`, `*`.
    /// Required.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^(?:[a-z0-9*]+(?:[._-][a-z0-9*]+)*/)*[a-z0-9*]+(?:[._-][a-z0-9*]+)*$")
    )]
    pub filter: String,

    /// How `filter` is matched. ECR knows `WILDCARD_MATCH` only. Default: `WILDCARD_MATCH`.
    #[serde(default)]
    pub filter_type: SigningFilterType,
}

/// How a signing filter is matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum SigningFilterType {
    #[default]
    WildcardMatch,
}

/// Settings of the account in a Region. One that is left out is neither read nor written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.confirmRegistryPolicyScope) || has(self.registryPolicyScope)")
        .message("spec.settings.confirmRegistryPolicyScope goes with registryPolicyScope")
        .field_path(".confirmRegistryPolicyScope")
)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Whether layers that another repository of the registry holds are mounted when an image is pushed, instead of sent
    /// again: `ENABLED` or `DISABLED`. Default: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob_mounting: Option<BlobMounting>,

    /// Which scanner basic scanning uses. ECR knows `AWS_NATIVE` only; a registry that still has `CLAIR` is moved. Default:
    /// not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_scan_type_version: Option<BasicScanTypeVersion>,

    /// `V2`: the registry's policy applies to every action of ECR that it names. In V1, which old registries have, it applies to
    /// `ReplicateImage`, `BatchImportUpstreamImage` and `CreateRepository`, and whatever else it says is asleep. There is no way
    /// back to V1 from here. Default: not managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_policy_scope: Option<RegistryPolicyScope>,

    /// Confirms that V2 may put statements into force that V1 let sleep: exactly `V2 wakes sleeping statements`. The status lists
    /// them while it is missing. Default: absent; a registry in V1 whose policy has such statements stays in V1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_registry_policy_scope: Option<ScopeConfirmation>,
}

/// Whether blobs are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum BlobMounting {
    Enabled,
    Disabled,
}

impl BlobMounting {
    /// As ECR spells it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
        }
    }
}

/// A scanner of basic scanning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum BasicScanTypeVersion {
    AwsNative,
}

/// What a registry's policy applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum RegistryPolicyScope {
    V2,
}

/// The words that confirm a change of scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum ScopeConfirmation {
    #[serde(rename = "V2 wakes sleeping statements")]
    Confirmed,
}

/// What was seen of the registry's documents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentsStatus {
    /// The value of the annotation `ecr-operator.dev/reconcile` with which the documents were last read; at most 256
    /// characters. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile: Option<String>,

    /// One entry for each document and setting that the spec names. At most 16. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub parts: Vec<DocumentStatus>,

    /// The principals that were registered from here, or were about to be: no others are ever deregistered. At most 200, each of
    /// at most 200 characters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(max = 200)))]
    pub managed_exclusions: Vec<String>,

    /// The Sids of statements that were put from here where there was none of that Sid, or were about to be: besides those that
    /// begin with `EcrOperator`, no others are ever removed. At most 200, each of at most 128 characters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(max = 128)))]
    pub managed_statements: Vec<String>,
}

/// How one document stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DocumentStatus {
    /// The field of the spec, such as `scanning` or `settings.blobMounting`; at most 64 characters. Required.
    #[schemars(length(max = 64))]
    pub name: String,

    /// `Settled`: ECR has it as the spec asks. `Differs`: it has not, and nothing may be written here. `Blocked`: only an edit
    /// or somebody else can help. `Failed`: it is tried again. Required.
    pub state: DocumentState,

    /// Why, in the terms of the `Ready` condition; at most 64 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub reason: String,

    /// What is wrong or differs, at most 1,024 characters; what mends it stands in the `Ready` condition and in an Event.
    /// Default: empty while nothing is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,

    /// A digest of what the spec asked for when this was written; at most 64 characters. Default: empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub desired_hash: String,
}

/// How a document stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum DocumentState {
    Settled,
    Differs,
    Blocked,
    Failed,
}
