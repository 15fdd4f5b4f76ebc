//! How often events may bring about a look at one and the same thing. Pure; the time is handed in.
//!
//! A look costs two or three calls to AWS. Without a bound, whoever edits a repository in a loop, or may write to the
//! queue, would set the operator's rate of calls; so a thing has a few looks at once and then one now and then. What is
//! held back is not lost: one look later answers for all events that came meanwhile.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::message::Setting;
use crate::api::names::RepositoryName;

/// Looks that may follow each other at once. One run of Terraform edits a repository in about that many calls.
const AT_ONCE: u32 = 5;

/// The time after which one more look is allowed.
const ANOTHER: Duration = Duration::from_secs(10);

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Repository(RepositoryName),
    /// What a registry keeps for a prefix.
    Setting(Setting, String),
    Registry,
}

/// Counts looks. Holds no more entries than things were looked at within the last minute.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    looks: HashMap<Subject, Allowance>,
}

#[derive(Debug)]
struct Allowance {
    /// Looks that may follow at once.
    left: u32,
    /// When `left` was last added to.
    since: Instant,
    /// A look is owed.
    held: bool,
}

impl Allowance {
    fn refill(&mut self, now: Instant) {
        while self.left < AT_ONCE && now.saturating_duration_since(self.since) >= ANOTHER {
            self.left += 1;
            self.since += ANOTHER;
        }
        if self.left >= AT_ONCE {
            self.since = now;
        }
    }
}

impl Flood {
    /// Whether the look may go now; otherwise it is owed, see [`Self::due`].
    pub(crate) fn admit(&mut self, subject: Subject, now: Instant) -> bool {
        let allowance = self.looks.entry(subject).or_insert(Allowance {
            left: AT_ONCE,
            since: now,
            held: false,
        });
        allowance.refill(now);
        let left = allowance.left.checked_sub(1);
        allowance.held = left.is_none();
        allowance.left = left.unwrap_or(0);
        left.is_some()
    }

    /// When the next look that is owed may go.
    pub(crate) fn due(&self) -> Option<Instant> {
        let held = self.looks.values().filter(|allowance| allowance.held);
        held.map(|allowance| allowance.since + ANOTHER).min()
    }

    /// The looks that were owed and may go now. Also forgets what was quiet for long.
    pub(crate) fn release(&mut self, now: Instant) -> Vec<Subject> {
        let mut released = Vec::new();
        self.looks.retain(|subject, allowance| {
            allowance.refill(now);
            if allowance.held && allowance.left > 0 {
                allowance.left -= 1;
                allowance.held = false;
                released.push(subject.clone());
            }
            allowance.held || allowance.left < AT_ONCE
        });
        released
    }
}

#[cfg(test)]
#[path = "flood_tests.rs"]
mod tests;
