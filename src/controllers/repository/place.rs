//! The repository in one Registry: its own, or that of a replica. What is read and written there, and what that takes.

use std::sync::Arc;

use super::{
    act, cleanup,
    desired::{self, Desired},
    look,
    plan::{self, Seen, Sight},
    replicas,
    step::Step,
};
use crate::{
    api::{
        Registry, Repository,
        names::{AccountId, NameError, RepositoryName},
    },
    aws::error::AwsError,
    control::{
        error::Result,
        finalizer,
        managed::Look,
        plan::{Goal, Verdict},
        reason::Reason,
    },
    controllers::{
        access::{Denied, Request, Standing, access},
        registry::connection::Connection,
        world::{Identity, Labels, World},
    },
};

/// What the repository depends on in one Registry.
pub(crate) struct Place {
    pub identity: Identity,
    pub name: Result<RepositoryName, NameError>,
    pub registry: Option<Registry>,
    pub namespace: Option<Labels>,
    pub connection: Option<Arc<Connection>>,
    /// What is wanted of the lifecycle policy; `None` where it is not looked at.
    pub cleanup: Option<cleanup::Wish>,
    /// Whether images in use keep a tag, which must be let through where others are immutable.
    pub keeps_in_use: bool,
}

impl Place {
    /// Finds it, within Kubernetes.
    pub(super) async fn of(
        object: &Repository,
        registry: &str,
        goal: Goal,
        namespace: Option<Labels>,
        world: &World,
    ) -> Result<Self> {
        Ok(Self {
            identity: world.identity.clone(),
            name: object.repository_name(),
            registry: match goal {
                // Whether anything may still be deleted must not rest on a watch that is behind.
                Goal::Absent => world.read_registry(registry).await?,
                Goal::Present => world.registry(registry).await?,
            },
            namespace,
            connection: world.connection(registry),
            cleanup: None,
            keeps_in_use: false,
        })
    }

    /// Whether the Registry is only looked at.
    pub(super) fn is_observed(&self) -> bool {
        let standing = self.connection.as_ref().and_then(|connection| connection.standing());
        standing == Some(Standing::Observing)
    }

    /// The account of the Registry, `None` where that does not exist.
    pub(super) fn registry_id(&self) -> Option<&AccountId> {
        self.registry.as_ref().map(|registry| &registry.spec.registry_id)
    }
}

/// Reads what is to be known of the repository. `may_write`: as far as the rest of the object is concerned.
pub(super) async fn observe(
    object: &Repository,
    goal: Goal,
    how: Look,
    may_write: bool,
    place: &Place,
) -> Result<Seen> {
    let (desired, manage, connection) = match enter(object, goal, place) {
        Ok((desired, manage, connection)) => (desired, manage && may_write, connection),
        Err(shut) => return Ok(Seen::Shut(shut)),
    };
    if goal == Goal::Present && how == Look::Routine && is_trusted(object, &desired, manage, place, connection) {
        let message = plan::unverified(&desired);
        let cleanup = match (manage, &place.cleanup) {
            (true, Some(wish)) => Some(Box::new(look::trusted(object, how, wish, connection, &desired).await?)),
            _ => None,
        };
        return Ok(Seen::Trusted {
            manage,
            message,
            cleanup,
        });
    }
    let held = connection.lock(&desired.name).await;
    let mut sight = Sight {
        desired,
        manage,
        live: None,
        cleanup: None,
        vanished: false,
        claim_held: false,
        deletion_sent: false,
        lock: Some(held),
    };
    match goal {
        Goal::Present => {
            look::present(object, how, connection, &mut sight).await?;
            look::cleanup_of(object, how, place, connection, &mut sight).await?;
        }
        Goal::Absent => look::absent(connection, place, &mut sight).await?,
    }
    Ok(Seen::Open(Box::new(sight)))
}

/// Carries out one step.
pub(super) async fn apply(object: &Repository, step: &Step, place: &Place, seen: Seen) -> Result<Seen> {
    let Some(connection) = &place.connection else {
        return Err(AwsError::incomplete("apply", "a connection").into());
    };
    let mut sight = match seen {
        Seen::Open(sight) => sight,
        Seen::Trusted {
            manage,
            message,
            cleanup: Some(mut trusted),
        } => {
            cleanup::change(connection, &trusted.name, step, &mut trusted.cleanup).await?;
            return Ok(Seen::Trusted {
                manage,
                message,
                cleanup: Some(trusted),
            });
        }
        Seen::Shut(_) | Seen::Trusted { .. } => {
            return Err(AwsError::incomplete("apply", "the repository to change").into());
        }
    };
    match (step, &mut sight.live) {
        (Step::Create { name, creation }, live) => {
            *live = Some(act::create(connection, name, creation, &sight.desired).await?);
            // Somebody may have been faster, and have filled it.
            look::cleanup_of(object, Look::Full, place, connection, &mut sight).await?;
        }
        (Step::PreviewLifecycle { .. } | Step::PutLifecycle { .. } | Step::RemoveLifecycle { .. }, _) => {
            let name = sight.desired.name.clone();
            if let Some(seen) = &mut sight.cleanup {
                cleanup::change(connection, &name, step, seen).await?;
            }
        }
        (Step::Delete { images, .. }, live) => {
            sight.deletion_sent = act::delete(connection, &sight.desired, *images, live).await?;
        }
        (_, Some(live)) => act::change(connection, step, live).await?,
        (_, None) => return Err(AwsError::incomplete("apply", "the repository to change").into()),
    }
    Ok(Seen::Open(sight))
}

/// Asks for access and works out what is wanted; `Err` says why the object may not act.
fn enter<'r>(object: &Repository, goal: Goal, place: &'r Place) -> Result<(Desired, bool, &'r Connection), Denied> {
    let invalid = |message: String| Denied::NotNow(Verdict::blocked(Reason::Invalid, message));
    let name = place.name.as_ref().map_err(|error| invalid(error.to_string()))?;
    let request = Request::of_repository(object, name, place.registry.as_ref(), place.namespace.as_ref());
    let connection = place.connection.as_deref().and_then(Connection::with_standing);
    let access = access(&request, connection)?;
    let (registry, grants) = (access.registry, access.grants());
    let mut desired = desired::compose(object, name, registry, &grants, &place.identity.owner).map_err(|verdict| {
        match goal {
            // What could never be valid has nothing in AWS, and what no longer is must not be stuck.
            Goal::Absent => Denied::NotAnyMore(verdict),
            Goal::Present => Denied::NotNow(verdict),
        }
    })?;
    if place.keeps_in_use {
        desired.admit_in_use_tags();
    }
    Ok((desired, access.manage, access.connection))
}

/// Whether the object was settled with exactly what is wanted now, and the shared listing shows nothing else.
fn is_trusted(object: &Repository, desired: &Desired, manage: bool, place: &Place, connection: &Connection) -> bool {
    let Some(status) = &object.status else { return false };
    let ready = status.common.conditions.iter().any(|condition| {
        let settled = condition.status == "True"
            && condition.reason == (if manage { Reason::Settled } else { Reason::Observed }).as_str();
        let held_up = status.lifecycle_policy.as_ref().is_some_and(|cleanup| {
            let told = cleanup.message.trim_end_matches('…');
            manage && condition.reason == cleanup.reason && condition.message.starts_with(told)
        });
        condition.type_ == "Ready"
            && (settled || held_up || replicas::plan::holds_up(&condition.message, &status.replicas))
            && condition.observed_generation == object.metadata.generation
    });
    let same = status.desired_hash.as_deref() == Some(desired.hash().as_str());
    let Some(record) = connection.inventory.get(&desired.name) else {
        return false;
    };
    let asked = status
        .lifecycle_policy
        .as_ref()
        .map_or("", |lifecycle| &lifecycle.asked);
    // Where this cluster manages, the lifecycle policy has a look of its own.
    let wished = place.cleanup.as_ref().map(cleanup::Wish::asked).unwrap_or_default();
    let same = same && (manage || asked == wished);
    let identity = !manage || (status.created_at == Some(record.created_at) && finalizer::is_on(object));
    ready && same && identity && desired.matches(&record)
}
