//! The operator's command line: one file a command.

mod completion;
mod copy;
mod crd;
mod export;
mod iam_policy;
mod lifecycle;
mod manifests;
mod plan;
mod run;
mod way;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kube::client::ClientBuilder;

use crate::{
    control::gate::Gate,
    terminal::{self, Outcome, print},
};

/// Manages Amazon ECR from Kubernetes: repositories, their settings, policies and tags are what the manifests say.
#[derive(Debug, Parser)]
#[command(
    name = "ecr-operator",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    Run(Box<run::Args>),
    /// Print the custom resource definitions as YAML.
    Crd,
    /// Print what would be done for the given manifests, without doing it.
    Plan(plan::Args),
    /// Print manifests for what a registry holds, to take it over as it is.
    Export(export::Args),
    /// Show what lifecycle policies would do, and what they do to images in use.
    #[command(subcommand)]
    Lifecycle(lifecycle::Command),
    /// Copy an image to another repository, account or Region, with its digest, signatures and attestations.
    Copy(Box<copy::Args>),
    /// Print the least IAM policy for what the operator is to do, or the trust policy of its role.
    IamPolicy(iam_policy::Args),
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completion(completion::Args),
}

/// Runs the command that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    terminal::start(run)
}

fn run(cli: Cli) -> Outcome {
    match cli.command {
        Command::Run(args) => run::main(*args),
        Command::Crd => crd::main(),
        Command::Plan(args) => plan::main(&args),
        Command::Export(args) => export::main(&args),
        Command::Lifecycle(command) => lifecycle::main(&command),
        Command::Copy(args) => copy::main(&args),
        Command::IamPolicy(args) => iam_policy::main(&args),
        Command::Version => print(concat!("ecr-operator ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Completion(args) => completion::main(&args),
    }
}

/// A client whose writes pass the gate.
fn gated(cluster: kube::Config, gate: &Gate) -> Result<kube::Client, String> {
    let builder = ClientBuilder::try_from(cluster).map_err(|error| terminal::unusable(&error))?;
    Ok(builder.with_layer(gate).build())
}
