//! etcd's keys, read and written past the apiservers, by its JSON gateway.
//!
//! An apiserver takes what is changed here as it takes what another apiserver of the same cluster has written.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// How many keys are read at once.
const PAGE: usize = 500;

/// How much goes into one write. etcd takes 128 operations and 1.5 MiB.
const OPERATIONS: usize = 100;
const BYTES: usize = 1024 * 1024;

/// A client of one etcd.
#[derive(Debug, Clone)]
pub(super) struct Etcd {
    http: reqwest::Client,
    endpoint: String,
}

/// One key at one time, in base64 as etcd's gateway has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct KeyValue {
    pub(super) key: String,
    /// Empty where keys alone were asked for.
    #[serde(default)]
    pub(super) value: String,
    /// When it was last written.
    pub(super) mod_revision: String,
}

#[derive(Deserialize)]
struct Header {
    revision: String,
}

#[derive(Deserialize)]
struct Range {
    header: Header,
    #[serde(default)]
    kvs: Vec<KeyValue>,
    #[serde(default)]
    more: bool,
}

#[derive(Deserialize)]
struct Written {
    header: Header,
}

/// A change to a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Put { key: String, value: String },
    Delete { key: String },
}

impl Change {
    fn operation(&self) -> Value {
        match self {
            Self::Put { key, value } => json!({ "requestPut": { "key": key, "value": value } }),
            Self::Delete { key } => json!({ "requestDeleteRange": { "key": key } }),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Put { key, value } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

impl Etcd {
    pub(super) fn new(endpoint: &str) -> Result<Self> {
        Ok(Self {
            http: crate::http_client()?,
            endpoint: endpoint.to_owned(),
        })
    }

    /// All keys that begin with `prefix`, each with the revision that wrote it, as they are now.
    pub(super) async fn keys(&self, prefix: &str) -> Result<BTreeMap<String, String>> {
        let (_, found) = self.range(prefix, true).await?;
        Ok(found.into_iter().map(|one| (one.key, one.mod_revision)).collect())
    }

    /// All keys that begin with `prefix`, with their values, and the revision at which they were read.
    pub(super) async fn values(&self, prefix: &str) -> Result<(String, Vec<KeyValue>)> {
        self.range(prefix, false).await
    }

    async fn range(&self, prefix: &str, keys_only: bool) -> Result<(String, Vec<KeyValue>)> {
        let end = encode(&after(prefix.as_bytes()));
        let mut start = encode(prefix.as_bytes());
        let mut revision: Option<String> = None;
        let mut found = Vec::new();
        loop {
            let mut request = json!({ "key": start, "range_end": end, "limit": PAGE, "keys_only": keys_only });
            if let Some(revision) = &revision {
                request["revision"] = json!(revision);
            }
            let page: Range = self.post("range", &request).await?;
            let revision = revision.get_or_insert(page.header.revision).clone();
            found.extend(page.kvs);
            let Some(last) = found.last().filter(|_| page.more) else {
                return Ok((revision, found));
            };
            let mut next = decode(&last.key)?;
            next.push(0);
            start = encode(&next);
        }
    }

    /// The value that a key had at a revision.
    pub(super) async fn value_at(&self, key: &str, revision: &str) -> Result<String> {
        let request = json!({ "key": key, "revision": revision });
        let mut found: Range = self.post("range", &request).await?;
        let found = found.kvs.pop().context("etcd does not have the key at that revision")?;
        Ok(found.value)
    }

    /// Makes the changes, in as few writes as etcd takes. Gives for each the revision that made it.
    pub(super) async fn write(&self, changes: &[Change]) -> Result<Vec<String>> {
        let mut revisions = Vec::new();
        while revisions.len() < changes.len() {
            let mut bytes = 0;
            let batch: Vec<Value> = changes[revisions.len()..]
                .iter()
                .take(OPERATIONS)
                .take_while(|change| {
                    let fits = bytes == 0 || bytes + change.bytes() <= BYTES;
                    bytes += change.bytes();
                    fits
                })
                .map(Change::operation)
                .collect();
            let written: Written = self.post("txn", &json!({ "success": batch })).await?;
            revisions.extend(std::iter::repeat_n(written.header.revision, batch.len()));
        }
        Ok(revisions)
    }

    async fn post<T: for<'de> Deserialize<'de>>(&self, call: &str, request: &Value) -> Result<T> {
        let url = format!("{}/v3/kv/{call}", self.endpoint);
        let answer = self.http.post(url).json(request).send().await?;
        let status = answer.status();
        let text = answer.bytes().await?;
        ensure!(
            status.is_success(),
            "etcd's {call}: {status}: {}",
            String::from_utf8_lossy(&text)
        );
        Ok(serde_json::from_slice(&text)?)
    }
}

/// The first key after all that begin with `prefix`.
fn after(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

pub(super) fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Result<Vec<u8>> {
    use base64::Engine as _;
    Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
}
