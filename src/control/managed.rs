//! How most kinds are driven: observe, plan, apply, report; and what one has to say for itself.

use std::{fmt, future::Future, time::Duration};

use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::{ClusterResourceScope, NamespaceResourceScope},
    runtime::controller::Action,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    backoff,
    context::Context,
    driven::{Driven, asked},
    error::{Error, Result},
    events::News,
    finalizer,
    plan::{Goal, Plan, Verdict},
    reason::Reason,
    report,
};
use crate::api::status::CommonStatus;

/// Passes per reconcile. The last one must find nothing to do, so that `Ready` rests on an observation made after our
/// own writes, never on the intention to write.
const PASSES: usize = 3;

/// The field manager of our status.
const MANAGER: &str = "ecr-operator";

/// How long an object that changed under our hands is left alone before it is looked at afresh.
const AFRESH: Duration = Duration::from_millis(200);

/// How a kind's scope picks its `Api`.
pub(crate) trait Scoped<K> {
    fn api(client: Client, object: &K) -> Api<K>;
}

impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope>> Scoped<K> for NamespaceResourceScope {
    fn api(client: Client, object: &K) -> Api<K> {
        Api::namespaced(client, &object.namespace().unwrap_or_default())
    }
}

impl<K: Resource<DynamicType = (), Scope = ClusterResourceScope>> Scoped<K> for ClusterResourceScope {
    fn api(client: Client, _: &K) -> Api<K> {
        Api::all(client)
    }
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// What is known to be settled may be trusted.
    Routine,
    /// Everything is read that is not known from a listing that all share.
    Full,
    /// Somebody asked for a look now, or an event tells of a change: everything is read.
    Asked,
}

impl<K: Managed> Driven for K {
    type Shared = K::World;

    const CALLED: &'static str = K::KIND;

    fn lane(&self, _: &Context<K::World>) -> String {
        Managed::lane(self)
    }

    async fn drive(self, ctx: &Context<K::World>) -> (Action, Reason) {
        run(self, ctx).await
    }

    fn seen(&self, ctx: &Context<K::World>) {
        <Self as Managed>::seen(self, ctx);
    }

    fn gone(uid: &str, ctx: &Context<K::World>) {
        Self::left(uid, ctx);
    }
}

/// What one kind has to say for itself; the passes are [`run`].
pub(crate) trait Managed:
    Resource<DynamicType = (), Scope: Scoped<Self>>
    + Clone
    + fmt::Debug
    + Serialize
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What the kinds share among themselves.
    type World: Send + Sync + 'static;
    /// The other objects that this one depends on, and the way to AWS.
    type References: Send + Sync;
    /// A snapshot of everything outside the spec that the decision depends on.
    type Observed: Send + Sync;
    /// One remote change. `Display` is the line that `ecr-operator plan` prints.
    type Step: fmt::Display + Send + Sync;
    type Status: Serialize + DeserializeOwned + Clone + Default + PartialEq + Send + Sync;

    const KIND: &'static str;

    fn status(&self) -> Option<&Self::Status>;

    /// The part of the status that all kinds have.
    fn common(status: &Self::Status) -> &CommonStatus;

    fn is_suspended(&self) -> bool;

    /// The registry that is called for it, or those that are; empty where none is.
    fn lane(&self) -> String;

    /// Finds what the object refers to, within Kubernetes.
    fn refer(&self, ctx: &Context<Self::World>) -> impl Future<Output = Result<Self::References>> + Send;

    /// Reads the world; changes nothing.
    fn observe(
        &self,
        goal: Goal,
        look: Look,
        references: &Self::References,
    ) -> impl Future<Output = Result<Self::Observed>> + Send;

    /// Decides. Not async, no context, no clock of its own: the signature keeps it pure.
    fn plan(
        &self,
        goal: Goal,
        references: &Self::References,
        seen: &Self::Observed,
        now: Timestamp,
    ) -> Plan<Self::Step>;

    /// Carries out one step and returns what is known to be there after it. Must tolerate the step having been done
    /// before.
    fn apply(
        &self,
        step: &Self::Step,
        references: &Self::References,
        seen: Self::Observed,
    ) -> impl Future<Output = Result<Self::Observed>> + Send;

    /// The whole status after a reconcile; the common part is given. `seen` is absent where nothing could be read.
    fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> Self::Status;

    /// The part of the status that this loop writes, where somebody else writes another part of it.
    fn own_part(status: &Self::Status) -> Self::Status {
        status.clone()
    }

    /// The verdict as it is told, where what another controller says of the object bears on it.
    fn weigh(&self, verdict: Verdict) -> Verdict {
        verdict
    }

    /// Whether steps are taken because somebody changed what was settled, rather than because the object asks for
    /// something new.
    fn is_drift(&self, seen: &Self::Observed) -> bool;

    /// Whether the steps after this one are planned anew before they are taken: its outcome may show that they are not to
    /// be taken at all.
    fn changes_the_plan(_: &Self::Step) -> bool {
        false
    }

    /// Whether the step only says whose the thing is, and changes nothing of it.
    fn is_adoption(_: &Self::Step) -> bool {
        false
    }

    /// Whether an Event tells of the step. The log does in any case.
    fn is_news(_: &Self::Step) -> bool {
        true
    }

    /// Whether a step was carried out, by what was seen after it. A step that fails without failing the reconcile was not.
    fn is_done(_: &Self::Step, _: &Self::Observed) -> bool {
        true
    }

    /// The reason of the Event that tells of these steps.
    fn headline(steps: &[Self::Step]) -> &'static str;

    /// How soon to look again after a verdict, where the kind has a rhythm of its own.
    fn rhythm(
        &self,
        references: &Self::References,
        seen: Option<&Self::Observed>,
        outcome: &Result<Verdict>,
    ) -> Option<Duration>;

    /// Whether the world was looked at, rather than only found to be shut.
    fn is_a_look(_: &Self::Observed) -> bool {
        true
    }

    /// The status as it must stand before these steps are taken, where something has to be known of them even if no answer
    /// ever comes.
    fn to_record(&self, _: &[Self::Step]) -> Option<Self::Status> {
        None
    }

    /// The object was seen by the watch, whatever changed of it.
    fn seen(&self, _ctx: &Context<Self::World>) {}

    /// The object of this uid is gone.
    fn left(_uid: &str, _ctx: &Context<Self::World>) {}

    /// Called after each reconcile with its outcome, before it is reported.
    fn concluded(
        &self,
        _ctx: &Context<Self::World>,
        _references: &Self::References,
        _seen: Option<&Self::Observed>,
        _outcome: &Result<Verdict>,
    ) {
    }
}

/// What a status is made from.
pub(crate) struct Told<'a, K: Managed> {
    pub goal: Goal,
    pub seen: Option<&'a K::Observed>,
    /// The world is as the object asks, whether brought about or only observed.
    pub settled: bool,
    /// Drift that was put right, a line each.
    pub repaired: &'a [String],
    pub now: Timestamp,
}

/// One reconcile as it stands so far.
struct Run<K: Managed> {
    object: K,
    api: Api<K>,
    goal: Goal,
    look: Look,
    taken: Vec<String>,
    headline: Option<&'static str>,
    drift: bool,
    warnings: Vec<super::plan::Warning>,
}

async fn run<K: Managed>(object: K, ctx: &Context<K::World>) -> (Action, Reason) {
    let uid = object.uid().unwrap_or_default();
    let now = Timestamp::now();
    let deleting = object.meta().deletion_timestamp.is_some();
    if deleting && !finalizer::is_on(&object) {
        ctx.memory.forget(&uid);
        return (Action::await_change(), Reason::Settled);
    }
    let goal = if deleting { Goal::Absent } else { Goal::Present };
    let asked = asked(&object);
    let handled = object
        .status()
        .and_then(|status| K::common(status).last_handled_reconcile.clone());
    let due = ctx.memory.is_due(&uid, ctx.check_interval, now);
    let api = <K::Scope as Scoped<K>>::api(ctx.client.clone(), &object);
    let doubted = ctx.memory.take_doubt(&uid);
    let look = match (asked != handled || doubted, goal == Goal::Absent || due) {
        (true, _) => Look::Asked,
        (false, true) => Look::Full,
        (false, false) => Look::Routine,
    };
    let mut run = Run {
        object,
        api,
        goal,
        look,
        taken: Vec::new(),
        headline: None,
        drift: false,
        warnings: Vec::new(),
    };

    let references = match run.object.refer(ctx).await {
        Ok(references) => references,
        Err(error) => {
            if doubted {
                ctx.memory.doubt(&uid);
            }
            return conclude_unreferred(&run, ctx, &uid, &error);
        }
    };
    let (seen, outcome) = run.converge(&references, ctx).await;
    run.object.concluded(ctx, &references, seen.as_ref(), &outcome);
    let outcome = match goal {
        Goal::Present => outcome.map(|verdict| run.object.weigh(verdict)),
        Goal::Absent => outcome,
    };
    let told = run.report(ctx, seen.as_ref(), &outcome).await;
    let outcome = match (outcome, told) {
        (Ok(Verdict::Settled { .. }), Ok(())) if goal == Goal::Absent => {
            match finalizer::take_off(&run.api, &run.object).await {
                Ok(()) => {
                    ctx.memory.forget(&uid);
                    return (Action::await_change(), Reason::Settled);
                }
                Err(error) => Err(error),
            }
        }
        (Ok(verdict), Ok(())) => Ok(verdict),
        (Ok(_), Err(error)) | (Err(error), _) => Err(error),
    };
    // A look that did not come to an end has not answered the doubt.
    let looked = match &outcome {
        Ok(Verdict::Settled { .. } | Verdict::Observed { .. }) => true,
        Ok(Verdict::Waiting { .. } | Verdict::Blocked { .. }) => seen.as_ref().is_some_and(K::is_a_look),
        Ok(Verdict::Suspended { .. } | Verdict::NotYet { .. }) | Err(_) => false,
    };
    if doubted && !looked {
        ctx.memory.doubt(&uid);
    }
    if looked && run.look != Look::Routine {
        ctx.memory.checked(&uid, ctx.check_interval, now);
    }
    let rhythm = run.object.rhythm(&references, seen.as_ref(), &outcome);
    next(&run, ctx, &uid, &outcome, rhythm)
}

/// The Kubernetes API could not even be asked what the object refers to: nothing can be written there either.
fn conclude_unreferred<K: Managed>(
    run: &Run<K>,
    ctx: &Context<K::World>,
    uid: &str,
    error: &Error,
) -> (Action, Reason) {
    tracing::warn!(%error, "what the object refers to could not be read");
    let failures = ctx.memory.failed(uid, run.object.meta().generation);
    (
        Action::requeue(backoff::pause(error.reason(), failures, fastrand::f64())),
        error.reason(),
    )
}

/// When to look again.
fn next<K: Managed>(
    run: &Run<K>,
    ctx: &Context<K::World>,
    uid: &str,
    outcome: &Result<Verdict>,
    rhythm: Option<Duration>,
) -> (Action, Reason) {
    let now = Timestamp::now();
    let generation = run.object.meta().generation;
    let after_failure = |reason| backoff::pause(reason, ctx.memory.failed(uid, generation), fastrand::f64());
    match outcome {
        Ok(verdict @ (Verdict::Settled { .. } | Verdict::Observed { .. })) => {
            ctx.memory.succeeded(uid);
            let turn = ctx.memory.until_turn(uid, ctx.check_interval, now);
            (
                Action::requeue(rhythm.map_or(turn, |rhythm| rhythm.min(turn))),
                verdict.reason(),
            )
        }
        Ok(Verdict::Suspended { .. }) => (Action::await_change(), Reason::Suspended),
        Ok(Verdict::Waiting { reason, after, .. }) => {
            (Action::requeue(after.mul_f64(0.9 + 0.2 * fastrand::f64())), *reason)
        }
        Ok(verdict @ Verdict::NotYet { after }) => (Action::requeue(*after), verdict.reason()),
        Ok(Verdict::Blocked { reason, .. }) => (
            Action::requeue(rhythm.unwrap_or_else(|| after_failure(*reason))),
            *reason,
        ),
        Err(error) if error.is_gone_object() => {
            ctx.memory.forget(uid);
            (Action::await_change(), error.reason())
        }
        Err(error) if error.is_stale_object() => {
            // Usually the watch catches up within milliseconds; where it does not, each round costs calls to AWS.
            let failures = ctx.memory.failed(uid, generation);
            (
                Action::requeue(AFRESH * 2_u32.pow(failures.saturating_sub(1).min(8))),
                error.reason(),
            )
        }
        Err(error) => {
            let pause = after_failure(error.reason());
            tracing::warn!(%error, retry_in_s = pause.as_secs(), "the reconcile failed");
            (Action::requeue(pause), error.reason())
        }
    }
}

impl<K: Managed> Run<K> {
    /// Observes, plans and applies until there is nothing to do. Returns what was seen last, also where a step failed.
    async fn converge(
        &mut self,
        references: &K::References,
        ctx: &Context<K::World>,
    ) -> (Option<K::Observed>, Result<Verdict>) {
        if self.goal == Goal::Absent
            && !self.object.is_suspended()
            && let Err(error) = self.read_again().await
        {
            return (None, Err(error));
        }
        if self.object.is_suspended() {
            let message = "spec.suspend is true: nothing is looked at or written".to_owned();
            return (None, Ok(Verdict::Suspended { message }));
        }
        let mut seen = match self.object.observe(self.goal, self.look, references).await {
            Ok(seen) => seen,
            Err(error) => return (None, Err(error)),
        };
        self.drift = self.goal == Goal::Present && self.object.is_drift(&seen);
        let mut left = String::new();
        for _ in 0..PASSES {
            let plan = self.object.plan(self.goal, references, &seen, Timestamp::now());
            if let Err(error) = self.hold(plan.holds).await {
                return (Some(seen), Err(error));
            }
            if plan.steps.is_empty() {
                self.warnings = plan.warnings;
                return (Some(seen), Ok(plan.verdict));
            }
            if let Err(error) = self.record(&plan.steps).await {
                return (Some(seen), Err(error));
            }
            left = plan
                .steps
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join("; ");
            self.headline.get_or_insert(K::headline(&plan.steps));
            for step in &plan.steps {
                tracing::info!(%step, "applying");
                seen = match self.object.apply(step, references, seen).await {
                    Ok(seen) => seen,
                    Err(error) => return (None, Err(error)),
                };
                if !K::is_done(step, &seen) {
                    continue;
                }
                if K::is_news(step) {
                    self.taken.push(step.to_string());
                }
                if self.drift {
                    ctx.metrics.repaired(K::KIND, 1);
                }
                if K::changes_the_plan(step) {
                    break;
                }
            }
        }
        (Some(seen), Err(Error::NotConverging { left }))
    }

    /// Before a deletion the object is read from the apiserver, never from the watch: its deletion policy may have been
    /// changed a moment ago.
    async fn read_again(&mut self) -> Result<()> {
        let fresh = self
            .api
            .get(&self.object.name_any())
            .await
            .map_err(Error::kube("read the object"))?;
        if fresh.uid() != self.object.uid() || !finalizer::is_on(&fresh) {
            let gone = kube::core::Status::failure("the object was replaced by another of its name", "NotFound");
            let gone = kube::Error::Api(Box::new(gone.with_code(404)));
            return Err(Error::Kube {
                doing: "read the object",
                source: Box::new(gone),
            });
        }
        self.object = fresh;
        Ok(())
    }

    /// The finalizer must be there before anything in AWS is.
    async fn hold(&mut self, holds: bool) -> Result<()> {
        if self.goal == Goal::Present && holds && !finalizer::is_on(&self.object) {
            self.object = finalizer::put_on(&self.api, &self.object).await?;
        }
        Ok(())
    }

    /// What has to be known of the steps is on record before they are taken.
    async fn record(&mut self, steps: &[K::Step]) -> Result<()> {
        if let Some(status) = self.object.to_record(steps)
            && self.object.status() != Some(&status)
        {
            self.object = self.write_status(&status).await?;
        }
        Ok(())
    }

    /// Writes the status if it says something new, and publishes Events.
    async fn report(
        &self,
        ctx: &Context<K::World>,
        seen: Option<&K::Observed>,
        outcome: &Result<Verdict>,
    ) -> Result<()> {
        let object = &self.object;
        let regarding = object.object_ref(&());
        if let (Some(headline), false) = (self.headline, self.taken.is_empty()) {
            let (news, reason) = if self.drift {
                (News::Warning, "DriftRepaired")
            } else {
                (News::Normal, headline)
            };
            ctx.events.tell(regarding.clone(), news, reason, self.taken.join("; "));
        }
        for warning in &self.warnings {
            tracing::warn!(reason = warning.reason, "{}", warning.message);
            ctx.events.tell(
                regarding.clone(),
                News::Warning,
                warning.reason,
                warning.message.clone(),
            );
        }
        if matches!(outcome, Ok(Verdict::NotYet { .. }))
            || matches!(outcome, Err(error) if error.is_stale_object() || error.is_gone_object())
        {
            return Ok(());
        }
        let now = Timestamp::now();
        let old = object.status().cloned().unwrap_or_default();
        let common = K::common(&old);
        let settled = match outcome {
            Ok(Verdict::Observed { differences }) => differences.is_empty(),
            outcome => matches!(outcome, Ok(Verdict::Settled { .. })),
        };
        let conditions = report::conditions(&common.conditions, outcome, object.meta().generation, now);
        if let Some((news, reason, note)) = report::event(&common.conditions, &conditions) {
            ctx.events.tell(regarding, news, reason, note);
        }
        let handled = match outcome {
            Ok(Verdict::Suspended { .. }) => common.last_handled_reconcile.clone(),
            _ => asked(object),
        };
        let common = CommonStatus {
            observed_generation: object.meta().generation,
            last_handled_reconcile: handled,
            conditions,
        };
        let repaired: &[String] = if self.drift { &self.taken } else { &[] };
        let told = Told {
            goal: self.goal,
            seen,
            settled,
            repaired,
            now,
        };
        let new = object.tell(common, &told);
        // A deletion that is done takes the object with it; its status would be written for nobody.
        if new == old || (self.goal == Goal::Absent && settled) {
            return Ok(());
        }
        self.write_status(&new).await.map(drop)
    }

    /// One full status by server-side apply. The uid keeps it from landing on a successor of the same name, the
    /// resourceVersion from speaking of an object that was edited meanwhile.
    async fn write_status(&self, status: &K::Status) -> Result<K> {
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": { "uid": self.object.uid(), "resourceVersion": self.object.resource_version() },
            "status": K::own_part(status),
        });
        let params = PatchParams::apply(MANAGER).force();
        let name = self.object.name_any();
        self.api
            .patch_status(&name, &params, &Patch::Apply(body))
            .await
            .map_err(Error::kube("write the status"))
    }
}
