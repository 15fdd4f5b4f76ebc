//! What phases cost that are each about a number of objects of their own, as tables for people and as JSON for programs.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use super::figures::{Figures, rounded};
use super::goals::Goal;
use super::report::{lines, table};
use super::usage::Usage;
use super::value_name;

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
}

/// Everything that was measured.
#[derive(Debug, Clone)]
pub(super) struct Measurement<P> {
    pub(super) phases: Vec<(P, Measured)>,
    pub(super) usage: Usage,
    pub(super) binary_mb: f64,
}

impl<P: ValueEnum + PartialEq> Measurement<P> {
    pub(super) fn phase(&self, phase: &P) -> Option<&Measured> {
        let found = self.phases.iter().find(|(other, _)| other == phase);
        found.map(|(_, measured)| measured)
    }

    /// What only this phase has to tell, as a number.
    pub(super) fn extra(&self, phase: &P, name: &str) -> Option<f64> {
        self.phase(phase)?.figures.extra.get(name)?.as_f64()
    }

    /// With the settings that it was measured with before it.
    pub(super) fn json(&self, mut settings: Map<String, Value>, goals: &[Goal]) -> Value {
        let phases: Map<String, Value> = self
            .phases
            .iter()
            .map(|(phase, measured)| (value_name(phase), measured.figures.json(measured.count)))
            .collect();
        let all = json!({
            "phases": phases,
            "peak_rss_mb": rounded(self.usage.peak_rss_mb),
            "cpu_seconds": rounded(self.usage.cpu_seconds),
            "binary_mb": rounded(self.binary_mb),
            "goals": goals.iter().map(Goal::json).collect::<Vec<_>>(),
        });
        settings.extend(all.as_object().cloned().unwrap_or_default());
        Value::Object(settings)
    }

    pub(super) fn tables(&self, title: &str, goals: &[Goal]) -> String {
        let mut text = format!("{title}\n\n");
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
                value_name(phase),
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
            text += &lines(&value_name(phase), &measured.figures);
        }
        text.push('\n');
        let mut rows = vec![["what", "measured", "must", ""].map(str::to_owned).to_vec()];
        rows.extend(goals.iter().map(Goal::row));
        rows.push(vec![
            "peak resident memory, MB".to_owned(),
            format!("{:.2}", self.usage.peak_rss_mb),
        ]);
        text + &table(&rows)
    }
}
