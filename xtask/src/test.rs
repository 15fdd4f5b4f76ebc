//! `cargo xtask test`: everything that has to hold before a change is taken in.

use std::io::{IsTerminal as _, stdout};
use std::process::{self, ExitCode};
use std::time::Instant;

use anyhow::{Result, bail};
use bed::{Tasks, artifacts, root};
use clap::ValueEnum;

use crate::generate;

/// Runs every check: format, clippy, generated files, all tests
///
/// Stops at the first step that fails, names it and the command that repeats it, and exits with 1. The last line sums up
/// the tests that were run.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                          everything
  cargo xtask test --only fmt --only clippy
  cargo xtask test --skip stand-in-test     when nothing in tests/bed/aws was changed
  cargo test NAME                           one test, once the bed is built")]
pub(crate) struct Arguments {
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
    /// Generated files are in step with the code
    Generate,
    /// Lints of the workspace
    Clippy,
    /// Lints of the plugin as it is released, without the operator's features
    PluginClippy,
    /// The bed's programs are built
    Bed,
    /// Lints of the AWS stand-in
    StandInClippy,
    /// The AWS stand-in's own tests
    StandInTest,
    /// Unit tests and scenarios against the bed
    Test,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }

    /// What is run, if the step is a program.
    fn cargo_arguments(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Fmt => &["fmt", "--all", "--check"],
            Self::StandInFmt => &["fmt", "--check"],
            Self::Clippy => &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
            Self::PluginClippy => &["clippy", "--package", "kubectl-ecr", "--", "-D", "warnings"],
            Self::StandInClippy => &[
                "clippy",
                "--release",
                "--locked",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
            Self::StandInTest => &["test", "--release", "--locked", "--no-fail-fast"],
            Self::Test => &["test", "--workspace", "--no-fail-fast"],
            Self::Generate | Self::Bed => return None,
        })
    }

    /// The command that repeats it, from the clone's folder.
    fn by_hand(self) -> String {
        match (self, self.cargo_arguments()) {
            (Self::Generate, _) => "cargo xtask generate --check".to_owned(),
            (Self::StandInFmt | Self::StandInClippy | Self::StandInTest, Some(arguments)) => {
                format!("cd tests/bed/aws && cargo {}", arguments.join(" "))
            }
            (_, Some(arguments)) => format!("cargo {}", arguments.join(" ")),
            (_, None) => format!("cargo xtask {}", self.name()),
        }
    }

    async fn run(self, tasks: &Tasks, sum: &mut Sum) -> Result<()> {
        let Some(arguments) = self.cargo_arguments() else {
            return match self {
                Self::Bed => crate::bed::build_all().await.map(drop),
                _ if generate::check()? => Ok(()),
                _ => bail!("generated files differ"),
            };
        };
        let mut cargo = process::Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.args(arguments).current_dir(root());
        if matches!(self, Self::StandInFmt | Self::StandInClippy | Self::StandInTest) {
            cargo.current_dir(artifacts::stand_in_sources());
            cargo.env("CARGO_TARGET_DIR", artifacts::stand_in_target_directory()?);
        }
        if stdout().is_terminal() {
            // It sees our pipe where we see a terminal.
            cargo.env("CARGO_TERM_COLOR", "always");
        }
        let status = tasks.run(&cargo, |line| {
            println!("{line}");
            sum.read(line);
        });
        let status = status.await?;
        if !status.success() {
            bail!("{status}");
        }
        Ok(())
    }
}

/// The tests that were run, as the test programs themselves count them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: u64,
    failed: u64,
}

impl Sum {
    /// Adds up lines like `test result: ok. 26 passed; 0 failed; 1 ignored; …`, coloured or not.
    fn read(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ") else {
            return;
        };
        let counted = |what: &str| -> u64 {
            let before = counts.split([';', '.']).find_map(|part| part.trim().strip_suffix(what));
            before.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
        };
        self.passed += counted("passed");
        self.failed += counted("failed");
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let wanted =
        |step: &Step| !arguments.skip.contains(step) && (arguments.only.is_empty() || arguments.only.contains(step));
    let tasks = Tasks::new()?;
    let mut sum = Sum::default();
    let mut code = ExitCode::SUCCESS;
    for step in Step::value_variants().iter().filter(|step| wanted(step)) {
        println!("==> {}: {}", step.name(), step.by_hand());
        let start = Instant::now();
        let result = step.run(&tasks, &mut sum).await;
        let seconds = start.elapsed().as_secs_f64();
        if let Err(error) = result {
            println!("==> {} failed after {seconds:.1} s: {error:#}", step.name());
            println!("    repeat it with: {}", step.by_hand());
            code = ExitCode::FAILURE;
            break;
        }
        println!("==> {} done in {seconds:.1} s", step.name());
    }
    println!("{} passed, {} failed", sum.passed, sum.failed);
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_programs_are_added_up() {
        let mut sum = Sum::default();
        sum.read("test result: ok. 26 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.42s");
        sum.read("test result: \u{1b}[31mFAILED\u{1b}[0m. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        sum.read("test a_test ... ok");
        assert_eq!(sum, Sum { passed: 29, failed: 2 });
    }

    #[test]
    fn every_step_can_be_repeated_by_hand() {
        for step in Step::value_variants() {
            assert!(step.by_hand().contains("cargo "), "{step:?}");
        }
    }
}
