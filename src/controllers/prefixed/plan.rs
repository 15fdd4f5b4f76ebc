//! What to do about a setting that ECR keeps by prefix: a pull-through cache rule or a creation template. Pure.
//!
//! Whose it is, and how a plan could destroy something, stands in `docs/decisions/0017-settings-by-prefix.md`.

use std::{fmt, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::prefixed::{AskedStatus, OwnedStatus, RetainOrDelete},
    control::{
        plan::{Goal, Plan, Verdict, Warning},
        reason::Reason,
    },
    controllers::access::Denied,
};

/// How far the creation time that ECR tells may be from when it was asked for: the longest call, and clocks that differ.
const AROUND: SignedDuration = SignedDuration::from_mins(5);

/// An entry as ECR has it.
pub(crate) trait Entry: fmt::Debug + Send + Sync + 'static {
    /// When ECR created it: another time is another entry.
    fn created_at(&self) -> Timestamp;

    /// A digest of what it says, to be compared with that of what was asked for.
    fn digest(&self) -> String;
}

/// What an object asks for.
pub(crate) trait Wish {
    type Live: Entry;
    /// Everything that a call says.
    type Terms: Clone + fmt::Debug;

    /// What `Live::digest` will be of what is created.
    fn digest(&self) -> String;

    /// What is sent to create it.
    fn creation(&self) -> Self::Terms;

    /// The line that tells of the creation, after what is created.
    fn outline(&self) -> String;

    /// What differs and is fixed at creation.
    fn fixed(&self, live: &Self::Live) -> Vec<String>;

    /// What differs and can be changed, a line each, and everything that is sent to change it; or why it cannot be.
    fn change(&self, live: &Self::Live) -> Result<Option<Change<Self::Terms>>, Verdict>;
}

/// What is sent to change an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change<T> {
    pub lines: Vec<String>,
    pub terms: T,
}

/// What was seen of an entry.
#[derive(Debug)]
pub(crate) enum Seen<E, V = ()> {
    /// The object may not act, for the reason given.
    Shut(Denied),
    /// The object goes and its entry stays: nothing was looked at.
    Unread,
    Open(Box<Sight<E, V>>),
}

/// What was read.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
#[derive(Debug)]
pub(crate) struct Sight<E, V> {
    /// Whether anything may be written.
    pub manage: bool,
    /// The object that has the prefix before this one.
    pub elder: Option<String>,
    /// `None`: it does not exist.
    pub live: Option<Arc<E>>,
    /// It was on record as this object's and is gone.
    pub vanished: bool,
    /// It was created in this reconcile, by an answer of ECR that says so.
    pub made: bool,
    /// ECR refused to create it.
    pub refused: Option<(Reason, String)>,
    /// For a deletion: the claim on the registry was read and is ours.
    pub claim_held: bool,
    /// For a deletion: it was asked for in this reconcile.
    pub deletion_sent: bool,
    /// What ECR says of it when it tries it, where it can and was asked.
    pub tried: Option<V>,
    /// Held while the reconcile acts on the prefix.
    #[expect(dead_code, reason = "it works by being held")]
    pub lock: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step<T> {
    Create {
        what: String,
        outline: String,
        terms: T,
        asked: AskedStatus,
    },
    /// Records that it is this object's: because its creation was asked for, or by adoption. Nothing is called.
    Own {
        what: String,
        created_at: Timestamp,
        adopts: bool,
    },
    Update(Change<T>),
    Delete {
        what: String,
    },
}

impl<T> fmt::Display for Step<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { what, outline, .. } => write!(f, "create {what}: {outline}"),
            Self::Own { what, adopts: true, .. } => write!(f, "adopt {what}"),
            Self::Own { what, .. } => write!(f, "note that {what} was created as this object asked"),
            Self::Update(change) => f.write_str(&change.lines.join("; ")),
            Self::Delete { what } => write!(f, "delete {what}; repositories and images stay"),
        }
    }
}

/// The reason of the Event that tells of these steps.
pub(crate) fn headline<T>(steps: &[Step<T>]) -> &'static str {
    match steps.first() {
        Some(Step::Create { .. } | Step::Own { adopts: false, .. }) => "Created",
        Some(Step::Own { adopts: true, .. }) => "Adopted",
        Some(Step::Delete { .. }) => "Deleted",
        Some(Step::Update(_)) | None => "Updated",
    }
}

/// What has to be on record before these steps are taken: whose it is can be known from nowhere else.
pub(crate) fn owned_before<T>(steps: &[Step<T>]) -> Option<OwnedStatus> {
    steps.iter().find_map(|step| match step {
        Step::Create { asked, .. } => Some(OwnedStatus {
            created_at: None,
            asked: Some(asked.clone()),
        }),
        Step::Own { created_at, .. } => Some(owning(*created_at)),
        Step::Update(_) | Step::Delete { .. } => None,
    })
}

fn owning(created_at: Timestamp) -> OwnedStatus {
    OwnedStatus {
        created_at: Some(created_at),
        asked: None,
    }
}

/// What a decision rests on besides what was seen.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The entry in words, such as `pull-through cache rule docker-hub`.
    pub what: String,
    pub owned: Option<OwnedStatus>,
    pub adopt: bool,
    pub deletion: RetainOrDelete,
}

/// Whose an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    Ours,
    /// What was asked for before, with an answer that was never seen.
    Asked,
    Adoptable,
    /// Not this object's.
    Not(String),
}

/// Decides whose an entry is, by what is on record alone.
pub(crate) fn ownership<E: Entry>(facts: &Facts, live: &E, made: bool) -> Ownership {
    let what = &facts.what;
    let created_at = live.created_at();
    let owned = facts.owned.clone().unwrap_or_default();
    if made || owned.created_at == Some(created_at) {
        return Ownership::Ours;
    }
    let asked = owned
        .asked
        .is_some_and(|asked| asked.digest == live.digest() && created_at.duration_since(asked.at).abs() <= AROUND);
    if asked {
        return Ownership::Asked;
    }
    match (facts.adopt, owned.created_at) {
        (true, _) => Ownership::Adoptable,
        (false, Some(_)) => Ownership::Not(format!(
            "{what} was deleted and created again by somebody else, and spec.adoption is Never"
        )),
        (false, None) => Ownership::Not(format!("{what} exists and spec.adoption is Never")),
    }
}

/// Plans what an object asks for.
pub(crate) fn plan<W: Wish, V>(
    facts: &Facts,
    wish: Result<&W, Verdict>,
    goal: Goal,
    seen: &Seen<W::Live, V>,
    now: Timestamp,
) -> Plan<Step<W::Terms>> {
    match (goal, seen) {
        (goal, Seen::Shut(denied)) => denied.plan(goal, |why| left_behind(facts, why)),
        (_, Seen::Unread) => Plan::verdict(Verdict::settled()),
        (Goal::Present, Seen::Open(sight)) => match wish {
            Ok(wish) => present(facts, wish, sight, now),
            Err(verdict) => Plan::verdict(verdict),
        },
        (Goal::Absent, Seen::Open(sight)) => absent(facts, sight),
    }
}

/// What there is to do where the object is to be there.
pub(crate) fn present<W: Wish, V>(
    facts: &Facts,
    wish: &W,
    sight: &Sight<W::Live, V>,
    now: Timestamp,
) -> Plan<Step<W::Terms>> {
    let what = || facts.what.clone();
    if let Some(elder) = &sight.elder {
        let message = format!("{} belongs to {elder}, which came first", facts.what);
        return Plan::verdict(Verdict::blocked(Reason::OwnedByAnother, message));
    }
    let Some(live) = &sight.live else {
        if let (Some((reason, message)), true) = (&sight.refused, sight.manage) {
            return Plan {
                holds: true,
                ..Plan::verdict(Verdict::blocked(*reason, message))
            };
        }
        let step = Step::Create {
            what: what(),
            outline: wish.outline(),
            terms: wish.creation(),
            asked: AskedStatus {
                at: now,
                digest: wish.digest(),
            },
        };
        return conclude(facts, sight, vec![step], Vec::new());
    };
    let mut fixed = wish.fixed(live);
    let change = wish.change(live);
    if !sight.manage {
        let change = change.unwrap_or_else(|verdict| {
            fixed.push(verdict.to_string());
            None
        });
        return conclude(facts, sight, change.map(Step::Update).into_iter().collect(), fixed);
    }
    let ownership = ownership(facts, live.as_ref(), sight.made);
    if let Ownership::Not(message) = ownership {
        return Plan::verdict(Verdict::blocked(Reason::Exists, message));
    }
    let change = match change {
        Ok(change) => change,
        Err(verdict) => {
            return Plan {
                holds: ownership != Ownership::Adoptable,
                ..Plan::verdict(verdict)
            };
        }
    };
    let mut steps = Vec::new();
    match ownership {
        Ownership::Ours => {}
        // An adoption that could never settle must not be on record.
        Ownership::Adoptable if !fixed.is_empty() => return Plan::verdict(immutable(facts, &fixed)),
        ownership => steps.push(Step::Own {
            what: what(),
            created_at: live.created_at(),
            adopts: ownership == Ownership::Adoptable,
        }),
    }
    if fixed.is_empty() {
        steps.extend(change.map(Step::Update));
    }
    conclude(facts, sight, steps, fixed)
}

/// Turns steps into a plan, or into a list of differences where nothing may be written.
fn conclude<T, E, V>(facts: &Facts, sight: &Sight<E, V>, steps: Vec<Step<T>>, fixed: Vec<String>) -> Plan<Step<T>> {
    if !sight.manage {
        let differences = steps.iter().map(ToString::to_string).chain(fixed).collect();
        return Plan::verdict(Verdict::Observed { differences });
    }
    let verdict = match fixed.is_empty() {
        true => Verdict::settled(),
        false => immutable(facts, &fixed),
    };
    let mut warnings = Vec::new();
    if sight.vanished {
        warnings.push(Warning {
            reason: "Recreated",
            message: format!(
                "{} was deleted in ECR by somebody else and was created again.",
                facts.what
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

fn immutable(facts: &Facts, fixed: &[String]) -> Verdict {
    let message = format!(
        "{}: {}; ECR fixes it at creation. Write what is there into the object, or delete the one in ECR to have it created anew",
        facts.what,
        fixed.join("; ")
    );
    Verdict::blocked(Reason::Immutable, message)
}

/// The object goes, what is in AWS stays, and the reader is told.
pub(crate) fn left_behind<T>(facts: &Facts, why: &str) -> Plan<Step<T>> {
    let mut plan = Plan::verdict(Verdict::settled());
    if facts.owned.is_some() && facts.deletion == RetainOrDelete::Delete {
        plan.warnings.push(Warning {
            reason: "LeftBehind",
            message: format!("{} stays in ECR as it is, because {why}.", facts.what),
        });
    }
    plan
}

fn absent<T, E: Entry, V>(facts: &Facts, sight: &Sight<E, V>) -> Plan<Step<T>> {
    let Some(live) = &sight.live else {
        return Plan::verdict(Verdict::settled());
    };
    if facts.deletion == RetainOrDelete::Retain || facts.owned.is_none() {
        return left_behind(facts, "it is not this object's");
    }
    if !sight.manage {
        return left_behind(facts, "the Registry is in mode Observe");
    }
    let never = Facts {
        adopt: false,
        ..facts.clone()
    };
    let one = |step| Plan {
        steps: vec![step],
        ..Plan::verdict(Verdict::settled())
    };
    match ownership(&never, live.as_ref(), false) {
        Ownership::Ours if !sight.claim_held => {
            left_behind(facts, "the claim on the registry is no longer this cluster's")
        }
        Ownership::Ours if sight.deletion_sent => Plan::verdict(Verdict::Waiting {
            reason: Reason::Unavailable,
            message: format!("ECR still shows {} after its deletion", facts.what),
            after: Duration::from_secs(5),
        }),
        Ownership::Ours => one(Step::Delete {
            what: facts.what.clone(),
        }),
        // What is to be deleted is on record first.
        Ownership::Asked => one(Step::Own {
            what: facts.what.clone(),
            created_at: live.created_at(),
            adopts: false,
        }),
        Ownership::Adoptable | Ownership::Not(_) => left_behind(facts, "it was not created by this object"),
    }
}

/// What is on record of whose it is, after a look.
pub(crate) fn owned_after<E: Entry, V>(facts: &Facts, goal: Goal, seen: Option<&Seen<E, V>>) -> Option<OwnedStatus> {
    let old = facts.owned.clone();
    let (Goal::Present, Some(Seen::Open(sight))) = (goal, seen) else {
        return old;
    };
    if !sight.manage || sight.elder.is_some() {
        return old;
    }
    // What was refused, or proved to be another's, is not asked for any more: something like it may come from others later.
    let without = || old.clone().filter(|owned| owned.created_at.is_some());
    match &sight.live {
        Some(live) => match ownership(facts, live.as_ref(), sight.made) {
            Ownership::Ours => Some(owning(live.created_at())),
            Ownership::Asked => old,
            Ownership::Adoptable | Ownership::Not(_) => without(),
        },
        None if sight.refused.is_some() => without(),
        None => old,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
