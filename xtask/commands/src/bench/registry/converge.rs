//! Many ReplicationConfigs that are created together, an edit of one, and rest.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::super::figures::{Counts, Figures, Reading, rounded};
use super::super::goals::CHECK_INTERVAL;
use super::super::measured::Measured;
use super::super::objects::{Collection, Seen, Watch, lack};
use super::super::phases::{generous, window};
use super::super::stage::Stage;
use super::super::usage::number;
use super::configs;
use super::places::{self, CallsBy, Place};

/// What replaces the document of a registry.
pub(super) const PUT: &str = "PutReplicationConfiguration";

/// From the first apply until all are Ready. Calls and writes are counted until nothing is done any more.
pub(super) async fn all(stage: &Stage, places: &[Place], count: u32) -> Result<Measured> {
    let mut watch = Watch::of(&stage.client, Collection::cluster("replicationconfigs"), lack).await?;
    let before = Before::now(stage, places).await?;
    let start = Instant::now();
    let applying = async {
        configs::apply(&stage.client, places, count).await?;
        Ok(start.elapsed().as_secs_f64())
    };
    let all = usize::try_from(count)?;
    let ready = watch.until(generous(count), "all ReplicationConfigs to be Ready", |seen| {
        seen.ready() == all
    });
    let (applied, ()) = tokio::try_join!(applying, ready)?;
    let seconds = start.elapsed().as_secs_f64();
    let (figures, puts) = before.until_rest(stage, places).await?;
    as_asked(stage, places, count, false).await?;
    let figures = Figures { seconds, ..figures };
    Ok(with_puts(Measured { count, figures }, &puts).with("apply_seconds", rounded(applied)))
}

/// From the edit of one until it is Ready for it.
pub(super) async fn edit(stage: &Stage, places: &[Place], count: u32) -> Result<Measured> {
    stage.rest().await?;
    let generation = configs::generation(&stage.client).await?;
    let lack = move |object: &Seen| match object.generation() > generation {
        true => lack(object),
        false => Some("it was not edited".to_owned()),
    };
    let mut watch = Watch::of(&stage.client, Collection::cluster("replicationconfigs"), lack).await?;
    let before = Before::now(stage, places).await?;
    let start = Instant::now();
    configs::edit(&stage.client, places).await?;
    let ready = watch.until(generous(1), "the edited ReplicationConfig to be Ready", |seen| {
        seen.ready() == 1
    });
    ready.await?;
    let seconds = start.elapsed().as_secs_f64();
    let (figures, puts) = before.until_rest(stage, places).await?;
    as_asked(stage, places, count, true).await?;
    let figures = Figures { seconds, ..figures };
    Ok(with_puts(Measured { count: 1, figures }, &puts))
}

/// A time in which nothing is to be done.
pub(super) async fn idle(stage: &Stage, count: u32, time: Duration) -> Result<Measured> {
    stage.rest().await?;
    let figures = window(stage, time).await?;
    let a_minute = number(figures.total_calls()) * 60.0 / figures.seconds;
    let checks = f64::from(count) * figures.seconds / CHECK_INTERVAL.as_secs_f64();
    Ok(Measured { count, figures }
        .with("aws_calls_per_minute", rounded(a_minute))
        .with("full_checks_by_schedule", rounded(checks)))
}

/// Everything counted before something is done.
struct Before {
    reading: Reading,
    calls: CallsBy,
}

impl Before {
    async fn now(stage: &Stage, places: &[Place]) -> Result<Self> {
        Ok(Self {
            calls: CallsBy::now(stage, places).await?,
            reading: stage.reading().await?,
        })
    }

    /// What was done since, once nothing is done any more; and the puts to each registry.
    async fn until_rest(&self, stage: &Stage, places: &[Place]) -> Result<(Figures, Counts)> {
        stage.rest().await?;
        let figures = Figures::between(&self.reading, &stage.reading().await?);
        let calls = CallsBy::now(stage, places).await?;
        Ok((figures, calls.since(&self.calls, PUT)))
    }
}

fn with_puts(measured: Measured, puts: &Counts) -> Measured {
    let most: Value = puts.values().copied().max().into();
    measured
        .with("puts_per_registry", places::printed(puts))
        .with("most_puts_of_a_registry", most)
}

/// Ready is what the operator says; this is what ECR says.
async fn as_asked(stage: &Stage, places: &[Place], count: u32, edited: bool) -> Result<()> {
    for place in places {
        let mut found = places::filters(stage, place).await?;
        found.sort();
        let wanted = configs::filters(place, places, count, edited);
        ensure!(
            found == wanted,
            "all objects are Ready, and ECR replicates {found:?} of {}, not {wanted:?}",
            place.name
        );
    }
    Ok(())
}
