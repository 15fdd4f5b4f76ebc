//! Who is worked on next, so that a registry that does not answer keeps none waiting but its own objects.
//!
//! A call that hangs holds its reconcile for a minute. The limit on reconciles is therefore one for each registry, and those
//! that wait for it are served in the order in which they came. Rejected: one limit for a kind, as the runner of `kube` has it.
//! A few registries that hang take all of it, and the runner serves in no order, so that those that failed a moment ago may go
//! before those that were never looked at.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of every kind and registry.
#[derive(Debug)]
pub(crate) struct Turns {
    at_once: u16,
    lanes: Mutex<Lanes>,
}

#[derive(Debug, Default)]
struct Lanes {
    /// By kind and registry.
    all: HashMap<(&'static str, String), Arc<Semaphore>>,
    /// The kinds that take up nothing more.
    closed: HashSet<&'static str>,
}

impl Turns {
    /// So many reconciles at once of each kind for each registry.
    pub(crate) fn new(at_once: u16) -> Self {
        Self {
            at_once,
            lanes: Mutex::default(),
        }
    }

    /// Waits for a turn; `None` once the kind takes up nothing more.
    pub(crate) async fn take(&self, kind: &'static str, lane: String) -> Option<OwnedSemaphorePermit> {
        let lane = self.with(|lanes| {
            let lane = lanes.all.entry((kind, lane));
            let lane = lane.or_insert_with(|| Arc::new(Semaphore::new(self.at_once.into())));
            (!lanes.closed.contains(kind)).then(|| Arc::clone(lane))
        })?;
        lane.acquire_owned().await.ok()
    }

    /// Takes up nothing more of a kind: whoever waits is sent away.
    pub(crate) fn close(&self, kind: &'static str) {
        self.with(|lanes| {
            lanes.closed.insert(kind);
            let of_kind = lanes.all.iter().filter(|((of, _), _)| *of == kind);
            of_kind.for_each(|(_, lane)| lane.close());
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Lanes) -> T) -> T {
        act(&mut self.lanes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// A turn that is to be had at once.
    fn take(turns: &Turns, kind: &'static str, lane: &str) -> Option<OwnedSemaphorePermit> {
        turns.take(kind, lane.to_owned()).now_or_never().flatten()
    }

    #[tokio::test]
    async fn a_registry_that_hangs_holds_up_no_other() {
        let turns = Turns::new(2);
        let hung = [take(&turns, "Repository", "down"), take(&turns, "Repository", "down")];
        assert!(hung.iter().all(Option::is_some));
        assert!(take(&turns, "Repository", "down").is_none(), "it has to wait");
        assert!(take(&turns, "Repository", "up").is_some());
        assert!(take(&turns, "ImagePromotion", "down").is_some());
        drop(hung);
        assert!(take(&turns, "Repository", "down").is_some());
    }

    #[tokio::test]
    async fn who_came_first_is_served_first() {
        let turns = Arc::new(Turns::new(1));
        let held = turns.take("Repository", "main".into()).await;
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for nth in 0..20 {
            let (turns, served) = (Arc::clone(&turns), Arc::clone(&served));
            let mut wait = Box::pin(async move {
                let turn = turns.take("Repository", "main".into()).await;
                served.lock().unwrap().push(nth);
                drop(turn);
            });
            assert!((&mut wait).now_or_never().is_none());
            waiting.push(wait);
        }
        drop(held);
        waiting.reverse();
        futures::future::join_all(waiting).await;
        assert_eq!(*served.lock().unwrap(), (0..20).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn at_the_end_nobody_waits() {
        let turns = Turns::new(1);
        let held = turns.take("Repository", "main".into()).await;
        let waits = turns.take("Repository", "main".into());
        turns.close("Repository");
        assert!(waits.await.is_none());
        assert!(turns.take("Repository", "another".into()).await.is_none());
        assert!(turns.take("Registry", "another".into()).await.is_some());
        drop(held);
    }
}
