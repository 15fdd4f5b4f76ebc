//! Who is to look again, and what is remembered between two looks.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::channel::mpsc::UnboundedSender;
use kube::{core::DeserializeGuard, runtime::reflector::ObjectRef};

use crate::{
    api::PullSecret,
    controllers::world::{Hint, World},
};

/// A `PullSecret` as the loop names it.
pub(crate) type PullObject = ObjectRef<DeserializeGuard<PullSecret>>;

/// What `PullSecrets` share. All of it may be lost at any time: what a token is and when it expires stands in the Secret.
#[derive(Debug)]
pub(crate) struct Pulls {
    /// Objects that are to look again.
    wakes: UnboundedSender<PullObject>,
    /// By the uid of the object and the Registry.
    tokens: Mutex<HashMap<String, HashMap<String, Remembered>>>,
}

#[derive(Clone, Debug, Default)]
struct Remembered {
    /// The token, by its digest, and when it is to be renewed, by a clock that nobody sets.
    due: Option<(String, Instant)>,
    failures: u32,
}

impl Pulls {
    pub(crate) fn new(wakes: UnboundedSender<PullObject>) -> Self {
        Self {
            wakes,
            tokens: Mutex::default(),
        }
    }

    /// A token was taken.
    pub(super) fn took(&self, uid: &str, registry: &str, digest: &str, renew_in: Duration) {
        self.with(uid, |tokens| {
            let due = Instant::now().checked_add(renew_in);
            let due = due.map(|due| (digest.to_owned(), due));
            tokens.insert(registry.to_owned(), Remembered { due, failures: 0 });
        });
    }

    /// No token could be had; returns how often in a row.
    pub(super) fn failed(&self, uid: &str, registry: &str) -> u32 {
        self.with(uid, |tokens| {
            let remembered = tokens.entry(registry.to_owned()).or_default();
            remembered.failures = remembered.failures.saturating_add(1);
            remembered.failures
        })
    }

    /// Whether this token is due, however the clock was set since it was taken.
    pub(super) fn is_overdue(&self, uid: &str, registry: &str, digest: &str) -> bool {
        self.with(uid, |tokens| {
            let due = tokens.get(registry).and_then(|remembered| remembered.due.as_ref());
            due.is_some_and(|(of, due)| of == digest && Instant::now() >= *due)
        })
    }

    /// The object is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    fn with<T>(&self, uid: &str, act: impl FnOnce(&mut HashMap<String, Remembered>) -> T) -> T {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        act(tokens.entry(uid.to_owned()).or_default())
    }
}

impl World {
    /// Asks the `PullSecrets` to look again that a hint concerns: what a Registry or the labels of a namespace allow.
    pub(crate) fn wake_pulls_for(&self, hint: &Hint) {
        match hint {
            Hint::Registry(registry) => self.wake_pulls(|object| {
                let mut refs = object.spec.registry_refs.iter();
                refs.any(|of| of.name == *registry)
            }),
            Hint::Namespace(namespace) => {
                self.wake_pulls(|object| object.metadata.namespace.as_ref() == Some(namespace));
            }
            _ => {}
        }
    }

    /// Asks the `PullSecrets` to look again that fulfil a condition.
    pub(super) fn wake_pulls(&self, are_meant: impl Fn(&PullSecret) -> bool) {
        let state = self.pull_secrets.state();
        for guard in state.iter().filter(|guard| guard.0.as_ref().is_ok_and(&are_meant)) {
            // Nobody listens only while the program ends.
            let _ = self.pulls.wakes.unbounded_send(ObjectRef::from_obj(guard.as_ref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_overdue_by_its_own_clock_and_another_one_is_not() {
        let pulls = Pulls::new(futures::channel::mpsc::unbounded().0);
        pulls.took("uid", "main", "one", Duration::ZERO);
        assert!(pulls.is_overdue("uid", "main", "one"));
        assert!(!pulls.is_overdue("uid", "main", "two") && !pulls.is_overdue("uid", "other", "one"));
        pulls.took("uid", "main", "two", Duration::from_hours(1));
        assert!(!pulls.is_overdue("uid", "main", "two"));
        assert_eq!([pulls.failed("uid", "main"), pulls.failed("uid", "main")], [1, 2]);
        pulls.took("uid", "main", "three", Duration::ZERO);
        assert_eq!(pulls.failed("uid", "main"), 1);
        pulls.forget("uid");
        assert!(!pulls.is_overdue("uid", "main", "three"));
    }
}
