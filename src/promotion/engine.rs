//! The next move of a promotion, from its spec, its status and what was seen. It can be asked at any point, also by
//! another process after a crash: what it has decided stands in the status before anything is done about it, and what is
//! done may be done twice.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{
    answers, drive,
    facts::{Facts, Origin, Presence, Selection, TargetFacts},
    ledger::{self, Start, spoken},
    moves::{Action, Look, Move, Record, Rest, TargetName, Told},
    request::Request,
    targets,
};
use crate::{
    api::{
        names::Digest,
        promotion::{
            Actor, Blocked, HistoryEntry, HoldKind, ImagePromotionSpec, ImagePromotionStatus, ImageStatus, Outcome,
            RolloutKind, TargetPhase, TargetStatus, Via,
        },
    },
    control::{plan::Verdict, reason::Reason},
};

/// A request as the annotations have it: its name, its whole value, and what it asks for.
pub(crate) type Asked = (&'static str, String, Result<Request, String>);

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
    // An edit of the spec is a new beginning for a target that was contested.
    if status
        .common
        .observed_generation
        .is_some_and(|seen| Some(seen) != goal.generation)
    {
        targets::forgive(&mut status.targets);
    }
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
    status.targets = targets::seen(&before, seen, wanted, now);
    let state = State {
        goal,
        facts,
        seen,
        before: &before,
        now,
    };
    if let Some(target) = seen
        .iter()
        .find(|target| target.found.as_ref().is_some_and(|found| !found.abandoned.is_empty()))
    {
        return Move::Do(Action::Withdraw(name(target)));
    }
    match status.rollout.clone() {
        Some(rollout) => drive::drive(&state, status, &rollout),
        None => rest(&state, status),
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

    /// Whether a target was seen with this digest before.
    fn had(&self, target: &TargetFacts, digest: &Digest) -> bool {
        let uid = target.found.as_ref().map(|found| found.uid.as_str());
        self.before.iter().any(|before| {
            (before.kind, &before.name) == (target.kind, &target.name)
                && before.uid.as_deref() == uid
                && before.digest.as_ref() == Some(digest)
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

/// Nothing is under way.
fn rest(state: &State<'_>, mut status: ImagePromotionStatus) -> Move {
    if status.current.is_none() && !state.seen.is_empty() && status.history.is_empty() {
        match baseline(state, &mut status) {
            Baseline::Adopted => {
                let note = status
                    .current
                    .as_ref()
                    .map(|image| format!("The targets run {}", spoken(image)));
                let told = note.map(|note| Told {
                    is_warning: false,
                    reason: "Found",
                    note,
                });
                return record(status, told);
            }
            Baseline::Look => return Move::Look(Look::Baseline),
            Baseline::Nothing => {}
        }
    }
    if let Some(moved) = by_person(state, &status) {
        return moved;
    }
    if let Some(unfit) = unfit(&status) {
        return unfit;
    }
    if let Some(pin) = &state.spec().pin
        && status.current.as_ref().map(|image| &image.digest) != Some(&pin.digest)
    {
        return to_pin(state, status, pin.digest.clone());
    }
    if state.spec().pin.is_none()
        && let Some(moved) = to_candidate(state, &mut status)
    {
        return moved;
    }
    if let Some(moved) = keep(state, &mut status) {
        return moved;
    }
    settle(state, status)
}

/// What became of the question which image ran before this promotion did anything.
enum Baseline {
    Look,
    Adopted,
    Nothing,
}

/// Takes what the targets run for the current image, and for a good one if they are healthy: there must be something to
/// go back to. What was taken back from a workload by an earlier promotion stays rejected.
fn baseline(state: &State<'_>, status: &mut ImagePromotionStatus) -> Baseline {
    let Some(found) = &state.facts.baseline else {
        return Baseline::Look;
    };
    let mut changed = false;
    for target in state.seen.iter().filter_map(|target| target.found.as_ref()) {
        for digest in target.rejected.iter().rev() {
            if !ledger::is_rejected(state.spec(), status, digest) {
                let image = ledger::nameless(digest.clone());
                ledger::reject(
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
    if changed { Baseline::Adopted } else { Baseline::Nothing }
}

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
    let (target, found, image) = state.seen.iter().find_map(|target| {
        let found = target.found.as_ref()?;
        let digest = found.digest.as_ref().filter(|digest| **digest != left.digest)?;
        let by_hand = found.writer.as_ref().is_some_and(|writer| writer.is_person);
        let image = ledger::known(status, digest)?;
        let forbidden = state.spec().reject.iter().any(|entry| entry.digest == *digest);
        (by_hand && state.had(target, &left.digest) && !forbidden).then_some((target, found, image))
    })?;
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
    ledger::reject(&mut status, &left, &reason, Actor::Workload, state.now);
    ledger::hold(
        &mut status,
        HoldKind::Person,
        Some(&left),
        reason.clone(),
        state.spec().rollback.until,
        state.now,
    );
    status.previous = Some(left);
    status.current = Some(ImageStatus {
        since: Some(state.now),
        ..image.clone()
    });
    status.last_good.clone_from(&status.current);
    status.requested = None;
    status.last_rollout += 1;
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
    let note = format!("{reason}: taken for a rollback; nothing newer is rolled out until the hold ends");
    Some(record(
        status,
        [Told {
            is_warning: false,
            reason: "RolledBackByHand",
            note,
        }],
    ))
}

/// A target that cannot be written to. Targets move as one, so none is.
fn unfit(status: &ImagePromotionStatus) -> Option<Move> {
    let find = |phase: TargetPhase| status.targets.iter().find(|target| target.phase == phase);
    let (target, phase, reason) = None
        .or_else(|| find(TargetPhase::Missing).map(|target| (target, "Waiting", Reason::TargetMissing)))
        .or_else(|| find(TargetPhase::Refused).map(|target| (target, "Refused", Reason::TargetOwned)))
        .or_else(|| find(TargetPhase::Contested).map(|target| (target, "Contested", Reason::Contested)))?;
    let message = match target.uid {
        None => target.message.clone(),
        Some(_) => format!("{} {}: {}", target.kind.as_str(), target.name, target.message),
    };
    let verdict = match reason {
        Reason::TargetMissing => waiting(reason, message),
        _ => Verdict::blocked(reason, message),
    };
    Some(stand(status.clone(), phase, verdict, None))
}

/// The spec pins another image than the targets run.
fn to_pin(state: &State<'_>, mut status: ImagePromotionStatus, digest: Digest) -> Move {
    if status.rejected.iter().any(|rejection| rejection.digest == digest) {
        let message = format!(
            "spec.pin names {}, which has failed and was taken back; pin another image, or ask for it with the request promote",
            digest.short()
        );
        return stand(status, "Held", Verdict::blocked(Reason::Failed, message), None);
    }
    let image = ledger::known(&status, &digest).unwrap_or_else(|| ledger::nameless(digest));
    let reason = state
        .spec()
        .pin
        .as_ref()
        .map(|pin| pin.reason.clone())
        .unwrap_or_default();
    status.hold = None;
    status.requested = None;
    let start = Start {
        kind: RolloutKind::Pin,
        image,
        reason: format!("it is pinned: {reason}"),
        by: Actor::Spec,
        failure: None,
        spec: state.spec(),
        now: state.now,
    };
    let told = ledger::start(&mut status, start);
    record(status, [told])
}

/// Looks for another image to run. `None` where there is none, or it has to wait.
fn to_candidate(state: &State<'_>, status: &mut ImagePromotionStatus) -> Option<Move> {
    let selection = match (&status.requested, &state.facts.selection) {
        (Some(asked), _) => Selection::Picked(asked.clone()),
        (None, None) => return Some(Move::Look(Look::Selection)),
        (None, Some(selection)) => selection.clone(),
    };
    let candidate = match selection {
        Selection::Picked(image) => image,
        // What was blocked is no longer a candidate, and what cannot be seen leaves things as they are.
        Selection::Nothing(_) => {
            status.candidate = None;
            status.blocked_by.clear();
            return None;
        }
        Selection::Unknown(_) => return None,
    };
    let same = status.candidate.clone().filter(|old| old.digest == candidate.digest);
    let since = same.as_ref().map_or(Some(state.now), |old| old.since);
    status.candidate = Some(ImageStatus {
        since,
        ..candidate.clone()
    });
    let is_current = status
        .current
        .as_ref()
        .is_some_and(|image| image.digest == candidate.digest);
    if is_current {
        status.blocked_by.clear();
        // A tag that was added later is a better name than none.
        if let Some(current) = &mut status.current {
            current.name.clone_from(&candidate.name);
            current.tag.clone_from(&candidate.tag);
            current.pushed_at = candidate.pushed_at;
        }
        return None;
    }
    if !ledger::is_past_hold(state.spec(), status, &candidate) {
        status.blocked_by.clear();
        return None;
    }
    let closed = match &state.facts.gates {
        Some((digest, closed)) if *digest == candidate.digest => closed,
        _ => return Some(Move::Look(Look::Gates(candidate))),
    };
    if !closed.is_empty() {
        let old = std::mem::take(&mut status.blocked_by);
        let since = |gate| {
            let before = old.iter().find(|blocked| blocked.gate == gate && same.is_some());
            before.map_or(state.now, |blocked| blocked.since)
        };
        status.blocked_by = closed
            .iter()
            .take(8)
            .map(|closed| Blocked {
                gate: closed.gate,
                message: {
                    let mut message = closed.message.clone();
                    crate::control::events::cut(&mut message, 1_000);
                    message
                },
                since: since(closed.gate),
            })
            .collect();
        return None;
    }
    status.hold = None;
    let reason = match &status.requested {
        Some(_) => "it was asked for by request",
        None => "",
    };
    let start = Start {
        kind: RolloutKind::Promotion,
        image: candidate,
        reason: reason.into(),
        by: if status.requested.is_some() {
            Actor::Request
        } else {
            Actor::Operator
        },
        failure: None,
        spec: state.spec(),
        now: state.now,
    };
    let told = ledger::start(status, start);
    Some(record(status.clone(), [told]))
}

/// Keeps the targets, their notes and the verified tag as they are to be, and watches over the running image.
fn keep(state: &State<'_>, status: &mut ImagePromotionStatus) -> Option<Move> {
    let current = status.current.clone()?;
    for target in state.seen {
        if let Some(moved) = write_back(state, status, target, &current) {
            return Some(moved);
        }
    }
    if let Some(moved) = mark(state.seen, status) {
        return Some(moved);
    }
    let publishes = state.spec().targets.iter().any(|target| target.via == Via::Publish);
    if publishes && status.published.as_ref() != Some(&current.digest) {
        return Some(Move::Do(Action::Publish(current)));
    }
    if let (Some(on_verified), Some(good)) = (&state.spec().on_verified, &status.last_good)
        && good.digest == current.digest
        && status
            .verified_tag
            .as_ref()
            .map(|image| (&image.digest, image.tag.as_ref()))
            != Some((&good.digest, Some(&on_verified.tag)))
    {
        return Some(Move::Do(Action::Retag {
            tag: on_verified.tag.clone(),
            image: good.clone(),
        }));
    }
    watch_over(state, status, &current)
}

/// Writes the image to a target that does not have it. Where it had it before, somebody else wrote another: that is
/// counted first.
pub(super) fn write_back(
    state: &State<'_>,
    status: &mut ImagePromotionStatus,
    target: &TargetFacts,
    image: &ImageStatus,
) -> Option<Move> {
    let found = target.found.as_ref()?;
    if target.written.as_ref() == Some(&image.digest) || target.via == Via::Publish {
        return None;
    }
    let entry = status
        .targets
        .iter_mut()
        .find(|entry| (entry.kind, &entry.name) == (target.kind, &target.name))?;
    if matches!(
        entry.phase,
        TargetPhase::Missing | TargetPhase::Refused | TargetPhase::Contested
    ) {
        return None;
    }
    // Where the owner has not taken up yet what it was to read, the workload is as it was, and nobody wrote to it.
    let differs = found.digest.as_ref() != Some(&image.digest);
    if differs && state.had(target, &image.digest) && targets::count_revert(entry, found, state.now) {
        let who = entry.contested_by.clone().unwrap_or_else(|| "Somebody".into());
        let images = found.images.join(", ");
        let note = format!(
            "{who} set {} to {images}; it is set back to {}",
            name(target),
            spoken(image)
        );
        return Some(record(
            status.clone(),
            [Told {
                is_warning: true,
                reason: "ImageReverted",
                note,
            }],
        ));
    }
    Some(Move::Do(Action::Write {
        target: name(target),
        image: image.clone(),
    }))
}

/// Notes on the targets what was taken back, so that a promotion that is created again knows.
pub(super) fn mark(seen: &[TargetFacts], status: &ImagePromotionStatus) -> Option<Move> {
    let digests: Vec<Digest> = status
        .rejected
        .iter()
        .map(|rejection| rejection.digest.clone())
        .collect();
    let target = seen
        .iter()
        .find(|target| target.found.as_ref().is_some_and(|found| found.rejected != digests))?;
    Some(Move::Do(Action::MarkRejected {
        target: name(target),
        digests,
    }))
}

/// Findings that appear later on the running image.
fn watch_over(state: &State<'_>, status: &mut ImagePromotionStatus, current: &ImageStatus) -> Option<Move> {
    if state.spec().gates.as_ref().is_none_or(|gates| gates.scan.is_none()) {
        status.regression = None;
        return None;
    }
    let found = match &state.facts.regression {
        Some((digest, found)) if *digest == current.digest => found,
        _ => return Some(Move::Look(Look::Regression(current.clone()))),
    };
    let news = found.is_some() && status.regression.is_none();
    status.regression.clone_from(found);
    let found = found.as_ref()?;
    if state.spec().rollback.on_scan_regression
        && state.spec().pin.is_none()
        && !ledger::is_rejected(state.spec(), status, &current.digest)
        && let Some(good) = ledger::good_before(state.spec(), status, &current.digest)
    {
        return Some(go_back(
            state.spec(),
            state.facts,
            status.clone(),
            Back {
                from: current,
                to: good,
                reason: found.clone(),
                by: Actor::Operator,
                rollout: None,
            },
            state.now,
        ));
    }
    news.then(|| {
        let note = format!(
            "{} runs and would no longer pass the scan gate: {found}",
            spoken(current)
        );
        record(
            status.clone(),
            [Told {
                is_warning: true,
                reason: "ScanRegression",
                note,
            }],
        )
    })
}

/// A way back.
pub(super) struct Back<'a> {
    pub from: &'a ImageStatus,
    pub to: ImageStatus,
    pub reason: String,
    pub by: Actor,
    /// The rollout that failed, where one did.
    pub rollout: Option<u64>,
}

/// Goes back to an earlier image, if it is still there.
pub(super) fn go_back(
    spec: &ImagePromotionSpec,
    facts: &Facts,
    mut status: ImagePromotionStatus,
    back: Back<'_>,
    now: Timestamp,
) -> Move {
    let presence = match &facts.presence {
        Some((digest, presence)) if *digest == back.to.digest => presence,
        _ => return Move::Look(Look::Presence(back.to.digest)),
    };
    let gone = match presence {
        Presence::Archived => Some("is archived"),
        Presence::Gone => Some("is gone from the repository"),
        Presence::There | Presence::Unknown => None,
    };
    if let Some(gone) = gone {
        let reason = format!(
            "{}; {} {gone}, so the targets stay as they are",
            back.reason,
            spoken(&back.to)
        );
        return stay(spec, status, back.from, &reason, now);
    }
    if let (Some(rollout), Some(_)) = (status.rollout.clone(), back.rollout) {
        ledger::close(&mut status, spec, rollout, Outcome::Failed, back.reason.clone(), now);
    }
    ledger::reject(&mut status, back.from, &back.reason, back.by, now);
    ledger::hold(
        &mut status,
        HoldKind::RolledBack,
        Some(back.from),
        back.reason.clone(),
        spec.rollback.until,
        now,
    );
    status.requested = None;
    let failure = back.rollout.map(|rollout| crate::api::promotion::Failure {
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

/// Something failed and there is no way back: the targets stay as they are, and no more is tried.
pub(super) fn stay(
    spec: &ImagePromotionSpec,
    mut status: ImagePromotionStatus,
    image: &ImageStatus,
    reason: &str,
    now: Timestamp,
) -> Move {
    if let Some(rollout) = status.rollout.take() {
        ledger::close(&mut status, spec, rollout, Outcome::Failed, reason.to_owned(), now);
    }
    ledger::reject(&mut status, image, reason, Actor::Operator, now);
    ledger::hold(
        &mut status,
        HoldKind::Failed,
        Some(image),
        reason.to_owned(),
        spec.rollback.until,
        now,
    );
    status.requested = None;
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

/// Nothing to do.
fn settle(state: &State<'_>, status: ImagePromotionStatus) -> Move {
    let gates = state.facts.gates.as_ref().map_or(&[][..], |(_, closed)| closed);
    let wake = gates.iter().filter_map(|closed| closed.opens).min();
    let blocked = status
        .blocked_by
        .first()
        .map(|blocked| format!("{:?}: {}", blocked.gate, blocked.message));
    let why = match (&state.facts.selection, &blocked, &status.candidate) {
        (_, Some(blocked), Some(candidate)) => format!("{} waits for {blocked}", spoken(candidate)),
        (Some(Selection::Nothing(why) | Selection::Unknown(why)), _, _) => why.clone(),
        _ => String::new(),
    };
    let hold = status.hold.as_ref();
    if let Some(hold) = hold.filter(|hold| hold.kind == HoldKind::Failed) {
        let verdict = Verdict::blocked(Reason::Failed, hold.reason.clone());
        return stand(status, "Failed", verdict, wake);
    }
    let Some(current) = &status.current else {
        return match blocked {
            Some(_) => stand(status, "Waiting", waiting(Reason::Gated, why), wake),
            None => stand(status, "Waiting", waiting(Reason::NoCandidate, why), wake),
        };
    };
    // A rollout that is over can come to harm later; that is for the cluster's own means, and is only told.
    let unhealthy = status
        .targets
        .iter()
        .find(|target| target.phase != TargetPhase::Healthy);
    let mut words = vec![format!("{} runs", spoken(current))];
    if let Some(target) = unhealthy {
        words.push(format!("{} {}: {}", target.kind.as_str(), target.name, target.message));
    }
    if let Some(regression) = &status.regression {
        words.push(format!("it would no longer pass the scan gate: {regression}"));
    }
    if let Some(hold) = hold {
        words.push(format!("held: {}", hold.reason));
    }
    if !why.is_empty() {
        words.push(why);
    }
    let phase = match (hold, &blocked, &state.spec().pin) {
        (_, _, Some(_)) => "Pinned",
        (Some(_), _, _) => "Held",
        (None, Some(_), _) => "Waiting",
        (None, None, _) => "Promoted",
    };
    let message = words.join("; ");
    stand(status, phase, Verdict::Settled { message }, wake)
}

/// When to look again while something is under way.
pub(super) fn soon(now: Timestamp) -> Timestamp {
    now + SOON
}
