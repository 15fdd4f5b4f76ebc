//! The wiring of one controller: its watch, its hints and the loop. The same for every kind.

use std::{
    collections::BTreeSet,
    future::{Future, ready},
    sync::Arc,
};

use futures::{Stream, StreamExt as _, stream};
use kube::{
    Api, Resource,
    core::{ApiResource, DeserializeGuard},
    runtime::{
        self, Predicate as _, WatchStreamExt as _,
        controller::{self, ReconcileRequest, trigger_self},
        predicates,
        reflector::{ObjectRef, Store, store::Writer},
        watcher,
    },
};

use tokio::sync::watch;

use super::{
    context::Context,
    driven::{Driven, in_turn, key},
};

/// What the program still waits for before it works. Cheap to clone.
///
/// Stores have a `wait_until_ready` of their own, which was rejected: in kube 5.0.0 it wakes only the last of several who
/// wait for one store, and the controller itself is one of them.
#[derive(Clone, Debug)]
pub(crate) struct Readiness(Arc<watch::Sender<BTreeSet<String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(BTreeSet::new())))
    }
}

impl Readiness {
    /// Something has to happen first.
    pub(crate) fn wait_for(&self, what: impl Into<String>) {
        self.0.send_modify(|waiting| {
            waiting.insert(what.into());
        });
    }

    /// It has happened.
    pub(crate) fn done(&self, what: &str) {
        self.0.send_if_modified(|waiting| waiting.remove(what));
    }

    /// What is waited for; empty when the program is ready.
    pub(crate) fn waiting(&self) -> Vec<String> {
        self.0.borrow().iter().cloned().collect()
    }

    /// Waits until something has happened; at once where nobody waits for it.
    pub(crate) async fn until_done(&self, what: &str) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|waiting| !waiting.contains(what)).await;
    }
}

/// What is waited for until the objects of a kind are known.
pub(crate) fn list_of<K: Resource<DynamicType = ()>>() -> String {
    format!("the list of {}", ApiResource::erase::<K>(&()).plural)
}

/// The watched objects of one kind and where its watch writes them.
pub(crate) struct Watched<K: Driven> {
    pub api: Api<DeserializeGuard<K>>,
    pub reader: Store<DeserializeGuard<K>>,
    pub writer: Writer<DeserializeGuard<K>>,
}

/// Runs the controller of one kind until `shutdown`, then finishes the reconciles under way.
pub(crate) async fn run<K: Driven>(
    ctx: Arc<Context<K::Shared>>,
    watched: Watched<K>,
    hints: impl Stream<Item = ObjectRef<DeserializeGuard<K>>> + Send + 'static,
    readiness: Readiness,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let waits = list_of::<K>();
    readiness.wait_for(waits.clone());
    let Watched { api, reader, writer } = watched;
    // Without the first list the runner, which waits for it, would not end either.
    let listed = readiness.clone();
    let listing = waits.clone();
    let closing = Arc::clone(&ctx);
    let stopped = async move {
        shutdown.await;
        closing.turns.close(K::CALLED);
        listed.until_done(&listing).await;
    };
    let (forgetting, seeing, missing) = (Arc::clone(&ctx), Arc::clone(&ctx), Arc::clone(&ctx));
    // What we write ourselves, status and finalizer, changes none of these, so it triggers nothing; a deletion raises the
    // generation. Generation alone would lose the annotations that ask for a look or allow a deletion.
    let ours_to_see = predicates::generation
        .combine(predicates::annotations)
        .combine(predicates::labels);
    let objects = watcher(api, watcher::Config::default())
        .default_backoff()
        .modify(|object| kube::ResourceExt::managed_fields_mut(object).clear())
        .reflect(writer)
        .inspect(move |event| match event {
            Ok(watcher::Event::InitDone) => readiness.done(&waits),
            Ok(watcher::Event::Delete(object)) => {
                let uid = object.meta().uid.as_deref().unwrap_or_default();
                forgetting.memory.forget(uid);
                K::gone(uid, &forgetting);
            }
            _ => {}
        })
        .touched_objects()
        .inspect(move |event| {
            if let Ok(DeserializeGuard(Ok(object))) = event {
                object.seen(&seeing);
            }
        })
        .predicate_filter(ours_to_see, runtime::PredicateConfig::default())
        .inspect(|event| {
            if let Err(error) = event {
                tracing::warn!(kind = K::CALLED, %error, "the watch failed and is tried again");
            }
        });
    let hinted = hints.map(|object| Ok::<_, watcher::Error>(ReconcileRequest::from(object)));
    let memory = Arc::clone(&ctx);
    // A watch that fails goes on by itself; handed on, its errors would only be logged once more.
    let queue = stream::select(trigger_self(objects, ()), hinted)
        .filter(|request| ready(request.is_ok()))
        .inspect(move |request| {
            if let Ok(ReconcileRequest { obj_ref, .. }) = request {
                let (namespace, name) = (obj_ref.namespace.clone(), obj_ref.name.clone());
                let meta = kube::core::ObjectMeta {
                    namespace,
                    name: Some(name),
                    ..Default::default()
                };
                memory.memory.triggered(K::CALLED, key(&meta));
            }
        });
    let objects = reader.clone();
    runtime::applier(
        move |object, ctx| Box::pin(in_turn::<K>(object, ctx, objects.clone())),
        |_, never, _| match *never {},
        ctx,
        reader,
        queue.take_until(Box::pin(stopped)),
        // How many run at once is for the turns to say.
        controller::Config::default(),
    )
    .for_each(|outcome| {
        match outcome {
            // It was deleted while it waited for its turn.
            Err(controller::Error::ObjectNotFound(object)) => {
                let meta = kube::core::ObjectMeta {
                    namespace: object.namespace.clone(),
                    name: Some(object.name.clone()),
                    ..Default::default()
                };
                missing.memory.taken_up(K::CALLED, &key(&meta));
            }
            Err(error) => tracing::debug!(kind = K::CALLED, %error, "not reconciled"),
            Ok(_) => {}
        }
        ready(())
    })
    .await;
}
