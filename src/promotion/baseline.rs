//! Which image ran before the promotion did anything.

use super::{
    engine::{State, record},
    facts::Origin,
    ledger::{self, spoken},
    moves::{Look, Move, Told},
};
use crate::api::promotion::{
    Actor, HistoryEntry, ImagePromotionStatus, ImageStatus, Outcome, RolloutKind, TargetPhase,
};

/// Takes what the targets run for the current image, and for a good one if they are healthy: there must be something to
/// go back to. What was taken back from a workload by an earlier promotion stays rejected.
pub(super) fn adopt(state: &State<'_>, status: &mut ImagePromotionStatus) -> Option<Move> {
    if status.current.is_some() || state.seen.is_empty() || !status.history.is_empty() {
        return None;
    }
    let Some(found) = &state.facts.baseline else {
        return Some(Move::Look(Look::Baseline));
    };
    let mut changed = false;
    for target in state.seen.iter().filter_map(|target| target.found.as_ref()) {
        for digest in target.rejected.iter().rev() {
            if !ledger::is_rejected(state.spec(), status, digest) {
                let image = ledger::nameless(digest.clone());
                ledger::reject(
                    state.spec(),
                    status,
                    &image,
                    "it was taken back from the workload before",
                    Actor::Workload,
                    state.now,
                );
                changed = true;
            }
        }
    }
    if let Origin::Image(image) = found {
        let image = ImageStatus {
            since: Some(state.now),
            ..image.clone()
        };
        let healthy = status.targets.iter().all(|target| target.phase == TargetPhase::Healthy);
        if healthy && !ledger::is_rejected(state.spec(), status, &image.digest) {
            status.last_good = Some(image.clone());
        }
        status.current = Some(image.clone());
        let entry = HistoryEntry {
            id: 0,
            kind: RolloutKind::Promotion,
            image,
            started_at: state.now,
            finished_at: state.now,
            outcome: if status.last_good.is_some() {
                Outcome::Succeeded
            } else {
                Outcome::Superseded
            },
            reason: "found on the targets".into(),
            by: Actor::Workload,
        };
        ledger::enter(status, state.spec(), entry);
        changed = true;
    }
    let told = status.current.as_ref().map(|image| Told {
        is_warning: false,
        reason: "Found",
        note: format!("The targets run {}", spoken(image)),
    });
    changed.then(|| record(status.clone(), told))
}
