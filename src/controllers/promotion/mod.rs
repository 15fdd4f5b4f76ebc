//! `ImagePromotion`: asks the engine for the next move, and obeys.

mod act;
mod check;
mod copying;
pub(crate) mod foresee;
mod images;
mod look;
mod publish;
mod replace;
mod rivals;
pub(crate) mod shared;
pub(crate) mod triggers;
mod way;

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use self::{copying::rollout_of, way::Way};
use super::world::World;
use crate::{
    api::{
        ImagePromotion,
        promotion::{
            ImagePromotionStatus, Target,
            request::{self, Asked},
        },
        status::CommonStatus,
    },
    aws::catalog::Snapshot,
    control::{
        backoff,
        context::Context,
        driven::{self, Driven},
        error::{Error, Result},
        events::News,
        plan::Verdict,
        reason::Reason,
        report,
    },
    promotion::{
        engine::{self, Goal},
        facts::Facts,
        ledger,
        moves::{Move, Record, Rest, TargetName},
    },
};

/// The field manager of our status.
const MANAGER: &str = "ecr-operator";

/// Moves of one reconcile. A promotion of a hundred targets needs a few hundred; one that goes round in circles is
/// stopped here and goes on later.
const MOVES: usize = 600;

/// How soon to look again for something that the promotion names and that may be created any moment.
const SOON: SignedDuration = SignedDuration::from_secs(10);

/// How often what fails during a rollout is tried at least before the rollout's time is over.
const TRIES: u32 = 4;

/// How soon what could not be done aside is tried again.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// How long an object that changed under our hands is left alone before it is looked at afresh.
const AFRESH: Duration = Duration::from_millis(200);

impl Driven for ImagePromotion {
    type Shared = World;

    const CALLED: &'static str = "ImagePromotion";

    fn lane(&self, ctx: &Context<World>) -> String {
        let mut registries: Vec<String> = ctx.world.repositories_of(self).map(|(registry, _)| registry).collect();
        registries.dedup();
        registries.join("/")
    }

    fn gone(uid: &str, ctx: &Context<World>) {
        ctx.world.promoting.forget(uid);
        rivals::gone(&ctx.world);
    }

    async fn drive(self, ctx: &Context<World>) -> (Action, Reason) {
        let uid = self.uid().unwrap_or_default();
        if self.metadata.deletion_timestamp.is_some() {
            // Workloads stay as they are, and nothing in AWS is the object's own.
            return (Action::await_change(), Reason::Settled);
        }
        let mut run = match Run::begin(self, ctx).await {
            Ok(Some(run)) => run,
            Ok(None) => return (Action::await_change(), Reason::Settled),
            Err(error) => return pause(ctx, &uid, None, &error, None),
        };
        let outcome = run.go().await;
        let generation = run.object.metadata.generation;
        let interval = run.object.spec.interval.duration();
        match run.conclude(outcome).await {
            Ok((verdict, wake)) => {
                ctx.memory.succeeded(&uid);
                let after = match &verdict {
                    Verdict::Suspended { .. } => return (Action::await_change(), Reason::Suspended),
                    Verdict::NotYet { after } => *after,
                    _ => {
                        let left = wake.map(|wake| Duration::try_from(wake.duration_since(Timestamp::now())));
                        let left = left.map(|left| left.unwrap_or(Duration::ZERO));
                        let spread = interval.mul_f64(0.9 + 0.2 * fastrand::f64());
                        left.map_or(spread, |left| left.min(spread))
                            .max(Duration::from_millis(50))
                    }
                };
                (Action::requeue(after), verdict.reason())
            }
            Err(error) => {
                // A rollout is tried several times within its own time, and given up when that is over.
                let most = run.written.rollout.is_some().then(|| {
                    let time = run.object.spec.rollout.timeout.duration();
                    (time / TRIES).max(AFRESH)
                });
                pause(ctx, &uid, generation, &error, most)
            }
        }
    }
}

/// When to try again after an error: after `most` at the latest.
fn pause(
    ctx: &Context<World>,
    uid: &str,
    generation: Option<i64>,
    error: &Error,
    most: Option<Duration>,
) -> (Action, Reason) {
    if error.is_stale_object() {
        let failures = ctx.memory.failed(uid, generation);
        return (
            Action::requeue(AFRESH * 2_u32.pow(failures.saturating_sub(1).min(6))),
            error.reason(),
        );
    }
    let failures = ctx.memory.failed(uid, generation);
    let pause = backoff::pause(error.reason(), failures, fastrand::f64());
    let pause = most.map_or(pause, |most| pause.min(most));
    tracing::warn!(%error, retry_in_s = pause.as_secs(), "the promotion could not go on");
    (Action::requeue(pause), error.reason())
}

/// One reconcile as it stands so far.
struct Run<'a> {
    ctx: &'a Context<World>,
    object: ImagePromotion,
    api: Api<ImagePromotion>,
    /// The status as it was last written.
    written: ImagePromotionStatus,
    /// The status as the engine has it: what is not worth a write of its own waits for the next.
    status: ImagePromotionStatus,
    facts: Facts,
    /// The targets as they were read or written last.
    objects: HashMap<TargetName, (Target, Value)>,
    pods: HashMap<TargetName, Vec<Value>>,
    /// The images of the source, listed once in a reconcile.
    listed: OnceCell<Arc<Snapshot>>,
    /// What could not be done aside, the last of it.
    failure: Option<Error>,
    /// `Err` where the namespace may not use the repository, or nothing can be said of it now.
    way: Result<Way, Verdict>,
}

impl<'a> Run<'a> {
    async fn begin(mut object: ImagePromotion, ctx: &'a Context<World>) -> Result<Option<Self>> {
        let api = Api::<ImagePromotion>::namespaced(ctx.client.clone(), &object.namespace().unwrap_or_default());
        // Our own last write may not have come back by the watch yet, and everything rests on it.
        if ctx.world.promoting.is_behind(&object) {
            let fresh = api
                .get_opt(&object.name_any())
                .await
                .map_err(Error::kube("read the ImagePromotion"))?;
            match fresh {
                Some(fresh) if fresh.metadata.uid == object.metadata.uid => object = fresh,
                _ => return Ok(None),
            }
            ctx.world.promoting.wrote(&object);
        }
        let status = object.status.clone().unwrap_or_default();
        let way = match way::find(&object, ctx).await {
            Ok(way) => way,
            // It says itself what is wrong with it.
            Err(error @ Error::UnreadableRegistry { .. }) => Err(Verdict::Waiting {
                reason: error.reason(),
                message: error.to_string(),
                after: SOON.unsigned_abs(),
            }),
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            ctx,
            api,
            written: status.clone(),
            status,
            facts: Facts::default(),
            objects: HashMap::new(),
            pods: HashMap::new(),
            listed: OnceCell::new(),
            failure: None,
            way,
            object,
        }))
    }

    /// Asks and obeys until there is nothing to do for now.
    async fn go(&mut self) -> Result<Rest> {
        if self.object.spec.suspend {
            let message = "spec.suspend is true: nothing is looked at or written".to_owned();
            let mut rest = self.stopped("Suspended", Verdict::Suspended { message });
            // Left open, it would have missed its time when the object goes on, and its image would be rejected.
            let reason = "spec.suspend was set while it was under way";
            ledger::interrupt(&mut rest.status, &self.object.spec, reason, Timestamp::now());
            return Ok(rest);
        }
        if let Err(verdict) = &self.way {
            let verdict = verdict.clone();
            return Ok(self.stopped("Waiting", verdict));
        }
        if let Some(record) = self.leave_source()? {
            self.record(record).await?;
        }
        self.look_at_targets().await?;
        if let Some(verdict) = self.rival() {
            let mut rest = self.stopped("Refused", verdict);
            let reason = rest.verdict.to_string();
            ledger::interrupt(&mut rest.status, &self.object.spec, &reason, Timestamp::now());
            return Ok(rest);
        }
        for _ in 0..MOVES {
            let next = self.next(&self.requests());
            tracing::debug!(next = %next, "the next move");
            match next {
                Move::Look(look) => self.look(look).await?,
                Move::Do(action) => {
                    tracing::info!(%action, "acting");
                    self.act(&action).await?;
                }
                Move::Record(record) => self.record(*record).await?,
                Move::Rest(rest) => return Ok(*rest),
            }
        }
        Err(Error::NotConverging {
            left: format!("the promotion took {MOVES} moves without coming to rest"),
        })
    }

    fn uid(&self) -> String {
        self.object.uid().unwrap_or_default()
    }

    /// Whether somebody asks for a look now.
    fn is_asked(&self) -> bool {
        driven::asked(&self.object) != self.written.common.last_handled_reconcile
    }

    /// The requests that are not answered yet.
    fn requests(&self) -> Vec<Asked> {
        request::requests(self.object.annotations(), &self.status.last_handled_requests)
    }

    /// What the engine says to what is known by now.
    fn next(&self, requests: &[Asked]) -> Move {
        let goal = Goal {
            spec: &self.object.spec,
            generation: self.object.metadata.generation,
            requests,
        };
        engine::next(&goal, &self.status, &self.facts, Timestamp::now())
    }

    /// Makes sure that the status speaks of the repository that the spec names. What is to be recorded where it spoke of
    /// another.
    fn leave_source(&mut self) -> Result<Option<Record>> {
        let source = self.place()?.source.key();
        match &self.status.repository {
            Some(known) if *known == source => Ok(None),
            None => {
                self.status.repository = Some(source);
                Ok(None)
            }
            Some(_) => {
                let mut status = self.status.clone();
                let told = ledger::leave(&mut status, source);
                Ok(Some(Record {
                    status,
                    told: vec![told],
                }))
            }
        }
    }

    /// Nothing is looked at or written any more, by tasks of their own neither.
    fn stopped(&self, phase: &str, verdict: Verdict) -> Rest {
        if !matches!(verdict, Verdict::NotYet { .. }) {
            self.ctx.world.promoting.copies.forget(&self.uid());
        }
        let mut status = self.status.clone();
        status.phase = Some(phase.to_owned());
        let wake = matches!(verdict, Verdict::Waiting { .. }).then(|| Timestamp::now() + SOON);
        Rest { status, verdict, wake }
    }

    /// Writes a status that must be there before anything is done about it.
    async fn record(&mut self, record: Record) -> Result<()> {
        let good = self.written.last_good.as_ref().map(|image| image.digest.clone());
        let rollout = rollout_of(&record.status);
        let is_other = rollout != rollout_of(&self.written);
        self.write(record.status).await?;
        self.status = self.written.clone();
        if is_other {
            // Pods are looked at while a rollout is under way, and by when it began.
            self.facts.targets = None;
            self.ctx.world.promoting.copies.leave(&self.uid(), rollout);
        }
        let regarding = self.object.object_ref(&());
        for told in record.told {
            let news = if told.is_warning { News::Warning } else { News::Normal };
            tracing::info!(reason = told.reason, "{}", told.note);
            self.ctx.events.tell(regarding.clone(), news, told.reason, told.note);
        }
        self.count_ended();
        if self.written.last_good.as_ref().map(|image| &image.digest) != good.as_ref() {
            self.ctx.world.tell_followers(&self.object);
        }
        Ok(())
    }

    /// Tells the metrics of a rollout that has just ended.
    fn count_ended(&self) {
        let Some(last) = self.written.history.first() else {
            return;
        };
        if self.ctx.world.promoting.ended(&self.object, last.id) {
            let metrics = &self.ctx.metrics;
            metrics.rollout_ended(&format!("{:?}", last.kind), &format!("{:?}", last.outcome));
        }
    }

    /// Reports how the reconcile ended.
    async fn conclude(&mut self, outcome: Result<Rest>) -> Result<(Verdict, Option<Timestamp>)> {
        let (mut status, verdict, wake) = match outcome {
            Ok(rest) => (rest.status, Ok(rest.verdict), rest.wake),
            Err(error) if error.is_stale_object() => return Err(error),
            Err(error) => (self.status.clone(), Err(error), None),
        };
        let looked =
            matches!(&verdict, Ok(verdict) if !matches!(verdict, Verdict::Suspended { .. } | Verdict::NotYet { .. }));
        let (verdict, wake) = self.with_failure(verdict, wake);
        if matches!(verdict, Ok(Verdict::NotYet { .. })) {
            return verdict.map(|verdict| (verdict, wake));
        }
        let now = Timestamp::now();
        let generation = self.object.metadata.generation;
        let old = &self.written.common.conditions;
        let conditions = report::conditions(old, &verdict, generation, now);
        let event = report::event(old, &conditions);
        status.common = CommonStatus {
            observed_generation: generation,
            // A look that was asked for is handled once one did not fail.
            last_handled_reconcile: match looked {
                true => driven::asked(&self.object),
                false => self.written.common.last_handled_reconcile.clone(),
            },
            conditions,
        };
        let is_new = self.written.common.observed_generation != generation;
        if status != self.written {
            self.write(status).await?;
        }
        if is_new {
            self.tell_rivals();
        }
        if let Some((news, reason, note)) = event {
            self.ctx.events.tell(self.object.object_ref(&()), news, reason, note);
        }
        verdict.map(|verdict| (verdict, wake))
    }

    /// What could not be done aside keeps the object from being settled, and says more than that a rollout goes on.
    fn with_failure(
        &mut self,
        verdict: Result<Verdict>,
        wake: Option<Timestamp>,
    ) -> (Result<Verdict>, Option<Timestamp>) {
        match (verdict, self.failure.take()) {
            (
                Ok(
                    Verdict::Settled { .. }
                    | Verdict::Waiting {
                        reason: Reason::RollingOut,
                        ..
                    },
                ),
                Some(error),
            ) => {
                let again = Timestamp::now() + AGAIN;
                let verdict = Verdict::Waiting {
                    reason: error.reason(),
                    message: error.to_string(),
                    after: AGAIN.unsigned_abs(),
                };
                (Ok(verdict), Some(wake.map_or(again, |wake| wake.min(again))))
            }
            (verdict, _) => (verdict, wake),
        }
    }

    /// One full status by server-side apply. The uid keeps it from landing on a successor of the same name, the
    /// resourceVersion from speaking of an object that was edited meanwhile.
    async fn write(&mut self, status: ImagePromotionStatus) -> Result<()> {
        let body = json!({
            "apiVersion": ImagePromotion::api_version(&()),
            "kind": ImagePromotion::kind(&()),
            "metadata": { "uid": self.object.uid(), "resourceVersion": self.object.resource_version() },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        let name = self.object.name_any();
        let object = self
            .api
            .patch_status(&name, &params, &Patch::Apply(body))
            .await
            .map_err(Error::kube("write the status"))?;
        self.ctx.world.promoting.wrote(&object);
        self.object = object;
        self.written = status;
        Ok(())
    }
}
