//! `cargo xtask bench lifecycle`: what one edit of one policy over many repositories costs, and what images in use do.

mod in_use;
mod phases;
mod policy;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use self::report::Outcome;
use super::measured::{Measured, Measurement};
use super::objects::{self, Watch};
use super::stage::{Purpose, Stage};
use super::{say, usage, value_name};

/// How often the operator looks at what is in use. The shortest that is sensible, so that the time to the tag is not the
/// wait for a look.
const IN_USE_INTERVAL: Duration = Duration::from_secs(10);

/// What all of ECR's manifests of an account may take at most in a second.
const PUT_IMAGE_PER_SECOND: u32 = 10;

/// One LifecyclePolicy that selects many repositories, each with an image, images in use protected
///
/// edit: from an edit of the policy, its guard off, until it is in force on all repositories, none of which holds an image in
/// use. guarded: the same with the guard on, so that ECR previews each. idle: nothing to do. `in-use`: 500 digests in 50 of the
/// repositories are named by Deployments; nothing to do, and then from a change of one Deployment until its image has the
/// tag that keeps it.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask bench lifecycle
  cargo xtask bench lifecycle --repositories 1000 --rtt-ms 20 --json
  cargo xtask bench lifecycle --repositories 100 --phases edit,guarded")]
pub(crate) struct Settings {
    /// How many repositories the policy selects
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(50..=10_000))]
    repositories: u32,
    /// What is added to each answer of AWS's APIs, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20)]
    rtt_ms: u32,
    /// How long the phase idle takes, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    idle: u32,
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
    /// The policy is edited, its guard off
    Edit,
    /// The policy is edited, its guard on
    Guarded,
    /// Nothing happens
    Idle,
    /// Images are in use, and one more comes to be
    InUse,
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
    say("starting the bed and claiming a registry");
    let interval = format!("{}s", IN_USE_INTERVAL.as_secs());
    let rtt = Duration::from_millis(settings.rtt_ms.into());
    let arguments = ["--in-use-interval", interval.as_str()];
    let stage = Stage::start(program, Purpose::Lifecycle, &arguments, rtt).await?;
    stage.set_budget(PUT_IMAGE_PER_SECOND).await?;
    fill(&stage, settings.repositories).await?;
    let mut phases: Vec<(Phase, Measured)> = Vec::new();
    for phase in Phase::value_variants().iter().copied() {
        if !settings.runs(phase) {
            continue;
        }
        say(&value_name(&phase));
        let count = settings.repositories;
        let measured = match phase {
            Phase::Edit => phases::edited(&stage, count, false).await?,
            Phase::Guarded => phases::edited(&stage, count, true).await?,
            Phase::Idle => phases::idle(&stage, count, Duration::from_secs(settings.idle.into())).await?,
            Phase::InUse => in_use::measure(&stage).await?,
        };
        say(&format!(
            "{} took {:.1} s",
            value_name(&phase),
            measured.figures.seconds
        ));
        phases.push((phase, measured));
    }
    let usage = stage.end().await?;
    Ok(Outcome {
        settings,
        measurement: Measurement {
            phases,
            usage,
            binary_mb: usage::megabytes(binary_bytes),
        },
    })
}

/// Creates the repositories, an image in each, and has the policy in force on all.
async fn fill(stage: &Stage, count: u32) -> Result<()> {
    say(&format!("creating {count} repositories"));
    let all = usize::try_from(count)?;
    let limit = super::phases::generous(count);
    let mut watch = Watch::start(&stage.client).await?;
    objects::apply(&stage.client, count, &objects::bare_spec()).await?;
    watch
        .until(limit, "all to be Ready", |seen| seen.ready() == all)
        .await?;
    say("pushing an image into each");
    objects::for_each(0..count, async |number| {
        stage.push(number, "v1", "layer").await.map(drop)
    })
    .await?;
    say("putting the policy on all");
    policy::apply(&stage.client, false, policy::FIRST).await?;
    policy::in_force(stage, count, "").await?;
    stage.rest().await
}
