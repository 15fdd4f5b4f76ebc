//! The targets as the status has them, brought up to what was just seen.

use jiff::{SignedDuration, Timestamp};

use super::facts::{Found, Health, TargetFacts};
use crate::{
    api::{
        names::Digest,
        promotion::{TargetPhase, TargetStatus, Via},
    },
    control::events::cut,
};

/// After so many writes of another, within [`WITHIN`], nothing more is written to a target.
pub(super) const REVERTS: u32 = 3;

/// The time in which reverts count together.
pub(super) const WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// The longest message of a target.
const MESSAGE: usize = 1_000;

/// How many targets a status holds.
pub(super) const MOST: usize = 100;

/// Brings the targets up to what was seen. `wanted` is what they are to run, `generation` that of the promotion.
pub(super) fn seen(
    old: &[TargetStatus],
    facts: &[TargetFacts],
    wanted: Option<&Digest>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<TargetStatus> {
    facts
        .iter()
        .take(MOST)
        .map(|target| {
            let before = old.iter().find(|status| target.is_of(status));
            one(before, target, wanted, generation, now)
        })
        .collect()
}

fn one(
    before: Option<&TargetStatus>,
    target: &TargetFacts,
    wanted: Option<&Digest>,
    generation: Option<i64>,
    now: Timestamp,
) -> TargetStatus {
    let mut status = TargetStatus {
        kind: target.kind,
        name: target.name.clone(),
        via: target.via,
        uid: None,
        digest: None,
        since: None,
        phase: TargetPhase::Missing,
        message: format!(
            "{} {} does not exist in this namespace",
            target.kind.as_str(),
            target.name
        ),
        reverts: 0,
        contested_since: None,
        counted: None,
        counted_generation: None,
        contested_by: None,
    };
    cut(&mut status.message, MESSAGE);
    let Some(found) = &target.found else { return status };
    status.uid = Some(found.uid.clone());
    status.digest.clone_from(&found.digest);
    // Another workload of the same name begins anew.
    let same = before.filter(|before| before.uid.as_deref() == Some(found.uid.as_str()));
    status.since = match same {
        Some(before) if before.digest == found.digest => before.since,
        _ => Some(now),
    };
    if let Some(before) = same {
        // A contested target stays one until it has the image again, somebody asks to go on, or the spec is edited.
        let is_contested = before.reverts >= REVERTS && found.digest.as_ref() != wanted;
        let counts = before
            .contested_since
            .is_some_and(|since| is_contested || now < since + WITHIN);
        if counts && before.counted_generation == generation {
            status.reverts = before.reverts;
            status.contested_since = before.contested_since;
            status.contested_by.clone_from(&before.contested_by);
            status.counted_generation = generation;
        }
        status.counted.clone_from(&before.counted);
    }
    (status.phase, status.message) = phase(&status, target, found, wanted);
    cut(&mut status.message, MESSAGE);
    status
}

fn phase(status: &TargetStatus, target: &TargetFacts, found: &Found, wanted: Option<&Digest>) -> (TargetPhase, String) {
    if !found.missing.is_empty() {
        let message = format!("it has no container named {}", found.missing.join(", "));
        return (TargetPhase::Missing, message);
    }
    if let (Via::Auto, Some(refused)) = (target.via, &found.refused) {
        return (TargetPhase::Refused, refused.clone());
    }
    if status.reverts >= REVERTS && found.digest.as_ref() != wanted {
        let who = status.contested_by.as_deref().unwrap_or("somebody");
        let message = format!(
            "{who} keeps writing another image: nothing more is written. {}",
            found.remedy
        );
        return (TargetPhase::Contested, message);
    }
    match &found.health {
        Health::Healthy => (TargetPhase::Healthy, String::new()),
        Health::Progressing(message) => (TargetPhase::Progressing, message.clone()),
        Health::Failed(message) => (TargetPhase::Failed, message.clone()),
    }
}

/// Counts a write of another, once for each resourceVersion. Returns whether it was new.
pub(super) fn count_revert(status: &mut TargetStatus, found: &Found, generation: Option<i64>, now: Timestamp) -> bool {
    if status.counted.as_deref() == Some(found.resource_version.as_str()) {
        return false;
    }
    status.counted = Some(found.resource_version.clone());
    status.counted_generation = generation;
    status.reverts = status.reverts.saturating_add(1);
    status.contested_since.get_or_insert(now);
    status.contested_by = found.writer.as_ref().map(|writer| {
        let mut manager = writer.manager.clone();
        cut(&mut manager, 128);
        manager
    });
    true
}

/// Forgets what was counted: somebody asked to go on.
pub(super) fn forgive(targets: &mut [TargetStatus]) {
    for target in targets {
        target.reverts = 0;
        target.contested_since = None;
        target.contested_by = None;
        if target.phase == TargetPhase::Contested {
            target.phase = TargetPhase::Progressing;
            target.message.clear();
        }
    }
}
