//! What a registry keeps by prefix: pull-through cache rules and creation templates. ECR has no tags on them, so that
//! whose they are is known from the objects alone.

mod cache_rules;
mod crash;
mod events;
mod templates;

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Policy, eventually};
use serde_json::{Value, json};

use crate::support::{LIMIT, OWNER, REGION, Scene, Stage, message};

/// A scene whose operator has the rights of the guide for these kinds.
async fn scene(stage: &'static Stage, name: &str) -> Result<Scene> {
    let scene = stage.scene(name).await?;
    grant(&scene).await?;
    scene.registry(json!({})).await?;
    Ok(scene)
}

/// Gives the operator the rights of the guide for these kinds, too.
async fn grant(scene: &Scene) -> Result<()> {
    scene.rights(&[bed::MANAGES, &["caching"]].concat()).await
}

/// The rights to manage a registry but for one.
pub(super) async fn without(scene: &Scene, action: &str) -> Result<()> {
    let mut rights = bed::rights(&scene.account, REGION, OWNER, bed::MANAGES)?;
    for statement in rights["Statement"].as_array_mut().into_iter().flatten() {
        if let Some(actions) = statement["Action"].as_array_mut() {
            actions.retain(|one| one != action);
        }
    }
    scene.role(Policy::Document(rights)).await
}

/// A secret with credentials for an upstream.
fn secret(scene: &Scene, name: &str) -> String {
    format!(
        "arn:aws:secretsmanager:{REGION}:{}:secret:ecr-pullthroughcache/{name}",
        scene.account
    )
}

/// A role for ECR.
fn role(scene: &Scene, name: &str) -> String {
    format!("arn:aws:iam::{}:role/ecr-{name}", scene.account)
}

/// Asks for a look now and waits until it was handled.
async fn look_now(scene: &Scene, kind: &str, name: &str, token: &str) -> Result<Value> {
    let resource = format!("{kind}.ecr-operator.dev");
    let annotation = format!("ecr-operator.dev/reconcile={token}");
    let annotate = ["annotate", &resource, name, "--overwrite", &annotation];
    scene.cluster.kubectl(&annotate).await?.checked()?;
    eventually(LIMIT, "the look to be handled", async || {
        let object = scene.get(kind, name).await?;
        ensure!(
            object["status"]["lastHandledReconcile"] == token,
            "{}",
            object["status"]
        );
        Ok(object)
    })
    .await
}

async fn delete(scene: &Scene, kind: &str, name: &str) -> Result<()> {
    let resource = format!("{kind}.ecr-operator.dev");
    let delete = ["delete", &resource, name, "--wait=false"];
    scene.cluster.kubectl(&delete).await?.checked().map(drop)
}

async fn gone(scene: &Scene, kind: &str, name: &str) -> Result<()> {
    eventually(LIMIT, &format!("{kind} {name} to go"), async || {
        match scene.get(kind, name).await {
            Ok(object) => Err(anyhow!("{}", object["status"])),
            Err(error) if format!("{error:#}").contains("NotFound") => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await
}

/// Waits for an Event on a cluster-scoped object, and returns its note.
async fn event(scene: &Scene, name: &str, reason: &str) -> Result<String> {
    eventually(LIMIT, &format!("an Event {reason}"), async || {
        scene.cluster_events(name, reason).await?.pop().context("none")
    })
    .await
}

/// Checks that the apiserver takes the manifests of an example.
async fn takes_example(scene: &Scene, folder: &str) -> Result<()> {
    let folder = bed::root().join("examples").join(folder);
    let folder = folder.to_str().context("not UTF-8")?;
    let apply = ["apply", "--dry-run=server", "-f", folder];
    scene.cluster.kubectl(&apply).await?.checked().map(drop)
}

/// Checks that a message holds each of these texts.
fn says(object: &Value, texts: &[&str]) -> Result<()> {
    for text in texts {
        ensure!(message(object).contains(text), "no {text:?} in {:?}", message(object));
    }
    Ok(())
}
