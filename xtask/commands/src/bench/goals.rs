//! What the figures must be, where a limit was set for a run of this size.

use std::time::Duration;

use serde_json::{Value, json};

use super::Phase;
use super::figures::rounded;
use super::report::Outcome;
use super::usage::number;

/// What a page of a listing holds.
const PAGE: u32 = 1_000;

/// A figure and its upper limit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Goal {
    pub(super) what: String,
    pub(super) value: f64,
    pub(super) must: f64,
}

impl Goal {
    pub(super) fn reached(&self) -> bool {
        self.value <= self.must
    }

    /// What, how much, how much it must be, and whether it is.
    pub(super) fn row(&self) -> Vec<String> {
        let verdict = if self.reached() { "reached" } else { "MISSED" };
        vec![
            self.what.clone(),
            format!("{:.2}", self.value),
            format!("<= {}", self.must),
            verdict.to_owned(),
        ]
    }

    pub(super) fn json(&self) -> Value {
        json!({ "what": self.what, "value": rounded(self.value), "must": self.must, "reached": self.reached() })
    }
}

/// How many calls one listing takes, with the claim, which is a repository too.
pub(super) fn pages(count: u32) -> f64 {
    f64::from(pages_of(count + 1))
}

/// How many calls a listing of so many repositories takes.
pub(super) fn pages_of(repositories: u32) -> u32 {
    repositories.div_ceil(PAGE)
}

/// The goals that apply to a run.
pub(super) fn of(outcome: &Outcome) -> Vec<Goal> {
    let settings = &outcome.settings;
    let count = settings.count;
    let mut goals = Vec::new();
    let mut goal = |what: &str, value: f64, must: f64| {
        let what = what.to_owned();
        goals.push(Goal { what, value, must });
    };
    let faultless = settings.faults == 0;
    if let Some(create) = outcome.phase(Phase::Create).filter(|_| faultless) {
        match (count, settings.rtt_ms) {
            (200, 20) => {
                goal("create: seconds", create.seconds, 6.3);
                goal("create: CPU seconds", create.cpu_seconds, 1.1);
            }
            (2_000, 0) => goal("create: seconds", create.seconds, 30.0),
            _ => {}
        }
        goal("create: AWS calls per object", create.calls_per_object(count), 2.5);
    }
    if let Some(check) = outcome.phase(Phase::Check) {
        goal("check: AWS calls per object", check.calls_per_object(count), 2.1);
        goal("check: apiserver writes", number(check.writes.objects), 0.0);
    }
    if let Some(restart) = outcome.phase(Phase::Restart) {
        let looks = number(restart.calls_of("DescribeRepositories"));
        goal("restart: DescribeRepositories", looks, pages(count));
        goal("restart: apiserver writes", number(restart.writes.objects), 0.0);
    }
    if let Some(idle) = outcome.phase(Phase::Idle) {
        goal("idle: apiserver writes", number(idle.writes.objects), 0.0);
        // A shorter time, multiplied, says nothing about an hour.
        if count <= 1_000 && settings.idle >= 300 {
            let an_hour = number(idle.total_calls()) * 3_600.0 / idle.seconds;
            goal("idle: AWS calls an hour, extrapolated", an_hour, 600.0);
        }
    }
    let memory = [(200, 30.0), (2_000, 50.0), (5_000, 100.0)];
    if let Some((_, must)) = memory.into_iter().find(|(most, _)| count <= *most) {
        goal("peak resident memory, MB", outcome.usage.peak_rss_mb, must);
    }
    goal("program, MB", outcome.binary_mb, 25.0);
    goals
}

/// How many of so many turns that are expected may come: their places in the period are as good as random.
pub(super) fn at_most(expected: f64) -> f64 {
    (expected + 3.0 * expected.sqrt()).ceil()
}

/// How often an object is looked at in full where nothing says otherwise: the default of `--check-interval`.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_hours(6);

#[cfg(test)]
mod tests {
    use super::super::report::example;
    use super::*;

    fn named<'a>(goals: &'a [Goal], what: &str) -> Option<&'a Goal> {
        goals.iter().find(|goal| goal.what == what)
    }

    #[test]
    fn goals_are_those_of_the_size() {
        let mut outcome = example();
        assert_eq!(named(&of(&outcome), "create: seconds").map(|goal| goal.must), Some(6.3));
        (outcome.settings.count, outcome.settings.rtt_ms) = (2_000, 0);
        let goals = of(&outcome);
        assert_eq!(named(&goals, "create: seconds").map(|goal| goal.must), Some(30.0));
        assert_eq!(
            named(&goals, "peak resident memory, MB").map(|goal| goal.must),
            Some(50.0)
        );
        outcome.settings.count = 17;
        assert_eq!(named(&of(&outcome), "create: seconds"), None);
    }

    #[test]
    fn with_faults_creation_has_no_goals() {
        let mut outcome = example();
        outcome.settings.faults = 10;
        assert!(of(&outcome).iter().all(|goal| !goal.what.starts_with("create")));
    }

    #[test]
    fn a_goal_is_an_upper_limit() {
        let goal = |value| Goal {
            what: "x".into(),
            value,
            must: 2.5,
        };
        assert!(goal(2.5).reached() && !goal(2.51).reached());
    }

    #[test]
    fn a_listing_has_as_many_pages_as_its_entries_need() {
        assert!((pages(999) - 1.0).abs() < f64::EPSILON);
        assert!((pages(1_000) - 2.0).abs() < f64::EPSILON);
    }
}
