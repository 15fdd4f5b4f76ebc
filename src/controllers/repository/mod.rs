//! Repository: reads a repository, carries out the steps that [`plan`] decides on, and tells what was seen.

mod act;
pub(crate) mod cleanup;
pub(crate) mod desired;
mod look;
mod place;
pub(crate) mod plan;
#[cfg(test)]
mod plan_tests;
mod replicas;
pub(crate) mod step;

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use self::{
    place::Place,
    plan::{Seen, Sight},
    replicas::plan::{Failure, Observed, Replica, listed},
    step::Step,
};
use super::{
    lifecycle::nudge::repository_seen,
    world::{Hint, World},
};
use crate::{
    api::{
        OWNER_TAG, Repository,
        repository::{DriftStatus, ReplicaStatus, RepositoryStatus},
        status::CommonStatus,
    },
    control::{
        context::Context,
        error::{Error, Result},
        events::cut,
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
    },
    in_use::asks,
};

/// What a Repository depends on.
pub(crate) struct References {
    pub main: Place,
    /// By the name of the Registry.
    pub replicas: BTreeMap<String, Result<Place, Failure>>,
    objects: Api<Repository>,
}

impl Managed for Repository {
    type World = World;
    type References = References;
    type Observed = Observed;
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

    fn lane(&self) -> String {
        let replicas = self.spec.replica_registry_refs.iter();
        let registries = std::iter::once(&self.spec.registry_ref).chain(replicas);
        let names: Vec<&str> = registries.map(|of| of.name.as_str()).collect();
        names.join("/")
    }

    async fn refer(&self, ctx: &Context<World>) -> Result<References> {
        let world = &ctx.world;
        let namespace = world.namespace(&self.namespace().unwrap_or_default()).await?;
        let cleanup = match self.repository_name() {
            Ok(name) => world.cleanup_of(self, &name, namespace.as_ref()).await,
            Err(_) => cleanup::Wish::Unclaimed,
        };
        let goal = match self.metadata.deletion_timestamp {
            Some(_) => Goal::Absent,
            None => Goal::Present,
        };
        let keeps_in_use = asks(self) || cleanup.protects();
        let registry = &self.spec.registry_ref.name;
        let main = Place {
            cleanup: Some(cleanup),
            keeps_in_use,
            ..Place::of(self, registry, goal, namespace.clone(), world).await?
        };
        let mut replicas = BTreeMap::new();
        for (registry, goal) in listed(self) {
            let place = Place::of(self, &registry, goal, namespace.clone(), world).await;
            let place = place.map(|place| Place { keeps_in_use, ..place });
            replicas.insert(registry, place.map_err(|error| Failure::from(&error)));
        }
        let objects = Api::namespaced(ctx.client.clone(), &self.namespace().unwrap_or_default());
        Ok(References {
            main,
            replicas,
            objects,
        })
    }

    async fn observe(&self, goal: Goal, how: Look, references: &References) -> Result<Observed> {
        let main = place::observe(self, goal, how, true, &references.main).await?;
        let mut seen = Observed {
            main,
            replicas: listed(self)
                .map(|(registry, goal)| Replica::unread(self, &registry, goal))
                .collect(),
        };
        replicas::look(self, goal, how, references, &mut seen).await;
        Ok(seen)
    }

    fn plan(&self, goal: Goal, references: &References, seen: &Observed, _: Timestamp) -> Plan<Step> {
        replicas::plan::plan(self, goal, references.main.registry_id(), seen)
    }

    async fn apply(&self, step: &Step, references: &References, mut seen: Observed) -> Result<Observed> {
        if let Step::In { registry, step } = step {
            if seen
                .replica(registry)
                .is_some_and(|replica| replica.goal == Goal::Absent)
            {
                // The repository itself may have taken its time to go, and so may other replicas.
                references.is_still(self).await?;
            }
            replicas::apply(registry, step, references, &mut seen).await;
            return Ok(seen);
        }
        seen.main = place::apply(self, step, &references.main, seen.main).await?;
        if self.metadata.deletion_timestamp.is_some() {
            // What is in other registries follows, on what is read now.
            replicas::look(self, Goal::Absent, Look::Full, references, &mut seen).await;
        }
        Ok(seen)
    }

    fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> RepositoryStatus {
        let mut status = RepositoryStatus {
            common,
            ..self.status.clone().unwrap_or_default()
        };
        let main = told.seen.map(|seen| &seen.main);
        if let Some(Seen::Open(sight)) = main {
            note(&mut status, self, sight, told.settled);
        }
        if let Some(seen) = told.seen {
            status.replicas = replicas::plan::told(self.replicas(), &seen.replicas);
        }
        let cleanup = match main {
            Some(Seen::Open(sight)) if sight.manage && status.created_at.is_some() => sight.cleanup.as_ref(),
            Some(Seen::Trusted {
                cleanup: Some(trusted), ..
            }) => Some(&trusted.cleanup),
            _ => None,
        };
        if let (Some(cleanup), Goal::Present) = (cleanup, told.goal) {
            status.lifecycle_policy = cleanup::told(cleanup, &cleanup::decide(cleanup));
        }
        if let (Some(Seen::Open(sight)), Goal::Present) = (main, told.goal)
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

    fn is_drift(&self, seen: &Observed) -> bool {
        if seen.replicas.is_empty() {
            return is_drift(self, &seen.main);
        }
        // All that is to be done is told as one: what is new in one place is no drift in another.
        let mut acting = seen.acting(self).peekable();
        acting.peek().is_some() && acting.all(|(object, seen)| is_drift(object, seen))
    }

    /// A repository of the name may turn out to exist and to belong to somebody else.
    fn changes_the_plan(step: &Step) -> bool {
        matches!(step, Step::Create { .. })
    }

    fn seen(&self, ctx: &Context<World>) {
        repository_seen(&ctx.world, self);
        let Ok(name) = self.repository_name() else { return };
        let wake = |registry: &str| {
            if let Some(connection) = ctx.world.connection(registry) {
                connection.in_use.wake(&name);
            }
        };
        if asks(self) {
            wake(&self.spec.registry_ref.name);
        }
        for (registry, _) in listed(self) {
            if asks(&self.as_replica(&registry)) {
                wake(&registry);
            }
        }
    }

    fn is_adoption(step: &Step) -> bool {
        matches!(step.itself(), Step::Tag { set, adopts: true, .. } if set.keys().eq([OWNER_TAG]))
    }

    fn is_done(step: &Step, seen: &Observed) -> bool {
        match step {
            Step::In { registry, .. } => seen.replica(registry).is_some_and(|replica| replica.acted),
            _ => true,
        }
    }

    fn headline(steps: &[Step]) -> &'static str {
        match steps.first().map(Step::itself) {
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
    fn rhythm(&self, references: &References, _: Option<&Observed>, outcome: &Result<Verdict>) -> Option<Duration> {
        let main = &references.main;
        let (connection, name) = (main.connection.as_ref()?, main.name.as_ref().ok()?);
        let pending = matches!(outcome, Ok(Verdict::Settled { .. })) && connection.previews.is_pending(name);
        pending.then_some(cleanup::PREVIEW)
    }

    fn is_a_look(seen: &Observed) -> bool {
        !matches!(seen.main, Seen::Shut(_))
    }

    fn to_record(&self, steps: &[Step]) -> Option<RepositoryStatus> {
        let mut status = self.status.clone().unwrap_or_default();
        let mut news = false;
        for step in steps {
            match step {
                Step::PutLifecycle { to, .. } => {
                    status.lifecycle_policy.get_or_insert_default().putting = cleanup::mark(to);
                    news = true;
                }
                // One that is made and of which nobody knows would never be released.
                Step::In { registry, .. } => {
                    let known = status.replicas.iter().position(|replica| replica.registry == *registry);
                    let at = known.unwrap_or_else(|| {
                        status.replicas.push(ReplicaStatus::new(registry));
                        status.replicas.len() - 1
                    });
                    if let Some(replica) = status.replicas.get_mut(at) {
                        news |= !replica.begun;
                        replica.begun = true;
                    }
                }
                _ => {}
            }
        }
        news.then_some(status)
    }

    /// Others may wait for the name of a repository that this object has given up.
    fn concluded(
        &self,
        ctx: &Context<World>,
        references: &References,
        _: Option<&Observed>,
        outcome: &Result<Verdict>,
    ) {
        let goes = self.metadata.deletion_timestamp.is_some() && matches!(outcome, Ok(Verdict::Settled { .. }));
        if let (true, Ok(name)) = (goes, &references.main.name) {
            let registries = std::iter::once(&self.spec.registry_ref.name).chain(references.replicas.keys());
            for registry in registries {
                let names = HashSet::from([name.clone()]);
                ctx.world.hint(Hint::Names(registry.clone(), names));
            }
        }
    }
}

impl References {
    /// Fails if the object asks for something else by now: it is looked at afresh then.
    async fn is_still(&self, object: &Repository) -> Result<()> {
        let fresh = self.objects.get(&object.name_any()).await;
        let fresh = fresh.map_err(Error::kube("read the object"))?;
        let says = |object: &Repository| {
            let meta = &object.metadata;
            (
                meta.uid.clone(),
                meta.deletion_timestamp.clone(),
                meta.annotations.clone(),
                object.spec.clone(),
            )
        };
        match says(&fresh) == says(object) {
            true => Ok(()),
            false => Err(Error::changed("read the object as it was")),
        }
    }
}

/// Whether what is to be done about a repository puts right what somebody changed.
fn is_drift(object: &Repository, seen: &Seen) -> bool {
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
    let owned = object.status.as_ref().filter(|status| status.created_at.is_some());
    let settled_with = owned.and_then(|status| status.desired_hash.as_deref());
    sight.manage && settled_with == Some(sight.desired.hash().as_str())
}

/// Notes in the status what was seen, and whether it is as the object asks.
fn note(status: &mut RepositoryStatus, object: &Repository, sight: &Sight, settled: bool) {
    note_sight(status, sight);
    let base = plan::present(object, sight);
    let held_up = sight.manage && base.steps.is_empty() && matches!(base.verdict, Verdict::Settled { .. });
    if settled || held_up {
        status.desired_hash = Some(sight.desired.hash());
    } else if sight.manage {
        status.desired_hash = None;
    }
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
