//! A repository of very many images.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::super::figures::{Figures, rounded};
use super::super::measured::Measured;
use super::super::objects::{self as repositories, reference};
use super::super::say;
use super::super::stage::{ACCOUNT, REGION};
use super::objects::Pair;
use super::world::{LIMIT, World};

/// Whose repository no other phase pushes to.
const REPOSITORY: u32 = 40;

pub(super) async fn measure(world: &mut World, images: u32) -> Result<Measured> {
    let filling = Instant::now();
    fill(world, images).await?;
    say(&format!(
        "{images} images took {:.0} s to put",
        filling.elapsed().as_secs_f64()
    ));
    world.events(true).await?;
    let pair = Pair {
        name: "catalog".to_owned(),
        repository: REPOSITORY,
        replicas: 0,
        interval: "1d",
    };
    // An operator of its own, so that the memory is that of this phase.
    world.stage.stop().await?;
    world.stage.start_operator(&[]).await?;
    world.stage.settled(1, LIMIT).await?;
    let without = world.stage.usage_of_running()?;
    let before = world.stage.reading().await?;
    world.apply(std::slice::from_ref(&pair)).await?;
    let first = Figures::between(&before, &world.stage.reading().await?);
    let with = world.stage.usage_of_running()?;

    let before = world.stage.reading().await?;
    let digest = world.push(REPOSITORY, "2.0.0").await?;
    let pushed = Instant::now();
    let image = reference(REPOSITORY, &digest);
    let seen = world
        .deployments
        .until(LIMIT, &pair.name, &image, |images| images.first_seen(&image))
        .await?;
    world.rests_on(&pair.name, &digest).await?;
    let push = Figures::between(&before, &world.stage.reading().await?);
    let after = world.stage.usage_of_running()?;
    world.delete(&[pair]).await?;
    let described = first.calls_of("DescribeImages");
    Ok(Measured {
        count: 1,
        figures: first,
    }
    .with("images", images)
    .with("first_listing_calls", described)
    .with(
        "push_seconds",
        rounded(seen.saturating_duration_since(pushed).as_secs_f64()),
    )
    .with("push_calls", push.total_calls())
    .with("push_calls_by_operation", json!(push.calls))
    .with("peak_rss_mb_before", rounded(without.peak_rss_mb))
    .with("peak_rss_mb_after_listing", rounded(with.peak_rss_mb))
    .with("peak_rss_mb_after_push", rounded(after.peak_rss_mb))
    .with("push_cpu_seconds", rounded(push.cpu_seconds)))
}

/// Puts so many images of one layer into the repository, all older versions than the one that is there.
async fn fill(world: &World, images: u32) -> Result<()> {
    let aws = &world.stage.aws;
    // Nobody is to be told of them.
    let aside = aws
        .queue(ACCOUNT, REGION, "bench-aside", Duration::from_mins(1))
        .await?;
    aws.set_event_queue(ACCOUNT, REGION, &aside.url).await?;
    aws.set_delay(Duration::ZERO).await?;
    let name = repositories::repository(REPOSITORY);
    let newest = world.newest(REPOSITORY)?;
    let manifest = world
        .stage
        .admin
        .manifest(&name, &newest)
        .await
        .context("the image to multiply")?;
    repositories::for_each(0..images, async |number| {
        let tag = format!("0.{number}.0");
        world.stage.admin.put_variant(&name, &manifest, &tag).await.map(drop)
    })
    .await?;
    aws.set_delay(world.rtt).await?;
    aws.set_event_queue(ACCOUNT, REGION, &world.queue.url).await
}
