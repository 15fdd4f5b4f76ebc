//! Keeps what runs: the image in the targets, the notes on them, the verified tag; and watches over it.

use super::{
    back::{Back, Way, go_back, way},
    engine::{State, name, record},
    facts::TargetFacts,
    ledger::{self, bounded, spoken},
    moves::{Action, Look, Move, Told},
    targets,
};
use crate::api::{
    names::Digest,
    promotion::{Actor, HoldKind, ImagePromotionStatus, ImageStatus, TargetPhase, Via},
};

/// Keeps the targets, their notes and the verified tag as they are to be, and watches over the running image.
pub(super) fn keep(state: &State<'_>, status: &mut ImagePromotionStatus) -> Option<Move> {
    let current = status.current.clone()?;
    // An image that failed and could not be taken back is left alone: the targets stay as they are, also where some of
    // them have not got it.
    if !ledger::is_rejected(state.spec(), status, &current.digest) {
        for target in state.seen {
            if let Some(moved) = write_back(state, status, target, &current) {
                return Some(moved);
            }
        }
        if let Some(moved) = publish(state, status, &current) {
            return Some(moved);
        }
    }
    if let Some(moved) = mark(state, status) {
        return Some(moved);
    }
    if let (Some(on_verified), Some(good)) = (&state.spec().on_verified, &status.last_good)
        && good.digest == current.digest
        && status
            .verified_tag
            .as_ref()
            .map(|image| (&image.digest, image.tag.as_ref()))
            != Some((&good.digest, Some(&on_verified.tag)))
        && let Some(moved) = state.facts.try_once(Action::Retag {
            tag: on_verified.tag.clone(),
            image: good.clone(),
        })
    {
        return Some(moved);
    }
    watch_over(state, status, &current)
}

/// Tells the hook of an image that it was not told of last.
pub(super) fn publish(state: &State<'_>, status: &ImagePromotionStatus, image: &ImageStatus) -> Option<Move> {
    let publishes = state.spec().targets.iter().any(|target| target.via == Via::Publish);
    match publishes && status.published.as_ref() != Some(&image.digest) {
        true => state.facts.try_once(Action::Publish(image.clone())),
        false => None,
    }
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
    if ledger::is_forbidden(state.spec(), &image.digest) || state.refusal(target).is_some() {
        return None;
    }
    if target.written.as_ref() == Some(&image.digest) || target.via == Via::Publish {
        return None;
    }
    let entry = status.targets.iter_mut().find(|entry| target.is_of(entry))?;
    if matches!(
        entry.phase,
        TargetPhase::Missing | TargetPhase::Refused | TargetPhase::Contested
    ) {
        return None;
    }
    // Where the owner has not taken up yet what it was to read, the workload is as it was, and nobody wrote to it.
    let differs = found.digest.as_ref() != Some(&image.digest);
    if differs
        && state.had(target, &image.digest)
        && targets::count_revert(entry, found, state.goal.generation, state.now)
    {
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

/// How many of a promotion's rejections are noted on a workload: several promotions may share one.
const NOTED: usize = 10;

/// How many digests the note holds.
const NOTE: usize = 20;

/// Notes on the targets what was taken back, so that a promotion that is created again knows. What others have noted stays,
/// but for what this promotion runs itself.
pub(super) fn mark(state: &State<'_>, status: &ImagePromotionStatus) -> Option<Move> {
    let rejected = status.rejected.iter().map(|rejection| &rejection.digest);
    let ours: Vec<&Digest> = rejected.take(NOTED).collect();
    let under_way = status.rollout.as_ref().map(|rollout| &rollout.image);
    let wanted = [under_way, status.current.as_ref(), status.last_good.as_ref()];
    let runs = |digest: &Digest| wanted.iter().flatten().any(|image| image.digest == *digest);
    state.seen.iter().find_map(|target| {
        let noted = &target.found.as_ref()?.rejected;
        let others = noted.iter().filter(|digest| !ours.contains(digest) && !runs(digest));
        let missing = ours.iter().any(|digest| !noted.contains(digest));
        let outdated = noted.iter().any(|digest| !ours.contains(&digest) && runs(digest));
        if !missing && !outdated {
            return None;
        }
        let digests = ours.iter().copied().chain(others).take(NOTE).cloned().collect();
        state.facts.try_once(Action::MarkRejected {
            target: name(target),
            digests,
        })
    })
}

/// Findings that appear later on the running image.
fn watch_over(state: &State<'_>, status: &mut ImagePromotionStatus, current: &ImageStatus) -> Option<Move> {
    if state.spec().gates.as_ref().is_none_or(|gates| gates.scan.is_none()) {
        status.regression = None;
        return None;
    }
    let Some(found) = state.facts.findings_of(&current.digest) else {
        return Some(Move::Look(Look::Regression(current.clone())));
    };
    let found = found.as_ref().map(bounded);
    let is_news = found.is_some() && status.regression.is_none();
    status.regression.clone_from(&found);
    let found = found?;
    let mut note = format!(
        "{} runs and would no longer pass the scan gate: {found}",
        spoken(current)
    );
    if let Some(good) = retreat(state, status, current) {
        // A finding in what all releases are built on would otherwise lead through the whole history, one restart each.
        match state.facts.findings_of(&good.digest) {
            None => return Some(Move::Look(Look::Regression(good))),
            Some(Some(_)) => {
                note = format!(
                    "{note}; {}, to which it would go back, would not pass it either, so the targets stay as they are",
                    spoken(&good)
                );
                let told = Told {
                    is_warning: true,
                    reason: "ScanRegression",
                    note,
                };
                return is_news.then(|| record(status.clone(), [told]));
            }
            Some(None) => {}
        }
        match way(state.facts, &good) {
            Way::Unknown(look) => return Some(Move::Look(look)),
            Way::Open => {
                let back = Back {
                    from: current,
                    to: good,
                    reason: found,
                    by: Actor::Operator,
                    rollout: None,
                };
                return Some(go_back(state.spec(), state.facts, status.clone(), back, state.now));
            }
            Way::Shut(why) => note = format!("{note}; {why}, so the targets stay as they are"),
        }
    }
    let told = Told {
        is_warning: true,
        reason: "ScanRegression",
        note,
    };
    is_news.then(|| record(status.clone(), [told]))
}

/// The image to go back to when the running one no longer passes the scan gate. What is pinned stays.
pub(super) fn retreat(state: &State<'_>, status: &ImagePromotionStatus, current: &ImageStatus) -> Option<ImageStatus> {
    let is_pinned = state.spec().pin.is_some()
        || status.hold.as_ref().is_some_and(|hold| hold.kind == HoldKind::Pinned)
        || !state.spec().rollback.on_scan_regression;
    if is_pinned || ledger::is_rejected(state.spec(), status, &current.digest) {
        return None;
    }
    ledger::good_before(state.spec(), status, &current.digest)
}
