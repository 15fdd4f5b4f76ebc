//! Images that fail, and the way back.

use super::{promotions::forbid, *};
use crate::control::reason::Reason;

fn one() -> World {
    World::new(&["app"], &json!({}))
}

fn two(order: &str) -> World {
    let mut world = World::new(&["app", "worker"], &json!({}));
    world.spec.rollout.order = serde_json::from_value(json!(order)).unwrap();
    world
}

/// Image 2 fails in this way: back to 1, and 2 is not tried again until somebody asks.
fn fails(start: impl Fn() -> World, nature: Nature) {
    play(start, |world| {
        world.calm();
        world.push_as(2, nature);
        let rest = world.calm();
        world.assert_runs(1);
        assert_eq!(world.last_good(), Some(digest(1)), "{nature:?}");
        assert_eq!(world.rejected(), [digest(2)].into(), "{nature:?}");
        assert_eq!(world.workload("app").rejected, [digest(2)], "{nature:?}");
        assert_eq!(world.hold(), Some(HoldKind::RolledBack));
        assert_eq!(rest.verdict.reason(), Reason::Settled);
        assert_eq!(world.status.last_rollout, 2, "{nature:?} loops");
        let failed = world
            .status
            .history
            .iter()
            .find(|entry| entry.image.digest == digest(2));
        assert_eq!(failed.unwrap().outcome, Outcome::Failed);
        world.push(3);
        world.calm();
        world.assert_runs(3);
        assert_eq!(world.hold(), None);
    });
}

#[test]
fn a_crash_a_timeout_restarts_and_pull_errors_take_the_targets_back() {
    for nature in [Nature::Crashes, Nature::Hangs, Nature::Restarts, Nature::CannotBePulled] {
        fails(one, nature);
    }
}

#[test]
fn a_failed_verification_takes_the_targets_back() {
    let start = || {
        World::new(
            &["app"],
            &json!({"verification": [{"job": {"spec": {}}}, {"job": {"spec": {}}}]}),
        )
    };
    fails(start, Nature::FailsItsCheck);
}

#[test]
fn several_targets_are_taken_back_together() {
    fails(|| two("Together"), Nature::Crashes);
    fails(|| two("InOrder"), Nature::Crashes);
    for order in ["Together", "InOrder"] {
        fails(|| two(order), Nature::CrashesInWorker);
    }
}

#[test]
fn in_order_the_second_target_is_not_touched_when_the_first_fails() {
    let mut world = two("InOrder");
    world.calm();
    world.push_as(2, Nature::Hangs);
    world.calm();
    assert!(!world.writes.contains(&("worker".into(), digest(2))));
    world.assert_runs(1);
}

#[test]
fn a_copy_that_fails_leaves_the_targets_and_is_tried_again_after_resume() {
    let start = || World::new(&["app"], &json!({"copyTo": {"repositoryRef": {"name": "copy"}}}));
    play(start, |world| {
        world.calm();
        world.push_as(2, Nature::CannotBeCopied);
        world.calm();
        assert!(world.writes.is_empty());
        assert_eq!(world.status.last_rollout, 1);
        world.natures.clear();
        world.ask("resume", "");
        world.calm();
        world.assert_runs(2);
    });
}

#[test]
fn a_pin_whose_copy_fails_is_not_tried_for_ever() {
    let start = || World::new(&["app"], &json!({"copyTo": {"repositoryRef": {"name": "copy"}}}));
    let mut world = start();
    world.calm();
    world.push_as(2, Nature::CannotBeCopied);
    world.edit(|spec| spec.pin = Some(super::promotions::pin(2)));
    assert_eq!(world.calm().verdict.reason(), Reason::Failed);
    assert_eq!(world.status.last_rollout, 1);
}

#[test]
fn a_pin_that_cannot_be_pulled_does_not_keep_a_failing_rollout_from_going_back() {
    play(one, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        world.until("2 runs", |world| world.runs() == [Some(digest(2))]);
        world.edit(|spec| spec.pin = Some(super::promotions::pin(7)));
        let rest = world.calm();
        world.assert_runs(1);
        assert_eq!(rest.verdict.reason(), Reason::Failed);
    });
}

#[test]
fn a_target_that_the_apiserver_does_not_let_be_written_takes_all_of_them_back() {
    play(
        || two("Together"),
        |world| {
            world.calm();
            world.locked.insert("worker".into());
            world.push(2);
            world.calm();
            world.assert_runs(1);
            assert_eq!(world.rejected(), [digest(2)].into());
            let reason = &world.status.rejected[0].reason;
            assert!(reason.contains("exceeded quota"), "{reason}");
        },
    );
}

#[test]
fn drift_that_cannot_be_set_back_is_not_ready() {
    let mut world = one();
    world.calm();
    world.locked.insert("app".into());
    world.set("app", 9);
    let rest = world.calm();
    assert_eq!(rest.verdict.reason(), Reason::Failed);
    assert!(rest.verdict.to_string().contains("exceeded quota"));
    world.locked.clear();
    world.calm();
    world.assert_runs(1);
}

#[test]
fn an_operator_that_was_away_for_long_does_not_take_it_for_a_failure() {
    let mut undisturbed = one();
    undisturbed.push(2);
    undisturbed.calm();
    for number in 1..=undisturbed.moves {
        let mut world = one();
        world.push(2);
        world.kill = Some(Kill::Before(number));
        for _ in 0..100 {
            if let End::Killed = world.round() {
                world.now += SignedDuration::from_hours(2);
            }
        }
        world.assert_runs(2);
        assert!(
            world.rejected().is_empty(),
            "killed before {number}: {}",
            world.last_moves()
        );
    }
}

#[test]
fn a_workload_that_is_created_again_while_it_is_watched_is_written_again() {
    let mut world = one();
    world.spec.rollout.stabilization = "10m".parse().unwrap();
    world.calm();
    world.push(2);
    world.until("it is watched", |world| {
        world.status.phase.as_deref() == Some("Stabilizing")
    });
    world.now += SignedDuration::from_mins(5);
    let now = world.now;
    let workload = world.workload("app");
    workload.uid = 77;
    workload.change(Some(digest(1)), now);
    world.calm();
    world.assert_runs(2);
    assert_eq!(world.last_good(), Some(digest(2)));
}

#[test]
fn the_first_copy_that_fails_is_not_ready() {
    let mut world = World::new(&[], &json!({"copyTo": {"repositoryRef": {"name": "copy"}}}));
    world.natures.insert(digest(1), Nature::CannotBeCopied);
    assert_eq!(world.calm().verdict.reason(), Reason::Failed);
}

#[test]
fn without_an_earlier_good_image_a_failed_one_stays_until_a_newer_one() {
    let start = || {
        let mut world = one();
        world.workload("app").digest = None;
        world.natures.insert(digest(1), Nature::Crashes);
        world
    };
    play(start, |world| {
        let rest = world.calm();
        assert_eq!(rest.verdict.reason(), Reason::Failed);
        world.assert_runs(1);
        assert_eq!(world.last_good(), None);
        assert_eq!(world.hold(), Some(HoldKind::Failed));
        assert_eq!(world.status.last_rollout, 1);
        world.push(2);
        world.calm();
        world.assert_runs(2);
    });
}

#[test]
fn a_last_good_image_that_is_archived_or_gone_is_not_gone_back_to() {
    for presence in [Presence::Archived, Presence::Gone] {
        play(one, |world| {
            world.calm();
            world.store(1, &presence);
            world.push_as(2, Nature::Crashes);
            let rest = world.calm();
            world.assert_runs(2);
            assert_eq!(rest.verdict.reason(), Reason::Failed);
            let message = rest.verdict.to_string();
            assert!(
                message.contains("CrashLoopBackOff") && message.contains("1.1.0"),
                "{message}"
            );
            world.push(3);
            world.calm();
            world.assert_runs(3);
        });
    }
}

#[test]
fn no_registry_is_needed_to_go_back() {
    play(one, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        world.until("2 runs", |world| world.runs() == [Some(digest(2))]);
        world.registry_is_down = true;
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.rejected(), [digest(2)].into());
    });
}

#[test]
fn a_rollback_that_fails_itself_ends() {
    play(one, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        world.natures.insert(digest(1), Nature::Crashes);
        let rest = world.calm();
        assert_eq!(rest.verdict.reason(), Reason::Failed);
        world.assert_runs(1);
        assert_eq!(world.status.last_rollout, 2);
        // It recovers by itself.
        world.natures.remove(&digest(1));
        let rest = world.calm();
        assert_eq!(rest.verdict.reason(), Reason::Settled);
        assert_eq!(world.hold(), Some(HoldKind::RolledBack));
    });
}

#[test]
fn on_the_way_back_no_target_waits_for_its_turn() {
    let mut world = two("InOrder");
    world.calm();
    world.push_as(2, Nature::CrashesInWorker);
    world.until("2 runs", |world| world.runs() == [Some(digest(2)), Some(digest(2))]);
    world.natures.insert(digest(1), Nature::Hangs);
    world.until("it goes back", |world| {
        world.status.phase.as_deref() == Some("RollingBack")
    });
    world.assert_runs(1);
}

#[test]
fn without_rollback_a_failed_image_stays_where_it_is_and_nowhere_else() {
    let start = || {
        let mut world = two("InOrder");
        world.spec.rollback.on_failure = false;
        world
    };
    play(start, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        let rest = world.calm();
        assert_eq!(rest.verdict.reason(), Reason::Failed);
        assert_eq!(world.runs(), [Some(digest(2)), Some(digest(1))]);
        assert_eq!(world.last_good(), Some(digest(1)));
        world.ask("rollback", "");
        world.calm();
        world.assert_runs(1);
    });
}

#[test]
fn a_hold_lasts_while_the_newer_image_waits_for_a_gate() {
    play(one, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        world.calm();
        world.push(3);
        world.close(3, Gate::Scan);
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.hold(), Some(HoldKind::RolledBack));
        assert_eq!(world.status.blocked_by.len(), 1);
        world.closed.clear();
        world.calm();
        world.assert_runs(3);
        assert_eq!(world.hold(), None);
    });
}

#[test]
fn a_hold_until_resume_outlasts_newer_images() {
    let start = || World::new(&["app"], &json!({"rollback": {"until": "Resume"}}));
    play(start, |world| {
        world.calm();
        world.push_as(2, Nature::Crashes);
        world.calm();
        world.push(3);
        world.calm();
        world.assert_runs(1);
        world.ask("resume", "");
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn pods_that_come_and_go_do_not_put_off_the_end_for_ever() {
    let mut world = one();
    world.calm();
    world.push(2);
    world.until("it is watched", |world| {
        world.status.phase.as_deref() == Some("Stabilizing")
    });
    for _ in 0..60 {
        if world
            .status
            .rollout
            .as_ref()
            .is_none_or(|it| it.kind == RolloutKind::Rollback)
        {
            break;
        }
        // Not ready again, and healthy a moment later.
        let now = world.now;
        world.workload("app").since = now;
        world.round();
        world.round();
    }
    world.calm();
    world.assert_runs(1);
    assert_eq!(world.rejected(), [digest(2)].into());
}

#[test]
fn a_verification_is_not_disturbed_by_a_pod_that_comes_back() {
    let mut world = World::new(
        &["app"],
        &json!({"rollout": {"timeout": "10s", "stabilization": "0s"}, "verification": [{"job": {"spec": {}}, "timeout": "1h"}]}),
    );
    world.calm();
    world.push(2);
    world.until("it is verified", |world| {
        world.status.phase.as_deref() == Some("Verifying")
    });
    // Later than the time that a rollout may take, a pod is not ready, as when the workload is scaled up.
    world.now += SignedDuration::from_secs(3);
    let now = world.now;
    world.workload("app").since = now;
    world.calm();
    world.assert_runs(2);
    assert_eq!(world.last_good(), Some(digest(2)));
}

#[test]
fn every_rollout_is_verified_on_its_own() {
    // Without targets one rollout can follow another within one look.
    let start = || {
        World::new(
            &[],
            &json!({"targets": [], "onVerified": {"tag": "verified"}, "verification": [{"job": {"spec": {}}}]}),
        )
    };
    play(start, |world| {
        world.until("1 is verified", |world| !world.checks.is_empty());
        world.push_as(2, Nature::FailsItsCheck);
        world.calm();
        let verified: BTreeSet<Digest> = world.checks.values().map(|(digest, _)| digest.clone()).collect();
        assert_eq!(verified, [digest(1), digest(2)].into());
        assert_eq!(world.verified, Some(digest(1)));
    });
}

#[test]
fn an_image_that_is_forbidden_with_nothing_to_go_back_to_stays_and_is_not_written_again() {
    play(one, |world| {
        world.calm();
        world.edit(|spec| spec.reject = vec![forbid(1)]);
        let rest = world.calm();
        assert_eq!(rest.verdict.reason(), Reason::Failed);
        world.assert_runs(1);
        assert!(world.writes.is_empty());
        world.push(2);
        world.calm();
        world.assert_runs(2);
    });
}
