//! Lifecycle policies carried out, when a test says so; and images made older than they are, so that there is something to
//! do.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use fakecloud_core::service::AwsServiceError;
use fakecloud_ecr::Repository;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::errors::invalid;
use super::listing::tags_of;
use super::manifest::Manifest;
use super::{Registry, archive};
use crate::departures::Cause;
use crate::lifecycle_policy::{Action, Image, Policy, evaluate};
use crate::world::World;

/// An image that a rule acts on.
pub(super) struct Fate {
    digest: String,
    tags: Vec<String>,
    pushed_at: DateTime<Utc>,
    archived: bool,
    action: Action,
    rule: u32,
}

/// How long ago things happened to an image, in days; what is left out stays as it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Age {
    pushed: Option<i64>,
    pulled: Option<i64>,
    archived: Option<i64>,
    activated: Option<i64>,
}

impl Fate {
    /// As `GetLifecyclePolicyPreview` shows it.
    pub(super) fn preview(&self) -> Value {
        let mut action = json!({ "type": action_name(self.action) });
        if self.action == Action::Archive {
            action["targetStorageClass"] = json!("ARCHIVE");
        }
        json!({
            "imageTags": self.tags,
            "imageDigest": self.digest,
            "imagePushedAt": self.pushed_at.timestamp(),
            "action": action,
            "appliedRulePriority": self.rule,
            "storageClass": if self.archived { "ARCHIVE" } else { "STANDARD" },
        })
    }
}

/// An action as previews name it.
pub(super) const fn action_name(action: Action) -> &'static str {
    match action {
        Action::Expire => "EXPIRE",
        Action::Archive => "TRANSITION",
    }
}

/// What the policy would do to the repository's images.
pub(super) fn doomed(repository: &Repository, policy: &Policy, now: DateTime<Utc>) -> Vec<Fate> {
    let images: Vec<_> = repository
        .images
        .values()
        .map(|image| known(repository, image))
        .collect();
    let doomed = evaluate(policy, &images, moment(now));
    let fates = doomed.into_iter().filter_map(|doomed| {
        let image = repository.images.get(&doomed.digest)?;
        Some(Fate {
            tags: tags_of(repository, &doomed.digest)
                .into_iter()
                .map(str::to_owned)
                .collect(),
            digest: doomed.digest,
            pushed_at: image.image_pushed_at,
            archived: image.image_status == "ARCHIVED",
            action: doomed.action,
            rule: doomed.rule,
        })
    });
    fates.collect()
}

/// What the evaluator has to know of an image.
fn known(repository: &Repository, image: &fakecloud_ecr::Image) -> Image {
    let manifest: Option<Value> = serde_json::from_str(&image.image_manifest).ok();
    let subject = manifest
        .as_ref()
        .and_then(|manifest| manifest.pointer("/subject/digest"));
    let archived = image.image_status == "ARCHIVED";
    Image {
        digest: image.image_digest.clone(),
        tags: tags_of(repository, &image.image_digest)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        pushed_at: moment(image.image_pushed_at),
        pulled_at: image.last_recorded_pull_time.map(moment),
        archived_at: archived.then(|| moment(image.last_archived_at.unwrap_or(image.image_pushed_at))),
        activated_at: image.last_activated_at.map(moment),
        children: Manifest::parse(&image.image_manifest).map_or_else(|_| Vec::new(), |manifest| manifest.children),
        subject: subject.and_then(Value::as_str).map(str::to_owned),
    }
}

/// fakecloud's time in the evaluator's type.
fn moment(time: DateTime<Utc>) -> Timestamp {
    // Only thousands of years away could it fail.
    Timestamp::from_microsecond(time.timestamp_micros()).unwrap_or_default()
}

impl Registry {
    /// Does what lifecycle policies ask for as of so many days from now, in one repository or in all, and tells what it did.
    pub(crate) fn run_lifecycle(
        self: &Arc<Self>,
        world: &Arc<World>,
        repository: Option<&str>,
        days: i64,
    ) -> Result<Vec<Value>, AwsServiceError> {
        let now = days_from_now(days)?;
        let names = match repository {
            Some(name) => vec![name.to_owned()],
            None => self.with_state(|state| state.repositories.keys().cloned().collect()),
        };
        let mut done = Vec::new();
        for name in &names {
            let fates = self.with_repository(name, |repository| {
                let text = repository.lifecycle_policy.as_deref();
                let Some(policy) = text.and_then(|text| Policy::parse(text).ok()) else {
                    return Ok(Vec::new());
                };
                let fates = doomed(repository, &policy, now);
                for fate in &fates {
                    carry_out(repository, fate, now);
                }
                repository.lifecycle_policy_last_evaluated_at = Some(now);
                Ok(fates)
            })?;
            for fate in fates {
                self.tell(world, name, &fate);
                done.push(json!({
                    "repository": name,
                    "digest": fate.digest,
                    "tags": fate.tags,
                    "action": action_name(fate.action),
                    "rule": fate.rule,
                }));
            }
        }
        Ok(done)
    }

    /// Tells the world of an image that a rule has acted on.
    fn tell(self: &Arc<Self>, world: &Arc<World>, name: &str, fate: &Fate) {
        if fate.action == Action::Archive {
            self.announce_storage_class(world, name, &fate.digest, archive::ARCHIVE);
            return;
        }
        let cause = Cause::Lifecycle { rule: fate.rule };
        world.departures.record(self, name, &fate.digest, &fate.tags, cause);
        let tags = fate.tags.iter().map(|tag| Some(tag.as_str()));
        for tag in tags.chain(fate.tags.is_empty().then_some(None)) {
            self.announce_image(world, "DELETE", name, &fate.digest, tag);
            self.replicate_deletion(world, name, &fate.digest, tag);
        }
    }

    /// Makes an image as old as a test wants it.
    pub(crate) fn age_image(&self, repository: &str, digest: &str, age: &Age) -> Result<(), AwsServiceError> {
        let ago = |days: Option<i64>| {
            let days = days.map(|days| days.checked_neg().ok_or_else(too_far));
            days.transpose()?.map(days_from_now).transpose()
        };
        let (pushed, pulled) = (ago(age.pushed)?, ago(age.pulled)?);
        let (archived, activated) = (ago(age.archived)?, ago(age.activated)?);
        self.with_repository(repository, |repository| {
            let image = repository.images.get_mut(digest);
            let image = image.ok_or_else(|| invalid(format!("there is no image {digest}")))?;
            image.image_pushed_at = pushed.unwrap_or(image.image_pushed_at);
            image.last_recorded_pull_time = pulled.or(image.last_recorded_pull_time);
            image.last_archived_at = archived.or(image.last_archived_at);
            image.last_activated_at = activated.or(image.last_activated_at);
            Ok(())
        })
    }
}

fn days_from_now(days: i64) -> Result<DateTime<Utc>, AwsServiceError> {
    TimeDelta::try_days(days)
        .and_then(|days| Utc::now().checked_add_signed(days))
        .ok_or_else(too_far)
}

fn too_far() -> AwsServiceError {
    invalid("so many days away there is no time")
}

fn carry_out(repository: &mut Repository, fate: &Fate, now: DateTime<Utc>) {
    match fate.action {
        Action::Expire => {
            repository.images.remove(&fate.digest);
            repository.image_tags.retain(|_, holder| *holder != fate.digest);
        }
        Action::Archive => {
            if let Some(image) = repository.images.get_mut(&fate.digest) {
                archive::store(image, archive::ARCHIVE, now);
            }
        }
    }
}
