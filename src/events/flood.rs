//! How often events may bring about a look at one and the same thing. Pure; the time is handed in.
//!
//! A look costs two or three calls to AWS. Without a bound, whoever edits a repository in a loop, or may write to the
//! queue, would set the operator's rate of calls; so a thing has a few looks at once and then one now and then. What is
//! held back is not lost: one look later answers for all events that came meanwhile.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::api::names::RepositoryName;

/// Looks that may follow each other at once. One run of Terraform edits a repository in about that many calls.
const AT_ONCE: u32 = 5;

/// The time after which one more look is allowed.
const ANOTHER: Duration = Duration::from_secs(10);

/// What is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Repository(RepositoryName),
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
mod tests {
    use super::*;

    fn web() -> Subject {
        Subject::Repository("team-a/web".parse().unwrap())
    }

    #[test]
    fn a_flood_has_a_few_looks_at_once_and_then_one_now_and_then() {
        let (mut flood, start) = (Flood::default(), Instant::now());
        let at_once = (0..1_000).filter(|_| flood.admit(web(), start)).count();
        assert_eq!(at_once, 5);
        assert!(flood.release(start).is_empty());
        assert_eq!(flood.due(), Some(start + ANOTHER));
        assert_eq!(
            flood.release(start + ANOTHER),
            [web()],
            "one for all that were held back"
        );
        assert_eq!(flood.due(), None);
        let mut looks = 0;
        for second in 11..=110 {
            let now = start + Duration::from_secs(second);
            looks += usize::from(flood.admit(web(), now)) + flood.release(now).len();
        }
        assert_eq!(looks, 10);
    }

    #[test]
    fn one_thing_in_a_flood_holds_back_no_other() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        while flood.admit(web(), now) {}
        assert!(flood.admit(Subject::Registry, now));
    }

    #[test]
    fn what_was_quiet_is_forgotten_and_what_is_owed_is_not() {
        let (mut flood, now) = (Flood::default(), Instant::now());
        assert!(flood.admit(web(), now));
        while flood.admit(Subject::Registry, now) {}
        assert_eq!(flood.looks.len(), 2);
        assert_eq!(flood.release(now + ANOTHER), [Subject::Registry]);
        assert_eq!(flood.looks.len(), 1);
        flood.release(now + ANOTHER * 6);
        assert!(flood.looks.is_empty());
    }
}
