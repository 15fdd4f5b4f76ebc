//! The project's development commands; see `cargo xtask --help`.
#![allow(clippy::print_stdout, reason = "a command line prints")]

mod bed;
mod bench;
mod demo;
mod diff;
mod generate;
mod signals;
mod test;

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
    Bench(bench::Arguments),
    Demo(demo::Arguments),
    Test(test::Arguments),
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
        code = signals::interruption() => {
            eprintln!("interrupted, ending what was started");
            ExitCode::from(code)
        }
    }
    // The command that lost is dropped here, and with it its processes.
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Bed(arguments) => bed::run(&arguments).await,
        Command::Bench(arguments) => bench::run(arguments).await,
        Command::Demo(arguments) => demo::run(arguments).await,
        Command::Test(arguments) => test::run(&arguments).await,
        Command::Generate(arguments) => generate::run(&arguments),
    }
}
