//! What scenarios of PullSecrets have in common: the role to pull with, and a look into the Secret.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bed::{Cluster, DockerAuth, Policy, eventually};
use serde_json::{Value, json};

use crate::support::{LIMIT, REGION, Scene, Stage, merge, object};

/// The role whose rights a Secret carries.
pub(super) const ROLE: &str = "ecr-operator-pull";

/// A scene whose Registry lets its namespace pull.
pub(super) async fn scene(stage: &'static Stage, name: &str) -> Result<Scene> {
    scene_on(stage, &stage.cluster, name).await
}

/// The same on another cluster.
pub(super) async fn scene_on(stage: &'static Stage, cluster: &'static Cluster, name: &str) -> Result<Scene> {
    let scene = stage.scene_on(cluster, name).await?;
    open(&scene).await?;
    scene.registry(overlay(&scene)).await?;
    Ok(scene)
}

/// Gives the operator the rights that it needs, and makes the role that it pulls with.
pub(super) async fn open(scene: &Scene) -> Result<()> {
    scene.rights(&[bed::MANAGES, &["pull"]].concat()).await?;
    trusted(scene, true).await
}

/// Whether the role trusts the operator's.
pub(super) async fn trusted(scene: &Scene, yes: bool) -> Result<()> {
    // By the account: so the operator's own right is needed, too.
    let who = match yes {
        true => format!("arn:aws:iam::{}:root", scene.account),
        false => format!("arn:aws:iam::{}:role/somebody", scene.account),
    };
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "AWS": who },
        "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
    }]});
    let rights = Policy::Document(bed::pull_role_rights(&scene.account, REGION)?);
    let role = scene.stage.aws.role(&scene.account, ROLE, rights, trust);
    role.await.map(drop)
}

/// What a Registry needs for PullSecrets.
pub(super) fn overlay(scene: &Scene) -> Value {
    json!({
        "pull": { "roleArn": format!("arn:aws:iam::{}:role/{ROLE}", scene.account) },
        "tenants": [{
            "namespaceSelector": { "matchLabels": { "ecr": "yes" } },
            "repositoryPrefixes": ["{namespace}/"],
            "may": ["Manage", "Pull"],
        }],
    })
}

/// A PullSecret from the scene's Registry.
pub(super) fn pull_secret(scene: &Scene, name: &str, spec: Value) -> Value {
    let mut whole = json!({ "registryRefs": [{ "name": scene.name }] });
    merge(&mut whole, spec);
    object("PullSecret", name, Some(&scene.name), whole)
}

/// Applies it and waits until it is settled.
pub(super) async fn settled(scene: &Scene, name: &str, spec: Value) -> Result<Value> {
    scene.apply(&pull_secret(scene, name, spec)).await?;
    scene.reason("pullsecret", name, "Settled").await
}

/// A namespaced object of Kubernetes' own.
pub(super) async fn core(scene: &Scene, kind: &str, name: &str) -> Result<Option<Value>> {
    match scene.cluster.get(kind, &scene.name, name).await {
        Err(error) if format!("{error:#}").contains("NotFound") => Ok(None),
        found => found.map(Some),
    }
}

pub(super) async fn secret(scene: &Scene, name: &str) -> Result<Value> {
    core(scene, "secret", name).await?.context("no Secret")
}

/// The entries of a Secret.
pub(super) fn entries(secret: &Value) -> Result<Vec<DockerAuth>> {
    ensure!(secret["type"] == "kubernetes.io/dockerconfigjson", "{}", secret["type"]);
    let config = secret["data"][".dockerconfigjson"]
        .as_str()
        .context("no configuration")?;
    DockerAuth::read(&STANDARD.decode(config)?)
}

/// The only entry of a Secret.
pub(super) async fn entry(scene: &Scene, name: &str) -> Result<DockerAuth> {
    let mut entries = entries(&secret(scene, name).await?)?;
    ensure!(entries.len() == 1, "{entries:?}");
    entries.pop().context("none")
}

/// The names in the `imagePullSecrets` of a `ServiceAccount`.
pub(super) async fn pull_secrets_of(scene: &Scene, account: &str) -> Result<Vec<String>> {
    let account = core(scene, "serviceaccount", account)
        .await?
        .context("no ServiceAccount")?;
    let entries = account["imagePullSecrets"].as_array().cloned().unwrap_or_default();
    Ok(entries
        .iter()
        .map(|entry| entry["name"].as_str().unwrap_or_default().to_owned())
        .collect())
}

/// Asks for a look now and waits until it was handled.
pub(super) async fn look_now(scene: &Scene, name: &str) -> Result<Value> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let token = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let annotation = format!("ecr-operator.dev/reconcile={token}");
    let kind = "pullsecret.ecr-operator.dev";
    let annotate = ["annotate", kind, name, "-n", &scene.name, "--overwrite", &annotation];
    scene.cluster.kubectl(&annotate).await?.checked()?;
    eventually(LIMIT, "the look to be handled", async || {
        let object = scene.get("pullsecret", name).await?;
        let handled = object["status"]["lastHandledReconcile"] == token.as_str();
        ensure!(handled, "{}", object["status"]);
        Ok(object)
    })
    .await
}

/// Deletes a PullSecret and waits until it is gone.
pub(super) async fn delete(scene: &Scene, name: &str) -> Result<()> {
    let kind = "pullsecret.ecr-operator.dev";
    let delete = ["delete", kind, name, "-n", &scene.name, "--wait=false"];
    scene.cluster.kubectl(&delete).await?.checked()?;
    gone(scene, name).await
}

pub(super) async fn gone(scene: &Scene, name: &str) -> Result<()> {
    eventually(LIMIT, &format!("PullSecret {name} to go"), async || {
        match scene.get("pullsecret", name).await {
            Ok(object) => Err(anyhow!("{object}")),
            Err(error) if format!("{error:#}").contains("NotFound") => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await
}

/// Waits until there is no Secret of the name.
pub(super) async fn no_secret(scene: &Scene, name: &str) -> Result<()> {
    eventually(LIMIT, &format!("Secret {name} to go"), async || {
        let found = core(scene, "secret", name).await?;
        ensure!(found.is_none(), "it is there");
        Ok(())
    })
    .await
}

/// How many tokens were asked for with the role.
pub(super) async fn assumed(scene: &Scene) -> Result<usize> {
    let calls = scene.stage.aws.calls(&scene.account, REGION).await?.calls;
    let asked = calls.iter().filter(|call| {
        let who = call.principal.as_deref().unwrap_or_default();
        call.operation == "GetAuthorizationToken" && who.contains(ROLE)
    });
    Ok(asked.count())
}

/// Lets tokens last so long.
pub(super) async fn lifetime(scene: &Scene, seconds: u64) -> Result<()> {
    let lifetime = Some(Duration::from_secs(seconds));
    scene.stage.aws.set_token_lifetime(&scene.account, lifetime).await
}
