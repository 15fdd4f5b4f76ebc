//! Nothing is under way: what is to be begun, and, where nothing is, how things stand.

use super::{
    back::{Way, way},
    baseline, choice,
    engine::{State, name, record, stand, waiting},
    facts::Selection,
    keep,
    ledger::{self, spoken},
    moves::Move,
    person,
};
use crate::{
    api::promotion::{HoldKind, ImagePromotionStatus, ImageStatus, TargetPhase, TargetStatus},
    control::{plan::Verdict, reason::Reason},
};

pub(super) fn rest(state: &State<'_>, mut status: ImagePromotionStatus) -> Move {
    if let Some(moved) = baseline::adopt(state, &mut status)
        .or_else(|| person::by_person(state, &status))
        .or_else(|| choice::forbidden(state, &status))
    {
        return moved;
    }
    // Targets move as one: where one cannot, nothing is begun; what runs is kept all the same.
    let unfit = unfit(state, &status);
    if unfit.is_none()
        && let Some(moved) = begin(state, &mut status)
    {
        return moved;
    }
    if let Some(moved) = keep::keep(state, &mut status) {
        return moved;
    }
    heal(&mut status);
    if let Some(moved) = prove(state, &mut status) {
        return moved;
    }
    match unfit {
        Some((phase, verdict)) => stand(status, phase, verdict, None),
        None => settle(state, status),
    }
}

fn begin(state: &State<'_>, status: &mut ImagePromotionStatus) -> Option<Move> {
    let Some(pin) = &state.spec().pin else {
        return choice::candidate(state, status);
    };
    status.candidate = None;
    status.requested = None;
    status.blocked_by.clear();
    let runs = status.current.as_ref().is_some_and(|image| image.digest == pin.digest);
    if runs { None } else { choice::pinned(state, status, pin) }
}

/// A target that cannot be written to.
fn unfit(state: &State<'_>, status: &ImagePromotionStatus) -> Option<(&'static str, Verdict)> {
    if state.lacks_targets() {
        let message = "no workload of this namespace matches spec.targets".to_owned();
        return Some(("Waiting", waiting(Reason::TargetMissing, message)));
    }
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
    Some((phase, verdict))
}

/// What was found on the targets before they were healthy counts as good once they are: there must be something to go back
/// to.
fn prove(state: &State<'_>, status: &mut ImagePromotionStatus) -> Option<Move> {
    let current = status.current.clone()?;
    let is_healthy =
        |target: &TargetStatus| target.phase == TargetPhase::Healthy && target.digest.as_ref() == Some(&current.digest);
    let unproven = status.last_good.is_none()
        && !state.seen.is_empty()
        && !ledger::is_rejected(state.spec(), status, &current.digest)
        && status.targets.iter().all(is_healthy);
    unproven.then(|| {
        status.last_good = Some(current);
        record(status.clone(), [])
    })
}

/// A way back that failed for want of time, as when nodes were short, may succeed later by itself.
fn heal(status: &mut ImagePromotionStatus) {
    let Some(good) = status.last_good.as_ref().map(|image| image.digest.clone()) else {
        return;
    };
    let runs = status.current.as_ref().is_some_and(|image| image.digest == good);
    let is_healthy =
        |target: &TargetStatus| target.phase == TargetPhase::Healthy && target.digest.as_ref() == Some(&good);
    if let Some(hold) = &mut status.hold
        && hold.kind == HoldKind::Failed
        && runs
        && status.targets.iter().all(is_healthy)
    {
        hold.kind = HoldKind::RolledBack;
    }
}

/// Nothing to do.
fn settle(state: &State<'_>, status: ImagePromotionStatus) -> Move {
    let gates = state.facts.gates.as_ref().map_or(&[][..], |(_, closed)| closed);
    let wake = gates.iter().filter_map(|closed| closed.opens).min();
    let wake = wake.filter(|_| !status.blocked_by.is_empty());
    let hold = status.hold.clone();
    if let Some(hold) = hold.as_ref().filter(|hold| hold.kind == HoldKind::Failed) {
        let message = match waits(state, &status) {
            waits if waits.is_empty() => hold.reason.clone(),
            waits => format!("{}; {waits}", hold.reason),
        };
        return stand(status, "Failed", Verdict::blocked(Reason::Failed, message), wake);
    }
    if let Some(pin) = &state.spec().pin
        && status.current.as_ref().map(|image| &image.digest) != Some(&pin.digest)
        && let Some(refused) = choice::pin_refused(state, &status, pin)
    {
        return stand(status, "Held", Verdict::blocked(Reason::Failed, refused), None);
    }
    let waits = waits(state, &status);
    let Some(current) = status.current.clone() else {
        let (phase, verdict) = match (hold, status.blocked_by.is_empty()) {
            (_, false) => ("Waiting", waiting(Reason::Gated, waits)),
            (Some(hold), true) => ("Failed", Verdict::blocked(Reason::Failed, hold.reason)),
            (None, true) => ("Waiting", waiting(Reason::NoCandidate, waits)),
        };
        return stand(status, phase, verdict, wake);
    };
    if let Some(wrong) = wrong(state, &status, &current) {
        let message = [format!("{} runs", spoken(&current)), wrong, waits]
            .into_iter()
            .filter(|words| !words.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        return stand(status, "Failed", Verdict::blocked(Reason::Failed, message), wake);
    }
    let message = words(state, &status, &current, waits).join("; ");
    let phase = match (&hold, status.blocked_by.is_empty(), &state.spec().pin) {
        (_, _, Some(_)) => "Pinned",
        (_, false, _) => "Waiting",
        (Some(_), true, _) => "Held",
        (None, true, _) => "Promoted",
    };
    stand(status, phase, Verdict::Settled { message }, wake)
}

/// What keeps another image from being rolled out.
fn waits(state: &State<'_>, status: &ImagePromotionStatus) -> String {
    match (&state.facts.selection, status.blocked_by.first(), &status.candidate) {
        (_, Some(blocked), Some(candidate)) => {
            format!(
                "{} waits for {:?}: {}",
                spoken(candidate),
                blocked.gate,
                blocked.message
            )
        }
        (Some(Selection::Nothing(why) | Selection::Unknown(why)), _, _) => why.clone(),
        (Some(Selection::Picked(image)), _, None) => {
            format!("the policy picks {}, which is rejected", spoken(image))
        }
        _ => String::new(),
    }
}

/// What is wrong with the running image and cannot be mended by going back.
fn wrong(state: &State<'_>, status: &ImagePromotionStatus, current: &ImageStatus) -> Option<String> {
    let forbidden = state.spec().reject.iter().find(|entry| entry.digest == current.digest);
    if let Some(entry) = forbidden {
        let reason = &entry.reason;
        return Some(format!(
            "spec.reject forbids it ({reason}), and there is no earlier good image to go back to"
        ));
    }
    let refused = state
        .seen
        .iter()
        .find_map(|target| Some((name(target), state.refusal(target)?)));
    if let Some((target, message)) = refused {
        return Some(format!("{target} does not, and could not be written: {message}"));
    }
    let rejection = status.rejected.iter().find(|entry| entry.digest == current.digest);
    if let Some(rejection) = rejection {
        return Some(format!("it is rejected, and was left in place: {}", rejection.reason));
    }
    let regression = status.regression.as_ref()?;
    let good = keep::retreat(state, status, current)?;
    match way(state.facts, &good) {
        Way::Shut(why) => Some(format!("it would no longer pass the scan gate: {regression}; {why}")),
        Way::Open | Way::Unknown(_) => None,
    }
}

/// What there is to say of an image that runs as it should.
fn words(state: &State<'_>, status: &ImagePromotionStatus, current: &ImageStatus, waits: String) -> Vec<String> {
    let mut words = vec![format!("{} runs", spoken(current))];
    // A rollout that is over can come to harm later; that is for the cluster's own means, and is only told.
    let ails = |target: &&TargetStatus| {
        target.phase != TargetPhase::Healthy || target.digest.as_ref() != Some(&current.digest)
    };
    if let Some(target) = status.targets.iter().find(ails) {
        let message = match target.message.as_str() {
            "" => "does not run it yet",
            message => message,
        };
        words.push(format!("{} {}: {message}", target.kind.as_str(), target.name));
    }
    if let Some(regression) = &status.regression {
        words.push(format!("it would no longer pass the scan gate: {regression}"));
    }
    if let Some(gone) = choice::went(state, status).or_else(|| choice::gone(state, current)) {
        words.push(gone);
    }
    if let Some(hold) = &status.hold {
        words.push(format!("held: {}", hold.reason));
    }
    if !waits.is_empty() {
        words.push(waits);
    }
    words
}
