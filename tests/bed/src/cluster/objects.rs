//! Objects of any kind, read and patched as an administrator.
//!
//! What is waited for is looked at ten times a second. With kubectl each look is a process that learns the kinds of the cluster
//! anew, and dozens of them at a time leave little of a small machine for what is looked at.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use anyhow::{Context as _, Result};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::discovery::{self, Scope};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::Mutex;

use super::Cluster;

/// The client that reads, and the kinds that it knows by now.
#[derive(Debug, Default)]
pub(super) struct Reader(Mutex<Option<Known>>);

struct Known {
    client: Client,
    /// By `kind.group`, as it was asked for.
    kinds: HashMap<String, (ApiResource, Scope)>,
}

impl Reader {
    /// The kinds are learnt anew when they are next asked for.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

impl std::fmt::Debug for Known {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known")
            .field("kinds", &self.kinds)
            .finish_non_exhaustive()
    }
}

impl Cluster {
    /// An object as it stands. `kind` is as kubectl takes it: `pods`, `deployment`, `lease.coordination.k8s.io`. The namespace of
    /// an object of the whole cluster is not looked at. The error contains `NotFound` if there is none.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Value> {
        let object = self.objects(kind, Some(namespace)).await?.get(name).await;
        let object = object.with_context(|| format!("{kind} {namespace}/{name}"))?;
        Ok(serde_json::to_value(object)?)
    }

    /// All objects of a kind, in one namespace or in all.
    pub async fn list(&self, kind: &str, namespace: Option<&str>) -> Result<Vec<Value>> {
        let objects = self.objects(kind, namespace).await?;
        let list = objects.list(&ListParams::default()).await;
        let list = list.with_context(|| format!("the list of {kind}"))?;
        list.items
            .iter()
            .map(|object| Ok(serde_json::to_value(object)?))
            .collect()
    }

    /// Merges a change into an object that exists.
    pub async fn patch(&self, kind: &str, namespace: &str, name: &str, change: &Value) -> Result<()> {
        let objects = self.objects(kind, Some(namespace)).await?;
        let patched = objects
            .patch(name, &PatchParams::default(), &Patch::Merge(change))
            .await;
        patched.with_context(|| format!("{kind} {namespace}/{name}"))?;
        Ok(())
    }

    async fn objects(&self, kind: &str, namespace: Option<&str>) -> Result<Api<DynamicObject>> {
        let mut reader = self.reader.0.lock().await;
        let known = match &mut *reader {
            Some(known) => known,
            none => none.insert(Known {
                client: self.client().await?,
                kinds: HashMap::new(),
            }),
        };
        let (resource, scope) = match known.kinds.entry(kind.to_owned()) {
            Entry::Occupied(found) => found.get().clone(),
            Entry::Vacant(place) => place.insert(resource(&known.client, kind).await?).clone(),
        };
        let client = known.client.clone();
        Ok(match namespace.filter(|_| scope == Scope::Namespaced) {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        })
    }
}

/// What the apiserver calls a kind, and whether its objects are in namespaces.
async fn resource(client: &Client, kind: &str) -> Result<(ApiResource, Scope)> {
    let (name, group) = kind.split_once('.').unwrap_or_else(|| (kind, usual_group(kind)));
    let found = discovery::group(client, group).await?;
    let mut resources = found.recommended_resources().into_iter();
    let resource = resources.find(|(resource, _)| resource.kind.eq_ignore_ascii_case(name) || resource.plural == name);
    let (resource, capabilities) = resource.with_context(|| format!("the cluster has no kind {kind}"))?;
    Ok((resource, capabilities.scope))
}

/// The group that is meant where none is named.
fn usual_group(kind: &str) -> &'static str {
    match kind.to_ascii_lowercase().as_str() {
        "deployment" | "statefulset" | "daemonset" | "replicaset" => "apps",
        "cronjob" | "job" => "batch",
        _ => "",
    }
}
