//! The scenarios that took longest, so that a suite that grows slower shows where.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, Result};

/// How many scenarios are named.
const NAMED: usize = 10;

/// A file to which each scenario appends a line: its seconds, and its name.
#[derive(Debug)]
pub(super) struct Times {
    path: PathBuf,
}

impl Times {
    pub(super) fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("ecr-operator-scenario-times-{}", std::process::id()));
        fs::write(&path, "").with_context(|| format!("creating {}", path.display()))?;
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The slowest ones with their seconds; nothing where no scenario was run.
    pub(super) fn report(&self) -> io::Result<String> {
        Ok(slowest(&fs::read_to_string(&self.path)?))
    }
}

impl Drop for Times {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

fn slowest(lines: &str) -> String {
    let mut times: Vec<(f64, &str)> = lines
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(seconds, name)| Some((seconds.parse().ok()?, name)))
        .collect();
    if times.is_empty() {
        return String::new();
    }
    times.sort_by(|one, other| other.0.total_cmp(&one.0));
    let sum: f64 = times.iter().map(|(seconds, _)| seconds).sum();
    let mut report = format!("{} scenarios took {sum:.0} s together; the slowest:\n", times.len());
    for (seconds, name) in times.iter().take(NAMED) {
        // Writing to a String does not fail.
        writeln!(report, "{seconds:>7.1} s  {name}").ok();
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_come_first() {
        let report = slowest("1.5 quick\n20.25 slow::one\nnot a line\n");
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(
            lines,
            [
                "2 scenarios took 22 s together; the slowest:",
                "   20.2 s  slow::one",
                "    1.5 s  quick"
            ]
        );
    }

    #[test]
    fn without_scenarios_there_is_nothing_to_report() {
        assert_eq!(slowest(""), "");
    }
}
