//! The phases, each from one reading of the counters to another.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bed::{Fault, eventually, throughout};
use futures::future::try_join_all;

use super::admin::is_as_asked;
use super::figures::{Figures, rounded};
use super::objects::{self, Watch};
use super::stage::Stage;
use super::usage::number;
use super::{Phase, Settings, goals};

/// The shortest check interval that the operator takes.
const CHECK_INTERVAL: Duration = Duration::from_mins(1);

/// The operator's default, for the schedule that is printed beside what was counted.
const DEFAULT_CHECKS_AN_HOUR: f64 = 1.0 / 6.0;
const LISTINGS_AN_HOUR: f64 = 60.0;
/// What a full check reads: the policy and the tags.
const CALLS_A_CHECK: f64 = 2.0;

/// How many repositories are edited by hand.
const EDITED: u32 = 20;

pub(super) async fn run(phase: Phase, stage: &mut Stage, settings: &Settings) -> Result<Figures> {
    match phase {
        Phase::Create => create(stage, settings).await,
        Phase::Check => check(stage, settings).await,
        Phase::Restart => restart(stage, settings).await,
        Phase::Idle => idle(stage, settings).await,
        Phase::Drift => drift(stage, settings).await,
        Phase::Delete => delete(stage, settings).await,
    }
}

fn limit(settings: &Settings) -> Duration {
    generous(settings.count) * if settings.faults > 0 { 3 } else { 1 }
}

/// Five minutes, and as long again for each 500 objects.
pub(super) fn generous(count: u32) -> Duration {
    Duration::from_mins(5) * (1 + count / 500)
}

async fn create(stage: &Stage, settings: &Settings) -> Result<Figures> {
    let faults = inject(stage, settings.faults).await?;
    let mut watch = Watch::start(&stage.client).await?;
    let count = usize::try_from(settings.count)?;
    let before = stage.reading().await?;
    let start = Instant::now();
    let applying = async {
        objects::apply(&stage.client, settings.count, &objects::usual_spec()).await?;
        Ok(start.elapsed().as_secs_f64())
    };
    let ready = watch.until(limit(settings), "all to be Ready", |seen| seen.ready() == count);
    let (applied, ()) = tokio::try_join!(applying, ready)?;
    let seconds = start.elapsed().as_secs_f64();
    let after = stage.reading().await?;
    let mut struck = 0;
    for fault in &faults {
        struck += stage.aws.fault(fault).await?.injected;
    }
    stage.aws.remove_faults().await?;
    // Ready is what the operator says; this is what ECR says.
    let made = stage.admin.list().await?.into_iter().filter(is_as_asked).count();
    ensure!(
        made == count,
        "all objects are Ready, and ECR has {made} such repositories"
    );
    let figures = Figures::between(&before, &after)
        .with("apply_seconds", rounded(applied))
        .with("faults_injected", struck);
    Ok(Figures { seconds, ..figures })
}

/// Lets so many percent of the calls to ECR fail, in two ways.
async fn inject(stage: &Stage, percent: u32) -> Result<Vec<String>> {
    if percent == 0 {
        return Ok(Vec::new());
    }
    let share = f64::from(percent) / 200.0;
    let mut ids = Vec::new();
    for fault in [Fault::throttling("ecr:*"), Fault::server_error("ecr:*")] {
        ids.push(stage.aws.inject(&fault.share(share)).await?);
    }
    Ok(ids)
}

/// Within any window as long as the interval, each object has exactly one turn. Another operator with the shortest interval
/// has it; the usual one is back afterwards.
async fn check(stage: &mut Stage, settings: &Settings) -> Result<Figures> {
    stage.stop().await?;
    let interval = format!("{}s", CHECK_INTERVAL.as_secs());
    stage.start_operator(&["--check-interval", &interval]).await?;
    stage.settled(settings.count, limit(settings)).await?;
    let figures = window(stage, CHECK_INTERVAL).await?;
    stage.stop().await?;
    stage.start_operator(&[]).await?;
    stage.settled(settings.count, limit(settings)).await?;
    stage.rest().await?;
    Ok(figures.with("check_interval_seconds", CHECK_INTERVAL.as_secs()))
}

/// What happens in a time in which nothing is done from outside.
pub(super) async fn window(stage: &Stage, time: Duration) -> Result<Figures> {
    let before = stage.reading().await?;
    let rest = time.saturating_sub(before.at.elapsed());
    throughout(rest, "the operator", async || stage.alive()).await?;
    Ok(Figures::between(&before, &stage.reading().await?))
}

async fn restart(stage: &mut Stage, settings: &Settings) -> Result<Figures> {
    stage.rest().await?;
    stage.stop().await?;
    let before = stage.reading().await?;
    let start = Instant::now();
    stage.start_operator(&[]).await?;
    let ready = start.elapsed().as_secs_f64();
    stage.settled(settings.count, limit(settings)).await?;
    let seconds = start.elapsed().as_secs_f64();
    let after = stage.reading().await?;
    stage.rest().await?;
    let figures = Figures::between(&before, &after).with("readyz_seconds", rounded(ready));
    Ok(Figures { seconds, ..figures })
}

async fn idle(stage: &Stage, settings: &Settings) -> Result<Figures> {
    stage.rest().await?;
    let figures = window(stage, settings.idle()).await?;
    let extrapolated = number(figures.total_calls()) * 3_600.0 / figures.seconds;
    Ok(figures
        .with("aws_calls_per_hour_extrapolated", rounded(extrapolated))
        .with("aws_calls_per_hour_by_schedule", rounded(scheduled(settings.count))))
}

/// The calls an hour that the default intervals amount to.
fn scheduled(count: u32) -> f64 {
    let checks = f64::from(count) * CALLS_A_CHECK * DEFAULT_CHECKS_AN_HOUR;
    LISTINGS_AN_HOUR * goals::pages(count) + checks
}

async fn drift(stage: &Stage, settings: &Settings) -> Result<Figures> {
    stage.rest().await?;
    let names: Vec<String> = (0..EDITED.min(settings.count)).map(objects::repository).collect();
    let before = stage.reading().await?;
    let start = Instant::now();
    try_join_all(names.iter().map(|name| stage.admin.make_mutable(name))).await?;
    eventually(limit(settings), "the edits to be repaired", async || {
        let left = stage.admin.edited(&names).await?;
        ensure!(left == 0, "{left} of {} are not repaired", names.len());
        Ok(())
    })
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    // What is told about the repairs belongs to them.
    stage.rest().await?;
    let figures = Figures::between(&before, &stage.reading().await?).with("edited", names.len());
    Ok(Figures { seconds, ..figures })
}

async fn delete(stage: &Stage, settings: &Settings) -> Result<Figures> {
    stage.rest().await?;
    let count = usize::try_from(settings.count)?;
    let mut watch = Watch::start(&stage.client).await?;
    let limit = limit(settings);
    watch
        .until(limit, "all to be seen", |seen| seen.objects() == count)
        .await?;
    let before = stage.reading().await?;
    let start = Instant::now();
    let deleting = objects::delete(&stage.client, settings.count);
    let gone = watch.until(limit, "all to be gone", |seen| seen.objects() == 0);
    tokio::try_join!(deleting, gone)?;
    let seconds = start.elapsed().as_secs_f64();
    let left = stage.admin.list().await?.len();
    ensure!(
        left == 1,
        "the objects are gone, and ECR has {left} repositories, not the claim alone"
    );
    let figures = Figures::between(&before, &stage.reading().await?);
    Ok(Figures { seconds, ..figures })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_listings_and_full_checks() {
        assert!((scheduled(900) - 360.0).abs() < 1e-9);
        // The claim is a repository too.
        assert!((scheduled(1_000) - (120.0 + 1_000.0 / 3.0)).abs() < 1e-9);
    }
}
