//! What fails is taken back, stays back, and is not tried again.

use anyhow::{Result, ensure};
use bed::Behaviour;
use serde_json::json;

use super::play::Play;
use crate::support::run;

#[test]
fn an_image_that_crashes_is_taken_back_rejected_and_not_tried_again() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "back-crash").await?;
        let good = play.push("1.0.0").await?;
        play.deployment("app", &format!("{}:1.0.0", play.uri)).await?;
        play.promote(json!({})).await?;
        play.runs(&good).await?;

        let bad = play.push_bad("1.1.0", Behaviour::Crash).await?;
        play.look().await?;
        let status = play.taken_back(&bad).await?;
        ensure!(status["current"]["digest"] == good.as_str(), "{status:#}");
        ensure!(status["hold"]["kind"] == "RolledBack", "{status:#}");
        play.runs(&good).await?;
        let deployment = play.workload("deployment", "app").await?;
        let noted = &deployment["metadata"]["annotations"]["ecr-operator.dev/rejected-digests"];
        ensure!(noted == bad.as_str(), "{noted}");

        // Neither another look nor a new promotion object goes into it again.
        play.look().await?;
        play.kubectl(&["delete", "imagepromotion.ecr-operator.dev", "app"])
            .await?;
        play.promote(json!({})).await?;
        let status = play.runs(&good).await?;
        ensure!(status["rejected"][0]["digest"] == bad.as_str(), "{status:#}");

        let better = play.push("1.1.1").await?;
        play.look().await?;
        play.runs(&better).await?;
        Ok(())
    })
}
