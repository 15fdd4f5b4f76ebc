use jiff::Timestamp;

use super::*;
use crate::{
    api::ACCEPT_ANNOTATION,
    aws::lifecycle::{Listed, Stock},
};

pub(super) fn document(days: u32) -> Policy {
    Policy::from_value(&serde_json::json!({ "rules": [{
        "selection": { "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days },
        "action": { "type": "expire" },
    }] }))
    .unwrap()
}

const GUARD: Limits = Limits {
    images: None,
    percent: Some(20),
};

pub(super) fn claim(days: u32) -> Claim {
    Claim {
        by: "LifecyclePolicy web".into(),
        document: document(days),
        mode: CleanupMode::Enforce,
        guard: Some(GUARD),
        protect: true,
        accepted: BTreeSet::new(),
    }
}

pub(super) fn sight(claim: Claim, live: Live) -> Sight {
    Sight {
        wish: Wish::Claimed(Box::new(claim)),
        live,
        foreseen: Foreseen::No,
        recorded: AppliedLifecycle::default(),
        routine: false,
        protection: Some(Protection::Complete),
        protected: 0,
        unreleasable: None,
        fresh: false,
        mends: false,
    }
}

fn outcome(doomed: usize, images: u64) -> Outcome {
    let listed = |n| Listed {
        digest: format!("sha256:{n:064x}"),
        tags: vec![format!("v{n}")],
        action: Action::Expire,
        rule: 1,
    };
    Outcome {
        doomed: (0..doomed).map(listed).collect(),
        in_use: Vec::new(),
        stock: Stock { images, bytes: 10 },
        at: Timestamp::UNIX_EPOCH,
    }
}

fn step(sight: &Sight) -> Option<Step> {
    match decide(sight) {
        Decision::Step(step) => Some(step),
        Decision::Rest(_) => None,
    }
}

fn reason(sight: &Sight) -> Option<Reason> {
    match decide(sight) {
        Decision::Rest(verdict) => verdict.map(|verdict| verdict.reason()),
        Decision::Step(step) => panic!("{step}"),
    }
}

fn puts(sight: &Sight) -> bool {
    matches!(step(sight), Some(Step::PutLifecycle { .. }))
}

#[test]
fn what_is_in_force_by_meaning_is_not_put_again() {
    let mut same = document(14);
    same.rules[0].priority = 70;
    assert_eq!(reason(&sight(claim(14), Live::Known(same))), None);
}

#[test]
fn a_change_is_previewed_before_it_is_put() {
    let mut seen = sight(claim(14), Live::Known(document(30)));
    assert!(matches!(step(&seen), Some(Step::PreviewLifecycle { .. })));
    for (foreseen, expected) in [
        (Foreseen::Running, Reason::Previewing),
        (Foreseen::Foreign, Reason::Previewing),
        (Foreseen::Failed("ECR says FAILED".into()), Reason::Unavailable),
    ] {
        seen.foreseen = foreseen;
        assert_eq!(reason(&seen), Some(expected));
    }
    seen.foreseen = Foreseen::Yes(outcome(2, 10));
    assert!(puts(&seen), "20 % are within the guard");
}

#[test]
fn a_tripped_guard_leaves_the_old_policy_and_says_how_to_go_on() {
    let mut seen = sight(claim(14), Live::Known(document(30)));
    seen.foreseen = Foreseen::Yes(outcome(3, 10));
    let Decision::Rest(Some(Verdict::Blocked { reason, message })) = decide(&seen) else {
        panic!("not blocked");
    };
    assert_eq!(reason, Reason::Guarded);
    let token = outcome(3, 10).token(&document(14));
    for part in [
        "expire 3 of 10 images",
        "maxPercent is 20",
        ACCEPT_ANNOTATION,
        token.as_str(),
    ] {
        assert!(message.contains(part), "{message}");
    }
    let told = told(&seen, &decide(&seen)).unwrap();
    assert_eq!((told.reason.as_str(), told.put.as_str()), ("Guarded", ""));
    assert_eq!(told.preview.unwrap().images_to_expire, 3);
}

#[test]
fn an_acceptance_is_for_exactly_one_preview() {
    let accepting = |token: String| {
        let mut seen = sight(
            Claim {
                accepted: [token].into(),
                ..claim(14)
            },
            Live::Absent,
        );
        seen.foreseen = Foreseen::Yes(outcome(5, 10));
        seen
    };
    assert!(puts(&accepting(outcome(5, 10).token(&document(14)))));
    for other in [
        outcome(4, 10).token(&document(14)),
        outcome(5, 10).token(&document(13)),
        "yes".into(),
    ] {
        assert_eq!(reason(&accepting(other)), Some(Reason::Guarded));
    }
}

#[test]
fn the_limits_are_those_that_the_policy_sets() {
    let exceeded = |images, percent, doomed, of| Limits { images, percent }.exceeded(&outcome(doomed, of)).is_some();
    assert!(!exceeded(Some(3), None, 3, 3) && exceeded(Some(3), None, 4, 1_000));
    assert!(!exceeded(None, Some(0), 0, 0) && exceeded(None, Some(0), 1, 1_000));
    assert!(exceeded(Some(3), Some(100), 4, 10) && exceeded(Some(100), Some(20), 21, 100));
}

#[test]
fn without_a_guard_and_into_a_new_repository_it_is_put_at_once() {
    let unguarded = Claim {
        guard: None,
        ..claim(14)
    };
    assert!(puts(&sight(unguarded, Live::Known(document(30)))));
    let mut seen = sight(claim(14), Live::Absent);
    seen.fresh = true;
    assert!(puts(&seen));
}

#[test]
fn a_policy_in_mode_preview_is_never_put() {
    for guard in [None, Some(GUARD)] {
        let shown = Claim {
            guard,
            mode: CleanupMode::Preview,
            ..claim(14)
        };
        let mut seen = sight(shown, Live::Known(document(30)));
        assert!(matches!(step(&seen), Some(Step::PreviewLifecycle { .. })));
        seen.foreseen = Foreseen::Yes(outcome(10, 10));
        assert_eq!(reason(&seen), None);
        assert_eq!(told(&seen, &decide(&seen)).unwrap().reason, "Observed");
    }
}

#[test]
fn only_what_we_put_is_taken_off() {
    let unclaimed = |put: String, live| Sight {
        wish: Wish::Unclaimed,
        recorded: AppliedLifecycle {
            put,
            ..AppliedLifecycle::default()
        },
        ..sight(claim(14), live)
    };
    let ours = mark(&document(14));
    let removed = step(&unclaimed(ours.clone(), Live::Known(document(14))));
    assert!(matches!(removed, Some(Step::RemoveLifecycle { .. })));
    for (put, live) in [
        (ours.clone(), Live::Known(document(15))),
        (ours.clone(), Live::Unknown("new".into())),
        (ours, Live::Absent),
        (String::new(), Live::Known(document(14))),
    ] {
        assert_eq!(step(&unclaimed(put, live)), None);
    }
}

#[test]
fn what_is_held_is_left_as_it_is() {
    let tie = Verdict::blocked(Reason::Conflict, "two");
    let held = Sight {
        wish: Wish::Held {
            by: String::new(),
            verdict: Some(tie),
        },
        recorded: AppliedLifecycle {
            put: mark(&document(14)),
            ..AppliedLifecycle::default()
        },
        ..sight(claim(14), Live::Known(document(14)))
    };
    assert_eq!(reason(&held), Some(Reason::Conflict));
    assert_eq!(
        told(&held, &decide(&held)).unwrap().put,
        mark(&document(14)),
        "still ours"
    );
}

#[test]
fn what_was_answered_is_not_asked_again_before_the_next_full_check() {
    let mut seen = sight(claim(14), Live::Absent);
    seen.foreseen = Foreseen::Yes(outcome(3, 10));
    let blocked = decide(&seen);
    seen.recorded = told(&seen, &blocked).unwrap();
    (seen.live, seen.foreseen, seen.routine) = (Live::Unread, Foreseen::No, true);
    assert!(is_answered(&seen.wish, &seen.recorded));
    assert_eq!(reason(&seen), Some(Reason::Guarded));
    assert_eq!(
        told(&seen, &decide(&seen)).unwrap(),
        seen.recorded,
        "no write for nothing"
    );
    seen.routine = false;
    assert!(matches!(step(&seen), Some(Step::PreviewLifecycle { .. })));
    seen.routine = true;
    seen.wish = Wish::Claimed(Box::new(claim(15)));
    assert!(!is_answered(&seen.wish, &seen.recorded));
    assert!(matches!(step(&seen), Some(Step::PreviewLifecycle { .. })));
}

#[test]
fn a_policy_that_was_put_is_recorded_as_ours_and_holds_without_a_read() {
    let mut seen = sight(claim(14), Live::Known(document(14)));
    seen.recorded = told(&seen, &decide(&seen)).unwrap();
    assert_eq!(seen.recorded.put, mark(&document(14)));
    (seen.live, seen.routine) = (Live::Unread, true);
    // Another guard is another question, which has the same answer.
    let wider = Claim {
        guard: None,
        ..claim(14)
    };
    seen.wish = Wish::Claimed(Box::new(wider));
    assert_eq!(reason(&seen), None);
}

#[test]
fn nothing_is_put_before_images_in_use_have_their_tags() {
    let unguarded = Claim {
        guard: None,
        ..claim(14)
    };
    let mut seen = sight(unguarded, Live::Known(document(30)));
    for protection in [
        Protection::Unknown("a report cannot be read".into()),
        Protection::Pending { missing_tags: 1 },
    ] {
        seen.protection = Some(protection);
        assert_eq!(reason(&seen), Some(Reason::Protecting));
    }
    seen.protection = Some(Protection::Complete);
    assert!(puts(&seen));
}

#[test]
fn where_images_are_in_use_even_an_unguarded_policy_is_previewed_and_no_acceptance_lets_it_take_one() {
    let mut seen = sight(
        Claim {
            guard: None,
            accepted: [outcome(5, 10).token(&document(14))].into(),
            ..claim(14)
        },
        Live::Known(document(30)),
    );
    seen.protected = 1;
    assert!(matches!(step(&seen), Some(Step::PreviewLifecycle { .. })));
    seen.foreseen = Foreseen::Yes(outcome(5, 10));
    assert!(puts(&seen));
    seen.foreseen = Foreseen::Yes(Outcome {
        in_use: vec!["sha256:1".into()],
        ..outcome(5, 10)
    });
    assert_eq!(reason(&seen), Some(Reason::Protected));
}

#[test]
fn what_was_about_to_be_put_is_known_as_ours_even_if_no_answer_ever_came() {
    let mut seen = sight(claim(14), Live::Known(document(30)));
    seen.foreseen = Foreseen::Yes(outcome(1, 10));
    seen.recorded.put = mark(&document(30));
    let cut_off = told(&seen, &decide(&seen)).unwrap();
    assert_eq!(
        (&cut_off.put, &cut_off.putting),
        (&mark(&document(30)), &mark(&document(14)))
    );
    assert!(!is_answered(&seen.wish, &cut_off), "it is looked at what became of it");

    // The object that claimed it goes before anybody looks: whichever of the two is there was put by us.
    for (days, ours) in [(14, true), (30, true), (15, false)] {
        let mut orphan = sight(claim(14), Live::Known(document(days)));
        (orphan.wish, orphan.recorded) = (Wish::Unclaimed, cut_off.clone());
        assert!(!is_answered(&orphan.wish, &orphan.recorded));
        assert_eq!(step(&orphan).is_some(), ours, "{days}");
    }
    // What was seen to be there since is no longer about to be put.
    let mut after = sight(claim(14), Live::Known(document(14)));
    after.recorded = cut_off;
    let told = told(&after, &decide(&after)).unwrap();
    assert_eq!((told.put, told.putting), (mark(&document(14)), String::new()));
}

#[test]
fn images_are_kept_for_as_long_as_a_policy_that_heeds_their_tags_may_be_in_force() {
    let protected = AppliedLifecycle {
        put: mark(&document(30)),
        protects: true,
        ..AppliedLifecycle::default()
    };
    let now = |mut seen: Sight| {
        seen.recorded = protected.clone();
        told(&seen, &decide(&seen)).is_some_and(|told| told.protects)
    };
    let unprotecting = || Claim {
        protect: false,
        ..claim(14)
    };
    let mut tripped = sight(unprotecting(), Live::Known(document(30)));
    tripped.foreseen = Foreseen::Yes(outcome(9, 10));
    assert!(now(tripped), "the new policy is held up, and the old one goes on");
    assert!(
        !now(sight(unprotecting(), Live::Known(document(14)))),
        "it was replaced"
    );
    let held = Sight {
        wish: Wish::Held {
            by: String::new(),
            verdict: Some(Verdict::blocked(Reason::Conflict, "two")),
        },
        ..sight(claim(14), Live::Unread)
    };
    assert!(now(held), "a tie leaves it in force");
    let shown_only = Claim {
        mode: CleanupMode::Preview,
        ..claim(14)
    };
    let mut shown_only = sight(shown_only, Live::Known(document(30)));
    shown_only.foreseen = Foreseen::Yes(outcome(0, 10));
    assert!(now(shown_only), "what is in force is the one before");
    let gone = Sight {
        wish: Wish::Unclaimed,
        ..sight(claim(14), Live::Absent)
    };
    assert!(!now(gone));
    let first = sight(claim(14), Live::Absent);
    assert!(
        told(&first, &decide(&first)).unwrap().protects,
        "asked for before it is put"
    );
}

#[test]
fn a_policy_in_force_that_has_come_to_act_on_an_image_in_use_is_taken_off_until_the_image_is_kept() {
    let mut seen = sight(claim(14), Live::Known(document(14)));
    seen.protected = 1;
    assert_eq!(reason(&seen), None);
    seen.foreseen = Foreseen::Yes(outcome(1, 10));
    assert_eq!(reason(&seen), None, "an image that nobody uses may go");
    seen.foreseen = Foreseen::Yes(Outcome {
        in_use: vec!["sha256:1".into()],
        ..outcome(1, 10)
    });
    assert!(matches!(step(&seen), Some(Step::RemoveLifecycle { .. })));
    seen.live = Live::Absent;
    assert_eq!(reason(&seen), Some(Reason::Protected));
    let told = told(&seen, &decide(&seen)).unwrap();
    assert!(told.protects && told.put.is_empty());
    assert!(
        !is_answered(&seen.wish, &told),
        "the image may have its tag in a moment"
    );
    (seen.foreseen, seen.recorded, seen.routine) = (Foreseen::No, told, true);
    assert!(matches!(step(&seen), Some(Step::PreviewLifecycle { .. })));
}

#[test]
fn where_nothing_may_be_written_all_that_differs_is_shown_and_remembered_as_compared() {
    let shows = |sight: &Sight| difference(sight);
    let missing = sight(claim(14), Live::Unread);
    assert!(shows(&missing).unwrap().contains("LifecyclePolicy web"));
    assert_eq!(observed(&missing).unwrap().asked, missing.wish.asked());
    assert_eq!(shows(&sight(claim(14), Live::Known(document(14)))), None);
    let tie = Verdict::blocked(Reason::Conflict, "two policies have the same rank");
    let held = Sight {
        wish: Wish::Held {
            by: String::new(),
            verdict: Some(tie),
        },
        ..sight(claim(14), Live::Unread)
    };
    assert!(shows(&held).unwrap().contains("two policies"));
    let nobody = Sight {
        wish: Wish::Unclaimed,
        ..sight(claim(14), Live::Known(document(14)))
    };
    assert_eq!((shows(&nobody), observed(&nobody)), (None, None));
}
