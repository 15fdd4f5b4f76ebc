//! The test bed: a real Kubernetes control plane and an AWS stand-in as local processes, with no container engine, no
//! cluster and no AWS account.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use bed::{Aws, Bed, ControlPlane};
//!
//! let bed = Bed::new()?;                          // a directory, and whatever will run in it
//! let control_plane = ControlPlane::start(&bed).await?;   // one etcd
//! let cluster = control_plane.cluster("main").await?;     // one apiserver on it, of several
//! let aws = Aws::start(&bed).await?;
//! let ecr = aws.ecr("eu-west-1", &aws.admin("111122223333").await?);
//! # Ok(()) }
//! ```
//!
//! - [`bed_programs`]: the programs, built once and kept in the user's cache directory.
//! - [`Bed`], [`Process`]: what was started ends, whatever way this program ends.
//! - [`ControlPlane`], [`Cluster`]: apiservers that do not see each other; clients, kubectl, helm; writes counted by user.
//! - [`Workloads`]: nodes on which pods start, crash or hang by their images, as a test says.
//! - [`ArgoCd`]: the real one with a Git repository, for when somebody else owns the manifests too.
//! - [`Aws`]: accounts, principals, faults, counted calls, images.
//! - [`Operator`]: the operator as a process under its own `ServiceAccount`.
//! - [`Tasks`]: programs that run in view, such as cargo.
//! - [`eventually`], [`throughout`]: the only places that wait.

mod aws;
mod bed;
mod cluster;
mod operator;
mod ports;
mod rights;

pub use aws::{
    Aws, BlobWay, Call, Calls, Deletion, Departure, DepartureCause, DockerAuth, Effect, Fault, FaultState, Image,
    ImageAge, ImageId, LifecycleAct, LifecycleAction, Moment, Policy, Principal, Queue,
};
pub use bed::{Bed, Output};
pub use bed_programs::{
    Process, Sighting, Signal, Tasks, as_by_hand, control_plane, eventually, plugin, root, throughout,
};
pub use cluster::{
    ARGO_CD_NAMESPACE, Application, ApplicationStatus, ArgoCd, ArgoCdRepository, Behaviour, Cluster, ClusterPool,
    ControlPlane, Gateway, NAMESPACE, SERVICE_ACCOUNT, Workloads, Write, Writes,
};
pub use operator::{Operator, OperatorOptions};
pub use rights::{MANAGES, pull_role_rights, rights};

/// A client for plain http on this machine. No proxy could reach it.
fn http_client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
