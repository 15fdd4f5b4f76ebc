//! Reads what a cluster uses from its apiserver, a page at a time.

use kube::{
    Api, Client,
    api::ListParams,
    core::{ApiResource, GroupVersionKind, Object},
};

use super::collect::{Collection, Spec, Status, of_promotion};
use crate::controllers::world::World;

/// How many objects a page holds; each page is forgotten before the next one is read.
const PAGE: u32 = 500;

/// What runs images, or would.
const KINDS: [(&str, &str, &str); 7] = [
    ("", "Pod", "pods"),
    ("apps", "Deployment", "deployments"),
    ("apps", "StatefulSet", "statefulsets"),
    ("apps", "DaemonSet", "daemonsets"),
    // Kept for undo.
    ("apps", "ReplicaSet", "replicasets"),
    ("batch", "Job", "jobs"),
    ("batch", "CronJob", "cronjobs"),
];

/// What was seen, and whether that is all there is.
pub(super) async fn collect(world: &World) -> (Collection, bool) {
    let mut collection = Collection::default();
    let mut complete = true;
    for (kind, error) in workloads(&world.client, &mut collection).await {
        tracing::warn!(kind, %error, "not all images in use are known: nothing is taken out of the report");
        complete = false;
    }
    for guard in world.promotions.state() {
        let Ok(promotion) = &guard.0 else {
            tracing::warn!("a promotion cannot be read: nothing is taken out of the report of images in use");
            complete = false;
            continue;
        };
        let digests = of_promotion(promotion);
        if !digests.is_empty() && !world.knows_places_of(promotion) {
            complete = false;
        }
        for (registry, repository) in world.repositories_of(promotion) {
            let Some(connection) = world.connection(&registry) else {
                continue;
            };
            let key = connection.key();
            for digest in &digests {
                collection.digest(&key, &repository, digest);
            }
        }
    }
    (collection, complete)
}

/// Takes up what runs images, or would; gives the kinds that could not be read to their end.
pub(super) async fn workloads(client: &Client, collection: &mut Collection) -> Vec<(&'static str, kube::Error)> {
    let mut unread = Vec::new();
    for (group, kind, plural) in KINDS {
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
        if let Err(error) = list(client, &resource, collection).await {
            unread.push((kind, error));
        }
    }
    unread
}

async fn list(client: &Client, resource: &ApiResource, collection: &mut Collection) -> Result<(), kube::Error> {
    let api = Api::<Object<Spec, Status>>::all_with(client.clone(), resource);
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        for object in &page.items {
            collection.spec(&object.spec);
            if let Some(status) = &object.status {
                collection.status(status);
            }
        }
        match page.metadata.continue_ {
            Some(next) if !next.is_empty() => params = params.continue_token(&next),
            _ => return Ok(()),
        }
    }
}
