//! The objects users write: types, schemas and validation rules, one file a kind. Nothing here does I/O.

pub mod ecr;
pub mod names;
pub mod registry;
pub mod repository;
pub mod status;

pub use registry::Registry;
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

/// The tag keys below this prefix belong to the operator; users may not set them.
pub const TAG_PREFIX: &str = "ecr-operator.dev/";

/// Tag on a repository: which object it belongs to, as `ownerId/namespace/name`.
pub const OWNER_TAG: &str = "ecr-operator.dev/owner";

/// The repository that stands for the claim on a registry.
pub const CLAIM_REPOSITORY: &str = "ecr-operator/registry";

/// Tag on the claim: the `ownerId` of the installation that manages the registry.
pub const CLAIM_WRITER_TAG: &str = "ecr-operator.dev/writer";

/// Tag on the claim: the UID of the cluster (of its `kube-system` namespace) that manages the registry.
pub const CLAIM_CLUSTER_TAG: &str = "ecr-operator.dev/cluster";
