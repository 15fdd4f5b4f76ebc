//! Events: the envelopes of EventBridge, put on the SQS queue that a rule of the account would send them to.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use fakecloud_core::service::{AwsRequest, AwsService as _};
use http::{HeaderMap, Method};
use parking_lot::RwLock;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::ecr::Registry;
use crate::world::World;

/// The queue of each account and Region that wants events.
#[derive(Default)]
pub(crate) struct EventQueues(RwLock<HashMap<(String, String), String>>);

impl EventQueues {
    /// Sends the events of a registry to a queue, or to none any more.
    pub(crate) fn set(&self, account: &str, region: &str, queue_url: Option<String>) {
        let key = (account.to_owned(), region.to_owned());
        let mut queues = self.0.write();
        match queue_url {
            Some(url) => queues.insert(key, url),
            None => queues.remove(&key),
        };
    }

    fn get(&self, account: &str, region: &str) -> Option<String> {
        self.0.read().get(&(account.to_owned(), region.to_owned())).cloned()
    }
}

/// An event of the registry, as the sender knows it.
pub(crate) struct Event {
    pub(crate) detail_type: &'static str,
    pub(crate) resources: Vec<String>,
    pub(crate) detail: Value,
}

/// Puts the event on the queue of the registry's account and Region, if there is one.
pub(crate) fn send(world: &Arc<World>, registry: &Registry, event: Event) {
    let Event {
        detail_type,
        resources,
        detail,
    } = event;
    let (account, region) = (&registry.account, &registry.region);
    let Some(queue_url) = world.event_queues.get(account, region) else {
        return;
    };
    let envelope = json!({
        "version": "0",
        "id": Uuid::new_v4().to_string(),
        "detail-type": detail_type,
        "source": "aws.ecr",
        "account": account,
        "time": now(),
        "region": region,
        "resources": resources,
        "detail": detail,
    });
    // The queue's own account and Region are in its ARN only, and a rule may send elsewhere: its URL names the account.
    let owner = queue_url.rsplit('/').nth(1).unwrap_or(account).to_owned();
    let message = json!({ "QueueUrl": queue_url, "MessageBody": envelope.to_string() });
    let request = request(&owner, region, &message);
    let world = Arc::clone(world);
    tokio::spawn(async move {
        if let Err(error) = world.sqs.handle(request).await {
            tracing::warn!(%error, "an event did not reach its queue");
        }
    });
}

/// The time of an event.
pub(crate) fn now() -> String {
    chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn request(account: &str, region: &str, message: &Value) -> AwsRequest {
    AwsRequest {
        service: "sqs".to_owned(),
        action: "SendMessage".to_owned(),
        region: region.to_owned(),
        account_id: account.to_owned(),
        request_id: Uuid::new_v4().to_string(),
        headers: HeaderMap::new(),
        query_params: HashMap::new(),
        body: Bytes::from(message.to_string()),
        body_stream: parking_lot::Mutex::new(None),
        path_segments: Vec::new(),
        raw_path: "/".to_owned(),
        raw_query: String::new(),
        method: Method::POST,
        is_query_protocol: false,
        access_key_id: None,
        principal: None,
    }
}

impl Registry {
    /// Tells of an image that was pushed or deleted.
    pub(crate) fn announce_image(
        &self,
        world: &Arc<World>,
        action: &str,
        repository: &str,
        digest: &str,
        tag: Option<&str>,
    ) {
        let mut detail = json!({
            "result": "SUCCESS",
            "repository-name": repository,
            "image-digest": digest,
            "action-type": action,
        });
        if let Some(tag) = tag {
            detail["image-tag"] = json!(tag);
        }
        send(
            world,
            self,
            Event {
                detail_type: "ECR Image Action",
                resources: Vec::new(),
                detail,
            },
        );
    }
}
