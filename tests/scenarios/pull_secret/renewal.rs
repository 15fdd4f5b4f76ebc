//! A token is renewed before it expires, a restart renews nothing, and what fails leaves what holds. Promises 5 and 7.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::{eventually, throughout};
use serde_json::{Value, json};

use super::hall;
use crate::support::{LIMIT, REGION, condition, message, run};

#[test]
fn a_token_is_renewed_before_it_expires_and_pods_can_pull_all_the_time() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "renewed").await?;
        scene.settled("web", json!({})).await?;
        stage
            .aws
            .push_image(&scene.account, REGION, "renewed/web", "v1", b"content")
            .await?;
        hall::lifetime(&scene, 16).await?;
        hall::settled(&scene, "pull", json!({})).await?;
        let first = hall::entry(&scene, "pull").await?;
        let before = hall::secret(&scene, "pull").await?;
        throughout(Duration::from_secs(24), "pulling", async || {
            hall::entry(&scene, "pull")
                .await?
                .pull("renewed/web", "v1")
                .await
                .map(drop)
        })
        .await?;
        ensure!(
            hall::entry(&scene, "pull").await? != first,
            "the token of the start is still there"
        );
        ensure!(
            first.pull("renewed/web", "v1").await.is_err(),
            "the token of the start has expired"
        );
        let after = hall::secret(&scene, "pull").await?;
        let expires = |secret: &Value| secret["metadata"]["annotations"]["ecr-operator.dev/expires-at"].clone();
        ensure!(
            expires(&before) != expires(&after) && expires(&after).is_string(),
            "{after}"
        );
        ensure!(
            before["metadata"]["uid"] == after["metadata"]["uid"],
            "it is the same Secret"
        );
        // Half of 16 s and a fifth less: three to five times in 24 s.
        let asked = hall::assumed(&scene).await?;
        ensure!((3..=6).contains(&asked), "{asked}");
        ensure!(
            scene.events("pull", "Updated").await?.is_empty(),
            "a renewal is no news"
        );
        Ok(())
    })
}

#[test]
fn a_restart_renews_nothing() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.rare_operator("pull-restart", cluster).await?;
        let scene = hall::scene_on(stage, cluster, "pull-restart").await?;
        hall::settled(&scene, "pull", json!({})).await?;
        let before = hall::secret(&scene, "pull").await?;
        operator.kill();
        operator.restart().await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        hall::look_now(&scene, "pull").await?;
        let after = hall::secret(&scene, "pull").await?;
        ensure!(before == after, "the Secret was written");
        ensure!(hall::assumed(&scene).await? == 0);
        let calls = stage.aws.all_calls().await?;
        let assumed = calls
            .calls
            .iter()
            .filter(|call| call.operation == "sts:AssumeRole" && call.account == scene.account);
        ensure!(assumed.count() == 0, "the role was assumed");
        Ok(())
    })
}

#[test]
fn a_renewal_that_fails_leaves_the_object_ready_until_the_token_expires() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-failing").await?;
        hall::lifetime(&scene, 20).await?;
        hall::settled(&scene, "pull", json!({})).await?;
        let entry = hall::entry(&scene, "pull").await?;
        hall::trusted(&scene, false).await?;
        let told = eventually(LIMIT, "the failure to be told", async || {
            let object = scene.get("pullsecret", "pull").await?;
            ensure!(
                message(&object).contains("AssumeRole was refused"),
                "{}",
                message(&object)
            );
            Ok(object)
        });
        let told = told.await?;
        let ready = condition(&told, "Ready").context("no condition")?;
        ensure!(ready["status"] == "True", "{ready}");
        ensure!(
            scene
                .event("pull", "NotRenewed")
                .await?
                .contains("kept until it expires")
        );
        ensure!(hall::entry(&scene, "pull").await? == entry);
        hall::trusted(&scene, true).await?;
        hall::look_now(&scene, "pull").await?;
        ensure!(hall::entry(&scene, "pull").await? != entry, "the token was not renewed");
        let object = scene.reason("pullsecret", "pull", "Settled").await?;
        ensure!(message(&object).is_empty(), "{}", message(&object));
        Ok(())
    })
}

#[test]
fn a_token_that_expired_without_a_new_one_makes_the_object_not_ready() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-expired").await?;
        hall::lifetime(&scene, 6).await?;
        hall::settled(&scene, "pull", json!({})).await?;
        hall::trusted(&scene, false).await?;
        let told = eventually(LIMIT, "the failure to be told", async || {
            let object = scene.get("pullsecret", "pull").await?;
            ensure!(
                message(&object).contains("AssumeRole was refused"),
                "{}",
                message(&object)
            );
            Ok(())
        });
        told.await?;
        bed::eventually(LIMIT, "the object not to be ready", async || {
            hall::look_now(&scene, "pull").await?;
            let object = scene.get("pullsecret", "pull").await?;
            let ready = condition(&object, "Ready").context("no condition")?;
            ensure!(ready["status"] == "False" && ready["reason"] == "Denied", "{ready}");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_suspended_registry_renews_nothing_and_takes_nothing_away() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-paused").await?;
        hall::settled(&scene, "pull", json!({})).await?;
        let before = hall::secret(&scene, "pull").await?;
        let mut suspended = hall::overlay(&scene);
        suspended["suspend"] = true.into();
        scene.apply_registry(suspended).await?;
        eventually(LIMIT, "the pause to be told", async || {
            let object = scene.get("pullsecret", "pull").await?;
            ensure!(
                message(&object).contains("spec.suspend of Registry pull-paused"),
                "{}",
                message(&object)
            );
            Ok(())
        })
        .await?;
        ensure!(hall::secret(&scene, "pull").await? == before);
        scene.apply(&hall::pull_secret(&scene, "late", json!({}))).await?;
        scene.reason("pullsecret", "late", "RegistryNotReady").await?;
        ensure!(hall::core(&scene, "secret", "late").await?.is_none());
        scene.registry(hall::overlay(&scene)).await?;
        scene.reason("pullsecret", "late", "Settled").await.map(drop)
    })
}
