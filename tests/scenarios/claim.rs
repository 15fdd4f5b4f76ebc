//! Promise 2: each registry has one cluster that manages it.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::support::{REGION, Scene, message, run};

#[test]
fn of_two_clusters_one_manages_and_the_other_says_so_until_it_takes_over() -> Result<()> {
    run(async |stage| {
        let first = stage.scene("two").await?;
        first.registry(json!({})).await?;
        let spec = json!({
            "scanOnPush": true,
            "imageTagMutability": "IMMUTABLE",
            "policy": { "access": { "pull": { "principals": [first.account] } } },
            "tags": { "team": "a" },
        });
        for name in ["web", "api"] {
            first.settled(name, spec.clone()).await?;
        }
        let registry = first.get("registry", "two").await?;
        ensure!(registry["status"]["claim"]["writer"] == "bed", "{}", registry["status"]);
        let holder = registry["status"]["claim"]["cluster"]
            .as_str()
            .unwrap_or_default()
            .to_owned();

        let cluster = stage.bare_cluster().await?;
        // The same ownerId, as after a rebuild, or by mistake.
        let operator = stage.operator("second", cluster, "bed").await?;
        let second = Scene {
            stage,
            cluster,
            name: first.name.clone(),
            account: first.account.clone(),
        };
        second.namespace("two", "yes").await?;
        second.apply_registry(json!({})).await?;
        let told = second.reason("registry", "two", "ManagedElsewhere").await?;
        ensure!(message(&told).contains(&holder), "{}", message(&told));
        ensure!(message(&told).contains("spec.takeover"), "{}", message(&told));
        second
            .apply(&second.repository("web", json!({ "scanOnPush": false })))
            .await?;
        second.reason("repository", "web", "ManagedElsewhere").await?;
        let live = first.live("two/web").await?;
        ensure!(
            live.image_scanning_configuration()
                .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push),
            "nothing was written"
        );
        // Its deletion lets the object go and touches nothing.
        second.delete("web").await?;
        second.gone("web").await?;
        ensure!(first.tags("two/web").await?["ecr-operator.dev/owner"] == "bed/two/web");

        // Another installation is refused whatever it asks for.
        operator.stop().await?;
        let other = stage.operator("other", cluster, "other").await?;
        second.apply_registry(json!({ "takeover": holder })).await?;
        let told = second.reason("registry", "two", "ManagedElsewhere").await?;
        ensure!(message(&told).contains("installation \"bed\""), "{}", message(&told));
        other.stop().await?;

        // The rebuilt cluster takes over in one step, and its objects find everything as they say.
        stage.aws.reset_calls(&first.account, REGION).await?;
        operator.restart().await?;
        second.reason("registry", "two", "Settled").await?;
        for name in ["web", "api"] {
            second.settled(name, spec.clone()).await?;
        }
        let mut calls = second.operators_calls().await?;
        ensure!(calls.remove("TagResource") == Some(1), "the claim: {calls:?}");
        let writes = ["Create", "Put", "Set", "Tag", "Untag", "Delete", "BatchDelete"];
        let written = |operation: &String| writes.iter().any(|write| operation.starts_with(write));
        ensure!(!calls.keys().any(written), "{calls:?}");
        Ok(())
    })
}

#[test]
fn the_claim_is_a_repository_that_no_object_can_have() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("claimed").await?;
        scene
            .registry(
                json!({ "tenants": [{ "namespaceSelector": {}, "repositoryPrefixes": ["*"], "may": ["Manage"] }] }),
            )
            .await?;
        let tags = scene.tags("ecr-operator/registry").await?;
        ensure!(tags["ecr-operator.dev/writer"] == "bed", "{tags:?}");
        scene.namespace("ecr-operator", "yes").await?;
        let inside = Scene {
            stage,
            cluster: scene.cluster,
            name: "ecr-operator".into(),
            account: scene.account.clone(),
        };
        let registry =
            json!({ "registryRef": { "name": "claimed" }, "adoption": "Adopt", "deletionPolicy": "DeleteIfEmpty" });
        inside.apply(&inside.repository("registry", registry)).await?;
        let object = inside.reason("repository", "registry", "Invalid").await?;
        ensure!(
            message(&object).contains("belongs to the operator"),
            "{}",
            message(&object)
        );
        ensure!(scene.tags("ecr-operator/registry").await? == tags);
        Ok(())
    })
}
