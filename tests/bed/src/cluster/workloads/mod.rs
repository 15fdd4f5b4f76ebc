//! Workloads that roll out without containers: nodes on paper, a scheduler that picks one of them, and a kubelet that
//! reports of each pod what a real one would, by rules for images that a test sets and changes as it goes.
//!
//! # Caveats
//! Nothing runs: there are no logs, no exec, no probes, no volumes, no resources, taints are not looked at. Of a pod's
//! affinity only a node's name counts, as the `DaemonSet` controller asks for. Readiness gates are not waited for. A pod that
//! is deleted is gone at once. Times are shorter than a real node's: a crash loop restarts every two seconds, a job ends
//! after one.

mod behaviour;
mod container;
mod kubelet;
mod pod;
mod scheduler;

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;

use self::behaviour::Behaviours;
use super::{Cluster, READY_LIMIT};
use bed_programs as wait;

pub use behaviour::Behaviour;

/// Nodes of a cluster, and what happens to the pods on them. Ends when it is dropped, or with the cluster: the pods then stay as
/// they are.
#[derive(Debug)]
pub struct Workloads {
    behaviours: Arc<Mutex<Behaviours>>,
    serving: JoinHandle<()>,
}

impl Cluster {
    /// Gives the cluster `nodes` nodes, `node-1` and so on, and lets its pods run on them. To be called once, on a cluster
    /// that has a controller manager; returns when pods can be made in the namespace `default`.
    ///
    /// Every image is [`Behaviour::Healthy`] until [`Workloads::behave`] says otherwise. It belongs to the async runtime
    /// that it is made in.
    pub async fn workloads(&self, nodes: usize) -> Result<Workloads> {
        if nodes == 0 {
            bail!("pods need a node to run on");
        }
        let client = self.client().await?;
        let names: Vec<String> = (1..=nodes).map(|number| format!("node-{number}")).collect();
        for name in &names {
            register(&client, name).await?;
        }
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        wait::eventually(
            READY_LIMIT,
            "the default ServiceAccount, without which no pod is let in",
            async || accounts.get("default").await,
        )
        .await?;
        let behaviours = Arc::new(Mutex::new(Behaviours::default()));
        let serving = tokio::spawn(kubelet::serve(client, names, Arc::clone(&behaviours)));
        let task = serving.abort_handle();
        self.ends(move || task.abort());
        Ok(Workloads { behaviours, serving })
    }
}

impl Workloads {
    /// From now on, containers whose image reference contains `image` (a digest, a tag, a repository) behave so, those that
    /// run already included. Of several rules for one image the last one set counts; the same text again replaces its rule.
    ///
    /// A container sees the change at its next step: one that crash-loops at its next restart, one that is healthy at
    /// once. An image that is pulled already is not pulled again.
    pub fn behave(&self, image: &str, behaviour: Behaviour) {
        self.behaviours
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .set(image, behaviour);
    }
}

impl Workloads {
    /// From now on, containers whose image is this very reference, which names a tag, say that they run this digest: what a
    /// node is told by the registry that it pulls from.
    pub fn tagged(&self, image: &str, digest: &str) {
        self.behaviours
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .tag(image, digest);
    }
}

impl Drop for Workloads {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// Makes a node that is ready and takes pods.
async fn register(client: &Client, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let node = serde_json::from_value(json!({
        "metadata": { "name": name, "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" } },
    }))?;
    let context = || format!("making the node {name}");
    nodes
        .create(&PostParams::default(), &node)
        .await
        .with_context(context)?;
    // Admission taints a new node until somebody finds it ready; the controller that would is not run. By patches: the
    // controller manager writes to nodes too.
    let params = PatchParams::default();
    let untaint = Patch::Merge(json!({ "spec": { "taints": null } }));
    nodes.patch(name, &params, &untaint).await.with_context(context)?;
    let now = Timestamp::now();
    let room = json!({ "cpu": "1000", "memory": "1Ti", "pods": "10000" });
    let status = Patch::Merge(json!({ "status": {
        "allocatable": room,
        "capacity": room,
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
        "addresses": [{ "type": "InternalIP", "address": pod::HOST_IP }, { "type": "Hostname", "address": name }],
    }}));
    let patched = nodes.patch_status(name, &params, &status).await;
    patched.with_context(context).map(drop)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
