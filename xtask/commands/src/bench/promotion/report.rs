//! The result, and what it must be.

use serde_json::{Map, Value};

use super::super::goals::Goal;
use super::super::measured::Measurement;
use super::{Phase, Settings};

/// Everything that was measured, and with which settings.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) settings: Settings,
    pub(super) measurement: Measurement<Phase>,
}

impl Outcome {
    /// The goals that apply to what was run.
    pub(super) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut goal = |what: &str, value: Option<f64>, must: f64| {
            let what = what.to_owned();
            goals.extend(value.map(|value| Goal { what, value, must }));
        };
        let of = |phase, name| self.measurement.extra(&phase, name);
        goal(
            "event: push to patched, p95, seconds",
            of(Phase::Event, "p95_seconds"),
            1.0,
        );
        goal(
            "idle: apiserver writes an hour",
            of(Phase::Idle, "apiserver_writes_per_hour_extrapolated"),
            0.0,
        );
        goal("program, MB", Some(self.measurement.binary_mb), 25.0);
        goals
    }

    pub(super) fn json(&self) -> Value {
        let settings = Map::from_iter([("rtt_ms".to_owned(), self.settings.rtt_ms.into())]);
        self.measurement.json(settings, &self.goals())
    }

    pub(super) fn tables(&self) -> String {
        let title = format!("Promotions, {} ms to AWS", self.settings.rtt_ms);
        self.measurement.tables(&title, &self.goals())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::figures::Figures;
    use super::super::super::measured::Measured;
    use super::super::super::usage::Usage;
    use super::*;

    fn outcome(p95: f64) -> Outcome {
        let figures = Figures::default().with("p95_seconds", p95);
        Outcome {
            settings: Settings {
                pushes: 200,
                rtt_ms: 20,
                idle: 300,
                copy_mib: 1_024,
                images: 50_000,
                phases: Vec::new(),
                json: true,
                check: false,
            },
            measurement: Measurement {
                phases: vec![(Phase::Event, Measured { count: 200, figures })],
                usage: Usage::default(),
                binary_mb: 20.0,
            },
        }
    }

    #[test]
    fn json_has_what_programs_read() {
        let json = outcome(0.5).json();
        assert_eq!(json["rtt_ms"], 20);
        assert_eq!(json["phases"]["event"]["p95_seconds"], 0.5);
        assert_eq!(json["goals"][0]["reached"], true);
    }

    #[test]
    fn tables_tell_what_was_missed() {
        let text = outcome(1.5).tables();
        let missed: Vec<&str> = text.lines().filter(|line| line.ends_with("MISSED")).collect();
        assert!(
            missed.len() == 1 && missed[0].starts_with("event: push to patched"),
            "{text}"
        );
        assert!(text.contains("event also: p95_seconds 1.5"), "{text}");
    }

    #[test]
    fn what_was_not_run_has_no_goal() {
        assert!(outcome(0.5).goals().iter().all(|goal| !goal.what.starts_with("idle")));
    }
}
