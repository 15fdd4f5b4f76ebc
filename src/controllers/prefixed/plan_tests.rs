//! The decisions about a setting by prefix, as plain functions over an entry that is a number.

#![expect(
    clippy::unnecessary_wraps,
    reason = "what is on record, or in ECR, is handed over as it may be absent"
)]

use super::*;

#[derive(Debug)]
struct Number {
    created: i64,
    fixed: u8,
    value: u8,
}

impl Entry for Number {
    fn created_at(&self) -> Timestamp {
        at(self.created)
    }

    fn digest(&self) -> String {
        format!("{}-{}", self.fixed, self.value)
    }
}

struct Want {
    fixed: u8,
    value: u8,
}

impl Wish for Want {
    type Live = Number;
    type Terms = u8;

    fn digest(&self) -> String {
        format!("{}-{}", self.fixed, self.value)
    }

    fn creation(&self) -> u8 {
        self.value
    }

    fn outline(&self) -> String {
        format!("value {}", self.value)
    }

    fn fixed(&self, live: &Number) -> Vec<String> {
        let differs = self.fixed != live.fixed;
        differs.then(|| "fixed differs".to_owned()).into_iter().collect()
    }

    fn change(&self, live: &Number) -> Result<Option<Change<u8>>, Verdict> {
        Ok((self.value != live.value).then(|| Change {
            lines: vec![format!("value: {} -> {}", live.value, self.value)],
            terms: self.value,
        }))
    }
}

const WANT: Want = Want { fixed: 1, value: 1 };

const NOW: i64 = 1_800_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn facts(owned: Option<OwnedStatus>) -> Facts {
    Facts {
        what: "setting team".into(),
        owned,
        adopt: false,
        deletion: RetainOrDelete::Delete,
    }
}

fn recorded(created: i64) -> Option<OwnedStatus> {
    Some(owning(at(created)))
}

fn asked(at_second: i64, digest: &str) -> Option<OwnedStatus> {
    Some(OwnedStatus {
        created_at: None,
        asked: Some(AskedStatus {
            at: at(at_second),
            digest: digest.into(),
        }),
    })
}

fn sight(live: Option<Number>) -> Sight<Number, ()> {
    Sight {
        manage: true,
        elder: None,
        live: live.map(Arc::new),
        vanished: false,
        made: false,
        refused: None,
        claim_held: true,
        deletion_sent: false,
        tried: None,
        lock: None,
    }
}

fn number(created: i64, value: u8) -> Option<Number> {
    Some(Number {
        created,
        fixed: 1,
        value,
    })
}

fn planned(facts: &Facts, goal: Goal, sight: Sight<Number, ()>) -> Plan<Step<u8>> {
    plan(facts, Ok(&WANT), goal, &Seen::Open(Box::new(sight)), at(NOW))
}

fn wanted(facts: &Facts, live: Option<Number>) -> Plan<Step<u8>> {
    planned(facts, Goal::Present, sight(live))
}

fn unwanted(facts: &Facts, live: Option<Number>) -> Plan<Step<u8>> {
    planned(facts, Goal::Absent, sight(live))
}

fn lines(plan: &Plan<Step<u8>>) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

fn reason(plan: &Plan<Step<u8>>) -> Reason {
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    plan.verdict.reason()
}

#[test]
fn a_creation_is_on_record_before_it_is_sent() {
    let plan = wanted(&facts(None), None);
    assert_eq!(lines(&plan), ["create setting team: value 1"]);
    assert_eq!(owned_before(&plan.steps), asked(NOW, "1-1"));
    assert!(plan.holds);
}

#[test]
fn what_was_asked_for_and_never_answered_is_recognized_by_time_and_content() {
    let ours = wanted(&facts(asked(NOW, "1-1")), number(NOW + 60, 1));
    assert_eq!(
        lines(&ours),
        ["note that setting team was created as this object asked"]
    );
    assert_eq!(owned_before(&ours.steps), recorded(NOW + 60));
    for (asked_at, live) in [
        (NOW, number(NOW + 60, 2)),
        (NOW - 4_000, number(NOW, 1)),
        (NOW, number(NOW - 4_000, 1)),
    ] {
        assert_eq!(reason(&wanted(&facts(asked(asked_at, "1-1")), live)), Reason::Exists);
    }
    // Edited meanwhile: what counts is what was asked for.
    let edited = wanted(&facts(asked(NOW, "1-2")), number(NOW, 2));
    assert_eq!(lines(&edited).last().map(String::as_str), Some("value: 2 -> 1"));
}

#[test]
fn what_belongs_to_nobody_is_taken_only_by_adoption() {
    assert_eq!(reason(&wanted(&facts(None), number(1, 1))), Reason::Exists);
    let adopting = Facts {
        adopt: true,
        ..facts(None)
    };
    let plan = wanted(&adopting, number(1, 2));
    assert_eq!(lines(&plan), ["adopt setting team", "value: 2 -> 1"]);
    assert_eq!(owned_before(&plan.steps), recorded(1));
    let other = Number {
        created: 1,
        fixed: 2,
        value: 2,
    };
    let refused = wanted(&adopting, Some(other));
    assert_eq!(reason(&refused), Reason::Immutable);
    assert!(!refused.holds);
}

#[test]
fn another_of_the_same_prefix_is_not_the_one_on_record() {
    let plan = wanted(&facts(recorded(1)), number(2, 1));
    assert_eq!(reason(&plan), Reason::Exists);
    assert!(
        plan.verdict.to_string().contains("created again by somebody else"),
        "{}",
        plan.verdict
    );
}

#[test]
fn drift_is_mended_and_what_is_fixed_is_told() {
    assert_eq!(lines(&wanted(&facts(recorded(1)), number(1, 3))), ["value: 3 -> 1"]);
    assert_eq!(reason(&wanted(&facts(recorded(1)), number(1, 1))), Reason::Settled);
    let other = Number {
        created: 1,
        fixed: 2,
        value: 3,
    };
    let plan = wanted(&facts(recorded(1)), Some(other));
    assert_eq!(reason(&plan), Reason::Immutable);
    assert!(plan.holds);
}

#[test]
fn one_that_vanished_is_created_again_with_a_warning() {
    let gone = Sight {
        vanished: true,
        ..sight(None)
    };
    let plan = planned(&facts(recorded(1)), Goal::Present, gone);
    assert_eq!(lines(&plan), ["create setting team: value 1"]);
    assert_eq!(plan.warnings[0].reason, "Recreated");
}

#[test]
fn of_two_objects_for_one_prefix_the_later_writes_nothing() {
    for live in [None, number(1, 1), number(1, 2)] {
        let later = Sight {
            elder: Some("Setting first".into()),
            ..sight(live)
        };
        let plan = planned(&facts(recorded(1)), Goal::Present, later);
        assert_eq!(reason(&plan), Reason::OwnedByAnother);
    }
}

#[test]
fn where_nothing_may_be_written_differences_are_listed() {
    let look = |live| {
        let observing = Sight {
            manage: false,
            ..sight(live)
        };
        planned(&facts(None), Goal::Present, observing)
    };
    let differences = |plan: Plan<Step<u8>>| match plan.verdict {
        Verdict::Observed { differences } if plan.steps.is_empty() && !plan.holds => differences,
        verdict => panic!("{verdict:?}"),
    };
    assert_eq!(differences(look(None)), ["create setting team: value 1"]);
    assert_eq!(differences(look(number(1, 2))), ["value: 2 -> 1"]);
    assert!(differences(look(number(1, 1))).is_empty());
}

#[test]
fn only_what_is_on_record_is_deleted_and_only_where_the_object_says_so() {
    let ours = facts(recorded(1));
    assert_eq!(
        lines(&unwanted(&ours, number(1, 1))),
        ["delete setting team; repositories and images stay"]
    );
    let retaining = Facts {
        deletion: RetainOrDelete::Retain,
        ..ours.clone()
    };
    let adopting = Facts {
        adopt: true,
        ..facts(recorded(1))
    };
    for (facts, live) in [
        (retaining, number(1, 1)),
        (ours.clone(), number(2, 1)),
        (adopting, number(2, 1)),
        (facts(None), number(1, 1)),
        (facts(asked(NOW, "1-1")), number(NOW, 2)),
        (ours.clone(), None),
    ] {
        assert_eq!(reason(&unwanted(&facts, live)), Reason::Settled);
    }
    let unclaimed = Sight {
        claim_held: false,
        ..sight(number(1, 1))
    };
    let observing = Sight {
        manage: false,
        ..sight(number(1, 1))
    };
    for sight in [unclaimed, observing] {
        let plan = planned(&ours, Goal::Absent, sight);
        assert_eq!(reason(&plan), Reason::Settled);
        assert_eq!(plan.warnings[0].reason, "LeftBehind");
    }
    let sent = Sight {
        deletion_sent: true,
        ..sight(number(1, 1))
    };
    assert!(matches!(
        planned(&ours, Goal::Absent, sent).verdict,
        Verdict::Waiting { .. }
    ));
}

#[test]
fn what_was_created_without_an_answer_is_put_on_record_before_it_is_deleted() {
    let plan = unwanted(&facts(asked(NOW, "1-1")), number(NOW, 1));
    assert_eq!(owned_before(&plan.steps), recorded(NOW));
    assert!(!matches!(plan.steps[0], Step::Delete { .. }));
}

#[test]
fn a_creation_that_was_refused_or_was_anothers_is_not_asked_for_any_more() {
    let after = |facts: &Facts, sight| owned_after(facts, Goal::Present, Some(&Seen::Open(Box::new(sight))));
    let facts = facts(asked(NOW, "1-1"));
    let refused = Sight {
        refused: Some((Reason::Denied, "no".into())),
        ..sight(None)
    };
    assert_eq!(
        reason(&planned(
            &facts,
            Goal::Present,
            Sight {
                refused: Some((Reason::Denied, "no".into())),
                ..sight(None)
            }
        )),
        Reason::Denied
    );
    assert_eq!(after(&facts, refused), None);
    assert_eq!(after(&facts, sight(number(NOW, 2))), None);
    assert_eq!(after(&facts, sight(None)), asked(NOW, "1-1"));
    let made = Sight {
        made: true,
        ..sight(number(NOW + 1, 1))
    };
    assert_eq!(after(&facts, made), recorded(NOW + 1));
    assert_eq!(
        owned_after::<Number, ()>(&facts, Goal::Present, None),
        asked(NOW, "1-1")
    );
}
