//! What a Repository records of its clean-up. Pure: later decisions rest on it.

use super::{Decision, Foreseen, Live, Sight, Wish, is_ours, mark};
use crate::{
    api::lifecycle::{AppliedLifecycle, CleanupMode},
    control::{events::cut, plan::Verdict, reason::Reason},
    controllers::repository::step::Step,
};

/// The status after a look.
pub(crate) fn told(sight: &Sight, decision: &Decision) -> Option<AppliedLifecycle> {
    let old = &sight.recorded;
    let (reason, message) = match decision {
        // Cut off between a step and the next look: nothing is settled.
        Decision::Step(_) => (Reason::Previewing, String::new()),
        Decision::Rest(None) if matches!(sight.wish, Wish::Held { .. }) => (Reason::Suspended, String::new()),
        Decision::Rest(None) if is_shown_only(&sight.wish) => (Reason::Observed, String::new()),
        Decision::Rest(None) => (Reason::Settled, sight.unreleasable.clone().unwrap_or_default()),
        Decision::Rest(Some(Verdict::Waiting { reason, message, .. } | Verdict::Blocked { reason, message })) => {
            (*reason, message.clone())
        }
        Decision::Rest(Some(verdict)) => (verdict.reason(), verdict.to_string()),
    };
    let mut message = message;
    cut(&mut message, 1_000);
    let mut new = AppliedLifecycle {
        policy: sight.wish.by().to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        put: put_mark(sight),
        putting: putting_mark(sight, decision),
        protects: false,
        asked: sight.wish.asked(),
        preview: None,
    };
    new.protects = protects(sight, decision, &new);
    new.preview = match (&sight.wish, &sight.foreseen) {
        (_, _) if reason == Reason::Settled => None,
        (Wish::Claimed(claim), Foreseen::Yes(outcome)) => Some(outcome.shown(&claim.document)),
        (Wish::Claimed(_), _) if old.asked == new.asked => old.preview.clone(),
        _ => None,
    };
    match &sight.wish {
        Wish::Unclaimed => match &sight.live {
            Live::Known(_) | Live::Unknown(_) => Some(AppliedLifecycle {
                message: "a lifecycle policy that no object here claims is in force; it is left alone".into(),
                put: String::new(),
                protects: false,
                ..new
            }),
            // Nothing was read because nothing is ours.
            Live::Unread => sight
                .recorded
                .policy
                .is_empty()
                .then(|| old.clone())
                .filter(|old| *old != AppliedLifecycle::default()),
            Live::Absent => None,
        },
        Wish::Held { .. } | Wish::Claimed(_) => Some(new),
    }
}

/// What is recorded where nothing may be written: what was compared, so that another wish is compared anew.
pub(in super::super) fn observed(sight: &Sight) -> Option<AppliedLifecycle> {
    let asked = sight.wish.asked();
    (!asked.is_empty()).then(|| AppliedLifecycle {
        policy: sight.wish.by().to_owned(),
        reason: Reason::Observed.as_str().to_owned(),
        asked,
        ..AppliedLifecycle::default()
    })
}

fn is_shown_only(wish: &Wish) -> bool {
    matches!(wish, Wish::Claimed(claim) if claim.mode == CleanupMode::Preview)
}

/// The mark of the document that is about to be put, as long as it is not known whether it was.
fn putting_mark(sight: &Sight, decision: &Decision) -> String {
    match (decision, &sight.live) {
        (Decision::Step(Step::PutLifecycle { to, .. }), _) => mark(to),
        (_, Live::Unread) => sight.recorded.putting.clone(),
        (_, Live::Absent | Live::Known(_) | Live::Unknown(_)) => String::new(),
    }
}

/// Whether images in use are to keep a tag: for as long as a document that heeds it is in force, whatever became of the wish.
fn protects(sight: &Sight, decision: &Decision, new: &AppliedLifecycle) -> bool {
    let Wish::Claimed(claim) = &sight.wish else {
        return sight.recorded.protects && !(new.put.is_empty() && new.putting.is_empty());
    };
    if claim.mode == CleanupMode::Enforce && (claim.protect || matches!(decision, Decision::Rest(None))) {
        return claim.protect;
    }
    sight.recorded.protects && !(new.put.is_empty() && new.putting.is_empty())
}

/// The mark of the document that we put last, as far as it is still there.
fn put_mark(sight: &Sight) -> String {
    match (&sight.live, &sight.wish) {
        (Live::Known(live), Wish::Claimed(claim))
            if claim.mode == CleanupMode::Enforce && live.means_the_same(&claim.document) =>
        {
            mark(live)
        }
        (Live::Known(live), _) if is_ours(live, &sight.recorded) => mark(live),
        (Live::Known(_) | Live::Absent | Live::Unknown(_), _) => String::new(),
        (Live::Unread, _) => sight.recorded.put.clone(),
    }
}
