//! The decisions about replicas, as plain functions.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{
    super::{
        plan::{Images, Live, Seen},
        plan_tests::{OWNER, created, live, object, ours, recorded, registry, sight},
        step::Step,
    },
    plan::{Failure, Observed, Outlook, Replica, follow, holds_up, listed, plan, told},
};
use crate::{
    api::{
        DELETE_IMAGES_ANNOTATION, OWNER_TAG, Repository,
        repository::{DeletionPolicy, ReplicaStatus},
    },
    control::{
        managed::Managed as _,
        plan::{Goal, Plan, Verdict},
        reason::Reason,
    },
    controllers::access::Denied,
};

/// An object that has recorded the repository and these replicas as its own.
fn kept(mut spec: Value, replicas: &[&str]) -> Repository {
    spec["replicaRegistryRefs"] = replicas.iter().map(|name| json!({ "name": name })).collect();
    let mut object = recorded(spec);
    let records = replicas.iter().map(|name| ReplicaStatus {
        created_at: Some(created()),
        begun: true,
        arn: Some(format!("arn:{name}")),
        ready: true,
        reason: "Settled".into(),
        ..ReplicaStatus::new(name)
    });
    object.status.as_mut().unwrap().replicas = records.collect();
    object
}

fn deleting(mut object: Repository, policy: DeletionPolicy) -> Repository {
    object.spec.deletion_policy = policy;
    object.metadata.deletion_timestamp = Some(Time(created()));
    object
}

fn open(object: &Repository, live: Option<Live>) -> Seen {
    Seen::Open(Box::new(sight(object, live)))
}

/// What was seen: of the repository, and of each replica.
fn seen(object: &Repository, main: Seen, replicas: Vec<(&str, Outlook)>) -> Observed {
    let replicas = replicas.into_iter().map(|(registry_name, outlook)| {
        let goal = listed(object).find(|(listed, _)| listed == registry_name).unwrap().1;
        Replica {
            account: Some(registry().spec.registry_id),
            outlook,
            ..Replica::unread(object, registry_name, goal)
        }
    });
    Observed {
        main,
        replicas: replicas.collect(),
    }
}

/// What was seen of a replica.
fn there(object: &Repository, registry: &str, live: Option<Live>) -> Outlook {
    let goal = listed(object).find(|(listed, _)| listed == registry).unwrap().1;
    Outlook::Seen(open(&Replica::unread(object, registry, goal).object, live))
}

fn failed(reason: Reason) -> Outlook {
    Outlook::Failed(Failure {
        reason,
        message: "it did not go".into(),
    })
}

fn decide(object: &Repository, goal: Goal, seen: &Observed) -> Plan<Step> {
    plan(object, goal, Some(&registry().spec.registry_id), seen)
}

fn lines(plan: &Plan<Step>) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

fn message(plan: &Plan<Step>) -> &str {
    match &plan.verdict {
        Verdict::Blocked { message, .. } | Verdict::Waiting { message, .. } => message,
        verdict => panic!("{verdict:?}"),
    }
}

// === Present ===

#[test]
fn a_replica_is_made_with_the_same_settings_and_the_same_mark() {
    let object = object(json!({ "scanOnPush": true, "replicaRegistryRefs": [{ "name": "far" }] }));
    let seen = seen(&object, open(&object, None), vec![("far", there(&object, "far", None))]);
    let plan = decide(&object, Goal::Present, &seen);
    let [Step::Create { creation, .. }, Step::In { registry, step }] = &plan.steps[..] else {
        panic!("{:?}", plan.steps)
    };
    let Step::Create { creation: there, .. } = &**step else {
        panic!("{step:?}")
    };
    assert_eq!((registry.as_str(), creation), ("far", there));
    assert_eq!(there.tags[OWNER_TAG], OWNER);
    assert_eq!(
        lines(&plan)[1],
        "in Registry far: create repository team-a/web, scanOnPush true"
    );
    assert!(plan.holds, "there is something to be given up one day");
}

#[test]
fn a_replica_is_on_record_before_it_is_made() {
    let object = object(json!({ "replicaRegistryRefs": [{ "name": "far" }] }));
    let seen = seen(&object, open(&object, None), vec![("far", there(&object, "far", None))]);
    let steps = decide(&object, Goal::Present, &seen).steps;
    let record = object.to_record(&steps).unwrap();
    let begun = ReplicaStatus {
        begun: true,
        ..ReplicaStatus::new("far")
    };
    assert_eq!(record.replicas, [begun]);
    let mut kept = kept(json!({}), &["far"]);
    kept.status = Some(record);
    assert_eq!(kept.to_record(&steps), None, "it is already");
}

#[test]
fn what_is_wrong_with_one_replica_stops_neither_the_repository_nor_another() {
    let object = kept(json!({ "scanOnPush": true }), &["down", "far"]);
    let all = |main: Seen, far: Outlook| {
        let replicas = vec![("down", failed(Reason::Denied)), ("far", far)];
        decide(&object, Goal::Present, &seen(&object, main, replicas))
    };
    let plan = all(open(&object, Some(ours())), there(&object, "far", Some(ours())));
    assert_eq!(
        lines(&plan),
        [
            "scanOnPush: false -> true",
            "in Registry far: scanOnPush: false -> true"
        ]
    );
    let trusted = || Seen::Trusted {
        manage: true,
        message: String::new(),
        cleanup: None,
    };
    let plan = all(trusted(), Outlook::Seen(trusted()));
    assert_eq!((lines(&plan).len(), plan.verdict.reason()), (0, Reason::Denied));
    assert_eq!(message(&plan), "replica in Registry down: it did not go");
    assert!(plan.holds);
    let plan = all(trusted(), failed(Reason::Throttled));
    assert_eq!(plan.verdict.reason(), Reason::Denied);
    assert_eq!(
        message(&plan),
        "replica in Registry down: it did not go; replica in Registry far: it did not go"
    );
}

#[test]
fn what_is_wrong_with_the_repository_itself_is_told_first() {
    let object = kept(json!({ "encryption": { "encryptionType": "KMS" } }), &["far"]);
    let main = open(&object, Some(ours()));
    let plan = decide(
        &object,
        Goal::Present,
        &seen(&object, main, vec![("far", failed(Reason::Denied))]),
    );
    assert_eq!(plan.verdict.reason(), Reason::Immutable);
}

#[test]
fn where_the_repository_is_not_the_objects_nothing_is_done_elsewhere() {
    let object = kept(json!({}), &["far"]);
    let of_another = live(&[(OWNER_TAG, "other/team-a/web")]);
    let shut = Seen::Shut(Denied::NotNow(Verdict::blocked(Reason::NotAllowed, "no tenant")));
    for (main, reason) in [
        (open(&object, Some(of_another)), Reason::OwnedByAnother),
        (shut, Reason::NotAllowed),
    ] {
        let seen = seen(&object, main, vec![("far", there(&object, "far", None))]);
        assert!(!follow(&object, Goal::Present, None, &seen.main));
        let plan = decide(&object, Goal::Present, &seen);
        assert_eq!((lines(&plan).len(), plan.verdict.reason()), (0, reason));
    }
}

#[test]
fn a_replica_that_exists_is_taken_by_adoption_alone_and_never_from_another() {
    let decide = |adoption: &str, tags: &[(&str, &str)]| {
        let spec = json!({ "adoption": adoption, "replicaRegistryRefs": [{ "name": "far" }] });
        let mut object = object(spec);
        object.status = recorded(json!({})).status;
        let far = there(&object, "far", Some(live(tags)));
        decide(
            &object,
            Goal::Present,
            &seen(&object, open(&object, Some(ours())), vec![("far", far)]),
        )
    };
    let refused = decide("Never", &[]);
    assert_eq!((lines(&refused).len(), refused.verdict.reason()), (0, Reason::Exists));
    assert!(
        message(&refused).starts_with("replica in Registry far: "),
        "{}",
        message(&refused)
    );
    assert!(message(&refused).contains("replication"), "{}", message(&refused));
    let adopted = decide("Adopt", &[]);
    assert!(Repository::is_adoption(&adopted.steps[0]), "{:?}", adopted.steps);
    let of_another = decide("Adopt", &[(OWNER_TAG, "other/team-a/web")]);
    assert_eq!(
        (lines(&of_another).len(), of_another.verdict.reason()),
        (0, Reason::OwnedByAnother)
    );
}

#[test]
fn a_registry_that_is_missing_is_waited_for_and_one_that_is_suspended_is_left_alone() {
    let object = kept(json!({}), &["far"]);
    let with = |denied: Denied| {
        let mut seen = seen(
            &object,
            open(&object, Some(ours())),
            vec![("far", Outlook::Seen(Seen::Shut(denied)))],
        );
        seen.replicas[0].account = None;
        decide(&object, Goal::Present, &seen)
    };
    let missing = with(Denied::NotAnyMore(Verdict::Waiting {
        reason: Reason::RegistryNotReady,
        message: "Registry far does not exist".into(),
        after: Duration::from_mins(2),
    }));
    assert!(
        matches!(missing.verdict, Verdict::Waiting { .. }),
        "{:?}",
        missing.verdict
    );
    assert_eq!(
        message(&missing),
        "replica in Registry far: Registry far does not exist"
    );
    let message = "it is suspended".to_owned();
    let suspended = with(Denied::NotNow(Verdict::Suspended { message }));
    assert_eq!(suspended.verdict.reason(), Reason::Suspended);
}

#[test]
fn after_a_start_nothing_is_said_until_the_registry_was_looked_at() {
    let object = kept(json!({}), &["far"]);
    let not_yet = || {
        Outlook::Seen(Seen::Shut(Denied::NotNow(Verdict::NotYet {
            after: Duration::from_secs(2),
        })))
    };
    let seen_of = |object: &Repository| seen(object, open(object, Some(ours())), vec![("far", not_yet())]);
    let seen = seen_of(&object);
    assert!(matches!(
        decide(&object, Goal::Present, &seen).verdict,
        Verdict::NotYet { .. }
    ));
    assert_eq!(told(object.replicas(), &seen.replicas), object.replicas());
    let mut new = object.clone();
    new.status.as_mut().unwrap().replicas.clear();
    let verdict = decide(&new, Goal::Present, &seen_of(&new)).verdict;
    assert_eq!(verdict.reason(), Reason::RegistryNotReady);
    assert!(matches!(verdict, Verdict::Waiting { .. }), "{verdict:?}");
}

#[test]
fn an_object_that_only_observes_tells_what_differs_elsewhere() {
    let object = object(json!({ "replicaRegistryRefs": [{ "name": "far" }] }));
    let observing = |live: Option<Live>| {
        let Seen::Open(mut sight) = open(&object, live) else {
            unreachable!()
        };
        sight.manage = false;
        Seen::Open(sight)
    };
    let seen = seen(
        &object,
        observing(Some(ours())),
        vec![("far", Outlook::Seen(observing(None)))],
    );
    let plan = decide(&object, Goal::Present, &seen);
    assert_eq!(lines(&plan).len(), 0);
    assert!(!plan.holds, "it gets no finalizer");
    let Verdict::Observed { differences } = plan.verdict else {
        panic!("{:?}", plan.verdict)
    };
    assert_eq!(differences, ["replica in Registry far: create repository team-a/web"]);
}

#[test]
fn a_replica_where_nothing_may_be_written_says_so_and_what_differs() {
    let object = object(json!({ "replicaRegistryRefs": [{ "name": "far" }] }));
    let Seen::Open(mut there) = open(&object, None) else {
        unreachable!()
    };
    there.manage = false;
    let mut seen = seen(
        &object,
        open(&object, Some(ours())),
        vec![("far", Outlook::Seen(Seen::Open(there)))],
    );
    seen.replicas[0].only_observed = true;
    let plan = decide(&object, Goal::Present, &seen);
    assert_eq!(lines(&plan).len(), 0);
    let words =
        "Registry far is in mode Observe, so that nothing is written there: differs: create repository team-a/web";
    let message = format!("replica in Registry far: {words}");
    assert_eq!(plan.verdict, Verdict::blocked(Reason::Observed, message));
    let status = &told(object.replicas(), &seen.replicas)[0];
    assert_eq!((status.ready, status.message.as_str()), (false, words));
}

#[test]
fn a_new_replica_is_no_drift_and_a_changed_one_is() {
    let mut object = kept(json!({ "scanOnPush": true }), &["far"]);
    let hash = sight(&object, None).desired.hash();
    let status = object.status.as_mut().unwrap();
    status.desired_hash = Some(hash.clone());
    status.replicas[0].desired_hash = Some(hash);
    let scanning = || {
        let mut live = ours();
        std::sync::Arc::make_mut(&mut live.record).scan_on_push = true;
        live
    };
    let seen = |object: &Repository, main: Live, far: Option<Live>| {
        seen(
            object,
            open(object, Some(main)),
            vec![("far", there(object, "far", far))],
        )
    };
    assert!(object.is_drift(&seen(&object, scanning(), Some(ours()))));
    assert!(object.is_drift(&seen(&object, ours(), Some(scanning()))));
    object.status.as_mut().unwrap().replicas.clear();
    assert!(!object.is_drift(&seen(&object, scanning(), None)));
}

// === Given up ===

#[test]
fn a_replica_that_is_taken_out_of_the_list_is_released_whatever_the_policy_says() {
    let mut object = kept(json!({ "deletionPolicy": "DeleteWithImages" }), &["far"]);
    object.spec.replica_registry_refs.clear();
    let annotation = (DELETE_IMAGES_ANNOTATION.to_owned(), "team-a/web".to_owned());
    object.metadata.annotations = Some([annotation].into());
    let with = |far: Option<Live>| {
        seen(
            &object,
            open(&object, Some(ours())),
            vec![("far", there(&object, "far", far))],
        )
    };
    let empty = Live {
        images: Images::None,
        ..ours()
    };
    let plan = decide(&object, Goal::Present, &with(Some(empty)));
    assert!(
        matches!(&plan.steps[..], [Step::In { step, .. }] if matches!(**step, Step::Release { .. })),
        "{:?}",
        plan.steps
    );
    let released = with(Some(live(&[])));
    assert_eq!(decide(&object, Goal::Present, &released).verdict, Verdict::settled());
    assert_eq!(told(object.replicas(), &released.replicas), []);
    let held_up = seen(
        &object,
        open(&object, Some(ours())),
        vec![("far", failed(Reason::Unavailable))],
    );
    assert_eq!(
        decide(&object, Goal::Present, &held_up).verdict.reason(),
        Reason::Unavailable
    );
    let told = told(object.replicas(), &held_up.replicas);
    assert_eq!((told[0].created_at, told[0].ready), (Some(created()), false));
}

#[test]
fn nothing_is_given_up_elsewhere_before_the_repository_itself_is_done_with() {
    let object = deleting(kept(json!({}), &["far"]), DeletionPolicy::DeleteIfEmpty);
    let empty = || Live {
        images: Images::None,
        ..ours()
    };
    let full = Live {
        images: Images::Some,
        ..ours()
    };
    let with = |main: Option<Live>| {
        let seen = seen(
            &object,
            open(&object, main),
            vec![("far", there(&object, "far", Some(empty())))],
        );
        decide(&object, Goal::Absent, &seen)
    };
    let held_up = with(Some(full));
    assert_eq!((lines(&held_up).len(), held_up.verdict.reason()), (0, Reason::NotEmpty));
    assert_eq!(
        lines(&with(Some(empty()))),
        ["delete repository team-a/web, which is empty"]
    );
    assert_eq!(
        lines(&with(None)),
        ["in Registry far: delete repository team-a/web, which is empty"]
    );
    let unread = seen(&object, open(&object, None), vec![("far", Outlook::Unread)]);
    let plan = decide(&object, Goal::Absent, &unread);
    assert!(
        matches!(plan.verdict, Verdict::NotYet { .. }),
        "what was not looked at is not done with: {:?}",
        plan.verdict
    );
}

#[test]
fn each_replica_is_deleted_by_what_is_seen_in_its_own_registry() {
    let mut object = deleting(kept(json!({}), &["far"]), DeletionPolicy::DeleteWithImages);
    let with = |object: &Repository, far: Live| {
        let seen = seen(
            object,
            open(object, None),
            vec![("far", there(object, "far", Some(far)))],
        );
        decide(object, Goal::Absent, &seen)
    };
    let holds = |images: Images| Live { images, ..ours() };
    assert_eq!(with(&object, holds(Images::Some)).verdict.reason(), Reason::NotEmpty);
    let annotation = (DELETE_IMAGES_ANNOTATION.to_owned(), "team-a/web".to_owned());
    object.metadata.annotations = Some([annotation].into());
    let in_use = with(&object, holds(Images::Protected("in-use.x".into())));
    assert_eq!((lines(&in_use).len(), in_use.verdict.reason()), (0, Reason::Protected));
    let deleted = with(&object, holds(Images::Some));
    assert_eq!(
        lines(&deleted),
        ["in Registry far: delete repository team-a/web with all its images"]
    );

    let mut other = ours();
    std::sync::Arc::make_mut(&mut other.record).created_at = created() + Duration::from_secs(1);
    let left = with(
        &object,
        Live {
            images: Images::None,
            ..other
        },
    );
    assert_eq!((lines(&left).len(), &left.verdict), (0, &Verdict::settled()));
    assert_eq!(left.warnings[0].reason, "LeftBehind");

    object.status.as_mut().unwrap().replicas[0].created_at = None;
    let unrecorded = with(&object, holds(Images::None));
    assert_eq!(
        lines(&unrecorded).len(),
        0,
        "the record of the main repository is none of a replica"
    );
    assert!(matches!(unrecorded.verdict, Verdict::Waiting { .. }));
}

#[test]
fn a_replica_whose_registry_is_gone_is_left_behind_and_one_that_is_down_is_waited_for() {
    let object = deleting(kept(json!({}), &["down", "gone"]), DeletionPolicy::Retain);
    let waiting = || Verdict::Waiting {
        reason: Reason::RegistryNotReady,
        message: "not now".into(),
        after: Duration::from_mins(2),
    };
    let shut = |denied: Denied| Outlook::Seen(Seen::Shut(denied));
    let mut seen = seen(
        &object,
        open(&object, None),
        vec![
            ("down", shut(Denied::NotNow(waiting()))),
            ("gone", shut(Denied::NotAnyMore(waiting()))),
        ],
    );
    seen.replicas[1].account = None;
    let plan = decide(&object, Goal::Absent, &seen);
    assert_eq!(lines(&plan).len(), 0);
    assert_eq!(message(&plan), "replica in Registry down: not now");
    assert_eq!(plan.warnings.len(), 1);
    assert!(
        plan.warnings[0].message.contains("arn:gone stays"),
        "{:?}",
        plan.warnings
    );
    let told = told(object.replicas(), &seen.replicas);
    assert_eq!(told.len(), 1, "what was left behind is not left behind again: {told:?}");
    assert_eq!(told[0].registry, "down");
}

#[test]
fn a_replica_of_which_nothing_was_ever_written_holds_nothing_up() {
    let mut object = kept(json!({}), &["far"]);
    let told = ReplicaStatus {
        reason: "RegistryNotReady".into(),
        ..ReplicaStatus::new("far")
    };
    object.status.as_mut().unwrap().replicas = vec![told];
    let deleted = deleting(object.clone(), DeletionPolicy::DeleteIfEmpty);
    assert_eq!(listed(&deleted).count(), 0);
    object.spec.replica_registry_refs.clear();
    assert_eq!(listed(&object).count(), 0);
    // It may be there, whoever has not seen the answer.
    object.status.as_mut().unwrap().replicas[0].begun = true;
    assert_eq!(listed(&object).collect::<Vec<_>>(), [("far".to_owned(), Goal::Absent)]);
}

// === Status ===

#[test]
fn a_failure_takes_nothing_from_what_is_on_record() {
    let object = kept(json!({}), &["far"]);
    let seen = seen(
        &object,
        open(&object, Some(ours())),
        vec![("far", failed(Reason::Denied))],
    );
    let told = told(object.replicas(), &seen.replicas);
    assert_eq!(
        (told[0].created_at, told[0].arn.as_deref()),
        (Some(created()), Some("arn:far"))
    );
    assert_eq!((told[0].ready, told[0].reason.as_str()), (false, "Denied"));
    let plan = decide(&object, Goal::Present, &seen);
    assert!(holds_up(message(&plan), &told), "the repository itself is settled");
    assert!(!holds_up("repository team-a/web exists", &told));
}

#[test]
fn what_is_seen_of_a_replica_is_recorded_for_it_alone() {
    let mut object = object(json!({ "tags": { "team": "a" }, "replicaRegistryRefs": [{ "name": "far" }] }));
    object.metadata.generation = Some(1);
    let far = live(&[(OWNER_TAG, OWNER), ("team", "a")]);
    let seen = seen(
        &object,
        open(&object, None),
        vec![("far", there(&object, "far", Some(far)))],
    );
    let [told] = &told(&[], &seen.replicas)[..] else {
        panic!()
    };
    assert!(told.ready && told.desired_hash.is_some(), "{told:?}");
    assert_eq!(
        (told.created_at, &told.managed_tags[..]),
        (Some(created()), &["team".to_owned()][..])
    );
    let replica = Repository {
        status: Some(crate::api::repository::RepositoryStatus {
            replicas: vec![told.clone()],
            ..Default::default()
        }),
        ..object
    }
    .as_replica("far");
    assert_eq!(replica.spec.registry_ref.name, "far");
    assert_eq!(replica.status.unwrap().created_at, Some(created()));
}

#[test]
fn what_does_not_fit_into_the_status_is_not_begun() {
    let names: Vec<String> = (0..19).map(|n| format!("old-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut object = kept(json!({}), &names);
    object.spec.replica_registry_refs.clear();
    for new in ["a", "b"] {
        let reference = crate::api::repository::RegistryRef { name: new.into() };
        object.spec.replica_registry_refs.push(reference);
    }
    let replicas: Vec<Replica> = listed(&object)
        .map(|(registry, goal)| Replica::unread(&object, &registry, goal))
        .collect();
    let begun = replicas
        .iter()
        .filter(|replica| matches!(replica.outlook, Outlook::Unread));
    assert_eq!(begun.count(), 20, "none that is on record is forgotten");
    let told = told(object.replicas(), &replicas);
    assert!(
        told.len() <= 20 && object.replicas().iter().all(|old| told.contains(old)),
        "{told:?}"
    );
}
