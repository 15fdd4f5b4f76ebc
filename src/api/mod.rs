//! The objects users write: types, schemas and validation rules, one file a kind. Nothing here does I/O.

pub mod cache_rule;
pub mod creation_template;
pub mod ecr;
pub mod lifecycle;
pub mod names;
pub mod prefixed;
pub mod promotion;
pub mod pull_secret;
pub mod registry;
pub mod replication;
pub mod repository;
pub(crate) mod selector;
pub mod span;
pub mod status;

pub use cache_rule::PullThroughCacheRule;
pub use creation_template::RepositoryCreationTemplate;
pub use lifecycle::{ClusterLifecyclePolicy, LifecyclePolicy};
pub use promotion::ImagePromotion;
pub use pull_secret::PullSecret;
pub use registry::Registry;
pub use replication::ReplicationConfig;
pub use repository::Repository;

/// The API group of every kind.
pub const GROUP: &str = "ecr-operator.dev";

/// The finalizer on objects that have something in AWS.
pub const FINALIZER: &str = "ecr-operator.dev/finalizer";

/// Annotation: a new value asks for a full look now. The last value that was handled stands in
/// `status.lastHandledReconcile`.
pub const RECONCILE_ANNOTATION: &str = "ecr-operator.dev/reconcile";

/// Annotation: with `deletionPolicy: DeleteWithImages`, the name of the repository whose images may be deleted with it.
pub const DELETE_IMAGES_ANNOTATION: &str = "ecr-operator.dev/delete-images-of";

/// Annotation: on a Repository or on the policy that applies to it, the tokens of previews that are accepted although the guard
/// speaks against them, separated by commas.
pub const ACCEPT_ANNOTATION: &str = "ecr-operator.dev/accept-lifecycle-preview";

/// Annotation: on a workload or an object that a promotion writes to, or reads from, across namespaces: the namespaces whose
/// promotions may, separated by commas.
pub const PROMOTABLE_FROM_ANNOTATION: &str = "ecr-operator.dev/promotable-from";

/// Annotation on a workload: the digests that were taken back from it, separated by commas, the latest first. A promotion
/// that is created again does not roll forward into them.
pub const REJECTED_ANNOTATION: &str = "ecr-operator.dev/rejected-digests";

/// The requests to a promotion: each is the annotation `ecr-operator.dev/<name>`; a new value is a new request.
pub const REQUESTS: [&str; 6] = ["approve", "pin", "promote", "reject", "resume", "rollback"];

/// Label on the Secret of a PullSecret: the uid of the object.
pub const PULL_SECRET_LABEL: &str = "ecr-operator.dev/pull-secret";

/// Annotation on the Secret of a PullSecret: when the first of its tokens expires.
pub const EXPIRES_ANNOTATION: &str = "ecr-operator.dev/expires-at";

/// Annotation on the Secret of a PullSecret: what is known of its entries, but for the tokens.
pub const ENTRIES_ANNOTATION: &str = "ecr-operator.dev/pull-entries";

/// The tag keys below this prefix belong to the operator; users may not set them.
pub const TAG_PREFIX: &str = "ecr-operator.dev/";

/// Tag on a repository: which object it belongs to, as `ownerId/namespace/name`.
pub const OWNER_TAG: &str = "ecr-operator.dev/owner";

/// The repository that stands for the claim on a registry.
pub const CLAIM_REPOSITORY: &str = "ecr-operator/registry";

/// The repository with the reports of which images each cluster uses, one tag a cluster.
pub const IN_USE_REPOSITORY: &str = "ecr-operator/in-use";

/// Tag on the claim: the `ownerId` of the installation that manages the registry.
pub const CLAIM_WRITER_TAG: &str = "ecr-operator.dev/writer";

/// Tag on the claim: the UID of the cluster (of its `kube-system` namespace) that manages the registry.
pub const CLAIM_CLUSTER_TAG: &str = "ecr-operator.dev/cluster";

/// The tags that keep images in use from clean-up begin with it. They belong to the operator: an image that has one is
/// protected, and none is ever picked by it.
pub const IN_USE_TAG_PREFIX: &str = "in-use.";
