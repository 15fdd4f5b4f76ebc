//! `cargo xtask bed`: everything that tests and demo need, built.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bed::artifacts;

/// Builds the test bed and prints where its programs are
///
/// etcd, kube-apiserver, kube-controller-manager, kubectl and helm are built with Go 1.26 or newer, Argo CD with Go 1.27,
/// which an older Go fetches by itself, and the AWS stand-in with cargo. The first time takes about twelve minutes on two
/// cores. They are kept in the user's cache directory, under ecr-operator/bed, until what they are built from changes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bed
  KUBEBUILDER_ASSETS=$(setup-envtest use -p path) cargo xtask bed   use these etcd, kube-apiserver and kubectl")]
pub(crate) struct Arguments {}

pub(crate) async fn run(_: &Arguments) -> Result<ExitCode> {
    for (name, path) in build_all().await? {
        println!("{name:<24} {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds all there is; gives each program's name and place.
pub(crate) async fn build_all() -> Result<Vec<(&'static str, PathBuf)>> {
    let mut programs = build().await?;
    programs.push(("argo-cd", artifacts::argo_cd().await?.directory));
    Ok(programs)
}

/// Builds all but what only tests need; gives each program's name and place.
pub(crate) async fn build() -> Result<Vec<(&'static str, PathBuf)>> {
    let control_plane = artifacts::control_plane().await?;
    let tools = artifacts::tools().await?;
    let aws_stand_in = artifacts::aws_stand_in().await?;
    Ok(vec![
        ("etcd", control_plane.etcd),
        ("kube-apiserver", control_plane.kube_apiserver),
        ("kube-controller-manager", control_plane.kube_controller_manager),
        ("kubectl", control_plane.kubectl),
        ("helm", tools.helm),
        ("aws-stand-in", aws_stand_in),
    ])
}
