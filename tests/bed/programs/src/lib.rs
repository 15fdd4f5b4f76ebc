//! The programs the bed is made of: built once from source, kept in the user's cache directory.
//!
//! Each group is kept under a key made from all that it is built from, so a second clone of the repository starts at once
//! and a changed version builds anew. Groups are built when they are first asked for.

mod cache;
mod clone;
mod digest;
mod environment;
mod go;
mod keeper;
mod key;
mod process;
mod progress;
mod signals;
mod stand_in;
mod tasks;
mod wait;
mod workspace;

use std::path::PathBuf;

use anyhow::Result;
use tokio::sync::OnceCell;

pub use cache::cache_directory;
pub use clone::root;
pub use digest::{hexadecimal, sha256};
pub use environment::{as_by_hand, isolated};
pub use keeper::Keeper;
pub use process::{Process, Signal};
pub use signals::interruption;
pub use tasks::Tasks;
pub use wait::{Sighting, eventually, throughout};
pub use workspace::{operator, plugin, released_operator, workspace_programs};

/// The control plane's programs.
#[derive(Debug, Clone)]
pub struct ControlPlanePrograms {
    /// The store behind the apiservers.
    pub etcd: PathBuf,
    /// The apiserver.
    pub kube_apiserver: PathBuf,
    /// Garbage collection, namespaces, service accounts, workloads.
    pub kube_controller_manager: PathBuf,
    /// The command-line client.
    pub kubectl: PathBuf,
    /// Installs the chart.
    pub helm: PathBuf,
}

/// The parts of Argo CD that reconcile, and what they need.
#[derive(Debug, Clone)]
pub struct ArgoCdPrograms {
    /// One program by the names `argocd-repo-server`, `argocd-application-controller` and `redis`, and the manifests of
    /// its version.
    pub directory: PathBuf,
}

/// etcd, kube-apiserver, kube-controller-manager, kubectl and helm, built if need be.
///
/// With `KUBEBUILDER_ASSETS` set, as envtest has it, the etcd, kube-apiserver and kubectl there are used, and only what envtest
/// does not come with is built: kube-controller-manager and helm.
pub async fn control_plane() -> Result<ControlPlanePrograms> {
    static BUILT: OnceCell<ControlPlanePrograms> = OnceCell::const_new();
    BUILT.get_or_try_init(go::control_plane).await.cloned()
}

/// Argo CD's repository server and application controller, with a Redis, built if need be. Only
/// scenarios with a second owner of the manifests need them.
pub async fn argo_cd() -> Result<ArgoCdPrograms> {
    static BUILT: OnceCell<ArgoCdPrograms> = OnceCell::const_new();
    BUILT.get_or_try_init(go::argo_cd).await.cloned()
}

/// The AWS stand-in, built if need be.
pub async fn aws_stand_in() -> Result<PathBuf> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_try_init(stand_in::program).await.cloned()
}

/// Where the stand-in's cargo keeps its intermediate files, shared by all clones of the repository.
pub fn stand_in_target_directory() -> Result<PathBuf> {
    Ok(cache_directory()?.join("aws-target"))
}

/// Where the stand-in's sources lie.
#[must_use]
pub fn stand_in_sources() -> PathBuf {
    sources("aws")
}

/// A folder of the bed's sources in this clone.
fn sources(folder: &str) -> PathBuf {
    root().join("tests/bed").join(folder)
}
