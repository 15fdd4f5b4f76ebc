use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    entries::{self, Entry, Known},
    plan::{AccountSeen, Ours, SecretSeen, Seen, Step, plan},
    scope::Scope,
};
use crate::{
    api::{PullSecret, pull_secret::PullSecretStatus, registry::AssumeRole},
    aws::{
        error::{AwsError, Fault},
        pull::Auth,
    },
    control::{
        plan::{Goal, Plan, Verdict},
        reason::Reason,
    },
    controllers::access::Denied,
};

/// Minutes after the tokens were taken.
fn minute(minute: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60).unwrap()
}

fn object(registries: &[&str], accounts: &[&str], recorded: &[&str]) -> PullSecret {
    let refs: Vec<_> = registries
        .iter()
        .map(|name| serde_json::json!({ "name": name }))
        .collect();
    let spec = serde_json::json!({ "registryRefs": refs, "secretName": "pull", "serviceAccounts": accounts });
    let mut object = PullSecret::new("web", serde_json::from_value(spec).unwrap());
    object.metadata.uid = Some("uid".into());
    object.status = Some(PullSecretStatus {
        service_accounts: recorded.iter().map(ToString::to_string).collect(),
        ..PullSecretStatus::default()
    });
    object
}

#[expect(clippy::unnecessary_wraps, reason = "it stands where a refusal may stand")]
fn open() -> Result<Scope, Denied> {
    Ok(Scope {
        role: AssumeRole {
            role_arn: "arn:aws:iam::111122223333:role/pull".parse().unwrap(),
            external_id: None,
        },
        policy: "{}".into(),
        digest: "scope".into(),
    })
}

fn held() -> Result<Scope, Denied> {
    Err(Denied::NotNow(Verdict::blocked(
        Reason::RegistryNotReady,
        "Registry is not ready",
    )))
}

fn lost() -> Result<Scope, Denied> {
    Err(Denied::NotAnyMore(Verdict::blocked(
        Reason::NotAllowed,
        "Registry has no tenant",
    )))
}

fn not_yet() -> Result<Scope, Denied> {
    Err(Denied::NotNow(Verdict::NotYet {
        after: Duration::from_secs(2),
    }))
}

fn known(registry: &str) -> Known {
    let auth = Auth::new(format!("token-of-{registry}"));
    Known {
        entry: Entry {
            registry: registry.into(),
            host: format!("{registry}.example"),
            issued_at: minute(0),
            expires_at: minute(60),
            scope: "scope".into(),
            digest: entries::digest(&auth),
        },
        auth,
    }
}

fn ours(registries: &[&str]) -> SecretSeen {
    SecretSeen::Ours(Ours {
        uid: "secret".into(),
        resource_version: "1".into(),
        entries: registries.iter().map(|registry| known(registry)).collect(),
        intact: true,
    })
}

fn found(names: &[&str]) -> AccountSeen {
    AccountSeen::Found {
        uid: "account".into(),
        resource_version: "1".into(),
        names: names.iter().map(ToString::to_string).collect(),
    }
}

fn seen(scopes: &[(&str, Result<Scope, Denied>)], secret: SecretSeen) -> Seen {
    Seen {
        scopes: scopes
            .iter()
            .map(|(name, way)| ((*name).to_owned(), way.clone()))
            .collect(),
        secret,
        accounts: BTreeMap::new(),
        failed: BTreeMap::new(),
        overdue: BTreeSet::new(),
    }
}

fn with(mut seen: Seen, account: &str, found: AccountSeen) -> Seen {
    seen.accounts.insert(account.into(), found);
    seen
}

fn failing(mut seen: Seen, registry: &str, fault: Fault) -> Seen {
    let error = AwsError {
        operation: "AssumeRole",
        fault,
        code: "AccessDenied".into(),
        message: "no".into(),
    };
    seen.failed.insert(registry.into(), error);
    seen
}

fn lines(plan: &Plan<Step>) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

fn steps(object: &PullSecret, seen: &Seen, at: i64) -> Vec<String> {
    lines(&plan(object, Goal::Present, seen, minute(at)))
}

fn verdict(object: &PullSecret, seen: &Seen, at: i64) -> Verdict {
    let plan = plan(object, Goal::Present, seen, minute(at));
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    plan.verdict
}

fn blocked(verdict: &Verdict) -> Reason {
    match verdict {
        Verdict::Blocked { reason, .. } => *reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_is_made_renewed_at_half_its_life_and_left_alone_in_between() {
    let object = object(&["a"], &[], &[]);
    let new = seen(&[("a", open())], SecretSeen::Absent);
    assert_eq!(steps(&object, &new, 0), ["create Secret pull with tokens of a"]);
    let there = seen(&[("a", open())], ours(&["a"]));
    assert_eq!(verdict(&object, &there, 1), Verdict::settled());
    assert_eq!(verdict(&object, &there, 23), Verdict::settled());
    assert_eq!(steps(&object, &there, 30), ["renew the tokens of a in Secret pull"]);
}

#[test]
fn each_registry_is_renewed_on_its_own_and_a_new_one_joins() {
    let object = object(&["a", "b"], &[], &[]);
    let one = seen(&[("a", open()), ("b", open())], ours(&["a"]));
    assert_eq!(steps(&object, &one, 1), ["renew the tokens of b in Secret pull"]);
    let mut overdue = seen(&[("a", open()), ("b", open())], ours(&["a", "b"]));
    overdue.overdue.insert("a".into());
    assert_eq!(steps(&object, &overdue, 1), ["renew the tokens of a in Secret pull"]);
}

#[test]
fn a_token_of_another_role_or_of_other_prefixes_is_replaced_at_once() {
    let mut secret = ours(&["a"]);
    if let SecretSeen::Ours(ours) = &mut secret {
        ours.entries[0].entry.scope = "another".into();
    }
    let changed = seen(&[("a", open())], secret);
    assert_eq!(
        steps(&object(&["a"], &[], &[]), &changed, 1),
        ["renew the tokens of a in Secret pull"]
    );
}

#[test]
fn what_fails_leaves_what_is_there_until_it_expires() {
    let object = object(&["a", "b"], &[], &[]);
    let ways = [("a", open()), ("b", open())];
    let failing = failing(seen(&ways, ours(&["a", "b"])), "a", Fault::Denied);
    let half = plan(&object, Goal::Present, &failing, minute(35));
    assert_eq!(lines(&half), ["renew the tokens of b in Secret pull"]);
    let mut renewed = failing.clone();
    if let SecretSeen::Ours(ours) = &mut renewed.secret {
        ours.entries[1].entry.issued_at = minute(35);
        ours.entries[1].entry.expires_at = minute(95);
    }
    let Verdict::Settled { message } = verdict(&object, &renewed, 36) else {
        panic!("not ready")
    };
    assert!(
        message.contains("AssumeRole was refused with AccessDenied"),
        "{message}"
    );
    let warned = plan(&object, Goal::Present, &renewed, minute(36)).warnings;
    assert_eq!(warned.len(), 1);
    // The message depends on the cause alone.
    assert_eq!(verdict(&object, &renewed, 36), verdict(&object, &renewed, 50));
    assert_eq!(blocked(&verdict(&object, &renewed, 60)), Reason::Denied);
}

#[test]
fn a_registry_that_is_not_ready_is_not_asked_and_loses_nothing() {
    let object = object(&["a"], &[], &[]);
    let waiting = seen(&[("a", held())], SecretSeen::Absent);
    assert!(matches!(
        verdict(&object, &waiting, 0),
        Verdict::Waiting {
            reason: Reason::RegistryNotReady,
            ..
        }
    ));
    let there = seen(&[("a", held())], ours(&["a"]));
    assert!(matches!(verdict(&object, &there, 40), Verdict::Settled { message } if !message.is_empty()));
    assert!(matches!(verdict(&object, &there, 60), Verdict::Waiting { .. }));
    let starting = seen(&[("a", not_yet())], ours(&["a"]));
    assert!(matches!(verdict(&object, &starting, 40), Verdict::NotYet { .. }));
}

#[test]
fn lost_rights_take_their_entry_and_with_the_last_one_the_secret() {
    let object = object(&["a", "b"], &["default"], &["default"]);
    let half = with(
        seen(&[("a", lost()), ("b", open())], ours(&["a", "b"])),
        "default",
        found(&["pull"]),
    );
    assert_eq!(steps(&object, &half, 1), ["take the tokens of a out of Secret pull"]);
    let all = with(
        seen(&[("a", lost()), ("b", lost())], ours(&["a", "b"])),
        "default",
        found(&["pull"]),
    );
    assert_eq!(
        steps(&object, &all, 1),
        [
            "take pull out of the imagePullSecrets of ServiceAccount default",
            "delete Secret pull: none of its tokens may stay",
        ]
    );
    let gone = seen(&[("a", lost()), ("b", lost())], SecretSeen::Absent);
    assert_eq!(blocked(&verdict(&object, &gone, 1)), Reason::NotAllowed);
}

#[test]
fn lost_rights_go_also_where_no_other_token_can_be_had() {
    let object = object(&["a", "b"], &[], &[]);
    let failing = failing(
        seen(&[("a", lost()), ("b", open())], ours(&["a"])),
        "b",
        Fault::Unavailable,
    );
    assert_eq!(
        steps(&object, &failing, 1),
        ["delete Secret pull: none of its tokens may stay"]
    );
}

#[test]
fn a_registry_that_left_the_spec_leaves_the_secret() {
    let left = seen(&[("b", open())], ours(&["a", "b"]));
    assert_eq!(
        steps(&object(&["b"], &[], &[]), &left, 1),
        ["take the tokens of a out of Secret pull"]
    );
}

#[test]
fn a_secret_of_somebody_else_is_neither_written_nor_deleted() {
    let object = object(&["a"], &["default"], &[]);
    for (secret, reason) in [
        (SecretSeen::Another(None), Reason::Exists),
        (SecretSeen::Another(Some("other".into())), Reason::OwnedByAnother),
        (SecretSeen::OfType("Opaque".into()), Reason::Conflict),
        (SecretSeen::Unreadable("no right".into()), Reason::Refused),
    ] {
        let seen = with(seen(&[("a", open())], secret), "default", found(&[]));
        assert_eq!(blocked(&verdict(&object, &seen, 1)), reason);
        let deleted = plan(&object, Goal::Absent, &seen, minute(1));
        assert!(
            deleted.steps.is_empty() && deleted.verdict == Verdict::settled(),
            "{deleted:?}"
        );
    }
    let lost = seen(&[("a", lost())], SecretSeen::Another(None));
    assert_eq!(blocked(&verdict(&object, &lost, 1)), Reason::NotAllowed);
}

#[test]
fn what_somebody_changed_in_the_secret_is_put_back() {
    let mut secret = ours(&["a"]);
    if let SecretSeen::Ours(ours) = &mut secret {
        ours.intact = false;
    }
    let edited = seen(&[("a", open())], secret);
    assert_eq!(
        steps(&object(&["a"], &[], &[]), &edited, 1),
        ["put back what was changed in Secret pull"]
    );
    let mut nothing_left = ours(&[]);
    if let SecretSeen::Ours(ours) = &mut nothing_left {
        ours.intact = false;
    }
    // Without a token there is nothing to put back, and no end to trying in one look.
    let failing = failing(seen(&[("a", open())], nothing_left), "a", Fault::Unavailable);
    assert_eq!(
        blocked(&verdict(&object(&["a"], &[], &[]), &failing, 1)),
        Reason::Unavailable
    );
}

#[test]
fn service_accounts_join_and_leave_and_only_with_entries_of_ours() {
    let both = object(&["a"], &["default", "builder"], &[]);
    let secret = || seen(&[("a", open())], ours(&["a"]));
    let new = with(
        with(secret(), "default", found(&["other"])),
        "builder",
        found(&["pull"]),
    );
    assert_eq!(
        steps(&both, &new, 1),
        ["add pull to the imagePullSecrets of ServiceAccount default"]
    );
    // What was there before was never recorded, and stays.
    let foreign = with(secret(), "builder", found(&["pull"]));
    assert_eq!(verdict(&object(&["a"], &[], &[]), &foreign, 1), Verdict::settled());
    let ours = with(secret(), "default", found(&["other", "pull"]));
    assert_eq!(
        steps(&object(&["a"], &[], &["default"]), &ours, 1),
        ["take pull out of the imagePullSecrets of ServiceAccount default"]
    );
}

#[test]
fn a_service_account_that_is_missing_is_waited_for() {
    let object = object(&["a"], &["default"], &[]);
    let missing = with(seen(&[("a", open())], ours(&["a"])), "default", AccountSeen::Missing);
    assert!(matches!(
        verdict(&object, &missing, 1),
        Verdict::Waiting {
            reason: Reason::TargetMissing,
            ..
        }
    ));
}

#[test]
fn no_service_account_names_a_secret_that_is_not_there() {
    let object = object(&["a"], &["default"], &[]);
    let failing = failing(
        with(seen(&[("a", open())], SecretSeen::Absent), "default", found(&[])),
        "a",
        Fault::Denied,
    );
    assert_eq!(blocked(&verdict(&object, &failing, 1)), Reason::Denied);
}

#[test]
fn a_deletion_takes_our_entries_and_our_secret_and_waits_for_nothing_else() {
    let object = object(&["a"], &["default"], &["default", "gone"]);
    let all = with(
        with(seen(&[("a", held())], ours(&["a"])), "default", found(&["x", "pull"])),
        "gone",
        AccountSeen::Missing,
    );
    let plan = super::plan::plan(&object, Goal::Absent, &all, minute(1));
    assert_eq!(
        lines(&plan),
        [
            "take pull out of the imagePullSecrets of ServiceAccount default",
            "delete Secret pull: its PullSecret is deleted",
        ]
    );
    let denied = with(
        seen(&[("a", open())], SecretSeen::Unreadable("no right".into())),
        "default",
        AccountSeen::Unreadable("no right".into()),
    );
    let plan = super::plan::plan(&object, Goal::Absent, &denied, minute(1));
    assert!(plan.steps.is_empty() && plan.verdict == Verdict::settled());
    assert_eq!(plan.warnings.len(), 2);
}

#[test]
fn what_is_shown_of_a_look_holds_no_token() {
    let seen = failing(seen(&[("a", open())], ours(&["a"])), "a", Fault::Denied);
    let plan = super::plan::plan(&object(&["a"], &[], &[]), Goal::Present, &seen, minute(59));
    let shown = format!("{seen:?} {seen:#?} {plan:?}");
    assert!(!shown.contains("token-of-a"), "{shown}");
}
