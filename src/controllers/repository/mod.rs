//! Repository: reads a repository, carries out the steps that [`plan`] decides on, and tells what was seen.

mod act;
pub(crate) mod cleanup;
pub(crate) mod desired;
pub(crate) mod gate;
mod look;
pub(crate) mod plan;
#[cfg(test)]
mod plan_tests;
pub(crate) mod step;

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;

use self::{
    desired::Desired,
    gate::Gate,
    plan::{Facts, Seen, Sight},
    step::Step,
};
use super::{
    lifecycle::nudge::repository_seen,
    registry::connection::Connection,
    world::{Hint, Identity, Labels, World},
};
use crate::{
    api::{
        OWNER_TAG, Registry, Repository,
        names::{NameError, RepositoryName},
        repository::{DriftStatus, RepositoryStatus},
        status::CommonStatus,
    },
    aws::error::AwsError,
    control::{
        context::Context,
        error::Result,
        events::cut,
        finalizer,
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
        reason::Reason,
    },
    in_use::asks,
};

/// What a Repository depends on.
pub(crate) struct References {
    pub identity: Identity,
    pub name: Result<RepositoryName, NameError>,
    pub registry: Option<Registry>,
    pub namespace: Option<Labels>,
    /// What is wanted of the lifecycle policy.
    pub cleanup: cleanup::Wish,
    pub connection: Option<Arc<Connection>>,
}

impl Managed for Repository {
    type World = World;
    type References = References;
    type Observed = Seen;
    type Step = Step;
    type Status = RepositoryStatus;

    const KIND: &'static str = "Repository";

    fn status(&self) -> Option<&RepositoryStatus> {
        self.status.as_ref()
    }

    fn common(status: &RepositoryStatus) -> &CommonStatus {
        &status.common
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    async fn refer(&self, ctx: &Context<World>) -> Result<References> {
        let world = &ctx.world;
        let registry = &self.spec.registry_ref.name;
        let namespace = world.namespace(&self.namespace().unwrap_or_default()).await?;
        let name = self.repository_name();
        let cleanup = match &name {
            Ok(name) => world.cleanup_of(self, name, namespace.as_ref()).await,
            Err(_) => cleanup::Wish::Unclaimed,
        };
        Ok(References {
            identity: world.identity.clone(),
            name,
            registry: match self.metadata.deletion_timestamp {
                // Whether anything may still be deleted must not rest on a watch that is behind.
                Some(_) => world.read_registry(registry).await?,
                None => world.registry(registry).await?,
            },
            namespace,
            cleanup,
            connection: world.connection(registry),
        })
    }

    async fn observe(&self, goal: Goal, how: Look, references: &References) -> Result<Seen> {
        let (desired, manage, connection) = match enter(self, references) {
            Ok(entered) => entered,
            Err(shut) => return Ok(Seen::Shut(shut)),
        };
        if goal == Goal::Present && how == Look::Routine && is_trusted(self, &desired, manage, references, connection) {
            let message = plan::unverified(&desired);
            let cleanup = match manage {
                true => Some(Box::new(
                    look::trusted(self, how, references, connection, &desired).await?,
                )),
                false => None,
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
                look::present(self, how, connection, &mut sight).await?;
                look::cleanup_of(self, how, references, connection, &mut sight).await?;
            }
            Goal::Absent => look::absent(connection, references, &mut sight).await?,
        }
        Ok(Seen::Open(Box::new(sight)))
    }

    fn plan(&self, goal: Goal, references: &References, seen: &Seen, _: Timestamp) -> Plan<Step> {
        match &references.registry {
            Some(registry) => plan::plan(
                &Facts {
                    object: self,
                    registry_id: &registry.spec.registry_id,
                },
                goal,
                seen,
            ),
            None => match seen {
                Seen::Shut(Gate::Closed(verdict) | Gate::Lost(verdict)) if goal == Goal::Present => {
                    Plan::verdict(verdict.clone())
                }
                _ => plan::left_behind(
                    self,
                    &format!("Registry {} does not exist", self.spec.registry_ref.name),
                ),
            },
        }
    }

    async fn apply(&self, step: &Step, references: &References, seen: Seen) -> Result<Seen> {
        let Some(connection) = &references.connection else {
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
                look::cleanup_of(self, Look::Full, references, connection, &mut sight).await?;
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

    fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> RepositoryStatus {
        let mut status = RepositoryStatus {
            common,
            ..self.status.clone().unwrap_or_default()
        };
        if let Some(Seen::Open(sight)) = told.seen {
            note_sight(&mut status, sight);
            let base = plan::present(self, sight);
            let held_up = sight.manage && base.steps.is_empty() && matches!(base.verdict, Verdict::Settled { .. });
            if told.settled || held_up {
                status.desired_hash = Some(sight.desired.hash());
            } else if sight.manage {
                status.desired_hash = None;
            }
        }
        let cleanup = match told.seen {
            Some(Seen::Open(sight)) if sight.manage && status.created_at.is_some() => sight.cleanup.as_ref(),
            Some(Seen::Trusted {
                cleanup: Some(trusted), ..
            }) => Some(&trusted.cleanup),
            _ => None,
        };
        if let (Some(cleanup), Goal::Present) = (cleanup, told.goal) {
            status.lifecycle_policy = cleanup::told(cleanup, &cleanup::decide(cleanup));
        }
        if let (Some(Seen::Open(sight)), Goal::Present) = (told.seen, told.goal)
            && !sight.manage
        {
            status.lifecycle_policy = sight.cleanup.as_ref().and_then(cleanup::observed);
        }
        if !told.repaired.is_empty() {
            let drift = status.drift.get_or_insert_with(DriftStatus::default);
            drift.repaired = drift
                .repaired
                .saturating_add(u32::try_from(told.repaired.len()).unwrap_or(u32::MAX));
            drift.last = told.repaired.join("; ");
            cut(&mut drift.last, 1_000);
            drift.last_at = Some(told.now);
        }
        status
    }

    fn is_drift(&self, seen: &Seen) -> bool {
        let (cleanup, manage) = match seen {
            Seen::Open(sight) => (sight.cleanup.as_ref(), sight.manage),
            Seen::Trusted { cleanup, .. } => (cleanup.as_ref().map(|trusted| &trusted.cleanup), true),
            Seen::Shut(_) => return false,
        };
        if let Some(cleanup) = cleanup
            && let cleanup::Decision::Step(step) = cleanup::decide(cleanup)
        {
            // A preview changes nothing, and a policy that was not put yet is something new.
            return manage && cleanup.mends && matches!(step, Step::PutLifecycle { .. });
        }
        let Seen::Open(sight) = seen else { return false };
        // Settled while it was only observed is not settled by us: what follows is an adoption.
        let owned = self.status.as_ref().filter(|status| status.created_at.is_some());
        let settled_with = owned.and_then(|status| status.desired_hash.as_deref());
        sight.manage && settled_with == Some(sight.desired.hash().as_str())
    }

    /// A repository of the name may turn out to exist and to belong to somebody else.
    fn changes_the_plan(step: &Step) -> bool {
        matches!(step, Step::Create { .. })
    }

    fn seen(&self, ctx: &Context<World>) {
        repository_seen(&ctx.world, self);
        if let (true, Some(connection), Ok(name)) = (
            asks(self),
            ctx.world.connection(&self.spec.registry_ref.name),
            self.repository_name(),
        ) {
            connection.in_use.wake(&name);
        }
    }

    fn is_adoption(step: &Step) -> bool {
        matches!(step, Step::Tag { set, adopts: true, .. } if set.keys().eq([OWNER_TAG]))
    }

    fn headline(steps: &[Step]) -> &'static str {
        match steps.first() {
            Some(Step::Create { .. }) => "Created",
            Some(Step::Tag { adopts: true, .. }) => "Adopted",
            Some(Step::Release { .. }) => "Released",
            Some(Step::Delete { .. }) => "Deleted",
            Some(Step::PutLifecycle { .. } | Step::RemoveLifecycle { .. }) => "LifecyclePolicyPut",
            Some(Step::PreviewLifecycle { .. }) => "LifecyclePreviewed",
            _ => "Updated",
        }
    }

    /// A preview of what is in force is under way.
    fn rhythm(&self, references: &References, _: Option<&Seen>, outcome: &Result<Verdict>) -> Option<Duration> {
        let (connection, name) = (references.connection.as_ref()?, references.name.as_ref().ok()?);
        let pending = matches!(outcome, Ok(Verdict::Settled { .. })) && connection.previews.is_pending(name);
        pending.then_some(cleanup::PREVIEW)
    }

    fn is_a_look(seen: &Seen) -> bool {
        !matches!(seen, Seen::Shut(_))
    }

    fn to_record(&self, steps: &[Step]) -> Option<RepositoryStatus> {
        let putting = steps.iter().find_map(|step| match step {
            Step::PutLifecycle { to, .. } => Some(cleanup::mark(to)),
            _ => None,
        })?;
        let mut status = self.status.clone().unwrap_or_default();
        status.lifecycle_policy.get_or_insert_default().putting = putting;
        Some(status)
    }

    /// Others may wait for the name of a repository that this object has given up.
    fn concluded(&self, ctx: &Context<World>, references: &References, _: Option<&Seen>, outcome: &Result<Verdict>) {
        let goes = self.metadata.deletion_timestamp.is_some() && matches!(outcome, Ok(Verdict::Settled { .. }));
        if let (true, Ok(name)) = (goes, &references.name) {
            let names = HashSet::from([name.clone()]);
            ctx.world.hint(Hint::Names(self.spec.registry_ref.name.clone(), names));
        }
    }
}

/// Passes the gate and works out what is wanted; `Err` says why the object may not act.
fn enter<'r>(object: &Repository, references: &'r References) -> Result<(Desired, bool, &'r Connection), Gate> {
    let invalid = |message: String| Gate::Closed(Verdict::blocked(Reason::Invalid, message));
    let name = references.name.as_ref().map_err(|error| invalid(error.to_string()))?;
    let standing = references
        .connection
        .as_ref()
        .and_then(|connection| connection.standing());
    let registry = references.registry.as_ref();
    let (manage, grants) = match gate::gate(object, name, registry, references.namespace.as_ref(), standing) {
        Gate::Open { manage, grants } => (manage, grants),
        shut => return Err(shut),
    };
    let (Some(registry), Some(connection)) = (registry, &references.connection) else {
        return Err(Gate::Closed(Verdict::NotYet {
            after: Duration::from_secs(2),
        }));
    };
    let mut desired =
        desired::compose(object, name, registry, &grants, &references.identity.owner).map_err(|verdict| {
            match object.metadata.deletion_timestamp {
                // What could never be valid has nothing in AWS, and what no longer is must not be stuck.
                Some(_) => Gate::Lost(verdict),
                None => Gate::Closed(verdict),
            }
        })?;
    if asks(object) || references.cleanup.protects() {
        desired.admit_in_use_tags();
    }
    Ok((desired, manage, connection))
}

/// Whether the object was settled with exactly what is wanted now, and the shared listing shows nothing else.
fn is_trusted(
    object: &Repository,
    desired: &Desired,
    manage: bool,
    references: &References,
    connection: &Connection,
) -> bool {
    let Some(status) = &object.status else { return false };
    let ready = status.common.conditions.iter().any(|condition| {
        let settled = condition.status == "True"
            && condition.reason == (if manage { Reason::Settled } else { Reason::Observed }).as_str();
        let held_up = status.lifecycle_policy.as_ref().is_some_and(|cleanup| {
            let told = cleanup.message.trim_end_matches('…');
            manage && condition.reason == cleanup.reason && condition.message.starts_with(told)
        });
        condition.type_ == "Ready"
            && (settled || held_up)
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
    let same = same && (manage || asked == references.cleanup.asked());
    let identity = !manage || (status.created_at == Some(record.created_at) && finalizer::is_on(object));
    ready && same && identity && desired.matches(&record)
}

/// Notes in the status what was seen. What identifies the repository as ours (`createdAt`, the tags we set) is recorded
/// only where it is ours: a later adoption or deletion rests on it.
fn note_sight(status: &mut RepositoryStatus, sight: &Sight) {
    let Some(live) = &sight.live else { return };
    let ours = sight.manage && live.tags.get(OWNER_TAG) == Some(&sight.desired.owner);
    if !ours && sight.manage {
        return;
    }
    status.arn = Some(live.record.arn.clone());
    status.uri = Some(live.record.uri.clone());
    status.registry_id = live.record.registry_id.parse().ok();
    if !ours {
        return;
    }
    status.created_at = Some(live.record.created_at);
    let is_wish = |key: &str, value: &str| {
        sight
            .desired
            .tags
            .as_ref()
            .is_some_and(|tags| tags.get(key).map(String::as_str) == Some(value))
    };
    let managed = live
        .tags
        .iter()
        .filter(|(key, value)| is_wish(key, value) || status.managed_tags.contains(*key))
        .map(|(key, _)| key.clone())
        .collect();
    status.managed_tags = managed;
}
