//! Every kind of workload, by name and by selector, alone and together.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bed::{Behaviour, eventually, throughout};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use serde_json::{Value, json};

use super::play::{LIMIT, Play};
use crate::support::{merge, run};

const QUIET: Duration = Duration::from_secs(3);

/// A workload with a container `app` of this image, its spec overlaid with `overlay`.
pub(super) fn workload(kind: &str, name: &str, image: &str, overlay: Value) -> Value {
    let labels = json!({ "app": name });
    let mut pod = json!({ "containers": [{ "name": "app", "image": image }] });
    let template = |pod: Value| json!({ "metadata": { "labels": labels }, "spec": pod });
    let (api, mut spec) = if kind == "CronJob" {
        pod["restartPolicy"] = "Never".into();
        let job = json!({ "spec": { "template": template(pod) } });
        ("batch/v1", json!({ "schedule": "0 0 1 1 *", "jobTemplate": job }))
    } else {
        let selector = json!({ "matchLabels": labels });
        ("apps/v1", json!({ "selector": selector, "template": template(pod) }))
    };
    merge(&mut spec, overlay);
    json!({ "apiVersion": api, "kind": kind, "metadata": { "name": name, "labels": labels }, "spec": spec })
}

async fn apply(play: &Play, mut manifest: Value) -> Result<()> {
    manifest["metadata"]["namespace"] = play.scene.name.clone().into();
    play.scene.apply(&manifest).await.map(drop)
}

/// The images of a workload's containers of one list.
async fn images(play: &Play, kind: &str, name: &str, list: &str) -> Result<Vec<String>> {
    let object = play.workload(kind, name).await?;
    let spec = match kind {
        "cronjob" => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
        _ => &object["spec"]["template"]["spec"],
    };
    let containers = spec[list].as_array().context("no containers")?;
    Ok(containers
        .iter()
        .filter_map(|container| container["image"].as_str().map(str::to_owned))
        .collect())
}

/// Waits until this image is current and nothing is under way.
async fn at_rest(play: &Play, digest: &str) -> Result<Value> {
    play.until(&format!("{digest} to be current and at rest"), |status| {
        status["current"]["digest"] == digest && status["rollout"].is_null() && status["phase"].is_string()
    })
    .await
}

#[test]
fn every_kind_of_workload_runs_the_image_and_goes_back() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "kinds").await?;
        let first = play.push("1.0.0").await?;
        let image = format!("{}:1.0.0", play.uri);
        let envoy = "registry.k8s.io/pause:3.9";
        let with_init = json!({ "replicas": 2, "serviceName": "set", "template": {
            "metadata": { "labels": { "app": "set" } },
            "spec": {
                "initContainers": [{ "name": "migrate", "image": image }, { "name": "wait", "image": envoy }],
                "containers": [{ "name": "app", "image": image }, { "name": "proxy", "image": envoy }],
            },
        } });
        apply(&play, workload("StatefulSet", "set", &image, with_init)).await?;
        apply(&play, workload("DaemonSet", "daemon", &image, json!({}))).await?;
        apply(&play, workload("CronJob", "cron", &image, json!({}))).await?;
        for name in ["front-a", "front-b"] {
            let mut front = workload("Deployment", name, &image, json!({ "replicas": 1 }));
            front["metadata"]["labels"]["tier"] = "front".into();
            apply(&play, front).await?;
        }
        let targets = json!([
            { "kind": "StatefulSet", "name": "set", "initContainers": ["migrate"] },
            { "kind": "DaemonSet", "name": "daemon" },
            { "kind": "CronJob", "name": "cron", "containers": ["app"] },
            { "kind": "Deployment", "selector": { "matchLabels": { "tier": "front" } } },
        ]);
        let everywhere = async |digest: &str| {
            let (ours, theirs) = (play.image(digest), envoy.to_owned());
            for list in ["initContainers", "containers"] {
                let found = images(&play, "statefulset", "set", list).await?;
                ensure!(found == [ours.clone(), theirs.clone()], "{list}: {found:?}");
            }
            for (kind, name) in [
                ("daemonset", "daemon"),
                ("cronjob", "cron"),
                ("deployment", "front-a"),
                ("deployment", "front-b"),
            ] {
                let found = images(&play, kind, name, "containers").await?;
                ensure!(found == [ours.clone()], "{kind} {name}: {found:?}");
            }
            anyhow::Ok(())
        };
        play.promote(json!({ "targets": targets })).await?;
        at_rest(&play, &first).await?;
        eventually(LIMIT, "the first image everywhere", async || everywhere(&first).await).await?;

        let second = play.push("1.1.0").await?;
        play.look().await?;
        let status = at_rest(&play, &second).await?;
        everywhere(&second).await?;
        ensure!(status["targets"].as_array().map(Vec::len) == Some(5), "{status:#}");

        let bad = play.push_bad("1.2.0", Behaviour::Crash).await?;
        play.look().await?;
        play.until("the bad image to be rejected", |status| {
            status["rejected"][0]["digest"] == bad.as_str()
        })
        .await?;
        let status = at_rest(&play, &second).await?;
        everywhere(&second).await?;
        ensure!(
            status["history"][0]["kind"] == "Rollback" && status["history"][0]["outcome"] == "Succeeded",
            "{status:#}"
        );
        Ok(())
    })
}

#[test]
fn one_target_that_fails_takes_all_back_together_and_in_order() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "kinds-together").await?;
        let first = play.push("1.0.0").await?;
        let image = format!("{}:1.0.0", play.uri);
        play.deployment("app", &image).await?;
        play.deployment("held", &image).await?;
        apply(&play, workload("CronJob", "cron", &image, json!({}))).await?;
        let targets = json!([
            { "kind": "Deployment", "name": "app" }, { "kind": "Deployment", "name": "held" },
            { "kind": "CronJob", "name": "cron" },
        ]);
        let settings = |order: &str| json!({ "timeout": "8s", "stabilization": "1s", "order": order });
        play.promote(json!({ "targets": targets, "rollout": settings("Together") }))
            .await?;
        play.runs(&first).await?;
        let paused = ["patch", "deployment", "held", "--patch", r#"{"spec":{"paused":true}}"#];
        play.kubectl(&paused).await?;

        for (tag, order) in [("1.1.0", "Together"), ("1.2.0", "InOrder")] {
            play.promote(json!({ "targets": targets, "rollout": settings(order) }))
                .await?;
            let next = play.push(tag).await?;
            let got = play.image(&next);
            play.look().await?;
            eventually(LIMIT, "the paused Deployment to have the image", async || {
                let found = images(&play, "deployment", "held", "containers").await?;
                ensure!(found == [got.clone()], "{found:?}");
                Ok(())
            })
            .await?;
            let cron = async || images(&play, "cronjob", "cron", "containers").await;
            if order == "Together" {
                // One is written after the other, and none waits for another.
                eventually(LIMIT, "the CronJob to have the image too", async || {
                    let found = cron().await?;
                    ensure!(found == [got.clone()], "{found:?}");
                    Ok(())
                })
                .await?;
            } else {
                let found = cron().await?;
                ensure!(found != [got.clone()], "{found:?}");
            }
            let status = play.taken_back(&next).await?;
            let reason = status["rejected"][0]["reason"].as_str().unwrap_or_default();
            ensure!(
                reason.contains("Deployment held") && reason.contains("paused"),
                "{reason}"
            );
            play.runs(&first).await?;
            for (kind, name) in [("deployment", "held"), ("cronjob", "cron")] {
                let found = images(&play, kind, name, "containers").await?;
                ensure!(found == [play.image(&first)], "{kind} {name}: {found:?}");
            }
        }
        Ok(())
    })
}

async fn pod(play: &Play, name: &str) -> Result<Value> {
    play.workload("pod", name).await
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_stateful_set_goes_back_although_kubernetes_would_wait_for_ever_and_no_other_pod_goes() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "kinds-stuck").await?;
        let good = play.push("1.0.0").await?;
        let image = format!("{}:1.0.0", play.uri);
        let three = json!({ "replicas": 3, "serviceName": "app" });
        apply(&play, workload("StatefulSet", "app", &image, three)).await?;
        play.kubectl(&["rollout", "status", "statefulset/app", "--timeout=30s"])
            .await?;
        let targets = json!([{ "kind": "StatefulSet", "name": "app", "containers": ["app"] }]);
        play.promote(json!({ "targets": targets })).await?;
        at_rest(&play, &good).await?;
        play.kubectl(&["rollout", "status", "statefulset/app", "--timeout=30s"])
            .await?;
        let kept = [pod(&play, "app-0").await?, pod(&play, "app-1").await?];
        let before = pod(&play, "app-2").await?;

        // Others with the labels of its pods, as broken as the one that is to go: another StatefulSet's, and nobody's.
        let bad = play.push_bad("1.1.0", Behaviour::NeverReady).await?;
        let mut other = workload(
            "StatefulSet",
            "other",
            &play.image(&bad),
            json!({ "replicas": 1, "serviceName": "other" }),
        );
        let labels = json!({ "app": "app", "part": "other" });
        other["spec"]["selector"]["matchLabels"] = labels.clone();
        other["spec"]["template"]["metadata"]["labels"] = labels;
        apply(&play, other).await?;
        let stray = json!({ "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "stray", "labels": { "app": "app", "controller-revision-hash": "app-0" } },
            "spec": { "containers": [{ "name": "app", "image": play.image(&bad) }] } });
        apply(&play, stray).await?;
        let others = eventually(LIMIT, "the pods of others", async || {
            let others = [pod(&play, "other-0").await?, pod(&play, "stray").await?];
            for pod in &others {
                ensure!(pod["status"]["phase"] == "Running", "{:#}", pod["status"]);
            }
            Ok(others)
        })
        .await?;

        play.look().await?;
        play.taken_back(&bad).await?;
        let status = at_rest(&play, &good).await?;
        ensure!(status["history"][0]["outcome"] == "Succeeded", "{status:#}");
        let notes = play.scene.events("app", "PodReplaced").await?;
        ensure!(notes.len() == 1 && notes[0].contains("pod app-2"), "{notes:?}");
        let after = pod(&play, "app-2").await?;
        ensure!(uid(&after) != uid(&before), "app-2 was never replaced");
        ensure!(
            after["spec"]["containers"][0]["image"] == play.image(&good),
            "{:#}",
            after["spec"]
        );
        for (name, seen) in [
            ("app-0", &kept[0]),
            ("app-1", &kept[1]),
            ("other-0", &others[0]),
            ("stray", &others[1]),
        ] {
            ensure!(uid(&pod(&play, name).await?) == uid(seen), "{name} was replaced");
        }
        Ok(())
    })
}

/// What the deletion of a stuck pod rests on: the apiserver refuses it for a pod that is another one by now, and for one
/// that has changed.
#[test]
fn a_pod_is_deleted_as_it_was_seen_or_not_at_all() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "kinds-seen").await?;
        let one = json!({ "replicas": 1, "serviceName": "app" });
        apply(&play, workload("StatefulSet", "app", "registry.k8s.io/pause:3.9", one)).await?;
        play.kubectl(&["rollout", "status", "statefulset/app", "--timeout=30s"])
            .await?;
        let api = Api::<Pod>::namespaced(play.scene.cluster.client().await?, &play.scene.name);
        let seen = api.get("app-0").await?.metadata;
        let as_seen = |uid: Option<String>, version: Option<String>| DeleteParams {
            preconditions: Some(Preconditions {
                uid,
                resource_version: version,
            }),
            ..DeleteParams::default()
        };
        play.kubectl(&["annotate", "pod", "app-0", "changed=yes"]).await?;
        let outdated = as_seen(seen.uid.clone(), seen.resource_version.clone());
        let refused = api.delete("app-0", &outdated).await;
        ensure!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.code == 409),
            "{refused:?}"
        );
        play.kubectl(&["delete", "pod", "app-0"]).await?;
        let fresh = eventually(LIMIT, "another pod of the name", async || {
            let fresh = api.get("app-0").await?.metadata;
            ensure!(fresh.uid != seen.uid, "the same pod");
            Ok(fresh)
        })
        .await?;
        let refused = api.delete("app-0", &as_seen(seen.uid, None)).await;
        ensure!(
            matches!(&refused, Err(kube::Error::Api(status)) if status.code == 409),
            "{refused:?}"
        );
        throughout(QUIET, "the pod", async || {
            ensure!(api.get("app-0").await?.metadata.uid == fresh.uid, "it was deleted");
            Ok(())
        })
        .await
    })
}
