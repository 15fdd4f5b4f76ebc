//! Who is to look again when a policy or a Repository changes.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{
    StreamExt as _,
    channel::mpsc::{UnboundedReceiver, UnboundedSender},
};
use kube::{
    ResourceExt as _,
    core::{DeserializeGuard, ObjectMeta},
    runtime::reflector::ObjectRef,
};

use super::select::PolicyName;
use crate::{
    api::{ClusterLifecyclePolicy, LifecyclePolicy, Repository},
    controllers::world::{Hint, World},
};

/// How long changes of Repositories are gathered before their policies are counted anew.
const GATHER: Duration = Duration::from_secs(1);

/// What was last seen of the policies, by their uid: the namespace, and a digest of what Repositories depend on.
#[derive(Debug, Default)]
pub(crate) struct Policies(Mutex<HashMap<String, (Option<String>, u64)>>);

/// A policy that is to be counted anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Nudge {
    pub namespace: Option<String>,
    pub name: String,
}

impl Policies {
    /// A policy was seen: where it says something new, its Repositories look again.
    pub(crate) fn changed(world: &World, meta: &ObjectMeta) {
        let mut hasher = DefaultHasher::new();
        (&meta.generation, &meta.annotations, &meta.deletion_timestamp.is_some()).hash(&mut hasher);
        let new = (meta.namespace.clone(), hasher.finish());
        let uid = meta.uid.clone().unwrap_or_default();
        let known = world.policies.with(|policies| policies.insert(uid, new.clone()));
        if known.as_ref() != Some(&new) {
            world.hint(Hint::Policies(new.0));
        }
    }

    /// A policy is gone.
    pub(crate) fn gone(world: &World, uid: &str) {
        if let Some((namespace, _)) = world.policies.with(|policies| policies.remove(uid)) {
            world.hint(Hint::Policies(namespace));
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, (Option<String>, u64)>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A Repository was seen: the policies that mean it, or that applied to it, are counted anew.
pub(crate) fn repository_seen(world: &World, repository: &Repository) {
    let namespace = repository.namespace();
    let nudge = |name: PolicyName| match name {
        PolicyName::Namespaced(name) => Nudge {
            namespace: namespace.clone(),
            name,
        },
        PolicyName::Cluster(name) => Nudge { namespace: None, name },
    };
    let labels = world
        .namespaces
        .get(&ObjectRef::new(namespace.as_deref().unwrap_or_default()))
        .map(|namespace| namespace.labels().clone());
    let meaning = repository
        .repository_name()
        .ok()
        .and_then(|name| world.known_policies_of(repository, &name, labels.as_ref()).ok());
    let mut names: HashSet<Nudge> = meaning
        .into_iter()
        .flatten()
        .map(|meaning| nudge(meaning.name))
        .collect();
    let recorded = repository
        .status
        .as_ref()
        .and_then(|status| status.lifecycle_policy.as_ref());
    match recorded.and_then(|recorded| recorded.policy.split_once(' ')) {
        Some(("LifecyclePolicy", name)) => drop(names.insert(nudge(PolicyName::Namespaced(name.into())))),
        Some(("ClusterLifecyclePolicy", name)) => drop(names.insert(nudge(PolicyName::Cluster(name.into())))),
        _ => {}
    }
    for name in names {
        // Nobody listens only while the program ends.
        let _ = world.counts.unbounded_send(name);
    }
}

/// Gathers what was nudged and hands it on, each policy once a second at most.
pub(crate) async fn gather(
    mut nudged: UnboundedReceiver<Nudge>,
    namespaced: UnboundedSender<ObjectRef<DeserializeGuard<LifecyclePolicy>>>,
    cluster: UnboundedSender<ObjectRef<DeserializeGuard<ClusterLifecyclePolicy>>>,
) {
    while let Some(first) = nudged.next().await {
        tokio::time::sleep(GATHER).await;
        let mut gathered = HashSet::from([first]);
        while let Ok(more) = nudged.try_recv() {
            gathered.insert(more);
        }
        for Nudge { namespace, name } in gathered {
            let _ = match namespace {
                Some(namespace) => namespaced
                    .unbounded_send(ObjectRef::new(&name).within(&namespace))
                    .map_err(drop),
                None => cluster.unbounded_send(ObjectRef::new(&name)).map_err(drop),
            };
        }
    }
}
