//! How fast calls may go: one limiter for each operation of one registry. AWS publishes no rates for most of ECR's
//! control plane, so the limiter starts generous, halves its rate when AWS throttles, and recovers with each success.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::error::{AwsError, Fault};

/// Calls per second before AWS has ever throttled an operation. Not meant to limit, only to bound a burst.
const MOST: f64 = 100.0;

/// Calls per second that are always allowed; slower than this, a throttled operation would never be seen to recover.
const LEAST: f64 = 0.5;

/// How many calls may go at once after a quiet time, in seconds' worth of the current rate.
const BURST_SECONDS: f64 = 1.0;

/// Several calls in flight are throttled by one and the same shortage: the rate is halved once for all of them.
const ONE_SHORTAGE: Duration = Duration::from_secs(1);

/// The limiters of one registry.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    operations: Mutex<HashMap<&'static str, Bucket>>,
    /// Operations of which less may be used than AWS would grant, because others share them.
    budgets: HashMap<&'static str, f64>,
}

/// The state for one operation.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Calls per second.
    rate: f64,
    /// What the rate recovers to.
    most: f64,
    /// When the next call would be due if calls came evenly.
    next: Instant,
    slowed: Option<Instant>,
}

impl Pace {
    /// At most this many calls of the operation a second; the others as ever.
    pub(crate) fn with_budget(operation: &'static str, per_second: f64) -> Self {
        Self {
            budgets: HashMap::from([(operation, per_second.clamp(LEAST, MOST))]),
            ..Self::default()
        }
    }

    /// Waits until a call of the operation may go. Dropping the future gives the turn up unused.
    pub(crate) async fn turn(&self, operation: &'static str) {
        let due = self.with(operation, Bucket::take);
        tokio::time::sleep_until(due).await;
    }

    /// Takes note of how a call went.
    pub(crate) fn answered<T>(&self, operation: &'static str, answer: Result<T, AwsError>) -> Result<T, AwsError> {
        let throttled = answer.as_ref().is_err_and(|error| error.fault == Fault::Throttled);
        self.with(operation, |bucket, now| bucket.tell(throttled, now));
        answer
    }

    fn with<T>(&self, operation: &'static str, act: impl FnOnce(&mut Bucket, Instant) -> T) -> T {
        let now = Instant::now();
        let most = self.budgets.get(operation).copied().unwrap_or(MOST);
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        act(
            operations.entry(operation).or_insert(Bucket {
                rate: most,
                most,
                next: now,
                slowed: None,
            }),
            now,
        )
    }
}

impl Bucket {
    fn take(&mut self, now: Instant) -> Instant {
        let earliest = now.checked_sub(Duration::from_secs_f64(BURST_SECONDS)).unwrap_or(now);
        let due = self.next.max(earliest);
        self.next = due + Duration::from_secs_f64(1.0 / self.rate);
        due.max(now)
    }

    fn tell(&mut self, throttled: bool, now: Instant) {
        if !throttled {
            self.rate = (self.rate * 1.02 + 0.05).min(self.most);
        } else if self.slowed.is_none_or(|then| now.duration_since(then) >= ONE_SHORTAGE) {
            self.rate = (self.rate / 2.0).max(LEAST);
            self.slowed = Some(now);
            self.next = self.next.max(now + Duration::from_secs_f64(1.0 / self.rate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(now: Instant) -> Bucket {
        Bucket {
            rate: MOST,
            most: MOST,
            next: now,
            slowed: None,
        }
    }

    #[test]
    fn calls_within_the_burst_go_at_once_and_later_ones_are_spread() {
        let now = Instant::now() + Duration::from_secs(10);
        let mut bucket = Bucket {
            next: now - Duration::from_secs(5),
            ..bucket(now)
        };
        let waits: Vec<Duration> = (0..150).map(|_| bucket.take(now).duration_since(now)).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 101);
        assert!(waits[149] > Duration::from_millis(450) && waits[149] < Duration::from_millis(500));
    }

    #[test]
    fn throttling_halves_the_rate_once_for_one_shortage_and_never_stops_it() {
        let now = Instant::now();
        let mut bucket = bucket(now);
        for _ in 0..10 {
            bucket.tell(true, now);
        }
        assert!((bucket.rate - MOST / 2.0).abs() < f64::EPSILON);
        for second in 1..60 {
            bucket.tell(true, now + Duration::from_secs(second));
        }
        assert!((bucket.rate - LEAST).abs() < f64::EPSILON);
    }

    #[test]
    fn a_budget_is_kept_and_success_does_not_raise_it() {
        let pace = Pace::with_budget("PutImage", 2.0);
        let rate = |operation| {
            pace.with(operation, |bucket, now| {
                (0..200).for_each(|_| bucket.tell(false, now));
                bucket.rate
            })
        };
        assert!((rate("PutImage") - 2.0).abs() < f64::EPSILON);
        assert!((rate("DescribeImages") - MOST).abs() < f64::EPSILON);
    }

    #[test]
    fn success_brings_the_rate_back() {
        let now = Instant::now();
        let mut bucket = bucket(now);
        for second in 0..20 {
            bucket.tell(true, now + Duration::from_secs(second));
        }
        for _ in 0..300 {
            bucket.tell(false, now);
        }
        assert!((bucket.rate - MOST).abs() < f64::EPSILON);
    }
}
