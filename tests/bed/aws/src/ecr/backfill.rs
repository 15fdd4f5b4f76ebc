//! Replication backfill: what was pushed before a rule, carried over on request.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::errors::{optional, page_size, required, unsatisfied};
use super::listing::tags_of;
use super::replication::Destination;
use super::repositories::{decode_token, encode_token};
use super::{Answer, Registry};
use crate::answer::refusal;
use crate::world::World;

/// How many backfills may run at once.
const MOST: usize = 10;

/// How long one is being prepared: no answer to its start shows it as done.
const PREPARING: Duration = Duration::from_millis(500);

/// One backfill.
pub(super) struct Backfill {
    id: String,
    destination: Destination,
    status: &'static str,
    started: DateTime<Utc>,
    ended: Option<DateTime<Utc>>,
    /// One for each image and tag.
    results: Vec<Value>,
}

impl Backfill {
    fn runs(&self) -> bool {
        matches!(self.status, "PREPARING" | "IN_PROGRESS" | "STOPPING")
    }

    fn shown(&self) -> Value {
        let (account, region) = &self.destination;
        let mut shown = json!({
            "replicationBackfillId": self.id,
            "destination": { "region": region, "registryId": account },
            "status": self.status,
            "startedAt": self.started.timestamp(),
        });
        if self.status != "PREPARING" {
            shown["progress"] = self.progress();
        }
        if let Some(ended) = self.ended {
            shown["endedAt"] = json!(ended.timestamp());
        }
        shown
    }

    fn progress(&self) -> Value {
        let count = |status: &str| self.results.iter().filter(|result| result["status"] == status).count();
        json!({
            "totalReplicationCount": self.results.len(),
            "completedReplicationCount": count("COMPLETE"),
            "failedReplicationCount": count("FAILED"),
        })
    }
}

impl Registry {
    pub(super) fn start_replication_backfill(self: &Arc<Self>, world: &Arc<World>, body: &Value) -> Answer {
        let target = body
            .get("destination")
            .ok_or_else(|| unsatisfied("destination", "Member must not be null"))?;
        let destination = (
            required(target, "registryId")?.to_owned(),
            required(target, "region")?.to_owned(),
        );
        if !self.replicates_to(&destination) {
            return Err(refusal(
                400,
                "ValidationException",
                "The destination is not part of the registry's replication configuration",
            ));
        }
        let mut extra = self.extra.lock();
        let running: Vec<_> = extra.backfills.iter().filter(|backfill| backfill.runs()).collect();
        if running.iter().any(|backfill| backfill.destination.1 == destination.1) {
            return Err(refusal(
                400,
                "ReplicationBackfillInProgressException",
                "A replication backfill to this Region is in progress",
            ));
        }
        if running.len() >= MOST {
            return Err(refusal(
                400,
                "LimitExceededException",
                "Too many replication backfills are in progress",
            ));
        }
        let backfill = Backfill {
            id: Uuid::new_v4().to_string(),
            destination,
            status: "PREPARING",
            started: Utc::now(),
            ended: None,
            results: Vec::new(),
        };
        let id = backfill.id.clone();
        let mut answer = backfill.shown();
        answer["registryId"] = json!(self.account);
        extra.backfills.push(backfill);
        drop(extra);
        let (registry, world) = (Arc::clone(self), Arc::clone(world));
        tokio::spawn(async move {
            tokio::time::sleep(PREPARING).await;
            registry.run_backfill(&world, &id);
        });
        Ok(AwsResponse::ok_json(answer))
    }

    fn run_backfill(&self, world: &Arc<World>, id: &str) {
        let Some(destination) = self.with_backfill(id, |backfill| {
            backfill.status = "IN_PROGRESS";
            backfill.destination.clone()
        }) else {
            return;
        };
        let images = self.all_images().into_iter();
        for (name, digest, tag) in images.filter(|(name, ..)| self.sends(name, &destination)) {
            if self.with_backfill(id, |backfill| backfill.status != "IN_PROGRESS") != Some(false) {
                return;
            }
            let copied = self.copy_to(world, &destination, &name, &digest, tag.as_deref());
            let mut image = json!({ "imageDigest": digest });
            if let Some(tag) = tag {
                image["imageTag"] = json!(tag);
            }
            let status = if copied.is_ok() { "COMPLETE" } else { "FAILED" };
            self.record_replication(&name, &digest, &destination, status);
            let mut result = json!({ "repositoryName": name, "imageId": image, "status": status });
            if copied.is_err() {
                result["failureCode"] = json!("AccessDenied");
            }
            self.with_backfill(id, |backfill| backfill.results.push(result));
        }
        self.with_backfill(id, |backfill| {
            let failed = backfill
                .results
                .iter()
                .filter(|result| result["status"] == "FAILED")
                .count();
            let mostly = failed > 0 && failed * 2 >= backfill.results.len();
            backfill.status = if mostly { "FAILED" } else { "COMPLETE" };
            backfill.ended = Some(Utc::now());
        });
    }

    fn with_backfill<T>(&self, id: &str, act: impl FnOnce(&mut Backfill) -> T) -> Option<T> {
        self.extra
            .lock()
            .backfills
            .iter_mut()
            .find(|backfill| backfill.id == id)
            .map(act)
    }

    /// Every image of the registry, once for each of its tags.
    fn all_images(&self) -> Vec<(String, String, Option<String>)> {
        let states = self.state.read();
        let repositories = states
            .get(&self.account)
            .into_iter()
            .flat_map(|state| &state.repositories);
        let mut images = Vec::new();
        for (name, repository) in repositories {
            for digest in repository.images.keys() {
                let tags = tags_of(repository, digest);
                if tags.is_empty() {
                    images.push((name.clone(), digest.clone(), None));
                }
                images.extend(
                    tags.into_iter()
                        .map(|tag| (name.clone(), digest.clone(), Some(tag.to_owned()))),
                );
            }
        }
        images
    }

    pub(super) fn stop_replication_backfill(&self, body: &Value) -> Answer {
        let id = required(body, "replicationBackfillId")?;
        let stopped = self.with_backfill(id, |backfill| {
            if !matches!(backfill.status, "PREPARING" | "IN_PROGRESS") {
                return Err(refusal(
                    400,
                    "ReplicationBackfillInvalidStatusException",
                    "The replication backfill is not in progress",
                ));
            }
            backfill.status = "STOPPED";
            backfill.ended = Some(Utc::now());
            Ok(())
        });
        stopped.unwrap_or_else(|| Err(no_backfill(id)))?;
        Ok(AwsResponse::ok_json(json!({
            "registryId": self.account,
            "replicationBackfillId": id,
            "status": "STOPPED",
        })))
    }

    pub(super) fn list_replication_backfills(&self, body: &Value) -> Answer {
        let extra = self.extra.lock();
        let shown = extra.backfills.iter().map(Backfill::shown).collect();
        paged(body, shown, 25, 50, json!({}), "backfills")
    }

    pub(super) fn describe_replication_backfill_results(&self, body: &Value) -> Answer {
        let id = required(body, "replicationBackfillId")?;
        let wanted = optional(body, "resultStatusFilter");
        let described = self.with_backfill(id, |backfill| {
            let mut answer = backfill.shown();
            answer["registryId"] = json!(self.account);
            let ended = !backfill.runs();
            let results = backfill
                .results
                .iter()
                .filter(|result| ended && wanted.is_none_or(|w| result["status"] == w));
            paged(body, results.cloned().collect(), 100, 1000, answer, "results")
        });
        described.unwrap_or_else(|| Err(no_backfill(id)))
    }
}

/// One page of `items` as a member of `answer`.
fn paged(body: &Value, items: Vec<Value>, default: usize, most: usize, mut answer: Value, member: &str) -> Answer {
    let size = page_size(body, default, most)?;
    let token = optional(body, "nextToken").map(decode_token).transpose()?;
    let skipped: usize = token.and_then(|token| token.parse().ok()).unwrap_or(0);
    if items.len() > skipped + size {
        answer["nextToken"] = json!(encode_token(&(skipped + size).to_string()));
    }
    answer[member] = items.into_iter().skip(skipped).take(size).collect();
    Ok(AwsResponse::ok_json(answer))
}

fn no_backfill(id: &str) -> AwsServiceError {
    refusal(
        400,
        "ReplicationBackfillNotFoundException",
        format!("There is no replication backfill with id '{id}'"),
    )
}
