//! What may follow the words after `kubectl ecr`, for kubectl, which asks a program named `kubectl_complete-ecr`.
//!
//! The answer is that of cobra: a candidate a line, with its meaning after a tab, then `:4`, by which the shell offers no
//! files.

use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};
use kube::{ResourceExt, api::ListParams};

use super::{Cli, connect, image};
use crate::terminal::{self, Outcome};

/// How long a person waits for a completion.
const PATIENCE: Duration = Duration::from_secs(2);

/// Flags with a value of their own, which is no name.
const WITH_VALUE: [&str; 8] = [
    "-n",
    "--namespace",
    "--context",
    "--kubeconfig",
    "-o",
    "--output",
    "--reason",
    "--timeout",
];

/// What is being typed.
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    Command,
    Flag(Option<&'a str>),
    Format,
    Promotion,
    /// An image of this promotion.
    Image(&'a str),
    Nothing,
}

pub(super) fn main(words: &[String]) -> Outcome {
    let (typed, before) = words
        .split_last()
        .map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let candidates = match wanted(typed, before) {
        Wanted::Command => commands(),
        Wanted::Flag(command) => flags(command),
        Wanted::Format => vec!["json".into(), "yaml".into()],
        Wanted::Promotion => asked(before, None),
        Wanted::Image(name) => asked(before, Some(name)),
        Wanted::Nothing => Vec::new(),
    };
    let mut lines: Vec<String> = candidates
        .into_iter()
        .filter(|candidate| candidate.starts_with(typed))
        .collect();
    lines.push(":4\n".into());
    terminal::print(&lines.join("\n"))
}

fn wanted<'a>(typed: &str, before: &'a [String]) -> Wanted<'a> {
    let positional: Vec<&str> = before
        .iter()
        .enumerate()
        .filter(|(at, word)| {
            let is_value = *at > 0
                && before
                    .get(at - 1)
                    .is_some_and(|last| WITH_VALUE.contains(&last.as_str()));
            !is_value && !word.starts_with('-')
        })
        .map(|(_, word)| word.as_str())
        .collect();
    match before.last().map(String::as_str) {
        Some("-o" | "--output") => return Wanted::Format,
        Some(flag) if WITH_VALUE.contains(&flag) => return Wanted::Nothing,
        _ => {}
    }
    if typed.starts_with('-') {
        return Wanted::Flag(positional.first().copied());
    }
    match positional.as_slice() {
        [] => Wanted::Command,
        [_] => Wanted::Promotion,
        ["promote" | "rollback" | "approve" | "reject" | "pin", name] => Wanted::Image(name),
        _ => Wanted::Nothing,
    }
}

fn commands() -> Vec<String> {
    let command = Cli::command();
    let described = command.get_subcommands().map(|command| {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        format!("{}\t{about}", command.get_name())
    });
    described.collect()
}

fn flags(command: Option<&str>) -> Vec<String> {
    let mut whole = Cli::command();
    // Hands the arguments that hold everywhere down to the commands.
    whole.build();
    let command = command.and_then(|name| whole.find_subcommand(name)).unwrap_or(&whole);
    let described = command.get_arguments().filter_map(|argument| {
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        Some(format!("--{}\t{help}", argument.get_long()?))
    });
    described.collect()
}

/// The names of the promotions, or the images of one. Nothing where the cluster is slow or refuses: a completion has no
/// place for errors.
fn asked(before: &[String], name: Option<&str>) -> Vec<String> {
    // The words so far say which cluster and namespace; what is missing for the command does not matter.
    let flags = before.iter().enumerate().filter(|(at, word)| {
        let follows = |flags: &[&str]| *at > 0 && before.get(at - 1).is_some_and(|last| flags.contains(&last.as_str()));
        let ways = ["-n", "--namespace", "--context", "--kubeconfig"];
        follows(&ways)
            || ways
                .iter()
                .any(|flag| word == flag || word.starts_with(&format!("{flag}=")))
    });
    let words = ["kubectl-ecr", "status"]
        .into_iter()
        .chain(flags.map(|(_, word)| word.as_str()));
    let Ok(cli) = Cli::try_parse_from(words) else {
        return Vec::new();
    };
    let looked = terminal::block_on(async {
        tokio::time::timeout(PATIENCE, look(cli.cluster, name))
            .await
            .map_err(|_| String::new())?
    });
    looked.unwrap_or_default()
}

async fn look(cluster: connect::Args, name: Option<&str>) -> Result<Vec<String>, String> {
    let cluster = cluster.connect().await?;
    if let Some(name) = name {
        let status = cluster.promotion(name).await?.status.unwrap_or_default();
        let known = image::known(&status).into_iter();
        return Ok(known.map(|(digest, name)| format!("{digest}\t{name}")).collect());
    }
    let listed = cluster.promotions().list(&ListParams::default()).await;
    let promotions = listed.map_err(|error| connect::prose(&error))?.items;
    Ok(promotions.iter().map(ResourceExt::name_any).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_follows_from_the_words_before() {
        for (words, expected) in [
            (&[""][..], Wanted::Command),
            (&["st"], Wanted::Command),
            (&["-n", "team-a", ""], Wanted::Command),
            (&["status", ""], Wanted::Promotion),
            (&["-n", "team-a", "rollback", "ap"], Wanted::Promotion),
            (&["rollback", "app", ""], Wanted::Image("app")),
            (
                &["rollback", "--reason", "it burns", "app", "sha"],
                Wanted::Image("app"),
            ),
            (&["rollback", "app", "x", ""], Wanted::Nothing),
            (&["status", "app", ""], Wanted::Nothing),
            (&["status", "-o", ""], Wanted::Format),
            (&["status", "-n", ""], Wanted::Nothing),
            (&["status", "--"], Wanted::Flag(Some("status"))),
            (&["-"], Wanted::Flag(None)),
        ] {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let (typed, before) = words.split_last().unwrap();
            assert_eq!(wanted(typed, before), expected, "{words:?}");
        }
    }

    #[test]
    fn commands_and_flags_are_offered_with_their_meaning() {
        let commands = commands();
        for name in [
            "approve", "history", "pin", "promote", "reject", "resume", "rollback", "status",
        ] {
            assert!(
                commands.iter().any(|line| line.starts_with(&format!("{name}\t"))),
                "{name}: {commands:?}"
            );
        }
        let flags = flags(Some("rollback"));
        for flag in ["--reason\t", "--wait\t", "--namespace\t"] {
            assert!(flags.iter().any(|line| line.starts_with(flag)), "{flag}: {flags:?}");
        }
    }
}
