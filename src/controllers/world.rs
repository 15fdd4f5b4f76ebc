//! What the kinds share among themselves: the watched objects, the ways to AWS, and hints from one kind to another.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::channel::mpsc::UnboundedSender;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::PartialObjectMeta,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};

use super::{
    lifecycle::nudge::{Nudge, Policies},
    prefixed::Watches,
    promotion::{shared::Promoting, triggers::PromotionObject},
    pull_secret::watch::Pulls,
    registry::{connection::Connection, documents},
    replication::place::Places,
};
use crate::{
    api::{
        ClusterLifecyclePolicy, ImagePromotion, LifecyclePolicy, PullSecret, Registry, ReplicationConfig, Repository,
        names::{OwnerId, RepositoryName},
        status::CommonStatus,
    },
    control::{
        error::{Error, Result},
        gate::Gate,
        spawn::{Readiness, list_of},
    },
    events::{
        message::{ImageChange, Setting},
        queues::Queues,
    },
    in_use,
    metrics::Metrics,
};

/// Who this installation is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name under which it claims registries and marks what is its own.
    pub owner: OwnerId,
    /// The UID of the cluster's `kube-system` namespace.
    pub cluster: String,
}

/// A hint that objects should be looked at. Hints say where to look, never what is there.
#[derive(Clone, Debug)]
pub(crate) enum Hint {
    /// Everything in a Registry.
    Registry(String),
    /// Repositories of these names in a Registry.
    Names(String, HashSet<RepositoryName>),
    /// Everything in a namespace.
    Namespace(String),
    /// What a lifecycle policy of this namespace, or one of the cluster, may mean.
    Policies(Option<String>),
    /// Repositories of these names in a Registry, of which AWS says that somebody changed them: what was seen before is
    /// not to be trusted.
    Changed(String, HashSet<RepositoryName>),
    /// What a Registry keeps for these prefixes, of which AWS says that somebody changed it: what was seen before is not to
    /// be trusted.
    Settings {
        registry: String,
        setting: Setting,
        prefixes: HashSet<String>,
    },
    /// ReplicationConfigs of a Registry that are held up.
    Replication(String),
    /// A Registry itself. `asked`: what was seen before is not to be trusted.
    Look { registry: String, asked: bool },
    /// An image of which AWS says that something happened to it.
    Image {
        registry: String,
        repository: RepositoryName,
        what: ImageChange,
    },
}

impl Hint {
    /// Whether what was seen of the objects before is not to be trusted.
    pub(crate) const fn casts_doubt(&self) -> bool {
        matches!(
            self,
            Self::Changed(..) | Self::Settings { .. } | Self::Look { asked: true, .. }
        )
    }
}

/// What the kinds share.
pub(crate) struct World {
    pub client: Client,
    pub identity: Identity,
    pub metrics: Metrics,
    pub inventory_interval: Duration,
    /// What every write passes; closed for good where the program only plans.
    pub gate: Gate,
    pub readiness: Readiness,
    pub registries: Store<DeserializeGuard<Registry>>,
    pub repositories: Store<DeserializeGuard<Repository>>,
    pub promotions: Store<DeserializeGuard<ImagePromotion>>,
    pub lifecycle_policies: Store<DeserializeGuard<LifecyclePolicy>>,
    pub cluster_lifecycle_policies: Store<DeserializeGuard<ClusterLifecyclePolicy>>,
    pub pull_secrets: Store<DeserializeGuard<PullSecret>>,
    pub replication_configs: Store<DeserializeGuard<ReplicationConfig>>,
    /// What is remembered of registries' replication configurations.
    pub replicating: Arc<Places>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    pub connections: RwLock<HashMap<String, Arc<Connection>>>,
    /// Hints at objects of a registry.
    pub hints: UnboundedSender<Hint>,
    /// Hints at Registries themselves: [`Hint::Look`] and no other.
    pub looks: UnboundedSender<Hint>,
    /// Hints at ReplicationConfigs.
    pub replications: UnboundedSender<Hint>,
    pub queues: Queues,
    /// What was last seen of lifecycle policies.
    pub policies: Policies,
    /// Lifecycle policies that are to be counted anew.
    pub counts: UnboundedSender<Nudge>,
    /// Promotions that are to look again.
    pub nudges: UnboundedSender<PromotionObject>,
    pub promoting: Promoting,
    pub pulls: Arc<Pulls>,
    pub in_use: in_use::Shared,
    /// Pull-through cache rules and creation templates.
    pub prefixed: Watches,
    /// What is remembered of the registries' documents.
    pub documents: documents::shared::Shared,
}

/// The labels of a namespace.
pub(crate) type Labels = BTreeMap<String, String>;

impl World {
    /// The Registry of this name. What the watch does not have is asked of the apiserver: that a Registry is missing is
    /// told to its users.
    pub(crate) async fn registry(&self, name: &str) -> Result<Option<Registry>> {
        // Right after the start, asking for thousands of objects one by one would be slower than the watch.
        self.readiness.until_done(&list_of::<Registry>()).await;
        match self.registries.get(&ObjectRef::new(name)) {
            Some(guard) => match &guard.0 {
                Ok(registry) => Ok(Some(registry.clone())),
                // It is there, so nobody may take it for missing; it says itself what is wrong with it.
                Err(invalid) => Err(Error::UnreadableRegistry {
                    name: name.to_owned(),
                    why: invalid.error.clone(),
                }),
            },
            None => self.read_registry(name).await,
        }
    }

    /// The Registry of this name as the apiserver has it now.
    pub(crate) async fn read_registry(&self, name: &str) -> Result<Option<Registry>> {
        let api = Api::<DeserializeGuard<Registry>>::all(self.client.clone());
        let found = api
            .get_opt(name)
            .await
            .map_err(Error::kube("read the Registry that the object names"))?;
        match found {
            None => Ok(None),
            Some(DeserializeGuard(Ok(registry))) => Ok(Some(registry)),
            Some(DeserializeGuard(Err(invalid))) => Err(Error::UnreadableRegistry {
                name: name.to_owned(),
                why: invalid.error,
            }),
        }
    }

    /// The Registry that stood for the same registry before this one, if there is one. Two would both hold the claim, and
    /// neither would know of the other's writes.
    pub(crate) fn elder_of(&self, registry: &Registry) -> Option<String> {
        let age = |registry: &Registry| (registry.creation_timestamp().map(|time| time.0), registry.name_any());
        let spec = &registry.spec;
        let state = self.registries.state();
        let others = state.iter().filter_map(|guard| guard.0.as_ref().ok()).filter(|other| {
            (&other.spec.region, &other.spec.registry_id) == (&spec.region, &spec.registry_id)
                && other.name_any() != registry.name_any()
                && other.metadata.deletion_timestamp.is_none()
                && age(other) < age(registry)
        });
        others.map(ResourceExt::name_any).min()
    }

    /// The Registry that named the same queue of events before this one, if there is one. Two would take each other's messages.
    pub(crate) fn elder_on_queue(&self, registry: &Registry) -> Option<String> {
        let age = |registry: &Registry| (registry.creation_timestamp().map(|time| time.0), registry.name_any());
        let queue = registry.spec.events.as_ref()?;
        let state = self.registries.state();
        let others = state.iter().filter_map(|guard| guard.0.as_ref().ok()).filter(|other| {
            other.spec.events.as_ref() == Some(queue)
                && other.name_any() != registry.name_any()
                && other.metadata.deletion_timestamp.is_none()
                && age(other) < age(registry)
        });
        others.map(ResourceExt::name_any).min()
    }

    /// The labels of a namespace; the apiserver adds its name as `kubernetes.io/metadata.name`.
    pub(crate) async fn namespace(&self, name: &str) -> Result<Option<Labels>> {
        self.readiness.until_done(&list_of::<Namespace>()).await;
        if let Some(namespace) = self.namespaces.get(&ObjectRef::new(name)) {
            return Ok(Some(namespace.labels().clone()));
        }
        let namespace = Api::<Namespace>::all(self.client.clone())
            .get_metadata_opt(name)
            .await
            .map_err(Error::kube("read the object's namespace"))?;
        Ok(namespace.map(|namespace| namespace.labels().clone()))
    }

    /// The way to a registry, once its Registry was looked at.
    pub(crate) fn connection(&self, registry: &str) -> Option<Arc<Connection>> {
        self.connections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(registry)
            .cloned()
    }

    /// The ways to all registries.
    pub(crate) fn all_connections(&self) -> impl Iterator<Item = Arc<Connection>> {
        let connections = self.connections.read().unwrap_or_else(PoisonError::into_inner);
        connections.values().cloned().collect::<Vec<_>>().into_iter()
    }

    /// Asks for a look. Nobody listens only while the program ends.
    pub(crate) fn hint(&self, hint: Hint) {
        if self.hint_in_use(&hint) {
            self.nudge_for(&hint);
        }
        self.wake_pulls_for(&hint);
        if matches!(
            hint,
            Hint::Registry(_) | Hint::Replication(_) | Hint::Look { asked: true, .. }
        ) {
            let _ = self.replications.unbounded_send(hint.clone());
        }
        if matches!(hint, Hint::Registry(_) | Hint::Settings { .. }) {
            self.prefixed.hint(&hint);
        }
        if matches!(hint, Hint::Image { .. } | Hint::Replication(_) | Hint::Settings { .. }) {
            return;
        }
        let to = match &hint {
            Hint::Look { .. } => &self.looks,
            _ => &self.hints,
        };
        let _ = to.unbounded_send(hint);
    }

    /// The names of the repositories that a hint means and an object here speaks of.
    pub(crate) fn named(&self, hint: &Hint) -> HashSet<RepositoryName> {
        let meant = self.meant(hint).into_iter();
        meant
            .filter_map(|object| self.repositories.get(&object)?.0.as_ref().ok()?.repository_name().ok())
            .collect()
    }

    /// The Repositories that a hint means.
    pub(crate) fn meant(&self, hint: &Hint) -> Vec<ObjectRef<DeserializeGuard<Repository>>> {
        if matches!(hint, Hint::Names(_, names) | Hint::Changed(_, names) if names.is_empty()) {
            return Vec::new();
        }
        let matches = |repository: &Repository| match hint {
            Hint::Registry(registry) => repository.is_in(registry),
            Hint::Names(registry, names) | Hint::Changed(registry, names) => {
                repository.is_in(registry) && repository.repository_name().is_ok_and(|name| names.contains(&name))
            }
            Hint::Policies(namespace) => namespace.is_none() || repository.metadata.namespace == *namespace,
            Hint::Namespace(namespace) => repository.metadata.namespace.as_deref() == Some(namespace.as_str()),
            // No setting of a repository depends on its images, nor on how others begin.
            Hint::Image { .. } | Hint::Settings { .. } | Hint::Look { .. } | Hint::Replication(_) => false,
        };
        let state = self.repositories.state();
        state
            .iter()
            .filter(|guard| guard.0.as_ref().is_ok_and(matches))
            .map(|guard| ObjectRef::from_obj(guard.as_ref()))
            .collect()
    }

    /// The Registry that a hint means itself.
    pub(crate) fn meant_registry(&self, hint: &Hint) -> Vec<ObjectRef<DeserializeGuard<Registry>>> {
        let Hint::Look { registry, .. } = hint else {
            return Vec::new();
        };
        let found = self.registries.get(&ObjectRef::new(registry));
        found
            .map(|guard| ObjectRef::from_obj(guard.as_ref()))
            .into_iter()
            .collect()
    }

    /// Tells the metrics how many objects there are, by their Ready condition.
    pub(crate) fn count_objects(&self) {
        let ready = |common: Option<&CommonStatus>| {
            let condition = common.and_then(|common| common.conditions.iter().find(|c| c.type_ == "Ready"));
            match condition.map(|condition| condition.status.as_str()) {
                Some("True") => "True",
                Some("False") => "False",
                _ => "Unknown",
            }
        };
        let mut counts: HashMap<&'static str, i64> = HashMap::new();
        for guard in self.registries.state() {
            let status = guard.0.as_ref().ok().and_then(|registry| registry.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
        }
        self.metrics.objects("Registry", &counts);
        counts.clear();
        for guard in self.repositories.state() {
            let status = guard.0.as_ref().ok().and_then(|repository| repository.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
        }
        self.metrics.objects("Repository", &counts);
        counts.clear();
        for guard in self.promotions.state() {
            let status = guard.0.as_ref().ok().and_then(|promotion| promotion.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
        }
        self.metrics.objects("ImagePromotion", &counts);
        counts.clear();
        for guard in self.lifecycle_policies.state() {
            let status = guard.0.as_ref().ok().and_then(|policy| policy.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
        }
        self.metrics.objects("LifecyclePolicy", &counts);
        counts.clear();
        for guard in self.cluster_lifecycle_policies.state() {
            let status = guard.0.as_ref().ok().and_then(|policy| policy.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
        }
        self.metrics.objects("ClusterLifecyclePolicy", &counts);
        counts.clear();
        for guard in self.prefixed.cache_rules.objects.state() {
            let status = guard.0.as_ref().ok().and_then(|rule| rule.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
        }
        self.metrics.objects("PullThroughCacheRule", &counts);
        counts.clear();
        for guard in self.prefixed.templates.objects.state() {
            let status = guard.0.as_ref().ok().and_then(|template| template.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
        }
        self.metrics.objects("RepositoryCreationTemplate", &counts);
        counts.clear();
        let mut expiries = Vec::new();
        for guard in self.pull_secrets.state() {
            let status = guard.0.as_ref().ok().and_then(|object| object.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
            let expires_at = status.and_then(|status| status.expires_at);
            expiries.extend(expires_at.map(|time| (guard.namespace().unwrap_or_default(), guard.name_any(), time)));
        }
        self.metrics.objects("PullSecret", &counts);
        self.metrics.pull_secrets.expire(&expiries, Timestamp::now());
        counts.clear();
        let configs = self.replication_configs.state();
        for guard in &configs {
            let status = guard.0.as_ref().ok().and_then(|config| config.status.as_ref());
            *counts.entry(ready(status.map(|status| &status.common))).or_default() += 1;
        }
        self.metrics.objects("ReplicationConfig", &counts);
        let readable = configs.iter().filter_map(|guard| guard.0.as_ref().ok());
        let figures: Vec<_> = readable.map(ReplicationConfig::figures).collect();
        self.metrics.replication.tell(&figures, Timestamp::now());
    }
}
