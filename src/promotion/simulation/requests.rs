//! Requests, each answered once.

use super::{
    promotions::{forbid, pin},
    *,
};
use crate::control::reason::Reason;

/// Images 1 and 2 have run; 2 runs.
fn two() -> World {
    let mut world = World::new(&["app"], &json!({}));
    world.calm();
    world.push(2);
    world.calm();
    world.moves = 0;
    world.told.clear();
    world.trace.clear();
    world
}

fn long(number: u32) -> String {
    digest(number).to_string()
}

#[test]
fn a_rollback_goes_to_the_image_before_and_is_held() {
    play(two, |world| {
        world.ask("rollback", "it burns");
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.rejected(), [digest(2)].into());
        assert_eq!(world.status.rejected[0].reason, "it burns");
        assert_eq!(world.hold(), Some(HoldKind::RolledBack));
        world.push(3);
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn a_request_is_answered_once() {
    let mut world = two();
    world.ask("rollback", "");
    world.calm();
    world.calm();
    assert_eq!(world.status.last_rollout, 2);
    world.ask("rollback", "");
    world.calm();
    assert_eq!(world.answer(), "there is no earlier good image to go back to");
    world.assert_runs(1);
}

#[test]
fn two_people_who_see_the_same_failure_do_not_go_back_twice() {
    let mut world = two();
    world.push_as(3, Nature::Crashes);
    world.until("it goes back", |world| {
        world
            .status
            .rollout
            .as_ref()
            .is_some_and(|it| it.kind == RolloutKind::Rollback)
    });
    world.ask("rollback", "");
    world.calm();
    world.assert_runs(2);
    assert!(world.answer().contains("already"), "{}", world.answer());
}

#[test]
fn a_rollback_to_a_named_image_that_fails_at_first_may_recover() {
    play(two, |world| {
        world.push(3);
        world.calm();
        world.natures.insert(digest(1), Nature::Hangs);
        world.ask("rollback", &long(1));
        let rest = world.calm();
        world.assert_runs(1);
        assert_eq!(rest.verdict.reason(), Reason::Failed);
        world.natures.clear();
        let rest = world.calm();
        assert_eq!(rest.verdict.reason(), Reason::Settled);
        assert_eq!(world.last_good(), Some(digest(1)));
    });
}

#[test]
fn a_rollback_is_refused_in_words() {
    for (rest, prepare, answer) in [
        (long(7), None, "this promotion has not run"),
        (long(2), None, "runs already"),
        (long(1), Some(forbid(1)), "spec.reject forbids"),
    ] {
        let mut world = two();
        world.edit(|spec| spec.reject = prepare.into_iter().collect());
        world.calm();
        world.ask("rollback", &rest);
        world.calm();
        assert!(world.answer().contains(answer), "{}", world.answer());
        world.assert_runs(2);
    }
    let mut world = two();
    world.store(1, &Presence::Archived);
    world.ask("rollback", "");
    world.calm();
    assert!(world.answer().contains("archived"), "{}", world.answer());
    world.assert_runs(2);
    assert!(world.rejected().is_empty());
}

#[test]
fn a_rollback_during_a_rollout_ends_it() {
    play(two, |world| {
        world.push_as(3, Nature::Hangs);
        world.until("3 runs", |world| world.runs() == [Some(digest(3))]);
        world.ask("rollback", "");
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.rejected(), [digest(3)].into());
    });
}

#[test]
fn an_older_image_that_was_asked_for_stays_until_a_newer_one() {
    play(two, |world| {
        world.ask("promote", "1.1.0 the customer wants it");
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.hold(), Some(HoldKind::Person));
        assert!(world.status.requested.is_none());
        world.push(3);
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn what_was_asked_for_in_place_of_a_followed_tag_stays_until_the_tag_moves() {
    let start = || {
        let mut world = World::new(
            &["app"],
            &json!({"source": {"repositoryRef": {"name": "app"}, "policy": {"tag": {"name": "live"}}}}),
        );
        world.push(2);
        world.push(3);
        world.followed = Some(digest(2));
        world
    };
    play(start, |world| {
        world.calm();
        world.ask("promote", "1.1.0");
        world.calm();
        world.assert_runs(1);
        world.followed = Some(digest(3));
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn what_was_asked_for_waits_for_its_gates_and_the_rollout_under_way() {
    play(two, |world| {
        world.push(3);
        world.close(1, Gate::Window);
        world.until("3 is rolled out", |world| world.status.rollout.is_some());
        world.ask("promote", &long(1));
        world.calm();
        world.assert_runs(3);
        assert_eq!(world.status.phase.as_deref(), Some("Waiting"));
        world.closed.clear();
        world.calm();
        world.assert_runs(1);
    });
}

#[test]
fn what_was_asked_for_is_not_forgotten_when_the_rollout_under_way_fails() {
    play(two, |world| {
        world.push_as(3, Nature::Crashes);
        world.until("3 is rolled out", |world| world.status.rollout.is_some());
        world.ask("promote", &long(1));
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.rejected(), [digest(3)].into());
    });
}

#[test]
fn what_was_taken_back_can_be_asked_for_again() {
    play(two, |world| {
        world.push_as(3, Nature::Crashes);
        world.calm();
        world.natures.clear();
        world.ask("promote", "1.3.0");
        world.calm();
        world.assert_runs(3);
        assert!(world.rejected().is_empty());
        assert!(world.workload("app").rejected.is_empty());
    });
}

#[test]
fn a_failed_image_that_stayed_is_rolled_out_again_when_it_is_asked_for() {
    let start = || {
        let mut world = two();
        world.spec.rollback.on_failure = false;
        world
    };
    play(start, |world| {
        world.push_as(3, Nature::Crashes);
        world.calm();
        world.natures.clear();
        world.ask("promote", "1.3.0");
        world.calm();
        world.assert_runs(3);
        assert_eq!(world.last_good(), Some(digest(3)));
    });
}

#[test]
fn a_promotion_is_refused_in_words() {
    let mut world = two();
    world.edit(|spec| spec.reject = vec![forbid(1)]);
    world.calm();
    for (rest, answer) in [
        ("1.7.0", "has no image 1.7.0"),
        ("1.1.0", "spec.reject forbids 1.1.0"),
        ("1.2.0", "runs already"),
    ] {
        world.ask("promote", rest);
        world.calm();
        assert!(world.answer().contains(answer), "{}", world.answer());
        world.assert_runs(2);
        assert!(world.status.requested.is_none());
    }
    world.edit(|spec| spec.pin = Some(pin(2)));
    for (name, rest) in [("promote", "1.1.0"), ("promote", ""), ("rollback", ""), ("pin", "")] {
        world.ask(name, rest);
        world.calm();
        assert!(world.answer().contains("spec."), "{name}: {}", world.answer());
        world.assert_runs(2);
    }
    world.ask("reject", &long(2));
    world.calm();
    assert!(world.answer().contains("spec.pin asks for"), "{}", world.answer());
    assert!(world.rejected().is_empty());
}

#[test]
fn a_request_that_is_not_understood_is_answered_too() {
    let mut world = two();
    world.ask("reject", "this");
    world.calm();
    assert!(world.answer().contains("not understood"), "{}", world.answer());
    world.ask("promote", &"x".repeat(2_000));
    world.calm();
    assert!(world.answer().contains("more than 512"), "{}", world.answer());
    assert_eq!(world.was_told("Answered"), 2);
}

#[test]
fn a_pinned_image_stays_until_resume() {
    play(two, |world| {
        world.ask("pin", &format!("{} for the audit", long(1)));
        world.calm();
        world.assert_runs(1);
        world.push(3);
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.hold(), Some(HoldKind::Pinned));
        world.ask("resume", "");
        world.calm();
        world.assert_runs(3);
    });
}

#[test]
fn a_pin_forgets_what_was_asked_for_before() {
    play(two, |world| {
        world.close(1, Gate::Window);
        world.ask("promote", "1.1.0");
        world.calm();
        world.ask("pin", "");
        world.closed.clear();
        world.calm();
        world.assert_runs(2);
        assert_eq!(world.hold(), Some(HoldKind::Pinned));
    });
}

#[test]
fn a_rejected_image_is_left_or_never_run() {
    play(two, |world| {
        world.ask("reject", &long(2));
        world.calm();
        world.assert_runs(1);
        world.ask("reject", &format!("{} not this", long(3)));
        world.calm();
        world.push(3);
        world.calm();
        world.assert_runs(1);
        assert_eq!(world.rejected(), [digest(2), digest(3)].into());
    });
}

#[test]
fn a_rejected_image_with_nothing_to_go_back_to_stays() {
    play(
        || World::new(&["app"], &json!({})),
        |world| {
            world.calm();
            world.ask("reject", &long(1));
            let rest = world.calm();
            world.assert_runs(1);
            assert_eq!(rest.verdict.reason(), Reason::Failed);
            assert!(world.answer().contains("no earlier good image"), "{}", world.answer());
            assert_eq!(world.last_good(), None);
        },
    );
}

#[test]
fn approvals_are_kept_once_for_each_person_and_not_for_what_is_rejected() {
    let mut world = two();
    for who in ["jane", "joe", "jane"] {
        world.ask("approve", &format!("{} {who}", long(3)));
        world.calm();
    }
    let by: Vec<&str> = world.status.approvals.iter().map(|it| it.by.as_str()).collect();
    assert_eq!(by, ["jane", "joe"]);
    world.ask("reject", &long(3));
    world.calm();
    assert!(world.status.approvals.is_empty());
    world.ask("approve", &format!("{} ann", long(3)));
    world.calm();
    assert!(world.answer().contains("cannot be approved"), "{}", world.answer());
    for number in 0..40 {
        world.ask("approve", &format!("{} person-{number}", long(4)));
        world.calm();
    }
    assert_eq!(world.status.approvals.len(), 20);
}

#[test]
fn promote_without_an_image_returns_to_the_policy() {
    play(two, |world| {
        world.ask("promote", "1.1.0");
        world.calm();
        world.assert_runs(1);
        world.ask("promote", "");
        world.calm();
        world.assert_runs(2);
    });
}
