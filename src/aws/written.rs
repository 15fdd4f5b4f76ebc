//! Which writes were our own, by the request ids of AWS's answers, so that an event which tells of one need not be
//! looked at.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

/// How many writes are remembered. CloudTrail's events come minutes late at most, and no registry takes that many writes
/// of ours meanwhile; an older one costs a look.
const REMEMBERED: usize = 8_192;

/// How long the answers of writes are waited for that are on their way when an event comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// The latest writes that AWS has answered, and those that it has not.
#[derive(Debug, Default)]
pub(crate) struct Written {
    latest: Mutex<Latest>,
    ended: Notify,
}

#[derive(Debug, Default)]
struct Latest {
    order: VecDeque<String>,
    ids: HashSet<String>,
    begun: u64,
    under_way: BTreeSet<u64>,
}

/// A write that AWS has not answered yet.
#[derive(Debug)]
pub(crate) struct Write<'w> {
    of: &'w Written,
    number: u64,
}

impl Drop for Write<'_> {
    fn drop(&mut self) {
        self.of.with(|latest| latest.under_way.remove(&self.number));
        self.of.ended.notify_waiters();
    }
}

impl Written {
    /// A write is being sent. What is returned is to be dropped when its answer was noted.
    pub(crate) fn begin(&self) -> Write<'_> {
        let number = self.with(|latest| {
            latest.begun += 1;
            latest.under_way.insert(latest.begun);
            latest.begun
        });
        Write { of: self, number }
    }

    /// Waits for the answers of the writes that are under way now, for a while at most: an event that tells of one may come
    /// before the answer does.
    pub(crate) async fn settle(&self) {
        let last = self.with(|latest| latest.begun);
        let answered = async {
            loop {
                let ended = self.ended.notified();
                tokio::pin!(ended);
                // What ends from here on is not missed.
                ended.as_mut().enable();
                if self.with(|latest| latest.under_way.first().is_none_or(|first| *first > last)) {
                    return;
                }
                ended.await;
            }
        };
        // Too late is told of as a change by others, which costs a look.
        let _ = tokio::time::timeout(PATIENCE, answered).await;
    }

    /// AWS answered a write of ours with this request id.
    pub(crate) fn note(&self, request_id: &str) {
        self.with(|latest| {
            if !latest.ids.insert(request_id.to_owned()) {
                return;
            }
            latest.order.push_back(request_id.to_owned());
            if latest.order.len() > REMEMBERED
                && let Some(oldest) = latest.order.pop_front()
            {
                latest.ids.remove(&oldest);
            }
        });
    }

    /// Whether this is the request id of a write of ours.
    pub(crate) fn holds(&self, request_id: &str) -> bool {
        self.with(|latest| latest.ids.contains(request_id))
    }

    fn with<T>(&self, act: impl FnOnce(&mut Latest) -> T) -> T {
        act(&mut self.latest.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn the_latest_writes_are_known_and_their_number_is_bounded() {
        let written = Written::default();
        for number in 0..=REMEMBERED {
            written.note(&number.to_string());
            written.note(&number.to_string());
        }
        assert!(!written.holds("0"), "the oldest gave way");
        assert!(written.holds("1") && written.holds(&REMEMBERED.to_string()));
        assert_eq!(written.with(|latest| latest.order.len()), REMEMBERED);
    }

    #[tokio::test]
    async fn the_answers_of_writes_under_way_are_waited_for_and_no_others() {
        let written = Written::default();
        written.settle().await;
        let (first, second) = (written.begin(), written.begin());
        let mut settled = Box::pin(written.settle());
        assert!((&mut settled).now_or_never().is_none());
        let later = written.begin();
        written.note("first");
        drop(first);
        assert!((&mut settled).now_or_never().is_none(), "one is still under way");
        drop(second);
        assert!(settled.now_or_never().is_some());
        drop(later);
    }
}
