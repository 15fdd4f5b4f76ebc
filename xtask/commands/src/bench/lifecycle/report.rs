//! The result, and what it must be.

use serde_json::{Map, Value};

use super::super::figures::Figures;
use super::super::goals::{Goal, at_most};
use super::super::measured::Measurement;
use super::super::usage::number;
use super::{IN_USE_INTERVAL, Phase, Settings};

/// Calls that go by time and not by what happens: the listing of the registry, and that of the reports of images in use.
const BY_TIME: [&str; 2] = ["DescribeRepositories", "ListImages"];

/// What a full check of a repository reads, and a look at the Registry beside its listing.
const CHECKS: [&str; 3] = ["GetLifecyclePolicy", "ListTagsForResource", "sts:GetCallerIdentity"];

/// Everything that was measured, and with which settings.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) settings: Settings,
    pub(super) measurement: Measurement<Phase>,
}

/// All calls but those that go by time.
fn others(figures: &Figures) -> u64 {
    let by_time: u64 = BY_TIME.iter().map(|operation| figures.calls_of(operation)).sum();
    figures.total_calls() - by_time
}

impl Outcome {
    /// The goals that apply to what was run.
    pub(super) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut goal = |what: &str, value: f64, must: f64| {
            let what = what.to_owned();
            goals.push(Goal { what, value, must });
        };
        if let Some(edit) = self.measurement.phase(&Phase::Edit) {
            let count = f64::from(edit.count);
            let puts = edit.figures.calls_of("PutLifecyclePolicy");
            goal("edit: PutLifecyclePolicy a repository", number(puts) / count, 1.0);
            let more = others(&edit.figures).saturating_sub(puts);
            goal("edit: other calls, listings apart", number(more), 0.0);
        }
        if let Some(guarded) = self.measurement.phase(&Phase::Guarded) {
            let calls = number(others(&guarded.figures)) / f64::from(guarded.count);
            goal("guarded: calls a repository, listings apart", calls, 4.0);
        }
        if let Some(idle) = self.measurement.phase(&Phase::Idle) {
            let figures = &idle.figures;
            let checks: u64 = CHECKS.iter().map(|operation| figures.calls_of(operation)).sum();
            let more = others(figures).saturating_sub(checks);
            goal("idle: calls, listings and full checks apart", number(more), 0.0);
            let due = self.measurement.extra(&Phase::Idle, "full_checks_by_schedule");
            let checked = number(figures.calls_of("GetLifecyclePolicy"));
            goal("idle: full checks", checked, at_most(due.unwrap_or_default()));
            goal("idle: apiserver writes", number(idle.figures.writes.objects), 0.0);
        }
        if let Some(in_use) = self.measurement.phase(&Phase::InUse) {
            let put = number(in_use.figures.calls_of("PutImage"));
            goal("in_use: PutImage for one image more", put, 2.0);
            let writes = self.measurement.extra(&Phase::InUse, "rest_apiserver_writes");
            goal("in_use: apiserver writes at rest", writes.unwrap_or_default(), 0.0);
        }
        goals
    }

    pub(super) fn json(&self) -> Value {
        let settings = Map::from_iter([
            ("repositories".to_owned(), self.settings.repositories.into()),
            ("rtt_ms".to_owned(), self.settings.rtt_ms.into()),
            ("in_use_interval_seconds".to_owned(), IN_USE_INTERVAL.as_secs().into()),
        ]);
        self.measurement.json(settings, &self.goals())
    }

    pub(super) fn tables(&self) -> String {
        let title = format!(
            "One policy over {} repositories, {} ms to AWS, images in use looked at each {} s",
            self.settings.repositories,
            self.settings.rtt_ms,
            IN_USE_INTERVAL.as_secs()
        );
        self.measurement.tables(&title, &self.goals())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::super::measured::Measured;
    use super::super::super::usage::Usage;
    use super::*;

    fn outcome(phase: Phase, calls: &[(&str, u64)]) -> Outcome {
        let calls: BTreeMap<String, u64> = calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let figures = Figures {
            calls,
            ..Figures::default()
        };
        Outcome {
            settings: Settings {
                repositories: 100,
                rtt_ms: 20,
                idle: 300,
                phases: Vec::new(),
                json: true,
                check: false,
            },
            measurement: Measurement {
                phases: vec![(phase, Measured { count: 100, figures })],
                usage: Usage::default(),
                binary_mb: 20.0,
            },
        }
    }

    fn missed(outcome: &Outcome) -> Vec<String> {
        let goals = outcome.goals().into_iter();
        goals.filter(|goal| !goal.reached()).map(|goal| goal.what).collect()
    }

    #[test]
    fn an_edit_is_one_put_each_and_the_listings() {
        let right = [
            ("PutLifecyclePolicy", 100),
            ("DescribeRepositories", 3),
            ("ListImages", 1),
        ];
        assert_eq!(missed(&outcome(Phase::Edit, &right)), Vec::<String>::new());
        let more = [("PutLifecyclePolicy", 101), ("GetLifecyclePolicy", 1)];
        assert_eq!(missed(&outcome(Phase::Edit, &more)).len(), 2);
    }

    #[test]
    fn with_the_guard_it_is_three_more_each() {
        let calls = |describes| {
            [
                ("PutLifecyclePolicy", 100),
                ("StartLifecyclePolicyPreview", 100),
                ("GetLifecyclePolicyPreview", 100),
                ("DescribeImages", describes),
            ]
        };
        assert_eq!(missed(&outcome(Phase::Guarded, &calls(100))), Vec::<String>::new());
        assert_eq!(missed(&outcome(Phase::Guarded, &calls(101))).len(), 1);
    }

    #[test]
    fn at_rest_there_are_listings_and_the_full_checks_of_the_schedule() {
        let idle = |calls: &[(&str, u64)]| {
            let mut outcome = outcome(Phase::Idle, calls);
            for (_, measured) in &mut outcome.measurement.phases {
                *measured = measured.clone().with("full_checks_by_schedule", 1.4);
            }
            missed(&outcome)
        };
        let right = [
            ("DescribeRepositories", 10),
            ("ListImages", 30),
            ("GetLifecyclePolicy", 4),
            ("ListTagsForResource", 5),
            ("sts:GetCallerIdentity", 1),
        ];
        assert_eq!(idle(&right), Vec::<String>::new());
        assert_eq!(idle(&[("GetLifecyclePolicy", 6)]), ["idle: full checks"]);
        assert_eq!(idle(&[("GetLifecyclePolicyPreview", 1)]).len(), 1);
    }

    #[test]
    fn json_has_what_programs_read() {
        let json = outcome(Phase::Idle, &[("DescribeRepositories", 5)]).json();
        assert_eq!(json["repositories"], 100);
        assert_eq!(json["phases"]["idle"]["aws_calls"], 5);
        assert_eq!(json["goals"][0]["reached"], true);
    }
}
