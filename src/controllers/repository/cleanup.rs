//! What to do about a repository's lifecycle policy. Pure.
//!
//! A policy is a power to delete. How this could destroy something, and what keeps it from doing so, stands in
//! `docs/decisions/0014-lifecycle-policies.md`.

mod look;
mod outcome;
#[cfg(test)]
mod tests;
mod told;

use std::{collections::BTreeSet, time::Duration};

pub(super) use look::{About, change, look};
pub(crate) use outcome::{Limits, Outcome};

pub(super) use told::{observed, told};

use super::step::Step;
use crate::{
    api::lifecycle::{AppliedLifecycle, CleanupMode},
    control::{plan::Verdict, reason::Reason},
    digest::short,
    document::lifecycle::{Action, Policy},
    in_use::Protection,
};

/// How soon ECR is asked again how far a preview has come.
pub(super) const PREVIEW: Duration = Duration::from_secs(2);

/// How soon it is looked again whether images in use have their tags; they say so themselves, too.
const PROTECTION: Duration = Duration::from_mins(1);

/// How soon ECR is asked again for a preview while one of somebody else is under way.
const FOREIGN: Duration = Duration::from_secs(5);

/// What is wanted of the lifecycle policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// No object claims it.
    Unclaimed,
    /// It stays as it is, whatever it is.
    Held {
        by: String,
        verdict: Option<Verdict>,
    },
    Claimed(Box<Claim>),
}

/// The policy that applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// As `LifecyclePolicy <name>`.
    pub by: String,
    /// As it is to be put, the protection of images in use included.
    pub document: Policy,
    pub mode: CleanupMode,
    /// `None`: disabled.
    pub guard: Option<Limits>,
    /// Whether images in use are kept.
    pub protect: bool,
    /// The previews that were accepted.
    pub accepted: BTreeSet<String>,
}

/// What is in force, as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Live {
    /// Not read: what is recorded counts.
    Unread,
    Absent,
    Known(Policy),
    /// Not in a grammar we know; the text says why.
    Unknown(String),
}

/// What ECR says the policy would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Foreseen {
    /// It was not asked yet.
    No,
    Running,
    /// A preview that somebody else started is under way.
    Foreign,
    Failed(String),
    Yes(Outcome),
}

/// What was seen of the lifecycle policy.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub wish: Wish,
    pub live: Live,
    pub foreseen: Foreseen,
    /// What the status says of it.
    pub recorded: AppliedLifecycle,
    /// What is recorded for the same wish holds until the next full check.
    pub routine: bool,
    /// How it stands with the images in use; `None` where they are not to be kept.
    pub protection: Option<Protection>,
    /// How many images of the repository are kept.
    pub protected: usize,
    /// Why the tags of images that are no longer in use stay, if they do.
    pub unreleasable: Option<String>,
    /// The repository was created in this reconcile: it holds no image.
    pub fresh: bool,
    /// Somebody else changed or removed what had been put for this wish.
    pub mends: bool,
}

/// What to do.
pub(crate) enum Decision {
    Step(Step),
    /// Nothing now; this is what to say. `None`: all is well.
    Rest(Option<Verdict>),
}

impl Wish {
    /// A digest of everything that is asked for.
    pub(crate) fn asked(&self) -> String {
        match self {
            Self::Unclaimed => String::new(),
            Self::Held { verdict, .. } => short(&format!("held {verdict:?}")),
            Self::Claimed(claim) => short(
                &serde_json::json!([
                    claim.document.to_text(),
                    claim.mode == CleanupMode::Enforce,
                    claim.guard.map(|limits| (limits.images, limits.percent)),
                    claim.accepted,
                ])
                .to_string(),
            ),
        }
    }

    /// Whether images in use are to be kept.
    pub(crate) fn protects(&self) -> bool {
        matches!(self, Self::Claimed(claim) if claim.protect && claim.mode == CleanupMode::Enforce)
    }

    /// The policy that is shown as the one that applies.
    pub(crate) fn by(&self) -> &str {
        match self {
            Self::Unclaimed => "",
            Self::Held { by, .. } => by,
            Self::Claimed(claim) => &claim.by,
        }
    }
}

/// A digest of what a document means: two that mean the same have the same.
pub(crate) fn mark(document: &Policy) -> String {
    let mut document = document.clone();
    document.rules.sort_by_key(|rule| rule.priority);
    for (priority, rule) in (1..).zip(&mut document.rules) {
        rule.priority = priority;
    }
    short(&document.to_text())
}

/// Whether what is recorded answers the wish, so that nothing needs to be read.
pub(crate) fn is_answered(wish: &Wish, recorded: &AppliedLifecycle) -> bool {
    // An image that is in the way may be protected in a moment.
    let waits = [
        Reason::Protecting,
        Reason::Previewing,
        Reason::Protected,
        Reason::Unavailable,
    ]
    .map(Reason::as_str);
    let known = recorded.putting.is_empty();
    match wish {
        Wish::Unclaimed => recorded.put.is_empty() && known,
        // It has nothing to do with AWS.
        Wish::Held { .. } => true,
        Wish::Claimed(_) => known && recorded.asked == wish.asked() && !waits.contains(&recorded.reason.as_str()),
    }
}

/// Whether a document is one that this object put.
fn is_ours(live: &Policy, recorded: &AppliedLifecycle) -> bool {
    let mark = mark(live);
    [&recorded.put, &recorded.putting].contains(&&mark)
}

/// Decides.
pub(crate) fn decide(sight: &Sight) -> Decision {
    match &sight.wish {
        Wish::Held { verdict, .. } => Decision::Rest(verdict.clone()),
        Wish::Unclaimed => unclaimed(sight),
        Wish::Claimed(claim) => claimed(sight, claim),
    }
}

/// The policy is taken off where it is the one that we put. One of somebody else stays.
fn unclaimed(sight: &Sight) -> Decision {
    match &sight.live {
        Live::Known(live) if is_ours(live, &sight.recorded) => {
            Decision::Step(Step::RemoveLifecycle { from: live.clone() })
        }
        _ => Decision::Rest(None),
    }
}

fn claimed(sight: &Sight, claim: &Claim) -> Decision {
    let recorded = &sight.recorded;
    if sight.routine && is_answered(&sight.wish, recorded) && sight.foreseen == Foreseen::No {
        return Decision::Rest(blocked_before(recorded));
    }
    let in_force = match &sight.live {
        Live::Known(live) => live.means_the_same(&claim.document),
        // What was put by this object is there, as long as nothing was about to be put in its place.
        Live::Unread => {
            recorded.put == mark(&claim.document)
                && recorded.putting.is_empty()
                && recorded.reason == Reason::Settled.as_str()
        }
        Live::Absent | Live::Unknown(_) => false,
    };
    if in_force {
        return match &sight.foreseen {
            // It would act within a day. Without it nothing does, and it comes back once the image is kept.
            Foreseen::Yes(outcome) if in_the_way(claim, outcome).is_some() => Decision::Step(Step::RemoveLifecycle {
                from: claim.document.clone(),
            }),
            _ => Decision::Rest(None),
        };
    }
    let put = || {
        Decision::Step(Step::PutLifecycle {
            by: claim.by.clone(),
            from: sight.live.clone(),
            to: claim.document.clone(),
        })
    };
    let preview_only = claim.mode == CleanupMode::Preview;
    if sight.fresh && !preview_only {
        return put();
    }
    let waiting = |reason, message: String, after| Verdict::Waiting { reason, message, after };
    let protecting = match &sight.protection {
        Some(Protection::Unknown(why)) => Some(format!(
            "{} is put once it is known which images are in use: {why}",
            claim.by
        )),
        Some(Protection::Pending { .. }) => Some(format!(
            "{} is put once each image in use has the tag that keeps it",
            claim.by
        )),
        Some(Protection::Complete) | None => None,
    };
    if let (Some(message), false) = (protecting, preview_only) {
        return Decision::Rest(Some(waiting(Reason::Protecting, message, PROTECTION)));
    }
    if claim.guard.is_none() && sight.protected == 0 && !preview_only {
        return put();
    }
    match &sight.foreseen {
        Foreseen::No => Decision::Step(Step::PreviewLifecycle {
            by: claim.by.clone(),
            document: claim.document.clone(),
        }),
        Foreseen::Running => Decision::Rest(Some(waiting(
            Reason::Previewing,
            format!("ECR works out what {} would do", claim.by),
            PREVIEW,
        ))),
        Foreseen::Foreign => Decision::Rest(Some(waiting(
            Reason::Previewing,
            format!(
                "ECR works on a lifecycle preview of somebody else; that of {} comes after it",
                claim.by
            ),
            FOREIGN,
        ))),
        Foreseen::Failed(why) => Decision::Rest(Some(Verdict::blocked(
            Reason::Unavailable,
            format!(
                "ECR could not work out what {} would do ({why}), so it was not put",
                claim.by
            ),
        ))),
        Foreseen::Yes(_) if preview_only => Decision::Rest(None),
        Foreseen::Yes(outcome) => match in_the_way(claim, outcome).or_else(|| guarded(claim, outcome)) {
            None => put(),
            Some(verdict) => Decision::Rest(Some(verdict)),
        },
    }
}

/// How what is there differs from what is wanted, where nothing may be written.
pub(crate) fn difference(sight: &Sight) -> Option<String> {
    match (&sight.wish, &sight.live) {
        (Wish::Held { verdict, .. }, _) => verdict.as_ref().map(ToString::to_string),
        (Wish::Claimed(claim), live) if claim.mode == CleanupMode::Enforce => {
            if matches!(live, Live::Known(live) if live.means_the_same(&claim.document)) {
                return None;
            }
            let step = Step::PutLifecycle {
                by: claim.by.clone(),
                from: live.clone(),
                to: claim.document.clone(),
            };
            Some(step.to_string())
        }
        _ => None,
    }
}

/// Images in use that the policy would act on, whatever anybody accepted.
fn in_the_way(claim: &Claim, outcome: &Outcome) -> Option<Verdict> {
    let first = outcome.in_use.first().filter(|_| claim.protect)?;
    Some(Verdict::blocked(
        Reason::Protected,
        format!(
            "{} would act on an image in use, {first}, and is not put before that image is kept",
            claim.by
        ),
    ))
}

/// Why the guard does not let the policy through, if it does not.
fn guarded(claim: &Claim, outcome: &Outcome) -> Option<Verdict> {
    let limit = claim.guard?.exceeded(outcome)?;
    let token = outcome.token(&claim.document);
    if claim.accepted.contains(&token) {
        return None;
    }
    let (expire, archive) = (outcome.count(Action::Expire), outcome.count(Action::Archive));
    let mut what = Vec::new();
    if expire > 0 {
        what.push(format!("expire {expire}"));
    }
    if archive > 0 {
        what.push(format!("archive {archive}"));
    }
    Some(Verdict::blocked(
        Reason::Guarded,
        format!(
            "{} would {} of {} images ({} bytes) and {limit}; what was in force stays. To go on, raise spec.guard of the policy, or set the annotation {}={token} on the Repository or the policy",
            claim.by,
            what.join(" and "),
            outcome.stock.images,
            outcome.stock.bytes,
            crate::api::ACCEPT_ANNOTATION,
        ),
    ))
}

/// What was said before about the same wish.
fn blocked_before(recorded: &AppliedLifecycle) -> Option<Verdict> {
    let reason = Reason::ALL
        .into_iter()
        .find(|reason| reason.as_str() == recorded.reason)?;
    match reason {
        Reason::Settled | Reason::Observed => None,
        reason => Some(Verdict::blocked(reason, recorded.message.clone())),
    }
}
