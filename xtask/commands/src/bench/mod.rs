//! `cargo xtask bench`: what the operator costs, in time, calls, writes, memory and CPU.

mod admin;
mod deployments;
mod figures;
mod goals;
mod lifecycle;
mod measured;
mod objects;
mod phases;
mod promotion;
mod registry;
mod report;
mod stage;
mod usage;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};

use self::report::Outcome;
use self::stage::{Purpose, Stage};

/// Measures the released operator on the test bed
///
/// AWS calls are counted by the AWS stand-in and writes to the apiserver by its audit log, not by the operator. All programs
/// share this machine, so times depend on it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Repositories(Settings),
    Promotion(promotion::Settings),
    Lifecycle(lifecycle::Settings),
    Registry(registry::Settings),
}

/// Repositories with tag mutability, scanning, a policy and a tag, through the phases of their life
///
/// create: from the first apply until all are Ready for their generation. check: one period of 60 s in which each object has its
/// one full check. restart: from the start of the process until it is ready, has listed the registry and has seen each object
/// once. idle: nothing to do. drift: from the first edit behind the operator's back until ECR shows all edits repaired.
/// delete: from the first deletion until all objects and their repositories are gone.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench repositories
  cargo xtask bench repositories --count 2000 --rtt-ms 0 --phases create,restart
  cargo xtask bench repositories --faults 10 --phases create --json")]
pub(crate) struct Settings {
    /// How many Repositories
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    count: u32,
    /// What is added to each answer of AWS, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20)]
    rtt_ms: u32,
    /// Let this share of the calls of the phase create fail: half of them throttled, half with a server error
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=90))]
    faults: u32,
    /// How long the phase idle takes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    idle: u32,
    /// Only these phases, in their usual order; create is always run
    #[arg(long, value_name = "PHASE", value_enum, value_delimiter = ',')]
    phases: Vec<Phase>,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
    /// Exit with 1 when a goal is missed
    #[arg(long)]
    check: bool,
}

/// In the order in which they are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Phase {
    /// Everything is applied and becomes Ready
    Create,
    /// A full check of each object finds nothing to do
    Check,
    /// The operator is started again and finds nothing to do
    Restart,
    /// Nothing happens
    Idle,
    /// Somebody edits repositories by hand
    Drift,
    /// Everything is deleted
    Delete,
}

impl Settings {
    fn rtt(&self) -> Duration {
        Duration::from_millis(self.rtt_ms.into())
    }

    fn idle(&self) -> Duration {
        Duration::from_secs(self.idle.into())
    }

    fn runs(&self, phase: Phase) -> bool {
        phase == Phase::Create || self.phases.is_empty() || self.phases.contains(&phase)
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    match arguments.what {
        What::Repositories(settings) => repositories(settings).await,
        What::Promotion(settings) => promotion::run(settings).await,
        What::Lifecycle(settings) => lifecycle::run(settings).await,
        What::Registry(settings) => registry::run(settings).await,
    }
}

async fn repositories(settings: Settings) -> Result<ExitCode> {
    let program = bed_programs::released_operator().await?;
    let outcome = measure(settings, program).await?;
    let shown = match outcome.settings.json {
        true => format!("{:#}\n", outcome.json()),
        false => outcome.tables(),
    };
    Ok(conclude(&shown, outcome.settings.check, &outcome.goals()))
}

/// Prints what was measured. A missed goal fails the command only where that was asked for.
fn conclude(shown: &str, must_reach: bool, goals: &[goals::Goal]) -> ExitCode {
    print!("{shown}");
    match must_reach && goals.iter().any(|goal| !goal.reached()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

async fn measure(settings: Settings, program: std::path::PathBuf) -> Result<Outcome> {
    let binary_bytes = std::fs::metadata(&program)?.len();
    say("starting the bed and claiming a registry");
    let mut stage = Stage::start(program, Purpose::Repositories, &[], settings.rtt()).await?;
    let mut phases = Vec::new();
    for phase in Phase::value_variants()
        .iter()
        .copied()
        .filter(|phase| settings.runs(*phase))
    {
        say(&format!("{} of {} Repositories", value_name(&phase), settings.count));
        let figures = phases::run(phase, &mut stage, &settings).await?;
        say(&format!("{} took {:.1} s", value_name(&phase), figures.seconds));
        phases.push((phase, figures));
    }
    let usage = stage.end().await?;
    Ok(Outcome {
        ready_objects: settings.count,
        settings,
        phases,
        usage,
        binary_mb: usage::megabytes(binary_bytes),
    })
}

/// A phase's name, as it is given and printed.
fn value_name(phase: &impl ValueEnum) -> String {
    phase
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// Progress goes to stderr: stdout is for the result.
fn say(line: &str) {
    eprintln!("bench: {line}");
}
