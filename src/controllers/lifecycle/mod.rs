//! LifecyclePolicy and ClusterLifecyclePolicy. They write nothing to AWS: the Repository's reconciler composes, checks and
//! puts what applies to it ([`claim`]), and these report what became of it ([`tally`]).

pub(crate) mod claim;
pub(crate) mod nudge;
pub(crate) mod select;
pub(crate) mod tally;

use std::{fmt, time::Duration};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use self::{
    claim::document,
    nudge::Policies,
    select::PolicyName,
    tally::{Tally, line},
};
use super::world::World;
use crate::{
    api::{
        ClusterLifecyclePolicy, LifecyclePolicy,
        lifecycle::{Cleanup, LifecyclePolicyStatus},
        status::CommonStatus,
    },
    control::{
        context::Context,
        error::Result,
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
    },
    metrics::lifecycle::PolicyLabels,
};

/// How often a policy is counted anew besides each time that one of its Repositories changes.
const RHYTHM: Duration = Duration::from_mins(10);

/// There is no step: a policy only reports.
#[derive(Debug)]
pub(crate) enum Never {}

impl fmt::Display for Never {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// Counts what became of a policy.
async fn count(world: &World, name: &PolicyName, namespace: Option<&str>, cleanup: &Cleanup) -> Result<Tally> {
    let by = name.to_string();
    let mut tally = Tally {
        lines: Vec::new(),
        invalid: document(cleanup).err(),
    };
    world
        .readiness
        .until_done(&crate::control::spawn::list_of::<crate::api::Repository>())
        .await;
    for guard in world.repositories.state() {
        let Ok(repository) = &guard.0 else { continue };
        let own = repository.namespace().unwrap_or_default();
        if namespace.is_some_and(|namespace| namespace != own) || repository.metadata.deletion_timestamp.is_some() {
            continue;
        }
        let Ok(ecr_name) = repository.repository_name() else {
            continue;
        };
        let labels = world.namespace(&own).await?;
        let means = |meaning: Vec<claim::Meaning>| meaning.iter().any(|meaning| meaning.name == *name);
        // Where another policy cannot be read, it may be the one that applies: told as what holds the Repository.
        if !world
            .known_policies_of(repository, &ecr_name, labels.as_ref())
            .map_or(true, means)
        {
            continue;
        }
        let wish = world.cleanup_of(repository, &ecr_name, labels.as_ref()).await;
        let object = format!("{own}/{}", repository.name_any());
        tally.lines.push(line(object, &wish, &by, repository.status.as_ref()));
    }
    Ok(tally)
}

/// Both kinds differ in who may select what, and in nothing else.
macro_rules! reports {
    ($kind:ident, $called:literal, $name:expr) => {
        impl Managed for $kind {
            type World = World;
            type References = Tally;
            type Observed = Tally;
            type Step = Never;
            type Status = LifecyclePolicyStatus;

            const KIND: &'static str = $called;

            fn status(&self) -> Option<&LifecyclePolicyStatus> {
                self.status.as_ref()
            }

            fn common(status: &LifecyclePolicyStatus) -> &CommonStatus {
                &status.common
            }

            fn is_suspended(&self) -> bool {
                self.spec.cleanup.suspend
            }

            fn lane(&self) -> String {
                String::new()
            }

            async fn refer(&self, ctx: &Context<World>) -> Result<Tally> {
                let name = $name(self.name_any());
                let namespace = self.meta().namespace.as_deref();
                count(&ctx.world, &name, namespace, &self.spec.cleanup).await
            }

            async fn observe(&self, _: Goal, _: Look, tally: &Tally) -> Result<Tally> {
                Ok(tally.clone())
            }

            fn plan(&self, _: Goal, _: &Tally, tally: &Tally, _: Timestamp) -> Plan<Never> {
                tally.plan()
            }

            async fn apply(&self, step: &Never, _: &Tally, _: Tally) -> Result<Tally> {
                match *step {}
            }

            fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> LifecyclePolicyStatus {
                let mut status = LifecyclePolicyStatus {
                    common,
                    ..self.status.clone().unwrap_or_default()
                };
                if let Some(tally) = told.seen {
                    tally.fill(&mut status);
                }
                status
            }

            fn is_drift(&self, _: &Tally) -> bool {
                false
            }

            fn headline(_: &[Never]) -> &'static str {
                "Updated"
            }

            fn rhythm(&self, _: &Tally, _: Option<&Tally>, _: &Result<Verdict>) -> Option<Duration> {
                Some(RHYTHM)
            }

            fn seen(&self, ctx: &Context<World>) {
                Policies::changed(&ctx.world, self.meta());
            }

            fn left(uid: &str, ctx: &Context<World>) {
                Policies::gone(&ctx.world, uid);
                ctx.metrics.lifecycle.forget(uid);
            }

            fn concluded(&self, ctx: &Context<World>, tally: &Tally, _: Option<&Tally>, _: &Result<Verdict>) {
                let labels = PolicyLabels {
                    kind: Self::KIND,
                    namespace: self.namespace().unwrap_or_default(),
                    name: self.name_any(),
                };
                let mut figures = LifecyclePolicyStatus::default();
                tally.fill(&mut figures);
                let uid = self.uid().unwrap_or_default();
                ctx.metrics.lifecycle.counted(&uid, labels, &figures);
            }
        }
    };
}

reports!(LifecyclePolicy, "LifecyclePolicy", PolicyName::Namespaced);
reports!(ClusterLifecyclePolicy, "ClusterLifecyclePolicy", PolicyName::Cluster);
