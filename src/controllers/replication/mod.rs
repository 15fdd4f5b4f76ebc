//! ReplicationConfig: all objects of a registry become one document. Each object's reconcile puts the whole of it, under a
//! lock, so that of many that change together the first does the work of all.

mod act;
pub(crate) mod parts;
pub(crate) mod place;
mod plan;
#[cfg(test)]
mod plan_tests;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Client, ResourceExt as _,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::time::Instant;

use self::{
    parts::{Covers, Part, Refused, deletes},
    plan::{Gate, Seen, Sight, Step},
};
use super::{
    registry::connection::Connection,
    world::{Hint, World},
};
use crate::{
    api::{
        Registry, ReplicationConfig,
        names::{AccountId, Region},
        replication::{ReplicationConfigStatus, ReplicationDestination, ReplicationRule},
        repository::DriftStatus,
        status::CommonStatus,
    },
    aws::error::AwsError,
    control::{
        context::Context,
        error::Result,
        events::{Events, cut},
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
        reason::Reason,
        spawn::list_of,
    },
    in_use::InUse,
};

/// How long is waited before a put for others that change together with this one, and how often again while there are any.
const TOGETHER: Duration = Duration::from_millis(150);
const PATIENCE: u32 = 8;

/// What a ReplicationConfig depends on.
pub(crate) struct References {
    registry: Option<Registry>,
    connection: Option<Arc<Connection>>,
    configs: Store<DeserializeGuard<ReplicationConfig>>,
    /// Every registry for which there is a Registry here.
    registries: BTreeSet<(AccountId, Region)>,
    places: Arc<place::Places>,
    client: Client,
    events: Events,
}

/// What is known of the images that destinations use.
struct Known<'a> {
    registries: &'a BTreeSet<(AccountId, Region)>,
    in_use: &'a InUse,
}

impl Covers for Known<'_> {
    fn covers(&self, rule: &ReplicationRule, to: &ReplicationDestination) -> Result<(), Refused> {
        let key = (to.registry_id.clone(), to.region.clone());
        let what = format!("a rule replicates deletions to {} in {}", to.registry_id, to.region);
        if !self.registries.contains(&key) {
            let message =
                format!("{what}, and which images are used there is not known: this cluster has no Registry for it");
            return Err(Refused {
                reason: Reason::RegistryNotReady,
                message,
                waits: true,
            });
        }
        let filters = rule.repository_filters.as_ref();
        let is_meant = |name: &str| filters.is_none_or(|filters| filters.iter().any(|f| name.starts_with(&f.filter)));
        self.in_use.covers(&key, is_meant).map_err(|why| Refused {
            reason: Reason::Protecting,
            message: format!("{what}, and what is used there is not kept from clean-up here yet: {why}"),
            waits: true,
        })
    }
}

impl Managed for ReplicationConfig {
    type World = World;
    type References = References;
    type Observed = Seen;
    type Step = Step;
    type Status = ReplicationConfigStatus;

    const KIND: &'static str = "ReplicationConfig";

    fn status(&self) -> Option<&ReplicationConfigStatus> {
        self.status.as_ref()
    }

    fn common(status: &ReplicationConfigStatus) -> &CommonStatus {
        &status.common
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    async fn refer(&self, ctx: &Context<World>) -> Result<References> {
        let world = &ctx.world;
        let name = &self.spec.registry_ref.name;
        // Before the list is complete, rules of objects that were not seen yet would be taken for obsolete.
        world.readiness.until_done(&list_of::<Self>()).await;
        let registry = match self.metadata.deletion_timestamp {
            Some(_) => world.read_registry(name).await?,
            None => world.registry(name).await?,
        };
        let state = world.registries.state();
        let known = state.iter().filter_map(|guard| guard.0.as_ref().ok());
        Ok(References {
            registry,
            connection: world.connection(name),
            configs: world.replication_configs.clone(),
            registries: known
                .map(|registry| (registry.spec.registry_id.clone(), registry.spec.region.clone()))
                .collect(),
            places: Arc::clone(&world.replicating),
            client: world.client.clone(),
            events: ctx.events.clone(),
        })
    }

    async fn observe(&self, goal: Goal, look: Look, references: &References) -> Result<Seen> {
        let name = &self.spec.registry_ref.name;
        let standing = references
            .connection
            .as_ref()
            .and_then(|connection| connection.standing());
        let manage = match plan::gate(name, references.registry.as_ref(), standing) {
            Gate::Open { manage } => manage,
            shut => return Ok(Seen::Shut(shut)),
        };
        let (registry, connection) = references.open()?;
        let own = references.part(self)?;
        if goal == Goal::Present && look == Look::Routine && is_trusted(self, manage, &own) {
            return Ok(Seen::Trusted { manage });
        }
        let begun = Instant::now();
        let key = (registry.spec.registry_id.clone(), registry.spec.region.clone());
        let mut kept = references.places.enter(key).await;
        let live = act::read(connection, &mut kept, begun, look == Look::Asked).await?;
        let written = match manage {
            true => act::written(references, registry, &mut kept).await?,
            false => BTreeSet::new(),
        };
        let mut sight = Box::new(Sight {
            manage,
            name: self.name_any(),
            live,
            written,
            parts: references.parts()?,
            kept,
        });
        if manage && sight.is_to_be_put() {
            // What was read a moment ago may tell that all is done, but not what there is to do.
            sight.live = act::read(connection, &mut sight.kept, begun, true).await?;
        }
        for _ in 0..PATIENCE {
            if !manage || !sight.is_to_be_put() {
                break;
            }
            tokio::time::sleep(TOGETHER).await;
            let parts = references.parts()?;
            if parts == sight.parts {
                break;
            }
            sight.parts = parts;
        }
        Ok(Seen::Open(sight))
    }

    fn plan(&self, goal: Goal, _: &References, seen: &Seen, _: Timestamp) -> Plan<Step> {
        let has_rules = self.status.as_ref().is_some_and(|status| !status.in_force.is_empty());
        plan::plan(goal, seen, |why| plan::left_behind(has_rules, why))
    }

    async fn apply(&self, step: &Step, references: &References, seen: Seen) -> Result<Seen> {
        let Seen::Open(sight) = seen else {
            return Err(AwsError::incomplete("apply", "a document to change").into());
        };
        let (registry, connection) = references.open()?;
        let sight = act::change(step, references, registry, connection, sight).await?;
        Ok(Seen::Open(sight))
    }

    fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> ReplicationConfigStatus {
        let mut status = ReplicationConfigStatus {
            common,
            ..self.status.clone().unwrap_or_default()
        };
        if let Some(Seen::Open(sight)) = told.seen
            && sight.manage
            && let Some(rules) = sight.in_force()
        {
            let asked: Vec<_> = self.spec.rules.iter().map(parts::meaning).collect();
            status.in_force = match rules == asked {
                true => self.spec.rules.clone(),
                false => rules.iter().filter_map(parts::rule).collect(),
            };
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
        matches!(seen, Seen::Open(sight) if sight.manage && sight.is_drift())
    }

    /// What was found right before or after a put may be another document.
    fn changes_the_plan(step: &Step) -> bool {
        matches!(step, Step::Put(_))
    }

    fn headline(steps: &[Step]) -> &'static str {
        match steps.first() {
            Some(Step::Put(_)) => "ReplicationPut",
            _ => "Updated",
        }
    }

    fn rhythm(&self, _: &References, _: &Result<Verdict>) -> Option<Duration> {
        None
    }

    fn is_a_look(seen: &Seen) -> bool {
        !matches!(seen, Seen::Shut(_))
    }

    /// Whoever was held up by a limit may have room now, and what is to be kept of images in use may be another.
    fn concluded(&self, ctx: &Context<World>, _: &References, seen: Option<&Seen>, outcome: &Result<Verdict>) {
        if matches!(seen, Some(Seen::Open(_))) && matches!(outcome, Ok(Verdict::Settled { .. })) {
            ctx.world.hint(Hint::Replication(self.spec.registry_ref.name.clone()));
        }
    }

    fn seen(&self, ctx: &Context<World>) {
        if self.spec.rules.iter().any(deletes)
            && let Some(connection) = ctx.world.connection(&self.spec.registry_ref.name)
        {
            connection.in_use.wake_for_replication();
        }
    }
}

impl References {
    fn open(&self) -> Result<(&Registry, &Arc<Connection>)> {
        match (&self.registry, &self.connection) {
            (Some(registry), Some(connection)) => Ok((registry, connection)),
            _ => Err(AwsError::incomplete("DescribeRegistry", "a connection").into()),
        }
    }

    fn part(&self, object: &ReplicationConfig) -> Result<Part> {
        let (registry, connection) = self.open()?;
        let known = Known {
            registries: &self.registries,
            in_use: &connection.in_use,
        };
        Ok(parts::part(object, registry, &known))
    }

    /// What every object of the registry asks for, the oldest first.
    fn parts(&self) -> Result<Vec<Part>> {
        let (registry, _) = self.open()?;
        let name = registry.name_any();
        let state = self.configs.state();
        let mut objects = Vec::new();
        for guard in &state {
            match &guard.0 {
                Ok(object) if object.spec.registry_ref.name == name => objects.push(object),
                Ok(_) => {}
                // Which rules it has cannot be known, and they are not to be taken for obsolete.
                Err(invalid) => {
                    let name = invalid.metadata.name.clone().unwrap_or_default();
                    return Err(crate::control::error::Error::Refused {
                        what: "put the rules of all ReplicationConfigs together".into(),
                        why: format!("ReplicationConfig {name} cannot be read: {}", invalid.error),
                    });
                }
            }
        }
        objects.sort_by_key(|object| (object.creation_timestamp().map(|time| time.0), object.name_any()));
        objects.into_iter().map(|object| self.part(object)).collect()
    }
}

/// Whether the object was seen to be settled as it is now.
fn is_trusted(object: &ReplicationConfig, manage: bool, own: &Part) -> bool {
    let Some(status) = &object.status else { return false };
    let reason = if manage { Reason::Settled } else { Reason::Observed };
    let is_ready = status.common.conditions.iter().any(|condition| {
        condition.type_ == "Ready"
            && condition.status == "True"
            && condition.reason == reason.as_str()
            && condition.observed_generation == object.metadata.generation
    });
    is_ready && own.refused.is_none() && (own.settled || !manage)
}

impl World {
    /// The ReplicationConfigs that a hint means.
    pub(crate) fn meant_replication(&self, hint: &Hint) -> Vec<ObjectRef<DeserializeGuard<ReplicationConfig>>> {
        let (registry, only_held_up) = match hint {
            Hint::Registry(registry) | Hint::Look { registry, asked: true } => (registry, false),
            Hint::Replication(registry) => (registry, true),
            _ => return Vec::new(),
        };
        let is_meant = |object: &ReplicationConfig| {
            let conditions = object.status.iter().flat_map(|status| &status.common.conditions);
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
            object.spec.registry_ref.name == *registry && !(only_held_up && ready.any(|ready| ready.status == "True"))
        };
        let state = self.replication_configs.state();
        let meant = state.iter().filter(|guard| guard.0.as_ref().is_ok_and(is_meant));
        meant.map(|guard| ObjectRef::from_obj(guard.as_ref())).collect()
    }
}
