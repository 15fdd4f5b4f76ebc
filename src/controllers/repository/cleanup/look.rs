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
    control::{managed::Look, reason::Reason},
    controllers::registry::{connection::Connection, previews::Started},
    document::lifecycle::Policy,
    in_use::Protection,
};

/// What is known of the repository otherwise.
#[expect(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(in super::super) struct About {
    /// Whether anything may be written.
    pub manage: bool,
    /// All else of it is as it was settled.
    pub trusted: bool,
    /// It was created in this reconcile, or does not exist yet.
    pub fresh: bool,
    /// It is seen for the first time.
    pub adopted: bool,
}

/// Looks at the lifecycle policy of a repository.
pub(in super::super) async fn look(
    connection: &Connection,
    name: &RepositoryName,
    wish: Wish,
    recorded: AppliedLifecycle,
    how: Look,
    about: About,
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
        fresh: about.fresh,
        mends: false,
    };
    if sight.wish.protects() && about.manage {
        sight.protection = Some(connection.in_use.protection(name));
        sight.protected = connection.in_use.protected(name);
        sight.unreleasable = connection.in_use.cannot_release(name);
    }
    if !matches!(sight.wish, Wish::Claimed(_)) {
        connection.previews.forget(name);
    }
    if about.fresh {
        sight.live = Live::Absent;
        return Ok(sight);
    }
    let asks_ecr = connection.previews.is_pending(name);
    if sight.routine && is_answered(&sight.wish, &sight.recorded) && !about.adopted && !asks_ecr {
        return Ok(sight);
    }
    let waits = !matches!(sight.protection, None | Some(Protection::Complete));
    if sight.routine && waits && !about.adopted {
        // Nothing can be put yet, so there is no need to know what is there.
        return Ok(sight);
    }
    if reads(&sight, &about) {
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
        && about.manage
    {
        let unchecked = !sight.routine && sight.protected > 0 && !asks_ecr;
        let in_force = matches!(&sight.live, Live::Known(live) if live.means_the_same(&claim.document));
        if unchecked && in_force && connection.ecr.start_preview(name, &claim.document.to_text()).await? {
            // What is in force may have come to act on an image in use; the next look reads what ECR says.
            let started = Started {
                at: Timestamp::now(),
                mends: false,
            };
            connection.previews.note(name, mark(&claim.document), started);
        } else if claim.guard.is_some() || claim.mode == CleanupMode::Preview || sight.protected > 0 {
            let ours = connection
                .previews
                .started(name, &mark(&claim.document), Timestamp::now());
            sight.foreseen = foresee(connection, name, claim, ours).await?;
            sight.mends = ours.is_some_and(|ours| ours.mends);
        }
    }
    sight.mends |= was_changed(&sight);
    Ok(sight)
}

/// Whether what is there needs to be read.
fn reads(sight: &Sight, about: &About) -> bool {
    let recorded = &sight.recorded;
    match &sight.wish {
        Wish::Held { .. } => false,
        Wish::Unclaimed => about.adopted || !recorded.put.is_empty() || !recorded.putting.is_empty(),
        Wish::Claimed(claim) => {
            let mark = mark(&claim.document);
            let unknown = !recorded.putting.is_empty() && recorded.putting != mark;
            let settled = recorded.reason == Reason::Settled.as_str();
            // Where all else is known to be settled, a new document replaces what was put, whatever became of that.
            let replaces = about.trusted && sight.routine && !recorded.put.is_empty();
            !replaces || unknown || (recorded.put == mark && !settled)
        }
    }
}

/// Whether something else is there than what is recorded to have been put for this wish.
fn was_changed(sight: &Sight) -> bool {
    let Wish::Claimed(claim) = &sight.wish else {
        return false;
    };
    let settled = sight.recorded.reason == Reason::Settled.as_str() && sight.recorded.put == mark(&claim.document);
    settled
        && match &sight.live {
            Live::Known(live) => !live.means_the_same(&claim.document),
            Live::Absent | Live::Unknown(_) => true,
            Live::Unread => false,
        }
}

fn read(text: Option<&str>) -> Live {
    match text.map(Policy::parse) {
        None => Live::Absent,
        Some(Ok(policy)) => Live::Known(policy),
        Some(Err(error)) => Live::Unknown(error.to_string()),
    }
}

/// What ECR says, if it was asked by us for this document.
async fn foresee(
    connection: &Connection,
    name: &RepositoryName,
    claim: &Claim,
    ours: Option<Started>,
) -> Result<Foreseen, AwsError> {
    let Some(Started { at, .. }) = ours else {
        connection.previews.forget(name);
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
                        .collect::<Vec<_>>();
                    if !in_use.is_empty() {
                        // Its tag may be gone.
                        connection.in_use.doubt(name);
                    }
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
                    let started = Started {
                        at: Timestamp::now(),
                        mends: sight.mends,
                    };
                    connection.previews.note(name, mark(document), started);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::repository::cleanup::tests::{claim, document, sight};

    #[test]
    fn what_may_be_there_is_read_where_the_answer_to_a_put_was_lost() {
        let trusted = About {
            manage: true,
            trusted: true,
            fresh: false,
            adopted: false,
        };
        let reads = |put: &Policy, putting: Option<&Policy>, reason: Reason| {
            let mut sight = sight(claim(14), Live::Unread);
            sight.routine = true;
            sight.recorded.put = mark(put);
            sight.recorded.putting = putting.map(mark).unwrap_or_default();
            sight.recorded.reason = reason.as_str().to_owned();
            reads(&sight, &trusted)
        };
        let (old, new) = (document(30), document(14));
        assert!(
            !reads(&old, None, Reason::Settled),
            "it is replaced, whatever became of it"
        );
        assert!(!reads(&old, Some(&new), Reason::Settled), "putting it again is no harm");
        assert!(
            reads(&old, Some(&document(7)), Reason::Settled),
            "one that nobody wants any more may be there"
        );
        assert!(!reads(&new, None, Reason::Settled));
        assert!(
            reads(&new, None, Reason::Guarded),
            "it was ours, and nobody looked since"
        );
    }

    #[test]
    fn what_was_put_and_is_not_there_any_more_was_changed_by_somebody_else() {
        let changed = |put: &Policy, reason: Reason, live: Live| {
            let mut sight = sight(claim(14), live);
            sight.recorded.put = mark(put);
            sight.recorded.reason = reason.as_str().to_owned();
            was_changed(&sight)
        };
        let (old, new) = (document(30), document(14));
        assert!(changed(&new, Reason::Settled, Live::Absent));
        assert!(changed(&new, Reason::Settled, Live::Known(old.clone())));
        assert!(!changed(&new, Reason::Settled, Live::Known(new.clone())));
        assert!(!changed(&new, Reason::Settled, Live::Unread));
        assert!(
            !changed(&old, Reason::Settled, Live::Known(old.clone())),
            "the policy is another one now"
        );
        assert!(
            !changed(&new, Reason::Protected, Live::Absent),
            "it was taken off by this object"
        );
    }
}
