//! Which Registry has a queue of events, and how reading it goes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::controllers::registry::connection::Connection;

/// A queue, and with which credentials it is read.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub connection: Arc<Connection>,
    pub queue_url: String,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.connection, &other.connection) && self.queue_url == other.queue_url
    }
}

/// How reading a queue goes, in words that depend on the cause alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Listening,
    Failing(String),
}

/// The queues of all Registries. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queues {
    sources: Arc<watch::Sender<BTreeMap<String, Source>>>,
    states: Arc<Mutex<HashMap<String, State>>>,
}

impl Queues {
    /// Says from where a Registry's events are to be read from now on; `None` from nowhere.
    pub(crate) fn set(&self, registry: &str, source: Option<Source>) {
        let goes = source.is_none();
        self.sources.send_if_modified(|sources| match source {
            Some(source) if sources.get(registry) == Some(&source) => false,
            Some(source) => {
                sources.insert(registry.to_owned(), source);
                true
            }
            None => sources.remove(registry).is_some(),
        });
        if goes {
            self.with(|states| states.remove(registry));
        }
    }

    /// What is to be read, and every change of it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<BTreeMap<String, Source>> {
        self.sources.subscribe()
    }

    /// How it goes; `None` until it was tried.
    pub(crate) fn state(&self, registry: &str) -> Option<State> {
        self.with(|states| states.get(registry).cloned())
    }

    /// Notes how it goes.
    pub(crate) fn note(&self, registry: &str, state: State) {
        self.with(|states| states.insert(registry.to_owned(), state));
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, State>) -> T) -> T {
        act(&mut self.states.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
