//! Telling that a long build is alive.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// A line appears at least this often.
const INTERVAL: Duration = Duration::from_secs(15);

/// Reports on the build of one group.
#[derive(Debug)]
pub(super) struct Progress {
    group: &'static str,
    start: Instant,
}

impl Progress {
    pub(super) fn new(group: &'static str) -> Self {
        Self {
            group,
            start: Instant::now(),
        }
    }

    /// One line on stderr. Written to the stream itself: the test harness swallows what is printed.
    pub(super) fn say(&self, line: &str) {
        writeln!(std::io::stderr(), "bed: {}: {line}", self.group).ok();
    }

    /// Runs `work`, saying when it starts and ends, and every 15 s how far it is, by `measure`.
    pub(super) async fn follow<T>(
        &self,
        what: &str,
        measure: impl Fn() -> String,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.say(&format!("building {what}"));
        let mut ticks = interval_at(Instant::now() + INTERVAL, INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(work);
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                _ = ticks.tick() => self.say(&format!("{}, {}", self.elapsed(), measure())),
            }
        };
        if result.is_ok() {
            self.say(&format!("built in {}", self.elapsed()));
        }
        result
    }

    fn elapsed(&self) -> String {
        spelled(self.start.elapsed())
    }
}

fn spelled(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{seconds} s")
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_for_people() {
        assert_eq!(spelled(Duration::from_secs(59)), "59 s");
        assert_eq!(spelled(Duration::from_secs(284)), "4 min 44 s");
    }
}
