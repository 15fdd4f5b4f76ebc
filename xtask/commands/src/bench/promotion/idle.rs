//! What promotions cost that have nothing to do.

use std::time::Duration;

use anyhow::Result;

use super::super::figures::rounded;
use super::super::measured::Measured;
use super::super::phases::window;
use super::super::usage::number;
use super::objects::Pair;
use super::world::{REPOSITORIES, World};

const PROMOTIONS: u32 = 500;

/// Their Deployments are scaled to zero: at rest no pod is looked at, and this machine is spared 500 of them.
pub(super) async fn measure(world: &mut World, time: Duration) -> Result<Measured> {
    world.events(true).await?;
    let pairs: Vec<Pair> = (0..PROMOTIONS)
        .map(|number| Pair {
            name: format!("idle-{number:05}"),
            repository: number % REPOSITORIES,
            replicas: 0,
            interval: "5m",
        })
        .collect();
    world.apply(&pairs).await?;
    // An operator of its own, so that the memory is that of this phase.
    world.stage.stop().await?;
    world.stage.start_operator(&[]).await?;
    world.stage.looked(PROMOTIONS).await?;
    let figures = window(&world.stage, time).await?;
    let usage = world.stage.usage_of_running()?;
    world.delete(&pairs).await?;
    let an_hour = |count: u64| rounded(number(count) * 3_600.0 / figures.seconds);
    let polls = figures
        .calls
        .iter()
        .filter(|(name, _)| is_of_sqs(name))
        .map(|(_, count)| count)
        .sum::<u64>();
    let (calls, writes) = (figures.total_calls(), figures.writes.objects);
    let (ecr, sqs, writes) = (an_hour(calls - polls), an_hour(polls), an_hour(writes));
    let measured = Measured {
        count: PROMOTIONS,
        figures,
    };
    Ok(measured
        .with("repositories", REPOSITORIES)
        .with("aws_calls_per_hour_extrapolated", ecr)
        .with("sqs_calls_per_hour_extrapolated", sqs)
        .with("apiserver_writes_per_hour_extrapolated", writes)
        .with("peak_rss_mb", rounded(usage.peak_rss_mb)))
}

/// Polls of the queue, which go by time and not by promotions.
fn is_of_sqs(operation: &str) -> bool {
    operation.starts_with("sqs:")
}
