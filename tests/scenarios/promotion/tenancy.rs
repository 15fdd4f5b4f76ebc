//! Nobody runs, by a promotion, an image that their namespace may not use, or reaches into another namespace.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::play::{Play, tenant, workloads};
use crate::support::{REGION, run};

const PAUSE: &str = "registry.k8s.io/pause:3.9";

fn from(registry: &str, repository: &str) -> Value {
    json!({ "source": {
        "registryRef": { "name": registry }, "repositoryName": repository,
        "policy": { "semver": { "range": ">=1.0.0" } },
    } })
}

#[test]
fn outside_what_the_tenants_may_promote_nothing_runs() -> Result<()> {
    run(async |stage| {
        workloads(stage).await?;
        let scene = stage.scene("tenants-promote").await?;
        let manage = scene.registry_spec()["tenants"].clone();
        let play = Play::enter(scene, json!({ "tenants": manage })).await?;
        play.push("1.0.0").await?;
        play.deployment("app", PAUSE).await?;
        // To manage a repository is not to promote from it.
        play.promote(json!({})).await?;
        play.reason("NotAllowed").await?;
        let refused = async |repository: &str, says: &str| {
            play.promote(from(&play.scene.name, repository)).await?;
            let message = play.says(says).await?;
            play.reason("NotAllowed").await?;
            ensure!(play.running("app").await? == PAUSE, "{message}");
            anyhow::Ok(())
        };
        // Out of the way, or the grant would let it run.
        play.promote(from(&play.scene.name, "elsewhere/app")).await?;
        play.scene.registry(json!({ "tenants": [tenant(&play.scene)] })).await?;
        refused("elsewhere/app", "elsewhere/app").await?;
        // Another tenant's, and names that only begin alike.
        refused("tenants-promoteb/app", "tenants-promoteb/app").await?;
        refused("ecr-operator/registry", "belongs to the operator itself").await?;
        let writes = play.scene.operators_calls().await?;
        ensure!(!writes.contains_key("PutImage"), "{writes:?}");

        play.promote(json!({})).await?;
        play.until("what is allowed to run", |status| status["current"]["tag"] == "1.0.0")
            .await?;

        // Where the right is taken away, what runs stays and nothing new comes.
        let running = play.running("app").await?;
        play.scene.registry(json!({})).await?;
        play.reason("NotAllowed").await?;
        play.push("1.1.0").await?;
        play.looked().await?;
        play.reason("NotAllowed").await?;
        ensure!(play.running("app").await? == running, "it changed");
        Ok(())
    })
}

#[test]
fn a_namespace_runs_nothing_of_a_registry_that_it_is_no_tenant_of() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "tenants-other").await?;
        let theirs = stage.scene("tenants-theirs").await?;
        let mut only = tenant(&theirs);
        only["namespaceSelector"] = json!({ "matchLabels": { "kubernetes.io/metadata.name": "tenants-theirs" } });
        only["repositoryPrefixes"] = json!(["tenants-other/", "tenants-theirs/"]);
        let theirs = Play::enter(theirs, json!({ "tenants": [only] })).await?;
        theirs.push("1.0.0").await?;
        play.deployment("app", PAUSE).await?;
        stage.aws.reset_calls(&theirs.scene.account, REGION).await?;
        for repository in [theirs.repository.as_str(), "tenants-other/app"] {
            play.promote(from("tenants-theirs", repository)).await?;
            play.looked().await?;
            play.reason("NotAllowed").await?;
            // Nor under a tag, or by a pin, of which the digest is known.
            play.promote(json!({
                "source": from("tenants-theirs", repository)["source"],
                "pin": { "digest": format!("sha256:{}", "a".repeat(64)), "reason": "mine" },
            }))
            .await?;
            play.looked().await?;
            play.reason("NotAllowed").await?;
            // Nor by a Repository object of this namespace, which is refused too.
            ensure!(play.running("app").await? == PAUSE, "it runs");
        }
        let borrowed = json!({ "registryRef": { "name": "tenants-theirs" }, "name": "tenants-other/app" });
        play.scene.apply(&play.scene.repository("borrowed", borrowed)).await?;
        let by_object = json!({ "source": { "repositoryRef": { "name": "borrowed" },
            "policy": { "semver": { "range": ">=1.0.0" } } } });
        play.promote(by_object).await?;
        play.looked().await?;
        play.reason("NotAllowed").await?;
        ensure!(play.running("app").await? == PAUSE, "it runs");
        let calls = theirs.scene.operators_calls().await?;
        ensure!(
            !calls.contains_key("DescribeImages") && !calls.contains_key("ListImages"),
            "{calls:?}"
        );
        Ok(())
    })
}

#[test]
fn an_object_of_another_namespace_is_written_only_with_its_consent() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "tenants-via").await?;
        let digest = play.push("1.0.0").await?;
        play.deployment("app", PAUSE).await?;
        let other = "tenants-via-b";
        play.scene.namespace(other, "no").await?;
        let mut map = json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "images", "namespace": other }, "data": { "image": PAUSE } });
        play.scene.apply(&map).await?;
        play.promote(
            json!({ "targets": [{ "kind": "Deployment", "name": "app", "containers": ["app"],
            "via": "ConfigMap", "viaRef": { "name": "images", "namespace": other } }] }),
        )
        .await?;
        play.says("ecr-operator.dev/promotable-from does not name tenants-via")
            .await?;
        let written = async || {
            let get = [
                "get",
                "configmap",
                "images",
                "-n",
                other,
                "-o",
                "jsonpath={.data.image}",
            ];
            play.scene.cluster.kubectl(&get).await?.checked()
        };
        ensure!(written().await? == PAUSE, "it was written");
        // A consent to others is none.
        map["metadata"]["annotations"] = json!({ "ecr-operator.dev/promotable-from": "tenants-via-c, tenants" });
        play.scene.apply(&map).await?;
        play.looked().await?;
        ensure!(written().await? == PAUSE, "it was written");
        map["metadata"]["annotations"] = json!({ "ecr-operator.dev/promotable-from": "elsewhere, tenants-via" });
        play.scene.apply(&map).await?;
        play.look().await?;
        bed::eventually(super::play::LIMIT, "the digest to be written", async || {
            let image = written().await?;
            ensure!(image == play.image(&digest), "{image}");
            Ok(())
        })
        .await?;
        let status = play.status().await?;
        status["rollout"]
            .as_object()
            .map(drop)
            .context("it waits for the owner")
    })
}
