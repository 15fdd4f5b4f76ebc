//! How soon an image that was pushed is in its Deployment.

use std::time::{Duration, Instant};

use anyhow::Result;
use futures::future::try_join_all;

use super::super::figures::{Figures, rounded};
use super::super::measured::Measured;
use super::super::objects::reference;
use super::objects::Pair;
use super::world::{LIMIT, World};

/// How many promotions take turns.
const PROMOTIONS: u32 = 20;

/// How long after each other pushes begin: apart enough that on two cores one does not wait for the other.
const PACE: Duration = Duration::from_millis(300);

/// The repositories of the phase poll come after those of the phase event.
const POLLED: std::ops::Range<u32> = PROMOTIONS..PROMOTIONS + 10;

/// Spreads the pushes over the interval.
const POLL_PACE: Duration = Duration::from_secs(3);

pub(super) async fn by_event(world: &World, pushes: u32) -> Result<Measured> {
    world.events(true).await?;
    let pairs: Vec<Pair> = (0..PROMOTIONS)
        .map(|number| Pair {
            name: format!("event-{number:05}"),
            repository: number,
            replicas: 1,
            interval: "5m",
        })
        .collect();
    world.apply(&pairs).await?;
    let before = world.stage.reading().await?;
    let start = Instant::now();
    let turns = (0..PROMOTIONS).zip(&pairs).map(async |(turn, pair)| {
        let mut waits = Vec::new();
        for push in (turn..pushes).step_by(PROMOTIONS as usize) {
            tokio::time::sleep_until((start + PACE * push).into()).await;
            waits.push(wait(world, pair, &format!("1.1.{push}")).await?);
        }
        anyhow::Ok(waits)
    });
    let waits = try_join_all(turns).await?.concat();
    let figures = Figures::between(&before, &world.stage.reading().await?);
    world.delete(&pairs).await?;
    Ok(measured(figures, &waits))
}

pub(super) async fn by_poll(world: &World) -> Result<Measured> {
    world.events(false).await?;
    let pairs: Vec<Pair> = POLLED
        .map(|repository| Pair {
            name: format!("poll-{repository:05}"),
            repository,
            replicas: 1,
            interval: "30s",
        })
        .collect();
    world.apply(&pairs).await?;
    let before = world.stage.reading().await?;
    let start = Instant::now();
    let turns = (0..).zip(&pairs).map(async |(turn, pair)| {
        tokio::time::sleep_until((start + POLL_PACE * turn).into()).await;
        wait(world, pair, "1.1.0").await
    });
    let waits = try_join_all(turns).await?;
    let figures = Figures::between(&before, &world.stage.reading().await?);
    world.delete(&pairs).await?;
    Ok(measured(figures, &waits).with("interval_seconds", 30))
}

/// Pushes a version and waits until its rollout has ended; gives the time from the end of the push to the new digest in the
/// Deployment.
async fn wait(world: &World, pair: &Pair, version: &str) -> Result<f64> {
    let digest = world.push(pair.repository, version).await?;
    let pushed = Instant::now();
    let image = reference(pair.repository, &digest);
    let seen = world
        .deployments
        .until(LIMIT, &pair.name, &image, |images| images.first_seen(&image))
        .await?;
    world.rests_on(&pair.name, &digest).await?;
    Ok(seen.saturating_duration_since(pushed).as_secs_f64())
}

/// With the distribution of some waits.
pub(super) fn measured(figures: Figures, waits: &[f64]) -> Measured {
    let sorted = sorted(waits);
    let count = u32::try_from(waits.len()).unwrap_or(u32::MAX);
    let measured = Measured { count, figures };
    measured
        .with("p50_seconds", rounded(percentile(&sorted, 50)))
        .with("p95_seconds", rounded(percentile(&sorted, 95)))
        .with("p99_seconds", rounded(percentile(&sorted, 99)))
        .with("max_seconds", rounded(percentile(&sorted, 100)))
        .with("count", count)
}

fn sorted(waits: &[f64]) -> Vec<f64> {
    let mut sorted = waits.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

pub(super) fn median(waits: &[f64]) -> f64 {
    rounded(percentile(&sorted(waits), 50))
}

/// The smallest value that so many of a hundred do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        let is = |sorted: &[f64], percent, expected: f64| (percentile(sorted, percent) - expected).abs() < f64::EPSILON;
        for (percent, expected) in [(50, 50.0), (95, 95.0), (99, 99.0), (100, 100.0)] {
            assert!(is(&hundred, percent, expected), "{percent}");
        }
        assert!(is(&[3.0], 95, 3.0) && is(&[1.0, 2.0], 50, 1.0) && is(&[], 50, 0.0));
    }
}
