//! Somebody else who writes to a target.

use super::*;
use crate::control::reason::Reason;

fn one() -> World {
    World::new(&["app"], &json!({}))
}

#[test]
fn three_reverts_contest_a_target_until_resume() {
    play(one, |world| {
        world.push(2);
        world.calm();
        world.fighter = Some(digest(1));
        world.react();
        let rest = world.calm();
        assert_eq!(rest.verdict.reason(), Reason::Contested);
        let message = rest.verdict.to_string();
        assert!(
            message.contains("argocd-controller") && message.contains("Tell Argo CD"),
            "{message}"
        );
        let writes = world.writes.len();
        world.calm();
        assert_eq!(world.writes.len(), writes);
        world.fighter = None;
        world.ask("resume", "");
        world.calm();
        world.assert_runs(2);
    });
}

#[test]
fn reverts_are_told_once_each_and_three_are_enough() {
    let mut world = one();
    world.push(2);
    world.calm();
    let writes = world.writes.len();
    world.fighter = Some(digest(1));
    world.react();
    world.calm();
    assert_eq!(world.was_told("ImageReverted"), 3);
    assert_eq!(world.writes.len(), writes + 2);
}

#[test]
fn an_edit_of_the_spec_begins_anew_with_a_contested_target() {
    let mut world = one();
    world.push(2);
    world.calm();
    world.fighter = Some(digest(1));
    world.react();
    world.calm();
    world.fighter = None;
    world.edit(|spec| spec.history_limit = 5);
    world.calm();
    world.assert_runs(2);
}

#[test]
fn reverts_that_are_far_apart_are_set_back_each_time() {
    let mut world = one();
    world.push(2);
    world.calm();
    for _ in 0..6 {
        world.set_as("app", 1, "argocd-controller", false);
        world.calm();
        world.assert_runs(2);
        world.now += SignedDuration::from_mins(61);
    }
}

#[test]
fn a_tool_that_writes_back_at_its_interval_contests_a_target_too() {
    let mut world = one();
    world.push(2);
    world.calm();
    for expected in [Reason::Settled, Reason::Settled, Reason::Contested] {
        world.set_as("app", 1, "kustomize-controller", false);
        assert_eq!(world.calm().verdict.reason(), expected);
        world.now += SignedDuration::from_mins(10);
    }
}

#[test]
fn a_fight_that_was_won_is_forgotten_after_a_while() {
    let mut world = one();
    world.push(2);
    world.calm();
    world.fighter = Some(digest(1));
    world.react();
    world.calm();
    world.fighter = None;
    world.set_as("app", 2, "argocd-controller", false);
    world.calm();
    world.now += SignedDuration::from_mins(61);
    world.calm();
    world.set_as("app", 1, "argocd-controller", false);
    world.calm();
    world.assert_runs(2);
}

#[test]
fn a_workload_that_was_created_again_is_written_without_being_counted() {
    play(one, |world| {
        world.push(2);
        world.calm();
        for uid in 10..15 {
            let now = world.now;
            let workload = world.workload("app");
            workload.uid = uid;
            workload.change(Some(digest(1)), now);
            workload.rejected.clear();
            world.calm();
            world.assert_runs(2);
        }
        assert_eq!(world.was_told("ImageReverted"), 0);
    });
}

#[test]
fn a_contested_target_does_not_keep_the_others_from_going_back() {
    let mut world = World::new(&["app", "worker"], &json!({}));
    world.calm();
    world.push_as(2, Nature::Hangs);
    world.until("2 runs", |world| world.runs() == [Some(digest(2)), Some(digest(2))]);
    world.fighter = Some(digest(9));
    world.react();
    world.until("it is contested", |world| {
        world.status.phase.as_deref() == Some("Contested")
    });
    assert_eq!(world.runs()[1], Some(digest(2)));
    world.calm_enough();
    assert_eq!(world.runs()[1], Some(digest(1)), "{}", world.last_moves());
}
