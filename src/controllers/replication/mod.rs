//! ReplicationConfig: all objects of a registry become one document. Each object's reconcile puts the whole of it, under a
//! lock, so that of many that change together the first does the work of all.

mod act;
mod backfill;
mod leave;
pub(crate) mod parts;
pub(crate) mod place;
mod plan;
#[cfg(test)]
mod plan_tests;
mod verify;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::{
    Client, ResourceExt as _,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};
use tokio::time::Instant;

use self::{
    parts::{Covers, Part, Refused, deletes},
    plan::{Seen, Sight, Step},
};
use super::{
    access::{Access, Request, access},
    registry::connection::Connection,
    world::{Hint, World},
};
use crate::{
    api::{
        Registry, ReplicationConfig,
        replication::{Backfill, BackfillStatus, ReplicationConfigStatus, ReplicationDestination, ReplicationRule},
        repository::DriftStatus,
        status::CommonStatus,
    },
    aws::error::AwsError,
    control::{
        context::Context,
        error::Result,
        events::{Events, cut},
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict, Warning},
        reason::Reason,
        spawn::list_of,
    },
    in_use::InUse,
    metrics::replication::Figures,
};

/// How long is waited before a put for others that change together with this one, and how often again while there are any.
const TOGETHER: Duration = Duration::from_millis(150);
const PATIENCE: u32 = 8;

/// How soon a round of questions that is due is begun.
const SOON: Duration = Duration::from_secs(5);

/// What a ReplicationConfig depends on.
pub(crate) struct References {
    registry: Option<Registry>,
    connection: Option<Arc<Connection>>,
    configs: Store<DeserializeGuard<ReplicationConfig>>,
    registries: leave::Known,
    places: Arc<place::Places>,
    client: Client,
    events: Events,
}

/// What is known of the images that destinations use.
struct Known<'a> {
    registries: &'a leave::Known,
    in_use: &'a InUse,
}

impl Covers for Known<'_> {
    fn covers(&self, rule: &ReplicationRule, to: &ReplicationDestination) -> Result<(), Refused> {
        let key = (to.registry_id.clone(), to.region.clone());
        let what = format!("a rule replicates deletions to {} in {}", to.registry_id, to.region);
        if !self.registries.contains_key(&key) {
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

    fn lane(&self) -> String {
        self.spec.registry_ref.name.clone()
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
            registries: leave::known(known),
            places: Arc::clone(&world.replicating),
            client: world.client.clone(),
            events: ctx.events.clone(),
        })
    }

    async fn observe(&self, goal: Goal, look: Look, references: &References) -> Result<Seen> {
        let name = &self.spec.registry_ref.name;
        let request = Request::of_cluster(name, references.registry.as_ref());
        let connection = references.connection.as_deref().and_then(Connection::with_standing);
        let Access {
            registry,
            connection,
            manage,
            ..
        } = match access(&request, connection) {
            Ok(access) => access,
            Err(denied) => return Ok(Seen::Shut(denied)),
        };
        let own = references.part(self)?;
        let needed = leave::needed(self, &registry.spec.registry_id, &references.registries);
        let asked = look == Look::Asked;
        // Not with the daily look, nor for a plan: it has a rhythm of its own.
        let verified = match (goal, look) {
            (Goal::Present, Look::Routine | Look::Asked) => {
                verify::round(self, manage, connection, asked).await.map(Box::new)
            }
            _ => None,
        };
        let trusted = goal == Goal::Present && look == Look::Routine && is_trusted(self, manage, &own);
        if trusted && !self.follows_backfills() {
            return Ok(Seen::Trusted {
                manage,
                message: backfill::trouble(self.told_backfills()),
                verified,
                needed,
            });
        }
        let begun = Instant::now();
        let key = (registry.spec.registry_id.clone(), registry.spec.region.clone());
        let mut kept = references.places.enter(key).await;
        let live = match kept.known().filter(|_| trusted) {
            // Only the backfills are followed.
            Some(known) => known,
            None => act::read(connection, &mut kept, begun, asked).await?,
        };
        let record = match manage {
            true => act::recorded(references, registry, &mut kept).await?,
            false => place::Record::default(),
        };
        let mut sight = Box::new(Sight {
            manage,
            name: self.name_any(),
            live,
            record,
            known: None,
            unsent: BTreeMap::new(),
            earlier: self.told_backfills().to_vec(),
            verified,
            needed,
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
        if goal == Goal::Present {
            act::follow(connection, &mut sight, begun, asked).await?;
        }
        Ok(Seen::Open(sight))
    }

    fn plan(&self, goal: Goal, _: &References, seen: &Seen, _: Timestamp) -> Plan<Step> {
        let has_rules = self.status.as_ref().is_some_and(|status| !status.in_force.is_empty());
        let mut plan = plan::plan(goal, seen, |why| plan::left_behind(has_rules, why));
        let last = self.status.as_ref().and_then(|status| status.verification.as_ref());
        // Told once, and again after all had arrived.
        if let Some(message) = seen.verified().and_then(verify::trouble)
            && last.and_then(verify::trouble).is_none()
        {
            plan.warnings.push(Warning {
                reason: "NotReplicated",
                message,
            });
        }
        plan
    }

    async fn apply(&self, step: &Step, references: &References, seen: Seen) -> Result<Seen> {
        let Seen::Open(sight) = seen else {
            return Err(AwsError::incomplete("apply", "a document to change").into());
        };
        let (registry, connection) = references.open()?;
        let mut sight = act::change(step, references, registry, connection, sight).await?;
        act::follow(connection, &mut sight, Instant::now(), false).await?;
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
        match told.seen {
            Some(Seen::Open(sight)) if sight.manage && self.backfills() => status.backfills = sight.told(),
            // What is not followed any more would never be told to be over.
            _ if !self.backfills() => status.backfills.retain(backfill::is_over),
            _ => {}
        }
        if let Some(needed) = told.seen.and_then(Seen::needed) {
            status.policies_needed = needed.to_vec();
        }
        let verified = told.seen.and_then(Seen::verified);
        match &self.spec.verify {
            None => status.verification = None,
            Some(_) => status.verification = verified.cloned().or(status.verification),
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
            Some(Step::Backfill(_)) => "BackfillStarted",
            _ => "Updated",
        }
    }

    /// Whatever is on its way is followed.
    fn rhythm(&self, _: &References, seen: Option<&Seen>, outcome: &Result<Verdict>) -> Option<Duration> {
        if !matches!(outcome, Ok(Verdict::Settled { .. } | Verdict::Observed { .. })) {
            return None;
        }
        let now = Timestamp::now();
        if let Seen::Open(sight) = seen?
            && let Some(pause) = backfill::pause(&sight.told(), now)
        {
            return Some(pause);
        }
        let verify = self.spec.verify.as_ref()?;
        let last = self.status.as_ref().and_then(|status| status.verification.as_ref());
        let last = seen.and_then(Seen::verified).or(last);
        Some(last.map_or(verify::NOTHING_YET, |last| {
            verify::until(verify, last, now).unwrap_or(SOON)
        }))
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

impl ReplicationConfig {
    fn backfills(&self) -> bool {
        self.spec.backfill == Backfill::OnChange
    }

    fn follows_backfills(&self) -> bool {
        self.backfills() && !self.told_backfills().iter().all(backfill::is_over)
    }

    fn told_backfills(&self) -> &[BackfillStatus] {
        self.status.as_ref().map_or(&[], |status| &status.backfills)
    }

    /// What metrics tell of it. From its status, so that a restart needs no look to tell it again.
    pub(crate) fn figures(&self) -> Figures<'_> {
        let backfills = self.told_backfills().iter();
        Figures {
            name: self.name_any(),
            backfills: backfills.map(|one| (&one.destination, backfill::state(one))).collect(),
            verification: self.status.as_ref().and_then(|status| status.verification.as_ref()),
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
        let changed = self.registries.state().into_iter().find_map(|guard| {
            let registry = guard.0.as_ref().ok().filter(|found| found.name_any() == *registry)?;
            Some((registry.spec.registry_id.clone(), registry.spec.region.clone()))
        });
        let is_meant = |object: &ReplicationConfig| {
            // Whether it lets images in may have changed.
            let mut places = object.spec.rules.iter().flat_map(|rule| &rule.destinations);
            if let (Hint::Registry(_), Some((account, region))) = (hint, &changed)
                && places.any(|to| to.registry_id == *account && to.region == *region)
            {
                return true;
            }
            let conditions = object.status.iter().flat_map(|status| &status.common.conditions);
            let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
            object.spec.registry_ref.name == *registry && !(only_held_up && ready.any(|ready| ready.status == "True"))
        };
        let state = self.replication_configs.state();
        let meant = state.iter().filter(|guard| guard.0.as_ref().is_ok_and(is_meant));
        meant.map(|guard| ObjectRef::from_obj(guard.as_ref())).collect()
    }
}
