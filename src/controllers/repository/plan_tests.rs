//! The decisions about a repository, as plain functions.

#![expect(
    clippy::needless_pass_by_value,
    reason = "json!() values are made where they are passed"
)]

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::json;

use super::{
    desired::{Desired, compose},
    note_sight,
    plan::{Facts, Images, Live, LivePolicy, Seen, Sight, plan},
    step::Step,
};
use crate::{
    api::{
        DELETE_IMAGES_ANNOTATION, OWNER_TAG, Registry, Repository,
        repository::{DeletionPolicy, RepositoryStatus},
    },
    aws::record::{Mutability, Record, StoredEncryption},
    control::{
        plan::{Goal, Plan, Verdict},
        reason::Reason,
    },
    controllers::access::{Denied, Grants},
    document::policy::Policy,
};

pub(super) const OWNER: &str = "platform/team-a/web";

pub(super) fn registry() -> Registry {
    let spec = json!({ "region": "eu-west-1", "registryId": "111122223333", "mode": "Manage" });
    Registry::new("main", serde_json::from_value(spec).unwrap())
}

/// An object of the given spec, beside `registryRef`.
pub(super) fn object(spec: serde_json::Value) -> Repository {
    let mut whole = json!({ "registryRef": { "name": "main" } });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let mut object = Repository::new("web", serde_json::from_value(whole).unwrap());
    object.metadata.namespace = Some("team-a".into());
    object
}

pub(super) fn created() -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap()
}

/// An object that has recorded the repository as its own.
pub(super) fn recorded(spec: serde_json::Value) -> Repository {
    let mut object = object(spec);
    let arn = "arn:aws:ecr:eu-west-1:111122223333:repository/team-a/web".to_owned();
    object.status = Some(RepositoryStatus {
        created_at: Some(created()),
        arn: Some(arn),
        ..RepositoryStatus::default()
    });
    object
}

fn desired(object: &Repository) -> Result<Desired, Verdict> {
    let name = object.repository_name().unwrap();
    compose(
        object,
        &name,
        &registry(),
        &Grants::default(),
        &"platform".parse().unwrap(),
    )
}

pub(super) fn live(tags: &[(&str, &str)]) -> Live {
    Live {
        record: Arc::new(Record {
            name: "team-a/web".parse().unwrap(),
            arn: "arn:aws:ecr:eu-west-1:111122223333:repository/team-a/web".into(),
            uri: "111122223333.dkr.ecr.eu-west-1.amazonaws.com/team-a/web".into(),
            registry_id: "111122223333".into(),
            created_at: created(),
            mutability: Mutability::new("MUTABLE", []),
            scan_on_push: false,
            encryption: StoredEncryption {
                encryption_type: "AES256".into(),
                kms_key: None,
            },
        }),
        tags: tags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        policy: LivePolicy::Absent,
        images: Images::Unread,
    }
}

pub(super) fn ours() -> Live {
    live(&[(OWNER_TAG, OWNER)])
}

pub(super) fn sight(object: &Repository, live: Option<Live>) -> Sight {
    Sight {
        desired: desired(object).unwrap(),
        manage: true,
        live,
        cleanup: None,
        vanished: false,
        claim_held: true,
        deletion_sent: false,
        lock: None,
    }
}

fn decide(object: &Repository, goal: Goal, sight: Sight) -> Plan<Step> {
    let registry = registry();
    let facts = Facts {
        object,
        registry_id: Some(&registry.spec.registry_id),
    };
    plan(&facts, goal, &Seen::Open(Box::new(sight)))
}

fn present(object: &Repository, live: Option<Live>) -> Plan<Step> {
    decide(object, Goal::Present, sight(object, live))
}

fn absent(object: &Repository, live: Option<Live>) -> Plan<Step> {
    decide(object, Goal::Absent, sight(object, live))
}

#[track_caller]
fn refused(plan: &Plan<Step>) -> Reason {
    assert_eq!(plan.steps, [], "nothing may be done");
    plan.verdict.reason()
}

// === Present ===

#[test]
fn what_does_not_exist_is_created_with_its_mark_and_the_registrys_defaults() {
    let object = object(json!({ "tags": { "team": "a" } }));
    let plan = present(&object, None);
    let [Step::Create { name, creation }] = &plan.steps[..] else {
        panic!("{:?}", plan.steps)
    };
    assert_eq!(name.as_str(), "team-a/web");
    assert_eq!(
        creation.tags,
        BTreeMap::from([(OWNER_TAG.into(), OWNER.into()), ("team".into(), "a".into())])
    );
    assert!(plan.holds, "it needs a finalizer before it is created");
}

#[test]
fn what_is_left_out_is_left_alone() {
    let object = recorded(json!({}));
    let mut live = ours();
    live.tags.insert("theirs".into(), "x".into());
    let plan = present(&object, Some(live));
    assert_eq!(plan.steps, []);
    assert_eq!(plan.verdict, Verdict::settled());
}

#[test]
fn each_difference_becomes_one_step_that_says_from_what_to_what() {
    let object = recorded(json!({
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "dev-*" }],
        "scanOnPush": true,
        "tags": { "team": "a" },
    }));
    let mut live = ours();
    live.tags.insert("team".into(), "b".into());
    let lines: Vec<String> = present(&object, Some(live))
        .steps
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        lines,
        [
            "tags team: \"b\" -> \"a\"",
            "imageTagMutability: MUTABLE -> IMMUTABLE_WITH_EXCLUSION [dev-*]",
            "scanOnPush: false -> true",
        ]
    );
}

#[test]
fn the_policy_of_a_new_repository_is_planned_with_it_and_one_that_is_too_long_stops_the_creation() {
    let access = json!({ "policy": { "access": { "pull": { "principals": ["111122223333"] } } } });
    let plan = present(&object(access), None);
    assert!(
        matches!(&plan.steps[..], [Step::Create { .. }, Step::SetPolicy { .. }]),
        "{:?}",
        plan.steps
    );
    let roles: Vec<String> = (0..300)
        .map(|n| format!("arn:aws:iam::111122223333:role/a-rather-long-name-{n}"))
        .collect();
    let long = json!({ "policy": { "access": { "pull": { "principals": roles } } } });
    assert_eq!(refused(&present(&object(long), None)), Reason::Invalid);
}

#[test]
fn what_is_trusted_keeps_its_words_and_an_observed_object_gets_no_finalizer() {
    let object = recorded(json!({}));
    let registry = registry();
    let facts = Facts {
        object: &object,
        registry_id: Some(&registry.spec.registry_id),
    };
    let seen = |manage| Seen::Trusted {
        manage,
        message: "the alias was not verified".into(),
        cleanup: None,
    };
    let managed = plan(&facts, Goal::Present, &seen(true));
    assert_eq!(
        managed.verdict,
        Verdict::Settled {
            message: "the alias was not verified".into()
        }
    );
    let observed = plan(&facts, Goal::Present, &seen(false));
    assert_eq!((observed.verdict.reason(), observed.holds), (Reason::Observed, false));
}

#[test]
fn only_tags_that_were_recorded_as_ours_are_removed() {
    let mut object = recorded(json!({ "tags": {} }));
    object.status.as_mut().unwrap().managed_tags = vec!["old".into()];
    let mut live = ours();
    live.tags
        .extend([("old".into(), "x".into()), ("theirs".into(), "y".into())]);
    assert_eq!(
        present(&object, Some(live)).steps,
        [Step::Untag {
            keys: vec!["old".into()]
        }]
    );
}

#[test]
fn tags_that_the_spec_no_longer_speaks_of_stay() {
    let mut object = recorded(json!({}));
    object.status.as_mut().unwrap().managed_tags = vec!["old".into()];
    let mut live = ours();
    live.tags.insert("old".into(), "x".into());
    assert_eq!(present(&object, Some(live)).steps, []);
}

#[test]
fn a_repository_of_nobody_is_adopted_only_where_the_object_says_so() {
    assert_eq!(refused(&present(&object(json!({})), Some(live(&[])))), Reason::Exists);
    let adopting = object(json!({ "adoption": "Adopt" }));
    let plan = present(&adopting, Some(live(&[])));
    assert!(
        matches!(&plan.steps[..], [Step::Tag { adopts: true, set, .. }] if set.len() == 1),
        "{:?}",
        plan.steps
    );
}

#[test]
fn a_repository_of_another_object_is_never_touched() {
    for owner in ["platform/team-b/web", "other/team-a/web", "platform/team-a/web2"] {
        let adopting = object(json!({ "adoption": "Adopt", "scanOnPush": true }));
        assert_eq!(
            refused(&present(&adopting, Some(live(&[(OWNER_TAG, owner)])))),
            Reason::OwnedByAnother
        );
    }
}

#[test]
fn a_mark_that_somebody_took_off_is_put_back() {
    let plan = present(&recorded(json!({})), Some(live(&[])));
    assert!(
        matches!(&plan.steps[..], [Step::Tag { adopts: false, .. }]),
        "{:?}",
        plan.steps
    );
}

#[test]
fn a_repository_that_came_back_with_another_time_and_no_mark_is_somebody_elses() {
    let mut object = recorded(json!({ "adoption": "Adopt" }));
    object.status.as_mut().unwrap().created_at = Some(Timestamp::from_second(1_600_000_000).unwrap());
    assert_eq!(refused(&present(&object, Some(live(&[])))), Reason::OwnedByAnother);
}

#[test]
fn a_vanished_repository_is_created_again_with_a_warning() {
    let object = recorded(json!({}));
    let vanished = Sight {
        vanished: true,
        ..sight(&object, None)
    };
    let plan = decide(&object, Goal::Present, vanished);
    assert!(matches!(plan.steps[..], [Step::Create { .. }]));
    assert_eq!(plan.warnings[0].reason, "Recreated");
}

#[test]
fn other_encryption_is_reported_and_blocks_an_adoption_before_it_leaves_a_mark() {
    let kms = json!({ "encryption": { "encryptionType": "KMS" }, "adoption": "Adopt", "scanOnPush": true });
    assert_eq!(
        refused(&present(&object(kms.clone()), Some(live(&[])))),
        Reason::Immutable
    );
    let owned = present(&recorded(kms), Some(ours()));
    assert_eq!(owned.steps, [Step::SetScanOnPush { to: true }], "the rest goes on");
    assert_eq!(owned.verdict.reason(), Reason::Immutable);
}

#[test]
fn where_nothing_may_be_written_the_steps_are_told_as_differences() {
    let object = object(json!({ "scanOnPush": true, "encryption": { "encryptionType": "KMS" } }));
    let observing = Sight {
        manage: false,
        ..sight(&object, Some(live(&[])))
    };
    let plan = decide(&object, Goal::Present, observing);
    assert_eq!(plan.steps, []);
    assert!(!plan.holds, "an observed object gets no finalizer");
    let Verdict::Observed { differences } = plan.verdict else {
        panic!("{:?}", plan.verdict)
    };
    assert_eq!(
        differences,
        [
            "scanOnPush: false -> true",
            "encryption is AES256, the object asks for KMS"
        ]
    );
}

// === Policy ===

fn foreign() -> Policy {
    let statement = json!({ "Version": "2012-10-17", "Statement": [
        { "Sid": "Theirs", "Effect": "Allow", "Principal": { "AWS": "999999999999" }, "Action": "ecr:BatchGetImage" },
    ]});
    Policy::from_value(&statement).unwrap()
}

#[test]
fn access_leaves_the_statements_of_others_and_an_empty_one_takes_ours_away() {
    let object = recorded(json!({ "policy": { "access": { "pull": { "principals": ["111122223333"] } } } }));
    let with = |policy: LivePolicy| Live { policy, ..ours() };
    let plan = present(&object, Some(with(LivePolicy::Known(foreign()))));
    let [Step::SetPolicy { to, .. }] = &plan.steps[..] else {
        panic!("{:?}", plan.steps)
    };
    assert_eq!(to.statements().len(), 2);
    assert_eq!(to.statements()[0].sid(), Some("Theirs"));
    assert_eq!(
        present(&object, Some(with(LivePolicy::Known(to.clone())))).steps,
        [],
        "settled"
    );

    let none = recorded(json!({ "policy": { "access": {} } }));
    let back = present(&none, Some(with(LivePolicy::Known(to.clone()))));
    assert!(
        matches!(&back.steps[..], [Step::SetPolicy { to, .. }] if *to == foreign()),
        "{:?}",
        back.steps
    );
    assert_eq!(present(&none, Some(with(LivePolicy::Known(foreign())))).steps, []);
    assert_eq!(present(&none, Some(with(LivePolicy::Absent))).steps, []);
}

#[test]
fn the_last_statement_of_ours_takes_the_policy_with_it() {
    let object = recorded(json!({ "policy": { "access": { "pull": { "principals": ["111122223333"] } } } }));
    let Some(Step::SetPolicy { to, .. }) = present(&object, Some(ours())).steps.pop() else {
        panic!("no policy")
    };
    let none = recorded(json!({ "policy": { "access": {} } }));
    let plan = present(
        &none,
        Some(Live {
            policy: LivePolicy::Known(to),
            ..ours()
        }),
    );
    assert!(
        matches!(plan.steps[..], [Step::RemovePolicy { .. }]),
        "{:?}",
        plan.steps
    );
}

#[test]
fn a_policy_that_cannot_be_read_is_not_overwritten_by_access() {
    let unknown = Live {
        policy: LivePolicy::Unknown("odd".into()),
        ..ours()
    };
    let access = recorded(json!({ "policy": { "access": {} } }));
    assert_eq!(refused(&present(&access, Some(unknown.clone()))), Reason::Conflict);
    let document: serde_json::Value =
        serde_json::from_str(&foreign().to_text().replace("999999999999", "111122223333")).unwrap();
    let whole = recorded(json!({ "policy": { "document": document } }));
    assert!(matches!(
        present(&whole, Some(unknown)).steps[..],
        [Step::SetPolicy { .. }]
    ));
}

#[test]
fn principals_outside_the_tenant_are_refused_before_anything_is_looked_at() {
    for policy in [
        json!({ "access": { "pull": { "principals": ["999999999999"] } } }),
        json!({ "access": { "pull": { "organizationIds": ["o-abcdefghij"] } } }),
        json!({ "access": { "lambda": { "sourceAccounts": ["999999999999"] } } }),
        json!({ "document": { "Statement": { "Effect": "Allow", "Principal": "*", "Action": "ecr:*" } } }),
        serde_json::from_str(&format!(r#"{{ "document": {} }}"#, foreign().to_text())).unwrap(),
    ] {
        let refusal = desired(&object(json!({ "policy": policy }))).unwrap_err();
        assert_eq!(refusal.reason(), Reason::NotAllowed, "{policy}: {refusal}");
    }
}

#[test]
fn names_and_tags_of_the_operator_itself_are_refused() {
    let refusal = |spec| desired(&object(spec)).unwrap_err().reason();
    assert_eq!(refusal(json!({ "name": "ecr-operator/registry" })), Reason::Invalid);
    assert_eq!(
        refusal(json!({ "tags": { OWNER_TAG: "platform/x/y" } })),
        Reason::Invalid
    );
    assert_eq!(refusal(json!({ "tags": { "AWS:x": "y" } })), Reason::Invalid);
    let mut in_our_namespace = object(json!({}));
    in_our_namespace.metadata.namespace = Some("ecr-operator".into());
    assert_eq!(desired(&in_our_namespace).unwrap_err().reason(), Reason::Invalid);
}

#[test]
fn the_hash_speaks_of_what_is_managed_and_of_nothing_else() {
    let hash = |spec| desired(&object(spec)).unwrap().hash();
    let plain = hash(json!({}));
    assert_eq!(
        plain,
        hash(json!({ "deletionPolicy": "DeleteIfEmpty", "adoption": "Adopt" }))
    );
    for spec in [
        json!({ "scanOnPush": false }),
        json!({ "tags": {} }),
        json!({ "imageTagMutability": "MUTABLE" }),
        json!({ "policy": { "access": {} } }),
        json!({ "encryption": { "encryptionType": "AES256" } }),
    ] {
        assert_ne!(plain, hash(spec.clone()), "{spec}");
    }
    assert_eq!(
        plain, "9ec5439809433b13dc6ed0c178285779",
        "a new version must not change it without need"
    );
}

// === Absent ===

#[test]
fn retaining_takes_the_mark_off_and_nothing_else() {
    let object = recorded(json!({}));
    let plan = absent(&object, Some(ours()));
    assert_eq!(
        plan.steps,
        [Step::Release {
            name: "team-a/web".parse().unwrap()
        }]
    );
    let after = absent(&object, Some(live(&[])));
    assert_eq!((refused(&after), after.warnings.len()), (Reason::Settled, 0));
}

#[test]
fn what_is_gone_needs_nothing() {
    for policy in ["Retain", "DeleteIfEmpty", "DeleteWithImages"] {
        assert_eq!(
            refused(&absent(&recorded(json!({ "deletionPolicy": policy })), None)),
            Reason::Settled
        );
    }
}

fn deleting(policy: DeletionPolicy) -> Repository {
    let mut object = recorded(json!({}));
    object.spec.deletion_policy = policy;
    object
}

fn holding(images: Images) -> Live {
    Live { images, ..ours() }
}

#[test]
fn an_empty_repository_is_deleted_without_force() {
    for policy in [DeletionPolicy::DeleteIfEmpty, DeletionPolicy::DeleteWithImages] {
        let plan = absent(&deleting(policy), Some(holding(Images::None)));
        assert!(
            matches!(plan.steps[..], [Step::Delete { images: false, .. }]),
            "{:?}",
            plan.steps
        );
    }
}

#[test]
fn images_keep_a_repository_unless_the_object_says_in_words_that_they_may_go() {
    let if_empty = deleting(DeletionPolicy::DeleteIfEmpty);
    assert_eq!(
        refused(&absent(&if_empty, Some(holding(Images::Some)))),
        Reason::NotEmpty
    );
    let mut with_images = deleting(DeletionPolicy::DeleteWithImages);
    assert_eq!(
        refused(&absent(&with_images, Some(holding(Images::Some)))),
        Reason::NotEmpty
    );
    let mut annotate = |name: &str| {
        with_images.metadata.annotations = Some(BTreeMap::from([(DELETE_IMAGES_ANNOTATION.into(), name.into())]));
        with_images.clone()
    };
    assert_eq!(
        refused(&absent(&annotate("team-a/other"), Some(holding(Images::Some)))),
        Reason::NotEmpty
    );
    assert_eq!(
        refused(&absent(&annotate("true"), Some(holding(Images::Some)))),
        Reason::NotEmpty
    );
    let named = annotate("team-a/web");
    assert!(matches!(
        absent(&named, Some(holding(Images::Some))).steps[..],
        [Step::Delete { images: true, .. }]
    ));
    let protected = Images::Protected("in-use.abc".into());
    assert_eq!(refused(&absent(&named, Some(holding(protected)))), Reason::Protected);
    assert_eq!(
        refused(&absent(&named, Some(holding(Images::Unread)))),
        Reason::Unavailable
    );
}

#[test]
fn a_deletion_needs_the_recorded_identity() {
    let policy = DeletionPolicy::DeleteIfEmpty;
    let mut unrecorded = deleting(policy);
    unrecorded.status.as_mut().unwrap().created_at = None;
    let waits = absent(&unrecorded, Some(holding(Images::None)));
    assert_eq!(waits.steps, []);
    assert!(
        matches!(waits.verdict, Verdict::Waiting { .. }),
        "one observation comes first"
    );

    let mut other_time = deleting(policy);
    other_time.status.as_mut().unwrap().created_at = Some(Timestamp::from_second(1).unwrap());
    let left = absent(&other_time, Some(holding(Images::None)));
    assert_eq!(
        (refused(&left), left.warnings[0].reason),
        (Reason::Settled, "LeftBehind")
    );
}

#[test]
fn what_is_not_ours_any_more_is_left_behind_with_a_warning() {
    let object = deleting(DeletionPolicy::DeleteIfEmpty);
    for tags in [&[][..], &[(OWNER_TAG, "platform/team-b/web")][..]] {
        let left = absent(
            &object,
            Some(Live {
                images: Images::None,
                ..live(tags)
            }),
        );
        assert_eq!(
            (refused(&left), left.warnings[0].reason),
            (Reason::Settled, "LeftBehind")
        );
    }
    let no_claim = Sight {
        claim_held: false,
        ..sight(&object, Some(holding(Images::None)))
    };
    let left = decide(&object, Goal::Absent, no_claim);
    assert_eq!(
        (refused(&left), left.warnings[0].reason),
        (Reason::Settled, "LeftBehind")
    );
    let mut elsewhere = holding(Images::None);
    Arc::make_mut(&mut elsewhere.record).registry_id = "999999999999".into();
    assert_eq!(refused(&absent(&object, Some(elsewhere))), Reason::AccountMismatch);
}

#[test]
fn a_lost_gate_lets_the_object_go_without_a_call_and_a_closed_one_does_not() {
    let object = deleting(DeletionPolicy::DeleteWithImages);
    let registry = registry();
    let facts = Facts {
        object: &object,
        registry_id: Some(&registry.spec.registry_id),
    };
    let not_allowed = || Verdict::blocked(Reason::NotAllowed, "no tenant");
    let lost = plan(&facts, Goal::Absent, &Seen::Shut(Denied::NotAnyMore(not_allowed())));
    assert_eq!(
        (refused(&lost), lost.warnings[0].reason),
        (Reason::Settled, "LeftBehind")
    );
    let closed = plan(&facts, Goal::Absent, &Seen::Shut(Denied::NotNow(not_allowed())));
    assert_eq!(refused(&closed), Reason::NotAllowed);
}

// === Status ===

#[test]
fn only_what_is_ours_is_recorded_as_ours() {
    let object = object(json!({ "tags": { "team": "a" } }));
    let record = |manage: bool, live: Live| {
        let mut status = RepositoryStatus::default();
        note_sight(
            &mut status,
            &Sight {
                manage,
                ..sight(&object, Some(live))
            },
        );
        status
    };
    let of_another = record(true, live(&[(OWNER_TAG, "other/team-a/web"), ("team", "a")]));
    assert_eq!(of_another, RepositoryStatus::default());
    let observed = record(false, live(&[("team", "a")]));
    assert!(observed.arn.is_some());
    assert_eq!(
        observed.created_at, None,
        "or a later Manage would take it for ours without adoption"
    );
    let owned = record(true, live(&[(OWNER_TAG, OWNER), ("team", "a"), ("theirs", "x")]));
    assert_eq!(owned.created_at, Some(created()));
    assert_eq!(owned.managed_tags, ["team"]);
}
