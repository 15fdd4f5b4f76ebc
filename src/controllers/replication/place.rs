//! What is remembered of a registry's replication configuration between two looks, and the lock by which one object at a
//! time acts on it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::{
    api::names::{AccountId, Region},
    document::replication::{Document, Mark},
};

/// How long a document is good enough for an object that nobody asks to be looked at now. Objects that are created
/// together share a read by it.
const FRESH: Duration = Duration::from_secs(5);

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The rules on record as ours, and the uid of the Registry in whose status they are.
    pub written: Option<(String, BTreeSet<Mark>)>,
    /// The document as it was read, and when the read was begun. Never one from before our own last write.
    seen: Option<(Document, Instant)>,
}

impl Kept {
    /// The document as it was read: since `begun`, or a moment ago where that is enough.
    pub(crate) fn seen(&self, begun: Instant, asked: bool) -> Option<Document> {
        let (document, at) = self.seen.as_ref()?;
        (*at >= begun || (!asked && at.elapsed() < FRESH)).then(|| document.clone())
    }

    pub(crate) fn saw(&mut self, document: Document, begun: Instant) {
        self.seen = Some((document, begun));
    }

    /// The document is being changed.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }
}

/// By registry, not by Registry: two objects may stand for one.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<HashMap<(AccountId, Region), Place>>);

type Place = Arc<tokio::sync::Mutex<Kept>>;

impl Places {
    pub(crate) async fn enter(&self, registry: (AccountId, Region)) -> OwnedMutexGuard<Kept> {
        let place = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(places.entry(registry).or_default())
        };
        place.lock_owned().await
    }
}
