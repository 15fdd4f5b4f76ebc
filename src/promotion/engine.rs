//! The next move of a promotion, from its spec, its status and what was seen. It can be asked at any point, also by
//! another process after a crash: what it has decided stands in the status before anything is done about it, and what is
//! done may be done twice.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    answers, drive,
    facts::{Facts, TargetFacts},
    moves::{Action, Look, Move, Record, Rest, TargetName, Told},
    rest, targets,
};
use crate::{
    api::{
        names::Digest,
        promotion::{ImagePromotionSpec, ImagePromotionStatus, TargetStatus, request::Asked},
    },
    control::{plan::Verdict, reason::Reason},
};

/// What the engine decides about.
pub(crate) struct Goal<'a> {
    pub spec: &'a ImagePromotionSpec,
    pub generation: Option<i64>,
    /// Requests that are not answered yet.
    pub requests: &'a [Asked],
}

/// How soon to look again while something moves that no watch tells of.
const SOON: SignedDuration = SignedDuration::from_secs(2);

/// The verdict while somebody has to do something.
const IDLE: Duration = Duration::from_mins(5);

/// The next move.
pub(crate) fn next(goal: &Goal<'_>, status: &ImagePromotionStatus, facts: &Facts, now: Timestamp) -> Move {
    let mut status = status.clone();
    if let Some(asked) = goal.requests.first() {
        return answers::answer(goal.spec, &status, facts, asked, now);
    }
    let Some(seen) = &facts.targets else {
        return Move::Look(Look::Targets);
    };
    let before = std::mem::take(&mut status.targets);
    let wanted = match &status.rollout {
        Some(rollout) => Some(&rollout.image.digest),
        None => status.current.as_ref().map(|image| &image.digest),
    };
    status.targets = targets::seen(&before, seen, wanted, goal.generation, now);
    let state = State {
        goal,
        facts,
        seen,
        before: &before,
        now,
    };
    let abandoned = seen
        .iter()
        .filter(|target| target.found.as_ref().is_some_and(|found| !found.abandoned.is_empty()))
        .find_map(|target| facts.try_once(Action::Withdraw(name(target))));
    if let Some(moved) = abandoned {
        return moved;
    }
    match status.rollout.clone() {
        Some(rollout) => drive::drive(&state, status, &rollout),
        None => rest::rest(&state, status),
    }
}

/// What a decision is made from, besides the status.
pub(super) struct State<'a> {
    pub goal: &'a Goal<'a>,
    pub facts: &'a Facts,
    pub seen: &'a [TargetFacts],
    /// The targets as they were seen before this look.
    pub before: &'a [TargetStatus],
    pub now: Timestamp,
}

impl State<'_> {
    pub(super) fn spec(&self) -> &ImagePromotionSpec {
        self.goal.spec
    }

    /// Whether there should be targets and there are none.
    pub(super) fn lacks_targets(&self) -> bool {
        self.seen.is_empty() && !self.spec().targets.is_empty()
    }

    /// Why the apiserver did not let a target be written, if it was tried in this look.
    pub(super) fn refusal(&self, target: &TargetFacts) -> Option<&str> {
        let refused = self.facts.refused_writes.iter().find(|(of, _)| target.is(of));
        refused.map(|(_, message)| message.as_str())
    }

    /// Whether a target was seen with this digest before.
    pub(super) fn had(&self, target: &TargetFacts, digest: &Digest) -> bool {
        let uid = target.found.as_ref().map(|found| found.uid.as_str());
        self.before.iter().any(|before| {
            target.is_of(before) && before.uid.as_deref() == uid && before.digest.as_ref() == Some(digest)
        })
    }
}

pub(super) fn name(target: &TargetFacts) -> TargetName {
    TargetName {
        kind: target.kind,
        name: target.name.clone(),
    }
}

/// A move that only tells how things stand.
pub(super) fn stand(mut status: ImagePromotionStatus, phase: &str, verdict: Verdict, wake: Option<Timestamp>) -> Move {
    status.phase = Some(phase.to_owned());
    Move::Rest(Box::new(Rest { status, verdict, wake }))
}

/// A move that writes the status first.
pub(super) fn record(status: ImagePromotionStatus, told: impl IntoIterator<Item = Told>) -> Move {
    Move::Record(Box::new(Record {
        status,
        told: told.into_iter().collect(),
    }))
}

pub(super) fn waiting(reason: Reason, message: String) -> Verdict {
    Verdict::Waiting {
        reason,
        message,
        after: IDLE,
    }
}

/// When to look again while something is under way.
pub(super) fn soon(now: Timestamp) -> Timestamp {
    now + SOON
}
