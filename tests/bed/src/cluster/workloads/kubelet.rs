//! The loop that binds pods to nodes, moves them on and lets them go.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, Error, Resource as _, ResourceExt as _};
use tokio::time::{MissedTickBehavior, interval};

use super::behaviour::Behaviours;
use super::{pod, scheduler};

/// How long a step takes.
const STEP: Duration = Duration::from_millis(200);

/// Pods that are written at the same time.
const CONCURRENCY: usize = 8;

/// Looks after all pods of a cluster, for ever. What fails, as while the apiserver is away, is tried again at the next step.
pub(super) async fn serve(client: Client, nodes: Vec<String>, behaviours: Arc<Mutex<Behaviours>>) {
    let (store, writer) = reflector::store();
    let all: Api<Pod> = Api::all(client.clone());
    let watching = reflector(writer, watcher(all, watcher::Config::default()))
        .default_backoff()
        .for_each(async |_| ());
    let stepping = async {
        let mut ticks = interval(STEP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let pods = futures::stream::iter(store.state());
            let step = async |pod: Arc<Pod>| {
                // A conflict among them: the store was behind, the next step sees more.
                step(&client, &pod, &nodes, &behaviours).await.ok();
            };
            pods.for_each_concurrent(CONCURRENCY, step).await;
        }
    };
    tokio::join!(watching, stepping);
}

async fn step(client: &Client, pod: &Pod, nodes: &[String], behaviours: &Mutex<Behaviours>) -> Result<(), Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), pod.namespace().as_deref().unwrap_or_default());
    let name = pod.name_any();
    if pod.meta().deletion_timestamp.is_some() {
        // Once the grace is over only finalizers hold it.
        if pod.meta().deletion_grace_period_seconds == Some(0) && !pod.finalizers().is_empty() {
            return Ok(());
        }
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            // A pod of the same name may have come, as those of StatefulSets do.
            preconditions: Some(Preconditions {
                uid: pod.uid(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        return pods.delete(&name, &now).await.map(drop);
    }
    if pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()) {
        return match scheduler::node_for(pod, nodes) {
            Some(node) => bind(&pods, pod, node).await,
            None => Ok(()),
        };
    }
    let status = {
        let behaviours = behaviours.lock().unwrap_or_else(PoisonError::into_inner);
        pod::next_status(pod, &behaviours, now())
    };
    if pod.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let mut pod = pod.clone();
    pod.status = Some(status);
    pods.replace_status(&name, &PostParams::default(), &pod).await.map(drop)
}

async fn bind(pods: &Api<Pod>, pod: &Pod, node: &str) -> Result<(), Error> {
    let binding = Binding {
        metadata: kube::api::ObjectMeta {
            name: Some(pod.name_any()),
            namespace: pod.namespace(),
            uid: pod.uid(),
            ..kube::api::ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    pods.create_subresource::<_, serde_json::Value>("binding", &pod.name_any(), &PostParams::default(), &binding)
        .await
        .map(drop)
}

/// Kubernetes keeps whole seconds; with more, every status would differ from what is stored.
fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}
