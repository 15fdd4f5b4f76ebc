//! What runs once this program leads: a controller for each kind, and what they share.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _, channel::mpsc, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::PartialObjectMeta,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _, predicates,
        reflector::{Lookup, ObjectRef, Store, store},
        watcher,
    },
};
use tokio::task::JoinSet;

use crate::{
    api::{
        ClusterLifecyclePolicy, ImagePromotion, LifecyclePolicy, PullSecret, PullThroughCacheRule, Registry,
        ReplicationConfig, Repository, RepositoryCreationTemplate,
    },
    control::{
        context::Context,
        driven::Driven,
        lead,
        spawn::{self, Watched},
    },
    controllers::{
        lifecycle::nudge::{self, Nudge},
        prefixed::{Watch, Watches},
        promotion::triggers::{self, PromotionObject},
        pull_secret::watch::PullObject,
        registry::documents::{self, shared::RegistryObject},
        world::{Hint, World},
    },
    events::listener,
    in_use,
};

/// How long reconciles that are under way may take to end after SIGTERM. Kubernetes gives a pod 30 s.
const GRACE: Duration = Duration::from_secs(25);

/// Where the watches write what they see.
pub(super) struct Writers {
    pub registries: store::Writer<DeserializeGuard<Registry>>,
    pub repositories: store::Writer<DeserializeGuard<Repository>>,
    pub promotions: store::Writer<DeserializeGuard<ImagePromotion>>,
    pub lifecycle_policies: store::Writer<DeserializeGuard<LifecyclePolicy>>,
    pub cluster_lifecycle_policies: store::Writer<DeserializeGuard<ClusterLifecyclePolicy>>,
    pub pull_secrets: store::Writer<DeserializeGuard<PullSecret>>,
    pub replication_configs: store::Writer<DeserializeGuard<ReplicationConfig>>,
    pub namespaces: store::Writer<PartialObjectMeta<Namespace>>,
    pub cache_rules: Writing<PullThroughCacheRule>,
    pub templates: Writing<RepositoryCreationTemplate>,
}

/// Where the watch of a kind writes what it sees, and where hints at its objects arrive.
pub(super) struct Writing<K: kube::Resource<DynamicType = ()> + Clone + 'static> {
    pub writer: store::Writer<DeserializeGuard<K>>,
    pub looks: mpsc::UnboundedReceiver<Hint>,
}

/// Both ends of a watch.
pub(super) fn watch<K>() -> (Watch<K>, Writing<K>)
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let (objects, writer) = store();
    let (looks, looked) = mpsc::unbounded();
    (Watch { objects, looks }, Writing { writer, looks: looked })
}

/// Where hints arrive.
pub(super) struct Hinted {
    pub objects: mpsc::UnboundedReceiver<Hint>,
    pub registries: mpsc::UnboundedReceiver<Hint>,
    pub promotions: mpsc::UnboundedReceiver<PromotionObject>,
    pub policies: mpsc::UnboundedReceiver<Nudge>,
    pub pulls: mpsc::UnboundedReceiver<PullObject>,
    pub replications: mpsc::UnboundedReceiver<Hint>,
    pub documents: mpsc::UnboundedReceiver<RegistryObject>,
}

/// The controllers that run, each as a task of its own: no reconcile may delay the renewal of the Lease.
struct Controllers<S> {
    ctx: Arc<Context<World>>,
    shutdown: S,
    tasks: JoinSet<()>,
}

impl<S: Future<Output = ()> + Clone + Send + 'static> Controllers<S> {
    /// Starts the controller of a kind, with the objects that its watch sees and the looks that others ask for.
    fn start<K: Driven<Shared = World>>(
        &mut self,
        reader: &Store<DeserializeGuard<K>>,
        writer: store::Writer<DeserializeGuard<K>>,
        looks: impl Stream<Item = ObjectRef<DeserializeGuard<K>>> + Send + 'static,
    ) {
        let watched = Watched {
            api: Api::all(self.ctx.client.clone()),
            reader: reader.clone(),
            writer,
        };
        let readiness = self.ctx.world.readiness.clone();
        let controller = spawn::run::<K>(Arc::clone(&self.ctx), watched, looks, readiness, self.shutdown.clone());
        self.tasks.spawn(controller);
    }

    /// The objects that hints mean, as they come.
    fn meant<K, M>(
        &self,
        hints: mpsc::UnboundedReceiver<Hint>,
        meaning: M,
    ) -> impl Stream<Item = ObjectRef<K>> + Send + use<S, K, M>
    where
        K: Lookup<DynamicType = ()> + 'static,
        M: Fn(&World, &Hint) -> Vec<ObjectRef<K>> + Send + 'static,
    {
        let ctx = Arc::clone(&self.ctx);
        hints.flat_map(move |hint| {
            let objects = meaning(&ctx.world, &hint);
            if hint.casts_doubt() {
                // They are to be read from AWS.
                for uid in objects.iter().filter_map(|object| object.extra.uid.as_deref()) {
                    ctx.memory.doubt(uid);
                }
            }
            stream::iter(objects)
        })
    }
}

/// Runs the controllers until `shutdown`, then finishes the reconciles under way. False where some had to be cut off.
pub(super) async fn work(
    ctx: Arc<Context<World>>,
    writers: Writers,
    hinted: Hinted,
    shutdown: impl Future<Output = ()> + Clone + Send + 'static,
) -> bool {
    let readiness = ctx.world.readiness.clone();
    // Before anybody asks: a reconcile of one kind waits for the lists of the others.
    for list in [
        spawn::list_of::<Registry>(),
        spawn::list_of::<Repository>(),
        spawn::list_of::<ImagePromotion>(),
        spawn::list_of::<LifecyclePolicy>(),
        spawn::list_of::<ClusterLifecyclePolicy>(),
        spawn::list_of::<PullSecret>(),
        spawn::list_of::<ReplicationConfig>(),
        spawn::list_of::<Namespace>(),
        spawn::list_of::<PullThroughCacheRule>(),
        spawn::list_of::<RepositoryCreationTemplate>(),
    ] {
        readiness.wait_for(list);
    }
    readiness.done(lead::LEASE);
    ctx.metrics.leads();
    let namespaces = watch_namespaces(writers.namespaces, Arc::clone(&ctx));
    let mut controllers = Controllers {
        ctx: Arc::clone(&ctx),
        shutdown: shutdown.clone(),
        tasks: JoinSet::new(),
    };
    let world = &ctx.world;

    let looks = controllers.meant(hinted.registries, |world, hint| {
        let registries = world.meant_registry(hint);
        if hint.casts_doubt() {
            for uid in registries.iter().filter_map(|object| object.extra.uid.as_deref()) {
                world.documents.doubt(uid);
            }
        }
        registries
    });
    controllers.start::<Registry>(&world.registries, writers.registries, looks);
    let looks = controllers.meant(hinted.objects, World::meant);
    controllers.start::<Repository>(&world.repositories, writers.repositories, looks);
    controllers.start::<ImagePromotion>(&world.promotions, writers.promotions, hinted.promotions);

    let (counting, looks) = mpsc::unbounded();
    let (cluster, cluster_looks) = mpsc::unbounded();
    let gathering = tokio::spawn(nudge::gather(hinted.policies, counting, cluster));
    controllers.start::<LifecyclePolicy>(&world.lifecycle_policies, writers.lifecycle_policies, looks);
    controllers.start::<ClusterLifecyclePolicy>(
        &world.cluster_lifecycle_policies,
        writers.cluster_lifecycle_policies,
        cluster_looks,
    );

    let Watches { cache_rules, templates } = &world.prefixed;
    let looks = controllers.meant(writers.cache_rules.looks, |world, hint| {
        world.prefixed.cache_rules.meant(hint)
    });
    controllers.start::<PullThroughCacheRule>(&cache_rules.objects, writers.cache_rules.writer, looks);
    let looks = controllers.meant(writers.templates.looks, |world, hint| {
        world.prefixed.templates.meant(hint)
    });
    controllers.start::<RepositoryCreationTemplate>(&templates.objects, writers.templates.writer, looks);

    controllers.start::<PullSecret>(&world.pull_secrets, writers.pull_secrets, hinted.pulls);
    let looks = controllers.meant(hinted.replications, World::meant_replication);
    controllers.start::<ReplicationConfig>(&world.replication_configs, writers.replication_configs, looks);

    let mut controllers = controllers.tasks;
    controllers.spawn(documents::run(Arc::clone(&ctx), hinted.documents, shutdown.clone()));
    controllers.spawn(listener::run(Arc::clone(&ctx), shutdown.clone()));
    // Ends with the program: it has nothing to finish.
    let workloads = tokio::spawn(triggers::watch_workloads(Arc::clone(&ctx)));
    // The same: what it leaves half done, it finds again.
    let in_use = tokio::spawn(in_use::task::run(Arc::clone(&ctx)));
    let stopped = async {
        shutdown.await;
        tracing::info!("stopping: what is under way is finished, nothing new is begun");
        tokio::time::sleep(GRACE).await;
    };
    let finished = tokio::select! {
        died = async {
            while let Some(ended) = controllers.join_next().await {
                if let Err(error) = ended {
                    return Some(error);
                }
            }
            None
        } => {
            if let Some(error) = &died {
                // Without one of them the program would lead and do only half of its work.
                tracing::error!(%error, "a controller has died, and the program ends to be started again");
            } else {
                tracing::info!("stopped");
            }
            died.is_none()
        }
        () = stopped => {
            tracing::warn!(grace_s = GRACE.as_secs(), "stopped with reconciles still under way");
            false
        }
        () = namespaces => false,
    };
    workloads.abort();
    gathering.abort();
    in_use.abort();
    finished
}

/// Watches the labels of namespaces: they decide who is a tenant.
async fn watch_namespaces(writer: store::Writer<PartialObjectMeta<Namespace>>, ctx: Arc<Context<World>>) {
    let readiness = ctx.world.readiness.clone();
    watcher(
        Api::<PartialObjectMeta<Namespace>>::all(ctx.client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .modify(|namespace| kube::ResourceExt::managed_fields_mut(namespace).clear())
    .reflect(writer)
    .inspect(move |event| {
        if matches!(event, Ok(watcher::Event::InitDone)) {
            readiness.done(&spawn::list_of::<Namespace>());
        }
    })
    .touched_objects()
    .predicate_filter(predicates::labels, kube::runtime::PredicateConfig::default())
    .for_each(|changed| {
        match changed {
            Ok(namespace) => ctx
                .world
                .hint(Hint::Namespace(namespace.metadata.name.unwrap_or_default())),
            Err(error) => tracing::warn!(%error, "the watch on namespaces failed and is tried again"),
        }
        futures::future::ready(())
    })
    .await;
}
