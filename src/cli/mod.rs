//! The command line: one file a command.

mod completion;
mod copy;
mod crd;
mod plan;
mod run;

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
    /// Copy an image to another repository, account or Region, with its digest, signatures and attestations.
    Copy(Box<copy::Args>),
    /// Print the version.
    Version,
    /// Print a completion script for a shell.
    Completion(completion::Args),
}

/// Parses the command line and runs what it asks for. A usage error exits with 1, so that the 2 of `plan` always means
/// changes.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. That standard output is closed is nothing to tell anybody.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let outcome = match cli.command {
        Command::Run(args) => run::main(*args),
        Command::Crd => crd::main(),
        Command::Plan(args) => plan::main(&args),
        Command::Copy(args) => copy::main(&args),
        Command::Version => print(concat!("ecr-operator ", env!("CARGO_PKG_VERSION"), "\n")),
        Command::Completion(args) => completion::main(&args),
    };
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
    use std::io::Write as _;
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(format!("standard output could not be written: {error}"))
        }
        _ => Ok(ExitCode::SUCCESS),
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

/// A client for the one thing that is written before the gate is open: the Lease.
fn ungated(cluster: kube::Config) -> Result<kube::Client, String> {
    kube::Client::try_from(cluster).map_err(|error| unusable(&error))
}

fn unusable(error: &kube::Error) -> String {
    format!("the way to the Kubernetes cluster cannot be used: {error}")
}
