//! A rollout that is under way: written, watched, verified, and ended either way.

use jiff::{SignedDuration, Timestamp};

use super::{
    engine::{self, Back, State, go_back, record, stand, stay, waiting},
    facts::{Health, Progress, TargetFacts},
    ledger::{self, Start, spoken},
    moves::{Action, Look, Move, Told},
    stuck,
};
use crate::{
    api::{
        promotion::{
            Actor, HoldKind, ImagePromotionStatus, ImageStatus, Outcome, Phase, RolloutKind, RolloutOrder,
            RolloutStatus, TargetPhase, TargetStatus, Via,
        },
        span::Span,
    },
    control::{plan::Verdict, reason::Reason},
};

pub(super) fn drive(state: &State<'_>, status: ImagePromotionStatus, rollout: &RolloutStatus) -> Move {
    if let Some(moved) = overruled(state, &status, rollout) {
        return moved;
    }
    if let Some(moved) = engine::by_person(state, &status) {
        return moved;
    }
    if rollout.phase == Phase::Copying {
        return copy(state, status, rollout);
    }
    match targets(state, status, rollout) {
        Targets::Move(moved) => *moved,
        Targets::Failed(status, reason) => fail(state, *status, rollout, &reason),
        Targets::Healthy(status) => onward(state, *status, rollout),
    }
}

/// The spec has changed its mind meanwhile.
fn overruled(state: &State<'_>, status: &ImagePromotionStatus, rollout: &RolloutStatus) -> Option<Move> {
    let spec = state.spec();
    if let Some(pin) = &spec.pin
        && rollout.kind != RolloutKind::Rollback
        && pin.digest != rollout.image.digest
    {
        let mut status = status.clone();
        let image = ledger::known(&status, &pin.digest).unwrap_or_else(|| ledger::nameless(pin.digest.clone()));
        let start = Start {
            kind: RolloutKind::Pin,
            image,
            reason: format!("it is pinned: {}", pin.reason),
            by: Actor::Spec,
            failure: None,
            spec,
            now: state.now,
        };
        let told = ledger::start(&mut status, start);
        return Some(record(status, [told]));
    }
    let rejected = spec.reject.iter().find(|entry| entry.digest == rollout.image.digest)?;
    if rollout.kind == RolloutKind::Rollback {
        return None;
    }
    Some(fail(
        state,
        status.clone(),
        rollout,
        &format!("spec.reject forbids it: {}", rejected.reason),
    ))
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
            stand(status, "Copying", verdict, Some(engine::soon(state.now)))
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

/// How the targets are with the image of the rollout.
enum Targets {
    Move(Box<Move>),
    Failed(Box<ImagePromotionStatus>, String),
    Healthy(Box<ImagePromotionStatus>),
}

fn targets(state: &State<'_>, mut status: ImagePromotionStatus, rollout: &RolloutStatus) -> Targets {
    let spec = state.spec();
    let mut progressing: Option<(String, Timestamp)> = None;
    for (position, target) in state.seen.iter().enumerate() {
        let Some(entry) = status
            .targets
            .iter()
            .find(|entry| (entry.kind, &entry.name) == (target.kind, &target.name))
            .cloned()
        else {
            continue;
        };
        let until = deadline(state, rollout, &entry, position);
        let what = format!("{} {}", entry.kind.as_str(), entry.name);
        match entry.phase {
            TargetPhase::Refused => {
                let verdict = Verdict::blocked(Reason::TargetOwned, format!("{what}: {}", entry.message));
                return Targets::Move(Box::new(stand(status, "Refused", verdict, None)));
            }
            TargetPhase::Contested => {
                let verdict = Verdict::blocked(Reason::Contested, format!("{what}: {}", entry.message));
                return Targets::Move(Box::new(stand(status, "Contested", verdict, None)));
            }
            TargetPhase::Missing if state.now >= until => return Targets::Failed(Box::new(status), entry.message),
            TargetPhase::Missing => {
                progressing.get_or_insert((entry.message.clone(), until));
                if spec.rollout.order == RolloutOrder::InOrder {
                    break;
                }
                continue;
            }
            TargetPhase::Healthy | TargetPhase::Progressing | TargetPhase::Failed => {}
        }
        let runs = target.found.as_ref().and_then(|found| found.digest.as_ref()) == Some(&rollout.image.digest);
        if !runs && state.now >= until {
            let reason = format!("{what} did not get the image within {}", spec.rollout.timeout);
            return Targets::Failed(Box::new(status), reason);
        }
        if let Some(moved) = engine::write_back(state, &mut status, target, &rollout.image) {
            return Targets::Move(Box::new(moved));
        }
        if let Some(moved) = stuck::replace(rollout, target) {
            return Targets::Move(Box::new(moved));
        }
        if !runs {
            progressing.get_or_insert((format!("{what} waits for its owner to take the image up"), until));
        } else if let Some(reason) = failed(state, target, &what) {
            return Targets::Failed(Box::new(status), reason);
        } else if let Some(Health::Progressing(message)) = target.found.as_ref().map(|found| &found.health) {
            if state.now >= until {
                let reason = format!("{what} was not healthy within {}: {message}", spec.rollout.timeout);
                return Targets::Failed(Box::new(status), reason);
            }
            progressing.get_or_insert((format!("{what}: {message}"), until));
        }
        if progressing.is_some() && spec.rollout.order == RolloutOrder::InOrder {
            break;
        }
    }
    let publishes = spec.targets.iter().any(|target| target.via == Via::Publish);
    if publishes && status.published.as_ref() != Some(&rollout.image.digest) {
        return Targets::Move(Box::new(Move::Do(Action::Publish(rollout.image.clone()))));
    }
    if let Some(moved) = engine::mark(state.seen, &status) {
        return Targets::Move(Box::new(moved));
    }
    let Some((message, until)) = progressing else {
        return Targets::Healthy(Box::new(status));
    };
    // While it settles, a pod that comes back starts the time anew; the deadline of its target still holds.
    if matches!(rollout.phase, Phase::Stabilizing) {
        enter(&mut status, Phase::RollingOut, state.now);
    }
    let phase = if rollout.kind == RolloutKind::Rollback {
        "RollingBack"
    } else {
        "RollingOut"
    };
    let verb = if rollout.kind == RolloutKind::Rollback {
        "going back to"
    } else {
        "rolling out"
    };
    let verdict = waiting(
        Reason::RollingOut,
        format!("{verb} {}: {message}", spoken(&rollout.image)),
    );
    let wake = engine::soon(state.now).min(until);
    Targets::Move(Box::new(stand(status, phase, verdict, Some(wake))))
}

/// When a target has had its time. One that has the image already is timed from then, one of a row from when those
/// before it had theirs.
fn deadline(state: &State<'_>, rollout: &RolloutStatus, entry: &TargetStatus, position: usize) -> Timestamp {
    let timeout = SignedDuration::try_from(state.spec().rollout.timeout.duration()).unwrap_or(SignedDuration::MAX);
    let has = entry.digest.as_ref() == Some(&rollout.image.digest);
    let turns = match state.spec().rollout.order {
        RolloutOrder::InOrder => i32::try_from(position).unwrap_or(i32::MAX).saturating_add(1),
        RolloutOrder::Together => 1,
    };
    let began = rollout.started_at.max(copied_at(rollout));
    match (has, entry.since) {
        (true, Some(since)) => later(since.max(began), timeout),
        _ => later(began, timeout.saturating_mul(turns)),
    }
}

/// A copy takes the time it takes; the targets are timed from its end.
fn copied_at(rollout: &RolloutStatus) -> Timestamp {
    match rollout.phase {
        Phase::RollingOut => rollout.since,
        _ => rollout.started_at,
    }
}

fn later(when: Timestamp, by: SignedDuration) -> Timestamp {
    when.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Why a target will not become healthy, if so.
fn failed(state: &State<'_>, target: &TargetFacts, what: &str) -> Option<String> {
    let found = target.found.as_ref()?;
    let most = state.spec().rollout.max_restarts;
    match &found.health {
        Health::Failed(message) => Some(format!("{what}: {message}")),
        _ if found.restarts > most => Some(format!("{what}: its new pods have restarted more than {most} times")),
        Health::Healthy | Health::Progressing(_) => None,
    }
}

/// Every target is healthy with the new image.
fn onward(state: &State<'_>, mut status: ImagePromotionStatus, rollout: &RolloutStatus) -> Move {
    let spec = state.spec();
    // What was good before needs no proof again, and time matters.
    let proven = rollout.kind == RolloutKind::Rollback;
    match rollout.phase {
        Phase::Copying | Phase::RollingOut
            if !proven && !state.seen.is_empty() && spec.rollout.stabilization > Span::default() =>
        {
            enter(&mut status, Phase::Stabilizing, state.now);
            record(status, [])
        }
        Phase::Stabilizing if state.now < settled_at(rollout, spec.rollout.stabilization) => {
            let message = format!(
                "{} is out and is watched for {}",
                spoken(&rollout.image),
                spec.rollout.stabilization
            );
            let wake = settled_at(rollout, spec.rollout.stabilization).min(engine::soon(state.now));
            stand(status, "Stabilizing", waiting(Reason::RollingOut, message), Some(wake))
        }
        Phase::Verifying => verify(state, status, rollout),
        Phase::Copying | Phase::RollingOut | Phase::Stabilizing if !proven && !spec.verification.is_empty() => {
            enter(&mut status, Phase::Verifying, state.now);
            record(status, [])
        }
        Phase::Copying | Phase::RollingOut | Phase::Stabilizing => {
            let told = ledger::succeed(&mut status, spec, state.now);
            record(status, told)
        }
    }
}

fn settled_at(rollout: &RolloutStatus, stabilization: Span) -> Timestamp {
    later(
        rollout.since,
        SignedDuration::try_from(stabilization.duration()).unwrap_or(SignedDuration::MAX),
    )
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
    let until = later(
        rollout.since,
        SignedDuration::try_from(verification.timeout.duration()).unwrap_or(SignedDuration::MAX),
    );
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
            stand(status, "Verifying", verdict, Some(engine::soon(state.now).min(until)))
        }
    }
}

/// The rollout has failed: back to the last good image, or, where there is none or that failed too, no further.
fn fail(state: &State<'_>, mut status: ImagePromotionStatus, rollout: &RolloutStatus, reason: &str) -> Move {
    let spec = state.spec();
    if rollout.kind == RolloutKind::Rollback {
        ledger::close(
            &mut status,
            spec,
            rollout.clone(),
            Outcome::Failed,
            reason.to_owned(),
            state.now,
        );
        status.rollout = None;
        // The image stays the wanted one: it was good, and there is nothing better.
        status.current = Some(ImageStatus {
            since: Some(state.now),
            ..rollout.image.clone()
        });
        let reason = format!("going back to {} failed: {reason}", spoken(&rollout.image));
        let away = rollout.from.clone().unwrap_or_else(|| rollout.image.clone());
        ledger::hold(
            &mut status,
            HoldKind::Failed,
            Some(&away),
            reason.clone(),
            spec.rollback.until,
            state.now,
        );
        return record(
            status,
            [Told {
                is_warning: true,
                reason: "Failed",
                note: reason,
            }],
        );
    }
    if rollout.phase == Phase::Copying
        && rollout.from.as_ref().map(|image| &image.digest) == status.current.as_ref().map(|image| &image.digest)
    {
        // Nothing was written to a target yet: they are where they would go back to.
        ledger::close(
            &mut status,
            spec,
            rollout.clone(),
            Outcome::Failed,
            reason.to_owned(),
            state.now,
        );
        status.rollout = None;
        ledger::hold(
            &mut status,
            HoldKind::RolledBack,
            Some(&rollout.image),
            reason.to_owned(),
            spec.rollback.until,
            state.now,
        );
        let note = format!("{} was not rolled out: {reason}", spoken(&rollout.image));
        return record(
            status,
            [Told {
                is_warning: true,
                reason: "Failed",
                note,
            }],
        );
    }
    let good = ledger::good_before(spec, &status, &rollout.image.digest);
    match good {
        Some(good) if spec.rollback.on_failure => {
            let back = Back {
                from: &rollout.image,
                to: good,
                reason: reason.to_owned(),
                by: Actor::Operator,
                rollout: Some(rollout.id),
            };
            go_back(spec, state.facts, status, back, state.now)
        }
        Some(_) => stay(
            spec,
            status,
            &rollout.image,
            &format!("{reason}; spec.rollback.onFailure is false, so the targets stay as they are"),
            state.now,
        ),
        None => stay(
            spec,
            status,
            &rollout.image,
            &format!("{reason}; there is no earlier good image to go back to"),
            state.now,
        ),
    }
}
