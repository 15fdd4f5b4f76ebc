//! The result, and what it must be.

use serde_json::Map;

use super::super::figures::{Figures, rounded};
use super::super::goals::{Goal, at_most};
use super::super::measured::Measurement;
use super::super::usage::number;
use super::super::value_name;
use super::converge::PUT;
use super::{Phase, Settings};

/// The looks at Registries, which go by time: the listing, and the claim and the account behind the credentials.
const LOOKS: [&str; 4] = [
    "DescribeRepositories",
    "ListTagsForResource",
    "sts:AssumeRole",
    "sts:GetCallerIdentity",
];

/// A full check of a ReplicationConfig, which goes by time, too.
const CHECK: &str = "DescribeRegistry";

/// What every operation of ECR begins with that changes nothing.
const READS: [&str; 4] = ["BatchCheck", "Describe", "Get", "List"];

/// A registry is listed once in 54 to 60 s, so that a minute has at most this on average over five.
const LISTINGS_A_MINUTE: f64 = 1.2;
const REGISTRIES: f64 = 3.0;

/// Everything that was measured, and with which settings.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) settings: Settings,
    pub(super) measurement: Measurement<Phase>,
}

fn changes(operation: &str) -> bool {
    !operation.contains(':') && !READS.iter().any(|read| operation.starts_with(read))
}

fn calls(figures: &Figures, are: impl Fn(&str) -> bool) -> f64 {
    let counted = figures.calls.iter().filter(|(operation, _)| are(operation));
    number(counted.map(|(_, count)| count).sum())
}

/// What is no slower than it would be with all registries answering: by a fifth, or by a second where that is more.
fn beside(usual: f64) -> f64 {
    rounded((usual * 1.2).max(usual + 1.0))
}

impl Outcome {
    /// The goals that apply to what was run.
    pub(super) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut goal = |what: &str, value: f64, must: f64| {
            let what = what.to_owned();
            goals.push(Goal { what, value, must });
        };
        let measurement = &self.measurement;
        if let Some(most) = measurement.extra(&Phase::Converge, "most_puts_of_a_registry") {
            goal("converge: most puts of a registry", most, 5.0);
        }
        if let Some(edit) = measurement.phase(&Phase::Edit) {
            goal("edit: puts", number(edit.figures.calls_of(PUT)), 1.0);
        }
        if let Some(idle) = measurement.phase(&Phase::Idle) {
            let figures = &idle.figures;
            let by_time = |operation: &str| LOOKS.contains(&operation) || operation == CHECK;
            let others = calls(figures, |operation| !by_time(operation));
            goal("idle: calls beside looks at Registries and full checks", others, 0.0);
            goal("idle: calls that change ECR", calls(figures, changes), 0.0);
            goal("idle: apiserver writes", number(figures.writes.objects), 0.0);
            let checks = measurement.extra(&Phase::Idle, "full_checks_by_schedule");
            goal(
                "idle: full checks",
                number(figures.calls_of(CHECK)),
                at_most(checks.unwrap_or_default()),
            );
            // Over a shorter time, one more or less says nothing about a minute.
            if self.settings.idle >= 300 {
                let listings = number(figures.calls_of("DescribeRepositories"));
                let a_minute = listings * 60.0 / figures.seconds / REGISTRIES;
                goal("idle: listings of a registry a minute", a_minute, LISTINGS_A_MINUTE);
            }
        }
        for phase in [Phase::Isolation, Phase::IsolationAtStart] {
            let extra = |name| measurement.extra(&phase, name);
            let (Some(measured), Some(usual), Some(ready)) = (
                measurement.phase(&phase),
                extra("seconds_all_answering"),
                extra("ready"),
            ) else {
                continue;
            };
            let name = value_name(&phase);
            let seconds = measured.figures.seconds;
            goal(
                &format!("{name}: seconds beside registries that do not answer"),
                seconds,
                beside(usual),
            );
            let late = f64::from(measured.count) - ready;
            goal(&format!("{name}: Repositories that were not Ready in time"), late, 0.0);
        }
        goals
    }

    pub(super) fn json(&self) -> serde_json::Value {
        let settings = &self.settings;
        let settings = Map::from_iter([
            ("configs".to_owned(), settings.configs.into()),
            ("registries".to_owned(), settings.registries.into()),
            ("down".to_owned(), settings.down.into()),
            ("repositories".to_owned(), settings.repositories.into()),
            ("rtt_ms".to_owned(), settings.rtt_ms.into()),
        ]);
        self.measurement.json(settings, &self.goals())
    }

    pub(super) fn tables(&self) -> String {
        let Settings {
            configs,
            registries,
            down,
            repositories,
            rtt_ms,
            ..
        } = &self.settings;
        let title = format!(
            "{configs} ReplicationConfigs of 3 registries; {registries} registries of {repositories} Repositories each, {down} of \
             which do not answer; {rtt_ms} ms to AWS"
        );
        self.measurement.tables(&title, &self.goals())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bed::Writes;

    use super::super::super::measured::Measured;
    use super::super::super::usage::Usage;
    use super::*;

    fn outcome(phase: Phase, measured: Measured) -> Outcome {
        Outcome {
            settings: Settings {
                configs: 50,
                registries: 20,
                down: 5,
                repositories: 10,
                rtt_ms: 20,
                idle: 300,
                phases: Vec::new(),
                json: true,
                check: false,
            },
            measurement: Measurement {
                phases: vec![(phase, measured)],
                usage: Usage::default(),
                binary_mb: 20.0,
            },
        }
    }

    fn measured(seconds: f64, calls: &[(&str, u64)]) -> Measured {
        let calls: BTreeMap<String, u64> = calls.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        let figures = Figures {
            seconds,
            calls,
            ..Figures::default()
        };
        Measured { count: 50, figures }
    }

    fn missed(outcome: &Outcome) -> Vec<String> {
        let goals = outcome.goals().into_iter();
        goals.filter(|goal| !goal.reached()).map(|goal| goal.what).collect()
    }

    #[test]
    fn many_that_are_created_together_are_few_puts_of_each_registry() {
        let with = |most: u64| {
            let measured = measured(2.0, &[(PUT, 15)]).with("most_puts_of_a_registry", most);
            missed(&outcome(Phase::Converge, measured)).len()
        };
        assert_eq!([5, 6].map(with), [0, 1]);
    }

    #[test]
    fn an_edit_is_one_put() {
        let with = |puts| missed(&outcome(Phase::Edit, measured(0.3, &[(PUT, puts)]))).len();
        assert_eq!([1, 2].map(with), [0, 1]);
    }

    #[test]
    fn at_rest_there_are_looks_at_registries_and_the_full_checks_of_the_schedule() {
        let idle = |calls: &[(&str, u64)]| {
            let measured = measured(300.0, calls).with("full_checks_by_schedule", 0.7);
            outcome(Phase::Idle, measured)
        };
        let right = [("DescribeRepositories", 18), ("ListTagsForResource", 3), (CHECK, 4)];
        assert_eq!(missed(&idle(&right)), Vec::<String>::new());
        for wrong in [(CHECK, 5), ("DescribeRepositories", 19), ("GetRegistryPolicy", 1)] {
            assert_eq!(missed(&idle(&[wrong])).len(), 1, "{wrong:?}");
        }
        // It is a call that nothing asks for, and one that changes something.
        assert_eq!(missed(&idle(&[(PUT, 1)])).len(), 2);
        let mut writes = idle(&[]);
        writes.measurement.phases[0].1.figures.writes = Writes {
            objects: 1,
            ..Writes::default()
        };
        assert_eq!(missed(&writes), ["idle: apiserver writes"]);
    }

    #[test]
    fn what_changes_something_is_told_from_what_reads() {
        for operation in [PUT, "CreateRepository", "TagResource", "BatchDeleteImage"] {
            assert!(changes(operation), "{operation}");
        }
        for operation in [
            CHECK,
            "GetRegistryPolicy",
            "ListImages",
            "sts:AssumeRole",
            "sqs:DeleteMessage",
        ] {
            assert!(!changes(operation), "{operation}");
        }
    }

    #[test]
    fn registries_that_do_not_answer_may_cost_others_a_fifth_or_a_second() {
        for phase in [Phase::Isolation, Phase::IsolationAtStart] {
            let with = |(usual, beside): (f64, f64)| {
                let measured = measured(beside, &[]).with("seconds_all_answering", usual);
                missed(&outcome(phase, measured.with("ready", 50))).len()
            };
            let runs = [(2.0, 3.0), (2.0, 3.1), (10.0, 12.0), (10.0, 12.1)];
            assert_eq!(runs.map(with), [0, 1, 0, 1]);
            let some = measured(1.0, &[]).with("seconds_all_answering", 1.0).with("ready", 49);
            assert_eq!(missed(&outcome(phase, some)).len(), 1, "not all were Ready");
        }
    }

    #[test]
    fn json_has_what_programs_read() {
        let measured = measured(3.0, &[(PUT, 3)])
            .with("most_puts_of_a_registry", 1)
            .with("puts_per_registry", serde_json::json!({ "registry-00": 1 }));
        let json = outcome(Phase::Converge, measured).json();
        assert_eq!((&json["configs"], &json["down"]), (&50.into(), &5.into()));
        let converge = &json["phases"]["converge"];
        assert_eq!(converge["aws_calls_by_operation"][PUT], 3);
        assert_eq!(converge["puts_per_registry"]["registry-00"], 1);
        assert_eq!(json["goals"][0]["reached"], true);
    }
}
