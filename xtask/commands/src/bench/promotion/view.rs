//! Objects as a watch shows them, for many who wait for different ones of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use http::Request;
use kube::core::WatchEvent;
use kube::{Client, Error};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Longer than most phases; without it the apiserver ends a watch after some minutes.
const WATCH_SECONDS: u32 = 7_200;

/// What is kept of an object.
pub(super) trait Kept: std::fmt::Debug + Default + Clone + Send + Sync + 'static {
    /// Takes in how the object is, as it came at this time.
    fn take(&mut self, object: &Value, at: Instant);
}

/// All objects of a kind in a namespace.
pub(super) struct View<T> {
    seen: watch::Receiver<BTreeMap<String, T>>,
    following: JoinHandle<()>,
}

impl<T: Kept> View<T> {
    /// Follows a collection, such as `/apis/apps/v1/namespaces/a/deployments`. A watch that ends is begun again, which
    /// shows all objects anew.
    pub(super) async fn follow(client: &Client, collection: &str) -> Result<Self> {
        let (client, collection) = (client.clone(), collection.to_owned());
        let mut events = watch(&client, &collection).await?;
        let (sender, seen) = watch::channel(BTreeMap::default());
        let following = tokio::spawn(async move {
            loop {
                while let Ok(Some(event)) = events.try_next().await {
                    let at = Instant::now();
                    sender.send_modify(|all| take(all, &event, at));
                }
                match watch(&client, &collection).await {
                    Ok(again) => events = again,
                    // Who waits is told that the watch has ended.
                    Err(_) => return,
                }
            }
        });
        Ok(Self { seen, following })
    }

    /// Waits until `found` finds in an object what it looks for, for at most `limit`.
    pub(super) async fn until<R>(
        &self,
        limit: Duration,
        name: &str,
        what: &str,
        found: impl Fn(&T) -> Option<R>,
    ) -> Result<R> {
        let mut seen = self.seen.clone();
        let mut result = None;
        let looking = seen.wait_for(|all| {
            result = all.get(name).and_then(&found);
            result.is_some()
        });
        match tokio::time::timeout(limit, looking).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => bail!("the watch ended that was to show {what} of {name}"),
            Err(_) => bail!(
                "waited {limit:?} for {what} of {name}; there is {:#?}",
                self.seen.borrow().get(name)
            ),
        }
        match result {
            Some(result) => Ok(result),
            None => bail!("{what} of {name} was there and is not"),
        }
    }
}

impl<T> Drop for View<T> {
    fn drop(&mut self) {
        self.following.abort();
    }
}

async fn watch(client: &Client, collection: &str) -> Result<BoxStream<'static, Result<WatchEvent<Value>, Error>>> {
    let url = format!("{collection}?watch=true&resourceVersion=0&timeoutSeconds={WATCH_SECONDS}");
    let events = client
        .request_events::<Value>(Request::get(url).body(Vec::new())?)
        .await?;
    Ok(events.boxed())
}

fn take<T: Kept>(all: &mut BTreeMap<String, T>, event: &WatchEvent<Value>, at: Instant) {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            all.entry(name(object)).or_default().take(object, at);
        }
        WatchEvent::Deleted(object) => {
            all.remove(&name(object));
        }
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => {}
    }
}

/// When each image of a Deployment's first container was seen first, and whether all its pods are available.
#[derive(Debug, Clone, Default)]
pub(super) struct Images {
    seen: BTreeMap<String, Instant>,
    available: bool,
}

impl Images {
    pub(super) fn first_seen(&self, image: &str) -> Option<Instant> {
        self.seen.get(image).copied()
    }

    pub(super) fn are_available(&self) -> bool {
        self.available
    }
}

impl Kept for Images {
    fn take(&mut self, object: &Value, at: Instant) {
        let image = object.pointer("/spec/template/spec/containers/0/image");
        if let Some(image) = image.and_then(Value::as_str)
            && !self.seen.contains_key(image)
        {
            self.seen.insert(image.to_owned(), at);
        }
        let (spec, status) = (&object["spec"], &object["status"]);
        let has = |count: &str| status[count].as_u64().unwrap_or_default() == spec["replicas"].as_u64().unwrap_or(1);
        let observed = status["observedGeneration"].is_u64();
        self.available =
            observed && status["observedGeneration"] == object["metadata"]["generation"] && has("availableReplicas");
    }
}

/// The status of a promotion.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    status: Value,
}

impl Standing {
    /// Whether this image is current and nothing is under way.
    pub(super) fn rests_on(&self, digest: &str) -> bool {
        let status = &self.status;
        status["current"]["digest"] == digest && status["rollout"].is_null() && status["phase"].is_string()
    }

    /// Whether this image was rejected.
    pub(super) fn has_rejected(&self, digest: &str) -> bool {
        let rejected = self.status["rejected"].as_array();
        rejected.is_some_and(|all| all.iter().any(|one| one["digest"] == digest))
    }
}

impl Kept for Standing {
    fn take(&mut self, object: &Value, _: Instant) {
        self.status = object["status"].clone();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_image_keeps_the_time_at_which_it_was_seen_first() {
        let mut images = Images::default();
        let deployment =
            |image: &str| json!({ "spec": { "template": { "spec": { "containers": [{ "image": image }] } } } });
        let start = Instant::now();
        for (second, image) in (0..).zip(["a", "b", "a"]) {
            images.take(&deployment(image), start + Duration::from_secs(second));
        }
        assert_eq!(images.first_seen("a"), Some(start));
        assert_eq!(images.first_seen("b"), Some(start + Duration::from_secs(1)));
        assert_eq!(images.first_seen("c"), None);
    }

    #[test]
    fn a_deployment_is_available_once_the_controller_says_so_of_its_generation() {
        let mut images = Images::default();
        for (observed, available, expected) in [(json!(null), 0, false), (json!(1), 2, false), (json!(2), 2, true)] {
            images.take(
                &json!({
                    "metadata": { "generation": 2 }, "spec": { "replicas": 2 },
                    "status": { "observedGeneration": observed, "availableReplicas": available },
                }),
                Instant::now(),
            );
            assert_eq!(images.are_available(), expected);
        }
    }

    #[test]
    fn a_promotion_with_a_rollout_under_way_does_not_rest() {
        let mut standing = Standing::default();
        let mut status =
            json!({ "current": { "digest": "d" }, "phase": "x", "rollout": {}, "rejected": [{ "digest": "e" }] });
        standing.take(&json!({ "status": status }), Instant::now());
        assert!(!standing.rests_on("d") && standing.has_rejected("e") && !standing.has_rejected("d"));
        status["rollout"] = Value::Null;
        standing.take(&json!({ "status": status }), Instant::now());
        assert!(standing.rests_on("d") && !standing.rests_on("e"));
    }
}
