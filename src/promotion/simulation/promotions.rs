//! Images that go forward: baseline, gates, holds, pins, other ways to the workload.

use super::*;
use crate::control::{plan::Verdict, reason::Reason};

fn one() -> World {
    World::new(&["app"], &json!({}))
}

fn reason(rest: &Rest) -> Reason {
    rest.verdict.reason()
}

fn message(rest: &Rest) -> String {
    rest.verdict.to_string()
}

#[test]
fn what_the_targets_run_is_where_a_promotion_begins() {
    play(one, |world| {
        let rest = world.calm();
        assert_eq!(world.current(), Some(digest(1)));
        assert_eq!(world.last_good(), Some(digest(1)));
        assert_eq!(reason(&rest), Reason::Settled);
        assert!(world.writes.is_empty());
        assert_eq!(world.status.phase.as_deref(), Some("Promoted"));
    });
}

#[test]
fn a_newer_image_is_rolled_out_once_it_was_watched() {
    play(one, |world| {
        world.calm();
        world.push(2);
        world.until("it is watched", |world| {
            world.status.phase.as_deref() == Some("Stabilizing")
        });
        assert_eq!(world.last_good(), Some(digest(1)));
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.last_good(), Some(digest(2)));
        assert_eq!(world.status.previous.as_ref().unwrap().digest, digest(1));
        assert_eq!(world.status.history.len(), 2);
    });
}

#[test]
fn the_first_image_goes_to_targets_that_run_something_else() {
    let start = || {
        let mut world = one();
        world.workload("app").digest = None;
        world
    };
    play(start, |world| {
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.last_good(), Some(digest(1)));
    });
}

#[test]
fn targets_that_run_different_images_have_no_image_to_go_back_to() {
    let start = || {
        let mut world = World::new(&["app", "worker"], &json!({}));
        world.push(2);
        world.workload("worker").digest = Some(digest(2));
        world
    };
    play(start, |world| {
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.status.history.len(), 1);
    });
}

#[test]
fn an_unhealthy_baseline_is_not_taken_for_good() {
    let mut world = one();
    world.natures.insert(digest(1), Nature::Crashes);
    world.calm();
    assert_eq!(world.current(), Some(digest(1)));
    assert_eq!(world.last_good(), None);
}

#[test]
fn a_promotion_that_was_created_again_does_not_go_to_what_was_taken_back() {
    play(one, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.workload("app").rejected, [digest(2)]);
        // Deleted and created again: only the workload remembers.
        world.status = ImagePromotionStatus::default();
        world.writes.clear();
        world.calm();
        assert_eq!(world.rejected(), [digest(2)].into());
        assert!(world.writes.is_empty());
        world.push(3);
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn closed_gates_are_named_with_since_when_and_the_rest_goes_on_by_itself() {
    play(one, |world| {
        world.calm();
        world.push(2);
        world.close(2, Gate::Scan);
        let rest = world.calm();
        let since = world.status.blocked_by[0].since;
        assert_eq!(world.status.phase.as_deref(), Some("Waiting"));
        assert!(message(&rest).contains("1.2.0"), "{}", message(&rest));
        world.close(2, Gate::Approval);
        world.calm();
        let entries: Vec<Gate> = world.status.blocked_by.iter().map(|it| it.gate).collect();
        assert_eq!(entries, [Gate::Scan, Gate::Approval]);
        assert_eq!(world.status.blocked_by[0].since, since);
        assert!(world.status.blocked_by[1].since > since);
        world.closed.clear();
        world.calm();
        world.assert_runs(2);
        assert!(world.status.blocked_by.is_empty());
    });
}

#[test]
fn a_gate_before_the_first_image_is_not_ready() {
    let mut world = one();
    world.workload("app").digest = None;
    world.close(1, Gate::Approval);
    let rest = world.calm();
    assert_eq!(reason(&rest), Reason::Gated);
    assert!(world.writes.is_empty());
}

#[test]
fn without_any_image_there_is_no_candidate() {
    let mut world = one();
    world.workload("app").digest = None;
    world.images.clear();
    assert_eq!(reason(&world.calm()), Reason::NoCandidate);
}

#[test]
fn a_registry_that_is_down_changes_nothing() {
    let mut world = one();
    world.push(2);
    world.calm();
    world.registry_is_down = true;
    let rest = world.calm();
    world.assert_runs(2);
    assert_eq!(reason(&rest), Reason::Settled);
    assert!(message(&rest).contains("ECR does not answer"));
}

#[test]
fn a_tag_that_is_moved_back_is_followed() {
    let start = || {
        let mut world = World::new(
            &["app"],
            &json!({"source": {"repositoryRef": {"name": "app"}, "policy": {"tag": {"name": "live"}}}}),
        );
        world.push(2);
        world.followed = Some(digest(2));
        world
    };
    play(start, |world| {
        world.calm();
        world.assert_runs(2);
        world.followed = Some(digest(1));
        world.calm();
        world.assert_runs(1);
    });
}

#[test]
fn an_image_that_goes_from_the_repository_is_not_silently_replaced_by_an_older_one() {
    for presence in [Presence::Gone, Presence::Archived] {
        play(one, |world| {
            world.push(2);
            world.calm();
            world.store(2, &presence);
            let rest = world.calm();
            world.assert_runs(2);
            assert!(message(&rest).contains("the request promote"), "{}", message(&rest));
            world.ask("promote", "1.1.0");
            world.calm();
            world.assert_runs(1);
        });
    }
    let mut world = one();
    world.push(2);
    world.calm();
    world.store(2, &Presence::Gone);
    world.push(3);
    world.calm();
    world.assert_runs(3);
}

#[test]
fn a_pin_is_rolled_out_whatever_the_gates_say_and_its_removal_returns_to_the_policy() {
    play(one, |world| {
        world.calm();
        world.push(2);
        world.push(3);
        world.close(2, Gate::Scan);
        world.edit(|spec| spec.pin = Some(pin(2)));
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.status.phase.as_deref(), Some("Pinned"));
        world.edit(|spec| spec.pin = None);
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn a_pin_overrules_a_rollout_under_way() {
    play(one, |world| {
        world.calm();
        world.push(2);
        world.until("2 is rolled out", |world| world.status.rollout.is_some());
        world.edit(|spec| spec.pin = Some(pin(1)));
        world.calm();
        world.assert_runs(1);
        assert!(world.rejected().is_empty());
    });
}

#[test]
fn a_pin_that_fails_is_taken_back_and_tried_again_on_request_only() {
    play(one, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        world.edit(|spec| spec.pin = Some(pin(2)));
        let rest = world.calm();
        world.assert_runs(1);
        assert_eq!(reason(&rest), Reason::Failed);
        assert_eq!(world.status.last_rollout, 2);
        // What runs is kept meanwhile.
        world.set_as("app", 9, "somebody", false);
        world.calm();
        world.assert_runs(1);
        world.natures.clear();
        world.ask("promote", digest(2).as_str());
        world.calm();
        world.assert_runs(2);
    });
}

#[test]
fn a_pin_that_failed_and_is_removed_leaves_what_runs() {
    play(one, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        world.edit(|spec| spec.pin = Some(pin(2)));
        world.calm();
        world.edit(|spec| spec.pin = None);
        let rest = world.calm();
        world.assert_runs(1);
        assert_eq!(reason(&rest), Reason::Settled);
        assert_eq!(world.status.last_rollout, 2);
    });
}

#[test]
fn a_pin_to_an_image_that_is_not_there_is_refused() {
    play(one, |world| {
        world.calm();
        world.edit(|spec| spec.pin = Some(pin(7)));
        let rest = world.calm();
        assert_eq!(reason(&rest), Reason::Failed);
        assert!(message(&rest).contains("not in the repository"), "{}", message(&rest));
        assert!(world.writes.is_empty());
    });
}

#[test]
fn an_image_that_the_spec_rejects_is_left_at_rest_and_on_its_way() {
    play(one, |world| {
        world.push(2);
        world.calm();
        world.assert_runs(2);
        world.edit(|spec| spec.reject = vec![forbid(2)]);
        world.calm();
        world.assert_runs(1);
        world.push(3);
        world.until("3 is rolled out", |world| world.runs() == [Some(digest(3))]);
        world.edit(|spec| spec.reject.push(forbid(3)));
        world.calm();
        world.assert_runs(1);
        // What the spec forbade it can allow again.
        assert!(world.rejected().is_empty());
        world.edit(|spec| spec.reject.clear());
        world.ask("resume", "");
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn a_rollback_to_an_image_that_the_spec_rejects_meanwhile_goes_further_back() {
    play(one, |world| {
        world.push(2);
        world.calm();
        world.push_as(3, Nature::Crashes);
        world.until("it goes back", |world| {
            world
                .status
                .rollout
                .as_ref()
                .is_some_and(|rollout| rollout.kind == RolloutKind::Rollback)
        });
        world.edit(|spec| spec.reject = vec![forbid(2)]);
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.last_good(), Some(digest(1)));
    });
}

#[test]
fn the_verified_tag_follows_the_last_good_image_forward_and_back() {
    let start = || World::new(&["app"], &json!({"onVerified": {"tag": "verified"}}));
    play(start, |world| {
        world.calm();
        assert_eq!(world.verified, Some(digest(1)));
        world.push(2);
        world.until("2 runs", |world| world.runs() == [Some(digest(2))]);
        assert_eq!(world.verified, Some(digest(1)));
        world.calm();
        assert_eq!(world.verified, Some(digest(2)));
        world.ask("rollback", "");
        world.calm();
        assert_eq!(world.verified, Some(digest(1)));
    });
}

#[test]
fn a_digest_is_written_where_the_owner_of_the_workload_reads_it() {
    for via in [Via::FluxKustomization, Via::Publish] {
        let start = || {
            let mut world = World::new(&["app"], &json!({"publishTo": {"url": "https://ci.example/hook"}}));
            world.workload("app").via = via;
            world.workload("app").place = Some(digest(1));
            world.spec.targets[0].via = via;
            world
        };
        play(start, |world| {
            world.calm();
            world.push(2);
            world.calm();
            world.assert_runs(2);
            world.push_as(3, Nature::Crashes);
            world.calm();
            world.assert_runs(2);
            assert_eq!(world.rejected(), [digest(3)].into());
        });
    }
}

#[test]
fn a_target_that_a_tool_owns_stops_all_of_them_before_anything_is_written() {
    let mut world = World::new(&["app", "worker"], &json!({}));
    world.workload("worker").is_owned = true;
    world.push(2);
    let rest = world.calm();
    assert_eq!(reason(&rest), Reason::TargetOwned);
    assert!(message(&rest).contains("Argo CD owns it"));
    assert!(world.writes.is_empty());
    world.workload("worker").is_owned = false;
    world.calm();
    world.assert_runs(2);
}

#[test]
fn a_missing_target_stops_what_is_new_and_not_what_runs() {
    let mut world = World::new(&["app", "worker"], &json!({}));
    world.calm();
    world.workload("worker").exists = false;
    world.push(2);
    world.set_as("app", 9, "somebody", false);
    let rest = world.calm();
    assert_eq!(reason(&rest), Reason::TargetMissing);
    assert_eq!(world.runs()[0], Some(digest(1)));
    world.workload("worker").exists = true;
    world.calm();
    world.assert_runs(2);
}

#[test]
fn a_selector_that_matches_nothing_has_promoted_nothing() {
    let mut world = World::new(&[], &json!({"targets": [{"kind": "Deployment", "selector": {}}]}));
    assert_eq!(reason(&world.calm()), Reason::TargetMissing);
    assert!(world.status.history.is_empty());
}

#[test]
fn containers_that_their_owner_has_removed_are_given_up() {
    let mut world = one();
    world.workload("app").is_abandoned = true;
    world.calm();
    assert!(!world.workload("app").is_abandoned);
}

#[test]
fn a_copy_alone_needs_no_target() {
    let start = || World::new(&[], &json!({"copyTo": {"repositoryRef": {"name": "copy"}}}));
    play(start, |world| {
        let rest = world.calm();
        assert!(world.copied.contains(&digest(1)));
        assert_eq!(world.last_good(), Some(digest(1)));
        assert!(matches!(rest.verdict, Verdict::Settled { .. }));
    });
}

/// Whatever is given in `written` is in `read` too.
fn assert_holds(read: &Value, written: &Value, at: &str) {
    match written {
        Value::Object(fields) => {
            for (key, value) in fields {
                assert_holds(&read[key], value, &format!("{at}.{key}"));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                assert_holds(&read[index], item, &format!("{at}[{index}]"));
            }
        }
        _ => assert_eq!(read, written, "{at}"),
    }
}

#[test]
fn the_manifest_of_the_guide_is_read_in_whole() {
    let guide = include_str!("../../../docs/guides/promotion.md");
    let (_, rest) = guide.split_once("```yaml\n").unwrap();
    let (manifest, _) = rest.split_once("```").unwrap();
    let written: Value = serde_yaml_ng::from_str(manifest).unwrap();
    let spec: ImagePromotionSpec = serde_json::from_value(written["spec"].clone()).unwrap();
    assert_holds(&serde_json::to_value(&spec).unwrap(), &written["spec"], "spec");
}

pub(super) fn pin(number: u32) -> crate::api::promotion::Pin {
    crate::api::promotion::Pin {
        digest: digest(number),
        reason: "a test".into(),
    }
}

pub(super) fn forbid(number: u32) -> crate::api::promotion::Reject {
    crate::api::promotion::Reject {
        digest: digest(number),
        reason: "a test".into(),
    }
}
