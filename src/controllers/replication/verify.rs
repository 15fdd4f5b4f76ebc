//! Whether images have arrived: ECR is asked about those in use and the newest of each repository, within a number of calls.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{
    backfill::{EXAMPLES, limited},
    parts,
};
use crate::{
    api::{
        names::RepositoryName,
        replication::{
            DestinationStatus, ImageOnItsWay, ReplicationConfig, ReplicationDestination, ReplicationRule,
            VerificationStatus, Verify,
        },
    },
    aws::{
        backfill::{Way, WayState},
        client::Ecr,
        error::AwsError,
        images::{Described, ImageRef},
    },
    controllers::registry::connection::Connection,
    in_use::usage::Uses,
    promotion::facts::Storage,
};

/// How soon to look whether there is anything to ask about where there was nothing yet. Such a look makes no call.
pub(super) const NOTHING_YET: std::time::Duration = std::time::Duration::from_mins(1);

/// One round, where it is time for one: not before the rules are in force.
pub(super) async fn round(
    object: &ReplicationConfig,
    manage: bool,
    connection: &Connection,
    asked: bool,
) -> Option<VerificationStatus> {
    let verify = object.spec.verify.as_ref()?;
    let status = object.status.as_ref();
    let last = status.and_then(|status| status.verification.as_ref());
    let rules = match manage {
        true => status.map_or(&[][..], |status| &status.in_force),
        false => &object.spec.rules,
    };
    let names = || {
        let reached = last.and_then(|last| last.reached.as_ref());
        in_order(connection.inventory.names(), rules, reached)
    };
    let is_time = is_due(verify, last, asked, || !names().is_empty(), Timestamp::now());
    match is_time && !rules.is_empty() {
        true => Some(ask(connection, rules, verify, last, names()).await),
        false => None,
    }
}

/// Whether it is time for a round. The first one waits until there is something to ask about: rules and repositories are often
/// created together, and one about nothing would be the only one for a whole interval.
fn is_due(
    verify: &Verify,
    last: Option<&VerificationStatus>,
    asked: bool,
    anything: impl FnOnce() -> bool,
    now: Timestamp,
) -> bool {
    match last {
        _ if asked => true,
        None => anything(),
        Some(last) => until(verify, last, now).is_none(),
    }
}

/// How long until it is time to ask again; `None` where it is now.
pub(super) fn until(verify: &Verify, last: &VerificationStatus, now: Timestamp) -> Option<std::time::Duration> {
    let since = std::time::Duration::try_from(now.duration_since(last.at)).unwrap_or_default();
    verify
        .interval
        .duration()
        .checked_sub(since)
        .filter(|left| !left.is_zero())
}

/// What ECR does not answer is told in the round: it is no reason to hold anything else up.
async fn ask(
    connection: &Connection,
    rules: &[ReplicationRule],
    how: &Verify,
    last: Option<&VerificationStatus>,
    names: Vec<RepositoryName>,
) -> VerificationStatus {
    let now = Timestamp::now();
    let used = connection.in_use.used();
    let mut round = Round {
        left: how.max_calls,
        images: 0,
        tally: Tally::of(rules),
    };
    let mut reached = last.and_then(|last| last.reached.clone());
    let mut message = None;
    let mut is_whole = true;
    for name in names {
        let is_first = round.left == how.max_calls;
        match round.repository(&connection.ecr, &name, rules, used.get(&name)).await {
            Ok(true) => reached = Some(name),
            // One that takes more calls than there are for a whole round must not keep it from the others.
            Ok(false) if is_first => reached = Some(name),
            Ok(false) => {}
            Err(error) => {
                message = Some(limited(&error.to_string(), 1_000));
                reached = Some(name);
            }
        }
        if round.left == 0 || message.is_some() {
            is_whole = false;
            break;
        }
    }
    VerificationStatus {
        at: now,
        images: round.images,
        reached: reached.filter(|_| !is_whole),
        message,
        destinations: round.tally.0,
    }
}

/// The repositories that are meant, those first that the last round did not come to.
fn in_order(
    names: impl IntoIterator<Item = RepositoryName>,
    rules: &[ReplicationRule],
    reached: Option<&RepositoryName>,
) -> Vec<RepositoryName> {
    let meant = names.into_iter().filter(|name| !destinations(rules, name).is_empty());
    let all: BTreeSet<RepositoryName> = meant.collect();
    let (done, open): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|name| reached.is_some_and(|last| name <= last));
    open.into_iter().chain(done).collect()
}

/// Where the rules send a repository.
fn destinations<'r>(rules: &'r [ReplicationRule], name: &RepositoryName) -> BTreeSet<&'r ReplicationDestination> {
    let takes = |rule: &&ReplicationRule| {
        let filters = rule.repository_filters.as_ref();
        filters.is_none_or(|filters| filters.iter().any(|f| name.as_str().starts_with(&f.filter)))
    };
    rules.iter().filter(takes).flat_map(|rule| &rule.destinations).collect()
}

/// What is asked and what was answered.
struct Round {
    /// How many calls may still be made.
    left: u32,
    images: u32,
    tally: Tally,
}

impl Round {
    /// Asks about one repository; false where there were not enough calls left.
    async fn repository(
        &mut self,
        ecr: &Ecr,
        name: &RepositoryName,
        rules: &[ReplicationRule],
        used: Option<&Uses>,
    ) -> Result<bool, AwsError> {
        let mut images = Vec::new();
        let mut token = None;
        loop {
            if !self.take() {
                return Ok(false);
            }
            let page = match ecr.describe_images_page(name, token).await {
                // It went since it was listed.
                Err(error) if error.is("RepositoryNotFoundException") => return Ok(true),
                page => page?,
            };
            images.extend(page.items);
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let to = destinations(rules, name);
        for image in chosen(&images, used) {
            if !self.take() {
                return Ok(false);
            }
            let of = ImageRef::Digest(image.digest.clone());
            if let Some(ways) = ecr.ways(name, &of).await? {
                self.images += 1;
                self.tally.add(name, image, &to, &ways);
            }
        }
        Ok(true)
    }

    fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

/// The images to ask about: those in use, and the newest that could run. What is archived is not replicated.
fn chosen<'i>(images: &'i [Described], used: Option<&Uses>) -> Vec<&'i Described> {
    let active = || images.iter().filter(|image| image.storage == Storage::Active);
    let newest = active()
        .filter(|image| image.can_run())
        .max_by_key(|image| (image.pushed_at, &image.digest))
        .map(|image| &image.digest);
    let is_used = |image: &Described| {
        used.is_some_and(|used| {
            used.digests.contains(&image.digest) || image.tags.iter().any(|tag| used.tags.contains(tag))
        })
    };
    active()
        .filter(|image| Some(&image.digest) == newest || is_used(image))
        .collect()
}

/// The answers by destination.
struct Tally(Vec<DestinationStatus>);

impl Tally {
    fn of(rules: &[ReplicationRule]) -> Self {
        let all: BTreeSet<&ReplicationDestination> = rules.iter().flat_map(|rule| &rule.destinations).collect();
        let nothing = all.into_iter().map(|to| DestinationStatus {
            destination: to.clone(),
            complete: 0,
            in_progress: 0,
            failed: 0,
            not_replicated: 0,
            examples: Vec::new(),
        });
        Self(nothing.take(25).collect())
    }

    fn add(&mut self, name: &RepositoryName, image: &Described, to: &BTreeSet<&ReplicationDestination>, ways: &[Way]) {
        for status in self.0.iter_mut().filter(|status| to.contains(&status.destination)) {
            let place = parts::place(&status.destination);
            let way = ways.iter().find(|way| way.to == place);
            match way.map(|way| way.state) {
                Some(WayState::Complete) => status.complete += 1,
                Some(WayState::InProgress) => status.in_progress += 1,
                Some(WayState::Failed) => status.failed += 1,
                None => status.not_replicated += 1,
            }
            let is_missing = way.is_none_or(|way| way.state == WayState::Failed);
            if is_missing && status.examples.len() < usize::from(EXAMPLES) {
                status.examples.push(ImageOnItsWay {
                    repository: name.to_string(),
                    image: image.digest.to_string(),
                    failure_code: way.and_then(|way| way.code.as_deref()).map(|code| limited(code, 256)),
                });
            }
        }
    }
}

/// What the images that did not arrive are told by; `None` where all have, or are on their way.
pub(super) fn trouble(verification: &VerificationStatus) -> Option<String> {
    let mut troubled = verification
        .destinations
        .iter()
        .filter(|to| to.failed > 0 || to.not_replicated > 0)
        .peekable();
    troubled.peek()?;
    let sentences = troubled.map(|status| {
        let to = &status.destination;
        let example = status.examples.first();
        let such_as = example.map_or_else(String::new, |one| format!(", such as {}@{}", one.repository, one.image));
        format!(
            "to {} in {}: {} failed and {} were never sent{such_as}",
            to.registry_id, to.region, status.failed, status.not_replicated
        )
    });
    let whole = limited(&sentences.collect::<Vec<_>>().join("; "), 900);
    Some(format!(
        "Images have not arrived {whole}. Push them again, or start a backfill."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_waits_until_there_is_something_to_ask_about() {
        let verify: Verify = serde_json::from_value(serde_json::json!({ "interval": "1h" })).unwrap();
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let round = |at: &str| VerificationStatus {
            at: at.parse().unwrap(),
            images: 0,
            reached: None,
            message: None,
            destinations: Vec::new(),
        };
        let (young, old) = (round("2026-03-01T11:30:00Z"), round("2026-03-01T11:00:00Z"));
        let cases = [
            (None, false, false, false),
            (None, false, true, true),
            // Whoever asks is answered, if only that there is nothing.
            (None, true, false, true),
            (Some(&young), false, true, false),
            (Some(&young), true, true, true),
            // What it said of repositories that are gone must not stay.
            (Some(&old), false, false, true),
        ];
        for (last, asked, anything, expected) in cases {
            let due = is_due(&verify, last, asked, || anything, now);
            assert_eq!(due, expected, "{last:?} {asked} {anything}");
        }
    }
}
