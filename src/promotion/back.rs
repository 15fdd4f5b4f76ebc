//! The way back to an earlier image, and what is done where there is none.

use jiff::Timestamp;

use super::{
    engine::record,
    facts::{Facts, Presence},
    ledger::{self, Start, spoken},
    moves::{Look, Move, Told},
};
use crate::api::promotion::{
    Actor, Failure, HoldKind, ImagePromotionSpec, ImagePromotionStatus, ImageStatus, Outcome, RolloutKind,
};

/// A way back.
pub(super) struct Back<'a> {
    pub from: &'a ImageStatus,
    pub to: ImageStatus,
    pub reason: String,
    pub by: Actor,
    /// The rollout that failed, where one did.
    pub rollout: Option<u64>,
}

/// Whether an earlier image can be pulled.
pub(super) enum Way {
    Unknown(Look),
    Open,
    /// Why not.
    Shut(String),
}

/// A repository that cannot be asked is no reason not to go back: the digest is known, and nodes may have the image.
pub(super) fn way(facts: &Facts, to: &ImageStatus) -> Way {
    match &facts.presence {
        Some((digest, presence)) if *digest == to.digest => match presence {
            Presence::There | Presence::Unknown => Way::Open,
            Presence::Archived => Way::Shut(format!("{} is archived", spoken(to))),
            Presence::Gone => Way::Shut(format!("{} is gone from the repository", spoken(to))),
        },
        _ => Way::Unknown(Look::Presence(to.digest.clone())),
    }
}

/// Goes back to an earlier image, if it is still there.
pub(super) fn go_back(
    spec: &ImagePromotionSpec,
    facts: &Facts,
    mut status: ImagePromotionStatus,
    back: Back<'_>,
    now: Timestamp,
) -> Move {
    match way(facts, &back.to) {
        Way::Unknown(look) => return Move::Look(look),
        Way::Open => {}
        Way::Shut(why) => {
            let reason = format!("{}; {why}, so the targets stay as they are", back.reason);
            return stay(spec, status, back.from, &reason, back.by, now);
        }
    }
    if let (Some(rollout), Some(_)) = (status.rollout.clone(), back.rollout) {
        ledger::close(&mut status, spec, rollout, Outcome::Failed, back.reason.clone(), now);
    }
    leave(spec, &mut status, back.from, &back.reason, back.by, now);
    ledger::hold(
        &mut status,
        HoldKind::RolledBack,
        Some(back.from),
        back.reason.clone(),
        spec.rollback.until,
        now,
    );
    // What was asked for meanwhile comes next; what was asked for and failed does not.
    let outlives = |asked: &ImageStatus| back.by == Actor::Operator && asked.digest != back.from.digest;
    status.requested = status.requested.filter(outlives);
    status.last_good = Some(back.to.clone());
    let failure = back.rollout.map(|rollout| Failure {
        rollout,
        reason: ledger::bounded(&*back.reason),
    });
    let start = Start {
        kind: RolloutKind::Rollback,
        image: back.to,
        reason: back.reason,
        by: back.by,
        failure,
        spec,
        now,
    };
    let told = ledger::start(&mut status, start);
    record(status, [told])
}

/// The image is not to run again. What the spec forbids it can allow again, so the status does not remember that.
fn leave(
    spec: &ImagePromotionSpec,
    status: &mut ImagePromotionStatus,
    image: &ImageStatus,
    reason: &str,
    by: Actor,
    now: Timestamp,
) {
    match by {
        Actor::Spec => ledger::disown(spec, status, &image.digest),
        Actor::Operator | Actor::Request | Actor::Workload => ledger::reject(spec, status, image, reason, by, now),
    }
}

/// Something failed and there is no way back: the targets stay as they are, and no more is tried.
pub(super) fn stay(
    spec: &ImagePromotionSpec,
    mut status: ImagePromotionStatus,
    image: &ImageStatus,
    reason: &str,
    by: Actor,
    now: Timestamp,
) -> Move {
    if let Some(rollout) = status.rollout.take() {
        ledger::close(&mut status, spec, rollout, Outcome::Failed, reason.to_owned(), now);
    }
    leave(spec, &mut status, image, reason, by, now);
    ledger::hold(
        &mut status,
        HoldKind::Failed,
        Some(image),
        reason.to_owned(),
        spec.rollback.until,
        now,
    );
    status.requested = status.requested.filter(|asked| asked.digest != image.digest);
    if let Some(before) = status.current.take().filter(|before| before.digest != image.digest) {
        status.previous = Some(before);
    }
    status.current = Some(ImageStatus {
        since: Some(now),
        ..image.clone()
    });
    let note = format!("{} has failed: {reason}", spoken(image));
    record(
        status,
        [Told {
            is_warning: true,
            reason: "Failed",
            note,
        }],
    )
}
