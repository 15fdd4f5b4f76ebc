//! Lifecycle policies on demand: carried out, previewed as slowly as wanted; and the images that left, with the reason.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Aws, millis};

/// How many days ago things happened to an image; what is `None` stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ImageAge {
    /// It was pushed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed: Option<i64>,
    /// It was pulled last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pulled: Option<i64>,
    /// It was archived last. Whether it is in the archive is another matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archived: Option<i64>,
    /// It was restored last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated: Option<i64>,
}

impl ImageAge {
    /// Pushed so many days ago.
    #[must_use]
    pub fn pushed(days: i64) -> Self {
        Self {
            pushed: Some(days),
            ..Self::default()
        }
    }
}

/// What a lifecycle policy did to an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LifecycleAct {
    /// Where.
    pub repository: String,
    /// Which image.
    pub digest: String,
    /// The tags it had.
    pub tags: Vec<String>,
    /// What became of it.
    pub action: LifecycleAction,
    /// The priority of the rule.
    pub rule: u32,
}

/// What becomes of an image by a rule, spelled as previews spell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LifecycleAction {
    /// It is deleted.
    Expire,
    /// It is archived.
    Transition,
}

/// An image that is gone from a registry. One that only lost a tag, or is in the archive, is not.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Departure {
    /// Whose registry.
    pub account: String,
    /// In which Region.
    pub region: String,
    /// Where it was.
    pub repository: String,
    /// Which image.
    pub digest: String,
    /// The tags it had.
    pub tags: Vec<String>,
    /// What took it away.
    #[serde(flatten)]
    pub cause: DepartureCause,
}

/// What took an image away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "cause", rename_all_fields = "camelCase")]
pub enum DepartureCause {
    /// A lifecycle policy, carried out by [`Aws::run_lifecycle`].
    Lifecycle {
        /// The priority of the rule; for a referrer, that of the rule that took its subject.
        rule: u32,
    },
    /// `BatchDeleteImage`.
    BatchDelete {
        /// The caller's ARN.
        principal: String,
        /// All that the call named.
        image_ids: Vec<ImageId>,
    },
    /// `DeleteRepository` with `force`.
    RepositoryDeleted {
        /// The caller's ARN.
        principal: String,
    },
    /// A deletion in another registry, replicated.
    Replication,
}

/// An image as a call names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageId {
    /// By its digest.
    pub image_digest: Option<String>,
    /// By a tag.
    pub image_tag: Option<String>,
}

impl Aws {
    /// Carries out the lifecycle policies in force, in one repository or in all, as they would be so many days from now;
    /// gives what was done, the oldest image of each repository first. They are never carried out otherwise.
    pub async fn run_lifecycle(
        &self,
        account: &str,
        region: &str,
        repository: Option<&str>,
        days_from_now: i64,
    ) -> Result<Vec<LifecycleAct>> {
        let body =
            json!({"account": account, "region": region, "repository": repository, "daysFromNow": days_from_now});
        self.ask(Method::POST, "lifecycle", &[], Some(&body)).await
    }

    /// Every image that left a registry since the start, in order.
    pub async fn departures(&self, account: &str, region: &str) -> Result<Vec<Departure>> {
        let registry = [("account", account), ("region", region)];
        self.ask(Method::GET, "departures", &registry, None).await
    }

    /// Makes an image older, or younger, than it is.
    pub async fn age_image(
        &self,
        account: &str,
        region: &str,
        repository: &str,
        digest: &str,
        days_ago: ImageAge,
    ) -> Result<()> {
        let image = json!({
            "account": account, "region": region, "repository": repository, "digest": digest, "daysAgo": days_ago,
        });
        self.tell(Method::POST, "age", &image).await
    }

    /// Makes each preview of a lifecycle policy that starts from now on take this long. At first it is 300 ms.
    pub async fn preview_takes(&self, time: Duration) -> Result<()> {
        self.set_previews(&json!({"millis": millis(time)})).await
    }

    /// Makes previews end as `FAILED` from now on, also those under way.
    pub async fn fail_previews(&self) -> Result<()> {
        self.set_previews(&json!({"ending": "FAILED"})).await
    }

    /// Makes previews end as `EXPIRED` from now on; those that are complete are `EXPIRED` when they are read next.
    pub async fn expire_previews(&self) -> Result<()> {
        self.set_previews(&json!({"ending": "EXPIRED"})).await
    }

    /// Lets previews be completed again, after [`fail_previews`](Self::fail_previews) or
    /// [`expire_previews`](Self::expire_previews).
    pub async fn complete_previews(&self) -> Result<()> {
        self.set_previews(&json!({"ending": "COMPLETE"})).await
    }

    async fn set_previews(&self, wanted: &Value) -> Result<()> {
        self.tell(Method::PUT, "previews", wanted).await
    }
}
