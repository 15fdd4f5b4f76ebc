//! `kubectl ecr ...`: the same binary, called as `kubectl-ecr`, is a plugin of kubectl for those who work with
//! promotions.

mod ask;
mod completion;
mod connect;
mod image;
mod show;
mod text;

use std::{ffi::OsStr, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

use super::Outcome;

/// Looks at promotions and asks them for something.
///
/// A request is an annotation on the `ImagePromotion`, which the operator answers in its status. Whoever may patch the
/// promotion and its targets may ask; approving takes the verb `approve`.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-ecr",
    bin_name = "kubectl ecr",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    cluster: connect::Args,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show where one promotion stands, or each of a namespace.
    Status(show::StatusArgs),
    /// Show the ended rollouts of a promotion, the latest first.
    History(show::HistoryArgs),
    #[command(flatten)]
    Ask(ask::Command),
}

/// The program, by the name that it was called by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    Operator,
    Plugin,
    /// By kubectl, for the completion of what follows `kubectl ecr`.
    Completion,
}

impl Called {
    /// From the first argument, a path perhaps.
    pub(super) fn by(argument: Option<&OsStr>) -> Self {
        match argument.and_then(|path| Path::new(path).file_name()?.to_str()) {
            Some("kubectl-ecr") => Self::Plugin,
            Some("kubectl_complete-ecr") => Self::Completion,
            _ => Self::Operator,
        }
    }
}

/// Runs the plugin.
pub(super) fn main() -> ExitCode {
    super::start(run)
}

/// Prints what may follow the words that were typed.
pub(super) fn complete() -> ExitCode {
    let words: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    super::told(completion::main(&words))
}

fn run(cli: Cli) -> Outcome {
    super::block_on(async {
        let cluster = cli.cluster.connect().await?;
        match cli.command {
            Command::Status(args) => show::status(&cluster, &args).await,
            Command::History(args) => show::history(&cluster, &args).await,
            Command::Ask(command) => ask::main(&cluster, command).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_name_decides_which_program_it_is() {
        for (argument, called) in [
            ("ecr-operator", Called::Operator),
            ("/usr/bin/kubectl-ecr", Called::Plugin),
            ("kubectl_complete-ecr", Called::Completion),
            ("/kubectl-ecr/ecr-operator", Called::Operator),
        ] {
            assert_eq!(Called::by(Some(OsStr::new(argument))), called, "{argument}");
        }
        assert_eq!(Called::by(None), Called::Operator);
    }

    #[test]
    fn every_argument_and_command_has_help() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
            for command in command.get_subcommands() {
                assert!(command.get_about().is_some(), "{}", command.get_name());
                check(command);
            }
        }
        Cli::command().debug_assert();
        check(&Cli::command());
    }
}
