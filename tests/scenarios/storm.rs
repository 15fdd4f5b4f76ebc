//! When much goes wrong for a while: no call is hammered, nothing is given up, and all heals by itself. Promises 5 and 7.

use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_ecr::types::ImageScanningConfiguration;
use bed::{Fault, eventually, throughout};
use serde_json::{Value, json};

use crate::support::{LIMIT, REGION, condition, run};

/// Long beside the SDK's retries, and short beside the pauses between looks: what is hammered shows.
#[test]
fn a_minute_of_denial_costs_two_calls_at_most() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("minute").await?;
        scene.registry(json!({})).await?;
        let words = "User is not authorized to perform: ecr:CreateRepository";
        let denied = Fault::error("CreateRepository", 400, "AccessDeniedException", words);
        stage.aws.inject(&denied.registry(&scene.account, REGION)).await?;
        scene.apply(&scene.repository("web", json!({}))).await?;
        let told = scene.reason("repository", "web", "Denied").await?;
        throughout(Duration::from_mins(1), "patience", async || {
            let calls = stage.aws.calls(&scene.account, REGION).await?;
            ensure!(
                (1..=2).contains(&calls.of("CreateRepository")),
                "{:?}",
                calls.operations
            );
            Ok(())
        })
        .await?;
        let now = scene.get("repository", "web").await?;
        ensure!(
            condition(&now, "Ready") == condition(&told, "Ready"),
            "{}",
            now["status"]
        );
        Ok(())
    })
}

/// How many objects the storm is over.
const OBJECTS: usize = 200;

#[test]
fn two_hundred_repositories_come_through_a_tenth_of_failures_without_a_storm_of_retries() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("storm").await?;
        scene.registry(json!({})).await?;
        let at = |fault: Fault| fault.registry(&scene.account, REGION).share(0.05);
        let throttling = stage.aws.inject(&at(Fault::throttling("ecr:*"))).await?;
        // Each strikes every twentieth call: counted from the same call on, they would strike the same ones.
        for _ in 0..10 {
            scene.repositories().await?;
        }
        let errors = stage.aws.inject(&at(Fault::server_error("ecr:*"))).await?;
        let spec = json!({
            "scanOnPush": true,
            "policy": { "access": { "pull": { "principals": [scene.account] } } },
            "tags": { "team": "a" },
        });
        let items: Vec<Value> = (0..OBJECTS)
            .map(|number| scene.repository(&format!("web-{number}"), spec.clone()))
            .collect();
        scene
            .apply(&json!({ "apiVersion": "v1", "kind": "List", "items": items }))
            .await?;
        eventually(4 * LIMIT, "all to be settled", async || {
            let items = scene.cluster.list("repository.ecr-operator.dev", Some("storm")).await?;
            let settled = items.iter().filter(|object| {
                condition(object, "Ready")
                    .is_some_and(|ready| ready["status"] == "True" && ready["reason"] == "Settled")
            });
            let settled = settled.count();
            ensure!(settled == OBJECTS, "{settled} of {}", items.len());
            Ok(())
        })
        .await?;
        let mut calls = scene.operators_calls().await?;
        // The routine listings depend on how long it took.
        let listings = calls.remove("DescribeRepositories");
        calls.retain(|operation, _| !operation.starts_with("sts:"));
        let total: usize = calls.values().sum();
        // Two each without a fault; a tenth of them fails, and each failure is made good by few calls.
        ensure!(
            total <= 3 * OBJECTS,
            "{total} calls: {calls:?} and {listings:?} listings"
        );
        for fault in [throttling, errors] {
            let state = stage.aws.fault(&fault).await?;
            ensure!(state.injected >= 10, "it was no storm: {state:?}");
            stage.aws.remove_fault(&fault).await?;
        }
        ensure!(
            scene.repositories().await?.len() == OBJECTS + 1,
            "these and the claim, nothing else"
        );
        Ok(())
    })
}

#[test]
fn an_apiserver_that_restarts_is_found_again() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.operator("outlives", cluster, crate::support::OWNER).await?;
        let scene = stage.scene_on(cluster, "outage").await?;
        scene.registry(json!({})).await?;
        scene.settled("before", json!({ "scanOnPush": true })).await?;
        cluster.stop_apiserver();
        // Somebody uses the time.
        let off = ImageScanningConfiguration::builder().build();
        let ecr = scene.ecr().await?;
        ecr.put_image_scanning_configuration()
            .repository_name("outage/before")
            .image_scanning_configuration(off)
            .send()
            .await?;
        cluster.start_apiserver().await?;
        scene.settled("after", json!({})).await?;
        eventually(LIMIT, "the edit to be repaired", async || {
            let live = scene.live("outage/before").await?;
            ensure!(
                live.image_scanning_configuration()
                    .is_some_and(ImageScanningConfiguration::scan_on_push)
            );
            Ok(())
        })
        .await?;
        eventually(LIMIT, "the operator to be ready", async || {
            let (status, text) = operator.get("/readyz").await?;
            ensure!(status == 200, "{status}: {text}");
            Ok(())
        })
        .await
    })
}
