//! Which image is to run next: the one that the spec pins, the one that a request asked for, or the one that the policy
//! picks; and what keeps it from being rolled out.

use super::{
    back::{Back, Way, go_back, way},
    engine::{State, record},
    facts::{Closed, Presence, Selection},
    ledger::{self, Start, bounded, spoken},
    moves::{Look, Move},
};
use crate::{
    api::promotion::{Actor, Blocked, HoldKind, ImagePromotionStatus, ImageStatus, Pin, RolloutKind},
    control::events::cut,
};

/// How many closed gates a status lists.
const GATES: usize = 8;

/// The longest message of a gate.
const MESSAGE: usize = 1_000;

/// The spec forbids the image that runs: back to an earlier one, where there is one that can be pulled.
pub(super) fn forbidden(state: &State<'_>, status: &ImagePromotionStatus) -> Option<Move> {
    let current = status.current.as_ref().filter(|_| state.spec().pin.is_none())?;
    let entry = state
        .spec()
        .reject
        .iter()
        .find(|entry| entry.digest == current.digest)?;
    let good = ledger::good_before(state.spec(), status, &current.digest)?;
    match way(state.facts, &good) {
        Way::Unknown(look) => Some(Move::Look(look)),
        Way::Shut(_) => None,
        Way::Open => {
            let back = Back {
                from: current,
                to: good,
                reason: format!("spec.reject forbids it: {}", entry.reason),
                by: Actor::Spec,
                rollout: None,
            };
            Some(go_back(state.spec(), state.facts, status.clone(), back, state.now))
        }
    }
}

/// Begins to roll out the pinned image. `None` where it cannot be.
pub(super) fn pinned(state: &State<'_>, status: &ImagePromotionStatus, pin: &Pin) -> Option<Move> {
    if pin_refused(state, status, pin).is_some() {
        return None;
    }
    let image = match (ledger::known(status, &pin.digest), &state.facts.presence) {
        (Some(image), _) => image,
        (None, Some((digest, _))) if *digest == pin.digest => ledger::nameless(pin.digest.clone()),
        (None, _) => return Some(Move::Look(Look::Presence(pin.digest.clone()))),
    };
    let mut status = status.clone();
    status.hold = None;
    status.requested = None;
    status.candidate = None;
    let start = Start {
        kind: RolloutKind::Pin,
        image,
        reason: format!("it is pinned: {}", pin.reason),
        by: Actor::Spec,
        failure: None,
        spec: state.spec(),
        now: state.now,
    };
    let told = ledger::start(&mut status, start);
    Some(record(status, [told]))
}

/// Why the pinned image is not rolled out.
pub(super) fn pin_refused(state: &State<'_>, status: &ImagePromotionStatus, pin: &Pin) -> Option<String> {
    let name = pin.digest.short();
    let was_left = status.hold.as_ref().is_some_and(|hold| {
        hold.away_from.as_ref() == Some(&pin.digest) && matches!(hold.kind, HoldKind::RolledBack | HoldKind::Failed)
    });
    if was_left || status.rejected.iter().any(|rejection| rejection.digest == pin.digest) {
        return Some(format!(
            "spec.pin names {name}, which was taken back or rejected; pin another image, or ask for {} with the request promote to have it tried again",
            pin.digest
        ));
    }
    match &state.facts.presence {
        Some((digest, Presence::Gone)) if *digest == pin.digest => {
            Some(format!("spec.pin names {name}, which is not in the repository"))
        }
        Some((digest, Presence::Archived)) if *digest == pin.digest => Some(format!(
            "spec.pin names {name}, which is archived; restore it in ECR, or pin another image"
        )),
        _ => None,
    }
}

/// Looks for another image to run. `None` where there is none, or it has to wait.
pub(super) fn candidate(state: &State<'_>, status: &mut ImagePromotionStatus) -> Option<Move> {
    let Some(selection) = &state.facts.selection else {
        return Some(Move::Look(Look::Selection));
    };
    let spec = state.spec();
    status.requested = status
        .requested
        .take()
        .filter(|asked| !ledger::is_rejected(spec, status, &asked.digest));
    let asked = status.requested.is_some();
    let candidate = match (&status.requested, selection) {
        (Some(asked), _) => asked.clone(),
        (None, Selection::Picked(image)) if !ledger::is_rejected(spec, status, &image.digest) => image.clone(),
        // What cannot be seen leaves things as they are.
        (None, Selection::Unknown(_)) => return None,
        (None, Selection::Picked(_) | Selection::Nothing(_)) => {
            status.candidate = None;
            status.blocked_by.clear();
            return None;
        }
    };
    let before = status.candidate.take().filter(|old| old.digest == candidate.digest);
    status.candidate = Some(ImageStatus {
        since: before.as_ref().map_or(Some(state.now), |old| old.since),
        ..candidate.clone()
    });
    if runs(status, &candidate) {
        status.requested = None;
        status.blocked_by.clear();
        return None;
    }
    if !asked && (!ledger::is_past_hold(spec, status, &candidate) || went(state, status).is_some()) {
        status.blocked_by.clear();
        return None;
    }
    let closed = match &state.facts.gates {
        Some((digest, closed)) if *digest == candidate.digest => closed,
        _ => return Some(Move::Look(Look::Gates(candidate))),
    };
    status.blocked_by = blocked(state, status, closed, before.is_some());
    if !closed.is_empty() {
        return None;
    }
    status.hold = None;
    if asked {
        stay_with(state, status, &candidate, selection);
    }
    let (reason, by) = match asked {
        true => ("it was asked for by request", Actor::Request),
        false => ("", Actor::Operator),
    };
    let start = Start {
        kind: RolloutKind::Promotion,
        image: candidate,
        reason: reason.into(),
        by,
        failure: None,
        spec,
        now: state.now,
    };
    let told = ledger::start(status, start);
    Some(record(status.clone(), [told]))
}

/// Whether this image runs already; then its name follows the tag under which it is picked now. One that was asked for
/// and has not proved good is rolled out again.
fn runs(status: &mut ImagePromotionStatus, candidate: &ImageStatus) -> bool {
    let is = |image: &Option<ImageStatus>| image.as_ref().is_some_and(|image| image.digest == candidate.digest);
    if !is(&status.current) || status.requested.is_some() && !is(&status.last_good) {
        return false;
    }
    for image in [&mut status.current, &mut status.last_good].into_iter().flatten() {
        if image.digest == candidate.digest {
            image.name.clone_from(&candidate.name);
            image.tag.clone_from(&candidate.tag);
            image.pushed_at = candidate.pushed_at;
        }
    }
    true
}

/// Why the policy picks an older image than the one that runs, where that is only because this one went from the
/// repository: going back unasked would be a downgrade that nobody has decided. Whoever moves a tag has decided it.
pub(super) fn went(state: &State<'_>, status: &ImagePromotionStatus) -> Option<String> {
    let (current, candidate) = (status.current.as_ref()?, status.candidate.as_ref()?);
    let policy = &state.spec().source.policy;
    let is_chosen = policy.tag.is_some() || policy.digest.is_some() || status.requested.is_some();
    let is_newer = current.pushed_at.is_some() && candidate.pushed_at > current.pushed_at;
    if is_chosen || is_newer || candidate.digest == current.digest {
        return None;
    }
    let gone = gone(state, current)?;
    Some(format!(
        "{gone}; the policy now picks {}, which is older, and is not gone back to unasked: use the request promote for it, or push a newer image",
        spoken(candidate)
    ))
}

/// Whether the image that runs cannot be pulled any more.
pub(super) fn gone(state: &State<'_>, current: &ImageStatus) -> Option<String> {
    match &state.facts.running {
        Some((digest, Presence::Gone)) if *digest == current.digest => {
            Some("it is gone from the repository, so that other nodes cannot pull it".into())
        }
        Some((digest, Presence::Archived)) if *digest == current.digest => {
            Some("it is archived, so that other nodes cannot pull it".into())
        }
        _ => None,
    }
}

/// The closed gates, each since when it has held this candidate.
fn blocked(state: &State<'_>, status: &ImagePromotionStatus, closed: &[Closed], is_same: bool) -> Vec<Blocked> {
    let since = |gate| {
        let before = status.blocked_by.iter().find(|blocked| blocked.gate == gate && is_same);
        before.map_or(state.now, |blocked| blocked.since)
    };
    let entry = |closed: &Closed| {
        let mut message = closed.message.clone();
        cut(&mut message, MESSAGE);
        Blocked {
            gate: closed.gate,
            message,
            since: since(closed.gate),
        }
    };
    closed.iter().take(GATES).map(entry).collect()
}

/// What was asked for in place of the policy's image stays until the policy picks another one than it does now.
fn stay_with(state: &State<'_>, status: &mut ImagePromotionStatus, asked: &ImageStatus, selection: &Selection) {
    let passed_over = match selection {
        Selection::Picked(pick) if pick.digest == asked.digest => return,
        Selection::Picked(pick) => Some(pick.clone()),
        Selection::Nothing(_) | Selection::Unknown(_) => status.current.clone(),
    };
    let reason = bounded("an image was asked for by request");
    let until = state.spec().rollback.until;
    ledger::hold(status, HoldKind::Person, passed_over.as_ref(), reason, until, state.now);
    if let Some(hold) = &mut status.hold {
        hold.newer_than = hold.newer_than.max(asked.pushed_at);
    }
}
