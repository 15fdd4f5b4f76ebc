//! What a phase cost: the difference of two readings of counters that only rise.

use std::collections::BTreeMap;
use std::time::Instant;

use bed::Writes;
use serde_json::{Value, json};

use super::usage::number;

/// Counts by name.
pub(super) type Counts = BTreeMap<String, u64>;

/// All counters at one moment.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) calls: Counts,
    pub(super) writes: Writes,
    pub(super) cpu_seconds: f64,
}

/// What happened between two readings.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    pub(super) calls: Counts,
    pub(super) writes: Writes,
    pub(super) cpu_seconds: f64,
    /// What only this phase has to tell.
    pub(super) extra: BTreeMap<&'static str, Value>,
}

impl Figures {
    pub(super) fn between(before: &Reading, after: &Reading) -> Self {
        let (old, new) = (&before.writes, &after.writes);
        Self {
            seconds: after.at.duration_since(before.at).as_secs_f64(),
            calls: difference(&before.calls, &after.calls),
            writes: Writes {
                objects: new.objects.saturating_sub(old.objects),
                leases: new.leases.saturating_sub(old.leases),
                events: new.events.saturating_sub(old.events),
                refused: new.refused.saturating_sub(old.refused),
                by_resource: difference(&old.by_resource, &new.by_resource),
            },
            cpu_seconds: (after.cpu_seconds - before.cpu_seconds).max(0.0),
            extra: BTreeMap::new(),
        }
    }

    /// Tells one thing more.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.extra.insert(name, value.into());
        self
    }

    pub(super) fn total_calls(&self) -> u64 {
        self.calls.values().sum()
    }

    pub(super) fn calls_of(&self, operation: &str) -> u64 {
        self.calls.get(operation).copied().unwrap_or_default()
    }

    pub(super) fn calls_per_object(&self, count: u32) -> f64 {
        number(self.total_calls()) / f64::from(count.max(1))
    }

    pub(super) fn json(&self, count: u32) -> Value {
        let mut all = json!({
            "seconds": rounded(self.seconds),
            "aws_calls": self.total_calls(),
            "aws_calls_per_object": rounded(self.calls_per_object(count)),
            "aws_calls_by_operation": self.calls,
            "apiserver_writes": self.writes.objects,
            "apiserver_writes_by_resource": self.writes.by_resource,
            "apiserver_writes_refused": self.writes.refused,
            "apiserver_events": self.writes.events,
            "apiserver_leases": self.writes.leases,
            "cpu_seconds": rounded(self.cpu_seconds),
        });
        if let Some(all) = all.as_object_mut() {
            all.extend(
                self.extra
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), value.clone())),
            );
        }
        all
    }
}

/// To a thousandth: more digits would only seem exact.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// What was added; names to which nothing was added are left out.
pub(super) fn difference(before: &Counts, after: &Counts) -> Counts {
    let since = |name: &String, count: &u64| count.saturating_sub(before.get(name).copied().unwrap_or_default());
    after
        .iter()
        .map(|(name, count)| (name.clone(), since(name, count)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn counts(of: &[(&str, u64)]) -> Counts {
        of.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn only_what_was_added_is_told() {
        let (before, after) = (counts(&[("a", 2), ("b", 1)]), counts(&[("a", 5), ("b", 1), ("c", 4)]));
        assert_eq!(difference(&before, &after), counts(&[("a", 3), ("c", 4)]));
    }

    #[test]
    fn a_phase_is_the_difference_of_its_readings() {
        let at = Instant::now();
        let before = Reading {
            at,
            calls: counts(&[("a", 1)]),
            writes: Writes {
                objects: 3,
                ..Writes::default()
            },
            cpu_seconds: 1.0,
        };
        let after = Reading {
            at: at + Duration::from_secs(2),
            calls: counts(&[("a", 6)]),
            writes: Writes {
                objects: 7,
                events: 1,
                ..Writes::default()
            },
            cpu_seconds: 1.5,
        };
        let json = Figures::between(&before, &after).with("more", 1).json(2);
        assert_eq!((&json["seconds"], &json["cpu_seconds"]), (&json!(2.0), &json!(0.5)));
        assert_eq!(
            (&json["aws_calls"], &json["aws_calls_per_object"]),
            (&json!(5), &json!(2.5))
        );
        assert_eq!(
            (&json["apiserver_writes"], &json["apiserver_events"], &json["more"]),
            (&json!(4), &json!(1), &json!(1))
        );
    }
}
