//! Carries out the steps on a repository, and notes what ECR answered.

use std::sync::Arc;

use super::{
    desired::Desired,
    look,
    plan::{Images, Live, LivePolicy},
    step::Step,
};
use crate::{
    api::{OWNER_TAG, names::RepositoryName},
    aws::{
        client::Creation,
        error::{AwsError, Fault},
        record::Record,
    },
    controllers::registry::connection::Connection,
};

/// Creates the repository. Where one of the name exists, whoever was faster, it is read instead.
pub(super) async fn create(
    connection: &Connection,
    name: &RepositoryName,
    creation: &Creation,
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
            Some(record) => look::read(connection, record, desired.policy.is_some()).await,
            None => Err(error),
        },
        Err(error) => Err(error),
    }
}

/// Deletes the repository and looks whether it is gone. False: ECR refused, because of an image that came meanwhile.
pub(super) async fn delete(
    connection: &Connection,
    desired: &Desired,
    images: bool,
    live: &mut Option<Live>,
) -> Result<bool, AwsError> {
    let name = &desired.name;
    match connection.ecr.delete(name, images).await {
        Ok(()) => {}
        Err(error) if error.fault == Fault::NotFound => {}
        // Rights that are bound to our tag do not hold for what is gone: an answer may have been lost, and the SDK asked again.
        Err(error) if error.fault == Fault::Denied => {
            if connection.look_up(name).await?.is_some() {
                return Err(error);
            }
        }
        Err(error) if error.is("RepositoryNotEmptyException") => {
            // An image was pushed after we looked. What may become of it is decided on a look at all images, as if this
            // one had been there at first: it may be in use already.
            if let Some(live) = live {
                live.images = look::images(connection, name, desired.deletion).await?;
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
pub(super) async fn change(connection: &Connection, step: &Step, live: &mut Live) -> Result<(), AwsError> {
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
            match ecr.untag(&live.record.arn, &[OWNER_TAG.to_owned()]).await {
                // The same: the tag may be off by an attempt whose answer was lost.
                Err(error) if error.fault == Fault::Denied => {
                    if ecr.tags(&live.record.arn).await?.contains_key(OWNER_TAG) {
                        return Err(error);
                    }
                }
                untagged => untagged?,
            }
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
        Step::SetPolicy { to, .. } => {
            live.policy = look::live_policy(Some(&ecr.set_policy(&name, &to.to_text()).await?));
        }
        Step::RemovePolicy { .. } => {
            ecr.delete_policy(&name).await?;
            live.policy = LivePolicy::Absent;
        }
        // Handled where they are applied.
        Step::Create { .. }
        | Step::Delete { .. }
        | Step::In { .. }
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
