//! Previews of lifecycle policies: one at a time for a repository, without an id, computed when they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fakecloud_core::service::{AwsResponse, AwsServiceError};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::{invalid, optional, page_size, required, unsatisfied};
use super::lifecycle::{rewritten, valid};
use super::repositories::{decode_token, encode_token};
use super::{Answer, Registry};
use crate::answer::refusal;
use crate::lifecycle_policy::Action;
use crate::world::World;

/// How previews go, for all registries.
pub(crate) struct Previews {
    millis: AtomicU64,
    ending: Mutex<Ending>,
    started: AtomicU64,
}

/// What becomes of previews.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Ending {
    #[default]
    Complete,
    Failed,
    /// Also of those that were complete.
    Expired,
}

impl Default for Previews {
    fn default() -> Self {
        Self {
            millis: AtomicU64::new(300),
            ending: Mutex::default(),
            started: AtomicU64::default(),
        }
    }
}

impl Previews {
    /// How long those take that are started from now on.
    pub(crate) fn take(&self, millis: u64) {
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// How those end that have not ended yet.
    pub(crate) fn end(&self, ending: Ending) {
        *self.ending.lock() = ending;
    }
}

/// The latest preview of a repository.
pub(super) struct Preview {
    /// Tells it from the one before.
    number: u64,
    text: String,
    status: Status,
}

enum Status {
    InProgress,
    /// What `previewResults` shows.
    Complete(Vec<Value>),
    Failed,
    Expired,
}

impl Status {
    const fn name(&self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Complete(_) => "COMPLETE",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
        }
    }
}

impl Registry {
    pub(super) fn start_lifecycle_policy_preview(self: &Arc<Self>, world: &Arc<World>, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let given = optional(body, "lifecyclePolicyText");
        let number = world.previews.started.fetch_add(1, Ordering::Relaxed);
        let text = self.with_repository(name, |repository| {
            let text = given.or(repository.lifecycle_policy.as_deref());
            let text = text.ok_or_else(|| self.no_lifecycle_policy(name))?.to_owned();
            valid(&text)?;
            let mut extra = self.extra.lock();
            let last = extra.previews.get(name).map(|preview| &preview.status);
            if matches!(last, Some(Status::InProgress)) {
                return Err(refusal(
                    400,
                    "LifecyclePolicyPreviewInProgressException",
                    "The previous lifecycle policy preview request has not completed. Wait and try again.",
                ));
            }
            let preview = Preview {
                number,
                text: text.clone(),
                status: Status::InProgress,
            };
            extra.previews.insert(name.to_owned(), preview);
            Ok(text)
        })?;
        let (registry, world, of) = (Arc::clone(self), Arc::clone(world), name.to_owned());
        tokio::spawn(async move {
            let millis = world.previews.millis.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(millis)).await;
            registry.end_preview(&world, &of, number);
        });
        Ok(AwsResponse::ok_json(json!({
            "registryId": self.account,
            "repositoryName": name,
            "lifecyclePolicyText": text,
            "status": "IN_PROGRESS",
        })))
    }

    fn end_preview(&self, world: &World, name: &str, number: u64) {
        let ending = *world.previews.ending.lock();
        // A repository that is gone has taken its preview along.
        let _ = self.with_repository(name, |repository| {
            let mut extra = self.extra.lock();
            let preview = extra.previews.get_mut(name).filter(|preview| preview.number == number);
            if let Some(preview) = preview {
                preview.status = match ending {
                    Ending::Complete => {
                        let policy = valid(&preview.text)?;
                        let doomed = super::lifecycle_run::doomed(repository, &policy, chrono::Utc::now());
                        Status::Complete(doomed.iter().map(super::lifecycle_run::Fate::preview).collect())
                    }
                    Ending::Failed => Status::Failed,
                    Ending::Expired => Status::Expired,
                };
            }
            Ok(())
        });
    }

    pub(super) fn get_lifecycle_policy_preview(&self, world: &World, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let page = Page::of(body)?;
        let expired = *world.previews.ending.lock() == Ending::Expired;
        self.with_repository(name, |_| {
            let mut extra = self.extra.lock();
            let preview = extra.previews.get_mut(name).ok_or_else(|| {
                let message = "There is no dry run for this repository.";
                refusal(400, "LifecyclePolicyPreviewNotFoundException", message)
            })?;
            if expired && matches!(preview.status, Status::Complete(_)) {
                preview.status = Status::Expired;
            }
            let mut answer = json!({
                "registryId": self.account,
                "repositoryName": name,
                "lifecyclePolicyText": rewritten(&preview.text),
                "status": preview.status.name(),
                "previewResults": [],
            });
            if let Status::Complete(results) = &preview.status {
                let (shown, token) = page.take(results);
                answer["previewResults"] = json!(shown);
                answer["summary"] = summary(results);
                if let Some(token) = token {
                    answer["nextToken"] = json!(token);
                }
            }
            Ok(AwsResponse::ok_json(answer))
        })
    }
}

/// Which of the results a request is about.
struct Page<'body> {
    ids: &'body [Value],
    tagged: Option<bool>,
    size: usize,
    skipped: usize,
}

impl<'body> Page<'body> {
    fn of(body: &'body Value) -> Result<Self, AwsServiceError> {
        let ids = body.get("imageIds").and_then(Value::as_array);
        let ids = ids.map(Vec::as_slice).unwrap_or_default();
        let given = |key: &&str| body.get(key).is_some_and(|value| !value.is_null());
        if !ids.is_empty() && ["nextToken", "maxResults"].iter().any(given) {
            return Err(invalid("nextToken and maxResults cannot be used with imageIds"));
        }
        if ids.len() > 100 {
            return Err(unsatisfied("imageIds", "Member must have length between 1 and 100"));
        }
        let status = body.get("filter").and_then(|filter| optional(filter, "tagStatus"));
        let tagged = match status {
            None | Some("ANY") => None,
            Some("TAGGED") => Some(true),
            Some("UNTAGGED") => Some(false),
            Some(_) => {
                let constraint = "Member must satisfy enum value set: [ANY, TAGGED, UNTAGGED]";
                return Err(unsatisfied("tagStatus", constraint));
            }
        };
        let token = optional(body, "nextToken").map(decode_token).transpose()?;
        Ok(Self {
            ids,
            tagged,
            size: page_size(body, 100, 100)?,
            skipped: token.and_then(|token| token.parse().ok()).unwrap_or(0),
        })
    }

    fn shows(&self, result: &Value) -> bool {
        let tags = || result["imageTags"].as_array().into_iter().flatten();
        let named = |id: &Value| {
            optional(id, "imageDigest").is_none_or(|digest| result["imageDigest"] == digest)
                && optional(id, "imageTag").is_none_or(|wanted| tags().any(|tag| tag == wanted))
        };
        (self.ids.is_empty() || self.ids.iter().any(named))
            && self.tagged.is_none_or(|tagged| tagged == tags().next().is_some())
    }

    fn take<'results>(&self, results: &'results [Value]) -> (Vec<&'results Value>, Option<String>) {
        let mut rest = results.iter().filter(|result| self.shows(result)).skip(self.skipped);
        let size = if self.ids.is_empty() {
            self.size
        } else {
            self.ids.len().max(self.size)
        };
        let shown: Vec<_> = rest.by_ref().take(size).collect();
        let token = rest
            .next()
            .map(|_| encode_token(&(self.skipped + shown.len()).to_string()));
        (shown, token)
    }
}

/// The whole of it, whatever the page or the filter.
fn summary(results: &[Value]) -> Value {
    let of = |action: Action| {
        let name = super::lifecycle_run::action_name(action);
        results.iter().filter(|result| result["action"]["type"] == name).count()
    };
    let archived = of(Action::Archive);
    let mut transitions = Vec::new();
    if archived > 0 {
        transitions.push(json!({ "targetStorageClass": "ARCHIVE", "imageTotalCount": archived }));
    }
    json!({ "expiringImageTotalCount": of(Action::Expire), "transitioningImageTotalCounts": transitions })
}
