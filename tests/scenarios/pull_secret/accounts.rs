//! ServiceAccounts get an entry and lose it again, and keep all that others gave them. Promise 3.

use anyhow::{Result, ensure};
use bed::eventually;
use serde_json::{Value, json};

use super::hall;
use crate::support::{LIMIT, Scene, message, run};

fn account(scene: &Scene, name: &str, secrets: &[&str]) -> Value {
    let secrets: Vec<Value> = secrets.iter().map(|name| json!({ "name": name })).collect();
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": secrets,
        "metadata": { "name": name, "namespace": scene.name } })
}

#[test]
fn entries_come_and_go_and_those_of_others_stay() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-sa").await?;
        scene.apply(&account(&scene, "builder", &["theirs"])).await?;
        scene.apply(&account(&scene, "runner", &[])).await?;
        // Given by somebody else, under the very name of our Secret.
        scene.apply(&account(&scene, "given", &["pull"])).await?;
        let spec = json!({ "serviceAccounts": ["builder", "runner", "given"] });
        let object = hall::settled(&scene, "pull", spec).await?;
        ensure!(
            object["status"]["serviceAccounts"] == json!(["builder", "runner"]),
            "{}",
            object["status"]
        );
        ensure!(hall::pull_secrets_of(&scene, "builder").await? == ["theirs", "pull"]);
        ensure!(hall::pull_secrets_of(&scene, "runner").await? == ["pull"]);

        // Somebody takes ours away and adds one of theirs.
        let edit = json!({ "imagePullSecrets": [{ "name": "theirs" }, { "name": "more" }] }).to_string();
        let patch = [
            "patch",
            "serviceaccount",
            "builder",
            "-n",
            &scene.name,
            "--type=merge",
            "-p",
            &edit,
        ];
        scene.cluster.kubectl(&patch).await?.checked()?;
        hall::look_now(&scene, "pull").await?;
        ensure!(hall::pull_secrets_of(&scene, "builder").await? == ["theirs", "more", "pull"]);

        hall::settled(&scene, "pull", json!({ "serviceAccounts": ["builder"] })).await?;
        ensure!(hall::pull_secrets_of(&scene, "runner").await?.is_empty());
        ensure!(hall::pull_secrets_of(&scene, "given").await? == ["pull"]);
        hall::delete(&scene, "pull").await?;
        ensure!(hall::pull_secrets_of(&scene, "builder").await? == ["theirs", "more"]);
        ensure!(hall::pull_secrets_of(&scene, "given").await? == ["pull"]);
        Ok(())
    })
}

#[test]
fn a_service_account_that_is_missing_is_told_and_those_that_are_there_get_theirs() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-sa-late").await?;
        scene.apply(&account(&scene, "there", &[])).await?;
        let spec = json!({ "serviceAccounts": ["late", "there"] });
        scene.apply(&hall::pull_secret(&scene, "pull", spec)).await?;
        let object = scene.reason("pullsecret", "pull", "TargetMissing").await?;
        ensure!(message(&object).contains("do not exist: late"), "{}", message(&object));
        hall::entry(&scene, "pull").await?;
        ensure!(hall::pull_secrets_of(&scene, "there").await? == ["pull"]);
        scene.apply(&account(&scene, "late", &[])).await?;
        hall::look_now(&scene, "pull").await?;
        scene.reason("pullsecret", "pull", "Settled").await?;
        ensure!(hall::pull_secrets_of(&scene, "late").await? == ["pull"]);
        // One that goes holds nothing up.
        let delete = ["delete", "serviceaccount", "late", "-n", &scene.name];
        scene.cluster.kubectl(&delete).await?.checked()?;
        hall::delete(&scene, "pull").await
    })
}

#[test]
fn without_a_secret_no_service_account_names_it() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-sa-none").await?;
        scene.apply(&account(&scene, "builder", &[])).await?;
        hall::trusted(&scene, false).await?;
        let spec = json!({ "serviceAccounts": ["builder"] });
        scene.apply(&hall::pull_secret(&scene, "pull", spec)).await?;
        scene.reason("pullsecret", "pull", "Denied").await?;
        ensure!(hall::pull_secrets_of(&scene, "builder").await?.is_empty());
        hall::trusted(&scene, true).await?;
        hall::look_now(&scene, "pull").await?;
        eventually(LIMIT, "the entry", async || {
            ensure!(hall::pull_secrets_of(&scene, "builder").await? == ["pull"]);
            Ok(())
        })
        .await
    })
}
