//! What pull-through cache rules and creation templates have in common: ECR keeps them in one list a registry, by prefix,
//! without tags. One listing serves all objects of a kind; whose an entry is stands in the status of its object.

pub(crate) mod plan;

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::channel::mpsc::UnboundedSender;
use kube::{
    Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::reflector::{ObjectRef, Store},
};

use self::plan::{Entry, Facts, Seen, Sight, Wish};
use super::{
    access::{Denied, Request, access},
    registry::{claim_name, connection::Connection, plan::is_ours},
    world::{Hint, Identity, World},
};
use crate::{
    api::{
        PullThroughCacheRule, Registry, RepositoryCreationTemplate,
        prefixed::{OwnedStatus, RetainOrDelete},
        repository::DriftStatus,
    },
    aws::{
        cache_rules::CacheRule,
        error::{AwsError, Fault},
        listing::{Listing, key},
        templates::CreationTemplate,
    },
    control::{
        context::Context,
        error::{Error, Result},
        events::cut,
        managed::{Look, Managed, Told},
        plan::{Goal, Verdict},
        reason::Reason,
        spawn::list_of,
    },
    events::message::Setting,
};

/// How old a listing may be, in parts of the interval at which objects look: those of one registry share one.
const AGE: f64 = 0.8;

/// The listings of one registry.
#[derive(Debug, Default)]
pub(crate) struct Listings {
    pub cache_rules: Listing<CacheRule>,
    pub templates: Listing<CreationTemplate>,
}

/// What of these kinds is watched, and the way to have them looked at.
pub(crate) struct Watches {
    pub cache_rules: Watch<PullThroughCacheRule>,
    pub templates: Watch<RepositoryCreationTemplate>,
}

/// The objects of a kind, and the way to have them looked at.
pub(crate) struct Watch<K: Resource<DynamicType = ()> + 'static> {
    pub objects: Store<DeserializeGuard<K>>,
    pub looks: UnboundedSender<Hint>,
}

impl Watches {
    /// Asks for a look at what a hint means.
    pub(crate) fn hint(&self, hint: &Hint) {
        // Nobody listens only while the program ends.
        let _ = self.cache_rules.looks.unbounded_send(hint.clone());
        let _ = self.templates.looks.unbounded_send(hint.clone());
    }

    /// The prefixes that objects of a Registry speak of: all, or the one that is given if any does.
    pub(crate) fn prefixes(&self, registry: &str, setting: Setting, prefix: Option<&str>) -> HashSet<String> {
        match setting {
            Setting::CacheRule => self.cache_rules.prefixes(registry, prefix),
            Setting::Template => self.templates.prefixes(registry, prefix),
        }
    }
}

impl<K: Prefixed> Watch<K> {
    /// The objects that a hint means.
    pub(crate) fn meant(&self, hint: &Hint) -> Vec<ObjectRef<DeserializeGuard<K>>> {
        let is_meant = |object: &K| match hint {
            Hint::Registry(registry) => object.registry_name() == registry,
            Hint::Settings {
                registry,
                setting,
                prefixes,
            } => {
                *setting == K::SETTING && object.registry_name() == registry && prefixes.contains(&key(object.prefix()))
            }
            _ => false,
        };
        let state = self.objects.state();
        let meant = state.iter().filter(|guard| guard.0.as_ref().is_ok_and(is_meant));
        meant.map(|guard| ObjectRef::from_obj(guard.as_ref())).collect()
    }

    fn prefixes(&self, registry: &str, prefix: Option<&str>) -> HashSet<String> {
        let wanted = prefix.map(key);
        let state = self.objects.state();
        let objects = state.iter().filter_map(|guard| guard.0.as_ref().ok());
        let of_registry = objects.filter(|object| object.registry_name() == registry);
        let prefixes = of_registry.map(|object| key(object.prefix()));
        prefixes
            .filter(|prefix| wanted.as_ref().is_none_or(|wanted| wanted == prefix))
            .collect()
    }
}

/// A kind whose objects mean an entry of such a list.
pub(crate) trait Prefixed: Managed<World = World, References = References> {
    /// The entry in words, such as `pull-through cache rule`.
    const WHAT: &'static str;

    /// What events call the kind.
    const SETTING: Setting;

    type Entry: Entry;

    fn watch(world: &World) -> &Watch<Self>;
    fn listing(connection: &Connection) -> &Listing<Self::Entry>;
    fn registry_name(&self) -> &str;
    fn prefix(&self) -> &str;
    fn owned(&self) -> Option<&OwnedStatus>;
    fn adopts(&self) -> bool;
    fn deletion(&self) -> RetainOrDelete;

    /// All entries of the registry.
    fn list(connection: &Connection) -> impl Future<Output = Result<Vec<(String, Self::Entry)>, AwsError>> + Send;

    /// The entry of a prefix as ECR has it now.
    fn look_up(
        connection: &Connection,
        prefix: &str,
    ) -> impl Future<Output = Result<Option<Self::Entry>, AwsError>> + Send;

    fn facts(&self) -> Facts {
        Facts {
            what: format!("{} {}", Self::WHAT, self.prefix()),
            owned: self.owned().cloned(),
            adopt: self.adopts(),
            deletion: self.deletion(),
        }
    }
}

/// What an object depends on.
pub(crate) struct References {
    pub identity: Identity,
    pub registry: Option<Registry>,
    pub connection: Option<Arc<Connection>>,
    /// The object that has the prefix before this one.
    pub elder: Option<String>,
    pub interval: Duration,
}

pub(crate) async fn refer<K: Prefixed>(object: &K, ctx: &Context<World>) -> Result<References> {
    let world = &ctx.world;
    let name = object.registry_name();
    // An object that was not seen yet would be taken not to exist.
    world.readiness.until_done(&list_of::<K>()).await;
    Ok(References {
        identity: world.identity.clone(),
        registry: match object.meta().deletion_timestamp {
            // Whether anything may still be deleted must not rest on a watch that is behind.
            Some(_) => world.read_registry(name).await?,
            None => world.registry(name).await?,
        },
        connection: world.connection(name),
        elder: elder(object, &K::watch(world).objects),
        interval: world.inventory_interval,
    })
}

/// The object that has the prefix before this one: one that has its entry on record already, else the older one.
fn elder<K: Prefixed>(object: &K, objects: &Store<DeserializeGuard<K>>) -> Option<String> {
    let rank = |object: &K| {
        let recorded = object.owned().is_some_and(|owned| owned.created_at.is_some());
        let since = object.creation_timestamp().map(|time| time.0);
        // One of a file that is only planned is the youngest of all.
        (!recorded, since.is_none(), since, object.name_any())
    };
    let same = |other: &K| {
        other.registry_name() == object.registry_name()
            && key(other.prefix()) == key(object.prefix())
            && other.name_any() != object.name_any()
            && other.meta().deletion_timestamp.is_none()
    };
    let state = objects.state();
    let others = state.iter().filter_map(|guard| guard.0.as_ref().ok());
    let first = others.filter(|other| same(other)).min_by_key(|other| rank(other))?;
    (rank(first) < rank(object)).then(|| format!("{} {}", K::KIND, first.name_any()))
}

/// Reads an entry. At rest the shared listing is all that is read; before anything is written, ECR itself is asked.
pub(crate) async fn observe<K, W, V>(
    object: &K,
    wish: Result<&W, Verdict>,
    goal: Goal,
    look: Look,
    references: &References,
) -> Result<Seen<K::Entry, V>>
where
    K: Prefixed,
    W: Wish<Live = K::Entry>,
{
    // Nothing of AWS bears on such a deletion, and a registry that cannot be reached must not stop it.
    if goal == Goal::Absent && object.deletion() == RetainOrDelete::Retain {
        return Ok(Seen::Unread);
    }
    let request = Request::of_cluster(object.registry_name(), references.registry.as_ref());
    let connection = references.connection.as_deref().and_then(Connection::with_standing);
    let (manage, connection) = match access(&request, connection) {
        Ok(access) => (access.manage, access.connection),
        Err(denied) => return Ok(Seen::Shut(denied)),
    };
    let wish = match (goal, wish) {
        (Goal::Present, Err(verdict)) => return Ok(Seen::Shut(Denied::NotNow(verdict))),
        (_, wish) => wish,
    };
    let prefix = object.prefix();
    let held = K::listing(connection).lock(prefix).await;
    let facts = object.facts();
    let live = match goal {
        Goal::Present => {
            let age = references.interval.mul_f64(AGE);
            K::listing(connection).get(prefix, age, K::list(connection)).await?
        }
        Goal::Absent => look_up::<K>(connection, prefix).await?,
    };
    let mut sight = Sight {
        manage,
        elder: references.elder.clone(),
        live,
        vanished: false,
        made: false,
        refused: None,
        claim_held: false,
        deletion_sent: false,
        tried: None,
        lock: Some(held),
    };
    match (goal, wish) {
        (Goal::Present, Ok(wish)) => {
            let at_rest = plan::present(&facts, wish, &sight, jiff::Timestamp::now());
            let to_write = manage && !at_rest.steps.is_empty();
            if to_write || look == Look::Asked {
                sight.live = look_up::<K>(connection, prefix).await?;
            }
            let recorded = facts.owned.is_some_and(|owned| owned.created_at.is_some());
            if manage && recorded && sight.live.is_none() {
                sight.vanished = true;
                let account = connection.account(true).await?;
                if account != connection.registry_id.as_str() {
                    return Err(AwsError::incomplete("GetCallerIdentity", "the account of the Registry").into());
                }
            }
        }
        (Goal::Absent, _) if manage && sight.live.is_some() && facts.owned.is_some() => {
            let claim = connection.read_claim(&claim_name()?).await?;
            sight.claim_held = claim.is_some_and(|claim| is_ours(&claim, &references.identity));
        }
        _ => {}
    }
    Ok(Seen::Open(Box::new(sight)))
}

/// Asks ECR itself, and notes what it shows.
pub(crate) async fn look_up<K: Prefixed>(
    connection: &Connection,
    prefix: &str,
) -> Result<Option<Arc<K::Entry>>, AwsError> {
    let found = K::look_up(connection, prefix).await?.map(Arc::new);
    note::<K>(connection, prefix, found.as_ref()).await;
    Ok(found)
}

/// Notes what an answer of ECR showed.
pub(crate) async fn note<K: Prefixed>(connection: &Connection, prefix: &str, found: Option<&Arc<K::Entry>>) {
    match found {
        Some(entry) => K::listing(connection).note(prefix, Arc::clone(entry)).await,
        None => K::listing(connection).forget(prefix).await,
    }
}

/// What became of a creation.
pub(crate) async fn created<K: Prefixed, V>(
    connection: &Connection,
    prefix: &str,
    answer: Result<K::Entry, AwsError>,
    sight: &mut Sight<K::Entry, V>,
) -> Result<()> {
    match answer {
        Ok(entry) => {
            let entry = Arc::new(entry);
            note::<K>(connection, prefix, Some(&entry)).await;
            sight.live = Some(entry);
            sight.made = true;
        }
        // Somebody was faster, or an earlier answer of ours was lost: whose it is tells what is on record.
        Err(error) if error.fault == Fault::Conflict => {
            sight.live = look_up::<K>(connection, prefix).await?;
            if sight.live.is_none() {
                return Err(error.into());
            }
        }
        // Such an answer is certain; after any other one, it may have been created.
        Err(error)
            if matches!(error.fault, Fault::Denied | Fault::Invalid | Fault::Quota) && !error.code.is_empty() =>
        {
            let error = Error::from(error);
            sight.refused = Some((error.reason(), error.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Asks after a deletion whether the entry is gone.
pub(crate) async fn deleted<K: Prefixed, V>(
    connection: &Connection,
    prefix: &str,
    sight: &mut Sight<K::Entry, V>,
) -> Result<()> {
    sight.deletion_sent = true;
    sight.live = look_up::<K>(connection, prefix).await?;
    Ok(())
}

/// What was seen, where a step is to be taken.
pub(crate) fn opened<E, V>(seen: Seen<E, V>) -> Result<Box<Sight<E, V>>> {
    match seen {
        Seen::Open(sight) => Ok(sight),
        Seen::Shut(_) | Seen::Unread => Err(nothing_to_change().into()),
    }
}

pub(crate) fn nothing_to_change() -> AwsError {
    AwsError::incomplete("apply", "what is to be changed")
}

/// How soon to look again: what others hold, or fixed otherwise, may be let go any time, and a look costs a share of a listing.
pub(crate) fn rhythm(references: &References, outcome: &Result<Verdict>) -> Option<Duration> {
    let looks = match outcome {
        Ok(Verdict::Settled { .. } | Verdict::Observed { .. }) => true,
        Ok(Verdict::Blocked { reason, .. }) => {
            matches!(
                reason,
                Reason::OwnedByAnother | Reason::Exists | Reason::Immutable | Reason::Conflict
            )
        }
        _ => false,
    };
    looks.then(|| references.interval.mul_f64(0.9 + 0.1 * fastrand::f64()))
}

/// Whether an entry is this object's and as it asks; steps that follow then are because somebody changed it.
pub(crate) fn is_settled_with(owned: Option<&OwnedStatus>, recorded: Option<&str>, hash: &str) -> bool {
    owned.is_some_and(|owned| owned.created_at.is_some()) && recorded == Some(hash)
}

/// The drift with what was put right in this reconcile.
pub(crate) fn drift<K: Managed>(old: Option<DriftStatus>, told: &Told<'_, K>) -> Option<DriftStatus> {
    if told.repaired.is_empty() {
        return old;
    }
    let mut drift = old.unwrap_or_default();
    let count = u32::try_from(told.repaired.len()).unwrap_or(u32::MAX);
    drift.repaired = drift.repaired.saturating_add(count);
    drift.last = told.repaired.join("; ");
    cut(&mut drift.last, 1_000);
    drift.last_at = Some(told.now);
    Some(drift)
}

/// A digest of what is asked for. It must not change with a new version of the operator unless the meaning does.
pub(crate) fn digest(value: &serde_json::Value) -> String {
    crate::digest::short(&value.to_string())
}
