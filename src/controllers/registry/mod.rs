//! Registry: opens the way to a registry, keeps its inventory fresh, and holds the claim.
//!
//! Its reconcile is also the rhythm of the registry: each one lists the registry, so that one listing serves all objects.

pub(crate) mod connection;
pub(crate) mod documents;
pub(crate) mod plan;
pub(crate) mod previews;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Resource, ResourceExt, api::ListParams, core::DeserializeGuard, runtime::reflector::Store};

use self::{
    connection::Connection,
    plan::{Seen, Step},
};
use super::{
    access::Standing,
    world::{Hint, Identity, World},
};
use crate::{
    api::{
        CLAIM_REPOSITORY, PullSecret, PullThroughCacheRule, Registry, ReplicationConfig, Repository,
        RepositoryCreationTemplate,
        names::RepositoryName,
        registry::{ClaimStatus, EventsStatus, RegistryStatus},
        status::CommonStatus,
    },
    aws::{
        client::Creation,
        error::{AwsError, Fault},
    },
    control::{
        context::Context,
        error::{Error, Result},
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
        reason::Reason,
    },
    events::queues::{Source, State},
    metrics::Metrics,
};

/// How many of the Repositories that hold a Registry back are looked for.
const REFERRERS: u32 = 20;

/// A listing older than this many intervals is no ground to act on.
const STALE: u32 = 5;

/// What a Registry depends on.
pub(crate) struct References {
    pub identity: Identity,
    pub connection: Arc<Connection>,
    pub interval: Duration,
    pub metrics: Metrics,
    /// Another Registry that stands for the same registry and came first.
    pub elder: Option<String>,
    /// How the reading of its events goes.
    pub events: Option<EventsStatus>,
    /// Objects that refer to it, where it is to be deleted.
    pub referrers: Vec<String>,
    /// Repositories that the listing showed to be changed, to be hinted at when the look is over.
    pub changed: Mutex<HashSet<RepositoryName>>,
}

impl Managed for Registry {
    type World = World;
    type References = References;
    type Observed = Seen;
    type Step = Step;
    type Status = RegistryStatus;

    const KIND: &'static str = "Registry";

    fn status(&self) -> Option<&RegistryStatus> {
        self.status.as_ref()
    }

    fn common(status: &RegistryStatus) -> &CommonStatus {
        &status.common
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    fn lane(&self) -> String {
        self.name_any()
    }

    async fn refer(&self, ctx: &Context<World>) -> Result<References> {
        let world = &ctx.world;
        let connection = connect(self, world).await;
        let referrers = match self.meta().deletion_timestamp {
            Some(_) => referrers(self, world).await?,
            None => Vec::new(),
        };
        Ok(References {
            identity: world.identity.clone(),
            connection,
            interval: world.inventory_interval,
            metrics: world.metrics.clone(),
            elder: world.elder_of(self),
            events: events_status(self, world),
            referrers,
            changed: Mutex::default(),
        })
    }

    async fn observe(&self, goal: Goal, look: Look, references: &References) -> Result<Seen> {
        let connection = &references.connection;
        let referrers = references.referrers.clone();
        if goal == Goal::Absent && referrers.is_empty() {
            // Nothing of AWS bears on the deletion, and a registry that cannot be reached must not stop it.
            return Ok(Seen {
                account: String::new(),
                claim: None,
                unconfirmed: false,
                elder: references.elder.clone(),
                events: references.events.clone(),
                in_use: connection.in_use.status(),
                referrers,
            });
        }
        let account = connection.account(look != Look::Routine).await?;
        if account != self.spec.registry_id.as_str() {
            return Ok(Seen {
                account,
                claim: None,
                unconfirmed: false,
                elder: references.elder.clone(),
                events: references.events.clone(),
                in_use: connection.in_use.status(),
                referrers,
            });
        }
        refresh(self, look, references).await?;
        let name = claim_name()?;
        // Asked for before the claim is read: what is read after the pause confirms.
        let unconfirmed = connection.is_unconfirmed(plan::TAKEOVER_PAUSE);
        let claim = connection.claim(&name, look != Look::Routine || unconfirmed).await?;
        if unconfirmed {
            connection.forget_claim();
        }
        connection.looked();
        Ok(Seen {
            account,
            claim,
            unconfirmed,
            elder: references.elder.clone(),
            events: references.events.clone(),
            in_use: connection.in_use.status(),
            referrers,
        })
    }

    fn plan(&self, goal: Goal, references: &References, seen: &Seen, _: Timestamp) -> Plan<Step> {
        plan::plan(self, goal, &references.identity, seen)
    }

    async fn apply(&self, step: &Step, references: &References, seen: Seen) -> Result<Seen> {
        let connection = &references.connection;
        match step {
            Step::Claim { tags } => {
                let creation = Creation {
                    mutability: None,
                    scan_on_push: None,
                    encryption: None,
                    tags: tags.clone(),
                };
                let name = claim_name()?;
                match connection.ecr.create(&name, &creation).await {
                    Ok(record) => connection.inventory.note(Arc::new(record)),
                    // Somebody was faster, or an earlier answer of ours was lost: read who it was.
                    Err(error) if error.fault == Fault::Conflict => {}
                    Err(error) => return Err(error.into()),
                }
                let claim = connection.read_claim(&name).await?;
                Ok(Seen { claim, ..seen })
            }
            Step::TakeOver { arn, from, tags } => {
                let name = claim_name()?;
                // The claim was read up to minutes ago; only the one that spec.takeover names may be overwritten.
                let standing = connection.read_claim(&name).await?;
                let named = standing.as_ref().map(plan::read_claim);
                let expected = ClaimStatus {
                    writer: references.identity.owner.to_string(),
                    cluster: from.clone(),
                };
                if named != Some(expected) {
                    return Ok(Seen {
                        claim: standing,
                        ..seen
                    });
                }
                connection.ecr.tag(arn, tags).await?;
                let claim = connection.read_claim(&name).await?;
                connection.took_over();
                Ok(Seen {
                    claim,
                    unconfirmed: true,
                    ..seen
                })
            }
        }
    }

    fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> RegistryStatus {
        let old = self.status.clone().unwrap_or_default();
        let claim = match told.seen {
            Some(seen) if told.goal == Goal::Present => seen.claim.as_ref().map(plan::read_claim),
            _ => old.claim,
        };
        let events = match told.seen {
            Some(seen) => seen.events.clone(),
            None => old.events,
        };
        let in_use = match told.seen {
            // Nothing is known after a start; who was known before must not be forgotten by that.
            Some(seen) => seen.in_use.clone().or(old.in_use),
            None => old.in_use,
        };
        RegistryStatus {
            common,
            claim,
            events,
            in_use,
            // Others write these; kept so that the status that was read equals the one that is told.
            replication: old.replication,
            documents: old.documents,
        }
    }

    fn own_part(status: &RegistryStatus) -> RegistryStatus {
        RegistryStatus {
            documents: None,
            replication: None,
            ..status.clone()
        }
    }

    fn weigh(&self, verdict: Verdict) -> Verdict {
        documents::told::weigh(self, verdict)
    }

    fn is_drift(&self, _: &Seen) -> bool {
        false
    }

    fn headline(steps: &[Step]) -> &'static str {
        match steps.first() {
            Some(Step::TakeOver { .. }) => "TakenOver",
            _ => "Claimed",
        }
    }

    /// Up to a tenth early, so that registries spread out and a change is still noticed within the interval.
    fn rhythm(&self, references: &References, _: Option<&Seen>, _: &Result<Verdict>) -> Option<Duration> {
        Some(references.interval.mul_f64(0.9 + 0.1 * fastrand::f64()))
    }

    fn seen(&self, ctx: &Context<World>) {
        let documents = &ctx.world.documents;
        documents.wake(self);
        let uid = self.uid().unwrap_or_default();
        let told = self.status.as_ref().and_then(|status| status.documents.as_ref());
        // What was told of the documents bears on whether the Registry is ready.
        if documents.is_news(&uid, told) && told.is_some() {
            let registry = self.name_any();
            ctx.world.hint(Hint::Look { registry, asked: false });
        }
    }

    fn left(uid: &str, ctx: &Context<World>) {
        ctx.world.documents.forget(uid);
        ctx.memory.forget(&documents::key(uid));
    }

    fn concluded(&self, ctx: &Context<World>, references: &References, seen: Option<&Seen>, outcome: &Result<Verdict>) {
        let connection = &references.connection;
        if self.meta().deletion_timestamp.is_some() && matches!(outcome, Ok(Verdict::Settled { .. })) {
            close(self, &ctx.world);
            return;
        }
        let standing = standing(self, references, seen, outcome);
        let generation = self.meta().generation;
        let changed = std::mem::take(&mut *references.changed.lock().unwrap_or_else(PoisonError::into_inner));
        if standing.is_some_and(|standing| connection.set_standing(standing, generation)) {
            ctx.world.hint(Hint::Registry(self.name_any()));
        } else if !changed.is_empty() {
            ctx.world.hint(Hint::Names(self.name_any(), changed));
        }
        ctx.world.documents.wake(self);
        let source = source(self, connection).filter(|_| ctx.world.elder_on_queue(self).is_none());
        ctx.world.queues.set(&self.name_any(), source);
    }
}

/// From where events are to be read; from nowhere while the registry is not to be used at all.
fn source(registry: &Registry, connection: &Arc<Connection>) -> Option<Source> {
    let events = registry.spec.events.as_ref().filter(|_| connection.is_usable())?;
    Some(Source {
        connection: Arc::clone(connection),
        queue_url: events.queue_url.clone(),
    })
}

fn events_status(registry: &Registry, world: &World) -> Option<EventsStatus> {
    registry.spec.events.as_ref()?;
    if let Some(elder) = world.elder_on_queue(registry) {
        let message = format!(
            "Events are not read: the queue is that of Registry {elder}, and SQS gives a message to one reader. Give this Registry \
             a queue of its own."
        );
        return Some(EventsStatus {
            listening: false,
            message,
        });
    }
    Some(match world.queues.state(&registry.name_any())? {
        State::Listening => EventsStatus {
            listening: true,
            message: String::new(),
        },
        State::Failing(message) => EventsStatus {
            listening: false,
            message,
        },
    })
}

/// What the objects of the registry may do after this look; `None` leaves it as it was. It does not depend on whether the
/// Registry is being deleted: while it waits for its objects to go, they need it as before.
fn standing(
    registry: &Registry,
    references: &References,
    seen: Option<&Seen>,
    outcome: &Result<Verdict>,
) -> Option<Standing> {
    let name = registry.name_any();
    let not_ready = |why: String| Some(Standing::NotReady(format!("Registry {name} is not ready: {why}")));
    match (seen, outcome) {
        (Some(seen), _) => {
            let plan = plan::plan(registry, Goal::Present, &references.identity, seen);
            match plan.steps.is_empty() {
                true => Some(standing_of(&name, &plan.verdict)),
                false => not_ready("it is not claimed yet".into()),
            }
        }
        (None, Ok(verdict)) => not_ready(verdict.to_string()),
        (None, Err(error)) => {
            // One failed listing changes nothing; a registry that was never seen, that refuses us, or that was not seen
            // for long is not to be used.
            let connection = &references.connection;
            let fresh = connection
                .look_age()
                .is_some_and(|age| age < references.interval * STALE);
            let refused = error.reason() == Reason::Denied;
            match fresh && !refused && connection.standing().is_some() {
                true => None,
                false => not_ready(error.to_string()),
            }
        }
    }
}

/// What a verdict on the Registry means for its objects.
pub(crate) fn standing_of(name: &str, verdict: &Verdict) -> Standing {
    match verdict {
        Verdict::Settled { .. } => Standing::Managing,
        Verdict::Observed { .. } => Standing::Observing,
        Verdict::Blocked {
            reason: Reason::ManagedElsewhere,
            message,
        } => Standing::ManagedElsewhere(message.clone()),
        verdict => Standing::NotReady(format!("Registry {name} is not ready: {verdict}")),
    }
}

/// The connection of a Registry, opened anew if the Registry now says something else about it.
async fn connect(registry: &Registry, world: &World) -> Arc<Connection> {
    let name = registry.name_any();
    if let Some(connection) = world.connection(&name)
        && connection.fits(&registry.spec)
    {
        return connection;
    }
    // What was learnt of a registry holds for it however it is reached, and by whichever Registry.
    let in_use = world
        .all_connections()
        .find(|other| other.is_to(&registry.spec))
        .map(|other| Arc::clone(&other.in_use))
        .unwrap_or_default();
    let connection = Connection::open(&name, &registry.spec, world.gate.clone(), world.metrics.clone(), in_use);
    let connection = Arc::new(connection.await);
    world
        .connections
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(name, Arc::clone(&connection));
    connection
}

/// Closes the connection of a Registry that goes away.
fn close(registry: &Registry, world: &World) {
    let name = registry.name_any();
    world
        .connections
        .write()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&name);
    world.queues.set(&name, None);
    world.metrics.forget_registry(&name);
}

/// Lists the registry if it is time to.
async fn refresh(registry: &Registry, look: Look, references: &References) -> Result<()> {
    let connection = &references.connection;
    // An edit of the Registry triggers a look between two listings; a burst of edits must not become one of listings.
    let recent = connection
        .listing_age()
        .is_some_and(|age| age < references.interval.mul_f64(0.8));
    if recent && look != Look::Asked {
        return Ok(());
    }
    let changed = connection.inventory.refresh(&connection.ecr).await?;
    connection.listed();
    if changed.contains(&claim_name()?) {
        connection.forget_claim();
    }
    references.metrics.listed(&registry.name_any());
    references
        .changed
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .extend(changed);
    Ok(())
}

/// Objects that refer to the Registry, from the apiserver itself: the watch may not have a new one yet.
async fn referrers(registry: &Registry, world: &World) -> Result<Vec<String>> {
    let name = registry.name_any();
    let has_replica = |repository: &Repository| repository.spec.registry_ref.name != name && repository.is_in(&name);
    let pulls = |secret: &PullSecret| secret.spec.registry_refs.iter().any(|of| of.name == name);
    let mut found = referring::<Repository>(registry, world).await?;
    found.extend(listing(&world.repositories, has_replica, world).await?);
    found.extend(referring::<PullThroughCacheRule>(registry, world).await?);
    found.extend(referring::<RepositoryCreationTemplate>(registry, world).await?);
    found.extend(referring::<ReplicationConfig>(registry, world).await?);
    found.extend(listing(&world.pull_secrets, pulls, world).await?);
    Ok(found)
}

/// The objects of a kind that have the Registry in a list, in words. No selector finds them: the apiserver is asked for all, and
/// only where the watch shows none.
async fn listing<K>(
    watched: &Store<DeserializeGuard<K>>,
    refers: impl Fn(&K) -> bool,
    world: &World,
) -> Result<Vec<String>>
where
    K: Managed,
{
    let told = |objects: &mut dyn Iterator<Item = &K>| -> Vec<String> {
        objects
            .filter(|object| refers(object))
            .map(|object| in_words::<K>(object.meta()))
            .collect()
    };
    let state = watched.state();
    let seen = told(&mut state.iter().filter_map(|guard| guard.0.as_ref().ok()));
    if !seen.is_empty() {
        return Ok(seen);
    }
    let all = Api::<DeserializeGuard<K>>::all(world.client.clone());
    let all = match all.list(&ListParams::default()).await {
        Ok(all) => all.items,
        // The definition of this kind is not installed.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        Err(error) => return Err(Error::kube("list the objects that may refer to the Registry")(error)),
    };
    Ok(told(&mut all.iter().filter_map(|guard| guard.0.as_ref().ok())))
}

/// The objects of a kind that refer to the Registry, in words.
async fn referring<K>(registry: &Registry, world: &World) -> Result<Vec<String>>
where
    K: Managed,
{
    let selector = format!("spec.registryRef.name={}", registry.name_any());
    let params = ListParams::default().fields(&selector).limit(REFERRERS);
    let found = match Api::<K>::all(world.client.clone()).list_metadata(&params).await {
        Ok(found) => found,
        // The definition of this kind is not installed.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        Err(error) => return Err(Error::kube("list the objects that refer to the Registry")(error)),
    };
    Ok(found.items.iter().map(|object| in_words::<K>(object.meta())).collect())
}

/// An object as a message names it.
fn in_words<K: Managed>(meta: &ObjectMeta) -> String {
    let name = meta.name.as_deref().unwrap_or_default();
    match &meta.namespace {
        Some(namespace) => format!("{} {namespace}/{name}", K::KIND),
        None => format!("{} {name}", K::KIND),
    }
}

pub(crate) fn claim_name() -> Result<RepositoryName> {
    CLAIM_REPOSITORY
        .parse()
        .map_err(|error| AwsError::incomplete("DescribeRepositories", &format!("a valid claim name ({error})")).into())
}
