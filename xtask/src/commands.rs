//! Commands of the package `xtask-commands`: built, then run in our place.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::bed;

/// The program that has the commands.
const PROGRAM: &str = "xtask-commands";

/// Runs one of the commands with the arguments that were given to us.
///
/// The bed's programs and the workspace are built side by side: linkers and the last crate of a build use one core, and the
/// other build uses the other one meanwhile.
pub(crate) async fn run(command: &str, arguments: &[OsString]) -> Result<ExitCode> {
    let asks_for_help = arguments
        .iter()
        .any(|argument| argument == "--help" || argument == "-h");
    let program = if command == "generate" || asks_for_help {
        build().await?
    } else {
        let (_, program) = tokio::try_join!(bed::build(), build())?;
        program
    };
    // In our place: it gets the terminal and the signals as if it had been started by hand.
    let error = Command::new(&program).arg(command).args(arguments).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

/// Builds all programs of the workspace, and gives the one that has the commands.
pub(crate) async fn build() -> Result<PathBuf> {
    let mut built = bed_programs::workspace_programs().await?;
    built
        .remove(PROGRAM)
        .with_context(|| format!("cargo built the workspace without {PROGRAM}"))
}
