//! The registry's documents: a controller of its own over Registries, because neither a slow document may delay the listing
//! that all Repositories share, nor the minute's rhythm of that listing read documents
//! (docs/decisions/0016-registry-documents.md).
//!
//! It is woken by each look at the Registry and by each change of the object, and does nothing unless a part is new, due,
//! asked for, doubted or was not brought to its end.

mod act;
pub(crate) mod part;
pub(crate) mod plan;
pub(crate) mod shared;
pub(crate) mod told;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, ready},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, channel::mpsc::UnboundedReceiver, future::join_all};
use jiff::Timestamp;
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams},
    core::DeserializeGuard,
    runtime::{
        self,
        controller::{self, Action, ReconcileRequest},
        watcher,
    },
};
use serde_json::json;
use tracing::Instrument as _;

use self::{
    part::{Part, Wish, wish},
    plan::{Decision, Recorded, Step, decide},
    shared::RegistryObject,
};
use super::{
    super::access::{Request, Standing, access},
    connection::Connection,
};
use crate::{
    api::{
        Registry,
        registry::{
            RegistryMode,
            documents::{DocumentState, DocumentStatus, DocumentsStatus},
        },
    },
    aws::{client::Ecr, error::AwsError},
    control::{
        backoff,
        context::Context,
        driven::asked,
        error::{Error, Result},
        events::News,
        plan::Verdict,
        reason::Reason,
        spawn::list_of,
    },
    controllers::world::World,
};

/// Its name in metrics and logs.
pub(crate) const CALLED: &str = "RegistryDocuments";

/// The field manager of its part of the status: the rest belongs to the Registry's own controller.
const MANAGER: &str = "ecr-operator-documents";

/// Looks at a part in one go. The last one must find it as wanted.
const PASSES: usize = 3;

/// A document that was settled and cannot be read for a moment is told only after so many attempts in a row.
const TOLD_AFTER: u32 = 3;

/// How long a Registry whose reconcile panicked is left alone.
const PANICKED: Duration = Duration::from_mins(5);

/// How often a status is sent to an object whose other parts change meanwhile.
const ATTEMPTS: u32 = 3;

/// How long an object that changed under our hands is left alone before it is looked at afresh.
const AFRESH: Duration = Duration::from_millis(200);

/// Runs until `shutdown`, then finishes what is under way.
pub(crate) async fn run(
    ctx: Arc<Context<World>>,
    wakes: UnboundedReceiver<RegistryObject>,
    shutdown: impl Future<Output = ()> + Clone + Send + 'static,
) {
    // The runner waits for the store too, and of two that wait only one would be woken.
    let listed = list_of::<Registry>();
    tokio::select! {
        () = ctx.world.readiness.until_done(&listed) => {}
        () = shutdown.clone() => return,
    }
    let queue = wakes.map(|object| Ok::<_, watcher::Error>(ReconcileRequest::from(object)));
    let reader = ctx.world.registries.clone();
    runtime::applier(
        |object, ctx| Box::pin(reconcile(object, ctx)),
        |_, never, _| match *never {},
        ctx,
        reader,
        queue.take_until(Box::pin(shutdown)),
        // As many as there are Registries: one that does not answer holds up none of the others.
        controller::Config::default(),
    )
    .for_each(|_| ready(()))
    .await;
}

async fn reconcile(guard: Arc<DeserializeGuard<Registry>>, ctx: Arc<Context<World>>) -> Result<Action, Infallible> {
    // One that cannot be read is reported by the Registry's own controller.
    let Ok(registry) = &guard.0 else {
        return Ok(Action::await_change());
    };
    let span = tracing::info_span!("documents", name = registry.name_any());
    let began = Instant::now();
    ctx.metrics.begin(CALLED);
    let looking = AssertUnwindSafe(look(registry.clone(), &ctx));
    let (action, reason) = looking.catch_unwind().instrument(span).await.unwrap_or_else(|_| {
        tracing::error!(object = registry.name_any(), "the look at documents panicked");
        (Action::requeue(PANICKED), Reason::Unavailable)
    });
    ctx.metrics.end(CALLED, reason.as_str(), began.elapsed());
    Ok(action)
}

/// The key under which turns and failures are remembered, beside those of the Registry itself.
pub(crate) fn key(uid: &str) -> String {
    format!("{uid}/documents")
}

/// The way to the registry and whether it may be written; `None` while it is not to be used.
fn way(registry: &Registry, world: &World) -> Option<(Arc<Connection>, bool)> {
    let connection = world
        .connection(&registry.name_any())
        .filter(|connection| connection.fits(&registry.spec))?;
    let manage = may_write(registry, connection.standing())?;
    Some((connection, manage))
}

/// Whether documents may be written; `None`: not even looked at.
fn may_write(registry: &Registry, standing: Option<Standing>) -> Option<bool> {
    let name = registry.name_any();
    let access = access(&Request::of_cluster(&name, Some(registry)), Some(()).zip(standing)).ok()?;
    // After an edit of the mode the Registry's own look comes first.
    (access.manage == (registry.spec.mode == RegistryMode::Manage)).then_some(access.manage)
}

/// One look at the documents of one Registry.
struct Run<'a> {
    ctx: &'a Context<World>,
    registry: Registry,
    uid: String,
    ecr: Ecr,
    manage: bool,
    recorded: Recorded,
    /// How each part is told at the end.
    lines: BTreeMap<Part, DocumentStatus>,
}

/// A part that is looked at.
struct Looked {
    part: Part,
    hash: String,
    wish: Wish,
    /// It was settled with the same wish: what differs now is somebody else's doing.
    settled: bool,
}

async fn look(registry: Registry, ctx: &Context<World>) -> (Action, Reason) {
    let world = &ctx.world;
    let uid = registry.uid().unwrap_or_default();
    if registry.metadata.deletion_timestamp.is_some() || registry.spec.suspend {
        return (Action::await_change(), Reason::Suspended);
    }
    let Some((connection, manage)) = way(&registry, world) else {
        // The look at the Registry that finds it usable wakes us.
        return (Action::await_change(), Reason::RegistryNotReady);
    };
    let told = registry.status.as_ref().and_then(|status| status.documents.as_ref());
    if world.documents.is_behind(&uid, told) {
        return (Action::requeue(AFRESH), Reason::Settled);
    }
    let now = Timestamp::now();
    let doubted = world.documents.take_doubt(&uid);
    let due = ctx.memory.is_due(&key(&uid), ctx.check_interval, now);
    let everything = doubted || due || asked(&registry) != told.and_then(|told| told.last_handled_reconcile.clone());
    let mut run = Run {
        ctx,
        uid: uid.clone(),
        ecr: connection.ecr.clone(),
        manage,
        recorded: told::recorded(&registry),
        lines: BTreeMap::new(),
        registry,
    };
    let looked = run.choose(everything);
    let reported = match run.converge(looked).await {
        Ok(()) => run.report().await,
        Err(error) => Err(error),
    };
    if let Err(error) = reported {
        if doubted {
            world.documents.doubt(&uid);
        }
        let failures = ctx.memory.failed(&key(&uid), run.registry.metadata.generation);
        let pause = match error.is_stale_object() {
            true => AFRESH * 2_u32.pow(failures.saturating_sub(1).min(8)),
            false => backoff::pause(error.reason(), failures, fastrand::f64()),
        };
        tracing::debug!(%error, "the documents could not be reported");
        return (Action::requeue(pause), error.reason());
    }
    ctx.memory.succeeded(&key(&uid));
    if everything {
        ctx.memory.checked(&key(&uid), ctx.check_interval, now);
    }
    run.next()
}

impl Run<'_> {
    /// The parts to look at. What is known of the others is told again.
    fn choose(&mut self, everything: bool) -> Vec<Looked> {
        let mut looked = Vec::new();
        let named: BTreeMap<Part, String> = told::named(&self.registry, self.manage).collect();
        for part in Part::ALL {
            let Some(hash) = named.get(&part) else {
                if self.manage {
                    self.recorded.forget(part);
                }
                continue;
            };
            let told = told::of(&self.registry, part).filter(|told| told.desired_hash == *hash);
            let known = told.is_some_and(|told| matches!(told.state, DocumentState::Settled | DocumentState::Differs));
            let shared = &self.ctx.world.documents;
            let rests = match known {
                true => !shared.is_open(&self.uid, part) || shared.pause(&self.uid, part).is_some(),
                // An edit is tried at once.
                false => told.is_some() && shared.pause(&self.uid, part).is_some(),
            };
            if let (Some(told), true, false) = (told, rests, everything) {
                self.lines.insert(part, told.clone());
                continue;
            }
            let settled = told.is_some_and(|told| told.state == DocumentState::Settled);
            match wish(&self.registry.spec, part) {
                Some(Ok(wish)) => looked.push(Looked {
                    part,
                    hash: hash.clone(),
                    wish,
                    settled,
                }),
                Some(Err(why)) => self.conclude(part, hash, DocumentState::Blocked, Reason::Invalid, &why),
                None => {}
            }
        }
        looked
    }

    /// Reads, decides and acts until every part is as wanted or cannot be brought there. Parts do not wait for each other
    /// but where something has to be on record first.
    async fn converge(&mut self, mut open: Vec<Looked>) -> Result<()> {
        for pass in 1..=PASSES {
            let reads = open
                .iter()
                .map(|looked| act::read(&self.ecr, looked.part, &looked.wish));
            let answers = join_all(reads).await;
            let mut steps = Vec::new();
            for (looked, answer) in std::mem::take(&mut open).into_iter().zip(answers) {
                let seen = match answer {
                    Ok(seen) => seen,
                    Err(error) => {
                        self.unread(&looked, &error);
                        continue;
                    }
                };
                if self.manage {
                    self.recorded.seen(&seen);
                }
                let Looked { part, hash, wish, .. } = &looked;
                match decide(*part, wish, &seen, &self.recorded) {
                    Decision::Settled => {
                        if self.manage {
                            self.recorded.settled(wish);
                        }
                        self.conclude(*part, hash, DocumentState::Settled, Reason::Settled, "");
                    }
                    Decision::Blocked { reason, message } => {
                        self.conclude(*part, hash, DocumentState::Blocked, reason, &message);
                    }
                    Decision::Step { step, .. } if !self.manage => {
                        let differs = step.to_string();
                        self.conclude(*part, hash, DocumentState::Differs, Reason::Observed, &differs);
                    }
                    Decision::Step { step, .. } if pass == PASSES => {
                        let message = format!("AWS does not keep what was written; still to do: {step}");
                        self.conclude(*part, hash, DocumentState::Blocked, Reason::Conflict, &message);
                    }
                    Decision::Step { step, previous } => steps.push((looked, step, previous)),
                }
            }
            if steps.is_empty() {
                return Ok(());
            }
            self.record(&steps).await?;
            self.announce(&steps);
            let taken = join_all(steps.iter().map(|(_, step, _)| act::take(&self.ecr, step))).await;
            for ((looked, step, _), taken) in steps.into_iter().zip(taken) {
                match taken {
                    Ok(()) => {
                        self.tell_taken(&looked, &step);
                        open.push(looked);
                    }
                    Err(error) => {
                        let (reason, state) = fault(&error);
                        self.conclude(looked.part, &looked.hash, state, reason, &error.to_string());
                    }
                }
            }
        }
        Ok(())
    }

    /// A part that could not be read. One that was settled a moment ago is not told to be anything else at once: a call that
    /// fails says nothing about the document.
    fn unread(&mut self, looked: &Looked, error: &AwsError) {
        let (reason, state) = fault(error);
        tracing::warn!(part = %looked.part, %error, "the document could not be read");
        let known = told::of(&self.registry, looked.part)
            .filter(|told| state == DocumentState::Failed && told.desired_hash == looked.hash)
            .filter(|told| matches!(told.state, DocumentState::Settled | DocumentState::Differs))
            .cloned();
        if let Some(known) = known
            && self.ctx.world.documents.failed(&self.uid, looked.part, reason) < TOLD_AFTER
        {
            self.lines.insert(looked.part, known);
            return;
        }
        self.conclude(looked.part, &looked.hash, state, reason, &error.to_string());
    }

    fn conclude(&mut self, part: Part, hash: &str, state: DocumentState, reason: Reason, message: &str) {
        match state {
            DocumentState::Settled | DocumentState::Differs => self.ctx.world.documents.succeeded(&self.uid, part),
            DocumentState::Blocked | DocumentState::Failed => {
                self.ctx.world.documents.failed(&self.uid, part, reason);
            }
        }
        self.lines
            .insert(part, told::line(part, hash.to_owned(), state, reason, message));
    }

    /// What is ours is on record before it is put, or a process that dies in between would not know it for its own.
    async fn record(&mut self, steps: &[(Looked, Step, String)]) -> Result<()> {
        for (_, step, _) in steps {
            self.recorded.before(step);
        }
        if self.recorded == told::recorded(&self.registry) {
            return Ok(());
        }
        let old = self
            .registry
            .status
            .as_ref()
            .and_then(|status| status.documents.clone());
        let old = old.unwrap_or_default();
        let status = DocumentsStatus {
            managed_exclusions: self.recorded.exclusions.iter().cloned().collect(),
            managed_statements: self.recorded.statements.iter().cloned().collect(),
            ..old
        };
        self.write(Some(&status)).await
    }

    /// What is about to be overwritten is told first: ECR keeps no version of it.
    fn announce(&self, steps: &[(Looked, Step, String)]) {
        for (looked, _, previous) in steps.iter().filter(|(_, _, previous)| !previous.is_empty()) {
            tracing::info!(part = %looked.part, previous, "a document is replaced");
            let previous: String = previous.split_whitespace().collect::<Vec<_>>().join(" ");
            let note = format!("spec.{} replaces what ECR has: {previous}", looked.part);
            self.tell(News::Normal, "DocumentReplaced", note);
        }
    }

    fn tell_taken(&self, looked: &Looked, step: &Step) {
        tracing::info!(%step, "applied");
        let (news, reason) = match looked.settled {
            true => (News::Warning, "DriftRepaired"),
            false => (News::Normal, "DocumentPut"),
        };
        if looked.settled {
            self.ctx.metrics.repaired("Registry", 1);
        }
        self.tell(news, reason, step.to_string());
    }

    fn tell(&self, news: News, reason: &'static str, note: String) {
        self.ctx.events.tell(self.registry.object_ref(&()), news, reason, note);
    }

    /// Writes the status if it says something new, and tells what changed.
    async fn report(&mut self) -> Result<()> {
        let lines: Vec<DocumentStatus> = self.lines.values().cloned().collect();
        let new = told::status(asked(&self.registry), lines, &self.recorded);
        let old = self
            .registry
            .status
            .as_ref()
            .and_then(|status| status.documents.clone());
        if new == old {
            return Ok(());
        }
        let before = self.registry.clone();
        self.write(new.as_ref()).await?;
        for (part, line) in &self.lines {
            let old = told::of(&before, *part);
            let said = |line: &DocumentStatus| (line.state, line.reason.clone(), line.message.clone());
            if old.map(said) == Some(said(line)) {
                continue;
            }
            let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == line.reason);
            let reason = reason.unwrap_or(Reason::Conflict);
            match line.state {
                DocumentState::Settled => {
                    let mended = old.is_some_and(|old| old.state != DocumentState::Settled);
                    if mended {
                        self.tell(
                            News::Normal,
                            reason.as_str(),
                            format!("spec.{part}: {}", reason.cause()),
                        );
                    }
                }
                DocumentState::Differs | DocumentState::Blocked | DocumentState::Failed => {
                    let message = line.message.trim_end_matches('.');
                    let note = format!("spec.{part}: {message}. {}", reason.cure());
                    self.tell(News::Warning, reason.as_str(), note);
                }
            }
        }
        Ok(())
    }

    /// Our part of the status by server-side apply. The resourceVersion keeps a look at an object that is not the latest
    /// from taking back what was put on record since; where only the rest of its status has changed, it is sent again.
    async fn write(&mut self, status: Option<&DocumentsStatus>) -> Result<()> {
        let api = Api::<Registry>::all(self.ctx.client.clone());
        let name = self.registry.name_any();
        let params = PatchParams::apply(MANAGER).force();
        let status = match status {
            Some(documents) => json!({ "documents": documents }),
            None => json!({}),
        };
        let mut attempt = 1;
        loop {
            let body = json!({
                "apiVersion": Registry::api_version(&()),
                "kind": Registry::kind(&()),
                "metadata": { "uid": self.registry.uid(), "resourceVersion": self.registry.resource_version() },
                "status": status,
            });
            let written = api.patch_status(&name, &params, &Patch::Apply(body)).await;
            let error = match written.map_err(Error::kube("write the status")) {
                Ok(written) => {
                    let documents = written.status.as_ref().and_then(|status| status.documents.as_ref());
                    self.ctx.world.documents.wrote(&self.uid, documents);
                    self.registry.status = written.status;
                    self.registry.metadata.resource_version = written.metadata.resource_version;
                    return Ok(());
                }
                Err(error) => error,
            };
            if !error.is_stale_object() || attempt == ATTEMPTS {
                return Err(error);
            }
            attempt += 1;
            let fresh = api.get(&name).await.map_err(Error::kube("read the object"))?;
            let said = |registry: &Registry| registry.status.as_ref().and_then(|status| status.documents.clone());
            let same = |old: &Registry, new: &Registry| {
                (old.uid(), old.metadata.generation, said(old)) == (new.uid(), new.metadata.generation, said(new))
            };
            if !same(&self.registry, &fresh) {
                return Err(error);
            }
            self.registry.metadata.resource_version = fresh.metadata.resource_version;
        }
    }

    /// When to look again, and why.
    fn next(&self) -> (Action, Reason) {
        let turn = self
            .ctx
            .memory
            .until_turn(&key(&self.uid), self.ctx.check_interval, Timestamp::now());
        let pauses = self
            .lines
            .keys()
            .filter(|part| self.ctx.world.documents.is_open(&self.uid, **part))
            .map(|part| {
                self.ctx
                    .world
                    .documents
                    .pause(&self.uid, *part)
                    .unwrap_or(Duration::ZERO)
            });
        let after = pauses.fold(turn, Duration::min);
        let worst = self.lines.values().find_map(|line| {
            let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == line.reason)?;
            (line.state != DocumentState::Settled).then_some(known)
        });
        let action = match self.lines.is_empty() {
            true => Action::await_change(),
            false => Action::requeue(after),
        };
        (action, worst.unwrap_or(Reason::Settled))
    }
}

/// What a failed call means for the part.
fn fault(error: &AwsError) -> (Reason, DocumentState) {
    let reason = Error::from(error.clone()).reason();
    match reason.is_stall() {
        true => (reason, DocumentState::Blocked),
        false => (reason, DocumentState::Failed),
    }
}

/// A part as ECR has it, whatever anybody wants of it.
pub(crate) async fn read(ecr: &Ecr, part: Part) -> std::result::Result<plan::Seen, AwsError> {
    let wish = match part {
        Part::RegistryPolicyScope => Wish::Scope { confirmed: true },
        _ => Wish::Policy(None),
    };
    act::read(ecr, part, &wish).await
}

/// What would be done about the documents of a Registry, for `ecr-operator plan`: the steps, and the verdict of the rest.
pub(crate) async fn foresee(registry: &Registry, connection: &Connection, verdict: Verdict) -> (Vec<String>, Verdict) {
    let Some(manage) = may_write(registry, connection.standing()) else {
        return (Vec::new(), verdict);
    };
    let recorded = told::recorded(registry);
    let (mut steps, mut differences, mut failures) = (Vec::new(), Vec::new(), Vec::new());
    for part in Part::ALL {
        let wish = match wish(&registry.spec, part) {
            None => continue,
            Some(Err(why)) => {
                failures.push((Reason::Invalid, format!("spec.{part}: {why}")));
                continue;
            }
            Some(Ok(wish)) => wish,
        };
        match act::read(&connection.ecr, part, &wish).await {
            Err(error) => failures.push((fault(&error).0, format!("spec.{part}: {error}"))),
            Ok(seen) => {
                let mut recorded = recorded.clone();
                recorded.seen(&seen);
                match decide(part, &wish, &seen, &recorded) {
                    Decision::Settled => {}
                    Decision::Step { step, .. } if manage => steps.push(step.to_string()),
                    Decision::Step { step, .. } => differences.push(step.to_string()),
                    Decision::Blocked { reason, message } => failures.push((reason, format!("spec.{part}: {message}"))),
                }
            }
        }
    }
    let verdict = match (failures.first(), verdict) {
        (Some((reason, _)), _) => {
            let all: Vec<&str> = failures.iter().map(|(_, message)| message.as_str()).collect();
            Verdict::blocked(*reason, all.join("; "))
        }
        (None, Verdict::Observed { differences: others }) => Verdict::Observed {
            differences: others.into_iter().chain(differences).collect(),
        },
        (None, verdict) => verdict,
    };
    (steps, verdict)
}
