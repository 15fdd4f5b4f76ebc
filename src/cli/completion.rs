//! `ecr-operator completion SHELL`

use clap::{CommandFactory as _, ValueEnum as _};
use clap_complete::{Shell, generate};

use super::Cli;
use crate::terminal::{self, Outcome};

/// Prints a completion script, for example `ecr-operator completion bash > /etc/bash_completion.d/ecr-operator`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell the script is for.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn main(args: &Args) -> Outcome {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "ecr-operator", &mut script);
    let text = String::from_utf8(script).map_err(|_| {
        let shell = args.shell.to_possible_value();
        format!(
            "the script for {} is not text",
            shell.as_ref().map_or("this shell", |shell| shell.get_name())
        )
    })?;
    terminal::print(&text)
}
