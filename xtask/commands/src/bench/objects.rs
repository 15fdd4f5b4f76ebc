//! The Repositories that are measured with: applied, watched and deleted as fast as the apiserver takes it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures::stream::{self, BoxStream};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use kube::api::{Api, DeleteParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, WatchEvent};
use kube::{Client, Error};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stage::{ACCOUNT, NAMESPACE, REGION, REGISTRY};

/// How many requests to the apiserver are under way at once.
pub(super) const AT_ONCE: usize = 16;

/// Longer than any phase; without it the apiserver ends a watch after some minutes.
const WATCH_SECONDS: u32 = 7_200;

/// The API of a kind of the operator.
pub(super) fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("ecr-operator.dev", "v1alpha1", kind), plural)
}

pub(super) fn api(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), NAMESPACE, &resource("Repository", "repositories"))
}

/// The name of an object, counted from 0.
pub(super) fn name(number: u32) -> String {
    format!("app-{number:05}")
}

/// Its repository's name in ECR.
pub(super) fn repository(number: u32) -> String {
    format!("{NAMESPACE}/{}", name(number))
}

/// How an image of it is written into workloads.
pub(super) fn reference(number: u32, digest: &str) -> String {
    let name = repository(number);
    format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{name}@{digest}")
}

/// What most objects ask for: tag mutability, scanning, a policy and a tag.
pub(super) fn usual_spec() -> Value {
    usual_spec_in(REGISTRY, ACCOUNT)
}

/// The same in another registry.
pub(super) fn usual_spec_in(registry: &str, account: &str) -> Value {
    json!({
        "registryRef": { "name": registry },
        "deletionPolicy": "DeleteIfEmpty",
        "imageTagMutability": "IMMUTABLE",
        "scanOnPush": true,
        "tags": { "team": "a" },
        "policy": { "access": { "pull": { "principals": [account] } } },
    })
}

/// What an object asks for that is only to be there.
pub(super) fn bare_spec() -> Value {
    json!({ "registryRef": { "name": REGISTRY } })
}

fn manifest(number: u32, spec: &Value) -> Value {
    json!({
        "apiVersion": "ecr-operator.dev/v1alpha1",
        "kind": "Repository",
        "metadata": { "name": name(number), "namespace": NAMESPACE },
        "spec": spec,
    })
}

/// Creates so many objects that ask for this.
pub(super) async fn apply(client: &Client, count: u32, spec: &Value) -> Result<()> {
    let api = &api(client);
    for_each(0..count, async |number| {
        let object = serde_json::from_value(manifest(number, spec))?;
        let applied = api.create(&PostParams::default(), &object).await;
        applied.map(drop).with_context(|| format!("applying {}", name(number)))
    })
    .await
}

/// Creates objects of one kind, in this order as far as several at once have one.
pub(super) async fn create(api: &Api<DynamicObject>, manifests: &[Value]) -> Result<()> {
    for_each(manifests, async |manifest| {
        let object = serde_json::from_value(manifest.clone())?;
        let created = api.create(&PostParams::default(), &object).await;
        created
            .map(drop)
            .with_context(|| format!("applying {}", manifest["metadata"]["name"]))
    })
    .await
}

/// Asks for the deletion of so many objects.
pub(super) async fn delete(client: &Client, count: u32) -> Result<()> {
    let api = &api(client);
    for_each(0..count, async |number| {
        let deleted = api.delete(&name(number), &DeleteParams::default()).await;
        deleted.map(drop).with_context(|| format!("deleting {}", name(number)))
    })
    .await
}

/// Does some work for each of them, several at once.
pub(super) async fn for_each<T>(all: impl IntoIterator<Item = T>, work: impl AsyncFn(T) -> Result<()>) -> Result<()> {
    let work = &work;
    stream::iter(all.into_iter().map(anyhow::Ok))
        .try_for_each_concurrent(AT_ONCE, async |one| work(one).await)
        .await
}

/// What an object says of its lifecycle policy; nothing where it does not exist.
pub(super) async fn cleanup(client: &Client, number: u32) -> Result<Cleanup> {
    let object = api(client).get(&name(number)).await?;
    let said = object.data["status"]["lifecyclePolicy"].clone();
    Ok(serde_json::from_value::<Option<Cleanup>>(said)?.unwrap_or_default())
}

/// The part of an object that is looked at: reading thousands of them whole would take time from what is measured.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Seen {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Deserialize)]
struct Metadata {
    name: String,
    generation: Option<i64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    conditions: Vec<Condition>,
    lifecycle_policy: Cleanup,
}

/// What became of the lifecycle policy of an object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cleanup {
    reason: String,
    message: String,
    /// Stands for what was asked for when this was found.
    pub(super) asked: String,
    /// Stands for what was put, and for what may have been put.
    put: String,
    putting: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    #[serde(default)]
    message: String,
    observed_generation: Option<i64>,
}

impl Seen {
    pub(super) fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }
}

/// Why an object is not Ready for its generation; `None` if it is.
pub(super) fn lack(object: &Seen) -> Option<String> {
    let Some(ready) = object.status.conditions.iter().find(|one| one.kind == "Ready") else {
        return Some("no condition yet".to_owned());
    };
    let current = ready.observed_generation == object.metadata.generation;
    (ready.status != "True" || !current).then(|| format!("{}: {}", ready.reason, ready.message))
}

/// Why what an object says is not that a lifecycle policy is in force that asks for something else than `before`.
pub(super) fn lacks_policy_after(before: &str, object: &Seen) -> Option<String> {
    let said = &object.status.lifecycle_policy;
    let in_force = said.reason == "Settled" && !said.put.is_empty() && said.putting.is_empty();
    if in_force && said.asked != before {
        return lack(object);
    }
    Some(match said.asked == before {
        true => "it has not seen the policy yet".to_owned(),
        false => format!("{}: {}", said.reason, said.message),
    })
}

/// Why an object is not as it is waited for; `None` if it is.
type Lack = Box<dyn Fn(&Seen) -> Option<String> + Send + Sync>;

/// All objects of a collection as a watch shows them.
pub(super) struct Watch {
    client: Client,
    collection: Collection,
    events: Events,
    seen: Sum,
}

type Events = BoxStream<'static, Result<WatchEvent<Seen>, Error>>;

/// What was seen so far. Counted as it comes: going through thousands of objects at each event would take too long.
pub(super) struct Sum {
    lack: Lack,
    lacks: BTreeMap<String, Option<String>>,
    ready: usize,
}

impl Sum {
    fn new(lack: Lack) -> Self {
        Self {
            lack,
            lacks: BTreeMap::new(),
            ready: 0,
        }
    }

    fn take(&mut self, event: WatchEvent<Seen>) -> Result<()> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let lack = (self.lack)(&object);
                self.ready += usize::from(lack.is_none());
                let before = self.lacks.insert(object.metadata.name, lack);
                self.ready -= usize::from(before.is_some_and(|lack| lack.is_none()));
            }
            WatchEvent::Deleted(object) => {
                let before = self.lacks.remove(&object.metadata.name);
                self.ready -= usize::from(before.is_some_and(|lack| lack.is_none()));
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => bail!("the watch failed: {status:?}"),
        }
        Ok(())
    }

    /// How many there are.
    pub(super) fn objects(&self) -> usize {
        self.lacks.len()
    }

    /// How many lack nothing.
    pub(super) fn ready(&self) -> usize {
        self.ready
    }

    fn in_words(&self) -> String {
        let lacking = self
            .lacks
            .iter()
            .find_map(|(name, lack)| Some(format!("; {name}: {}", lack.as_ref()?)));
        format!(
            "{} objects, {} of them as they should be{}",
            self.objects(),
            self.ready,
            lacking.unwrap_or_default()
        )
    }
}

/// What is watched.
#[derive(Debug, Clone)]
pub(super) struct Collection {
    /// Below the version of the operator's API.
    path: String,
    /// The labels that its objects have.
    labels: String,
}

impl Collection {
    /// All objects of a kind that has no namespace.
    pub(super) fn cluster(plural: &str) -> Self {
        Self {
            path: plural.to_owned(),
            labels: String::new(),
        }
    }

    /// The Repositories with these labels, or all where there are none.
    pub(super) fn repositories(labels: &str) -> Self {
        Self {
            path: format!("namespaces/{NAMESPACE}/repositories"),
            labels: labels.to_owned(),
        }
    }

    fn url(&self) -> String {
        let Self { path, labels } = self;
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("&labelSelector={}", labels.replace('=', "%3D")),
        };
        format!(
            "/apis/ecr-operator.dev/v1alpha1/{path}?watch=true&resourceVersion=0&timeoutSeconds={WATCH_SECONDS}{labels}"
        )
    }
}

impl Watch {
    /// Sees what is there, and then what changes. An object lacks nothing once it is Ready for its generation.
    pub(super) async fn start(client: &Client) -> Result<Self> {
        Self::start_with(client, lack).await
    }

    /// The same for objects that lack what `lack` says.
    pub(super) async fn start_with(
        client: &Client,
        lack: impl Fn(&Seen) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::of(client, Collection::repositories(""), lack).await
    }

    /// The same for other objects.
    pub(super) async fn of(
        client: &Client,
        collection: Collection,
        lack: impl Fn(&Seen) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self> {
        Ok(Self {
            client: client.clone(),
            events: Self::open(client, &collection).await?,
            collection,
            seen: Sum::new(Box::new(lack)),
        })
    }

    async fn open(client: &Client, collection: &Collection) -> Result<Events> {
        let events = client
            .request_events::<Seen>(Request::get(collection.url()).body(Vec::new())?)
            .await?;
        Ok(events.boxed())
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> &Sum {
        &self.seen
    }

    /// Waits until what was seen is as `done` says, for at most `limit`.
    pub(super) async fn until(&mut self, limit: Duration, what: &str, done: impl Fn(&Sum) -> bool) -> Result<()> {
        let came = self.within(limit, done).await?;
        ensure!(came, "waited {limit:?} for {what}; there are {}", self.seen.in_words());
        Ok(())
    }

    /// Whether what is seen comes to be as `done` says within `limit`.
    pub(super) async fn within(&mut self, limit: Duration, done: impl Fn(&Sum) -> bool) -> Result<bool> {
        let (client, events, seen) = (&self.client, &mut self.events, &mut self.seen);
        let collection = &self.collection;
        let looking = async {
            while !done(seen) {
                match events.try_next().await? {
                    Some(event) => seen.take(event)?,
                    // The apiserver cuts off who does not keep up with thousands of changes; the next one begins with all.
                    None => *events = Self::open(client, collection).await?,
                }
            }
            Ok(true)
        };
        tokio::time::timeout(limit, looking).await.unwrap_or(Ok(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, generation: i64, observed: i64) -> WatchEvent<Seen> {
        let ready = json!({ "type": "Ready", "status": "True", "reason": "Settled", "observedGeneration": observed });
        let object =
            json!({ "metadata": { "name": "a", "generation": generation }, "status": { "conditions": [ready] } });
        serde_json::from_value(json!({ "type": kind, "object": object })).unwrap()
    }

    #[test]
    fn ready_is_what_is_ready_for_its_generation() {
        let mut sum = Sum::new(Box::new(lack));
        for (kind, generation, observed, expected) in [
            ("ADDED", 1, 0, (1, 0)),
            ("MODIFIED", 1, 1, (1, 1)),
            ("MODIFIED", 1, 1, (1, 1)),
            ("MODIFIED", 2, 1, (1, 0)),
            ("MODIFIED", 2, 2, (1, 1)),
            ("DELETED", 2, 2, (0, 0)),
        ] {
            sum.take(event(kind, generation, observed)).unwrap();
            assert_eq!((sum.objects(), sum.ready()), expected);
        }
    }

    #[test]
    fn a_policy_is_in_force_once_it_was_put_and_all_else_is_settled() {
        let object = |observed: i64, cleanup: Value| -> Seen {
            let ready =
                json!({ "type": "Ready", "status": "True", "reason": "Settled", "observedGeneration": observed });
            serde_json::from_value(json!({
                "metadata": { "name": "a", "generation": 1 },
                "status": { "conditions": [ready], "lifecyclePolicy": cleanup },
            }))
            .unwrap()
        };
        let lacks = |observed, cleanup| lacks_policy_after("old", &object(observed, cleanup)).is_some();
        let settled = json!({ "reason": "Settled", "asked": "new", "put": "mark" });
        assert!(!lacks(1, settled.clone()));
        assert!(lacks(0, settled), "it is not Ready for its generation");
        for (key, value) in [
            ("asked", "old"),
            ("reason", "Previewing"),
            ("put", ""),
            ("putting", "other"),
        ] {
            let mut cleanup = json!({ "reason": "Settled", "asked": "new", "put": "mark" });
            cleanup[key] = json!(value);
            assert!(lacks(1, cleanup), "{key}");
        }
    }

    #[test]
    fn what_is_watched_is_a_collection_and_labels() {
        assert!(
            Collection::cluster("registries")
                .url()
                .starts_with("/apis/ecr-operator.dev/v1alpha1/registries?watch=true")
        );
        let url = Collection::repositories("a=b").url();
        assert!(
            url.contains("/namespaces/bench/repositories?") && url.ends_with("&labelSelector=a%3Db"),
            "{url}"
        );
    }

    #[test]
    fn an_object_nobody_looked_at_yet_lacks_something() {
        let object = serde_json::from_value(json!({ "metadata": { "name": "a", "generation": 1 } })).unwrap();
        assert_eq!(lack(&object).unwrap(), "no condition yet");
    }
}
