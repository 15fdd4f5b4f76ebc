//! What to do about a repository. Pure.
//!
//! How a plan could destroy something, and what keeps it from doing so, stands in `docs/decisions/0003-deletion.md`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    cleanup,
    desired::{Desired, PolicyWish, encryption_differs, is_alias},
    step::Step,
};
use crate::{
    api::{
        DELETE_IMAGES_ANNOTATION, OWNER_TAG, Repository,
        names::{AccountId, RepositoryName},
        repository::{DeletionPolicy, RepositoryStatus},
    },
    aws::record::Record,
    control::{
        plan::{Goal, Plan, Verdict, Warning},
        reason::Reason,
    },
    controllers::access::Denied,
    document::policy::{self, Policy},
};

/// What was seen of a repository.
#[derive(Debug)]
pub(crate) enum Seen {
    /// The object may not act, for the reason given.
    Shut(Denied),
    /// Known to be settled, but for what was seen of the lifecycle policy. The message is that of the verdict.
    Trusted {
        manage: bool,
        message: String,
        cleanup: Option<Box<Trusted>>,
    },
    Open(Box<Sight>),
}

/// The lifecycle policy of a repository of which all else is known to be settled.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub name: RepositoryName,
    pub cleanup: cleanup::Sight,
    /// Held while the reconcile acts on the repository.
    #[expect(dead_code, reason = "it works by being held")]
    pub lock: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// What was read.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
#[derive(Debug)]
pub(crate) struct Sight {
    pub desired: Desired,
    /// Whether anything may be written.
    pub manage: bool,
    /// `None`: it does not exist.
    pub live: Option<Live>,
    /// What was seen of the lifecycle policy; `None` where the object is to be deleted.
    pub cleanup: Option<cleanup::Sight>,
    /// It was recorded as ours and is gone.
    pub vanished: bool,
    /// For a deletion: the claim on the registry was read and is ours.
    pub claim_held: bool,
    /// For a deletion: it was asked for in this reconcile.
    pub deletion_sent: bool,
    /// Held while the reconcile acts on the repository.
    #[expect(dead_code, reason = "it works by being held")]
    pub lock: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// A repository that exists.
#[derive(Clone, Debug)]
pub(crate) struct Live {
    pub record: Arc<Record>,
    pub tags: BTreeMap<String, String>,
    pub policy: LivePolicy,
    pub images: Images,
}

/// The repository's policy as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LivePolicy {
    /// Not managed, so not read.
    Unread,
    Absent,
    Known(Policy),
    /// Not in a grammar we know; the text says why.
    Unknown(String),
}

/// What is known of the images, as far as a deletion needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Images {
    Unread,
    None,
    Some,
    /// At least one is in use by a cluster, by this tag.
    Protected(String),
}

/// What a decision rests on besides what was seen.
pub(crate) struct Facts<'a> {
    pub object: &'a Repository,
    /// `None`: its Registry does not exist.
    pub registry_id: Option<&'a AccountId>,
}

/// What to do about the repository of an object, in the Registry that the object names.
pub(crate) fn plan_in(facts: &Facts<'_>, goal: Goal, seen: &Seen) -> Plan<Step> {
    match (facts.registry_id, seen) {
        (Some(_), _) => plan(facts, goal, seen),
        (None, Seen::Shut(denied)) if goal == Goal::Present => Plan::verdict(denied.verdict().clone()),
        (None, _) => {
            let registry = &facts.object.spec.registry_ref.name;
            left_behind(facts.object, &format!("Registry {registry} does not exist"))
        }
    }
}

pub(crate) fn plan(facts: &Facts<'_>, goal: Goal, seen: &Seen) -> Plan<Step> {
    match (goal, seen) {
        (
            _,
            Seen::Trusted {
                manage: true,
                message,
                cleanup,
            },
        ) => with_cleanup(
            Plan {
                holds: true,
                ..Plan::verdict(Verdict::Settled {
                    message: message.clone(),
                })
            },
            cleanup.as_ref().map(|trusted| &trusted.cleanup),
        ),
        (_, Seen::Trusted { manage: false, .. }) => Plan::verdict(Verdict::Observed {
            differences: Vec::new(),
        }),
        (goal, Seen::Shut(denied)) => denied.plan(goal, |why| left_behind(facts.object, why)),
        (Goal::Present, Seen::Open(sight)) => match sight.manage {
            true => with_cleanup(present(facts.object, sight), sight.cleanup.as_ref()),
            false => present(facts.object, sight),
        },
        (Goal::Absent, Seen::Open(sight)) => absent(facts, sight),
    }
}

/// What there is to do but for the lifecycle policy.
pub(super) fn present(object: &Repository, sight: &Sight) -> Plan<Step> {
    let desired = &sight.desired;
    let Some(live) = &sight.live else {
        let mut steps = vec![Step::Create {
            name: desired.name.clone(),
            creation: desired.creation.clone(),
        }];
        match desired
            .policy
            .as_ref()
            .map_or(Ok(None), |wish| policy_step(wish, &LivePolicy::Absent))
        {
            Ok(step) => steps.extend(step),
            // What cannot be finished is not begun.
            Err(verdict) => return Plan::verdict(verdict),
        }
        return conclude(sight, steps, Vec::new(), Verdict::settled());
    };
    if sight.manage
        && let Some(refusal) = ownership(object, desired, live)
    {
        return Plan::verdict(refusal);
    }
    let mut fixed = Vec::new();
    fixed.extend(encryption_differs(desired.encryption.as_ref(), &live.record.encryption));
    let owned = live.tags.get(OWNER_TAG) == Some(&desired.owner);
    if let (Some(difference), false, true) = (fixed.first(), owned, sight.manage) {
        // An adoption that could never settle must not leave its mark.
        return Plan::verdict(Verdict::blocked(
            Reason::Immutable,
            format!("{difference}; ECR fixes it at creation"),
        ));
    }
    let steps = match settings(object, sight, live, owned) {
        Ok(steps) => steps,
        Err(verdict) => {
            return Plan {
                holds: owned && sight.manage,
                ..Plan::verdict(verdict)
            };
        }
    };
    let verdict = match fixed.first() {
        Some(difference) => Verdict::blocked(Reason::Immutable, format!("{difference}; ECR fixes it at creation")),
        None => Verdict::Settled {
            message: unverified(desired),
        },
    };
    conclude(sight, steps, fixed, verdict)
}

/// Turns steps into a plan, or into a list of differences where nothing may be written.
fn conclude(sight: &Sight, steps: Vec<Step>, fixed: Vec<String>, verdict: Verdict) -> Plan<Step> {
    if !sight.manage {
        let lifecycle = sight.cleanup.as_ref().and_then(cleanup::difference);
        let differences = steps
            .iter()
            .map(ToString::to_string)
            .chain(fixed)
            .chain(lifecycle)
            .collect();
        return Plan::verdict(Verdict::Observed { differences });
    }
    let mut warnings = Vec::new();
    if sight.vanished {
        warnings.push(Warning {
            reason: "Recreated",
            message: format!(
                "Repository {} was deleted in ECR by somebody else and was created again; its images are gone. Push them again, or restore them from a replica.",
                sight.desired.name
            ),
        });
    }
    Plan {
        steps,
        verdict,
        holds: true,
        warnings,
    }
}

/// The plan with what there is to do about the lifecycle policy, which comes last: it may delete. Where something else
/// cannot be settled, it is left as it is.
fn with_cleanup(mut plan: Plan<Step>, sight: Option<&cleanup::Sight>) -> Plan<Step> {
    if !matches!(plan.verdict, Verdict::Settled { .. }) {
        return plan;
    }
    match sight.map(cleanup::decide) {
        Some(cleanup::Decision::Step(step)) => plan.steps.push(step),
        Some(cleanup::Decision::Rest(Some(verdict))) => plan.verdict = verdict,
        Some(cleanup::Decision::Rest(None)) | None => {}
    }
    plan
}

/// Why the repository is not this object's, if it is not and may not become so.
pub(super) fn ownership(object: &Repository, desired: &Desired, live: &Live) -> Option<Verdict> {
    let name = &desired.name;
    match live.tags.get(OWNER_TAG) {
        Some(owner) if *owner == desired.owner => None,
        Some(owner) => Some(Verdict::blocked(
            Reason::OwnedByAnother,
            format!("repository {name} belongs to {owner}"),
        )),
        None => match recorded(object).created_at {
            // Only the mark is missing: somebody took it off.
            Some(created_at) if created_at == live.record.created_at => None,
            Some(_) => Some(Verdict::blocked(
                Reason::OwnedByAnother,
                format!("repository {name} was deleted and created again by somebody else"),
            )),
            None if desired.adopt => None,
            None => Some(Verdict::blocked(
                Reason::Exists,
                format!("repository {name} exists and spec.adoption is Never"),
            )),
        },
    }
}

fn recorded(object: &Repository) -> RepositoryStatus {
    object.status.clone().unwrap_or_default()
}

/// The steps that bring the settings of an existing repository to what is wanted.
fn settings(object: &Repository, sight: &Sight, live: &Live, owned: bool) -> Result<Vec<Step>, Verdict> {
    let desired = &sight.desired;
    let mut steps = Vec::new();

    let mut set = BTreeMap::new();
    if !owned && sight.manage {
        set.insert(OWNER_TAG.to_owned(), desired.owner.clone());
    }
    for (key, value) in desired.tags.iter().flatten() {
        if live.tags.get(key) != Some(value) {
            set.insert(key.clone(), value.clone());
        }
    }
    if !set.is_empty() {
        let was = set
            .keys()
            .map(|key| (key.clone(), live.tags.get(key).cloned()))
            .collect();
        let adopts = !owned && sight.manage && recorded(object).created_at.is_none();
        steps.push(Step::Tag { set, was, adopts });
    }
    if let Some(wish) = &desired.mutability
        && *wish != live.record.mutability
    {
        steps.push(Step::SetMutability {
            from: live.record.mutability.clone(),
            to: wish.clone(),
        });
    }
    if let Some(wish) = desired.scan_on_push
        && wish != live.record.scan_on_push
    {
        steps.push(Step::SetScanOnPush { to: wish });
    }
    if let Some(wish) = &desired.policy {
        steps.extend(policy_step(wish, &live.policy)?);
    }
    if let Some(wish) = &desired.tags {
        let managed = recorded(object).managed_tags;
        let surplus = managed
            .into_iter()
            .filter(|key| !wish.contains_key(key) && live.tags.contains_key(key));
        let keys: Vec<String> = surplus.collect();
        if !keys.is_empty() {
            steps.push(Step::Untag { keys });
        }
    }
    Ok(steps)
}

fn policy_step(wish: &PolicyWish, live: &LivePolicy) -> Result<Option<Step>, Verdict> {
    let standing = match live {
        LivePolicy::Known(policy) => Some(policy),
        LivePolicy::Unread | LivePolicy::Absent => None,
        LivePolicy::Unknown(why) => match wish {
            // It is to be replaced as a whole anyway.
            PolicyWish::Document(_) => None,
            PolicyWish::Statements(_) => {
                let message = format!(
                    "the repository's policy cannot be read, so the statements of others in it could be lost: {why}; mend it in ECR, or use spec.policy.document to replace it"
                );
                return Err(Verdict::blocked(Reason::Conflict, message));
            }
        },
    };
    let wanted = match wish {
        PolicyWish::Document(document) => Some(document.clone()),
        PolicyWish::Statements(ours) => policy::merge(standing, ours.clone()),
    };
    if let Some(Err(error)) = wanted.as_ref().map(Policy::check_length) {
        return Err(Verdict::blocked(Reason::Invalid, format!("spec.policy: {error}")));
    }
    Ok(match (standing, wanted) {
        (standing, Some(wanted)) if standing != Some(&wanted) => Some(Step::SetPolicy {
            from: standing.cloned(),
            to: wanted,
        }),
        (Some(standing), None) => Some(Step::RemovePolicy { from: standing.clone() }),
        _ => None,
    })
}

/// What a settled object cannot vouch for; empty where there is nothing of the kind.
pub(crate) fn unverified(desired: &Desired) -> String {
    match desired.encryption.as_ref().and_then(|wish| wish.kms_key.as_deref()) {
        Some(key) if is_alias(key) => {
            format!(
                "spec.encryption.kmsKey is the alias {key}: whether the repository's key is the one behind it was not verified"
            )
        }
        _ => String::new(),
    }
}

/// The object goes, what is in AWS stays, and the reader is told.
pub(crate) fn left_behind(object: &Repository, why: &str) -> Plan<Step> {
    let status = recorded(object);
    let mut plan = Plan::verdict(Verdict::settled());
    if let Some(arn) = status.arn.filter(|_| status.created_at.is_some()) {
        let message = format!("{arn} stays in ECR as it is, because {why}. Nothing in it was changed.");
        plan.warnings.push(Warning {
            reason: "LeftBehind",
            message,
        });
    }
    plan
}

fn absent(facts: &Facts<'_>, sight: &Sight) -> Plan<Step> {
    let desired = &sight.desired;
    let object = facts.object;
    let Some(live) = &sight.live else {
        return Plan::verdict(Verdict::settled());
    };
    if !sight.manage {
        return left_behind(object, "the Registry is in mode Observe");
    }
    let owner = live.tags.get(OWNER_TAG);
    if desired.deletion == DeletionPolicy::Retain && owner.is_none() {
        return Plan::verdict(Verdict::settled());
    }
    match owner {
        Some(owner) if *owner == desired.owner => {}
        Some(owner) => return left_behind(object, &format!("it belongs to {owner}")),
        None => return left_behind(object, &format!("the tag {OWNER_TAG} was taken off by somebody else")),
    }
    if desired.deletion == DeletionPolicy::Retain {
        let step = Step::Release {
            name: desired.name.clone(),
        };
        return Plan {
            steps: vec![step],
            ..Plan::verdict(Verdict::settled())
        };
    }
    match deletion(facts, sight, live) {
        Ok(step) => Plan {
            steps: vec![step],
            ..Plan::verdict(Verdict::settled())
        },
        Err(plan) => plan,
    }
}

/// The deletion, or the plan that stands in its place because something speaks against it.
fn deletion(facts: &Facts<'_>, sight: &Sight, live: &Live) -> Result<Step, Plan<Step>> {
    let object = facts.object;
    let name = &sight.desired.name;
    let waiting = |reason, message: String, after| Plan::verdict(Verdict::Waiting { reason, message, after });
    let Some(created_at) = recorded(object).created_at else {
        let message = format!("repository {name} is recorded in status before it is deleted");
        return Err(waiting(Reason::Conflict, message, Duration::from_secs(1)));
    };
    if created_at != live.record.created_at {
        return Err(left_behind(
            object,
            "it is another repository of the same name, created later",
        ));
    }
    if facts.registry_id.map(AccountId::as_str) != Some(live.record.registry_id.as_str()) {
        let message = format!("repository {name} was found in account {}", live.record.registry_id);
        return Err(Plan::verdict(Verdict::blocked(Reason::AccountMismatch, message)));
    }
    if !sight.claim_held {
        return Err(left_behind(
            object,
            "the claim on the registry is no longer this cluster's",
        ));
    }
    if sight.deletion_sent {
        let message = format!("ECR still shows repository {name} after its deletion");
        return Err(waiting(Reason::Unavailable, message, Duration::from_secs(5)));
    }
    let blocked = |reason, message: String| Err(Plan::verdict(Verdict::blocked(reason, message)));
    match (&live.images, sight.desired.deletion) {
        (Images::None, _) => Ok(Step::Delete {
            name: name.clone(),
            images: false,
        }),
        (Images::Unread, _) => blocked(
            Reason::Unavailable,
            format!("whether repository {name} holds images is not known"),
        ),
        (_, DeletionPolicy::Retain | DeletionPolicy::DeleteIfEmpty) => blocked(
            Reason::NotEmpty,
            format!("repository {name} holds images and spec.deletionPolicy is DeleteIfEmpty"),
        ),
        (Images::Some | Images::Protected(_), DeletionPolicy::DeleteWithImages)
            if object
                .metadata
                .annotations
                .iter()
                .flatten()
                .all(|(key, value)| key != DELETE_IMAGES_ANNOTATION || value != name.as_str()) =>
        {
            let message = format!(
                "repository {name} holds images and the annotation {DELETE_IMAGES_ANNOTATION} does not say {name:?}",
                name = name.as_str()
            );
            blocked(Reason::NotEmpty, message)
        }
        (Images::Protected(tag), DeletionPolicy::DeleteWithImages) => blocked(
            Reason::Protected,
            format!("an image in repository {name} is in use: it carries the tag {tag}"),
        ),
        (Images::Some, DeletionPolicy::DeleteWithImages) => Ok(Step::Delete {
            name: name.clone(),
            images: true,
        }),
    }
}
