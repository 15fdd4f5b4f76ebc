//! The result, as tables for people and as JSON for programs, and what it must be.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::super::figures::{Figures, rounded};
use super::super::goals::Goal;
use super::super::report::{or_nothing, table};
use super::super::usage::Usage;
use super::{Phase, Settings};

/// What a phase cost, and for how many.
#[derive(Debug, Clone)]
pub(super) struct Measured {
    pub(super) count: u32,
    pub(super) figures: Figures,
}

impl Measured {
    /// Tells one thing more.
    pub(super) fn with(self, name: &'static str, value: impl Into<Value>) -> Self {
        Self {
            figures: self.figures.with(name, value),
            ..self
        }
    }

    fn extra(&self, name: &str) -> Option<f64> {
        self.figures.extra.get(name)?.as_f64()
    }
}

/// Everything that was measured.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) settings: Settings,
    pub(super) phases: Vec<(Phase, Measured)>,
    pub(super) usage: Usage,
    pub(super) binary_mb: f64,
}

impl Outcome {
    fn phase(&self, phase: Phase) -> Option<&Measured> {
        let found = self.phases.iter().find(|(other, _)| *other == phase);
        found.map(|(_, measured)| measured)
    }

    /// The goals that apply to what was run.
    pub(super) fn goals(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        let mut goal = |what: &str, value: Option<f64>, must: f64| {
            let what = what.to_owned();
            goals.extend(value.map(|value| Goal { what, value, must }));
        };
        let of = |phase, name| self.phase(phase).and_then(|measured| measured.extra(name));
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
        goal("program, MB", Some(self.binary_mb), 25.0);
        goals
    }

    pub(super) fn json(&self) -> Value {
        let phases: Map<String, Value> = self
            .phases
            .iter()
            .map(|(phase, measured)| (phase.name(), measured.figures.json(measured.count)))
            .collect();
        json!({
            "rtt_ms": self.settings.rtt_ms,
            "phases": phases,
            "peak_rss_mb": rounded(self.usage.peak_rss_mb),
            "cpu_seconds": rounded(self.usage.cpu_seconds),
            "binary_mb": rounded(self.binary_mb),
            "goals": self.goals().iter().map(Goal::json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn tables(&self) -> String {
        let mut text = format!("Promotions, {} ms to AWS\n\n", self.settings.rtt_ms);
        let head = [
            "phase",
            "seconds",
            "of",
            "AWS calls",
            "writes",
            "refused",
            "events",
            "CPU s",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.phases.iter().map(|(phase, measured)| {
            let figures = &measured.figures;
            vec![
                phase.name(),
                format!("{:.1}", figures.seconds),
                measured.count.to_string(),
                figures.total_calls().to_string(),
                figures.writes.objects.to_string(),
                figures.writes.refused.to_string(),
                figures.writes.events.to_string(),
                format!("{:.2}", figures.cpu_seconds),
            ]
        }));
        text += &table(&rows);
        text.push('\n');
        for (phase, measured) in &self.phases {
            let figures = &measured.figures;
            let calls: Vec<String> = figures
                .calls
                .iter()
                .map(|(name, count)| format!("{name} {count}"))
                .collect();
            let extra: Vec<String> = figures
                .extra
                .iter()
                .map(|(name, value)| format!("{name} {value}"))
                .collect();
            writeln!(text, "{} called: {}", phase.name(), or_nothing(&calls)).ok();
            writeln!(text, "{} also: {}", phase.name(), or_nothing(&extra)).ok();
        }
        text.push('\n');
        let mut rows = vec![["what", "measured", "must", ""].map(str::to_owned).to_vec()];
        rows.extend(self.goals().iter().map(Goal::row));
        rows.push(vec![
            "peak resident memory, MB".to_owned(),
            format!("{:.2}", self.usage.peak_rss_mb),
        ]);
        text + &table(&rows)
    }
}

#[cfg(test)]
mod tests {
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
            phases: vec![(Phase::Event, Measured { count: 200, figures })],
            usage: Usage::default(),
            binary_mb: 20.0,
        }
    }

    #[test]
    fn json_has_what_programs_read() {
        let json = outcome(0.5).json();
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
