//! How soon what fails is taken back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bed::{Behaviour, eventually};
use futures::future::try_join_all;

use super::super::figures::Figures;
use super::super::measured::Measured;
use super::super::objects::reference;
use super::latency;
use super::objects::{self, Pair};
use super::view::Standing;
use super::world::{LIMIT, World};

/// Whose repositories no other phase pushes to.
const REPOSITORIES: std::ops::Range<u32> = 30..40;

/// How long after each other pushes begin.
const PACE: Duration = Duration::from_secs(2);

pub(super) async fn measure(world: &World) -> Result<Measured> {
    world.events(true).await?;
    let pairs: Vec<Pair> = REPOSITORIES
        .map(|repository| Pair {
            name: format!("rollback-{repository:05}"),
            repository,
            replicas: 2,
            interval: "5m",
        })
        .collect();
    world.apply(&pairs).await?;
    for pair in &pairs {
        let image = reference(pair.repository, &world.newest(pair.repository)?);
        run_all(world, pair, &image).await?;
    }
    let before = world.stage.reading().await?;
    let start = Instant::now();
    let turns = (0..).zip(&pairs).map(async |(turn, pair)| {
        tokio::time::sleep_until((start + PACE * turn).into()).await;
        fail(world, pair).await
    });
    let (waits, backs): (Vec<f64>, Vec<f64>) = try_join_all(turns).await?.into_iter().unzip();
    let figures = Figures::between(&before, &world.stage.reading().await?);
    world.delete(&pairs).await?;
    Ok(latency::measured(figures, &waits)
        .with("replicas", 2)
        .with("p50_seconds_from_rejection", latency::median(&backs)))
}

/// Pushes an image that crashes; gives the time from the end of the push until it is rejected and all is as before, and how
/// much of that came after the rejection. What comes before it is the crash loop: it takes `maxRestarts` and one more.
async fn fail(world: &World, pair: &Pair) -> Result<(f64, f64)> {
    let good = world.newest(pair.repository)?;
    let content = format!("{} crashes", pair.name);
    // What it does must be settled before it is a candidate.
    let digest = world.push_content(pair.repository, "not-yet", &content).await?;
    world.workloads.behave(&digest, Behaviour::Crash);
    world.push_content(pair.repository, "1.1.0", &content).await?;
    let pushed = Instant::now();
    let rejects = |standing: &Standing| standing.has_rejected(&digest).then_some(());
    world
        .promotions
        .until(LIMIT, &pair.name, "the rejection", rejects)
        .await?;
    let rejected = Instant::now();
    world.rests_on(&pair.name, &good).await?;
    run_all(world, pair, &reference(pair.repository, &good)).await?;
    Ok((pushed.elapsed().as_secs_f64(), rejected.elapsed().as_secs_f64()))
}

/// Waits until all pods run this image and are ready.
async fn run_all(world: &World, pair: &Pair, image: &str) -> Result<()> {
    eventually(LIMIT, "all pods to run the image", async || {
        let pods = objects::pods(&world.stage.client, &pair.name).await?;
        let right = pods.iter().filter(|(runs, ready)| runs == image && *ready).count();
        let wanted = usize::try_from(pair.replicas)?;
        ensure!(right == wanted && pods.len() == wanted, "{pods:?}");
        Ok(())
    })
    .await
}
