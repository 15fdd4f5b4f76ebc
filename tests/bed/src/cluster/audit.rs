//! Counting writes by what the apiserver itself recorded, not by what a writer says of itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use http::Request;
use serde::Deserialize;
use serde_json::json;

use super::Cluster;
use bed_programs as wait;

/// A path that is always recorded: a request to it marks a place in the log.
const MARKER_PATH: &str = "/version";

/// The log is written within the request; this only covers a busy machine.
const MARKER_LIMIT: Duration = Duration::from_secs(20);

/// API groups whose objects are questions, never stored.
const QUESTIONS: [&str; 2] = ["authentication.k8s.io", "authorization.k8s.io"];

/// Requests of one user that were to change something, dry runs and questions (reviews, token requests) left out.
///
/// A request that leaves an object as it was counts too: it costs the apiserver nearly as much.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// Accepted, to anything but Leases and Events.
    pub objects: u64,
    /// Accepted, to Leases.
    pub leases: u64,
    /// Accepted, to Events.
    pub events: u64,
    /// Refused, to anything: conflicts, denials, invalid objects.
    pub refused: u64,
    /// The accepted ones by resource, with its subresource if there is one: `repositories/status`.
    pub by_resource: BTreeMap<String, u64>,
}

/// Writes and the marker are recorded, each once, when they are answered.
pub(super) fn policy() -> String {
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "Metadata", "nonResourceURLs": [MARKER_PATH]},
            {"level": "None", "nonResourceURLs": ["*"]},
            {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
            {"level": "None"},
        ],
    });
    policy.to_string()
}

impl Cluster {
    /// What a user has written to this cluster since it started. Every write that was answered before this call is in it.
    ///
    /// A `ServiceAccount`'s user is `system:serviceaccount:NAMESPACE:NAME`; see [`operator_user`](Self::operator_user).
    pub async fn writes(&self, user: &str) -> Result<Writes> {
        self.mark().await?;
        Ok(count(&self.audit_log()?, user))
    }

    /// Puts a request of our own into the log and waits until it is seen there: what was answered before is there too.
    async fn mark(&self) -> Result<()> {
        let marker = format!("{MARKER_PATH}?marker={:016x}", fastrand::u64(..));
        self.client()
            .await?
            .request_text(Request::get(&marker).body(Vec::new())?)
            .await?;
        wait::eventually(MARKER_LIMIT, "the audit log to be written", async || {
            self.audit_log()?
                .contains(&marker)
                .then_some(())
                .ok_or_else(|| anyhow!("no marker"))
        })
        .await
    }

    /// What was written before is no part of what is counted from now on.
    pub(super) fn count_from_now(&self) -> Result<()> {
        let path = &self.settings.audit_log;
        let length = fs::metadata(path)
            .with_context(|| format!("reading {}", path.display()))?
            .len();
        self.counted_from.store(length, Ordering::Relaxed);
        Ok(())
    }

    /// What was recorded since the present use of the cluster began.
    fn audit_log(&self) -> Result<String> {
        let path = &self.settings.audit_log;
        let mut text = String::new();
        let read = File::open(path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.counted_from.load(Ordering::Relaxed)))?;
            file.read_to_string(&mut text)
        });
        read.with_context(|| format!("reading {}", path.display()))?;
        Ok(text)
    }
}

/// The part of an audit event that is counted by.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    api_group: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

fn count(log: &str, user: &str) -> Writes {
    let mut writes = Writes::default();
    // The last line may be half written, hence no error for one that cannot be read.
    for record in log.lines().filter_map(|line| serde_json::from_str::<Record>(line).ok()) {
        let Some(object) = &record.object_ref else { continue };
        let question = QUESTIONS.contains(&object.api_group.as_str())
            || (object.resource == "serviceaccounts" && object.subresource == "token");
        if record.user.username != user || question || record.request_uri.contains("dryRun=All") {
            continue;
        }
        if record.response_status.is_none_or(|status| status.code >= 400) {
            writes.refused += 1;
            continue;
        }
        match object.resource.as_str() {
            "leases" => writes.leases += 1,
            "events" => writes.events += 1,
            _ => writes.objects += 1,
        }
        let mut resource = object.resource.clone();
        if !object.subresource.is_empty() {
            resource = format!("{resource}/{}", object.subresource);
        }
        *writes.by_resource.entry(resource).or_default() += 1;
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(user: &str, resource: &str, subresource: &str, group: &str, code: u16, uri: &str) -> String {
        let record = json!({
            "requestURI": uri,
            "user": {"username": user},
            "objectRef": {"resource": resource, "subresource": subresource, "apiGroup": group},
            "responseStatus": {"code": code},
        });
        format!("{record}\n")
    }

    #[test]
    fn writes_are_counted_by_user_with_leases_events_and_refusals_apart() {
        let log = [
            line("me", "repositories", "status", "ecr-operator.dev", 200, "/x"),
            line("me", "repositories", "", "ecr-operator.dev", 409, "/x"),
            line("me", "repositories", "", "ecr-operator.dev", 200, "/x?dryRun=All"),
            line("me", "leases", "", "coordination.k8s.io", 200, "/x"),
            line("me", "events", "", "events.k8s.io", 201, "/x"),
            line("me", "subjectaccessreviews", "", "authorization.k8s.io", 201, "/x"),
            line("me", "serviceaccounts", "token", "", 201, "/x"),
            line("you", "repositories", "", "ecr-operator.dev", 200, "/x"),
            "{\"half\": ".to_owned(),
        ]
        .concat();
        let by_resource = [("events", 1), ("leases", 1), ("repositories/status", 1)];
        let by_resource = by_resource.map(|(resource, count)| (resource.to_owned(), count)).into();
        assert_eq!(
            count(&log, "me"),
            Writes {
                objects: 1,
                leases: 1,
                events: 1,
                refused: 1,
                by_resource
            }
        );
    }
}
