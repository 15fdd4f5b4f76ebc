use serde_json::json;

use super::{
    parts::{Covers, Part, Refused, part},
    plan::left_behind,
};
use crate::{
    api::{
        Registry, ReplicationConfig,
        replication::{ReplicationDestination, ReplicationRule},
    },
    control::reason::Reason,
    document::replication::compose::Wish,
};

/// What destinations use is known, or not.
struct All(bool);

impl Covers for All {
    fn covers(&self, _: &ReplicationRule, _: &ReplicationDestination) -> Result<(), Refused> {
        match self.0 {
            true => Ok(()),
            false => Err(Refused {
                reason: Reason::Protecting,
                message: "not yet".into(),
                waits: true,
            }),
        }
    }
}

fn registry(allow_delete: bool) -> Registry {
    serde_json::from_value(json!({
        "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "Registry", "metadata": { "name": "main" },
        "spec": { "region": "eu-west-1", "registryId": "111122223333", "mode": "Manage",
            "replication": { "allowDelete": allow_delete } },
    }))
    .unwrap()
}

fn object(rules: &serde_json::Value, in_force: &serde_json::Value, suspend: bool) -> ReplicationConfig {
    serde_json::from_value(json!({
        "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "ReplicationConfig", "metadata": { "name": "a" },
        "spec": { "registryRef": { "name": "main" }, "rules": rules, "suspend": suspend },
        "status": { "inForce": in_force },
    }))
    .unwrap()
}

fn rules(deletes: bool) -> serde_json::Value {
    let mut rule = json!({ "destinations": [{ "region": "us-east-1", "registryId": "111122223333" }] });
    if deletes {
        rule["deleteReplication"] = json!({ "enabled": true });
    }
    json!([rule])
}

fn reason(part: &Part) -> Option<Reason> {
    part.refused.as_ref().map(|refused| refused.reason)
}

#[test]
fn deletions_are_replicated_only_where_they_are_allowed_and_what_destinations_use_is_kept() {
    let none = json!([]);
    let deleting = object(&rules(true), &none, false);
    let denied = part(&deleting, &registry(false), &All(true));
    assert_eq!(
        (reason(&denied), &denied.claim.wish),
        (Some(Reason::NotAllowed), &Wish::Held)
    );
    let waits = part(&deleting, &registry(true), &All(false));
    assert_eq!(
        (reason(&waits), &waits.claim.wish),
        (Some(Reason::Protecting), &Wish::Held)
    );
    let open = part(&deleting, &registry(true), &All(true));
    assert!(matches!(open.claim.wish, Wish::Rules(_)) && open.refused.is_none());
    let harmless = part(&object(&rules(false), &none, false), &registry(false), &All(false));
    assert_eq!(reason(&harmless), None);
}

#[test]
fn what_was_let_through_stays_while_a_destination_cannot_be_seen() {
    let settled = object(&rules(true), &rules(true), false);
    let part = part(&settled, &registry(true), &All(false));
    assert!(matches!(part.claim.wish, Wish::Rules(_)) && part.settled, "{part:?}");
}

#[test]
fn where_leave_is_taken_back_copies_go_on_and_deletions_do_not() {
    for suspend in [false, true] {
        let settled = object(&rules(true), &rules(true), suspend);
        let part = part(&settled, &registry(false), &All(true));
        assert_eq!(part.claim.wish, Wish::Held);
        assert_eq!(part.claim.in_force.len(), 1);
        assert!(!part.claim.in_force[0].deletes, "{part:?}");
    }
}

#[test]
fn a_registry_that_replicates_to_itself_is_refused() {
    let own = json!([{ "destinations": [{ "region": "eu-west-1", "registryId": "111122223333" }] }]);
    let part = part(&object(&own, &json!([]), false), &registry(true), &All(true));
    assert_eq!(reason(&part), Some(Reason::Invalid));
}

#[test]
fn what_is_left_behind_is_told() {
    assert!(left_behind(false, "x").warnings.is_empty());
    assert_eq!(left_behind(true, "x").warnings[0].reason, "LeftBehind");
}
