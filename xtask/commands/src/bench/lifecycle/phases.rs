//! An edit of the policy, and rest.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::figures::{Figures, rounded};
use super::super::goals::CHECK_INTERVAL;
use super::super::measured::Measured;
use super::super::objects;
use super::super::phases::window;
use super::super::stage::Stage;
use super::policy;

/// One edit, from when it is applied until the document is in force everywhere.
pub(super) async fn edited(stage: &Stage, count: u32, guarded: bool) -> Result<Measured> {
    let keep = if guarded { 800 } else { 900 };
    let asked = policy::asked(&stage.client).await?;
    // Another guard is another wish, which is not what is measured.
    policy::apply(&stage.client, guarded, keep + 1).await?;
    policy::in_force(stage, count, &asked).await?;
    stage.rest().await?;
    let asked = policy::asked(&stage.client).await?;
    let before = stage.reading().await?;
    let start = Instant::now();
    policy::apply(&stage.client, guarded, keep).await?;
    policy::in_force(stage, count, &asked).await?;
    let seconds = start.elapsed().as_secs_f64();
    let after = stage.reading().await?;
    // In force is what the operator says; this is what ECR says.
    for number in [0, count - 1] {
        let text = stage
            .admin
            .lifecycle_policy(&objects::repository(number))
            .await?
            .to_string();
        ensure!(text.contains(&format!("\"countNumber\":{keep}")), "{text}");
    }
    stage.rest().await?;
    let figures = Figures::between(&before, &after);
    Ok(Measured {
        count,
        figures: Figures { seconds, ..figures },
    })
}

/// A time in which nothing is to be done.
pub(super) async fn idle(stage: &Stage, count: u32, time: Duration) -> Result<Measured> {
    stage.rest().await?;
    let figures = window(stage, time).await?;
    let checks = f64::from(count) * figures.seconds / CHECK_INTERVAL.as_secs_f64();
    Ok(Measured { count, figures }.with("full_checks_by_schedule", rounded(checks)))
}
