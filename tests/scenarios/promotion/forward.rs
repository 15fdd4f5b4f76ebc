//! New images are picked, written by digest, watched, and entered into the history.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::play::Play;
use crate::{
    plan::plan,
    support::{REGION, object, run},
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

#[test]
fn of_another_source_nothing_runs_under_the_name_of_the_old_one() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "forward-source").await?;
        let old = play.begin(json!({})).await?;
        let settled = play.scene.settled("other", json!({})).await?;
        let uri = settled["status"]["uri"].as_str().context("no uri")?;
        // The same content is in both: its digest alone says nothing about where it is to run from.
        let account = &play.scene.account;
        let mut newer = String::new();
        for (tag, content) in [("1.0.0", "forward-source 1.0.0"), ("2.0.0", "another")] {
            let aws = &stage.aws;
            newer = aws
                .push_image(account, REGION, "forward-source/other", tag, content.as_bytes())
                .await?;
        }
        let mut overlay = json!({
            "source": {
                "repositoryRef": { "name": "other" },
                "policy": { "semver": { "range": ">=1.0.0" } },
            },
            "gates": { "minAge": "1h" },
        });
        play.promote(overlay.clone()).await?;
        play.scene.event("app", "SourceChanged").await?;
        play.waits(&newer, "MinAge", "").await?;
        play.looked().await?;
        ensure!(play.running("app").await? == play.image(&old), "it was to stay");
        let status = play.status().await?;
        ensure!(status["current"].is_null() && status["history"].is_null(), "{status:#}");

        overlay["gates"] = json!({});
        play.promote(overlay).await?;
        play.until("the other repository's to run", |status| {
            status["current"]["digest"] == newer.as_str() && status["rollout"].is_null()
        })
        .await?;
        ensure!(play.running("app").await? == format!("{uri}@{newer}"), "another runs");
        Ok(())
    })
}
