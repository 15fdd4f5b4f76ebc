//! What people do to the targets by hand.

use super::{
    engine::{State, name, record},
    facts::{Found, TargetFacts},
    ledger::{self, spoken},
    moves::{Move, Told},
};
use crate::api::promotion::{Actor, HistoryEntry, HoldKind, ImagePromotionStatus, ImageStatus, Outcome, RolloutKind};

/// Somebody set a target to an image that this promotion has run: `kubectl rollout undo` or `kubectl set image`. It is
/// their word, not drift.
pub(super) fn by_person(state: &State<'_>, status: &ImagePromotionStatus) -> Option<Move> {
    if state.spec().pin.is_some() {
        return None;
    }
    let left = match &status.rollout {
        Some(rollout) => rollout.image.clone(),
        None => status.current.clone()?,
    };
    let (target, found, image) = state
        .seen
        .iter()
        .find_map(|target| set_by_hand(state, status, target, &left))?;
    let who = found
        .writer
        .as_ref()
        .map_or("somebody", |writer| writer.manager.as_str());
    let reason = format!("{} was set to {} by hand ({who})", name(target), spoken(&image));
    let mut status = status.clone();
    if let Some(rollout) = status.rollout.take() {
        ledger::close(
            &mut status,
            state.spec(),
            rollout,
            Outcome::Superseded,
            reason.clone(),
            state.now,
        );
    }
    status.rejected.retain(|rejection| rejection.digest != image.digest);
    // Whoever goes forward again has not taken back what ran in between.
    let is_forward = left.pushed_at.is_some() && image.pushed_at > left.pushed_at;
    if !is_forward {
        ledger::reject(state.spec(), &mut status, &left, &reason, Actor::Workload, state.now);
    }
    let is_wanted = status
        .candidate
        .as_ref()
        .is_some_and(|candidate| candidate.digest == image.digest);
    // The hold that began when this image was left ends with its return.
    let is_undone = status
        .hold
        .take()
        .is_some_and(|hold| hold.away_from.as_ref() == Some(&image.digest));
    if !is_wanted && !is_undone {
        ledger::hold(
            &mut status,
            HoldKind::Person,
            Some(&left),
            reason.clone(),
            state.spec().rollback.until,
            state.now,
        );
    }
    status.previous = Some(left);
    status.current = Some(ImageStatus {
        since: Some(state.now),
        ..image.clone()
    });
    status.last_good.clone_from(&status.current);
    status.requested = None;
    status.last_rollout = status.last_rollout.saturating_add(1);
    status.blocked_by.clear();
    status.regression = None;
    let entry = HistoryEntry {
        id: status.last_rollout,
        kind: RolloutKind::Rollback,
        image,
        started_at: state.now,
        finished_at: state.now,
        outcome: Outcome::Succeeded,
        reason: ledger::bounded(&*reason),
        by: Actor::Workload,
    };
    ledger::enter(&mut status, state.spec(), entry);
    let (event, note) = match &status.hold {
        Some(_) => (
            "RolledBackByHand",
            format!("{reason}: taken for a rollback, and nothing else is rolled out until the hold ends"),
        ),
        None => ("SetByHand", format!("{reason}: the promotion goes on from there")),
    };
    let told = Told {
        is_warning: false,
        reason: event,
        note,
    };
    Some(record(status, [told]))
}

/// The image that a person has set a target to, if it is one that the promotion may run.
fn set_by_hand<'a>(
    state: &'a State<'_>,
    status: &ImagePromotionStatus,
    target: &'a TargetFacts,
    left: &ImageStatus,
) -> Option<(&'a TargetFacts, &'a Found, ImageStatus)> {
    let found = target.found.as_ref()?;
    let digest = found.digest.as_ref().filter(|digest| **digest != left.digest)?;
    let is_person = found.writer.as_ref().is_some_and(|writer| writer.is_person);
    if !is_person || !state.had(target, &left.digest) {
        return None;
    }
    // `kubectl rollout undo` right after a rollback leads into the image that has just failed. What people have
    // rejected they may take back; what has failed, or is forbidden by the spec, is set back like any other image.
    let has_failed = status
        .rejected
        .iter()
        .any(|rejection| rejection.digest == *digest && rejection.by == Actor::Operator);
    let is_forbidden = ledger::is_forbidden(state.spec(), digest);
    if has_failed || is_forbidden {
        return None;
    }
    ledger::known(status, digest).map(|image| (target, found, image))
}
