//! A rollout that is under way: written, watched, verified, and ended either way.

use jiff::Timestamp;

use super::{
    back::{Back, go_back, stay},
    choice,
    engine::{State, record, soon, stand, waiting},
    facts::Progress,
    ledger::{self, spoken},
    moves::{Action, Look, Move, Told},
    person,
    watch::{self, Targets, later},
};
use crate::{
    api::{
        promotion::{Actor, HoldKind, ImagePromotionStatus, ImageStatus, Outcome, Phase, RolloutKind, RolloutStatus},
        span::Span,
    },
    control::reason::Reason,
};

pub(super) fn drive(state: &State<'_>, mut status: ImagePromotionStatus, rollout: &RolloutStatus) -> Move {
    if let Some(moved) = overruled(state, &status, rollout).or_else(|| person::by_person(state, &status)) {
        return moved;
    }
    if rollout.phase == Phase::Copying {
        return copy(state, status, rollout);
    }
    match watch::targets(state, &mut status, rollout) {
        Targets::Move(moved) => *moved,
        Targets::Failed(reason) => fail(state, status, rollout, &reason),
        Targets::Waiting(message, until) => wait(state, status, rollout, &message, until),
        Targets::Healthy => onward(state, status, rollout),
    }
}

/// The spec has changed its mind meanwhile.
fn overruled(state: &State<'_>, status: &ImagePromotionStatus, rollout: &RolloutStatus) -> Option<Move> {
    let spec = state.spec();
    let goes_back = rollout.kind == RolloutKind::Rollback;
    // There is room for one answer: once the way back was asked about, the pin has been, and waits for its end.
    let asked = state.facts.presence.as_ref().map(|(digest, _)| digest);
    let is_going_back = asked.is_some() && asked != spec.pin.as_ref().map(|pin| &pin.digest);
    if let Some(pin) = &spec.pin
        && !goes_back
        && pin.digest != rollout.image.digest
        && !is_going_back
    {
        return choice::pinned(state, status, pin);
    }
    let entry = spec.reject.iter().find(|entry| entry.digest == rollout.image.digest)?;
    let reason = format!("spec.reject forbids it: {}", entry.reason);
    let good = ledger::good_before(spec, status, &rollout.image.digest);
    let is_untouched = is_untouched(status, rollout);
    Some(match good {
        Some(good) if !is_untouched => {
            let back = Back {
                from: &rollout.image,
                to: good,
                reason,
                by: Actor::Spec,
                rollout: Some(rollout.id),
            };
            go_back(spec, state.facts, status.clone(), back, state.now)
        }
        None if !goes_back && !is_untouched => {
            let reason = format!("{reason}; {NOWHERE}");
            stay(spec, status.clone(), &rollout.image, &reason, Actor::Spec, state.now)
        }
        _ => fail(state, status.clone(), rollout, &reason),
    })
}

/// Said where there is no way back.
const NOWHERE: &str = "there is no earlier good image to go back to";

/// Whether no target can have the image yet, nor one of a rollout before it.
fn is_untouched(status: &ImagePromotionStatus, rollout: &RolloutStatus) -> bool {
    let digest = |image: &Option<ImageStatus>| image.as_ref().map(|image| image.digest.clone());
    rollout.phase == Phase::Copying && digest(&rollout.from) == digest(&status.current)
}

fn copy(state: &State<'_>, mut status: ImagePromotionStatus, rollout: &RolloutStatus) -> Move {
    let progress = match &state.facts.copy {
        Some((digest, progress)) if *digest == rollout.image.digest => progress,
        _ => return Move::Look(Look::Copy(rollout.image.clone())),
    };
    match progress {
        Progress::NotStarted => Move::Do(Action::StartCopy(rollout.image.clone())),
        Progress::Running(message) => {
            let verdict = waiting(
                Reason::RollingOut,
                format!("copying {}: {message}", spoken(&rollout.image)),
            );
            stand(status, "Copying", verdict, Some(soon(state.now)))
        }
        Progress::Failed(reason) => {
            let reason = format!("it could not be copied: {reason}");
            fail(state, status, rollout, &reason)
        }
        Progress::Done => {
            let note = format!("{} is copied", spoken(&rollout.image));
            enter(&mut status, Phase::RollingOut, state.now);
            record(
                status,
                [Told {
                    is_warning: false,
                    reason: "Copied",
                    note,
                }],
            )
        }
    }
}

/// Enters a phase of the rollout.
fn enter(status: &mut ImagePromotionStatus, phase: Phase, now: Timestamp) {
    if let Some(rollout) = &mut status.rollout {
        rollout.phase = phase;
        rollout.since = now;
    }
}

/// Not every target is healthy with the new image yet.
fn wait(
    state: &State<'_>,
    mut status: ImagePromotionStatus,
    rollout: &RolloutStatus,
    message: &str,
    until: Timestamp,
) -> Move {
    if rollout.phase == Phase::Verifying && is_left(state, rollout) {
        return verify(state, status, rollout);
    }
    // A pod that comes back while the targets are watched starts that time anew.
    if rollout.phase == Phase::Stabilizing {
        enter(&mut status, Phase::RollingOut, state.now);
    }
    let (phase, verb) = match rollout.kind {
        RolloutKind::Rollback => ("RollingBack", "going back to"),
        RolloutKind::Promotion | RolloutKind::Pin => ("RollingOut", "rolling out"),
    };
    let message = format!("{verb} {}: {message}", spoken(&rollout.image));
    let wake = soon(state.now).min(until);
    stand(status, phase, waiting(Reason::RollingOut, message), Some(wake))
}

/// Whether a verification has not been done yet.
fn is_left(state: &State<'_>, rollout: &RolloutStatus) -> bool {
    usize::from(rollout.verification) < state.spec().verification.len()
}

/// Every target is healthy with the new image.
fn onward(state: &State<'_>, mut status: ImagePromotionStatus, rollout: &RolloutStatus) -> Move {
    let spec = state.spec();
    let stabilization = spec.rollout.stabilization;
    // What was good before needs no proof again, and time matters.
    let is_proven = rollout.kind == RolloutKind::Rollback;
    match rollout.phase {
        Phase::Copying | Phase::RollingOut
            if !is_proven && !state.seen.is_empty() && stabilization > Span::default() =>
        {
            enter(&mut status, Phase::Stabilizing, state.now);
            record(status, [])
        }
        Phase::Stabilizing if state.now < later(rollout.since, stabilization) => {
            let message = format!("{} is out and is watched for {stabilization}", spoken(&rollout.image));
            let wake = later(rollout.since, stabilization).min(soon(state.now));
            stand(status, "Stabilizing", waiting(Reason::RollingOut, message), Some(wake))
        }
        Phase::Verifying if is_left(state, rollout) => verify(state, status, rollout),
        Phase::Copying | Phase::RollingOut | Phase::Stabilizing if !is_proven && is_left(state, rollout) => {
            if state.facts.check.is_some() {
                // That is the answer to another rollout's verification; the next look begins without it.
                let message = format!("{} is about to be verified", spoken(&rollout.image));
                return stand(
                    status,
                    "Verifying",
                    waiting(Reason::RollingOut, message),
                    Some(soon(state.now)),
                );
            }
            enter(&mut status, Phase::Verifying, state.now);
            record(status, [])
        }
        Phase::Copying | Phase::RollingOut | Phase::Stabilizing | Phase::Verifying => {
            let told = ledger::succeed(&mut status, spec, state.now);
            record(status, told)
        }
    }
}

fn verify(state: &State<'_>, mut status: ImagePromotionStatus, rollout: &RolloutStatus) -> Move {
    let index = rollout.verification;
    let Some(verification) = state.spec().verification.get(usize::from(index)) else {
        let told = ledger::succeed(&mut status, state.spec(), state.now);
        return record(status, told);
    };
    let progress = match &state.facts.check {
        Some((of, progress)) if *of == index => progress,
        _ => {
            return Move::Look(Look::Check {
                index,
                rollout: rollout.id,
            });
        }
    };
    let until = later(rollout.since, verification.timeout);
    match progress {
        Progress::Done => {
            if let Some(rollout) = &mut status.rollout {
                rollout.verification = index.saturating_add(1);
                rollout.since = state.now;
            }
            record(status, [])
        }
        Progress::Failed(reason) => fail(
            state,
            status,
            rollout,
            &format!("verification {index} failed: {reason}"),
        ),
        Progress::NotStarted | Progress::Running(_) if state.now >= until => fail(
            state,
            status,
            rollout,
            &format!("verification {index} did not succeed within {}", verification.timeout),
        ),
        Progress::NotStarted => Move::Do(Action::StartCheck {
            index,
            rollout: rollout.id,
            image: rollout.image.clone(),
        }),
        Progress::Running(message) => {
            let verdict = waiting(
                Reason::RollingOut,
                format!("verifying {}: {message}", spoken(&rollout.image)),
            );
            stand(status, "Verifying", verdict, Some(soon(state.now).min(until)))
        }
    }
}

/// The rollout has failed: back to the last good image, or, where there is none or that failed too, no further.
fn fail(state: &State<'_>, mut status: ImagePromotionStatus, rollout: &RolloutStatus, reason: &str) -> Move {
    let spec = state.spec();
    if rollout.kind == RolloutKind::Rollback {
        // The image stays the wanted one: it was good, and there is nothing better.
        status.current = Some(ImageStatus {
            since: Some(state.now),
            ..rollout.image.clone()
        });
        let away = rollout.from.as_ref().unwrap_or(&rollout.image);
        let note = format!("going back to {} failed: {reason}", spoken(&rollout.image));
        return give_up(state, status, rollout, HoldKind::Failed, away, reason, note);
    }
    if is_untouched(&status, rollout) {
        // The targets are where they would go back to.
        let note = format!("{} was not rolled out: {reason}", spoken(&rollout.image));
        return give_up(
            state,
            status,
            rollout,
            HoldKind::RolledBack,
            &rollout.image,
            reason,
            note,
        );
    }
    let good = ledger::good_before(spec, &status, &rollout.image.digest);
    let why = match good {
        Some(good) if spec.rollback.on_failure => {
            let back = Back {
                from: &rollout.image,
                to: good,
                reason: reason.to_owned(),
                by: Actor::Operator,
                rollout: Some(rollout.id),
            };
            return go_back(spec, state.facts, status, back, state.now);
        }
        Some(_) => "spec.rollback.onFailure is false, so the targets stay as they are",
        None => NOWHERE,
    };
    let reason = format!("{reason}; {why}");
    stay(spec, status, &rollout.image, &reason, Actor::Operator, state.now)
}

/// Ends a failed rollout without another.
fn give_up(
    state: &State<'_>,
    mut status: ImagePromotionStatus,
    rollout: &RolloutStatus,
    kind: HoldKind,
    away: &ImageStatus,
    reason: &str,
    note: String,
) -> Move {
    let spec = state.spec();
    let outcome = Outcome::Failed;
    status.rollout = None;
    ledger::close(
        &mut status,
        spec,
        rollout.clone(),
        outcome,
        reason.to_owned(),
        state.now,
    );
    let until = spec.rollback.until;
    ledger::hold(&mut status, kind, Some(away), note.clone(), until, state.now);
    status.requested = status.requested.filter(|asked| asked.digest != rollout.image.digest);
    let told = Told {
        is_warning: true,
        reason: "Failed",
        note,
    };
    record(status, [told])
}
