//! Workloads on the real control plane: the controllers of Kubernetes must see what they see on real nodes.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::*;
use crate::{Bed, ControlPlane};

const LIMIT: Duration = Duration::from_mins(1);

/// A workload with one container `app` whose pods are labelled with its name.
fn workload(kind: &str, name: &str, image: &str, more: &Value) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "app", "image": image }] },
            },
        },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        object["spec"][key] = value.clone();
    }
    object
}

fn job(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name, "namespace": "default" },
        "spec": {
            "backoffLimit": 0,
            "template": { "spec": { "restartPolicy": "Never", "containers": [{ "name": "task", "image": image }] } },
        },
    })
}

async fn apply(cluster: &Cluster, object: &Value) -> Result<()> {
    let apply = ["apply", "-f", "-"];
    cluster
        .kubectl_with_input(&apply, &object.to_string())
        .await?
        .checked()
        .map(drop)
}

async fn set_image(client: &Client, deployment: &str, image: &str) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    let patch = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "app", "image": image }] } } } });
    deployments
        .patch(deployment, &PatchParams::default(), &Patch::Strategic(patch))
        .await?;
    Ok(())
}

/// What `kubectl rollout status` waits for.
async fn rolled_out(client: &Client, name: &str, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    wait::eventually(LIMIT, &format!("the rollout of {name}"), async || {
        let deployment = deployments.get(name).await?;
        let status = deployment.status.unwrap_or_default();
        ensure!(
            status.observed_generation == deployment.metadata.generation
                && status.updated_replicas == Some(replicas)
                && status.available_replicas == Some(replicas)
                && status.replicas == Some(replicas),
            "{status:?}"
        );
        Ok(())
    })
    .await
}

/// The status of the container of a pod of `app` that runs, or would run, `image`, once `accept` likes it.
async fn container(
    client: &Client,
    app: &str,
    image: &str,
    accept: impl Fn(&ContainerStatus) -> bool,
) -> Result<ContainerStatus> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    wait::eventually(LIMIT, &format!("a pod of {app} with {image}"), async || {
        let pods = pods.list(&ListParams::default().labels(&format!("app={app}"))).await?;
        let statuses = pods.into_iter().filter_map(|pod| pod.status?.container_statuses);
        let seen: Vec<ContainerStatus> = statuses.flatten().filter(|status| status.image == image).collect();
        let found = seen.iter().find(|status| accept(status)).cloned();
        found.with_context(|| format!("{seen:?}"))
    })
    .await
}

fn waits_for(status: &ContainerStatus, reason: &str) -> bool {
    let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
    waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
}

#[tokio::test]
async fn a_deployment_rolls_out_fails_and_recovers_as_its_images_behave() -> Result<()> {
    let control_plane = ControlPlane::start(&Bed::new()?).await?;
    let cluster = control_plane.cluster("main").await?;
    let start = Instant::now();
    let workloads = cluster.workloads(2).await?;
    eprintln!("two nodes: {:?}", start.elapsed());
    let client = cluster.client().await?;

    let start = Instant::now();
    apply(
        &cluster,
        &workload("Deployment", "web", "registry/web:1", &json!({ "replicas": 3 })),
    )
    .await?;
    rolled_out(&client, "web", 3).await?;
    eprintln!("3 replicas available: {:?}", start.elapsed());

    // What has come to rest is not written again.
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    let versions = async || -> Result<Vec<Option<String>>> {
        let pods = pods.list(&ListParams::default()).await?;
        Ok(pods.into_iter().map(|pod| pod.metadata.resource_version).collect())
    };
    let rested = versions().await?;
    wait::throughout(Duration::from_secs(1), "the pods' rest", async || {
        let now = versions().await?;
        ensure!(now == rested, "{rested:?}, then {now:?}");
        Ok(())
    })
    .await?;

    // A version that crashes never becomes available, and the earlier one goes on serving.
    workloads.behave("registry/web:2", Behaviour::Crash);
    set_image(&client, "web", "registry/web:2").await?;
    let looping = container(&client, "web", "registry/web:2", |status| {
        waits_for(status, "CrashLoopBackOff") && status.restart_count >= 1
    })
    .await?;
    let last = looping.last_state.and_then(|state| state.terminated);
    assert_eq!(last.map(|last| last.exit_code), Some(1));
    container(&client, "web", "registry/web:2", |status| {
        status.restart_count > looping.restart_count
    })
    .await?;
    container(&client, "web", "registry/web:1", |status| status.ready).await?;

    // One that is missing is told so.
    workloads.behave("registry/web:3", Behaviour::PullError);
    set_image(&client, "web", "registry/web:3").await?;
    let pulling = container(&client, "web", "registry/web:3", |status| {
        waits_for(status, "ImagePullBackOff")
    })
    .await?;
    assert!(!pulling.ready);

    // The same image, mended while it waits.
    workloads.behave("registry/web:3", Behaviour::Healthy);
    rolled_out(&client, "web", 3).await?;

    // What is available now may stop being so.
    workloads.behave("registry/web:3", Behaviour::NeverReady);
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "default");
    wait::eventually(LIMIT, "no replica to be available", async || {
        let available = deployments
            .get("web")
            .await?
            .status
            .and_then(|status| status.available_replicas);
        ensure!(available.unwrap_or_default() == 0, "{available:?}");
        Ok(())
    })
    .await?;

    // It goes on when the apiserver was away, and an owner that is deleted takes its pods along.
    workloads.behave("registry/web:3", Behaviour::Healthy);
    cluster.start_apiserver().await?;
    set_image(&client, "web", "registry/web:4").await?;
    rolled_out(&client, "web", 3).await?;
    let gone = ["delete", "deployment", "web", "--cascade=foreground", "--timeout=60s"];
    cluster.kubectl(&gone).await?.checked()?;
    assert!(pods.list(&ListParams::default()).await?.items.is_empty());
    Ok(())
}

#[tokio::test]
async fn sets_roll_out_and_jobs_end() -> Result<()> {
    let control_plane = ControlPlane::start(&Bed::new()?).await?;
    let cluster = control_plane.cluster("main").await?;
    let workloads = cluster.workloads(2).await?;
    let client = cluster.client().await?;
    workloads.behave("registry/bad", Behaviour::Crash);

    let stateful = json!({ "replicas": 2, "serviceName": "db" });
    for object in [
        workload("StatefulSet", "db", "registry/db:1", &stateful),
        workload("DaemonSet", "agent", "registry/agent:1", &json!({})),
        job("good", "registry/task:1"),
        job("bad", "registry/bad:1"),
        json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "nightly", "namespace": "default" },
            "spec": { "schedule": "0 3 * * *", "jobTemplate": { "spec": job("nightly", "registry/task:1")["spec"] } },
        }),
    ] {
        apply(&cluster, &object).await?;
    }
    let from = ["create", "job", "by-hand", "--from=cronjob/nightly"];
    cluster.kubectl(&from).await?.checked()?;

    for image in ["registry/db:1", "registry/db:2"] {
        apply(&cluster, &workload("StatefulSet", "db", image, &stateful)).await?;
        let sets: Api<StatefulSet> = Api::namespaced(client.clone(), "default");
        wait::eventually(LIMIT, &format!("the StatefulSet with {image}"), async || {
            let set = sets.get("db").await?;
            let status = set.status.context("no status")?;
            ensure!(
                status.observed_generation == set.metadata.generation
                    && status.updated_replicas == Some(2)
                    && status.available_replicas == Some(2)
                    && status.current_revision == status.update_revision,
                "{status:?}"
            );
            Ok(())
        })
        .await?;
    }
    for image in ["registry/agent:1", "registry/agent:2"] {
        apply(&cluster, &workload("DaemonSet", "agent", image, &json!({}))).await?;
        let sets: Api<DaemonSet> = Api::namespaced(client.clone(), "default");
        wait::eventually(LIMIT, &format!("the DaemonSet with {image}"), async || {
            let set = sets.get("agent").await?;
            let status = set.status.context("no status")?;
            ensure!(
                status.observed_generation == set.metadata.generation
                    && status.desired_number_scheduled == 2
                    && status.updated_number_scheduled == Some(2)
                    && status.number_available == Some(2),
                "{status:?}"
            );
            Ok(())
        })
        .await?;
    }

    let jobs: Api<Job> = Api::namespaced(client, "default");
    for (name, condition) in [("good", "Complete"), ("bad", "Failed"), ("by-hand", "Complete")] {
        wait::eventually(LIMIT, &format!("the Job {name}: {condition}"), async || {
            let status = jobs.get(name).await?.status.context("no status")?;
            let mut conditions = status.conditions.iter().flatten();
            ensure!(
                conditions.any(|each| each.type_ == condition && each.status == "True"),
                "{status:?}"
            );
            Ok(())
        })
        .await?;
    }
    Ok(())
}
