//! What a registry keeps as one short list, by prefix: read as a whole, shared by all objects that mean an entry.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

use super::error::AwsError;

/// The entries as last seen: by the listing, or by the answer to a call of ours since.
#[derive(Debug)]
pub(crate) struct Listing<E> {
    /// Held while it is listed, so that all who need it at once share one listing, and nothing is noted meanwhile.
    state: Mutex<State<E>>,
    locks: std::sync::Mutex<HashMap<String, Weak<Mutex<()>>>>,
}

#[derive(Debug)]
struct State<E> {
    listed: Option<Instant>,
    entries: BTreeMap<String, Arc<E>>,
}

impl<E> Default for Listing<E> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                listed: None,
                entries: BTreeMap::new(),
            }),
            locks: std::sync::Mutex::default(),
        }
    }
}

impl<E> Listing<E> {
    /// The entry of a prefix, from a listing not older than `age`. One that fails changes nothing.
    pub(crate) async fn get(
        &self,
        prefix: &str,
        age: Duration,
        list: impl Future<Output = Result<Vec<(String, E)>, AwsError>>,
    ) -> Result<Option<Arc<E>>, AwsError> {
        let mut state = self.state.lock().await;
        if state.listed.is_none_or(|when| when.elapsed() >= age) {
            let entries = list.await?;
            state.entries = entries
                .into_iter()
                .map(|(prefix, entry)| (key(&prefix), Arc::new(entry)))
                .collect();
            state.listed = Some(Instant::now());
        }
        Ok(state.entries.get(&key(prefix)).map(Arc::clone))
    }

    /// Notes what an answer of ECR showed after the last listing.
    pub(crate) async fn note(&self, prefix: &str, entry: Arc<E>) {
        self.state.lock().await.entries.insert(key(prefix), entry);
    }

    /// Notes that an entry is gone.
    pub(crate) async fn forget(&self, prefix: &str) {
        self.state.lock().await.entries.remove(&key(prefix));
    }

    /// One object at a time acts on a prefix: two that create the same thing must not both believe they did.
    pub(crate) async fn lock(&self, prefix: &str) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
            locks.retain(|_, lock| lock.strong_count() > 0);
            if let Some(lock) = locks.get(&key(prefix)).and_then(Weak::upgrade) {
                lock
            } else {
                let lock = Arc::default();
                locks.insert(key(prefix), Arc::downgrade(&lock));
                lock
            }
        };
        lock.lock_owned().await
    }
}

/// `team` and `team/` begin the same names.
pub(crate) fn key(prefix: &str) -> String {
    prefix.strip_suffix('/').unwrap_or(prefix).to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn all_who_ask_at_once_share_one_listing_and_a_failed_one_changes_nothing() {
        let listing = Listing::default();
        let calls = AtomicUsize::new(0);
        let list = || async {
            calls.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            Ok(vec![("hub/".to_owned(), 1)])
        };
        let minute = Duration::from_mins(1);
        let (first, second) = futures::join!(listing.get("hub", minute, list()), listing.get("quay", minute, list()));
        assert_eq!((first.unwrap().as_deref(), second.unwrap()), (Some(&1), None));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        let refused = AwsError::incomplete("Describe", "all");
        let failed = listing.get("hub", Duration::ZERO, async { Err(refused) }).await;
        assert!(failed.is_err());
        assert_eq!(listing.get("hub/", minute, list()).await.unwrap().as_deref(), Some(&1));
        listing.forget("hub").await;
        assert_eq!(listing.get("hub", minute, list()).await.unwrap(), None);
        listing.note("hub", Arc::new(2)).await;
        assert_eq!(listing.get("hub", minute, list()).await.unwrap().as_deref(), Some(&2));
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}
