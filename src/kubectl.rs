//! `kubectl ecr ...`: the plugin of kubectl for those who work with promotions. It knows the API and the kubeconfig, and
//! nothing of AWS or of the operator's process.

mod ask;
mod completion;
mod connect;
mod image;
mod show;
mod text;

use std::{ffi::OsString, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::terminal::{self, Outcome};

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

/// Runs the plugin, or prints what may follow the words that were typed.
#[must_use]
pub fn main() -> ExitCode {
    match to_complete(std::env::args_os()) {
        Some(words) => terminal::exit_code(completion::main(&words)),
        None => terminal::start(run),
    }
}

/// The name by which kubectl asks for the completion of what follows `kubectl ecr`.
const COMPLETION: &str = "kubectl_complete-ecr";

/// The words to be completed, if that is what the program was started for: by its other name, which kubectl looks for,
/// or by the argument that a script of that name hands on where a link cannot be made.
fn to_complete(mut arguments: impl Iterator<Item = OsString>) -> Option<Vec<String>> {
    let program = arguments.next()?;
    let mut arguments = arguments.peekable();
    // On Windows, the name has an extension, and upper case does not matter.
    let name = Path::new(&program).file_stem();
    if !name.is_some_and(|name| name.eq_ignore_ascii_case(COMPLETION)) {
        arguments.next_if(|first| first == "__complete")?;
    }
    Some(arguments.map(|word| word.to_string_lossy().into_owned()).collect())
}

fn run(cli: Cli) -> Outcome {
    terminal::block_on(async {
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
    fn the_name_or_the_first_argument_asks_for_completion() {
        for (line, words) in [
            ("kubectl-ecr", None),
            ("kubectl-ecr status app", None),
            ("/kubectl_complete-ecr/kubectl-ecr status", None),
            ("kubectl-ecr status __complete", None),
            ("kubectl_complete-ecr", Some(&[][..])),
            (
                "/usr/bin/kubectl_complete-ecr -n team-a st",
                Some(&["-n", "team-a", "st"]),
            ),
            ("Kubectl_Complete-ECR.EXE status", Some(&["status"])),
            ("kubectl_complete-ecr __complete", Some(&["__complete"])),
            ("kubectl-ecr __complete", Some(&[])),
            ("kubectl-ecr __complete -n team-a st", Some(&["-n", "team-a", "st"])),
        ] {
            let found = to_complete(line.split(' ').map(OsString::from));
            let words = words.map(|words| words.iter().map(ToString::to_string).collect());
            assert_eq!(found, words, "{line}");
        }
        assert_eq!(to_complete(std::iter::empty()), None);
    }

    /// The files of the plugin's program: those that are there without the feature `operator`.
    fn sources(folder: &Path, into: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else {
                into.push(path);
            }
        }
    }

    #[test]
    fn nothing_in_the_plugin_belongs_to_one_system() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = vec![root.join("kubectl.rs"), root.join("terminal.rs")];
        for folder in ["api", "kubectl", "terminal"] {
            sources(&root.join(folder), &mut files);
        }
        // Spelled in two parts, so that this file passes.
        let words = [concat!("::un", "ix"), concat!("cfg(un", "ix"), concat!("std::", "os")];
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for word in words {
                assert!(!text.contains(word), "{}: {word}", file.display());
            }
        }
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
