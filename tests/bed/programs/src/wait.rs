//! Waiting for something to become true, with a limit. Nothing else in the bed and its tests sleeps.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout};

/// How long lies between two looks. Short beside anything that is waited for, long beside the cost of a look.
const INTERVAL: Duration = Duration::from_millis(100);

/// How much longer than its limit a wait may take. Limits are chosen on a machine with two cores and nothing else to do; on one
/// core, or beside a build, all is slower, and that alone fails no test. A wait that succeeds takes no longer for it.
const PATIENCE: u32 = 6;

/// The time after which a wait with this limit is given up.
pub(crate) fn patient(limit: Duration) -> Duration {
    limit * PATIENCE
}

/// What one look brought: either what was waited for, or why it is not there yet.
pub trait Sighting {
    /// What was waited for.
    type Found;

    /// Sorts the look into found and not yet, the latter in words.
    fn found(self) -> Result<Self::Found, String>;
}

impl<T> Sighting for Option<T> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".to_owned())
    }
}

impl<T, E: Display> Sighting for Result<T, E> {
    type Found = T;

    fn found(self) -> Result<T, String> {
        // `#` prints the whole chain of an `anyhow::Error`.
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Looks every 100 ms until a look succeeds, for at most `limit` on a machine with time to spare, and six times as long on any.
///
/// `what` completes "waited for …". The error says what was waited for and what was seen last. A look that hangs is
/// given up at the limit.
pub async fn eventually<S: Sighting>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> S,
) -> Result<S::Found> {
    let limit = patient(limit);
    let end = Instant::now() + limit;
    let mut last = None;
    loop {
        let Ok(sighting) = timeout(end.saturating_duration_since(Instant::now()), look()).await else {
            let last = last.unwrap_or_else(|| "no look came to an end".to_owned());
            return Err(gave_up(limit, what, &last));
        };
        match sighting.found() {
            Ok(found) => return Ok(found),
            Err(seen) if Instant::now() + INTERVAL >= end => return Err(gave_up(limit, what, &seen)),
            Err(seen) => last = Some(seen),
        }
        sleep(INTERVAL).await;
    }
}

/// Looks every 100 ms for the whole of `period` and fails at the first look that does: what must stay true.
pub async fn throughout<S: Sighting>(period: Duration, what: &str, mut look: impl AsyncFnMut() -> S) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < period {
        if let Err(seen) = look().await.found() {
            return Err(anyhow!(
                "{what} did not last {period:?}: after {:?} there was {seen}",
                start.elapsed()
            ));
        }
        sleep(INTERVAL).await;
    }
    Ok(())
}

fn gave_up(limit: Duration, what: &str, seen: &str) -> anyhow::Error {
    anyhow!("waited {limit:?} for {what}; last seen: {seen}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_late_is_found() {
        let mut looks = 0;
        let found = eventually(Duration::from_secs(5), "the third look", async || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(found.await.ok(), Some(3));
    }

    #[tokio::test]
    async fn giving_up_says_what_was_waited_for_and_seen() {
        let never = eventually(Duration::from_millis(150), "a miracle", async || {
            Err::<(), _>("a red light")
        });
        let error = never.await.map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("waited 900ms for a miracle; last seen: a red light".to_owned())
        );
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up() {
        let never = eventually(Duration::from_millis(50), "an answer", async || {
            std::future::pending::<Option<()>>().await
        });
        assert!(never.await.is_err());
    }

    #[tokio::test]
    async fn what_does_not_last_is_told() {
        let mut looks = 0;
        let brief = throughout(Duration::from_secs(5), "silence", async || {
            looks += 1;
            if looks < 2 { Ok(()) } else { Err("a sound") }
        });
        assert!(brief.await.is_err());
    }
}
