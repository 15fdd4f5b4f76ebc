//! `cargo xtask bench promotion`: how soon an image that was pushed is in its Deployment, and what promotions cost.

mod catalog;
mod copy;
mod idle;
mod latency;
mod objects;
mod report;
mod rollback;
mod view;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use self::report::Outcome;
use self::world::World;
use super::measured::{Measured, Measurement};
use super::stage::{Purpose, Stage};
use super::{say, usage, value_name};

/// Promotions of Deployments to the newest of the versions that are pushed
///
/// event: from the end of a push to the new digest in the Deployment, with events on a queue. poll: the same without
/// events, at an interval of 30 s. idle: 500 promotions over 100 repositories, interval 5m, with events, and nothing to do.
/// rollback: from the end of a push of an image that crashes until it is rejected and all pods run the earlier one again.
/// copy: `ecr-operator copy` of one image to another Region, beside curl doing the same. catalog: a repository of many
/// images is read for the first time, and then one is pushed.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench promotion
  cargo xtask bench promotion --phases event,rollback --json
  cargo xtask bench promotion --phases copy --copy-mib 256")]
pub(crate) struct Settings {
    /// How many pushes in the phase event, over 20 promotions
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..=10_000))]
    pushes: u32,
    /// What is added to each answer of AWS's APIs, in milliseconds; the registry's own, which layers go through, is as it is
    #[arg(long, value_name = "MS", default_value_t = 20)]
    rtt_ms: u32,
    /// How long the phase idle takes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    idle: u32,
    /// How large the image of the phase copy is, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(8..=8_192))]
    copy_mib: u32,
    /// How many images there are in the phase catalog
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    images: u32,
    /// Only these phases, in their usual order
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
    /// Push to patched, told of by events
    Event,
    /// Push to patched, found by looking
    Poll,
    /// Nothing happens
    Idle,
    /// Images that crash are pushed
    Rollback,
    /// An image is copied to another Region
    Copy,
    /// A repository of many images
    Catalog,
}

impl Settings {
    fn runs(&self, phase: Phase) -> bool {
        self.phases.is_empty() || self.phases.contains(&phase)
    }
}

pub(super) async fn run(settings: Settings) -> Result<ExitCode> {
    let program = bed_programs::released_operator().await?;
    let outcome = measure(settings, program).await?;
    let shown = match outcome.settings.json {
        true => format!("{:#}\n", outcome.json()),
        false => outcome.tables(),
    };
    Ok(super::conclude(&shown, outcome.settings.check, &outcome.goals()))
}

async fn measure(settings: Settings, program: std::path::PathBuf) -> Result<Outcome> {
    let binary_bytes = std::fs::metadata(&program)?.len();
    say("starting the bed, claiming a registry, filling repositories");
    let rtt = Duration::from_millis(settings.rtt_ms.into());
    let stage = Stage::start(program, Purpose::Promotions, &[], rtt).await?;
    let mut world = World::new(stage, rtt).await?;
    let mut phases: Vec<(Phase, Measured)> = Vec::new();
    for phase in Phase::value_variants().iter().copied() {
        if !settings.runs(phase) {
            continue;
        }
        say(&value_name(&phase));
        let measured = match phase {
            Phase::Event => latency::by_event(&world, settings.pushes).await?,
            Phase::Poll => latency::by_poll(&world).await?,
            Phase::Idle => idle::measure(&mut world, Duration::from_secs(settings.idle.into())).await?,
            Phase::Rollback => rollback::measure(&world).await?,
            Phase::Copy => copy::measure(&world, settings.copy_mib).await?,
            Phase::Catalog => catalog::measure(&mut world, settings.images).await?,
        };
        say(&format!(
            "{} took {:.1} s",
            value_name(&phase),
            measured.figures.seconds
        ));
        phases.push((phase, measured));
    }
    let usage = world.end().await?;
    Ok(Outcome {
        settings,
        measurement: Measurement {
            phases,
            usage,
            binary_mb: usage::megabytes(binary_bytes),
        },
    })
}
