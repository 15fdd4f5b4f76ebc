//! What makes promotions look again: changes of the workloads they target, of other promotions, and of images.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::CronJob,
    },
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::PartialObjectMeta,
    core::{DeserializeGuard, Selector, SelectorExt as _},
    runtime::{WatchStreamExt as _, reflector::ObjectRef, watcher},
};

use super::{
    super::world::{Hint, World},
    way::Wanted,
};
use crate::{
    api::{
        ImagePromotion, Repository,
        names::{RepositoryName, Tag},
        promotion::TargetKind,
    },
    aws::{catalog::Catalog, error::AwsError, images::ImageRef},
    control::context::Context,
    events::message::ImageChange,
};

/// A promotion as the loop names it.
pub(crate) type PromotionObject = ObjectRef<DeserializeGuard<ImagePromotion>>;

impl World {
    /// Asks promotions to look again.
    pub(super) fn nudge(&self, promotions: Vec<PromotionObject>) {
        for promotion in promotions {
            // Nobody listens only while the program ends.
            let _ = self.nudges.unbounded_send(promotion);
        }
    }

    /// The promotions that fulfil a condition.
    pub(super) fn promotions_that(&self, mut are_meant: impl FnMut(&ImagePromotion) -> bool) -> Vec<PromotionObject> {
        let state = self.promotions.state();
        let meant = state.iter().filter(|guard| guard.0.as_ref().is_ok_and(&mut are_meant));
        meant.map(|guard| ObjectRef::from_obj(guard.as_ref())).collect()
    }

    /// Asks the promotions to look again that a hint at repositories concerns.
    pub(crate) fn nudge_for(&self, hint: &Hint) {
        let meant = match hint {
            Hint::Registry(registry) | Hint::Look { registry, asked: true } => {
                self.promotions_that(|promotion| self.repositories_of(promotion).any(|(of, _)| of == *registry))
            }
            Hint::Names(registry, names) => self.promotions_that(|promotion| {
                self.repositories_of(promotion)
                    .any(|(of, name)| of == *registry && names.contains(&name))
            }),
            Hint::Image {
                registry, repository, ..
            } => self.promotions_that(|promotion| {
                self.repositories_of(promotion)
                    .any(|(of, name)| of == *registry && name == *repository)
            }),
            Hint::Namespace(namespace) => {
                self.promotions_that(|promotion| promotion.metadata.namespace.as_ref() == Some(namespace))
            }
            // Settings of a repository change nothing about which image runs.
            Hint::Changed(..)
            | Hint::Settings { .. }
            | Hint::Policies(_)
            | Hint::Replication(_)
            | Hint::Look { asked: false, .. } => Vec::new(),
        };
        match hint {
            Hint::Image {
                registry,
                repository,
                what,
            } if !meant.is_empty() => {
                self.read_image(registry, repository, what, meant);
            }
            _ => self.nudge(meant),
        }
    }

    /// Reads an image of which an event told, then lets the promotions look: what the event says is not believed.
    fn read_image(&self, registry: &str, repository: &RepositoryName, what: &ImageChange, meant: Vec<PromotionObject>) {
        let (digest, tag) = match what {
            ImageChange::Pushed { digest, tag }
            | ImageChange::Deleted { digest, tag }
            | ImageChange::Replicated { digest, tag } => (digest.as_ref(), tag.as_ref()),
            ImageChange::StorageClass { digest } => (Some(digest), None),
            // Findings are read whenever they are judged.
            ImageChange::Scanned { .. } => (None, None),
        };
        if let ImageChange::Scanned { digest } = what
            && let Ok(digest) = digest.parse()
        {
            self.promoting.scans.forget(&digest);
        }
        let digest = digest.and_then(|digest| digest.parse().ok()).map(ImageRef::Digest);
        let tag: Option<Tag> = tag.and_then(|tag| tag.parse().ok());
        let catalog = self
            .connection(registry)
            .and_then(|connection| connection.known_catalog(repository));
        let nudges = self.nudges.clone();
        let Ok(turn) = Arc::clone(&self.promoting.reads).try_acquire_owned() else {
            // A flood: one listing instead of a read for each message.
            if let Some(catalog) = catalog {
                catalog.doubt();
            }
            self.nudge(meant);
            return;
        };
        tokio::spawn(async move {
            let _turn = turn;
            if let Some(catalog) = catalog
                && let Err(error) = read_again(&catalog, digest, tag).await
            {
                catalog.doubt();
                tracing::warn!(%error, "an image of which an event told could not be read; the repository is listed again");
            }
            for promotion in meant {
                // Nobody listens only while the program ends.
                let _ = nudges.unbounded_send(promotion);
            }
        });
    }

    /// The registries and repositories that a promotion reads from and copies to, as far as they are known.
    pub(crate) fn repositories_of<'p>(
        &'p self,
        promotion: &'p ImagePromotion,
    ) -> impl Iterator<Item = (String, RepositoryName)> + 'p {
        let namespace = promotion.metadata.namespace.as_deref().unwrap_or_default();
        Wanted::of(promotion).filter_map(move |wanted| {
            let Some(reference) = wanted.repository_ref else {
                return wanted.by_name();
            };
            let reference = ObjectRef::<DeserializeGuard<Repository>>::new(&reference.name).within(namespace);
            let guard = self.repositories.get(&reference)?;
            let repository = guard.0.as_ref().ok()?;
            let name = repository.repository_name().ok()?;
            Some((repository.spec.registry_ref.name.clone(), name))
        })
    }

    /// Whether every place of a promotion is known that exists. What reads from a Repository that cannot be read, or from a
    /// registry that was not looked at yet, is not; what names one that is gone names nothing.
    pub(crate) fn knows_places_of(&self, promotion: &ImagePromotion) -> bool {
        let namespace = promotion.metadata.namespace.as_deref().unwrap_or_default();
        let connected = |registry: &str| {
            let exists = self.registries.get(&ObjectRef::new(registry)).is_some();
            !exists || self.connection(registry).is_some()
        };
        Wanted::of(promotion).all(|wanted| match wanted.repository_ref {
            None => wanted.by_name().is_none_or(|(registry, _)| connected(&registry)),
            Some(reference) => {
                let reference = ObjectRef::<DeserializeGuard<Repository>>::new(&reference.name).within(namespace);
                match self.repositories.get(&reference) {
                    None => true,
                    Some(guard) => {
                        let repository = guard.0.as_ref().ok();
                        repository.is_some_and(|repository| connected(&repository.spec.registry_ref.name))
                    }
                }
            }
        })
    }

    /// A promotion has found an image good: those that wait for it look again.
    pub(super) fn tell_followers(&self, promotion: &ImagePromotion) {
        let (namespace, name) = (promotion.namespace(), promotion.name_any());
        let followers = self.promotions_that(|other| {
            other.spec.source.from.as_ref().is_some_and(|from| {
                let of = from
                    .promotion_ref
                    .namespace
                    .as_ref()
                    .or(other.metadata.namespace.as_ref());
                from.promotion_ref.name == name && of == namespace.as_ref()
            })
        });
        self.nudge(followers);
    }
}

/// Reads what an event names: an image, and where that does not have the tag, whatever the tag is on.
async fn read_again(catalog: &Catalog, digest: Option<ImageRef>, tag: Option<Tag>) -> Result<(), AwsError> {
    let image = match digest {
        Some(digest) => catalog.changed(&digest).await?,
        None => None,
    };
    match tag {
        Some(tag) if !image.is_some_and(|image| image.tags.contains(&tag)) => {
            catalog.changed(&ImageRef::Tag(tag)).await.map(drop)
        }
        _ => Ok(()),
    }
}

/// Watches the workloads of all namespaces, of which only the metadata travels, until the program ends.
pub(crate) async fn watch_workloads(ctx: Arc<Context<World>>) {
    futures::join!(
        watch::<Deployment>(TargetKind::Deployment, Arc::clone(&ctx)),
        watch::<StatefulSet>(TargetKind::StatefulSet, Arc::clone(&ctx)),
        watch::<DaemonSet>(TargetKind::DaemonSet, Arc::clone(&ctx)),
        watch::<CronJob>(TargetKind::CronJob, ctx),
    );
}

async fn watch<K>(kind: TargetKind, ctx: Arc<Context<World>>)
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + Send + 'static,
    K: serde::de::DeserializeOwned,
{
    let mut seen = Seen::default();
    let mut listed = false;
    watcher(
        Api::<PartialObjectMeta<K>>::all(ctx.client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .for_each(|event| {
        match event {
            Ok(watcher::Event::Delete(object)) => changed(&ctx.world, kind, &object, &mut seen, true),
            // What is there at the start is looked at by every promotion's first reconcile; a later list tells what the
            // watch has missed.
            Ok(watcher::Event::InitApply(object)) if !listed => seen.note(&object),
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                changed(&ctx.world, kind, &object, &mut seen, false);
            }
            Ok(watcher::Event::Init) => {}
            Ok(watcher::Event::InitDone) => listed = true,
            Err(error) => {
                tracing::warn!(kind = kind.as_str(), %error, "the watch on workloads failed and is tried again");
            }
        }
        futures::future::ready(())
    })
    .await;
}

/// The generations of workloads that some promotion targets: a change of status alone concerns a rollout and nobody else.
#[derive(Default)]
struct Seen(HashMap<String, i64>);

impl Seen {
    fn note<K>(&mut self, object: &PartialObjectMeta<K>) {
        if let (Some(uid), Some(generation)) = (&object.metadata.uid, object.metadata.generation) {
            self.0.insert(uid.clone(), generation);
        }
    }

    /// Whether the spec changed since it was seen last, or it was not seen before.
    fn is_new<K>(&mut self, object: &PartialObjectMeta<K>) -> bool {
        let (Some(uid), generation) = (&object.metadata.uid, object.metadata.generation.unwrap_or_default()) else {
            return true;
        };
        self.0.insert(uid.clone(), generation) != Some(generation)
    }
}

fn changed<K>(world: &World, kind: TargetKind, object: &PartialObjectMeta<K>, seen: &mut Seen, gone: bool) {
    let fresh = seen.is_new(object) || gone;
    if fresh {
        world.in_use.workload_changed();
    }
    if gone && let Some(uid) = &object.metadata.uid {
        seen.0.remove(uid);
    }
    let (Some(name), Some(namespace)) = (&object.metadata.name, &object.metadata.namespace) else {
        return;
    };
    let none = BTreeMap::new();
    let labels = object.metadata.labels.as_ref().unwrap_or(&none);
    let meant = world.promotions_that(|promotion| {
        let moves = promotion.status.as_ref().is_some_and(|status| status.rollout.is_some());
        (fresh || moves)
            && promotion.metadata.namespace.as_ref() == Some(namespace)
            && promotion.spec.targets.iter().any(|target| {
                target.kind == kind
                    && match (&target.name, &target.selector) {
                        (Some(wanted), _) => wanted == name,
                        (None, Some(selector)) => {
                            Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
                        }
                        (None, None) => false,
                    }
            })
    });
    world.nudge(meant);
}
