//! How the targets are with the image of a rollout.

use jiff::{SignedDuration, Timestamp};

use super::{
    engine::{State, soon, stand},
    facts::{Health, TargetFacts},
    keep,
    moves::Move,
    stuck,
};
use crate::{
    api::{
        promotion::{ImagePromotionStatus, Phase, RolloutKind, RolloutOrder, RolloutStatus, TargetPhase, TargetStatus},
        span::Span,
    },
    control::{plan::Verdict, reason::Reason},
};

/// How the targets are with the image of the rollout.
pub(super) enum Targets {
    Move(Box<Move>),
    Failed(String),
    /// Not all of them are there yet: what is waited for, and until when at most.
    Waiting(String, Timestamp),
    Healthy,
}

/// Writes the image to the targets, each in its turn, and judges how they are with it.
pub(super) fn targets(state: &State<'_>, status: &mut ImagePromotionStatus, rollout: &RolloutStatus) -> Targets {
    let goes_back = rollout.kind == RolloutKind::Rollback;
    // On the way back nobody waits for a turn.
    let in_order = state.spec().rollout.order == RolloutOrder::InOrder && !goes_back;
    let mut waiting: Option<(String, Timestamp)> = None;
    let mut stuck: Option<(&'static str, Verdict)> = None;
    if state.lacks_targets() {
        let until = later(copied_at(rollout), state.spec().rollout.timeout);
        waiting = Some(("no workload of this namespace matches spec.targets".into(), until));
    }
    for (position, target) in state.seen.iter().enumerate() {
        let Some(entry) = status.targets.iter().find(|entry| target.is_of(entry)).cloned() else {
            continue;
        };
        let turns = if in_order { position.saturating_add(1) } else { 1 };
        match one(
            state,
            status,
            rollout,
            target,
            &entry,
            turns,
            stuck.is_some() && !goes_back,
        ) {
            One::Move(moved) => return Targets::Move(moved),
            One::Failed(reason) => return Targets::Failed(reason),
            One::Stuck(phase, verdict) => {
                stuck.get_or_insert((phase, verdict));
            }
            One::Waiting(message, until) => {
                waiting.get_or_insert((message, until));
            }
            One::Healthy => {}
        }
        if in_order && (waiting.is_some() || stuck.is_some()) {
            break;
        }
    }
    let moved = keep::publish(state, status, &rollout.image).or_else(|| keep::mark(state, status));
    if let Some(moved) = moved {
        return Targets::Move(Box::new(moved));
    }
    match (stuck, waiting) {
        (Some((phase, verdict)), waiting) => {
            let wake = waiting.filter(|_| goes_back).map(|_| soon(state.now));
            Targets::Move(Box::new(stand(status.clone(), phase, verdict, wake)))
        }
        (None, Some((_, until))) if state.lacks_targets() && state.now >= until => {
            Targets::Failed("no workload of this namespace matches spec.targets".into())
        }
        (None, Some((message, until))) => Targets::Waiting(message, until),
        (None, None) => Targets::Healthy,
    }
}

/// How one target is.
enum One {
    Move(Box<Move>),
    Failed(String),
    /// It cannot be written to; the others are judged all the same.
    Stuck(&'static str, Verdict),
    Waiting(String, Timestamp),
    Healthy,
}

fn one(
    state: &State<'_>,
    status: &mut ImagePromotionStatus,
    rollout: &RolloutStatus,
    target: &TargetFacts,
    entry: &TargetStatus,
    turns: usize,
    is_halted: bool,
) -> One {
    let timeout = state.spec().rollout.timeout;
    let what = format!("{} {}", entry.kind.as_str(), entry.name);
    let until = deadline(state, rollout, entry, turns);
    let is_late = state.now >= until;
    match entry.phase {
        TargetPhase::Refused => {
            let verdict = Verdict::blocked(Reason::TargetOwned, format!("{what}: {}", entry.message));
            return One::Stuck("Refused", verdict);
        }
        TargetPhase::Contested => {
            let verdict = Verdict::blocked(Reason::Contested, format!("{what}: {}", entry.message));
            return One::Stuck("Contested", verdict);
        }
        TargetPhase::Missing if is_late => return One::Failed(entry.message.clone()),
        TargetPhase::Missing => return One::Waiting(entry.message.clone(), until),
        TargetPhase::Healthy | TargetPhase::Progressing | TargetPhase::Failed => {}
    }
    let digest = Some(&rollout.image.digest);
    let runs = target.found.as_ref().and_then(|found| found.digest.as_ref()) == digest;
    // What was not written yet is written, however late: the operator may have been away.
    if !is_halted && let Some(moved) = keep::write_back(state, status, target, &rollout.image) {
        return One::Move(Box::new(moved));
    }
    if !runs {
        let is_written = target.written.as_ref() == digest;
        return match state.refusal(target) {
            Some(message) if is_late => One::Failed(format!("{what} could not be written: {message}")),
            Some(message) => One::Waiting(format!("{what} could not be written: {message}"), until),
            None if is_late && is_written => One::Failed(format!("{what} did not get the image within {timeout}")),
            None => One::Waiting(format!("{what} waits for its owner to take the image up"), until),
        };
    }
    if let Some(moved) = stuck::replace(state.facts, rollout, target) {
        return One::Move(Box::new(moved));
    }
    if let Some(reason) = failed(state, target, &what) {
        return One::Failed(reason);
    }
    match target.found.as_ref().map(|found| &found.health) {
        Some(Health::Progressing(message)) if is_late => {
            One::Failed(format!("{what} was not healthy within {timeout}: {message}"))
        }
        Some(Health::Progressing(message)) => One::Waiting(format!("{what}: {message}"), until),
        _ => One::Healthy,
    }
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

/// When a target has had its time. One that got the image in this rollout is timed from then, one of a row from when
/// those before it had theirs.
fn deadline(state: &State<'_>, rollout: &RolloutStatus, entry: &TargetStatus, turns: usize) -> Timestamp {
    let settings = &state.spec().rollout;
    // A verification has a time of its own, and says what matters; afterwards the targets must be healthy again.
    if rollout.phase == Phase::Verifying {
        let is_last = usize::from(rollout.verification) >= state.spec().verification.len();
        return if is_last {
            later(rollout.since, settings.timeout)
        } else {
            Timestamp::MAX
        };
    }
    let has = entry.digest.as_ref() == Some(&rollout.image.digest);
    match entry.since.filter(|since| has && *since >= rollout.started_at) {
        // It was healthy once and is watched: while that lasts it may come to harm and recover, but not for ever.
        Some(since) if since < rollout.since || rollout.phase == Phase::Stabilizing => {
            later(later(since, settings.timeout), settings.stabilization)
        }
        Some(since) => later(since, settings.timeout),
        None if has => later(copied_at(rollout), settings.timeout),
        None => {
            let turns = u64::try_from(turns).unwrap_or(u64::MAX);
            let all = settings.timeout.duration().as_secs().saturating_mul(turns);
            later(copied_at(rollout), Span::seconds(all))
        }
    }
}

/// A copy takes the time it takes; the targets are timed from its end.
fn copied_at(rollout: &RolloutStatus) -> Timestamp {
    match rollout.phase {
        Phase::RollingOut | Phase::Stabilizing => rollout.since,
        Phase::Copying | Phase::Verifying => rollout.started_at,
    }
}

/// A point in time, later by so much.
pub(super) fn later(when: Timestamp, by: Span) -> Timestamp {
    let by = SignedDuration::try_from(by.duration()).unwrap_or(SignedDuration::MAX);
    when.checked_add(by).unwrap_or(Timestamp::MAX)
}
