//! The entries that a promotion makes in its status: what began, what ended and how, what is not to run again.

use jiff::Timestamp;

use super::moves::Told;
use crate::{
    api::{
        names::Digest,
        promotion::{
            Actor, Failure, HistoryEntry, Hold, HoldKind, ImagePromotionSpec, ImagePromotionStatus, ImageStatus,
            Outcome, Phase, Rejection, RolloutKind, RolloutStatus, Until,
        },
    },
    control::events::cut,
};

/// The longest reason that is kept.
const REASON: usize = 500;

/// How many rejections are kept.
const REJECTIONS: usize = 20;

/// How a rollout begins.
pub(super) struct Start<'a> {
    pub kind: RolloutKind,
    pub image: ImageStatus,
    pub reason: String,
    pub by: Actor,
    pub failure: Option<Failure>,
    pub spec: &'a ImagePromotionSpec,
    pub now: Timestamp,
}

/// A text of bounded length.
pub(super) fn bounded(text: impl Into<String>) -> String {
    let mut text = text.into();
    cut(&mut text, REASON);
    text
}

/// Name and digest of an image, for sentences.
pub(super) fn spoken(image: &ImageStatus) -> String {
    match &image.tag {
        Some(_) => format!("{} ({})", image.name, image.digest.short()),
        None => image.name.clone(),
    }
}

/// An image of which no more than its digest is known.
pub(crate) fn nameless(digest: Digest) -> ImageStatus {
    ImageStatus {
        name: digest.short().to_owned(),
        digest,
        tag: None,
        pushed_at: None,
        since: None,
    }
}

/// Begins a rollout; one that is under way is ended as superseded.
pub(super) fn start(status: &mut ImagePromotionStatus, start: Start<'_>) -> Told {
    let Start {
        kind,
        image,
        reason,
        by,
        failure,
        spec,
        now,
    } = start;
    let mut from = status.current.clone();
    if let Some(old) = status.rollout.take() {
        from = Some(old.image.clone());
        if failure.is_none() {
            close(
                status,
                spec,
                old,
                Outcome::Superseded,
                "another rollout took its place".into(),
                now,
            );
        }
    }
    status.last_rollout = status.last_rollout.saturating_add(1);
    status.blocked_by.clear();
    status.regression = None;
    let verb = match kind {
        RolloutKind::Rollback => "Going back to",
        RolloutKind::Promotion | RolloutKind::Pin => "Rolling out",
    };
    let mut note = format!("{verb} {}", spoken(&image));
    if let Some(from) = &from {
        note = format!("{note} from {}", spoken(from));
    }
    if !reason.is_empty() {
        note = format!("{note}: {reason}");
    }
    let copies = spec.copy_to.is_some() && kind != RolloutKind::Rollback;
    status.rollout = Some(RolloutStatus {
        id: status.last_rollout,
        kind,
        image,
        from,
        phase: if copies { Phase::Copying } else { Phase::RollingOut },
        since: now,
        started_at: now,
        verification: 0,
        reason: bounded(reason),
        by,
        failure,
    });
    Told {
        is_warning: kind == RolloutKind::Rollback && by == Actor::Operator,
        reason: if kind == RolloutKind::Rollback {
            "RollingBack"
        } else {
            "RollingOut"
        },
        note,
    }
}

/// Moves an ended rollout into the history.
pub(super) fn close(
    status: &mut ImagePromotionStatus,
    spec: &ImagePromotionSpec,
    rollout: RolloutStatus,
    outcome: Outcome,
    reason: String,
    now: Timestamp,
) {
    enter(
        status,
        spec,
        HistoryEntry {
            id: rollout.id,
            kind: rollout.kind,
            image: rollout.image,
            started_at: rollout.started_at,
            finished_at: now,
            outcome,
            reason: bounded(if reason.is_empty() { rollout.reason } else { reason }),
            by: rollout.by,
        },
    );
}

/// Ends the rollout under way, if there is one, with nothing said against its image: it went no further for a reason that
/// lies elsewhere. Left as it is, it would be found to have missed its deadline when it could go on.
pub(crate) fn interrupt(status: &mut ImagePromotionStatus, spec: &ImagePromotionSpec, reason: &str, now: Timestamp) {
    if let Some(rollout) = status.rollout.take() {
        close(status, spec, rollout, Outcome::Superseded, reason.to_owned(), now);
    }
}

/// Writes an entry at the head of the history.
pub(super) fn enter(status: &mut ImagePromotionStatus, spec: &ImagePromotionSpec, entry: HistoryEntry) {
    status.history.insert(0, entry);
    status.history.truncate(usize::from(spec.history_limit.clamp(1, 50)));
}

/// The rollout under way has succeeded.
pub(super) fn succeed(status: &mut ImagePromotionStatus, spec: &ImagePromotionSpec, now: Timestamp) -> Option<Told> {
    let rollout = status.rollout.take()?;
    let image = ImageStatus {
        since: Some(now),
        ..rollout.image.clone()
    };
    status.previous = rollout.from.clone().filter(|from| from.digest != image.digest);
    status.requested = status.requested.take().filter(|asked| asked.digest != image.digest);
    let (reason, note) = match rollout.kind {
        RolloutKind::Rollback => ("RolledBack", format!("{} runs again", spoken(&image))),
        RolloutKind::Promotion | RolloutKind::Pin => {
            ("Promoted", format!("{} runs and passed every check", spoken(&image)))
        }
    };
    // An image that runs again was good before; since when it has been good is not told anew by a rollback.
    let good = match (&status.last_good, rollout.kind) {
        (Some(good), RolloutKind::Rollback) if good.digest == image.digest => good.clone(),
        _ => image.clone(),
    };
    status.last_good = Some(good);
    status.current = Some(image);
    close(status, spec, rollout, Outcome::Succeeded, String::new(), now);
    Some(Told {
        is_warning: false,
        reason,
        note,
    })
}

/// An image is not to run again.
pub(super) fn reject(
    spec: &ImagePromotionSpec,
    status: &mut ImagePromotionStatus,
    image: &ImageStatus,
    reason: &str,
    by: Actor,
    now: Timestamp,
) {
    status.rejected.retain(|rejection| rejection.digest != image.digest);
    status.rejected.insert(
        0,
        Rejection {
            digest: image.digest.clone(),
            name: image.name.clone(),
            reason: bounded(reason),
            by,
            at: now,
        },
    );
    status.rejected.truncate(REJECTIONS);
    status.approvals.retain(|approval| approval.digest != image.digest);
    disown(spec, status, &image.digest);
}

/// An image no longer counts as good: promotions that follow this one rely on the last good image.
pub(super) fn disown(spec: &ImagePromotionSpec, status: &mut ImagePromotionStatus, digest: &Digest) {
    if status.last_good.as_ref().is_some_and(|good| good.digest == *digest) {
        status.last_good = good_before(spec, status, digest);
    }
}

/// The source is another repository now: what ran, what was good and what is under way belong to the old one, and its digests
/// must not be looked for in the new one. What the targets run is found anew.
pub(crate) fn leave(status: &mut ImagePromotionStatus, repository: String) -> Told {
    let old = status.repository.replace(repository);
    let note = format!(
        "spec.source names another repository than {}: what was promoted from there is forgotten, and the targets are looked at anew",
        old.unwrap_or_default()
    );
    *status = ImagePromotionStatus {
        common: status.common.clone(),
        repository: status.repository.take(),
        rejected: std::mem::take(&mut status.rejected),
        last_handled_requests: std::mem::take(&mut status.last_handled_requests),
        last_rollout: status.last_rollout,
        ..ImagePromotionStatus::default()
    };
    Told {
        is_warning: false,
        reason: "SourceChanged",
        note,
    }
}

/// Nothing is rolled out for the time being.
pub(super) fn hold(
    status: &mut ImagePromotionStatus,
    kind: HoldKind,
    away_from: Option<&ImageStatus>,
    reason: String,
    until: Until,
    now: Timestamp,
) {
    status.hold = Some(Hold {
        kind,
        reason: bounded(reason),
        since: now,
        away_from: away_from.map(|image| image.digest.clone()),
        newer_than: away_from.and_then(|image| image.pushed_at),
        until,
    });
}

/// Whether an image is not to run again, by the status or by the spec.
pub(crate) fn is_rejected(spec: &ImagePromotionSpec, status: &ImagePromotionStatus, digest: &Digest) -> bool {
    status.rejected.iter().any(|rejection| rejection.digest == *digest) || is_forbidden(spec, digest)
}

/// Whether the spec forbids an image; no request can allow it again.
pub(super) fn is_forbidden(spec: &ImagePromotionSpec, digest: &Digest) -> bool {
    spec.reject.iter().any(|entry| entry.digest == *digest)
}

/// An image that this promotion has run, by its digest.
pub(super) fn known(status: &ImagePromotionStatus, digest: &Digest) -> Option<ImageStatus> {
    let kept = [&status.current, &status.last_good, &status.previous];
    kept.into_iter()
        .flatten()
        .chain(succeeded(status))
        .find(|image| image.digest == *digest)
        .cloned()
}

fn succeeded(status: &ImagePromotionStatus) -> impl Iterator<Item = &ImageStatus> {
    let succeeded = |entry: &&HistoryEntry| entry.outcome == Outcome::Succeeded;
    status.history.iter().filter(succeeded).map(|entry| &entry.image)
}

/// The image to go back to from `digest`: the last good one that is another and not rejected.
pub(super) fn good_before(
    spec: &ImagePromotionSpec,
    status: &ImagePromotionStatus,
    digest: &Digest,
) -> Option<ImageStatus> {
    let good = status.last_good.iter().chain(succeeded(status));
    good.into_iter()
        .find(|image| image.digest != *digest && !is_rejected(spec, status, &image.digest))
        .cloned()
}

/// Whether the hold, if there is one, lets this candidate through.
pub(super) fn is_past_hold(spec: &ImagePromotionSpec, status: &ImagePromotionStatus, candidate: &ImageStatus) -> bool {
    let Some(hold) = &status.hold else { return true };
    if hold.until == Until::Resume || hold.away_from.as_ref() == Some(&candidate.digest) {
        return false;
    }
    // Whoever moves a tag, or names a digest, has chosen; when that image was once pushed says nothing then.
    let chosen = spec.source.policy.tag.is_some() || spec.source.policy.digest.is_some();
    match (hold.newer_than, candidate.pushed_at) {
        _ if chosen => true,
        (Some(left), Some(pushed)) => pushed > left,
        (None, Some(pushed)) => pushed > hold.since,
        (_, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_another_source_only_what_people_said_is_kept() {
        let image = |digit: &str| json!({ "name": "1.0.0", "digest": format!("sha256:{}", digit.repeat(64)) });
        let time = "2026-01-01T00:00:00.000000Z";
        let rejected = json!([{ "digest": image("b")["digest"], "name": "0.9.0", "reason": "bad", "by": "Request",
            "at": time }]);
        let requests = json!({ "rollback": "one" });
        let old = json!({
            "repository": "111122223333/eu-west-1/team-a/old", "observedGeneration": 3,
            "current": image("a"), "lastGood": image("a"), "previous": image("b"), "published": image("a")["digest"],
            "verifiedTag": image("a"), "candidate": image("c"), "rejected": rejected, "lastHandledRequests": requests,
            "lastRollout": 7,
            "rollout": { "id": 7, "kind": "Promotion", "image": image("c"), "phase": "RollingOut", "since": time,
                "startedAt": time, "verification": 0, "reason": "", "by": "Operator" },
            "history": [{ "id": 6, "kind": "Promotion", "image": image("a"), "startedAt": time, "finishedAt": time,
                "outcome": "Succeeded" }],
        });
        let mut status: ImagePromotionStatus = serde_json::from_value(old).unwrap();
        let told = leave(&mut status, "111122223333/eu-west-1/team-a/new".into());
        assert!(told.note.contains("team-a/old"), "{}", told.note);
        // No digest of the old repository is left that could be written, nor a number that was used.
        let kept = serde_json::to_value(ImagePromotionStatus {
            common: status.common.clone(),
            repository: Some("111122223333/eu-west-1/team-a/new".into()),
            rejected: serde_json::from_value(rejected).unwrap(),
            last_handled_requests: serde_json::from_value(requests).unwrap(),
            last_rollout: 7,
            ..ImagePromotionStatus::default()
        });
        assert_eq!(serde_json::to_value(&status).unwrap(), kept.unwrap());
        assert_eq!(status.common.observed_generation, Some(3));
    }
}
