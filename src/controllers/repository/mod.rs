//! Repository: reads a repository, carries out the steps that [`plan`] decides on, and tells what was seen.

pub(crate) mod cleanup;
pub(crate) mod desired;
pub(crate) mod gate;
pub(crate) mod plan;
#[cfg(test)]
mod plan_tests;

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;

use self::{
    desired::Desired,
    gate::Gate,
    plan::{Facts, Images, Live, LivePolicy, Seen, Sight, Step, Trusted},
};
use super::{
    lifecycle::nudge::repository_seen,
    registry::{connection::Connection, plan::is_ours},
    world::{Hint, Identity, Labels, World},
};
use crate::{
    api::{
        CLAIM_REPOSITORY, OWNER_TAG, Registry, Repository,
        names::{NameError, RepositoryName},
        repository::{DeletionPolicy, DriftStatus, RepositoryStatus},
        status::CommonStatus,
    },
    aws::{
        error::{AwsError, Fault},
        record::Record,
    },
    control::{
        context::Context,
        error::Result,
        events::cut,
        finalizer,
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
        reason::Reason,
    },
    document::policy::Policy,
};

/// The pause between the two reads that must agree that a repository is gone.
const READ_AGAIN: Duration = Duration::from_secs(1);

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

    async fn observe(&self, goal: Goal, look: Look, references: &References) -> Result<Seen> {
        let (desired, manage, connection) = match enter(self, references) {
            Ok(entered) => entered,
            Err(shut) => return Ok(Seen::Shut(shut)),
        };
        if goal == Goal::Present && look == Look::Routine && is_trusted(self, &desired, manage, connection) {
            let message = plan::unverified(&desired);
            let cleanup = match manage {
                true => Some(Box::new(
                    look_at_trusted(self, look, references, connection, &desired).await?,
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
                look_at_present(self, look, connection, &mut sight).await?;
                look_at_cleanup(self, look, references, connection, &mut sight).await?;
            }
            Goal::Absent => look_at_absent(connection, references, &mut sight).await?,
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
                *live = Some(create(connection, name, creation, &sight.desired).await?);
                // Somebody may have been faster, and have filled it.
                look_at_cleanup(self, Look::Full, references, connection, &mut sight).await?;
            }
            (Step::PreviewLifecycle { .. } | Step::PutLifecycle { .. } | Step::RemoveLifecycle { .. }, _) => {
                let name = sight.desired.name.clone();
                if let Some(seen) = &mut sight.cleanup {
                    cleanup::change(connection, &name, step, seen).await?;
                }
            }
            (Step::Delete { images, .. }, live) => {
                sight.deletion_sent = delete(connection, &sight.desired, *images, live).await?;
            }
            (_, Some(live)) => change(connection, step, live).await?,
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
            let held_up = sight
                .cleanup
                .as_ref()
                .is_some_and(|cleanup| is_held_up_by(cleanup, &status.common));
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
        let Seen::Open(sight) = seen else { return false };
        // A policy that was not put yet is something new, and a preview changes nothing.
        let anew = sight
            .cleanup
            .as_ref()
            .is_some_and(|cleanup| match cleanup::decide(cleanup) {
                cleanup::Decision::Step(Step::PreviewLifecycle { .. }) => true,
                cleanup::Decision::Step(_) => cleanup.recorded.asked != cleanup.wish.asked(),
                cleanup::Decision::Rest(_) => false,
            });
        if anew {
            return false;
        }
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

    fn rhythm(&self, _: &References) -> Option<Duration> {
        None
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
    let desired = desired::compose(object, name, registry, &grants, &references.identity.owner).map_err(|verdict| {
        match object.metadata.deletion_timestamp {
            // What could never be valid has nothing in AWS, and what no longer is must not be stuck.
            Some(_) => Gate::Lost(verdict),
            None => Gate::Closed(verdict),
        }
    })?;
    Ok((desired, manage, connection))
}

/// Whether nothing but the lifecycle policy keeps the object from being settled.
fn is_held_up_by(sight: &cleanup::Sight, common: &CommonStatus) -> bool {
    let cleanup::Decision::Rest(Some(verdict)) = cleanup::decide(sight) else {
        return false;
    };
    let ready = common.conditions.iter().find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|ready| ready.reason == verdict.reason().as_str())
}

/// Whether the object was settled with exactly what is wanted now, and the shared listing shows nothing else.
fn is_trusted(object: &Repository, desired: &Desired, manage: bool, connection: &Connection) -> bool {
    let Some(status) = &object.status else { return false };
    let ready = status.common.conditions.iter().any(|condition| {
        let settled = condition.status == "True"
            && condition.reason == (if manage { Reason::Settled } else { Reason::Observed }).as_str();
        let held_up = status
            .lifecycle_policy
            .as_ref()
            .is_some_and(|cleanup| manage && condition.reason == cleanup.reason);
        condition.type_ == "Ready"
            && (settled || held_up)
            && condition.observed_generation == object.metadata.generation
    });
    let same = status.desired_hash.as_deref() == Some(desired.hash().as_str());
    let Some(record) = connection.inventory.get(&desired.name) else {
        return false;
    };
    let identity = !manage || (status.created_at == Some(record.created_at) && finalizer::is_on(object));
    ready && same && identity && desired.matches(&record)
}

/// Reads what a repository that is to be there looks like.
async fn look_at_present(object: &Repository, look: Look, connection: &Connection, sight: &mut Sight) -> Result<()> {
    let name = &sight.desired.name;
    let recorded = object.status.as_ref().and_then(|status| status.created_at);
    let mut record = match look {
        // Whoever asks for a look now wants more than the last listing.
        Look::Asked => connection.look_up(name).await?,
        Look::Routine | Look::Full => connection.inventory.get(name),
    };
    if record.is_none() && recorded.is_some() && sight.manage {
        (record, sight.vanished) = look_for_lost(connection, name).await?;
    }
    let Some(record) = record else { return Ok(()) };
    let policy = sight.desired.policy.is_some();
    let mut live = read(connection, record, policy).await?;
    if sight.manage && live.tags.get(OWNER_TAG) != Some(&sight.desired.owner) {
        // Whether it may be taken rests on which repository it is. The listing may be older than the tags, and show one
        // that was deleted and created again since.
        sight.live = match connection.look_up(name).await? {
            Some(record) if record.created_at == live.record.created_at => {
                live.record = record;
                Some(live)
            }
            Some(record) => Some(read(connection, record, policy).await?),
            // The next look starts from what ECR says now, and makes sure that it is gone.
            None => {
                return Err(AwsError::incomplete("DescribeRepositories", "the repository that was just read").into());
            }
        };
        return Ok(());
    }
    sight.live = Some(live);
    Ok(())
}

/// Reads what is to be known of the lifecycle policy of a repository that is to be there.
async fn look_at_cleanup(
    object: &Repository,
    look: Look,
    references: &References,
    connection: &Connection,
    sight: &mut Sight,
) -> Result<()> {
    let fresh = match &sight.live {
        None => true,
        Some(live) => live.images == Images::None,
    };
    let status = object.status.as_ref();
    let recorded = status
        .and_then(|status| status.lifecycle_policy.clone())
        .unwrap_or_default();
    let adopted = sight.manage && status.is_none_or(|status| status.created_at.is_none());
    let name = &sight.desired.name;
    let about = (false, fresh, adopted);
    sight.cleanup = Some(cleanup::look(connection, name, references.cleanup.clone(), recorded, look, about).await?);
    Ok(())
}

/// Reads what is to be known of the lifecycle policy where all else is known to be settled.
async fn look_at_trusted(
    object: &Repository,
    look: Look,
    references: &References,
    connection: &Connection,
    desired: &Desired,
) -> Result<Trusted> {
    let status = object.status.as_ref();
    let recorded = status
        .and_then(|status| status.lifecycle_policy.clone())
        .unwrap_or_default();
    let wish = references.cleanup.clone();
    let held = match cleanup::is_answered(&wish, &recorded) {
        true => None,
        false => Some(connection.lock(&desired.name).await),
    };
    let about = (true, false, false);
    Ok(Trusted {
        name: desired.name.clone(),
        cleanup: cleanup::look(connection, &desired.name, wish, recorded, look, about).await?,
        lock: held,
    })
}

/// A repository that was ours and that the listing no longer shows: gone only if ECR itself says so twice, in the right
/// account.
async fn look_for_lost(connection: &Connection, name: &RepositoryName) -> Result<(Option<Arc<Record>>, bool)> {
    let account = connection.account(true).await?;
    if account != connection.registry_id.as_str() {
        return Err(AwsError::incomplete("GetCallerIdentity", "the account of the Registry").into());
    }
    for read in 0..2 {
        if read > 0 {
            tokio::time::sleep(READ_AGAIN).await;
        }
        if let Some(record) = connection.look_up(name).await? {
            return Ok((Some(record), false));
        }
    }
    Ok((None, true))
}

/// Reads what the deletion of a repository depends on, all of it from ECR itself.
async fn look_at_absent(connection: &Connection, references: &References, sight: &mut Sight) -> Result<()> {
    let name = &sight.desired.name;
    let Some(record) = connection.look_up(name).await? else {
        return Ok(());
    };
    let mut live = read(connection, record, false).await?;
    let ours = live.tags.get(OWNER_TAG) == Some(&sight.desired.owner);
    if ours && sight.desired.deletion != DeletionPolicy::Retain {
        let claim = CLAIM_REPOSITORY
            .parse()
            .map_err(|_| AwsError::incomplete("DescribeRepositories", "a claim name"))?;
        let claim = connection.read_claim(&claim).await?;
        sight.claim_held = claim.is_some_and(|claim| is_ours(&claim, &references.identity));
        live.images = look_at_images(connection, name, sight.desired.deletion).await?;
    }
    sight.live = Some(live);
    Ok(())
}

async fn look_at_images(
    connection: &Connection,
    name: &RepositoryName,
    deletion: DeletionPolicy,
) -> Result<Images, AwsError> {
    if !connection.ecr.holds_images(name).await? {
        return Ok(Images::None);
    }
    if deletion != DeletionPolicy::DeleteWithImages {
        return Ok(Images::Some);
    }
    let in_use = connection
        .ecr
        .find_image_tag(name, crate::api::IN_USE_TAG_PREFIX)
        .await?;
    Ok(in_use.map_or(Images::Some, Images::Protected))
}

/// Reads what the listing does not show.
async fn read(connection: &Connection, record: Arc<Record>, policy: bool) -> Result<Live, AwsError> {
    let name = record.name.clone();
    let read = async {
        let tags = connection.ecr.tags(&record.arn).await?;
        let policy = match policy {
            true => live_policy(connection.ecr.policy(&name).await?.as_deref()),
            false => LivePolicy::Unread,
        };
        Ok(Live {
            record: Arc::clone(&record),
            tags,
            policy,
            images: Images::Unread,
        })
    };
    let answer: Result<Live, AwsError> = read.await;
    if let Err(error) = &answer
        && error.fault == Fault::NotFound
    {
        // It went between the listing and this call: the next look starts from what ECR says now.
        connection.inventory.forget(&name);
    }
    answer
}

fn live_policy(text: Option<&str>) -> LivePolicy {
    match text.map(Policy::parse) {
        None => LivePolicy::Absent,
        Some(Ok(policy)) => LivePolicy::Known(policy),
        Some(Err(error)) => LivePolicy::Unknown(error.to_string()),
    }
}

/// Creates the repository. Where one of the name exists, whoever was faster, it is read instead.
async fn create(
    connection: &Connection,
    name: &RepositoryName,
    creation: &crate::aws::client::Creation,
    desired: &Desired,
) -> Result<Live, AwsError> {
    match connection.ecr.create(name, creation).await {
        Ok(record) => {
            let record = Arc::new(record);
            connection.inventory.note(Arc::clone(&record));
            // No answer echoes the tags; ECR sets them in the same step, and a new repository has no policy.
            Ok(Live {
                record,
                tags: creation.tags.clone(),
                policy: LivePolicy::Absent,
                images: Images::None,
            })
        }
        Err(error) if error.is("RepositoryAlreadyExistsException") => match connection.look_up(name).await? {
            Some(record) => read(connection, record, desired.policy.is_some()).await,
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Deletes the repository and looks whether it is gone. False: ECR refused, because of an image that came meanwhile.
async fn delete(
    connection: &Connection,
    desired: &Desired,
    images: bool,
    live: &mut Option<Live>,
) -> Result<bool, AwsError> {
    let name = &desired.name;
    match connection.ecr.delete(name, images).await {
        Ok(()) => {}
        Err(error) if error.fault == Fault::NotFound => {}
        Err(error) if error.is("RepositoryNotEmptyException") => {
            // An image was pushed after we looked. What may become of it is decided on a look at all images, as if this
            // one had been there at first: it may be in use already.
            if let Some(live) = live {
                live.images = look_at_images(connection, name, desired.deletion).await?;
            }
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    if connection.look_up(name).await?.is_none() {
        *live = None;
    }
    Ok(true)
}

/// Carries out a step on a repository that exists and notes what ECR answered.
async fn change(connection: &Connection, step: &Step, live: &mut Live) -> Result<(), AwsError> {
    let ecr = &connection.ecr;
    let name = live.record.name.clone();
    match step {
        Step::Tag { set, .. } => {
            ecr.tag(&live.record.arn, set).await?;
            live.tags.extend(set.clone());
        }
        Step::Untag { keys } => {
            ecr.untag(&live.record.arn, keys).await?;
            live.tags.retain(|key, _| !keys.contains(key));
        }
        Step::Release { .. } => {
            ecr.untag(&live.record.arn, &[OWNER_TAG.to_owned()]).await?;
            live.tags.remove(OWNER_TAG);
        }
        Step::SetMutability { to, .. } => {
            let mutability = ecr.put_mutability(&name, to).await?;
            renew(connection, live, |record| record.mutability = mutability);
        }
        Step::SetScanOnPush { to } => {
            let scan_on_push = ecr.put_scan_on_push(&name, *to).await?;
            renew(connection, live, |record| record.scan_on_push = scan_on_push);
        }
        Step::SetPolicy { to, .. } => live.policy = live_policy(Some(&ecr.set_policy(&name, &to.to_text()).await?)),
        Step::RemovePolicy { .. } => {
            ecr.delete_policy(&name).await?;
            live.policy = LivePolicy::Absent;
        }
        // Handled where they are applied.
        Step::Create { .. }
        | Step::Delete { .. }
        | Step::PreviewLifecycle { .. }
        | Step::PutLifecycle { .. }
        | Step::RemoveLifecycle { .. } => {}
    }
    Ok(())
}

fn renew(connection: &Connection, live: &mut Live, change: impl FnOnce(&mut Record)) {
    let mut record = Record::clone(&live.record);
    change(&mut record);
    live.record = Arc::new(record);
    connection.inventory.note(Arc::clone(&live.record));
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
