//! The development commands that need the operator's library or the bed. `cargo xtask` builds this program and runs it.
#![allow(clippy::print_stdout, reason = "a command line prints")]

mod bench;
mod demo;
mod diff;
mod generate;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Development commands of ecr-operator.
///
/// Whatever they start ends with them, also when they are interrupted.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Arguments),
    Demo(demo::Arguments),
    Generate(generate::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Arguments::parse().command;
    tokio::select! {
        // First the command: `demo --keep` ends by a signal, and has a say in how.
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
        Command::Bench(arguments) => bench::run(arguments).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Generate(arguments) => generate::run(&arguments),
    }
}
