//! `cargo xtask test`: everything that has to hold before a change is taken in.

mod slowest;
mod sum;

use std::io::{IsTerminal as _, stdout};
use std::num::NonZero;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Result, bail};
use bed_programs::Tasks;
use clap::ValueEnum;

use self::slowest::Times;
use self::sum::Sum;
use crate::cargo::cargo;
use crate::{bed, commands};

/// How many tests run at once for each core. A scenario waits much of its time for pods, leases and rollouts, and another
/// one works meanwhile; with more of them, all wait for the processor.
const TESTS_PER_CORE: usize = 3;

/// Runs every check: format, clippy, generated files, all tests
///
/// Stops at the first step that fails, names it and the command that repeats it, and exits with 1. The last line sums up
/// the tests that were run.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                          what Rust, Go and git suffice for
  cargo xtask test --all                    also what needs more programs: Argo CD
  cargo xtask test --only fmt --only clippy
  cargo test NAME                           one test, once the bed is built")]
pub(crate) struct Arguments {
    /// Also run the tests that need more programs; these are built first
    #[arg(long)]
    all: bool,
    /// Leave out this step; may be repeated
    #[arg(long, value_name = "STEP", value_enum)]
    skip: Vec<Step>,
    /// Run only this step; may be repeated
    #[arg(long, value_name = "STEP", value_enum, conflicts_with = "skip")]
    only: Vec<Step>,
}

/// In the order in which they run: quick ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The format of the workspace
    Fmt,
    /// The format of the AWS stand-in
    StandInFmt,
    /// Lints of the workspace
    Clippy,
    /// Lints of the plugin as it is released, without the operator's features; only with --all
    PluginClippy,
    /// Lints of the AWS stand-in
    StandInClippy,
    /// Generated files are in step with the code
    Generate,
    /// The bed's programs are built
    Bed,
    /// Unit tests, tests of the AWS stand-in, and scenarios against the bed
    Test,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// The arguments of cargo, if the step is a call of it.
    fn cargo_arguments(self, all: bool) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Fmt | Self::StandInFmt => &["fmt", "--all", "--check"],
            Self::Clippy => &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
            Self::PluginClippy => &["clippy", "--package", "kubectl-ecr", "--", "-D", "warnings"],
            Self::StandInClippy => &["clippy", "--workspace", "--locked", "--", "-D", "warnings"],
            Self::Test if all => &["test", "--workspace", "--no-fail-fast", "--", "--include-ignored"],
            Self::Test => &["test", "--workspace", "--no-fail-fast"],
            Self::Generate | Self::Bed => return None,
        })
    }

    fn is_of_stand_in(self) -> bool {
        matches!(self, Self::StandInFmt | Self::StandInClippy)
    }

    /// The command that repeats it, from the clone's folder.
    fn by_hand(self, all: bool) -> String {
        match (self, self.cargo_arguments(all)) {
            (Self::Generate, _) => "cargo xtask generate --check".to_owned(),
            (_, Some(arguments)) if self.is_of_stand_in() => {
                format!("cd tests/bed/aws && cargo {}", arguments.join(" "))
            }
            (_, Some(arguments)) => format!("cargo {}", arguments.join(" ")),
            (_, None) if all => format!("cargo xtask {} --all", self.name()),
            (_, None) => format!("cargo xtask {}", self.name()),
        }
    }

    async fn run(self, all: bool, tasks: &Tasks, sum: &mut Sum) -> Result<()> {
        let mut command = match (self, self.cargo_arguments(all)) {
            (_, Some(arguments)) => {
                let mut cargo = cargo();
                cargo.args(arguments);
                cargo
            }
            (Self::Generate, None) => {
                let mut generate = Command::new(commands::build().await?);
                generate.args(["generate", "--check"]);
                generate
            }
            (_, None) => return build_bed(all).await,
        };
        if self.is_of_stand_in() {
            command.current_dir(bed_programs::stand_in_sources());
            command.env("CARGO_TARGET_DIR", bed_programs::stand_in_target_directory()?);
        }
        if stdout().is_terminal() {
            // It sees our pipe where we see a terminal.
            command.env("CARGO_TERM_COLOR", "always");
        }
        let times = Times::new()?;
        if self == Self::Test {
            command.env("RUST_TEST_THREADS", tests_at_once().to_string());
            command.env("SCENARIO_TIMES", times.path());
        }
        let status = tasks.run(&command, |line| {
            println!("{line}");
            sum.read(line);
        });
        let status = status.await?;
        print!("{}", times.report()?);
        if !status.success() {
            bail!("{status}");
        }
        Ok(())
    }
}

async fn build_bed(all: bool) -> Result<()> {
    bed::build().await?;
    if all {
        bed::build_more().await?;
    }
    Ok(())
}

fn tests_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get) * TESTS_PER_CORE
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let all = arguments.all;
    let wanted = |step: &Step| {
        if !arguments.only.is_empty() {
            return arguments.only.contains(step);
        }
        // It compiles the plugin's dependencies once more.
        !arguments.skip.contains(step) && (all || *step != Step::PluginClippy)
    };
    let tasks = Tasks::new()?;
    let mut sum = Sum::default();
    let mut code = ExitCode::SUCCESS;
    for step in Step::value_variants().iter().filter(|step| wanted(step)) {
        println!("==> {}: {}", step.name(), step.by_hand(all));
        let start = Instant::now();
        let result = step.run(all, &tasks, &mut sum).await;
        let seconds = start.elapsed().as_secs_f64();
        if let Err(error) = result {
            println!("==> {} failed after {seconds:.1} s: {error:#}", step.name());
            println!("    repeat it with: {}", step.by_hand(all));
            code = ExitCode::FAILURE;
            break;
        }
        println!("==> {} done in {seconds:.1} s", step.name());
    }
    println!("{sum}");
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_can_be_repeated_by_hand() {
        for step in Step::value_variants() {
            assert!(step.by_hand(false).contains("cargo "), "{step:?}");
        }
    }
}
