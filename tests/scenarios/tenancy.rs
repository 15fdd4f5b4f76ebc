//! Promise 8, safe defaults: absent means nobody. Each way round the tenants is tried, and none reaches AWS.

use anyhow::{Result, ensure};
use bed::eventually;
use serde_json::{Value, json};

use crate::support::{LIMIT, REGION, Scene, message, object, run};

async fn refused(scene: &Scene, name: &str, spec: Value) -> Result<String> {
    scene.apply(&scene.repository(name, spec)).await?;
    let object = scene.reason("repository", name, "NotAllowed").await?;
    Ok(message(&object).to_owned())
}

#[test]
fn outside_the_tenants_nothing_is_asked_of_aws() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("tenants").await?;
        scene.registry(json!({})).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        let prefix = refused(&scene, "a", json!({ "name": "other/web" })).await?;
        ensure!(prefix.contains("not one named other/web"), "{prefix}");
        refused(&scene, "b", json!({ "name": "tenantsb/web" })).await?;
        refused(&scene, "c", json!({ "name": "tenants" })).await?;
        let root = json!({ "policy": { "access": { "pull": { "principals": ["arn:aws:iam::999999999999:root"] } } } });
        let principal = refused(&scene, "d", root).await?;
        ensure!(principal.contains("999999999999"), "{principal}");
        refused(
            &scene,
            "e",
            json!({ "policy": { "access": { "push": { "organizationIds": ["o-abcdefghij"] } } } }),
        )
        .await?;
        refused(
            &scene,
            "f",
            json!({ "policy": { "access": { "lambda": { "sourceAccounts": ["999999999999"] } } } }),
        )
        .await?;
        let document = json!({ "Statement": { "Effect": "Allow", "Action": "ecr:*",
            "Principal": { "AWS": "arn:aws:sts::999999999999:assumed-role/x/y" } } });
        refused(&scene, "g", json!({ "policy": { "document": document } })).await?;
        let service = json!({ "Statement": { "Effect": "Allow", "Action": "ecr:*", "Principal": { "Service": "ec2.amazonaws.com" } } });
        refused(&scene, "h", json!({ "policy": { "document": service } })).await?;
        ensure!(
            scene.operators_writes().await? == 0,
            "{:?}",
            scene.operators_calls().await?
        );
        let calls = scene.operators_calls().await?;
        ensure!(
            calls
                .keys()
                .all(|name| name == "DescribeRepositories" || name.starts_with("sts:")),
            "{calls:?}"
        );
        Ok(())
    })
}

#[test]
fn without_tenants_nobody_may_and_a_new_tenant_is_let_in_at_once() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("nobody").await?;
        scene.registry(json!({ "tenants": [] })).await?;
        let refusal = refused(&scene, "web", json!({})).await?;
        ensure!(refusal.contains("no tenant that lets namespace nobody"), "{refusal}");
        scene.registry(json!({})).await?;
        scene.reason("repository", "web", "Settled").await?;
        Ok(())
    })
}

#[test]
fn the_labels_of_the_namespace_decide_and_their_change_counts_at_once() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("labels").await?;
        scene.namespace("labels", "no").await?;
        scene.registry(json!({})).await?;
        refused(&scene, "web", json!({})).await?;
        scene.namespace("labels", "yes").await?;
        scene.reason("repository", "web", "Settled").await?;
        // Taken away again: what is there stays, and nothing is written.
        scene.namespace("labels", "no").await?;
        scene.reason("repository", "web", "NotAllowed").await?;
        scene.delete("web").await?;
        scene.gone("web").await?;
        ensure!(
            scene.tags("labels/web").await?["ecr-operator.dev/owner"] == "bed/labels/web",
            "no call to AWS"
        );
        ensure!(scene.event("web", "LeftBehind").await?.contains("stays in ECR"));
        Ok(())
    })
}

#[test]
fn what_a_tenant_may_name_is_named() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("named").await?;
        scene
            .registry(json!({ "tenants": [{
                "namespaceSelector": { "matchLabels": { "ecr": "yes" } },
                "repositoryPrefixes": ["{namespace}/"],
                "may": ["Manage"],
                "principals": ["arn:aws:iam::444455556666:root"],
                "organizationIds": ["o-abcdefghij"],
            }]}))
            .await?;
        let access = json!({
            "pull": { "principals": ["arn:aws:iam::444455556666:role/ci"], "organizationIds": ["o-abcdefghij"] },
            "lambda": { "sourceAccounts": ["444455556666"] },
        });
        scene.settled("web", json!({ "policy": { "access": access } })).await?;
        let own = json!({ "policy": { "access": { "pull": { "principals": [scene.account] } } } });
        let refusal = refused(&scene, "own", own).await?;
        ensure!(
            refusal.contains(&scene.account),
            "listed principals replace the own account: {refusal}"
        );
        Ok(())
    })
}

#[test]
fn a_registry_waits_for_the_objects_that_refer_to_it() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("waits").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        let delete = ["delete", "registry.ecr-operator.dev", "waits", "--wait=false"];
        scene.cluster.kubectl(&delete).await?.checked()?;
        let registry = scene.reason("registry", "waits", "Conflict").await?;
        ensure!(message(&registry).contains("waits/web"), "{}", message(&registry));
        scene.delete("web").await?;
        scene.gone("web").await?;
        eventually(LIMIT, "the Registry to go", async || {
            match scene.get("registry", "waits").await {
                Ok(object) => Err(anyhow::anyhow!("{}", object["status"])),
                Err(_) => Ok(()),
            }
        })
        .await?;
        ensure!(scene.exists("ecr-operator/registry").await?, "the claim stays");
        Ok(())
    })
}

#[test]
fn a_missing_registry_is_named_and_waited_for() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("missing").await?;
        scene.apply(&scene.repository("web", json!({}))).await?;
        let object = scene.reason("repository", "web", "RegistryNotReady").await?;
        ensure!(
            message(&object).contains("Registry missing does not exist"),
            "{}",
            message(&object)
        );
        ensure!(object["metadata"].get("finalizers").is_none());
        scene.registry(json!({})).await?;
        scene.reason("repository", "web", "Settled").await?;
        Ok(())
    })
}

/// One unreadable object stops nobody else. The schema is loosened, as an older definition would be.
#[test]
fn an_object_that_cannot_be_read_stops_nobody_else() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("unreadable").await?;
        let cluster = stage.bare_cluster().await?;
        let patch = json!([
            { "op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/name/pattern" },
        ]);
        let crd = "repositories.ecr-operator.dev";
        cluster
            .kubectl(&["patch", "crd", crd, "--type=json", "-p", &patch.to_string()])
            .await?
            .checked()?;
        let scene = Scene { cluster, ..scene };
        scene.namespace("unreadable", "yes").await?;
        eventually(LIMIT, "the loosened schema", async || {
            scene
                .apply(&object(
                    "Repository",
                    "odd",
                    Some("unreadable"),
                    json!({ "registryRef": { "name": "unreadable" }, "name": "Not/Valid" }),
                ))
                .await
        })
        .await?;
        let _operator = stage.operator("unreadable", cluster, "bed").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        let odd = eventually(LIMIT, "the report on the unreadable object", async || {
            let odd = scene.get("repository", "odd").await?;
            ensure!(message(&odd).contains("cannot be read"), "{}", odd["status"]);
            Ok(odd)
        })
        .await?;
        ensure!(
            message(&odd).contains("is not an ECR repository name"),
            "{}",
            message(&odd)
        );
        Ok(())
    })
}
