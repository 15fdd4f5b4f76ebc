//! `cargo xtask bench registry`: what many owners of one document cost, and what registries that do not answer cost others.

mod configs;
mod converge;
mod isolation;
mod places;
mod report;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use self::isolation::Outage;
use self::places::Place;
use self::report::Outcome;
use super::measured::{Measured, Measurement};
use super::stage::{Purpose, Stage};
use super::usage::Usage;
use super::{say, usage, value_name};

/// ReplicationConfigs of 3 registries, and Repositories beside registries that do not answer
///
/// converge: from the first apply of ReplicationConfigs, spread over 3 registries of different accounts and Regions, until
/// all are Ready. edit: from an edit of one of them until it is Ready again. idle: nothing to do. isolation: registries stop
/// answering once they are claimed, so that calls to them time out, and then Repositories are applied in all; from the first
/// apply until those of the other registries are Ready, beside the same with all registries answering. `isolation-at-start`:
/// all of that is there and nothing of it was looked at yet; from the start of the process. Each of these runs has a control
/// plane and a process of its own, and ends after five minutes, and as long again for each 500 Repositories, at the latest.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench registry
  cargo xtask bench registry --configs 200 --phases converge,edit --json
  cargo xtask bench registry --phases isolation --registries 20 --down 5 --repositories 10")]
pub(crate) struct Settings {
    /// How many ReplicationConfigs
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(3..=1_500))]
    configs: u32,
    /// How many registries there are in the phases isolation and isolation-at-start
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=100))]
    registries: u32,
    /// How many of those do not answer; less than all
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    down: u32,
    /// How many Repositories each of those has
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=500))]
    repositories: u32,
    /// What is added to each answer of AWS's APIs, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20)]
    rtt_ms: u32,
    /// How long the phase idle takes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    idle: u32,
    /// Only these phases, in their usual order; converge is always run before edit and idle
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
    /// All ReplicationConfigs are applied and become Ready
    Converge,
    /// One of them is edited
    Edit,
    /// Nothing happens
    Idle,
    /// Registries stop answering, and Repositories are applied
    Isolation,
    /// The operator is started while registries do not answer
    IsolationAtStart,
}

impl Phase {
    /// Those that are about ReplicationConfigs.
    const OF_CONFIGS: [Self; 3] = [Self::Converge, Self::Edit, Self::Idle];
}

impl Settings {
    fn runs(&self, phase: Phase) -> bool {
        let asked = |phase| self.phases.is_empty() || self.phases.contains(&phase);
        asked(phase) || (phase == Phase::Converge && Phase::OF_CONFIGS.into_iter().any(asked))
    }

    fn rtt(&self) -> Duration {
        Duration::from_millis(self.rtt_ms.into())
    }
}

type Phases = Vec<(Phase, Measured)>;

pub(super) async fn run(settings: Settings) -> Result<ExitCode> {
    let (all, down) = (settings.registries, settings.down);
    ensure!(
        down < all,
        "--down {down} leaves none of the {all} registries to answer; give it less than --registries"
    );
    let program = bed_programs::released_operator().await?;
    let outcome = measure(settings, &program).await?;
    let shown = match outcome.settings.json {
        true => format!("{:#}\n", outcome.json()),
        false => outcome.tables(),
    };
    Ok(super::conclude(&shown, outcome.settings.check, &outcome.goals()))
}

async fn measure(settings: Settings, program: &Path) -> Result<Outcome> {
    let binary_bytes = std::fs::metadata(program)?.len();
    let (mut phases, mut usage) = (Phases::new(), Usage::default());
    if settings.runs(Phase::Converge) {
        usage = usage.and(of_configs(&settings, program, &mut phases).await?);
    }
    for (phase, outage) in [
        (Phase::Isolation, Outage::OnceClaimed),
        (Phase::IsolationAtStart, Outage::AtStart),
    ] {
        if settings.runs(phase) {
            say(&value_name(&phase));
            let (measured, used) = isolation::measure(&settings, program, outage).await?;
            usage = usage.and(used);
            done(&mut phases, phase, measured);
        }
    }
    Ok(Outcome {
        settings,
        measurement: Measurement {
            phases,
            usage,
            binary_mb: usage::megabytes(binary_bytes),
        },
    })
}

/// The phases that are about ReplicationConfigs, one after the other on the same objects.
async fn of_configs(settings: &Settings, program: &Path, phases: &mut Phases) -> Result<Usage> {
    say("starting the bed and claiming three registries");
    let stage = Stage::start(program.to_owned(), Purpose::Registries, &[], settings.rtt()).await?;
    let places = Place::three();
    places::open(&stage, &places).await?;
    for phase in Phase::OF_CONFIGS {
        if !settings.runs(phase) {
            continue;
        }
        say(&value_name(&phase));
        let measured = match phase {
            Phase::Edit => converge::edit(&stage, &places, settings.configs).await?,
            Phase::Idle => converge::idle(&stage, settings.configs, Duration::from_secs(settings.idle.into())).await?,
            _ => converge::all(&stage, &places, settings.configs).await?,
        };
        done(phases, phase, measured);
    }
    stage.end().await
}

fn done(phases: &mut Phases, phase: Phase, measured: Measured) {
    say(&format!(
        "{} took {:.1} s",
        value_name(&phase),
        measured.figures.seconds
    ));
    phases.push((phase, measured));
}
