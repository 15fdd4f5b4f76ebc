//! Of all replicas one writes, and only while it surely leads. Promise 2.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Cluster, Fault, Operator, Signal, eventually, throughout};
use serde_json::json;

use crate::support::{LIMIT, OWNER, REGION, Scene, Stage, run};

/// How long nothing may happen for it to count as nothing.
const QUIET: Duration = Duration::from_secs(3);

/// A cluster of its own, with a scene in it. Operators that share an apiserver reconcile each other's objects.
async fn scene(stage: &'static Stage, name: &str) -> Result<Scene> {
    stage.scene_on(stage.bare_cluster().await?, name).await
}

async fn operator(scene: &Scene, name: &str, lease: &str) -> Result<Operator> {
    let args = ["--lease-duration", lease];
    scene.stage.operator_with(name, scene.cluster, OWNER, &args).await
}

/// Who holds the Lease.
async fn holder(scene: &Scene) -> Result<String> {
    let lease = scene
        .cluster
        .get("lease.coordination.k8s.io", bed::NAMESPACE, "ecr-operator")
        .await?;
    Ok(lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned())
}

async fn held_by(scene: &Scene, name: &str) -> Result<()> {
    eventually(LIMIT, &format!("{name} to hold the Lease"), async || {
        let holder = holder(scene).await?;
        ensure!(holder == name, "{holder} holds it");
        Ok(())
    })
    .await
}

/// Somebody else takes the Lease for an hour.
async fn usurp(scene: &Scene) -> Result<()> {
    let spec = json!({ "spec": { "holderIdentity": "somebody-else", "leaseDurationSeconds": 3_600 } }).to_string();
    let patch = [
        "patch",
        "lease",
        "ecr-operator",
        "-n",
        bed::NAMESPACE,
        "--type=merge",
        "-p",
        &spec,
    ];
    scene.cluster.kubectl(&patch).await?.checked().map(drop)
}

async fn set_scan_on_push(scene: &Scene, on: bool) -> Result<()> {
    let scanning = aws_sdk_ecr::types::ImageScanningConfiguration::builder()
        .scan_on_push(on)
        .build();
    let put = scene.ecr().await?.put_image_scanning_configuration();
    put.repository_name(format!("{}/web", scene.name))
        .image_scanning_configuration(scanning)
        .send()
        .await?;
    Ok(())
}

async fn scans(scene: &Scene) -> Result<bool> {
    let live = scene.live(&format!("{}/web", scene.name)).await?;
    let scanning = live.image_scanning_configuration.context("no scanning configuration")?;
    Ok(scanning.scan_on_push)
}

async fn repaired(scene: &Scene) -> Result<()> {
    eventually(LIMIT, "the drift to be repaired", async || match scans(scene).await? {
        true => Ok(()),
        false => Err(anyhow!("it still drifts")),
    })
    .await
}

/// What the operators wrote to the cluster's objects.
async fn written(scene: &Scene) -> Result<u64> {
    Ok(scene.cluster.writes(&Cluster::operator_user()).await?.objects)
}

#[test]
fn of_two_replicas_the_leader_writes_and_the_other_goes_on_when_it_dies() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "replicas").await?;
        let first = operator(&scene, "replica-1", "3s").await?;
        held_by(&scene, "replica-1").await?;
        let second = operator(&scene, "replica-2", "3s").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({ "scanOnPush": true })).await?;
        ensure!(first.metrics().await?.contains("ecr_operator_leader 1"));
        ensure!(second.metrics().await?.contains("ecr_operator_leader 0"));
        let log = second.process().log();
        ensure!(log.contains("standing by") && !log.contains("AWS answered"), "{log}");

        first.kill();
        set_scan_on_push(&scene, false).await?;
        held_by(&scene, "replica-2").await?;
        repaired(&scene).await?;
        ensure!(second.metrics().await?.contains("ecr_operator_leader 1"));
        Ok(())
    })
}

#[test]
fn a_leader_that_is_asked_to_end_hands_over_at_once() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "handover").await?;
        // So long that nobody waits until it runs out.
        let first = operator(&scene, "handover-1", "5m").await?;
        held_by(&scene, "handover-1").await?;
        let _second = operator(&scene, "handover-2", "5m").await?;
        scene.registry(json!({})).await?;
        let status = first.stop().await?;
        ensure!(status.success(), "{status}");
        held_by(&scene, "handover-2").await?;
        scene.settled("web", json!({})).await?;
        Ok(())
    })
}

#[test]
fn a_leader_that_was_stopped_beyond_its_lease_writes_nothing_when_it_wakes() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "stopped").await?;
        let operator = operator(&scene, "stopped-1", "2s").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({ "scanOnPush": true })).await?;
        // It stops between two attempts of a write.
        let fault = Fault::throttling("PutImageScanningConfiguration").registry(&scene.account, REGION);
        let throttling = stage.aws.inject(&fault).await?;
        scene
            .apply(&scene.repository("web", json!({ "scanOnPush": false })))
            .await?;
        eventually(LIMIT, "an attempt", async || {
            ensure!(stage.aws.fault(&throttling).await?.injected > 0);
            Ok(())
        })
        .await?;
        let process = operator.process();
        process.signal(Signal::STOP)?;
        // As whoever stood by does after two seconds.
        throughout(QUIET, "a Lease that runs out", async || {
            ensure!(holder(&scene).await? == "stopped-1");
            Ok(())
        })
        .await?;
        usurp(&scene).await?;
        stage.aws.remove_fault(&throttling).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        let before = written(&scene).await?;

        process.signal(Signal::CONT)?;
        let status = process.wait_exit(LIMIT).await?;
        ensure!(!status.success(), "{status}");
        throughout(QUIET, "no write", async || {
            let calls = scene.operators_calls().await?;
            ensure!(scene.operators_writes().await? == 0, "{calls:?}");
            ensure!(written(&scene).await? == before, "it wrote to the cluster");
            Ok(())
        })
        .await?;
        ensure!(scans(&scene).await?, "nothing was written");
        Ok(())
    })
}

#[test]
fn a_leader_that_cannot_renew_writes_nothing_more_although_aws_answers() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "frozen").await?;
        let operator = operator(&scene, "frozen-1", "2s").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({ "scanOnPush": true })).await?;
        let process = operator.process();
        scene.cluster.freeze_apiserver()?;
        process.wait_exit(LIMIT).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        set_scan_on_push(&scene, false).await?;
        throughout(QUIET, "no write", async || {
            ensure!(
                scene.operators_writes().await? == 0,
                "{:?}",
                scene.operators_calls().await?
            );
            Ok(())
        })
        .await?;
        scene.cluster.thaw_apiserver()?;
        operator.restart().await?;
        repaired(&scene).await
    })
}

#[test]
fn a_reconcile_is_not_cut_between_its_write_and_its_record() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "graceful").await?;
        let operator = operator(&scene, "graceful-1", "15s").await?;
        scene.registry(json!({})).await?;
        let hold = Fault::new("CreateRepository", bed::Effect::Hold).after();
        let hold = stage.aws.inject(&hold.registry(&scene.account, REGION)).await?;
        scene.apply(&scene.repository("web", json!({}))).await?;
        stage.aws.held(&hold, LIMIT).await?;
        let process = operator.process();
        process.signal(Signal::TERM)?;
        eventually(LIMIT, "it to hear", async || {
            ensure!(process.log().contains("stopping: what is under way is finished"));
            Ok(())
        })
        .await?;
        ensure!(process.is_running(), "it waits for the answer");
        stage.aws.release(&hold).await?;
        let status = process.wait_exit(LIMIT).await?;
        ensure!(status.success(), "{status}");
        scene.reason("repository", "web", "Settled").await?;
        let events = scene.events("web", "Created").await?;
        ensure!(events.len() == 1, "{events:?}");
        ensure!(holder(&scene).await?.is_empty(), "the Lease is free");
        Ok(())
    })
}
