//! What is not ours is neither written nor deleted, and what is ours is put back. Promises 2 and 3.

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::eventually;
use serde_json::{Value, json};

use super::hall;
use crate::support::{LIMIT, OWNER, Scene, ends, message, run};

fn foreign(scene: &Scene, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": name, "namespace": scene.name }, "stringData": { "key": "theirs" } })
}

#[test]
fn a_secret_of_somebody_else_stays_as_it_is() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-foreign").await?;
        scene.apply(&foreign(&scene, "pull")).await?;
        let before = hall::secret(&scene, "pull").await?;
        scene.apply(&hall::pull_secret(&scene, "pull", json!({}))).await?;
        let object = scene.reason("pullsecret", "pull", "Exists").await?;
        ensure!(message(&object).contains("Secret pull exists"), "{}", message(&object));
        ensure!(hall::assumed(&scene).await? == 0, "no token was asked for");
        hall::delete(&scene, "pull").await?;
        ensure!(hall::secret(&scene, "pull").await? == before);
        // Once it is gone, the name is free.
        scene.apply(&hall::pull_secret(&scene, "pull", json!({}))).await?;
        scene.reason("pullsecret", "pull", "Exists").await?;
        let delete = ["delete", "secret", "pull", "-n", &scene.name];
        scene.cluster.kubectl(&delete).await?.checked()?;
        hall::look_now(&scene, "pull").await?;
        scene.reason("pullsecret", "pull", "Settled").await.map(drop)
    })
}

#[test]
fn of_two_objects_with_one_secret_the_second_waits() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-twice").await?;
        let spec = || json!({ "secretName": "ecr" });
        hall::settled(&scene, "first", spec()).await?;
        let before = hall::secret(&scene, "ecr").await?;
        scene.apply(&hall::pull_secret(&scene, "second", spec())).await?;
        let object = scene.reason("pullsecret", "second", "OwnedByAnother").await?;
        ensure!(message(&object).contains("PullSecret first"), "{}", message(&object));
        hall::delete(&scene, "second").await?;
        ensure!(hall::secret(&scene, "ecr").await? == before);
        scene.apply(&hall::pull_secret(&scene, "second", spec())).await?;
        scene.reason("pullsecret", "second", "OwnedByAnother").await?;
        hall::delete(&scene, "first").await?;
        scene.reason("pullsecret", "second", "Settled").await?;
        let after = hall::secret(&scene, "ecr").await?;
        ensure!(
            after["metadata"]["uid"] != before["metadata"]["uid"],
            "it is another Secret"
        );
        Ok(())
    })
}

#[test]
fn a_secret_that_was_deleted_or_edited_is_put_back() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-edited").await?;
        hall::settled(&scene, "pull", json!({})).await?;
        let delete = ["delete", "secret", "pull", "-n", &scene.name];
        scene.cluster.kubectl(&delete).await?.checked()?;
        hall::look_now(&scene, "pull").await?;
        hall::entry(&scene, "pull").await?;
        ensure!(
            scene
                .event("pull", "DriftRepaired")
                .await?
                .contains("create Secret pull")
        );

        let edits = [
            json!({ "data": { ".dockerconfigjson": "eyJhdXRocyI6e319" } }),
            json!({ "metadata": { "annotations": { "ecr-operator.dev/pull-entries": "[]" } } }),
            json!({ "metadata": { "annotations": { "ecr-operator.dev/expires-at": "2126-01-01T00:00:00Z" } } }),
        ];
        for edit in edits {
            let edited = edit.to_string();
            let patch = [
                "patch",
                "secret",
                "pull",
                "-n",
                &scene.name,
                "--type=merge",
                "-p",
                &edited,
            ];
            scene.cluster.kubectl(&patch).await?.checked()?;
            hall::look_now(&scene, "pull").await?;
            let entry = hall::entry(&scene, "pull").await.with_context(|| edit.to_string())?;
            let status = entry.status(http::Method::GET, "").await?;
            ensure!(status == http::StatusCode::OK, "{edit}: {status}");
            let secret = hall::secret(&scene, "pull").await?;
            let expires = &secret["metadata"]["annotations"]["ecr-operator.dev/expires-at"];
            ensure!(
                expires.as_str().is_some_and(|time| !time.starts_with("2126")),
                "{edit}: {expires}"
            );
        }
        // What others keep beside it stays.
        let beside = json!({ "metadata": { "labels": { "team": "a" } }, "data": { "more": "eA==" } }).to_string();
        let patch = [
            "patch",
            "secret",
            "pull",
            "-n",
            &scene.name,
            "--type=merge",
            "-p",
            &beside,
        ];
        scene.cluster.kubectl(&patch).await?.checked()?;
        let before = hall::secret(&scene, "pull").await?;
        hall::look_now(&scene, "pull").await?;
        ensure!(hall::secret(&scene, "pull").await? == before);
        Ok(())
    })
}

#[test]
fn a_secret_whose_marks_were_taken_off_is_nobody_elses_to_write() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-marks").await?;
        hall::settled(&scene, "pull", json!({})).await?;
        let marks = json!({ "metadata": { "labels": { "ecr-operator.dev/pull-secret": null } } }).to_string();
        let patch = [
            "patch",
            "secret",
            "pull",
            "-n",
            &scene.name,
            "--type=merge",
            "-p",
            &marks,
        ];
        scene.cluster.kubectl(&patch).await?.checked()?;
        let before = hall::secret(&scene, "pull").await?;
        hall::look_now(&scene, "pull").await?;
        scene.reason("pullsecret", "pull", "Exists").await?;
        ensure!(hall::secret(&scene, "pull").await? == before);
        Ok(())
    })
}

#[test]
fn the_secret_goes_with_its_object() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-gone").await?;
        hall::settled(&scene, "pull", json!({ "secretName": "ecr" })).await?;
        let secret = hall::secret(&scene, "ecr").await?;
        let owner = &secret["metadata"]["ownerReferences"][0];
        ensure!(owner["kind"] == "PullSecret" && owner["name"] == "pull", "{owner}");
        hall::delete(&scene, "pull").await?;
        hall::no_secret(&scene, "ecr").await
    })
}

#[test]
fn a_registry_waits_for_the_pull_secrets_that_name_it() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-waits").await?;
        let far = hall::scene(stage, "pull-waits-far").await?;
        let refs = |names: &[&str]| {
            let refs: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
            json!({ "registryRefs": refs })
        };
        hall::settled(&scene, "pull", refs(&[&scene.name, &far.name])).await?;
        let before = hall::secret(&scene, "pull").await?;
        ensure!(hall::entries(&before)?.len() == 2, "an entry for each");
        for name in [&scene.name, &far.name] {
            let delete = ["delete", "registry.ecr-operator.dev", name, "--wait=false"];
            scene.cluster.kubectl(&delete).await?.checked()?;
            let registry = scene.reason("registry", name, "Conflict").await?;
            ensure!(
                message(&registry).contains("PullSecret pull-waits/pull still refers to this Registry"),
                "{}",
                message(&registry)
            );
        }
        // Until then, nodes pull.
        hall::look_now(&scene, "pull").await?;
        ensure!(hall::secret(&scene, "pull").await? == before);

        // One of several is let go by an edit, and the last with the object.
        hall::settled(&scene, "pull", refs(&[&scene.name])).await?;
        registry_gone(&far).await?;
        scene.get("registry", &scene.name).await?;
        hall::entry(&scene, "pull").await?;
        hall::delete(&scene, "pull").await?;
        registry_gone(&scene).await
    })
}

/// Asks the Registry to look now, and waits until it is gone.
async fn registry_gone(scene: &Scene) -> Result<()> {
    let annotation = "ecr-operator.dev/reconcile=now";
    let annotate = ["annotate", "registry.ecr-operator.dev", &scene.name, annotation];
    scene.cluster.kubectl(&annotate).await?.checked()?;
    eventually(LIMIT, "the Registry to go", async || {
        match scene.get("registry", &scene.name).await {
            Ok(registry) => Err(anyhow!("{}", registry["status"])),
            Err(error) if format!("{error:#}").contains("NotFound") => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await
}

#[test]
fn without_the_right_to_secrets_the_object_says_which_and_its_deletion_is_not_stuck() -> Result<()> {
    run(async |stage| {
        let cluster = stage.control_plane.bare_cluster("pull-norights").await?;
        cluster
            .install_chart(&bed::root().join("charts/ecr-operator"), &json!({ "ownerId": OWNER }))
            .await?;
        let cluster = ends(cluster);
        let account = format!("system:serviceaccount:{}:{}", bed::NAMESPACE, bed::SERVICE_ACCOUNT);
        for resource in ["secrets", "serviceaccounts"] {
            let review = ["auth", "can-i", "get", resource, "-n", "default", "--as", &account];
            let answer = cluster.kubectl(&review).await?;
            ensure!(answer.stdout.trim() == "no", "{resource}: {}", answer.stdout);
        }
        let operator = stage.rare_operator("pull-norights", cluster).await?;
        let scene = hall::scene_on(stage, cluster, "pull-norights").await?;
        scene.apply(&hall::pull_secret(&scene, "pull", json!({}))).await?;
        let object = scene.reason("pullsecret", "pull", "Refused").await?;
        ensure!(
            message(&object).contains("set pullSecrets.enabled"),
            "{}",
            message(&object)
        );
        ensure!(hall::assumed(&scene).await? == 0, "no token was asked for");
        // In the namespaces that are listed they are given.
        let values = json!({ "ownerId": OWNER, "pullSecrets": { "namespaces": [scene.name] } });
        cluster
            .install_chart(&bed::root().join("charts/ecr-operator"), &values)
            .await?;
        eventually(LIMIT, "the Secret", async || {
            hall::look_now(&scene, "pull").await?;
            hall::entry(&scene, "pull").await.map(drop)
        })
        .await?;
        cluster
            .install_chart(&bed::root().join("charts/ecr-operator"), &json!({ "ownerId": OWNER }))
            .await?;
        for kind in ["role", "rolebinding"] {
            let delete = [
                "delete",
                kind,
                "ecr-operator-pull-secrets",
                "-n",
                &scene.name,
                "--ignore-not-found",
            ];
            cluster.kubectl(&delete).await?.checked()?;
        }
        hall::delete(&scene, "pull").await?;
        ensure!(scene.event("pull", "Left").await?.contains("garbage collector"));
        drop(operator);
        Ok(())
    })
}
