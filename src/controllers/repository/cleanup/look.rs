//! Reads the lifecycle policy and its preview, and carries out the steps.

use jiff::Timestamp;

use super::{Claim, Foreseen, Live, Outcome, Sight, Step, Wish, is_answered, mark};
use crate::{
    api::{
        IN_USE_TAG_PREFIX,
        lifecycle::{AppliedLifecycle, CleanupMode},
        names::RepositoryName,
    },
    aws::{
        error::{AwsError, Fault},
        lifecycle::{Listed, Preview},
    },
    control::managed::Look,
    controllers::registry::connection::Connection,
    document::lifecycle::Policy,
    in_use::Protection,
};

/// Looks at the lifecycle policy of a repository that exists. `trusted`: everything else of it is as it was settled.
pub(in super::super) async fn look(
    connection: &Connection,
    name: &RepositoryName,
    wish: Wish,
    recorded: AppliedLifecycle,
    how: Look,
    (trusted, fresh, adopted): (bool, bool, bool),
) -> Result<Sight, AwsError> {
    let mut sight = Sight {
        wish,
        live: Live::Unread,
        foreseen: Foreseen::No,
        recorded,
        routine: how == Look::Routine,
        protection: None,
        protected: 0,
        unreleasable: None,
        fresh,
    };
    // Told each time: a connection that was opened anew knows nothing of it.
    let protects = matches!(&sight.wish, Wish::Claimed(claim) if claim.protect && claim.mode == CleanupMode::Enforce);
    connection.in_use.request(name, protects);
    if protects {
        sight.protection = Some(connection.in_use.protection(name));
        sight.protected = connection.in_use.protected(name);
        sight.unreleasable = connection.in_use.cannot_release(name);
    }
    if fresh {
        sight.live = Live::Absent;
        return Ok(sight);
    }
    if sight.routine && is_answered(&sight.wish, &sight.recorded) && !adopted {
        return Ok(sight);
    }
    let waits = !matches!(sight.protection, None | Some(Protection::Complete));
    if sight.routine && waits && !adopted {
        // Nothing can be put yet, so there is no need to know what is there.
        return Ok(sight);
    }
    let reads = match &sight.wish {
        Wish::Held { .. } => false,
        Wish::Unclaimed => adopted || !sight.recorded.put.is_empty(),
        // Where all else is known to be settled, a new document replaces what was put, whatever became of that.
        Wish::Claimed(_) => !(trusted && sight.routine && !sight.recorded.put.is_empty()),
    };
    if reads {
        sight.live = match connection.ecr.lifecycle(name).await {
            Ok(text) => read(text.as_deref()),
            // It would only have been shown.
            Err(error)
                if error.fault == Fault::Denied && sight.recorded.put.is_empty() && sight.wish == Wish::Unclaimed =>
            {
                Live::Unread
            }
            Err(error) => return Err(error),
        };
    }
    if let Wish::Claimed(claim) = &sight.wish
        && (claim.guard.is_some() || claim.mode == CleanupMode::Preview || sight.protected > 0)
    {
        sight.foreseen = foresee(connection, name, claim).await?;
    }
    Ok(sight)
}

fn read(text: Option<&str>) -> Live {
    match text.map(Policy::parse) {
        None => Live::Absent,
        Some(Ok(policy)) => Live::Known(policy),
        Some(Err(error)) => Live::Unknown(error.to_string()),
    }
}

/// What ECR says, if it was asked by us for this document.
async fn foresee(connection: &Connection, name: &RepositoryName, claim: &Claim) -> Result<Foreseen, AwsError> {
    let mark = mark(&claim.document);
    let Some(at) = connection.previews.started(name, &mark) else {
        return Ok(Foreseen::No);
    };
    Ok(match connection.ecr.preview(name).await? {
        Preview::Running => Foreseen::Running,
        Preview::Ended(why) => {
            connection.previews.forget(name);
            Foreseen::Failed(why)
        }
        Preview::Done { text, doomed } => {
            connection.previews.forget(name);
            match Policy::parse(&text) {
                // A preview has no name: only its text tells that it is ours.
                Ok(policy) if policy.means_the_same(&claim.document) => {
                    let meant = |digest: &str| doomed.iter().any(|image| image.digest == digest);
                    let stock = connection.ecr.stock(name, meant).await?;
                    let is_in_use = |image: &&Listed| {
                        image.tags.iter().any(|tag| tag.starts_with(IN_USE_TAG_PREFIX))
                            || image
                                .digest
                                .parse()
                                .is_ok_and(|digest| connection.in_use.protects(name, &digest))
                    };
                    let in_use = doomed
                        .iter()
                        .filter(is_in_use)
                        .map(|image| image.digest.clone())
                        .collect();
                    Foreseen::Yes(Outcome {
                        doomed,
                        in_use,
                        stock,
                        at,
                    })
                }
                _ => Foreseen::No,
            }
        }
    })
}

/// Carries out a step and notes what ECR answered.
pub(in super::super) async fn change(
    connection: &Connection,
    name: &RepositoryName,
    step: &Step,
    sight: &mut Sight,
) -> Result<(), AwsError> {
    match step {
        Step::PreviewLifecycle { document, .. } => {
            sight.foreseen = match connection.ecr.start_preview(name, &document.to_text()).await? {
                true => {
                    connection.previews.note(name, mark(document), Timestamp::now());
                    Foreseen::Running
                }
                false => Foreseen::Foreign,
            };
        }
        Step::PutLifecycle { to, .. } => {
            let stored = connection.ecr.put_lifecycle(name, &to.to_text()).await?;
            sight.live = read(Some(&stored));
        }
        Step::RemoveLifecycle { .. } => {
            connection.ecr.delete_lifecycle(name).await?;
            sight.live = Live::Absent;
        }
        _ => {}
    }
    Ok(())
}
