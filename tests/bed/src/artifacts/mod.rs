//! The programs the bed is made of: built once from source, kept in the user's cache directory.
//!
//! Each group is kept under a key made from all that it is built from, so a second clone of the repository starts at once
//! and a changed version builds anew. Groups are built when they are first asked for.

mod cache;
mod go;
mod key;
mod program;
mod progress;
mod stand_in;

use std::path::PathBuf;

use anyhow::Result;
use tokio::sync::OnceCell;

use self::program::{Features, program};
use crate::clone::root;

pub use cache::cache_directory;

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
}

/// Programs used beside the control plane.
#[derive(Debug, Clone)]
pub struct Tools {
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

/// etcd, kube-apiserver, kube-controller-manager and kubectl, built if need be (about five minutes).
///
/// With `KUBEBUILDER_ASSETS` set, as envtest has it, the etcd, kube-apiserver and kubectl there are used, and only
/// kube-controller-manager, which envtest does not come with, is built.
pub async fn control_plane() -> Result<ControlPlanePrograms> {
    static BUILT: OnceCell<ControlPlanePrograms> = OnceCell::const_new();
    BUILT.get_or_try_init(go::control_plane).await.cloned()
}

/// helm, built if need be (about a minute).
pub async fn tools() -> Result<Tools> {
    static BUILT: OnceCell<Tools> = OnceCell::const_new();
    BUILT.get_or_try_init(go::tools).await.cloned()
}

/// Argo CD's repository server and application controller, with a Redis, built if need be (about three minutes). Only
/// scenarios with a second owner of the manifests need them.
pub async fn argo_cd() -> Result<ArgoCdPrograms> {
    static BUILT: OnceCell<ArgoCdPrograms> = OnceCell::const_new();
    BUILT.get_or_try_init(go::argo_cd).await.cloned()
}

/// The AWS stand-in, built if need be (about three minutes).
pub async fn aws_stand_in() -> Result<PathBuf> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_try_init(stand_in::program).await.cloned()
}

/// The operator of this clone as it is now, in the profile for development. Tests of the operator's own package have it from
/// cargo already.
pub async fn operator() -> Result<PathBuf> {
    program("ecr-operator", "dev", Features::Own).await
}

/// The operator of this clone as it is released: optimised and stripped. Takes minutes to build.
pub async fn released_operator() -> Result<PathBuf> {
    program("ecr-operator", "release", Features::Own).await
}

/// The plugin of kubectl of this clone as it is now, in the profile for development. Cargo gives tests the programs of their
/// own package only.
pub async fn plugin() -> Result<PathBuf> {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT
        .get_or_try_init(|| program("kubectl-ecr", "dev", Features::Workspace))
        .await
        .cloned()
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
