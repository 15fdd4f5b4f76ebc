//! The same repository in other Registries: reads and writes there, each apart from the others.

pub(crate) mod plan;
#[cfg(test)]
mod plan_tests;

use std::time::Duration;

use self::plan::{Failure, Observed, Outlook, Replica};
use super::{References, place, step::Step};
use crate::{
    api::Repository,
    control::{managed::Look, plan::Goal, reason::Reason},
};

/// How long a look at a replica may take, its turn at the repository's lock included. The repository itself waits for it, and two
/// objects that have each other's repository for a replica would wait for each other for ever.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at all replicas at once, where they are to be looked at now and were not.
pub(super) async fn look(object: &Repository, goal: Goal, how: Look, references: &References, seen: &mut Observed) {
    if !plan::follow(object, goal, references.main.registry_id(), &seen.main) {
        return;
    }
    let may_write = plan::may_write(goal, &seen.main);
    let unread = seen.replicas.iter_mut().filter(|replica| {
        // An object that only observes gives nothing up.
        matches!(replica.outlook, Outlook::Unread) && (may_write || replica.goal == Goal::Present)
    });
    futures::future::join_all(unread.map(|replica| look_at(replica, how, may_write, references))).await;
}

async fn look_at(replica: &mut Replica, how: Look, may_write: bool, references: &References) {
    let place = match references.replicas.get(&replica.registry) {
        Some(Ok(place)) => place,
        Some(Err(failure)) => {
            replica.outlook = Outlook::Failed(failure.clone());
            return;
        }
        None => {
            replica.outlook = Outlook::Failed(Failure {
                reason: Reason::Conflict,
                message: "the object was changed meanwhile and is looked at again".to_owned(),
            });
            return;
        }
    };
    replica.account = place.registry_id().cloned();
    replica.only_observed = may_write && place.is_observed();
    let look = place::observe(&replica.object, replica.goal, how, may_write, place);
    replica.outlook = match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(seen)) => Outlook::Seen(seen),
        Ok(Err(error)) => {
            tracing::warn!(registry = replica.registry, %error, "a replica could not be looked at");
            Outlook::Failed(Failure::from(&error))
        }
        Err(_) => Outlook::Failed(Failure {
            reason: Reason::Unavailable,
            message: format!("the registry did not answer within {} s", PATIENCE.as_secs()),
        }),
    };
}

/// Carries out a step on a replica, if it is still what there is to do. What fails is noted and stops nothing else.
pub(super) async fn apply(registry: &str, step: &Step, references: &References, seen: &mut Observed) {
    let Some(replica) = seen.replicas.iter_mut().find(|replica| replica.registry == registry) else {
        return;
    };
    replica.acted = false;
    let Some(Ok(place)) = references.replicas.get(registry) else {
        return;
    };
    if replica.goal == Goal::Absent {
        // Others may have come before it, and taken their time. The lock is given back first.
        replica.outlook = Outlook::Unread;
        look_at(replica, Look::Full, true, references).await;
    }
    // A repository of the name may have turned out to exist and to belong to somebody else.
    if !replica.plan().steps.contains(step) {
        return;
    }
    let Outlook::Seen(before) = std::mem::replace(&mut replica.outlook, Outlook::Unread) else {
        return;
    };
    replica.outlook = match place::apply(&replica.object, step, place, before).await {
        Ok(after) => {
            replica.acted = true;
            Outlook::Seen(after)
        }
        Err(error) => {
            tracing::warn!(registry, %step, %error, "a step on a replica failed");
            Outlook::Failed(Failure::from(&error))
        }
    };
}
