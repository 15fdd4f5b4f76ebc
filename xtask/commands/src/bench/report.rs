//! The result, as tables for people and as JSON for programs.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::figures::{Figures, rounded};
use super::goals::{self, Goal};
use super::usage::Usage;
use super::{Phase, Settings, value_name};

/// Everything that was measured.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) settings: Settings,
    pub(super) phases: Vec<(Phase, Figures)>,
    pub(super) usage: Usage,
    pub(super) binary_mb: f64,
    /// How many were Ready at the end of the phase create.
    pub(super) ready_objects: u32,
}

impl Outcome {
    pub(super) fn phase(&self, phase: Phase) -> Option<&Figures> {
        self.phases
            .iter()
            .find(|(other, _)| *other == phase)
            .map(|(_, figures)| figures)
    }

    pub(super) fn goals(&self) -> Vec<Goal> {
        goals::of(self)
    }

    pub(super) fn json(&self) -> Value {
        let count = self.settings.count;
        let phases: Map<String, Value> = self
            .phases
            .iter()
            .map(|(phase, figures)| (value_name(phase), figures.json(count)))
            .collect();
        json!({
            "count": count,
            "rtt_ms": self.settings.rtt_ms,
            "faults_percent": self.settings.faults,
            "ready_objects": self.ready_objects,
            "phases": phases,
            "peak_rss_mb": rounded(self.usage.peak_rss_mb),
            "cpu_seconds": rounded(self.usage.cpu_seconds),
            "binary_mb": rounded(self.binary_mb),
            "goals": self.goals().iter().map(Goal::json).collect::<Vec<_>>(),
        })
    }

    pub(super) fn tables(&self) -> String {
        let Settings {
            count, rtt_ms, faults, ..
        } = self.settings;
        let mut text = format!("{count} Repositories, {rtt_ms} ms to AWS, {faults} % faults while creating\n\n");
        text += &table(&self.phase_rows());
        text.push('\n');
        for (phase, figures) in &self.phases {
            text += &lines(&value_name(phase), figures);
        }
        text.push('\n');
        text += &table(&self.figure_rows());
        text
    }

    fn phase_rows(&self) -> Vec<Vec<String>> {
        let head = [
            "phase",
            "seconds",
            "AWS calls",
            "per object",
            "writes",
            "refused",
            "events",
            "leases",
            "CPU s",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.phases.iter().map(|(phase, figures)| {
            vec![
                value_name(phase),
                format!("{:.1}", figures.seconds),
                figures.total_calls().to_string(),
                format!("{:.2}", figures.calls_per_object(self.settings.count)),
                figures.writes.objects.to_string(),
                figures.writes.refused.to_string(),
                figures.writes.events.to_string(),
                figures.writes.leases.to_string(),
                format!("{:.2}", figures.cpu_seconds),
            ]
        }));
        rows
    }

    /// The figures with a goal, and those of the whole run.
    fn figure_rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["what", "measured", "must", ""].map(str::to_owned).to_vec()];
        let goals = self.goals();
        rows.extend(goals.iter().map(Goal::row));
        let mut free = |what: &str, value: f64| {
            if !goals.iter().any(|goal| goal.what == what) {
                rows.push(vec![
                    what.to_owned(),
                    format!("{value:.2}"),
                    String::new(),
                    String::new(),
                ]);
            }
        };
        free("peak resident memory, MB", self.usage.peak_rss_mb);
        free("CPU seconds of all phases", self.usage.cpu_seconds);
        rows
    }
}

/// What a phase called, and what only it has to tell.
pub(super) fn lines(name: &str, figures: &Figures) -> String {
    let calls: Vec<String> = figures
        .calls
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let calls = match calls.is_empty() {
        true => "nothing".to_owned(),
        false => calls.join(", "),
    };
    let mut text = format!("{name} called: {calls}\n");
    let extra: Vec<String> = figures
        .extra
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    if !extra.is_empty() {
        writeln!(text, "{name} also: {}", extra.join(", ")).ok();
    }
    text
}

/// Columns as wide as they need to be: the first one to the left, the others to the right.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(String::len)
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match column {
                0 => write!(line, "{cell:<width$}").ok(),
                _ => write!(line, "  {cell:>width$}").ok(),
            };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(super) fn example() -> Outcome {
    let figures = Figures {
        seconds: 5.0,
        calls: [("CreateRepository".to_owned(), 400)].into(),
        cpu_seconds: 2.0,
        ..Figures::default()
    };
    Outcome {
        settings: Settings {
            count: 200,
            rtt_ms: 20,
            faults: 0,
            idle: 300,
            phases: Vec::new(),
            json: false,
            check: false,
        },
        phases: vec![(Phase::Create, figures)],
        usage: Usage {
            peak_rss_mb: 25.0,
            cpu_seconds: 3.0,
        },
        binary_mb: 21.6,
        ready_objects: 200,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            table(&[row(["a", "long"]), row(["bcd", "1"])]),
            "a    long\nbcd     1\n"
        );
    }

    #[test]
    fn json_has_what_programs_read() {
        let json = example().json();
        let create = &json["phases"]["create"];
        assert_eq!((&create["seconds"], &create["aws_calls"]), (&json!(5.0), &json!(400)));
        assert_eq!(create["aws_calls_by_operation"]["CreateRepository"], 400);
        assert_eq!((&json["peak_rss_mb"], &json["binary_mb"]), (&json!(25.0), &json!(21.6)));
        assert!(
            json["goals"]
                .as_array()
                .unwrap()
                .iter()
                .all(|goal| goal["what"].is_string())
        );
    }

    #[test]
    fn tables_tell_what_was_missed() {
        let text = example().tables();
        assert!(text.contains("create called: CreateRepository 400"), "{text}");
        let missed: Vec<&str> = text.lines().filter(|line| line.ends_with("MISSED")).collect();
        assert!(
            missed.len() == 1 && missed[0].starts_with("create: CPU seconds"),
            "{text}"
        );
    }
}
