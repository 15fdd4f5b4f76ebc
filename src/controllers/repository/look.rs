//! What is read of a repository, and how closely.

use std::{sync::Arc, time::Duration};

use super::{
    cleanup::{self, About},
    desired::Desired,
    place::Place,
    plan::{self, Images, Live, LivePolicy, Sight, Trusted},
};
use crate::{
    api::{
        CLAIM_REPOSITORY, OWNER_TAG, Repository, lifecycle::AppliedLifecycle, names::RepositoryName,
        repository::DeletionPolicy,
    },
    aws::{
        error::{AwsError, Fault},
        record::Record,
    },
    control::{error::Result, managed::Look},
    controllers::registry::{connection::Connection, plan::is_ours},
    document::policy::Policy,
};

/// The pause between the two reads that must agree that a repository is gone.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Reads what a repository that is to be there looks like.
pub(super) async fn present(object: &Repository, look: Look, connection: &Connection, sight: &mut Sight) -> Result<()> {
    let name = &sight.desired.name;
    let recorded = object.status.as_ref().and_then(|status| status.created_at);
    let mut record = match look {
        // Whoever asks for a look now wants more than the last listing.
        Look::Asked => connection.look_up(name).await?,
        Look::Routine | Look::Full => connection.inventory.get(name),
    };
    if record.is_none() && recorded.is_some() && sight.manage {
        (record, sight.vanished) = lost(connection, name).await?;
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

/// A repository that was ours and that the listing no longer shows: gone only if ECR itself says so twice, in the right
/// account.
async fn lost(connection: &Connection, name: &RepositoryName) -> Result<(Option<Arc<Record>>, bool)> {
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
pub(super) async fn absent(connection: &Connection, place: &Place, sight: &mut Sight) -> Result<()> {
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
        sight.claim_held = claim.is_some_and(|claim| is_ours(&claim, &place.identity));
        live.images = images(connection, name, sight.desired.deletion).await?;
    }
    sight.live = Some(live);
    Ok(())
}

pub(super) async fn images(
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

/// Reads what is to be known of the lifecycle policy of a repository that is to be there.
pub(super) async fn cleanup_of(
    object: &Repository,
    look: Look,
    place: &Place,
    connection: &Connection,
    sight: &mut Sight,
) -> Result<()> {
    let Some(wish) = &place.cleanup else { return Ok(()) };
    let fresh = match &sight.live {
        None => true,
        Some(live) if sight.manage && plan::ownership(object, &sight.desired, live).is_some() => return Ok(()),
        Some(live) => live.images == Images::None,
    };
    let about = About {
        manage: sight.manage,
        trusted: false,
        fresh,
        adopted: sight.manage && object.status.as_ref().is_none_or(|status| status.created_at.is_none()),
    };
    let (wish, recorded) = (wish.clone(), recorded(object));
    let seen = cleanup::look(connection, &sight.desired.name, wish, recorded, look, about);
    sight.cleanup = Some(seen.await?);
    Ok(())
}

/// Reads what is to be known of the lifecycle policy where all else is known to be settled.
pub(super) async fn trusted(
    object: &Repository,
    look: Look,
    wish: &cleanup::Wish,
    connection: &Connection,
    desired: &Desired,
) -> Result<Trusted> {
    let (wish, recorded) = (wish.clone(), recorded(object));
    let held = match cleanup::is_answered(&wish, &recorded) {
        true => None,
        false => Some(connection.lock(&desired.name).await),
    };
    let about = About {
        manage: true,
        trusted: true,
        fresh: false,
        adopted: false,
    };
    Ok(Trusted {
        name: desired.name.clone(),
        cleanup: cleanup::look(connection, &desired.name, wish, recorded, look, about).await?,
        lock: held,
    })
}

/// Reads what the listing does not show.
pub(super) async fn read(connection: &Connection, record: Arc<Record>, policy: bool) -> Result<Live, AwsError> {
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

pub(super) fn live_policy(text: Option<&str>) -> LivePolicy {
    match text.map(Policy::parse) {
        None => LivePolicy::Absent,
        Some(Ok(policy)) => LivePolicy::Known(policy),
        Some(Err(error)) => LivePolicy::Unknown(error.to_string()),
    }
}

/// What is recorded of the lifecycle policy.
fn recorded(object: &Repository) -> AppliedLifecycle {
    let status = object.status.as_ref();
    status
        .and_then(|status| status.lifecycle_policy.clone())
        .unwrap_or_default()
}
