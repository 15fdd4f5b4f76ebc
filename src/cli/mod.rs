//! The command line: one file a command.

mod completion;
mod copy;
mod crd;
mod export;
mod iam_policy;
mod kubectl;
mod lifecycle;
mod manifests;
mod plan;
mod run;
mod table;
mod way;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kube::client::ClientBuilder;

use crate::control::gate::Gate;

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

/// Runs what the command line asks for; called as `kubectl-ecr`, what the plugin's does.
#[must_use]
pub fn main() -> ExitCode {
    match kubectl::Called::by(std::env::args_os().next().as_deref()) {
        kubectl::Called::Plugin => kubectl::main(),
        kubectl::Called::Completion => kubectl::complete(),
        kubectl::Called::Operator => start(run_command),
    }
}

fn run_command(cli: Cli) -> Outcome {
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

/// Parses the command line and runs it. A usage error exits with 1, so that the 2 of `plan` always means changes.
fn start<C: Parser>(run: impl FnOnce(C) -> Outcome) -> ExitCode {
    match C::try_parse() {
        Ok(command) => told(run(command)),
        Err(error) => {
            // Help and version are no errors. That standard output is closed is nothing to tell anybody.
            let _ = error.print();
            if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

/// The exit code, after why it failed was told.
fn told(outcome: Outcome) -> ExitCode {
    outcome.unwrap_or_else(|message| {
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), "error: {message}");
        ExitCode::FAILURE
    })
}

/// How a command ends: an exit code, or the sentence that says why it failed.
type Outcome = Result<ExitCode, String>;

/// Prints to standard output. A reader that went away (`| head`) is no error.
fn print(text: &str) -> Outcome {
    write(text).map(|_| ExitCode::SUCCESS)
}

/// Prints to standard output, and tells whether somebody still reads it.
fn write(text: &str) -> Result<bool, String> {
    use std::io::Write as _;
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("standard output could not be written: {error}")),
    }
}

/// Runs a command that talks to the network.
fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime could not be started: {error}"))?;
    let outcome = runtime.block_on(work);
    // A lookup of a name that hangs would hold up the end, and with it a leader that lost its lead.
    runtime.shutdown_background();
    outcome
}

/// The cluster that the kubeconfig, or the pod's service account, points to.
async fn cluster() -> Result<kube::Config, String> {
    kube::Config::infer().await.map_err(|error| {
        format!(
            "no way to a Kubernetes cluster was found: {error}; set KUBECONFIG, or run in a pod with a ServiceAccount"
        )
    })
}

/// A client whose writes pass the gate.
fn gated(cluster: kube::Config, gate: &Gate) -> Result<kube::Client, String> {
    let builder = ClientBuilder::try_from(cluster).map_err(|error| unusable(&error))?;
    Ok(builder.with_layer(gate).build())
}

/// A client for what is written without leading: the Lease itself, and what people ask of the plugin.
fn ungated(cluster: kube::Config) -> Result<kube::Client, String> {
    kube::Client::try_from(cluster).map_err(|error| unusable(&error))
}

fn unusable(error: &kube::Error) -> String {
    format!("the way to the Kubernetes cluster cannot be used: {error}")
}
