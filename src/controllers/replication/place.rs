//! What is remembered of a registry's replication configuration between two looks, and the lock by which one object at a
//! time acts on it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::OwnedMutexGuard, time::Instant};

use super::backfill::Stages;
use crate::{
    api::names::{AccountId, Region},
    aws::backfill::Backfill,
    document::replication::{Document, Mark},
};

/// How long a document is good enough for an object that nobody asks to be looked at now. Objects that are created
/// together share a read by it.
const FRESH: Duration = Duration::from_secs(5);

/// The same for the listing of backfills, which is followed every two seconds where one has just begun.
const JUST_LISTED: Duration = Duration::from_millis(1_500);

/// What has to be known of our own doings, whatever became of us: it stands in the status of the Registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    /// Which rules are ours.
    pub written: BTreeSet<Mark>,
    /// Which backfills are asked for.
    pub backfills: Stages,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// What is on record, and the uid of the Registry in whose status it is.
    pub record: Option<(String, Record)>,
    /// The backfills as ECR listed them, and when that was begun.
    backfills: Option<(Vec<Backfill>, Instant)>,
    /// The document as it was read, and when the read was begun. Never one from before our own last write.
    seen: Option<(Document, Instant)>,
}

impl Kept {
    /// The document as it was read: since `begun`, or a moment ago where that is enough.
    pub(crate) fn seen(&self, begun: Instant, asked: bool) -> Option<Document> {
        let (document, at) = self.seen.as_ref()?;
        (*at >= begun || (!asked && at.elapsed() < FRESH)).then(|| document.clone())
    }

    /// The document as it was read last, however long ago.
    pub(crate) fn known(&self) -> Option<Document> {
        self.seen.as_ref().map(|(document, _)| document.clone())
    }

    pub(crate) fn saw(&mut self, document: Document, begun: Instant) {
        self.seen = Some((document, begun));
    }

    /// The document is being changed.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    /// The backfills as they were listed: since `begun`, or a moment ago where that is enough.
    pub(crate) fn listed(&self, begun: Instant, asked: bool) -> Option<Vec<Backfill>> {
        let (backfills, at) = self.backfills.as_ref()?;
        (*at >= begun || (!asked && at.elapsed() < JUST_LISTED)).then(|| backfills.clone())
    }

    pub(crate) fn has_listed(&mut self, backfills: Vec<Backfill>, begun: Instant) {
        self.backfills = Some((backfills, begun));
    }

    /// A backfill is being started.
    pub(crate) fn forget_backfills(&mut self) {
        self.backfills = None;
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
