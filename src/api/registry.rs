//! Registry: one private registry, that is one AWS account in one Region, and how to get in.

#![allow(unreachable_pub, reason = "KubeSchema repeats the type inside a function")]

pub mod documents;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, MicroTime};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::documents::{DocumentsStatus, RegistryDocuments};
use super::{
    ecr::{Encryption, ExclusionFilter, ImageTagMutability, Tags},
    names::{AccountId, Region, RepositoryPrefix, RoleArn},
    replication::ReplicationDestination,
    span::Span,
    status::CommonStatus,
};

/// One private registry of Amazon ECR: an AWS account in a Region, how the operator gets in, and who may use it.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "ecr-operator.dev",
    version = "v1alpha1",
    kind = "Registry",
    plural = "registries",
    shortname = "ecrreg",
    category = "ecr",
    status = "RegistryStatus",
    derive = "PartialEq",
    doc = "A private registry of Amazon ECR: an AWS account in a Region, how the operator gets in, and who may use it.",
    printcolumn(name = "Account", type_ = "string", json_path = ".spec.registryId"),
    printcolumn(name = "Region", type_ = "string", json_path = ".spec.region"),
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"),
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
    validation = Rule::new("self.region == oldSelf.region")
        .message("spec.region cannot be changed: it says which registry this is; create another Registry instead")
        .field_path(".region"),
    validation = Rule::new("self.registryId == oldSelf.registryId")
        .message("spec.registryId cannot be changed: it says which registry this is; create another Registry instead")
        .field_path(".registryId"),
    validation = Rule::new(
        "!has(self.events) || !self.events.queueUrl.matches('^https://sqs[.][a-z0-9-]+[.]') || self.events.queueUrl.startsWith('https://sqs.' + self.region + '.')"
    )
    .message("spec.events.queueUrl must be a queue in spec.region: a rule of EventBridge sends to queues of its own Region")
    .field_path(".events.queueUrl"),
    validation = Rule::new("!has(self.pull) || self.pull.roleArn.split(':')[4] == self.registryId")
        .message("spec.pull.roleArn must be a role in the account of spec.registryId: a token leads into the registry of its role's account")
        .field_path(".pull.roleArn"),
    validation = Rule::new("!has(self.replication) || !has(self.replication.from) || self.replication.from.all(account, account != self.registryId)")
        .message("spec.replication.from names other accounts: spec.registryId needs no leave to replicate into its own registry")
        .field_path(".replication.from")
)]
#[serde(rename_all = "camelCase")]
pub struct RegistrySpec {
    /// The AWS Region of the registry, such as `eu-west-1`. Required, cannot be changed.
    pub region: Region,

    /// The AWS account whose registry this is, twelve digits. When other credentials are found, the Registry reports
    /// `AccountMismatch` and nothing is written. Required, cannot be changed.
    pub registry_id: AccountId,

    /// An IAM role to assume for every call to this registry. Default: the operator's own credentials (IRSA, EKS Pod
    /// Identity, environment).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role: Option<AssumeRole>,

    /// Other addresses for the AWS APIs, such as VPC endpoints. Default: AWS's public endpoints of the Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Endpoints>,

    /// `Observe`: look and report, write nothing. `Manage`: this cluster is the one writer of the registry, which it
    /// claims by a repository named `ecr-operator/registry`. Default: Observe.
    #[serde(default)]
    pub mode: RegistryMode,

    /// Which namespaces may use the registry, and for which repository names. At most 100. Default: none, so that no
    /// namespace may use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub tenants: Vec<Tenant>,

    /// Settings for repositories at their creation, where a Repository leaves them out. They change no repository that
    /// exists. Default: AWS's own defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_defaults: Option<CreationDefaults>,

    /// The role whose rights a PullSecret carries, narrowed to pulling from the prefixes of its namespace. Default: absent, so
    /// that no PullSecret gets a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<AssumeRole>,

    /// Where AWS tells of changes in the registry, so that they are acted on within a second. Default: absent; changes by
    /// others are noticed by listing and by full checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventSource>,

    /// The UID of a cluster whose claim on this registry is to be taken over, as `status.claim.cluster` shows it. Only a
    /// claim of the same `ownerId` can be taken over. For a cluster that was rebuilt; make sure that the old one is
    /// gone. At most 64 characters. Default: absent, nothing is taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub takeover: Option<String>,

    /// How the reports of other clusters are judged, which images of the registry they use. Default: as each of its fields
    /// says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use: Option<InUse>,

    /// How much of the account's allowance the operator may use. Default: as each of its fields says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,

    /// What replication may do, out of the registry and into it. Default: as each of its fields says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<ReplicationLimits>,
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the spec"
    )]
    pub documents: RegistryDocuments,

    /// Pauses the registry: nothing in it is looked at or written, its repositories included. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// What replication may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationLimits {
    /// Whether ReplicationConfigs may replicate deletions, by which images go that another Region may run. Where it is taken back,
    /// images are still replicated and their deletions are not. Default: false.
    #[serde(default)]
    pub allow_delete: bool,

    /// The accounts that may replicate into this registry, and create the repositories that this takes: each has a statement in
    /// the registry's policy, beside those of `spec.policy` and those of others. An account that is taken out of the list loses
    /// its statement. At most 20, each named once, and never `spec.registryId`, which needs no leave. `[]` means: none. Default:
    /// not managed; taken out of the spec, it leaves in ECR what is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "set"))]
    pub from: Option<Vec<AccountId>>,
}

/// How reports of images in use are judged.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InUse {
    /// After which time without a report a cluster counts as silent: an Event tells of it, and what it used stays
    /// protected. Clusters publish at least once a day, so less than two days makes little sense. 1h to 365d. Default: 7d.
    #[serde(default = "week")]
    pub stale_after: Span,

    /// Clusters that are gone for good, by the UID of their `kube-system` as `status.inUse.clusters` shows it. What they
    /// used is no longer protected, except by a cluster whose report is less than two days old: that one still runs. At
    /// most 100, each of 1 to 128 characters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 128)))]
    pub retired_clusters: Vec<String>,
}

const fn week() -> Span {
    Span::seconds(7 * 86_400)
}

impl Default for InUse {
    fn default() -> Self {
        Self {
            stale_after: week(),
            retired_clusters: Vec::new(),
        }
    }
}

/// How much of the account's allowance the operator may use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// How many images a second it may put: tags and copies of promotions. ECR takes ten a second of an account, and CI
    /// needs them too. 1 to 10. Default: 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub put_image_per_second: u8,
}

fn two() -> u8 {
    2
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            put_image_per_second: two(),
        }
    }
}

/// A role to assume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssumeRole {
    /// The ARN of the role. Required.
    pub role_arn: RoleArn,

    /// The external id that the role's trust policy asks for. 2 to 1,224 characters. Default: none is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 1224), regex(pattern = r"^[\w+=,.@:/-]+$"))]
    pub external_id: Option<String>,
}

/// Addresses of AWS APIs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Address of the ECR API, an `http` or `https` URL of at most 2,048 characters. Default: AWS's endpoint of the
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub ecr: Option<String>,

    /// Address of the STS API, an `http` or `https` URL of at most 2,048 characters. Default: AWS's endpoint of the
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub sts: Option<String>,

    /// Address of the SQS API, an `http` or `https` URL of at most 2,048 characters. Default: AWS's endpoint of the
    /// Region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048), regex(pattern = r"^https?://[^\s]+$"))]
    pub sqs: Option<String>,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventSource {
    /// The URL of an SQS standard queue in the registry's Region to which rules of EventBridge send the registry's events,
    /// such as `https://sqs.eu-west-1.amazonaws.com/111122223333/ecr-operator`. The queue belongs to this Registry alone:
    /// SQS gives a message to one reader. At most 2,048 characters. Required.
    #[schemars(
        length(max = 2048),
        regex(pattern = r"^https?://[^\s/]+/[0-9]{12}/[A-Za-z0-9_-]{1,80}$")
    )]
    pub queue_url: String,
}

/// Whether this cluster writes to the registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum RegistryMode {
    #[default]
    Observe,
    Manage,
}

/// Namespaces that may use the registry, and what for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tenant {
    /// The namespaces meant, by their labels; `{}` means every namespace. Required.
    pub namespace_selector: LabelSelector,

    /// What the names of their repositories begin with, compared by path segment: `team-a/` does not hold
    /// `team-ab/web`. `{namespace}` stands for the object's namespace, `*` alone for every name. 1 to 50. Required.
    #[schemars(length(min = 1, max = 50))]
    pub repository_prefixes: Vec<RepositoryPrefix>,

    /// What they may do with the repositories under these prefixes. `Manage`: create Repositories. `Promote`: let
    /// ImagePromotions look at them and run their images. `Pull`: have PullSecrets for them. 1 to 8 entries. Required.
    #[schemars(length(min = 1, max = 8))]
    pub may: Vec<Permission>,

    /// Whom the policies of their repositories may name: account ids, account roots (`arn:aws:iam::<account>:root`,
    /// which covers everyone in the account), ARNs of roles and users, or service names. At most 100, each of 1 to 512
    /// characters. Default: everyone in the registry's own account. An empty list means nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 512)))]
    pub principals: Option<Vec<String>>,

    /// Which organizations the policies of their repositories may name, as `o-` and 10 to 32 letters and digits. At
    /// most 20. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 34), regex(pattern = "^o-[a-z0-9]{10,32}$")))]
    pub organization_ids: Vec<String>,
}

/// What a tenant may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Permission {
    Manage,
    Promote,
    Pull,
}

/// Settings for `CreateRepository` only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new(
        "(has(self.imageTagMutability) && self.imageTagMutability.endsWith('_WITH_EXCLUSION')) == has(self.imageTagMutabilityExclusionFilters)"
    )
    .message("creationDefaults.imageTagMutabilityExclusionFilters go with imageTagMutability MUTABLE_WITH_EXCLUSION or IMMUTABLE_WITH_EXCLUSION, and with no other")
    .field_path(".imageTagMutabilityExclusionFilters")
)]
#[serde(rename_all = "camelCase")]
pub struct CreationDefaults {
    /// `MUTABLE`, `IMMUTABLE`, or either `_WITH_EXCLUSION` for the tags that the filters name. Default: ECR's, MUTABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_tag_mutability: Option<ImageTagMutability>,

    /// Tags excepted from the mutability; required with a `_WITH_EXCLUSION` value, refused otherwise. 1 to 5. Default:
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 5))]
    pub image_tag_mutability_exclusion_filters: Option<Vec<ExclusionFilter>>,

    /// Encryption at rest. Default: ECR's, AES256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// Whether images are scanned when they are pushed (basic scanning). Default: ECR's, false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_on_push: Option<bool>,

    /// Tags of the repository. At most 49; keys of 1 to 128 and values of up to 256 characters; keys that begin with
    /// `aws:` or `ecr-operator.dev/` are refused. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
}

/// What was seen of the registry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    #[serde(flatten)]
    #[expect(
        missing_docs,
        reason = "its own fields carry the documentation; a description here would end up on the status"
    )]
    pub common: CommonStatus,

    /// Who manages the registry. Default: absent while nobody has claimed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<ClaimStatus>,

    /// Whether the queue of events is read. Default: absent without `spec.events`, and until it was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<EventsStatus>,

    /// Which clusters report what they use, and what comes of it. Default: absent while nobody needs to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use: Option<InUseStatus>,

    /// How the registry's documents stand, each by itself. Repositories do not wait for them. Default: absent where the spec
    /// names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<DocumentsStatus>,

    /// What the operator has to know of its own rules for replication. Default: absent until a ReplicationConfig was put.
    // Written by ReplicationConfigs, under a field manager of their own, right before they put something. The Registry's
    // own status is never to carry it: a copy that is a moment old would forget rules that are on their way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication: Option<ReplicationMarks>,
}

/// Rules for replication that this operator wrote, or was about to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationMarks {
    /// The rules by their hashes: of destinations, filters and `deleteReplication`. What is not listed was written by
    /// somebody else and stays. At most 100, each of 64 characters. Default: none.
    #[serde(default)]
    #[schemars(length(max = 100), inner(length(min = 64, max = 64)))]
    pub written: Vec<String>,

    /// The backfills that a ReplicationConfig asks for. At most 25. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25))]
    pub backfills: Vec<BackfillMark>,
}

/// How far a backfill has come on its way to ECR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillMark {
    /// Where it sends images to.
    #[serde(flatten)]
    pub destination: ReplicationDestination,

    /// By which ECR knows it. Default: absent before it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub id: Option<String>,

    /// What ECR knew of when it was asked for this one: whatever came after is this one, also if no answer ever came.
    /// Default: absent before ECR was asked, and once the id is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<BackfillsBefore>,
}

/// The backfills of a destination that ECR started last, by its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackfillsBefore {
    /// When. Default: absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub started_at: Option<Timestamp>,

    /// Which of them were started then. At most 25. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 25), inner(length(max = 128)))]
    pub ids: Vec<String>,
}

/// What is known of images in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InUseStatus {
    /// The clusters that have reported what they use, the silent ones first. One that is here and has no report any more
    /// keeps everything protected. At most 100. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub clusters: Vec<ClusterInUse>,

    /// How many images of the registry are kept from clean-up, about: it is brought up to date when it changed by a tenth.
    /// Default: 0.
    #[serde(default)]
    pub protected_images: u32,

    /// What keeps images from being protected, or from being released again, and what would mend it; at most 1,024
    /// characters. Default: empty while nothing is wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A cluster that uses images of the registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterInUse {
    /// The UID of its `kube-system`, or the name under which it reports; at most 128 characters. Required.
    #[schemars(length(max = 128))]
    pub id: String,

    /// The day of its last report, as its first moment. Default: absent where there is no report that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<MicroTime>")]
    pub published_at: Option<Timestamp>,

    /// How many images it uses, about: it is brought up to date when it changed by a tenth. Default: 0.
    #[serde(default)]
    pub images: u32,

    /// Whether it has not reported for longer than `spec.inUse.staleAfter`. Default: false.
    #[serde(default)]
    pub silent: bool,
}

/// How the reading of events goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventsStatus {
    /// Whether the queue answers. While it does not, changes by others are noticed by listing and by full checks, and
    /// `Ready` does not depend on it. Default: false.
    #[serde(default)]
    pub listening: bool,

    /// What is wrong and what would mend it, at most 1,024 characters. Default: empty while nothing is wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// A claim on a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStatus {
    /// The `ownerId` of the installation that holds the claim, at most 256 characters. Default: empty where the claim
    /// does not say.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub writer: String,

    /// The UID of the cluster that holds the claim, at most 256 characters. Default: empty where the claim does not say.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub cluster: String,
}

impl RegistryStatus {
    /// The conditions of the status, none where it was never written.
    #[must_use]
    pub fn conditions(status: Option<&Self>) -> &[Condition] {
        status.map_or(&[], |status| &status.common.conditions)
    }
}
