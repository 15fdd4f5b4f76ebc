//! How long something that did not succeed is left alone: by what went wrong and how often in a row.

use std::time::Duration;

use super::reason::Reason;

/// The first and the longest pause for a reason, in seconds.
const fn bounds(reason: Reason) -> (u64, u64) {
    match reason {
        // An edit of rights or of the object itself helps; the latter triggers at once.
        Reason::Denied | Reason::Invalid | Reason::Immutable | Reason::Exists | Reason::OwnedByAnother => (300, 3_600),
        Reason::Quota => (600, 3_600),
        Reason::NotEmpty | Reason::Protected => (30, 600),
        // What AWS throttles is slowed by the pace of all calls already; the pause need not do it again.
        Reason::Throttled | Reason::Unavailable => (2, 300),
        // A rollout has a time of its own, and going back must not wait for the rest of an hour.
        Reason::Refused => (30, 60),
        _ => (60, 1_800),
    }
}

/// The pause after `failures` in a row (1 for the first). `random` from 0 to 1 spreads it by a fifth either way, so that
/// objects which failed together do not return together.
pub(crate) fn pause(reason: Reason, failures: u32, random: f64) -> Duration {
    let (first, most) = bounds(reason);
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(16));
    Duration::from_secs(doubled.min(most)).mul_f64(0.8 + 0.4 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        let seconds = |failures| pause(Reason::Unavailable, failures, 0.5).as_secs();
        assert_eq!([1, 2, 3, 8, 9, 60].map(seconds), [2, 4, 8, 256, 300, 300]);
    }

    #[test]
    fn what_only_an_edit_can_mend_is_not_tried_again_within_a_minute() {
        for reason in Reason::ALL.into_iter().filter(|reason| reason.is_stall()) {
            let least = pause(reason, 1, 0.0).as_secs();
            assert!(least >= 24, "{reason}: {least}");
        }
        assert!(pause(Reason::Denied, 1, 0.0).as_secs() > 60);
    }

    #[test]
    fn pauses_are_spread() {
        assert_eq!(pause(Reason::Quota, 1, 0.0).as_secs(), 480);
        assert_eq!(pause(Reason::Quota, 1, 1.0).as_secs(), 720);
    }
}
