//! The manifests of Deployments and of their promotions, and putting them there and away.

use anyhow::{Context as _, Result};
use kube::Client;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::super::deployments;
use super::super::objects::{for_each, resource};
use super::super::stage::NAMESPACE;

/// A Deployment and the promotion of the same name that keeps it at the newest version of a repository.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) name: String,
    /// Which of the repositories.
    pub(super) repository: u32,
    pub(super) replicas: u32,
    pub(super) interval: &'static str,
}

impl Pair {
    pub(super) fn deployment(&self, image: &str) -> Value {
        deployments::manifest(&self.name, self.replicas, image)
    }

    pub(super) fn promotion(&self) -> Value {
        json!({
            "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "ImagePromotion",
            "metadata": { "name": self.name, "namespace": NAMESPACE },
            "spec": {
                "source": {
                    "repositoryRef": { "name": super::super::objects::name(self.repository) },
                    "policy": { "semver": { "range": ">=1.0.0" } },
                },
                "targets": [{ "kind": "Deployment", "name": self.name, "containers": [deployments::CONTAINER] }],
                "rollout": { "timeout": "60s", "stabilization": "0s" },
                "interval": self.interval,
            },
        })
    }
}

fn promotions(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(
        client.clone(),
        NAMESPACE,
        &resource("ImagePromotion", "imagepromotions"),
    )
}

/// Creates their promotions.
pub(super) async fn apply_promotions(client: &Client, pairs: &[Pair]) -> Result<()> {
    let api = &promotions(client);
    for_each(pairs, async |pair| {
        let object = serde_json::from_value(pair.promotion())?;
        let created = api.create(&PostParams::default(), &object).await;
        created.map(drop).with_context(|| format!("applying {}", pair.name))
    })
    .await
}

/// Deletes them all.
pub(super) async fn delete(client: &Client, pairs: &[Pair]) -> Result<()> {
    let (running, promotions) = (&deployments::api(client), &promotions(client));
    for_each(pairs, async |pair| {
        let context = || format!("deleting {}", pair.name);
        let params = DeleteParams::background();
        promotions.delete(&pair.name, &params).await.with_context(context)?;
        let deleted = running.delete(&pair.name, &params).await;
        deleted.map(drop).with_context(context)
    })
    .await
}

/// The images of the pods of a Deployment, and whether each is ready.
pub(super) async fn pods(client: &Client, name: &str) -> Result<Vec<(String, bool)>> {
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let list = pods.list(&ListParams::default().labels(&format!("app={name}"))).await?;
    let seen = list.items.into_iter().map(|pod| {
        let image = pod.spec.and_then(|spec| spec.containers.into_iter().next()?.image);
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        let ready = conditions
            .iter()
            .any(|one| one.type_ == "Ready" && one.status == "True");
        (image.unwrap_or_default(), ready)
    });
    Ok(seen.collect())
}
