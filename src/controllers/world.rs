//! What the kinds share among themselves: the watched objects, the ways to AWS, and hints from one kind to another.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::PartialObjectMeta,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};

use super::registry::connection::Connection;
use crate::{
    api::{
        Registry, Repository,
        names::{OwnerId, RepositoryName},
        status::CommonStatus,
    },
    control::{
        error::{Error, Result},
        spawn::{Readiness, list_of},
    },
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

/// A hint that Repositories should be looked at. Hints say where to look, never what is there.
#[derive(Clone, Debug)]
pub(crate) enum Hint {
    /// Everything in a Registry.
    Registry(String),
    /// Repositories of these names in a Registry.
    Names(String, HashSet<RepositoryName>),
    /// Everything in a namespace.
    Namespace(String),
}

/// What the kinds share.
pub(crate) struct World {
    pub client: Client,
    pub identity: Identity,
    pub metrics: Metrics,
    pub inventory_interval: Duration,
    /// Nothing is to be written anywhere: the program only plans.
    pub read_only: bool,
    pub readiness: Readiness,
    pub registries: Store<DeserializeGuard<Registry>>,
    pub repositories: Store<DeserializeGuard<Repository>>,
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    pub connections: RwLock<HashMap<String, Arc<Connection>>>,
    pub hints: UnboundedSender<Hint>,
}

/// The labels of a namespace.
pub(crate) type Labels = BTreeMap<String, String>;

impl World {
    /// The Registry of this name. What the watch does not have is asked of the apiserver: that a Registry is missing
    /// lets finalizers go.
    pub(crate) async fn registry(&self, name: &str) -> Result<Option<Registry>> {
        // Right after the start, asking for thousands of objects one by one would be slower than the watch.
        self.readiness.until_done(&list_of::<Registry>()).await;
        match self.registries.get(&ObjectRef::new(name)) {
            Some(guard) => match &guard.0 {
                Ok(registry) => Ok(Some(registry.clone())),
                Err(_) => Ok(None),
            },
            None => Api::<Registry>::all(self.client.clone())
                .get_opt(name)
                .await
                .map_err(Error::kube("read the Registry that the object names")),
        }
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

    /// Asks for a look at Repositories. Nobody listens only while the program ends.
    pub(crate) fn hint(&self, hint: Hint) {
        let _ = self.hints.unbounded_send(hint);
    }

    /// The Repositories that a hint means.
    pub(crate) fn meant(&self, hint: &Hint) -> Vec<ObjectRef<DeserializeGuard<Repository>>> {
        let matches = |repository: &Repository| match hint {
            Hint::Registry(registry) => repository.spec.registry_ref.name == *registry,
            Hint::Names(registry, names) => {
                repository.spec.registry_ref.name == *registry
                    && repository.repository_name().is_ok_and(|name| names.contains(&name))
            }
            Hint::Namespace(namespace) => repository.metadata.namespace.as_deref() == Some(namespace.as_str()),
        };
        let state = self.repositories.state();
        state
            .iter()
            .filter(|guard| guard.0.as_ref().is_ok_and(matches))
            .map(|guard| ObjectRef::from_obj(guard.as_ref()))
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
    }
}
