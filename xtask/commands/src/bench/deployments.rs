//! The Deployments that images are used by.

use anyhow::{Context as _, Result};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

use super::objects;
use super::stage::NAMESPACE;

/// The name of the only container.
pub(super) const CONTAINER: &str = "app";

pub(super) fn api(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("apps", "v1", "Deployment"), "deployments");
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

/// A Deployment of pods with one container, labelled with its name.
pub(super) fn manifest(name: &str, replicas: u32, image: &str) -> Value {
    let labels = json!({ "app": name });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": CONTAINER, "image": image }] },
            },
        },
    })
}

/// Creates them.
pub(super) async fn apply(client: &Client, manifests: &[Value]) -> Result<()> {
    objects::create(&api(client), manifests).await
}

/// Has a Deployment run another image.
pub(super) async fn set_image(client: &Client, name: &str, image: &str) -> Result<()> {
    let containers = json!([{ "name": CONTAINER, "image": image }]);
    let patch = Patch::Strategic(json!({ "spec": { "template": { "spec": { "containers": containers } } } }));
    let patched = api(client).patch(name, &PatchParams::default(), &patch).await;
    patched
        .map(drop)
        .with_context(|| format!("changing the image of Deployment {name}"))
}
