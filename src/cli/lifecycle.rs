//! `ecr-operator lifecycle preview|audit`

mod audit;
mod forecast;
mod preview;

use clap::{Subcommand, ValueEnum};

use crate::{document::lifecycle::Action, terminal::Outcome};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print what the lifecycle policies of the given manifests would do now, repository by repository.
    Preview(preview::Args),
    /// Print which images that run would be expired or archived by the policies in force, and when.
    Audit(audit::Args),
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables for people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// The exit code where something stands against it.
const TO_BE_SEEN_TO: u8 = 2;

pub(super) fn main(command: &Command) -> Outcome {
    match command {
        Command::Preview(args) => preview::main(args),
        Command::Audit(args) => audit::main(args),
    }
}

/// As ECR's rules call it.
const fn word(action: Action) -> &'static str {
    match action {
        Action::Expire => "expire",
        Action::Archive => "transition",
    }
}

/// A digest as far as people tell it apart.
fn brief(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

fn json(report: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_string_pretty(report)
        .map(|text| text + "\n")
        .map_err(|error| format!("the answer could not be written as JSON: {error}"))
}
