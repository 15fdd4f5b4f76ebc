//! New images are picked, written by digest, watched, and entered into the history.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::play::Play;
use crate::{
    plan::plan,
    support::{object, run},
};

#[test]
fn the_newest_version_is_promoted_by_digest_and_the_next_one_follows() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "forward").await?;
        let first = play.push("1.0.0").await?;
        play.deployment("app", &format!("{}:1.0.0", play.uri)).await?;
        play.promote(json!({})).await?;
        let status = play.runs(&first).await?;
        ensure!(status["lastGood"]["digest"] == first.as_str(), "{status:#}");

        let second = play.push("v1.1.0").await?;
        play.push("1.2.0-rc.1").await?;
        play.look().await?;
        let status = play.runs(&second).await?;
        ensure!(status["current"]["tag"] == "v1.1.0", "{status:#}");
        ensure!(status["previous"]["digest"] == first.as_str(), "{status:#}");
        let history = status["history"].as_array().context("no history")?;
        ensure!(
            history[0]["outcome"] == "Succeeded" && history[0]["image"]["tag"] == "v1.1.0",
            "{status:#}"
        );
        let ready = play.reason("Settled").await?;
        ensure!(ready["status"] == "True", "{ready}");
        Ok(())
    })
}

#[test]
fn an_apply_of_ours_holds_the_image_and_nothing_else() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "forward-fields").await?;
        let digest = play.push("1.0.0").await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        play.promote(json!({})).await?;
        play.runs(&digest).await?;
        let deployment = play.workload("deployment", "app").await?;
        let managers = deployment["metadata"]["managedFields"]
            .as_array()
            .context("no managers")?;
        let ours: Vec<_> = managers
            .iter()
            .filter(|entry| entry["manager"] == "ecr-operator-image-promotion" && entry["operation"] == "Apply")
            .collect();
        ensure!(ours.len() == 1, "{managers:#?}");
        let expected = json!({ "f:spec": { "f:template": { "f:spec": { "f:containers": {
            "k:{\"name\":\"app\"}": { ".": {}, "f:image": {}, "f:name": {} } } } } } });
        ensure!(ours[0]["fieldsV1"] == expected, "{:#}", ours[0]);
        Ok(())
    })
}

#[test]
fn a_plan_tells_what_would_be_rolled_out_and_does_nothing() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "forward-plan").await?;
        let first = play.push("1.0.0").await?;
        play.push("1.1.0").await?;
        let image = play.image(&first);
        play.deployment("app", &image).await?;
        // The administrator, who makes the plan, may assume no role: the file wins.
        let mut registry = play.scene.registry_spec();
        registry.as_object_mut().context("a map")?.remove("assumeRole");
        registry["tenants"][0]["may"] = json!(["Manage", "Promote"]);
        let registry = object("Registry", &play.scene.name, None, registry);
        let (code, text) = plan(&play.scene, &[registry, play.promotion(json!({}))], &[]).await?;
        ensure!(code == 2, "{code}: {text}");
        for words in ["Rolling out 1.1.0", "from 1.0.0", "to Deployment app"] {
            ensure!(text.contains(words), "{text}");
        }
        ensure!(play.running("app").await? == image, "something was done");
        Ok(())
    })
}
