//! What to do about the replicas of a repository. Pure.
//!
//! Each is planned by the functions that plan the repository itself, on the object as it would be in that Registry; here is what
//! they are to each other. How a replica could be destroyed stands in `docs/decisions/0019-replicas.md`.

use std::time::Duration;

use super::super::{
    note,
    plan::{self, Facts, Seen},
    step::Step,
};
use crate::{
    api::{
        Repository,
        names::AccountId,
        repository::{DeletionPolicy, ReplicaStatus, RepositoryStatus},
    },
    control::{
        error::Error,
        events::cut,
        plan::{Goal, Plan, Verdict, Warning},
        reason::Reason,
    },
};

/// The most replicas that a status lists.
const MOST: usize = 20;

/// How soon to look again at a registry that was not looked at yet.
const SOON: Duration = Duration::from_secs(2);

/// The longest message of a replica.
const MESSAGE: usize = 1_000;

/// What was seen of a repository and its replicas.
#[derive(Debug)]
pub(crate) struct Observed {
    pub main: Seen,
    pub replicas: Vec<Replica>,
}

/// The repository in another Registry.
#[derive(Debug)]
pub(crate) struct Replica {
    pub registry: String,
    /// The object as it would be if it named this Registry.
    pub object: Repository,
    /// To be kept as the object asks, or to be given up.
    pub goal: Goal,
    /// The account of the Registry; `None` where that does not exist.
    pub account: Option<AccountId>,
    pub outlook: Outlook,
    /// The step that was to be taken last was taken.
    pub acted: bool,
    /// Nothing is written there, though the repository itself is managed.
    pub only_observed: bool,
}

/// What is known of a replica.
#[derive(Debug)]
pub(crate) enum Outlook {
    /// It was not looked at, and nothing is said of it.
    Unread,
    Seen(Seen),
    /// It could not be looked at, or a step failed.
    Failed(Failure),
}

/// What went wrong with one replica, which concerns no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub reason: Reason,
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            reason: error.reason(),
            message: error.to_string(),
        }
    }
}

/// The Registries in which the repository is to be besides its own, or was and is to be given up. Where nothing was ever
/// written there is nothing to be given up, and nobody to be waited for.
pub(crate) fn listed(object: &Repository) -> impl Iterator<Item = (String, Goal)> {
    let deleting = object.metadata.deletion_timestamp.is_some();
    let refs = object.spec.replica_registry_refs.iter().filter(|_| !deleting);
    let wanted: Vec<&String> = refs.map(|of| &of.name).collect();
    let held = object.replicas().iter().filter(|replica| replica.holds());
    let surplus = held.map(|replica| &replica.registry);
    let surplus = surplus.filter(|name| !wanted.contains(name));
    let surplus = surplus.map(|name| (name.clone(), Goal::Absent));
    let wanted = wanted.iter().map(|name| ((*name).clone(), Goal::Present));
    wanted.chain(surplus).collect::<Vec<_>>().into_iter()
}

/// Whether the replicas are looked at: they follow the repository itself. Where it is not this object's, there is nothing
/// that they could be a replica of, and what the object has elsewhere rests; they are given up only when it is done with.
pub(crate) fn follow(object: &Repository, goal: Goal, account: Option<&AccountId>, main: &Seen) -> bool {
    match (goal, main) {
        (Goal::Present, Seen::Trusted { .. }) => true,
        (Goal::Present, Seen::Shut(_)) => false,
        (Goal::Present, Seen::Open(sight)) => {
            let refused = |live| plan::ownership(object, &sight.desired, live).is_some();
            !sight.manage || !sight.live.as_ref().is_some_and(refused)
        }
        (Goal::Absent, main) => is_done(&plan_main(object, goal, account, main)),
    }
}

/// Whether anything may be written elsewhere: an object that only observes has no finalizer.
pub(crate) fn may_write(goal: Goal, main: &Seen) -> bool {
    let manage = match main {
        Seen::Shut(_) => false,
        Seen::Trusted { manage, .. } => *manage,
        Seen::Open(sight) => sight.manage,
    };
    goal == Goal::Absent || manage
}

/// The whole plan.
pub(crate) fn plan(object: &Repository, goal: Goal, account: Option<&AccountId>, seen: &Observed) -> Plan<Step> {
    let mut whole = plan_main(object, goal, account, &seen.main);
    if seen.replicas.is_empty() || !follow(object, goal, account, &seen.main) {
        return whole;
    }
    let mut troubles = Vec::new();
    let mut warnings = Vec::new();
    let mut too_early = None;
    let mut done = true;
    for replica in &seen.replicas {
        let its = replica.plan();
        done &= is_done(&its);
        if matches!(replica.outlook, Outlook::Unread) {
            too_early = too_early.or((goal == Goal::Absent).then_some(SOON));
            continue;
        }
        whole.holds |= its.holds;
        let steps = its.steps.into_iter().map(|step| Step::In {
            registry: replica.registry.clone(),
            step: Box::new(step),
        });
        whole.steps.extend(steps);
        warnings.extend(its.warnings.into_iter().map(|warning| Warning {
            message: format!("Replica in Registry {}: {}", replica.registry, warning.message),
            ..warning
        }));
        match its.verdict {
            Verdict::Settled { .. } => {}
            Verdict::NotYet { after } if replica.was_ready() => too_early = Some(after),
            Verdict::Observed { differences } => match &mut whole.verdict {
                Verdict::Observed { differences: all } => {
                    let told = differences.into_iter().map(|difference| in_words(replica, &difference));
                    all.extend(told);
                }
                _ if differences.is_empty() => {}
                _ => troubles.push((replica, Verdict::Observed { differences })),
            },
            verdict => troubles.push((replica, verdict)),
        }
    }
    if goal == Goal::Absent && !done {
        // What is left behind of the repository itself is told when the object goes, and not at each look until then.
        whole.warnings.clear();
    }
    whole.warnings.extend(warnings);
    match (&mut whole.verdict, too_early) {
        (verdict @ Verdict::Settled { .. }, Some(after)) => *verdict = Verdict::NotYet { after },
        (verdict @ Verdict::Settled { .. }, None) => {
            if let Some(held_up) = together(&troubles) {
                *verdict = held_up;
            }
        }
        (Verdict::Observed { differences }, _) => {
            let told = troubles
                .iter()
                .map(|(replica, verdict)| in_words(replica, &verdict.to_string()));
            differences.extend(told);
        }
        // What is wrong with the repository itself comes first.
        _ => {}
    }
    whole
}

fn plan_main(object: &Repository, goal: Goal, account: Option<&AccountId>, main: &Seen) -> Plan<Step> {
    let facts = Facts {
        object,
        registry_id: account,
    };
    plan::plan_in(&facts, goal, main)
}

fn is_done(plan: &Plan<Step>) -> bool {
    plan.steps.is_empty() && matches!(plan.verdict, Verdict::Settled { .. })
}

/// How the begin of a message reads that tells of a replica.
fn begin(registry: &str) -> String {
    format!("replica in Registry {registry}: ")
}

fn in_words(replica: &Replica, what: &str) -> String {
    begin(&replica.registry) + what
}

/// Whether a condition with this message tells of a replica: all is well with the repository itself then.
pub(crate) fn holds_up(message: &str, replicas: &[ReplicaStatus]) -> bool {
    replicas
        .iter()
        .any(|replica| !replica.ready && message.starts_with(&begin(&replica.registry)))
}

/// One verdict on all that is wrong with replicas: the reason is that of the first.
fn together(troubles: &[(&Replica, Verdict)]) -> Option<Verdict> {
    let reason = troubles.first()?.1.reason();
    let told = troubles.iter().map(|(replica, verdict)| {
        let Told { message, .. } = Told::of(replica, verdict);
        in_words(replica, &message)
    });
    let message = told.collect::<Vec<_>>().join("; ");
    let waits = troubles.iter().filter_map(|(_, verdict)| match verdict {
        Verdict::Waiting { after, .. } | Verdict::NotYet { after } => Some(*after),
        _ => None,
    });
    Some(match waits.min() {
        Some(after) => Verdict::Waiting { reason, message, after },
        None => Verdict::Blocked { reason, message },
    })
}

/// What is told of a replica by itself.
struct Told {
    ready: bool,
    reason: Reason,
    message: String,
}

impl Told {
    fn of(replica: &Replica, verdict: &Verdict) -> Self {
        let (ready, message) = match verdict {
            Verdict::Settled { message } => (true, message.clone()),
            Verdict::Observed { differences } if differences.is_empty() => (true, String::new()),
            Verdict::Observed { .. } => (false, verdict.to_string()),
            Verdict::NotYet { .. } => (
                false,
                format!("Registry {} has not been looked at yet", replica.registry),
            ),
            // Nobody else can know where an unowned repository of that name comes from.
            Verdict::Blocked {
                reason: Reason::Exists,
                message,
            } => (
                false,
                format!("{message}; ECR's replication may have made it before this object did"),
            ),
            Verdict::Suspended { message } | Verdict::Waiting { message, .. } | Verdict::Blocked { message, .. } => {
                (false, message.clone())
            }
        };
        Self {
            ready,
            reason: verdict.reason(),
            message,
        }
    }
}

/// What the status says of the replicas. One that was given up is not listed any more.
pub(crate) fn told(old: &[ReplicaStatus], replicas: &[Replica]) -> Vec<ReplicaStatus> {
    let mut told = Vec::new();
    for replica in replicas {
        let before = old.iter().find(|status| status.registry == replica.registry);
        if matches!(replica.outlook, Outlook::Unread) {
            told.extend(before.cloned());
            continue;
        }
        if replica.is_given_up() {
            continue;
        }
        told.push(replica.told(before));
    }
    if told.len() > MOST {
        // What was made must not be forgotten.
        told.retain(|status| old.iter().any(|before| before.registry == status.registry));
    }
    told
}

/// Whether the status has room for the replica: one that is not on record would be forgotten.
fn has_room(object: &Repository, registry: &str) -> bool {
    let is_recorded = |name: &str| object.replicas().iter().any(|replica| replica.registry == name);
    let (recorded, new): (Vec<_>, Vec<_>) = listed(object).partition(|(name, _)| is_recorded(name));
    let before = new.iter().position(|(name, _)| name == registry);
    before.is_none_or(|before| recorded.len() + before < MOST)
}

impl Observed {
    pub(crate) fn replica(&self, registry: &str) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.registry == registry)
    }

    /// The repository and its replicas where there is something to be done to keep them as the object asks.
    pub(crate) fn acting<'a>(&'a self, object: &'a Repository) -> impl Iterator<Item = (&'a Repository, &'a Seen)> {
        let replicas = self
            .replicas
            .iter()
            .filter_map(|replica| match (&replica.outlook, replica.goal) {
                (Outlook::Seen(seen), Goal::Present) => Some((&replica.object, seen)),
                _ => None,
            });
        std::iter::once((object, &self.main))
            .chain(replicas)
            .filter(|(object, seen)| {
                // The account bears on deletions alone.
                let registry_id = None;
                !plan::plan(&Facts { object, registry_id }, Goal::Present, seen)
                    .steps
                    .is_empty()
            })
    }
}

impl Replica {
    /// One that was not looked at yet.
    pub(crate) fn unread(object: &Repository, registry: &str, goal: Goal) -> Self {
        let mut replica = object.as_replica(registry);
        if object.metadata.deletion_timestamp.is_none() && goal == Goal::Absent {
            // Taken out of the list. That the repository is to go needs more words than that.
            replica.spec.deletion_policy = DeletionPolicy::Retain;
        }
        let outlook = match has_room(object, registry) {
            true => Outlook::Unread,
            false => Outlook::Failed(Failure {
                reason: Reason::Conflict,
                message: format!(
                    "status.replicas lists {MOST} at most; this one is begun when those that were taken out of spec.replicaRegistryRefs are released"
                ),
            }),
        };
        Self {
            registry: registry.to_owned(),
            object: replica,
            goal,
            account: None,
            outlook,
            acted: false,
            only_observed: false,
        }
    }

    pub(crate) fn plan(&self) -> Plan<Step> {
        match &self.outlook {
            Outlook::Unread => Plan::verdict(Verdict::NotYet { after: SOON }),
            Outlook::Failed(Failure { reason, message }) => Plan::verdict(Verdict::blocked(*reason, message.clone())),
            Outlook::Seen(seen) => {
                let mut plan = plan_main(&self.object, self.goal, self.account.as_ref(), seen);
                // The object itself is not suspended.
                if let Verdict::Suspended { message } = plan.verdict {
                    plan.verdict = Verdict::blocked(Reason::Suspended, message);
                }
                if let (true, Verdict::Observed { differences }) = (self.only_observed, &plan.verdict)
                    && !differences.is_empty()
                {
                    let message = format!(
                        "Registry {} is in mode Observe, so that nothing is written there: {}",
                        self.registry, plan.verdict
                    );
                    plan.verdict = Verdict::blocked(Reason::Observed, message);
                }
                plan
            }
        }
    }

    /// Nothing of it is this object's any more, as was asked.
    fn is_given_up(&self) -> bool {
        self.goal == Goal::Absent && is_done(&self.plan())
    }

    /// Whether it was seen to be as the object asks when it was last told of.
    fn was_ready(&self) -> bool {
        let conditions = RepositoryStatus::conditions(self.object.status.as_ref());
        conditions.iter().any(|condition| condition.status == "True")
    }

    fn told(&self, before: Option<&ReplicaStatus>) -> ReplicaStatus {
        let plan = self.plan();
        let mut status = self.object.status.clone().unwrap_or_default();
        if let Outlook::Seen(Seen::Open(sight)) = &self.outlook {
            let settled = plan.steps.is_empty() && Told::of(self, &plan.verdict).ready;
            note(&mut status, &self.object, sight, settled);
        }
        let mut told = ReplicaStatus {
            registry: self.registry.clone(),
            arn: status.arn,
            uri: status.uri,
            registry_id: status.registry_id,
            created_at: status.created_at,
            managed_tags: status.managed_tags,
            desired_hash: status.desired_hash,
            ..before.cloned().unwrap_or_default()
        };
        let too_early = matches!(plan.verdict, Verdict::NotYet { .. }) && self.was_ready();
        if plan.steps.is_empty() && !too_early {
            let Told {
                ready,
                reason,
                mut message,
            } = Told::of(self, &plan.verdict);
            cut(&mut message, MESSAGE);
            told.ready = ready && self.goal == Goal::Present;
            reason.as_str().clone_into(&mut told.reason);
            told.message = message;
        }
        told
    }
}
