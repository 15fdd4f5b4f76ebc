//! People with kubectl.

use super::*;

fn one() -> World {
    World::new(&["app"], &json!({}))
}

/// Images 1 and 2 have run; 2 runs.
fn two() -> World {
    let mut world = one();
    world.calm();
    world.push(2);
    world.calm();
    world.moves = 0;
    world.trace.clear();
    world
}

#[test]
fn an_undo_is_a_rollback_that_sticks() {
    play(two, |world| {
        world.set("app", 1);
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.hold(), Some(HoldKind::Person));
        assert_eq!(world.rejected(), [digest(2)].into());
        assert_eq!(world.current(), Some(digest(1)));
        assert_eq!(world.was_told("ImageReverted"), 0);
        world.push(3);
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn an_undo_of_one_target_takes_the_others_with_it() {
    let start = || {
        let mut world = World::new(&["app", "worker"], &json!({}));
        world.calm();
        world.push(2);
        world.calm();
        world.moves = 0;
        world
    };
    play(start, |world| {
        world.set("worker", 1);
        world.calm();
        world.assert_runs(1);
    });
}

#[test]
fn an_undo_of_the_undo_goes_on_as_before() {
    play(two, |world| {
        world.set("app", 1);
        world.calm();
        world.set("app", 2);
        world.calm();
        world.assert_runs(2);
        assert!(world.rejected().is_empty(), "{}", world.last_moves());
        assert_eq!(world.hold(), None);
        assert_eq!(world.status.phase.as_deref(), Some("Promoted"));
        world.push_as(3, Nature::Crashes);
        world.calm();
        world.assert_runs(2);
    });
}

#[test]
fn an_unknown_image_is_set_back() {
    play(two, |world| {
        world.set("app", 9);
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.hold(), None);
    });
}

#[test]
fn a_tool_that_writes_a_known_image_is_drift() {
    play(two, |world| {
        world.set_as("app", 1, "argocd-controller", false);
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.hold(), None);
    });
}

/// Whether the status has a target that runs 3.
fn runs_the_third(world: &World) -> bool {
    let mut targets = world.status.targets.iter();
    targets.any(|target| target.digest == Some(digest(3)))
}

#[test]
fn an_undo_during_a_rollout_ends_it() {
    play(two, |world| {
        world.push(3);
        world.until("3 runs and was seen", runs_the_third);
        world.set("app", 2);
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.rejected(), [digest(3)].into());
    });
}

#[test]
fn an_undo_into_the_image_that_was_just_taken_back_is_set_back() {
    play(two, |world| {
        world.push_as(3, Nature::Crashes);
        world.calm();
        world.assert_runs(2);
        world.set("app", 3);
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.rejected(), [digest(3)].into());
    });
}

#[test]
fn an_undo_does_not_move_a_pinned_promotion() {
    play(two, |world| {
        world.edit(|spec| spec.pin = Some(super::promotions::pin(2)));
        world.calm();
        world.set("app", 1);
        world.calm();
        world.assert_runs(2);
    });
}

#[test]
fn an_undo_to_what_the_spec_forbids_is_set_back() {
    play(two, |world| {
        world.edit(|spec| spec.reject = vec![super::promotions::forbid(1)]);
        world.calm();
        world.set("app", 1);
        world.calm();
        world.assert_runs(2);
    });
}

#[test]
fn an_unknown_image_during_a_rollout_is_set_back_too() {
    play(two, |world| {
        world.push(3);
        world.until("3 runs and was seen", runs_the_third);
        world.set("app", 9);
        world.calm();
        world.assert_runs(3);
    });
}
