//! When the turn of an object comes for a full look: full checks are spread evenly over their period, and stay so after
//! a restart, because an object's place in the period depends on its uid alone.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

/// The first time after `now` at which it is the object's turn.
pub(crate) fn next_turn(uid: &str, period: Duration, now: Timestamp) -> Timestamp {
    let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
    let mut hasher = DefaultHasher::new();
    uid.hash(&mut hasher);
    let place = i64::try_from(hasher.finish() % u64::try_from(period).unwrap_or(1)).unwrap_or(0);
    let since = (now.as_millisecond() - place).rem_euclid(period);
    now.checked_add(SignedDuration::from_millis(period - since))
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_turn_comes_once_a_period_at_the_same_place() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let first = next_turn("a", HOUR, now);
        let second = next_turn("a", HOUR, first);
        assert!(first > now && first <= now + SignedDuration::from_hours(1));
        assert_eq!(second.duration_since(first), SignedDuration::from_hours(1));
    }

    #[test]
    fn turns_are_spread_over_the_period() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut quarters = [0; 4];
        for object in 0..1_000 {
            let wait = next_turn(&format!("uid-{object}"), HOUR, now)
                .duration_since(now)
                .as_secs();
            quarters[usize::try_from(wait.min(3_599) / 900).unwrap()] += 1;
        }
        assert!(quarters.iter().all(|count| (180..320).contains(count)), "{quarters:?}");
    }
}
