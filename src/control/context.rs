//! What every reconcile has at hand.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::Client;

use super::{events::Events, schedule, turns::Turns};
use crate::metrics::Metrics;

/// What the loop needs; `world` is what the kinds share among themselves.
pub(crate) struct Context<W> {
    pub client: Client,
    pub metrics: Metrics,
    pub events: Events,
    pub memory: Memory,
    pub world: W,
    pub turns: Turns,
    /// The period of full checks.
    pub check_interval: Duration,
}

/// What the loop remembers of an object between two looks. It may be lost at any time: it holds nothing that a decision
/// about AWS rests on.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    objects: Mutex<HashMap<String, Remembered>>,
    triggers: Mutex<HashMap<(&'static str, String), Instant>>,
}

#[derive(Debug, Default)]
struct Remembered {
    failures: u32,
    /// The generation that failed: an edit starts the count anew.
    generation: Option<i64>,
    next_turn: Option<Timestamp>,
    /// Somebody is said to have changed it in AWS: the next look reads everything.
    doubted: bool,
}

impl Memory {
    /// Counts one more failure in a row and returns the count.
    pub(crate) fn failed(&self, uid: &str, generation: Option<i64>) -> u32 {
        self.with(uid, |object| {
            if object.generation != generation {
                object.failures = 0;
                object.generation = generation;
            }
            object.failures = object.failures.saturating_add(1);
            object.failures
        })
    }

    /// Ends a row of failures.
    pub(crate) fn succeeded(&self, uid: &str) {
        self.with(uid, |object| object.failures = 0);
    }

    /// Whether it is the object's turn for a full check. An object that is seen for the first time waits for its turn
    /// like any other, or a restart would check all at once.
    pub(crate) fn is_due(&self, uid: &str, period: Duration, now: Timestamp) -> bool {
        self.with(uid, |object| {
            now >= *object
                .next_turn
                .get_or_insert_with(|| schedule::next_turn(uid, period, now))
        })
    }

    /// A full check was made; returns the time until the next.
    pub(crate) fn checked(&self, uid: &str, period: Duration, now: Timestamp) -> Duration {
        self.with(uid, |object| {
            object.next_turn = Some(schedule::next_turn(uid, period, now));
        });
        self.until_turn(uid, period, now)
    }

    /// The time until the object's next turn.
    pub(crate) fn until_turn(&self, uid: &str, period: Duration, now: Timestamp) -> Duration {
        let next = self.with(uid, |object| {
            *object
                .next_turn
                .get_or_insert_with(|| schedule::next_turn(uid, period, now))
        });
        Duration::try_from(next.duration_since(now)).unwrap_or(Duration::ZERO)
    }

    /// What was last seen of the object is not to be trusted any more.
    pub(crate) fn doubt(&self, uid: &str) {
        self.with(uid, |object| object.doubted = true);
    }

    /// Whether what was last seen is not to be trusted; a look that reads everything is about to begin.
    pub(crate) fn take_doubt(&self, uid: &str) -> bool {
        self.with(uid, |object| std::mem::take(&mut object.doubted))
    }

    /// The object is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// A change of an object asks for a reconcile.
    pub(crate) fn triggered(&self, kind: &'static str, object: String) {
        let mut triggers = self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
        triggers.entry((kind, object)).or_insert_with(Instant::now);
    }

    /// A reconcile has taken the object up.
    pub(crate) fn taken_up(&self, kind: &'static str, object: &str) {
        let mut triggers = self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
        triggers.remove(&(kind, object.to_owned()));
    }

    /// The age of the oldest change of a kind that waits for a reconcile.
    pub(crate) fn oldest_trigger(&self, kind: &'static str) -> Duration {
        let triggers = self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = triggers.iter().filter(|((of, _), _)| *of == kind);
        of_kind.map(|(_, since)| since.elapsed()).max().unwrap_or_default()
    }

    fn with<T>(&self, uid: &str, act: impl FnOnce(&mut Remembered) -> T) -> T {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        act(objects.entry(uid.to_owned()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_count_in_a_row_and_an_edit_starts_anew() {
        let memory = Memory::default();
        assert_eq!([memory.failed("a", Some(1)), memory.failed("a", Some(1))], [1, 2]);
        assert_eq!(memory.failed("a", Some(2)), 1);
        memory.succeeded("a");
        assert_eq!(memory.failed("a", Some(2)), 1);
    }

    #[test]
    fn a_doubt_is_taken_once_and_one_that_comes_meanwhile_stays() {
        let memory = Memory::default();
        assert!(!memory.take_doubt("a"));
        memory.doubt("a");
        memory.doubt("a");
        assert!(memory.take_doubt("a") && !memory.take_doubt("a"));
    }

    #[test]
    fn an_object_is_due_when_its_turn_has_come_and_not_before() {
        let memory = Memory::default();
        let period = Duration::from_secs(100);
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        assert!(!memory.is_due("a", period, start));
        let wait = memory.until_turn("a", period, start);
        let turn = start + jiff::SignedDuration::try_from(wait).unwrap();
        assert!(memory.is_due("a", period, turn));
        assert_eq!(memory.checked("a", period, turn), period);
        assert!(!memory.is_due("a", period, turn));
    }
}
