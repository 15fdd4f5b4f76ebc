//! `cargo xtask bed`: everything that tests and demo need, built.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

/// Builds the test bed and prints where its programs are
///
/// etcd, kube-apiserver, kube-controller-manager, kubectl and helm are built with Go 1.26 or newer, and the AWS stand-in with
/// cargo. They are kept in the user's cache directory, under ecr-operator/bed, until what they are built from changes.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bed
  cargo xtask bed --all
  KUBEBUILDER_ASSETS=$(setup-envtest use -p path) cargo xtask bed   use these etcd, kube-apiserver and kubectl")]
pub(crate) struct Arguments {
    /// Also build what only `cargo xtask test --all` needs: Argo CD, with Go 1.27, which an older Go fetches by itself
    #[arg(long)]
    all: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut programs = build().await?;
    if arguments.all {
        programs.extend(build_more().await?);
    }
    for (name, path) in programs {
        println!("{name:<24} {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds what the demo and most scenarios need; gives each program's name and place.
pub(crate) async fn build() -> Result<Vec<(&'static str, PathBuf)>> {
    let (control_plane, aws_stand_in) = tokio::try_join!(bed_programs::control_plane(), bed_programs::aws_stand_in())?;
    Ok(vec![
        ("etcd", control_plane.etcd),
        ("kube-apiserver", control_plane.kube_apiserver),
        ("kube-controller-manager", control_plane.kube_controller_manager),
        ("kubectl", control_plane.kubectl),
        ("helm", control_plane.helm),
        ("aws-stand-in", aws_stand_in),
    ])
}

/// Builds what `cargo xtask test --all` needs beyond that.
pub(crate) async fn build_more() -> Result<Vec<(&'static str, PathBuf)>> {
    Ok(vec![("argo-cd", bed_programs::argo_cd().await?.directory)])
}
