//! What to do about a registry's replication configuration. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use super::{
    backfill::{self, Moves, Stage, Stages},
    parts::Part,
    place::{Kept, Record},
};
use crate::{
    api::replication::{BackfillStatus, PolicyNeeded, VerificationStatus},
    aws::backfill::{Backfill, Unsent},
    control::{
        plan::{Goal, Plan, Verdict, Warning},
        reason::Reason,
    },
    controllers::access::Denied,
    document::replication::{
        Document, Mark, Meaning, Place,
        compose::{Claim, Composed, Next, Wish, compose, foreign, next, ours},
    },
};

/// How soon to look again where a hint will come when things change; the look is only a safety net.
const HINTED: Duration = Duration::from_mins(2);

/// How soon to look again where nothing is known yet.
const SOON: Duration = Duration::from_secs(2);

/// What was seen.
#[derive(Debug)]
pub(crate) enum Seen {
    Shut(Denied),
    /// It was settled as it is now, and nothing tells of a change.
    Trusted {
        manage: bool,
        /// What is told beside that.
        message: String,
        verified: Option<Box<VerificationStatus>>,
        needed: Vec<PolicyNeeded>,
    },
    Open(Box<Sight>),
}

impl Seen {
    /// What ECR said of images on their way, if it was asked.
    pub(crate) fn verified(&self) -> Option<&VerificationStatus> {
        match self {
            Self::Trusted { verified, .. } => verified.as_deref(),
            Self::Open(sight) => sight.verified.as_deref(),
            Self::Shut(_) => None,
        }
    }

    /// What the policies of destinations have to say, if it was looked at.
    pub(crate) fn needed(&self) -> Option<&[PolicyNeeded]> {
        match self {
            Self::Trusted { needed, .. } => Some(needed),
            Self::Open(sight) => Some(&sight.needed),
            Self::Shut(_) => None,
        }
    }
}

/// What was read, while nobody else here writes.
#[derive(Debug)]
pub(crate) struct Sight {
    pub manage: bool,
    /// The name of the object that looks.
    pub name: String,
    pub live: Document,
    pub record: Record,
    /// All backfills of the registry; `None` where nothing had to be read.
    pub known: Option<Vec<Backfill>>,
    /// Some images that backfills could not send, by backfill.
    pub unsent: BTreeMap<String, Vec<Unsent>>,
    /// What was told of the object's backfills before.
    pub earlier: Vec<BackfillStatus>,
    pub verified: Option<Box<VerificationStatus>>,
    /// What the policies of destinations have to say.
    pub needed: Vec<PolicyNeeded>,
    /// Every object of the registry, the oldest first.
    pub parts: Vec<Part>,
    /// Held to the end of the reconcile.
    pub kept: tokio::sync::OwnedMutexGuard<Kept>,
}

impl Sight {
    pub(crate) fn composed(&self) -> Composed {
        let claims: Vec<Claim> = self.parts.iter().map(|part| part.claim.clone()).collect();
        compose(&claims, &foreign(&self.live, &self.record.written))
    }

    pub(crate) fn next(&self, composed: &Composed) -> Next {
        next(&self.live, &self.record.written, &composed.rules)
    }

    /// Whether the document is to be another one.
    pub(crate) fn is_to_be_put(&self) -> bool {
        !self.next(&self.composed()).document.is_same(&self.live)
    }

    /// The destinations of this object's rules for which a backfill may have been asked.
    pub(crate) fn backfilled(&self) -> BTreeSet<Place> {
        if !self.own().is_some_and(|own| own.backfills) {
            return BTreeSet::new();
        }
        let rules = self.composed().parts.remove(&self.name).unwrap_or_default();
        rules.into_iter().flat_map(|rule| rule.destinations).collect()
    }

    /// Whether what ECR knows of backfills has to be read.
    pub(crate) fn has_open_backfills(&self) -> bool {
        let of = self.backfilled();
        let mut own = self.record.backfills.iter().filter(|(to, _)| of.contains(to));
        own.any(|(to, stage)| backfill::is_open(to, stage, &self.earlier))
    }

    fn moves(&self) -> Moves {
        match &self.known {
            Some(known) => backfill::moves(&self.record.backfills, &self.backfilled(), known),
            None => Moves::default(),
        }
    }

    /// How the backfills of this object's destinations stand.
    pub(crate) fn told(&self) -> Vec<BackfillStatus> {
        let known = self.known.as_deref().unwrap_or_default();
        backfill::told(
            &self.record.backfills,
            &self.backfilled(),
            known,
            &self.unsent,
            &self.earlier,
        )
    }

    pub(crate) fn own(&self) -> Option<&Part> {
        self.parts.iter().find(|part| part.name == self.name)
    }

    /// What the object has in ECR, if all that it gets is there.
    pub(crate) fn in_force(&self) -> Option<Vec<Meaning>> {
        let part = self.composed().parts.remove(&self.name).unwrap_or_default();
        part.iter().all(|rule| self.live.holds(rule)).then_some(part)
    }

    /// Whether rules that were in force as their objects ask for them are not there any more.
    pub(crate) fn is_drift(&self) -> bool {
        let places = ours(&self.live, &self.record.written).into_iter();
        let own = self
            .live
            .with(places.filter_map(|at| self.live.rules.get(at).cloned()).collect());
        let mut settled = self.parts.iter().filter(|part| part.settled);
        let is_gone = settled.any(|part| part.claim.in_force.iter().any(|rule| !own.holds(rule)));
        // What somebody else says in the same words is not missing.
        is_gone && !self.next(&self.composed()).missing.is_empty()
    }
}

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// The whole document is replaced.
    Put(Box<Change>),
    /// Marks of rules that are not there are taken off the record.
    Forget(BTreeSet<Mark>),
    /// What was there before the rules is sent, too.
    Backfill(Moves),
}

/// A document in place of another.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub before: Document,
    pub next: Next,
    /// The backfills that are on record then.
    pub backfills: Stages,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(change) => {
                let Next {
                    missing,
                    obsolete,
                    document,
                    marks,
                } = &change.next;
                let others = document.rules.len().saturating_sub(marks.len());
                write!(
                    f,
                    "put the replication configuration: {} to add or to change, {obsolete} of ours replaced or removed, {others} of others kept",
                    rules(missing.len())
                )?;
                let stages = change.backfills.iter();
                let wanted = stages.filter(|(_, stage)| **stage == Stage::Wanted).map(|(to, _)| to);
                for (at, to) in wanted.enumerate() {
                    let lead = if at == 0 { "; then a backfill to" } else { "," };
                    write!(f, "{lead} {} in {}", to.registry_id, to.region)?;
                }
                Ok(())
            }
            Self::Forget(_) => f.write_str("record which rules are ours"),
            Self::Backfill(moves) => {
                let places = moves.start.iter().chain(moves.found.keys());
                let places: Vec<String> = places
                    .map(|to| format!("{} in {}", to.registry_id, to.region))
                    .collect();
                write!(f, "start a backfill to {}", places.join(", "))
            }
        }
    }
}

fn rules(count: usize) -> String {
    format!("{count} {}", if count == 1 { "rule" } else { "rules" })
}

pub(crate) fn plan(goal: Goal, seen: &Seen, left: impl FnOnce(&str) -> Plan<Step>) -> Plan<Step> {
    let sight = match (seen, goal) {
        (Seen::Shut(denied), goal) => return denied.plan(goal, left),
        (
            Seen::Trusted {
                manage: true, message, ..
            },
            _,
        ) => {
            let message = message.clone();
            return Plan {
                holds: true,
                ..Plan::verdict(Verdict::Settled { message })
            };
        }
        (Seen::Trusted { manage: false, .. }, _) => {
            return Plan::verdict(Verdict::Observed {
                differences: Vec::new(),
            });
        }
        (Seen::Open(sight), _) => sight,
    };
    let composed = sight.composed();
    let next = sight.next(&composed);
    match (sight.manage, goal) {
        (false, Goal::Absent) => left("the Registry is in mode Observe"),
        (false, Goal::Present) => observed(sight),
        (true, _) => manage(goal, sight, &composed, next),
    }
}

/// Compares and writes nothing: what would be missing from the document, of this object.
fn observed(sight: &Sight) -> Plan<Step> {
    let Some(own) = sight.own() else {
        return Plan::verdict(Verdict::NotYet { after: SOON });
    };
    if let Some(refused) = own.refused.as_ref().filter(|refused| !refused.waits) {
        return Plan::verdict(Verdict::blocked(refused.reason, refused.message.clone()));
    }
    let wanted = match &own.claim.wish {
        Wish::Rules(rules) => rules.as_slice(),
        _ => &[],
    };
    let missing = wanted.iter().filter(|rule| !sight.live.holds(rule)).count();
    let differences = match missing {
        0 => Vec::new(),
        missing => vec![format!("{} not in ECR", rules(missing))],
    };
    Plan::verdict(Verdict::Observed { differences })
}

fn manage(goal: Goal, sight: &Sight, composed: &Composed, next: Next) -> Plan<Step> {
    let part = composed.parts.get(&sight.name);
    // What waits for its turn may be in force partly, by an earlier spec.
    let holds = goal == Goal::Present
        && (part.is_some_and(|rules| !rules.is_empty())
            || sight.own().is_some_and(|own| !own.claim.in_force.is_empty()));
    let moves = match goal {
        Goal::Present => sight.moves(),
        Goal::Absent => Moves::default(),
    };
    let steps = if !next.document.is_same(&sight.live) {
        vec![Step::Put(Box::new(Change {
            before: sight.live.clone(),
            next,
            backfills: stages(sight, composed),
        }))]
    } else if next.marks != sight.record.written {
        vec![Step::Forget(next.marks)]
    } else if !moves.is_empty() {
        vec![Step::Backfill(moves)]
    } else {
        Vec::new()
    };
    let told = sight.told();
    Plan {
        steps,
        verdict: match verdict(goal, sight, composed) {
            Verdict::Settled { message } if message.is_empty() => Verdict::Settled {
                message: backfill::trouble(&told),
            },
            other => other,
        },
        holds,
        warnings: newly_failed(&told, &sight.earlier),
    }
}

/// The backfills that are asked for once the rules are put: those that were, and one to each place that the rules of an
/// object with backfills bring something new to.
fn stages(sight: &Sight, composed: &Composed) -> Stages {
    let asking = sight.parts.iter().filter(|part| part.backfills);
    let rules: Vec<&Meaning> = asking
        .filter_map(|part| composed.parts.get(&part.name))
        .flatten()
        .collect();
    let mut stages = sight.record.backfills.clone();
    stages.retain(|to, _| rules.iter().any(|rule| rule.destinations.contains(to)));
    for to in sight.live.gains(rules) {
        stages.insert(to, Stage::Wanted);
    }
    stages
}

/// Backfills of which nobody was told yet that they did not send everything.
fn newly_failed(told: &[BackfillStatus], earlier: &[BackfillStatus]) -> Vec<Warning> {
    let ended = told.iter().filter(|one| {
        let mut before = earlier.iter().filter(|before| before.id == one.id);
        backfill::is_over(one) && !before.any(backfill::is_over)
    });
    let warnings = ended.filter_map(|one| {
        let trouble = backfill::trouble(std::slice::from_ref(one));
        (!trouble.is_empty()).then(|| Warning {
            reason: "BackfillFailed",
            message: format!("Not every image was replicated: {trouble}. See status.backfills for some and why, mend that, and start a backfill in ECR: this one is not repeated."),
        })
    });
    warnings.collect()
}

fn verdict(goal: Goal, sight: &Sight, composed: &Composed) -> Verdict {
    if goal == Goal::Absent {
        return Verdict::settled();
    }
    // It was just created, and the watch has it in a moment.
    let Some(own) = sight.own() else {
        return Verdict::NotYet { after: SOON };
    };
    match (&own.refused, composed.exceeded.get(&sight.name)) {
        (Some(refused), _) if refused.waits => Verdict::Waiting {
            reason: refused.reason,
            message: refused.message.clone(),
            after: HINTED,
        },
        (Some(refused), _) => Verdict::blocked(refused.reason, refused.message.clone()),
        (None, Some(exceeded)) => Verdict::blocked(
            Reason::Quota,
            format!("with the rules of this object {exceeded}; its rules that are in force stay"),
        ),
        (None, None) => Verdict::settled(),
    }
}

/// The object goes and what it has in ECR stays.
pub(crate) fn left_behind(has_rules: bool, why: &str) -> Plan<Step> {
    let mut plan = Plan::verdict(Verdict::settled());
    if has_rules {
        plan.warnings.push(Warning {
            reason: "LeftBehind",
            message: format!("The rules of this object stay in the registry's replication configuration: {why}."),
        });
    }
    plan
}
