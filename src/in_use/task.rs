//! What runs beside the controllers: one collects, and for each registry one publishes and one keeps tags.

use std::{collections::HashMap, sync::Arc, time::Duration};

use kube::ResourceExt;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    keep, lister, publish,
    shared::{Collected, repository},
};
use crate::{
    control::{context::Context, spawn::list_of},
    controllers::world::World,
};

/// How long is waited after a change of a workload, for others that come with it.
const SETTLE: Duration = Duration::from_secs(3);

/// How soon after a collection a change of a workload leads to the next one. A busy cluster changes all the time.
const SPACING: Duration = Duration::from_secs(30);

/// How often registries are looked for, should a hint be lost.
const LOOK: Duration = Duration::from_secs(30);

/// Runs until it is dropped.
pub(crate) async fn run(ctx: Arc<Context<World>>) {
    let lists = [
        list_of::<crate::api::Registry>(),
        list_of::<crate::api::Repository>(),
        list_of::<crate::api::ImagePromotion>(),
    ];
    for list in &lists {
        ctx.world.readiness.until_done(list).await;
    }
    futures::join!(collect(&ctx.world), look_after_registries(&ctx));
}

/// Collects what this cluster uses, while somebody wants to know.
async fn collect(world: &World) {
    let shared = &world.in_use;
    let mut before: Option<Arc<Collected>> = None;
    loop {
        while !is_wanted(world) {
            tokio::select! {
                () = shared.changed.notified() => {}
                () = sleep(LOOK) => {}
            }
        }
        let begun = Instant::now();
        let (mut collection, complete) = lister::collect(world).await;
        if let (false, Some(before)) = (complete, &before) {
            collection.keep(&before.collection);
        }
        let collected = Arc::new(Collected {
            collection,
            begun,
            complete,
        });
        before = Some(Arc::clone(&collected));
        shared.collected.send_replace(Some(collected));
        let ended = Instant::now();
        tokio::select! {
            () = shared.changed.notified() => {
                sleep(SETTLE).await;
                sleep_until(ended + SPACING.min(shared.interval)).await;
            }
            () = sleep(shared.interval) => {}
        }
    }
}

/// Whether any registry has a repository of reports.
fn is_wanted(world: &World) -> bool {
    let Some(reports) = repository() else { return false };
    world
        .all_connections()
        .any(|connection| connection.inventory.get(&reports).is_some())
}

async fn look_after_registries(ctx: &Arc<Context<World>>) {
    let mut tasks: HashMap<String, JoinSet<()>> = HashMap::new();
    loop {
        let names = registries(&ctx.world);
        // Dropping a set ends its tasks.
        tasks.retain(|name, set| names.contains(name) && set.len() == 2);
        for name in names {
            tasks.entry(name.clone()).or_insert_with(|| {
                let mut set = JoinSet::new();
                let (publisher, keeper) = (Arc::clone(ctx), Arc::clone(ctx));
                let of = name.clone();
                set.spawn(async move { publish::run(&publisher.world, &of).await });
                set.spawn(async move { keep::run(&keeper, &name).await });
                set
            });
        }
        for set in tasks.values_mut() {
            while let Some(ended) = set.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a task for images in use has died, and is started again");
                }
            }
        }
        tokio::select! {
            () = ctx.world.in_use.registries.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// The Registries that are connected; of several for one registry, the one that came first.
fn registries(world: &World) -> Vec<String> {
    let state = world.registries.state();
    let registries = state.iter().filter_map(|guard| guard.0.as_ref().ok());
    registries
        .filter(|registry| world.connection(&registry.name_any()).is_some() && world.elder_of(registry).is_none())
        .map(ResourceExt::name_any)
        .collect()
}
