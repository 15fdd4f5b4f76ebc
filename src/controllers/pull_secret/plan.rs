//! Decides what is to be done with the Secret and with the ServiceAccounts. Pure.
//!
//! What could be destroyed here, and what stands against it:
//!
//! - *A Secret of somebody else.* Only a Secret that carries both the owner reference and the label with the uid of this very
//!   object is written or deleted, and each write and deletion carries the uid and the resourceVersion of what was seen. A
//!   new one is created and never applied, so that one that appears meanwhile is not overwritten.
//! - *A way to pull that others rely on.* Of a ServiceAccount's `imagePullSecrets` only an entry goes that the status records as
//!   added by this object; one that was there before is never recorded. The list is replaced under the resourceVersion of
//!   what was seen.
//! - *A token that still holds.* Whatever fails, what is there stays until it expires; only lost rights take it away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    entries::{Entry, Known},
    scope::Scope,
};
use crate::{
    api::PullSecret,
    aws::error::AwsError,
    control::{
        error::Error,
        plan::{Goal, Plan, Verdict, Warning},
        reason::Reason,
    },
    controllers::access::Denied,
};

/// How soon to look again where a hint comes when things change.
const HINTED: Duration = Duration::from_mins(2);

/// How soon to look again for a Registry that has not been looked at yet.
const SOON: Duration = Duration::from_secs(2);

/// How soon to look again for a `ServiceAccount` that is missing: none is watched.
const MISSING: Duration = Duration::from_mins(1);

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// By Registry, in the order of the spec.
    pub scopes: Vec<(String, Result<Scope, Denied>)>,
    pub secret: SecretSeen,
    /// The wanted ones and the recorded ones.
    pub accounts: BTreeMap<String, AccountSeen>,
    /// Registries of which no token could be had in this look, and why.
    pub failed: BTreeMap<String, AwsError>,
    /// Registries whose token is due by a clock that nobody can set.
    pub overdue: BTreeSet<String>,
}

/// The Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSeen {
    Absent,
    Ours(Ours),
    /// Of another `PullSecret`, whose name it is, or of whoever.
    Another(Option<String>),
    /// Ours by its marks, and of this type, which cannot be changed.
    OfType(String),
    /// It could not be looked at, and will not until somebody acts.
    Unreadable(String),
}

/// The Secret of this object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    pub uid: String,
    pub resource_version: String,
    pub entries: Vec<Known>,
    /// Whether it is just as it was written.
    pub intact: bool,
}

/// A `ServiceAccount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AccountSeen {
    Missing,
    Found {
        uid: String,
        resource_version: String,
        /// Its `imagePullSecrets` by name, in their order.
        names: Vec<String>,
    },
    Unreadable(String),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Takes tokens of these Registries and writes the Secret. Where none can be had, the others stand.
    Write {
        secret: String,
        create: bool,
        renew: Vec<String>,
        /// Entries that go.
        drop: Vec<String>,
    },
    Delete {
        secret: String,
        why: &'static str,
    },
    Join {
        account: String,
        secret: String,
    },
    Leave {
        account: String,
        secret: String,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write {
                secret,
                create: true,
                renew,
                ..
            } => write!(f, "create Secret {secret} with tokens of {}", renew.join(", ")),
            Self::Write {
                secret, renew, drop, ..
            } => match (renew.is_empty(), drop.is_empty()) {
                (true, true) => write!(f, "put back what was changed in Secret {secret}"),
                (true, false) => write!(f, "take the tokens of {} out of Secret {secret}", drop.join(", ")),
                (false, true) => write!(f, "renew the tokens of {} in Secret {secret}", renew.join(", ")),
                (false, false) => write!(
                    f,
                    "renew the tokens of {} in Secret {secret} and take those of {} out",
                    renew.join(", "),
                    drop.join(", ")
                ),
            },
            Self::Delete { secret, why } => write!(f, "delete Secret {secret}: {why}"),
            Self::Join { account, secret } => {
                write!(f, "add {secret} to the imagePullSecrets of ServiceAccount {account}")
            }
            Self::Leave { account, secret } => {
                write!(
                    f,
                    "take {secret} out of the imagePullSecrets of ServiceAccount {account}"
                )
            }
        }
    }
}

/// Decides.
pub(crate) fn plan(object: &PullSecret, goal: Goal, seen: &Seen, now: Timestamp) -> Plan<Step> {
    match goal {
        Goal::Absent => absent(object, seen),
        Goal::Present => present(object, seen, now),
    }
}

fn absent(object: &PullSecret, seen: &Seen) -> Plan<Step> {
    let secret = object.secret_name();
    let mut plan = Plan::verdict(Verdict::settled());
    plan.steps = leaving(object, seen, |_| true);
    for (account, found) in &seen.accounts {
        if let (AccountSeen::Unreadable(why), true) = (found, recorded(object, account)) {
            plan.warnings.push(Warning {
                reason: "Left",
                message: format!("{secret} stays in the imagePullSecrets of ServiceAccount {account}: {why}"),
            });
        }
    }
    match &seen.secret {
        SecretSeen::Ours(_) => plan.steps.push(Step::Delete {
            secret,
            why: "its PullSecret is deleted",
        }),
        // Kubernetes' garbage collector goes by the owner reference; an object that waited would never go.
        SecretSeen::Unreadable(why) => plan.warnings.push(Warning {
            reason: "Left",
            message: format!("Secret {secret} is left to the garbage collector: {why}"),
        }),
        SecretSeen::OfType(_) | SecretSeen::Absent | SecretSeen::Another(_) => {}
    }
    plan
}

fn present(object: &PullSecret, seen: &Seen, now: Timestamp) -> Plan<Step> {
    let secret = object.secret_name();
    let none = Vec::new();
    let entries = match &seen.secret {
        SecretSeen::Ours(ours) => &ours.entries,
        _ => &none,
    };
    let lost = !seen.scopes.is_empty() && seen.scopes.iter().all(|(_, scope)| is_lost(scope));
    if !lost && let Some(verdict) = in_the_way(&secret, &seen.secret) {
        return Plan {
            steps: leaving(object, seen, |account| !object.spec.service_accounts.contains(account)),
            holds: holds(object, seen),
            ..Plan::verdict(verdict)
        };
    }
    let drop: Vec<String> = entries
        .iter()
        .map(|known| &known.entry.registry)
        .filter(|registry| scope(seen, registry).is_none_or(is_lost))
        .cloned()
        .collect();
    let renew: Vec<String> = seen
        .scopes
        .iter()
        .filter(|(registry, scope)| is_due(object, registry, scope, seen, entries, now))
        .map(|(registry, _)| registry.clone())
        .collect();
    let kept = entries.len() - drop.len();
    let mut steps = Vec::new();
    match &seen.secret {
        SecretSeen::Ours(ours) => {
            if renew.is_empty() && kept == 0 && (lost || !drop.is_empty()) {
                steps.extend(leaving(object, seen, |_| true));
                let why = "none of its tokens may stay";
                steps.push(Step::Delete { secret, why });
                return acting(steps);
            }
            let put_back = !ours.intact && kept > 0;
            if !renew.is_empty() || !drop.is_empty() || put_back {
                let create = false;
                steps.push(Step::Write {
                    secret,
                    create,
                    renew,
                    drop,
                });
                return acting(steps);
            }
        }
        _ if !renew.is_empty() => {
            let (create, drop) = (true, Vec::new());
            steps.push(Step::Write {
                secret,
                create,
                renew,
                drop,
            });
            return acting(steps);
        }
        _ => {}
    }
    steps.extend(leaving(object, seen, |account| {
        lost || !object.spec.service_accounts.contains(account)
    }));
    if matches!(seen.secret, SecretSeen::Ours(_)) {
        steps.extend(joining(object, seen));
    }
    if !steps.is_empty() {
        return acting(steps);
    }
    let (verdict, warnings) = verdict(object, seen, entries, now);
    Plan {
        holds: holds(object, seen),
        warnings,
        ..Plan::verdict(verdict)
    }
}

fn acting(steps: Vec<Step>) -> Plan<Step> {
    Plan {
        steps,
        holds: true,
        ..Plan::verdict(Verdict::settled())
    }
}

/// Whether there is anything that the object has to take away when it goes.
fn holds(object: &PullSecret, seen: &Seen) -> bool {
    matches!(seen.secret, SecretSeen::Ours(_))
        || object
            .status
            .as_ref()
            .is_some_and(|status| !status.service_accounts.is_empty())
}

/// What keeps the Secret from being written at all.
fn in_the_way(name: &str, secret: &SecretSeen) -> Option<Verdict> {
    let blocked = |reason, message| Some(Verdict::Blocked { reason, message });
    match secret {
        SecretSeen::Absent | SecretSeen::Ours(_) => None,
        SecretSeen::Another(Some(owner)) => blocked(
            Reason::OwnedByAnother,
            format!("Secret {name} belongs to another object: PullSecret {owner}"),
        ),
        SecretSeen::Another(None) => blocked(
            Reason::Exists,
            format!("Secret {name} exists and does not belong to this object, so that it is left alone"),
        ),
        SecretSeen::OfType(type_) => blocked(
            Reason::Conflict,
            format!(
                "Secret {name} carries the marks of this object and is of type {type_:?}, which cannot be changed; delete it to have \
                 it made anew"
            ),
        ),
        SecretSeen::Unreadable(why) => blocked(Reason::Refused, why.clone()),
    }
}

fn scope<'a>(seen: &'a Seen, registry: &str) -> Option<&'a Result<Scope, Denied>> {
    let found = seen.scopes.iter().find(|(name, _)| name == registry);
    found.map(|(_, scope)| scope)
}

/// Whether a token of the Registry is to be taken away.
fn is_lost(scope: &Result<Scope, Denied>) -> bool {
    matches!(scope, Err(Denied::NotAnyMore(_)))
}

fn entry<'a>(entries: &'a [Known], registry: &str) -> Option<&'a Entry> {
    let found = entries.iter().find(|known| known.entry.registry == registry);
    found.map(|known| &known.entry)
}

/// What the renewals of an object are spread by.
pub(crate) fn seed(object: &PullSecret) -> &str {
    object.metadata.uid.as_deref().unwrap_or_default()
}

/// Whether a token of the Registry is to be taken now.
fn is_due(
    object: &PullSecret,
    registry: &str,
    scope: &Result<Scope, Denied>,
    seen: &Seen,
    entries: &[Known],
    now: Timestamp,
) -> bool {
    let Ok(scope) = scope else { return false };
    let needs_one = match entry(entries, registry) {
        None => true,
        Some(entry) => {
            entry.scope != scope.digest || entry.is_due(seed(object), now) || seen.overdue.contains(registry)
        }
    };
    needs_one && !seen.failed.contains_key(registry)
}

fn recorded(object: &PullSecret, account: &str) -> bool {
    let status = object.status.as_ref();
    status.is_some_and(|status| status.service_accounts.iter().any(|name| name == account))
}

fn has(seen: &AccountSeen, secret: &str) -> bool {
    matches!(seen, AccountSeen::Found { names, .. } if names.iter().any(|name| name == secret))
}

/// The accounts that have our entry and are to lose it.
fn leaving(object: &PullSecret, seen: &Seen, goes: impl Fn(&String) -> bool) -> Vec<Step> {
    let secret = object.secret_name();
    let ours = seen
        .accounts
        .iter()
        .filter(|(account, found)| recorded(object, account) && has(found, &secret) && goes(account));
    ours.map(|(account, _)| Step::Leave {
        account: account.clone(),
        secret: secret.clone(),
    })
    .collect()
}

/// The accounts that are to get the entry.
fn joining(object: &PullSecret, seen: &Seen) -> Vec<Step> {
    let secret = object.secret_name();
    let wanted = object.spec.service_accounts.iter();
    let lacking = wanted.filter(|account| {
        let found = seen.accounts.get(*account);
        found.is_some_and(|found| matches!(found, AccountSeen::Found { .. }) && !has(found, &secret))
    });
    lacking
        .map(|account| Step::Join {
            account: account.clone(),
            secret: secret.clone(),
        })
        .collect()
}

/// What is wrong with one Registry's entry, and what kind of thing it is.
pub(crate) fn trouble(seen: &Seen, registry: &str) -> Option<(Reason, String)> {
    if let Some(error) = seen.failed.get(registry) {
        let reason = Error::from(error.clone()).reason();
        return Some((reason, format!("no new token of {registry}: {error}")));
    }
    let verdict = scope(seen, registry)?.as_ref().err()?.verdict();
    verdict.trouble().map(|message| (verdict.reason(), message.to_owned()))
}

fn verdict(object: &PullSecret, seen: &Seen, entries: &[Known], now: Timestamp) -> (Verdict, Vec<Warning>) {
    let (mut fatal, mut pending): (Vec<(Reason, String)>, Vec<String>) = Default::default();
    let mut not_yet = false;
    for (registry, scope) in &seen.scopes {
        let valid = entry(entries, registry).is_some_and(|entry| entry.is_valid(now));
        not_yet |= matches!(scope, Err(Denied::NotNow(Verdict::NotYet { .. })));
        match trouble(seen, registry) {
            Some((_, message)) if valid => pending.push(message),
            Some(trouble) => fatal.push(trouble),
            None => {}
        }
    }
    let warnings = pending
        .iter()
        .map(|message| Warning {
            reason: "NotRenewed",
            message: format!("{message}; the token that is there is kept until it expires"),
        })
        .collect();
    let together =
        |messages: &mut dyn Iterator<Item = &String>| messages.map(String::as_str).collect::<Vec<_>>().join("; ");
    if let Some((reason, _)) = fatal.first() {
        let reason = *reason;
        let message = together(&mut fatal.iter().map(|(_, message)| message));
        let verdict = match reason {
            Reason::RegistryNotReady => Verdict::Waiting {
                reason,
                message,
                after: HINTED,
            },
            _ => Verdict::Blocked { reason, message },
        };
        return (verdict, warnings);
    }
    if not_yet {
        return (Verdict::NotYet { after: SOON }, warnings);
    }
    let accounts = &object.spec.service_accounts;
    let unreadable = accounts.iter().find_map(|account| match seen.accounts.get(account) {
        Some(AccountSeen::Unreadable(why)) => Some(why.clone()),
        _ => None,
    });
    if let Some(message) = unreadable {
        return (Verdict::blocked(Reason::Refused, message), warnings);
    }
    let missing: Vec<&str> = accounts
        .iter()
        .filter(|account| !matches!(seen.accounts.get(*account), Some(AccountSeen::Found { .. })))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let message = format!(
            "ServiceAccounts of spec.serviceAccounts do not exist: {}",
            missing.join(", ")
        );
        let verdict = Verdict::Waiting {
            reason: Reason::TargetMissing,
            message,
            after: MISSING,
        };
        return (verdict, warnings);
    }
    let message = match pending.is_empty() {
        true => String::new(),
        false => format!(
            "The Secret is valid and could not be renewed: {}; it is kept until it expires, and the renewal is tried again.",
            together(&mut pending.iter())
        ),
    };
    (Verdict::Settled { message }, warnings)
}
