//! What to do about a repository's lifecycle policy. Pure.
//!
//! A policy is a power to delete. How this could destroy something, and what keeps it from doing so, stands in
//! `docs/decisions/0014-lifecycle-policies.md`.

mod look;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

pub(super) use look::{change, look};

use super::plan::Step;
use crate::{
    api::lifecycle::{AppliedLifecycle, Cleanup, CleanupMode, DoomedImage, GuardMode, LifecyclePreview},
    aws::lifecycle::{Listed, Stock},
    control::{events::cut, plan::Verdict, reason::Reason},
    document::lifecycle::{Action, Policy},
    in_use::Protection,
};

/// How soon ECR is asked again how far a preview has come.
const PREVIEW: Duration = Duration::from_secs(2);

/// How soon it is looked again whether images in use have their tags; they say so themselves, too.
const PROTECTION: Duration = Duration::from_mins(1);

/// How soon ECR is asked again for a preview while one of somebody else is under way.
const FOREIGN: Duration = Duration::from_secs(5);

/// How many per cent of a repository's images may go where a policy sets no limit.
const USUAL_PERCENT: u32 = 20;

/// The most images that a status shows.
const EXAMPLES: usize = 10;

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

/// How much may go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub images: Option<u32>,
    pub percent: Option<u32>,
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

/// What a policy would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub doomed: Vec<Listed>,
    /// Those of them that are in use, by digest.
    pub in_use: Vec<String>,
    pub stock: Stock,
    pub at: Timestamp,
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

    /// The policy that is shown as the one that applies.
    pub(crate) fn by(&self) -> &str {
        match self {
            Self::Unclaimed => "",
            Self::Held { by, .. } => by,
            Self::Claimed(claim) => &claim.by,
        }
    }
}

impl Limits {
    /// The limits that a policy sets.
    pub(crate) fn of(cleanup: &Cleanup) -> Option<Self> {
        let guard = &cleanup.guard;
        (guard.mode == GuardMode::Enabled).then(|| Self {
            images: guard.max_images,
            percent: guard
                .max_percent
                .or(guard.max_images.is_none().then_some(USUAL_PERCENT)),
        })
    }

    /// The limit that is exceeded, in words.
    fn exceeded(self, outcome: &Outcome) -> Option<String> {
        let gone = u64::try_from(outcome.doomed.len()).unwrap_or(u64::MAX);
        if let Some(most) = self.images
            && gone > u64::from(most)
        {
            return Some(format!("maxImages is {most}"));
        }
        let most = self.percent?;
        let too_many = u128::from(gone) * 100 > u128::from(outcome.stock.images) * u128::from(most);
        too_many.then(|| format!("maxPercent is {most}"))
    }
}

impl Outcome {
    fn count(&self, action: Action) -> u64 {
        let of = self.doomed.iter().filter(|image| image.action == action);
        u64::try_from(of.count()).unwrap_or(u64::MAX)
    }

    /// What accepts exactly this: the document and each image with what becomes of it.
    pub(crate) fn token(&self, document: &Policy) -> String {
        let mut lines: Vec<String> = self
            .doomed
            .iter()
            .map(|image| format!("{} {:?}", image.digest, image.action))
            .collect();
        lines.sort_unstable();
        short(&format!("{}\n{}", document.to_text(), lines.join("\n")))
    }

    /// As the status shows it.
    pub(crate) fn shown(&self, document: &Policy) -> LifecyclePreview {
        let example = |image: &Listed| DoomedImage {
            digest: image.digest.chars().take(80).collect(),
            tags: image
                .tags
                .iter()
                .take(5)
                .map(|tag| tag.chars().take(300).collect())
                .collect(),
            action: match image.action {
                Action::Expire => "expire",
                Action::Archive => "transition",
            }
            .into(),
            rule_priority: image.rule,
        };
        LifecyclePreview {
            token: self.token(document),
            images: self.stock.images,
            images_to_expire: self.count(Action::Expire),
            images_to_archive: self.count(Action::Archive),
            bytes: self.stock.bytes,
            examples: self.doomed.iter().take(EXAMPLES).map(example).collect(),
            at: Some(self.at),
        }
    }
}

/// A digest of a text, short enough for a person to copy.
fn short(text: &str) -> String {
    let mut hash = String::with_capacity(32);
    for byte in Sha256::digest(text).iter().take(16) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
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
    let waits = [Reason::Protecting, Reason::Previewing, Reason::Unavailable].map(Reason::as_str);
    match wish {
        Wish::Unclaimed => recorded.put.is_empty(),
        // It has nothing to do with AWS.
        Wish::Held { .. } => true,
        Wish::Claimed(_) => recorded.asked == wish.asked() && !waits.contains(&recorded.reason.as_str()),
    }
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
        Live::Known(live) if !sight.recorded.put.is_empty() && mark(live) == sight.recorded.put => {
            Decision::Step(Step::RemoveLifecycle { from: live.clone() })
        }
        _ => Decision::Rest(None),
    }
}

fn claimed(sight: &Sight, claim: &Claim) -> Decision {
    let recorded = &sight.recorded;
    if sight.routine && is_answered(&sight.wish, recorded) {
        return Decision::Rest(blocked_before(recorded));
    }
    let in_force = match &sight.live {
        Live::Known(live) => live.means_the_same(&claim.document),
        Live::Unread => recorded.put == mark(&claim.document) && recorded.reason == Reason::Settled.as_str(),
        Live::Absent | Live::Unknown(_) => false,
    };
    if in_force {
        return Decision::Rest(None);
    }
    let put = || {
        Decision::Step(Step::PutLifecycle {
            by: claim.by.clone(),
            from: match &sight.live {
                Live::Known(live) => Some(live.clone()),
                _ => None,
            },
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

/// Images in use that the policy would act on, whatever anybody accepted.
fn in_the_way(claim: &Claim, outcome: &Outcome) -> Option<Verdict> {
    let first = outcome.in_use.first().filter(|_| claim.protect)?;
    Some(Verdict::blocked(
        Reason::Protected,
        format!(
            "{} would act on an image in use, {first}, so it was not put; what was in force stays",
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

/// The status after a look.
pub(crate) fn told(sight: &Sight, decision: &Decision) -> Option<AppliedLifecycle> {
    let old = &sight.recorded;
    let (reason, message) = match decision {
        // Cut off between a step and the next look: nothing is settled.
        Decision::Step(_) => (Reason::Previewing, String::new()),
        Decision::Rest(None) if matches!(sight.wish, Wish::Held { .. }) => (Reason::Suspended, String::new()),
        Decision::Rest(None) if is_shown_only(&sight.wish) => (Reason::Observed, String::new()),
        Decision::Rest(None) => (Reason::Settled, sight.unreleasable.clone().unwrap_or_default()),
        Decision::Rest(Some(Verdict::Waiting { reason, message, .. } | Verdict::Blocked { reason, message })) => {
            (*reason, message.clone())
        }
        Decision::Rest(Some(verdict)) => (verdict.reason(), verdict.to_string()),
    };
    let mut message = message;
    cut(&mut message, 1_000);
    let mut new = AppliedLifecycle {
        policy: sight.wish.by().to_owned(),
        reason: reason.as_str().to_owned(),
        message,
        put: put_mark(sight),
        asked: sight.wish.asked(),
        preview: None,
    };
    new.preview = match (&sight.wish, &sight.foreseen) {
        (_, _) if reason == Reason::Settled => None,
        (Wish::Claimed(claim), Foreseen::Yes(outcome)) => Some(outcome.shown(&claim.document)),
        (Wish::Claimed(_), _) if old.asked == new.asked => old.preview.clone(),
        _ => None,
    };
    match &sight.wish {
        Wish::Unclaimed => match &sight.live {
            Live::Known(_) | Live::Unknown(_) => Some(AppliedLifecycle {
                message: "a lifecycle policy that no object here claims is in force; it is left alone".into(),
                put: String::new(),
                ..new
            }),
            // Nothing was read because nothing is ours.
            Live::Unread => sight
                .recorded
                .policy
                .is_empty()
                .then(|| old.clone())
                .filter(|old| *old != AppliedLifecycle::default()),
            Live::Absent => None,
        },
        Wish::Held { .. } | Wish::Claimed(_) => Some(new),
    }
}

fn is_shown_only(wish: &Wish) -> bool {
    matches!(wish, Wish::Claimed(claim) if claim.mode == CleanupMode::Preview)
}

/// The mark of the document that we put last, as far as it is still there.
fn put_mark(sight: &Sight) -> String {
    let recorded = &sight.recorded.put;
    match (&sight.live, &sight.wish) {
        (Live::Known(live), Wish::Claimed(claim))
            if claim.mode == CleanupMode::Enforce && live.means_the_same(&claim.document) =>
        {
            mark(live)
        }
        (Live::Known(live), _) if mark(live) == *recorded => recorded.clone(),
        (Live::Known(_) | Live::Absent | Live::Unknown(_), _) => String::new(),
        (Live::Unread, _) => recorded.clone(),
    }
}
