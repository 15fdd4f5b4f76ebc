//! What the work on documents remembers between two looks. It may be lost at any time: no decision about AWS rests on it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use kube::{core::DeserializeGuard, runtime::reflector::ObjectRef};
use tokio::time::Instant;

use super::part::Part;
use crate::{
    api::{Registry, registry::documents::DocumentsStatus},
    control::{backoff, reason::Reason},
};

/// A Registry as its controllers are told of it.
pub(crate) type RegistryObject = ObjectRef<DeserializeGuard<Registry>>;

/// Shared by the Registry's own controller, which wakes, and that of its documents.
#[derive(Debug)]
pub(crate) struct Shared {
    woken: UnboundedSender<RegistryObject>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    pauses: HashMap<(String, Part), Pause>,
    /// Registries of whose documents AWS says that somebody changed them.
    doubted: HashSet<String>,
    /// The documents' status as the watch showed it last.
    shown: HashMap<String, Option<DocumentsStatus>>,
    /// The documents' status as it was written last, and when.
    written: HashMap<String, (Option<DocumentsStatus>, Instant)>,
}

/// How long the watch may be behind a write of ours before what it shows counts as somebody else's.
const BEHIND: Duration = Duration::from_secs(5);

/// A part that did not come to an end, and is left alone for a while.
#[derive(Debug)]
struct Pause {
    failures: u32,
    until: Instant,
}

impl Shared {
    pub(crate) fn new() -> (Self, UnboundedReceiver<RegistryObject>) {
        let (woken, wakes) = unbounded();
        let known = Mutex::default();
        (Self { woken, known }, wakes)
    }

    /// Asks for a look. Nobody listens only while the program ends.
    pub(crate) fn wake(&self, registry: &Registry) {
        let name = registry.metadata.name.as_deref().unwrap_or_default();
        let _ = self.woken.unbounded_send(ObjectRef::new(name));
    }

    /// What was seen of the documents is not to be trusted any more.
    pub(crate) fn doubt(&self, uid: &str) {
        self.with(|known| known.doubted.insert(uid.to_owned()));
    }

    pub(super) fn take_doubt(&self, uid: &str) -> bool {
        self.with(|known| known.doubted.remove(uid))
    }

    /// Notes what the watch shows; true where it is another than before.
    pub(crate) fn is_news(&self, uid: &str, status: Option<&DocumentsStatus>) -> bool {
        self.with(|known| known.shown.insert(uid.to_owned(), status.cloned()) != Some(status.cloned()))
    }

    /// What was written just now.
    pub(super) fn wrote(&self, uid: &str, status: Option<&DocumentsStatus>) {
        self.with(|known| known.written.insert(uid.to_owned(), (status.cloned(), Instant::now())));
    }

    /// Whether the watch does not show yet what was written just now: a look would read again what is known.
    pub(super) fn is_behind(&self, uid: &str, shown: Option<&DocumentsStatus>) -> bool {
        self.with(|known| {
            let written = known.written.get(uid).filter(|(_, when)| when.elapsed() < BEHIND);
            written.is_some_and(|(status, _)| status.as_ref() != shown)
        })
    }

    /// The time for which a part is still left alone; `None` where nothing speaks against a look.
    pub(super) fn pause(&self, uid: &str, part: Part) -> Option<Duration> {
        self.with(|known| {
            let pause = known.pauses.get(&(uid.to_owned(), part))?;
            let left = pause.until.saturating_duration_since(Instant::now());
            (!left.is_zero()).then_some(left)
        })
    }

    /// Whether a look at the part did not come to an end.
    pub(super) fn is_open(&self, uid: &str, part: Part) -> bool {
        self.with(|known| known.pauses.contains_key(&(uid.to_owned(), part)))
    }

    /// One more failure in a row; their number.
    pub(super) fn failed(&self, uid: &str, part: Part, reason: Reason) -> u32 {
        self.with(|known| {
            let pause = known.pauses.entry((uid.to_owned(), part)).or_insert_with(|| Pause {
                failures: 0,
                until: Instant::now(),
            });
            pause.failures = pause.failures.saturating_add(1);
            pause.until = Instant::now() + backoff::pause(reason, pause.failures, fastrand::f64());
            pause.failures
        })
    }

    pub(super) fn succeeded(&self, uid: &str, part: Part) {
        self.with(|known| known.pauses.remove(&(uid.to_owned(), part)));
    }

    /// The Registry is gone.
    pub(crate) fn forget(&self, uid: &str) {
        self.with(|known| {
            known.pauses.retain(|(of, _), _| of != uid);
            known.doubted.remove(uid);
            known.shown.remove(uid);
            known.written.remove(uid);
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
