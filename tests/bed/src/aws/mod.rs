//! The AWS stand-in as a process, and clients of it.

mod calls;
mod clients;
mod faults;
mod images;
mod lifecycle;
mod principals;
mod queues;
mod tokens;
mod way;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bed::Bed;
use bed_programs::Process;

pub use calls::{Call, Calls, Deletion};
pub use faults::{Effect, Fault, FaultState, Moment};
pub use images::Image;
pub use lifecycle::{Departure, DepartureCause, ImageAge, ImageId, LifecycleAct, LifecycleAction};
pub use principals::{Policy, Principal};
pub use queues::Queue;
pub use tokens::DockerAuth;
pub use way::BlobWay;

/// How long the stand-in may take to start: it has nothing to load.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// Several accounts and Regions of ECR (with registries to push to and pull from), STS, IAM and SQS in one process, with
/// nothing in them at the start.
#[derive(Debug)]
pub struct Aws {
    process: Process,
    http: reqwest::Client,
    addresses: Addresses,
    /// An administrator for each account that was asked for one.
    admins: Mutex<BTreeMap<String, Principal>>,
}

/// The line by which the stand-in says that it is ready.
#[derive(Debug, Clone, Deserialize)]
struct Addresses {
    endpoint: String,
    control: String,
}

impl Aws {
    /// Builds the stand-in if need be and starts it.
    pub async fn start(bed: &Bed) -> Result<Self> {
        let program = bed_programs::aws_stand_in().await?;
        let process = bed.spawn("aws-stand-in", &Command::new(program))?;
        let addresses = process
            .until_ready(READY_LIMIT, async || {
                let addresses = process
                    .log()
                    .lines()
                    .find_map(|line| serde_json::from_str::<Addresses>(line).ok());
                addresses.ok_or_else(|| anyhow!("no line with the addresses yet"))
            })
            .await?;
        Ok(Self {
            process,
            http: crate::http_client()?,
            addresses,
            admins: Mutex::default(),
        })
    }

    /// The URL of all services' APIs, for `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.addresses.endpoint
    }

    /// The stand-in itself: to freeze it, or to read its log.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Makes every call take this much longer. Nothing is added at the start.
    pub async fn set_delay(&self, delay: Duration) -> Result<()> {
        self.tell(Method::PUT, "delay", &json!({"millis": millis(delay)})).await
    }

    /// From now on, policies may not name this account: AWS refuses principals that do not exist.
    pub async fn make_account_unknown(&self, account: &str) -> Result<()> {
        self.tell(Method::POST, "principal-unknown", &json!({"account": account}))
            .await
    }

    /// Puts the events of a registry on a queue from now on.
    pub async fn set_event_queue(&self, account: &str, region: &str, queue_url: &str) -> Result<()> {
        let body = json!({"account": account, "region": region, "queueUrl": queue_url});
        self.tell(Method::PUT, "event-queue", &body).await
    }

    /// What `ValidatePullThroughCacheRule` says against the rule of a prefix from now on; `None`: nothing.
    pub async fn set_upstream_failure(
        &self,
        account: &str,
        region: &str,
        prefix: &str,
        failure: Option<&str>,
    ) -> Result<()> {
        let body = json!({"account": account, "region": region, "prefix": prefix, "failure": failure});
        self.tell(Method::PUT, "upstream", &body).await
    }

    /// Finishes an image's scan; `scan` is in the control endpoint's own terms.
    pub async fn finish_scan(&self, scan: &Value) -> Result<()> {
        self.tell(Method::POST, "scan", scan).await
    }

    /// A request to the control endpoint whose answer says no more than that it was done.
    async fn tell(&self, method: Method, path: &str, body: &Value) -> Result<()> {
        self.request(method, path, &[], Some(body)).await.map(drop)
    }

    /// A request to the control endpoint for its answer.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<T> {
        let text = self.request(method, path, query, body).await?;
        serde_json::from_str(&text).with_context(|| format!("/{path} of the AWS stand-in answered {text}"))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<String> {
        let mut url = reqwest::Url::parse(&format!("{}/{path}", self.addresses.control))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.http.request(method.clone(), url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .send()
            .await
            .with_context(|| format!("{method} /{path} of the AWS stand-in"))?;
        let (status, text) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            bail!("{method} /{path} of the AWS stand-in: {status}: {text}");
        }
        Ok(text)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
