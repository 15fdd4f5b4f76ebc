//! People change workloads and ask for things.

use anyhow::{Result, ensure};
use serde_json::json;

use super::play::Play;
use crate::support::run;

#[test]
fn a_rollout_undone_by_hand_stays_undone() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "people").await?;
        let first = play.push("1.0.0").await?;
        play.deployment("app", &format!("{}:1.0.0", play.uri)).await?;
        play.promote(json!({})).await?;
        play.runs(&first).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.runs(&second).await?;

        play.kubectl(&["rollout", "undo", "deployment/app"]).await?;
        let status = play.runs(&first).await?;
        ensure!(status["hold"]["kind"] == "Person", "{status:#}");
        play.look().await?;
        play.runs(&first).await?;

        let third = play.push("1.2.0").await?;
        play.look().await?;
        play.runs(&third).await?;
        Ok(())
    })
}

#[test]
fn a_rollback_by_request_sticks_until_a_newer_image() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "people-ask").await?;
        let first = play.push("1.0.0").await?;
        play.deployment("app", &format!("{}:1.0.0", play.uri)).await?;
        play.promote(json!({})).await?;
        play.runs(&first).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.runs(&second).await?;

        play.request("rollback", "one slow").await?;
        let status = play.runs(&first).await?;
        ensure!(status["lastHandledRequests"]["rollback"] == "one slow", "{status:#}");
        play.look().await?;
        play.runs(&first).await?;
        Ok(())
    })
}
