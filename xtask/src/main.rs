//! The project's development commands; see `cargo xtask --help`.
//!
//! This program is small on purpose: it is what a newcomer waits for before anything else starts. The commands that need
//! the operator's library or the bed are in the package `xtask-commands`, which is built beside the bed's programs.
#![allow(clippy::print_stdout, reason = "a command line prints")]

mod bed;
mod cargo;
mod commands;
mod test;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development commands of ecr-operator.
///
/// Whatever they start ends with them, also when they are interrupted.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  cargo xtask demo   see it work
  cargo xtask test   check a change")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bed(bed::Arguments),
    /// Measures the released operator on the test bed
    #[command(disable_help_flag = true)]
    Bench(PassedOn),
    /// Runs everything on this machine and reports what happens, step by step
    #[command(disable_help_flag = true)]
    Demo(PassedOn),
    Test(test::Arguments),
    /// Writes the CRDs and whatever else is derived from the code
    #[command(disable_help_flag = true)]
    Generate(PassedOn),
}

/// Arguments that the package `xtask-commands` reads, `--help` among them.
#[derive(clap::Args)]
struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Arguments::parse().command;
    tokio::select! {
        // First the command: one that is interrupted has a say in how it ends.
        biased;
        result = run(command) => result.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }),
        code = bed_programs::interruption() => {
            eprintln!("interrupted, ending what was started");
            ExitCode::from(code)
        }
    }
    // The command that lost is dropped here, and with it its processes.
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bed(arguments) => bed::run(&arguments).await,
        Command::Bench(passed_on) => commands::run("bench", &passed_on.arguments).await,
        Command::Demo(passed_on) => commands::run("demo", &passed_on.arguments).await,
        Command::Test(arguments) => test::run(&arguments).await,
        Command::Generate(passed_on) => commands::run("generate", &passed_on.arguments).await,
    }
}
