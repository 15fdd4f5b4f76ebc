//! The owner of a workload changes it under us: what it removes stays removed, what it brings back gets the image.

use anyhow::{Result, ensure};
use bed::eventually;
use serde_json::{Value, json};

use super::play::{LIMIT, Play};
use crate::support::run;

const OTHER: &str = "registry.k8s.io/pause:3.9";

/// The owner's manifest of the Deployment `app` with these containers.
fn manifest(play: &Play, containers: &[(&str, &str)]) -> Value {
    let labels = json!({ "app": "app" });
    let containers: Vec<Value> = containers
        .iter()
        .map(|(name, image)| json!({ "name": name, "image": image, "env": [{ "name": "A", "value": "b" }] }))
        .collect();
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "app", "namespace": play.scene.name },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": { "containers": containers } },
        },
    })
}

async fn apply_server_side(play: &Play, manifest: &Value) -> Result<()> {
    let apply = ["apply", "--server-side", "-f", "-"];
    let output = play
        .scene
        .cluster
        .kubectl_with_input(&apply, &manifest.to_string())
        .await?;
    output.checked().map(drop)
}

/// Names and images of the containers.
async fn containers(play: &Play) -> Result<Vec<(String, String)>> {
    let deployment = play.workload("deployment", "app").await?;
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().cloned();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(containers
        .unwrap_or_default()
        .iter()
        .map(|container| (text(&container["name"]), text(&container["image"])))
        .collect())
}

async fn has(play: &Play, wanted: &[(&str, &str)]) -> Result<()> {
    eventually(LIMIT, &format!("the containers {wanted:?}"), async || {
        let found = containers(play).await?;
        let found: Vec<(&str, &str)> = found.iter().map(|(name, image)| (&**name, &**image)).collect();
        ensure!(found == wanted, "{found:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_container_that_its_owner_removes_is_not_kept_and_one_that_comes_back_gets_the_image() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "owners").await?;
        let digest = play.push("1.0.0").await?;
        let (old, new) = (format!("{}:1.0.0", play.uri), play.image(&digest));
        let whole = manifest(&play, &[("app", &old), ("proxy", OTHER)]);
        let rest = manifest(&play, &[("proxy", OTHER)]);

        // By client-side apply it goes with all that anybody had in it.
        play.scene.apply(&whole).await?;
        play.promote(json!({})).await?;
        play.runs(&digest).await?;
        play.scene.apply(&rest).await?;
        let ready = play.reason("TargetMissing").await?;
        let message = ready["message"].as_str().unwrap_or_default();
        ensure!(message.contains("no container named app"), "{message}");
        has(&play, &[("proxy", OTHER)]).await?;

        // Another name is another container.
        let renamed = manifest(&play, &[("web", &old), ("proxy", OTHER)]);
        play.scene.apply(&renamed).await?;
        play.look().await?;
        play.reason("TargetMissing").await?;
        has(&play, &[("web", &old), ("proxy", OTHER)]).await?;
        play.scene.apply(&whole).await?;
        has(&play, &[("app", &new), ("proxy", OTHER)]).await?;
        play.runs(&digest).await?;
        Ok(())
    })
}

#[test]
fn a_container_that_its_owner_removes_by_server_side_apply_goes_too() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "owners-apply").await?;
        let digest = play.push("1.0.0").await?;
        let (old, new) = (format!("{}:1.0.0", play.uri), play.image(&digest));
        apply_server_side(&play, &manifest(&play, &[("app", &old), ("proxy", OTHER)])).await?;
        play.promote(json!({})).await?;
        play.runs(&digest).await?;
        // A conflict tells the owner that the image is another's.
        let refused = apply_server_side(&play, &manifest(&play, &[("app", &old), ("proxy", OTHER)])).await;
        let refused = refused.err().map_or("taken".into(), |error| format!("{error:#}"));
        ensure!(refused.contains("ecr-operator-image-promotion"), "{refused}");

        apply_server_side(&play, &manifest(&play, &[("proxy", OTHER)])).await?;
        play.reason("TargetMissing").await?;
        has(&play, &[("proxy", OTHER)]).await?;
        play.scene.event("app", "ContainerAbandoned").await?;
        apply_server_side(&play, &manifest(&play, &[("app", &old), ("proxy", OTHER)])).await?;
        has(&play, &[("app", &new), ("proxy", OTHER)]).await?;
        Ok(())
    })
}

#[test]
fn a_workload_that_is_deleted_is_missed_and_one_that_is_made_again_begins_anew() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "owners-again").await?;
        let digest = play.push("1.0.0").await?;
        let old = format!("{}:1.0.0", play.uri);
        play.deployment("app", &old).await?;
        play.promote(json!({})).await?;
        play.runs(&digest).await?;
        play.kubectl(&["delete", "deployment", "app"]).await?;
        let ready = play.reason("TargetMissing").await?;
        let message = ready["message"].as_str().unwrap_or_default();
        ensure!(message.contains("Deployment app does not exist"), "{message}");
        play.scene.apply(&manifest(&play, &[("app", &old)])).await?;
        has(&play, &[("app", &play.image(&digest))]).await?;
        let status = play.runs(&digest).await?;
        ensure!(status["targets"][0]["reverts"] == 0, "{status:#}");
        play.reason("Settled").await?;
        Ok(())
    })
}

#[test]
fn the_owners_manifest_with_an_old_tag_is_counted_written_back_and_in_the_end_left_alone() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "owners-old").await?;
        let first = play.push("1.0.0").await?;
        let old = format!("{}:1.0.0", play.uri);
        let owned = manifest(&play, &[("app", &old)]);
        play.scene.apply(&owned).await?;
        play.promote(json!({})).await?;
        play.runs(&first).await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        play.runs(&second).await?;
        let new = play.image(&second);
        for reverts in 1..=2 {
            play.scene.apply(&owned).await?;
            has(&play, &[("app", &new)]).await?;
            let status = play
                .until("the revert to be counted", |status| {
                    status["targets"][0]["reverts"] == reverts
                })
                .await?;
            ensure!(
                status["targets"][0]["contestedBy"] == "kubectl-client-side-apply",
                "{status:#}"
            );
        }
        play.scene.event("app", "ImageReverted").await?;
        play.scene.apply(&owned).await?;
        let ready = play.reason("Contested").await?;
        let message = ready["message"].as_str().unwrap_or_default();
        ensure!(
            message.contains("kubectl-client-side-apply") && message.contains("Put the digest into the manifest"),
            "{message}"
        );
        has(&play, &[("app", &old)]).await?;
        play.request("resume", "again").await?;
        play.runs(&second).await?;

        // The digest in the manifest is what the message asks for.
        play.scene.apply(&manifest(&play, &[("app", &new)])).await?;
        play.reason("Settled").await?;
        play.runs(&second).await?;
        Ok(())
    })
}
