//! Reads the queues, one task each, and turns what they say into hints.
//!
//! # Guarantees
//! - A message is deleted only after its hint is queued. One that was received and not deleted, because the program ended
//!   in between, comes again after the queue's visibility timeout.
//! - Nothing is believed: a hint makes the operator look, and what it sees then decides. A message that is lost is made
//!   up for by the listing and the full checks; one that comes twice or late costs a look.
//! - What a queue can bring about is bounded, see [`super::flood`]: a look at a thing that exists here, a few at once.
//! - Only the leader reads: SQS gives a message to one reader.

use std::{
    collections::{HashMap, HashSet},
    future::{Future, pending},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kube::{Resource as _, runtime::reflector::ObjectRef};
use tokio::task::JoinHandle;

use super::{
    flood::{Flood, Subject as Looked},
    message::{self, Home, Meaning, Setting, Subject},
    queues::{Source, State},
};
use crate::{
    api::{CLAIM_REPOSITORY, names::RepositoryName},
    aws::{
        error::{AwsError, Fault},
        sqs::Received,
    },
    control::{context::Context, events::News, events::cut},
    controllers::world::{Hint, World},
};

/// How long a poll waits for a message; the longest SQS allows, and the cheapest.
const WAIT_SECONDS: u8 = 20;

/// How long the first poll waits: whether the queue answers at all is told soon.
const FIRST_WAIT_SECONDS: u8 = 1;

/// The longest pause after polls that failed. Rights that were granted, or a queue that was made, are noticed by then.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The pause after a batch of which nothing was an event of ECR. Where the queue does not hide what was received, it would be
/// given out again at once, without end.
const NOTHING_TO_READ: Duration = Duration::from_secs(1);

/// How many polls in a row have to fail, for a cause that may pass by itself, before it is told.
const TELL_AFTER: u32 = 3;

/// The longest message in a status.
const MESSAGE: usize = 1_000;

/// Reads every queue that a Registry names, until `shutdown`.
pub(crate) async fn run(ctx: Arc<Context<World>>, shutdown: impl Future<Output = ()>) {
    let mut wanted = ctx.world.queues.subscribe();
    let mut tasks: HashMap<String, Task> = HashMap::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let sources = wanted.borrow_and_update().clone();
        tasks.retain(|registry, task| sources.get(registry) == Some(&task.source));
        for (registry, source) in sources {
            tasks
                .entry(registry.clone())
                .or_insert_with(|| Task::start(Arc::clone(&ctx), registry, source));
        }
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = &mut shutdown => return,
        }
    }
}

/// The reading of one queue; it ends when this is dropped.
struct Task {
    source: Source,
    handle: JoinHandle<()>,
}

impl Task {
    fn start(ctx: Arc<Context<World>>, registry: String, source: Source) -> Self {
        let listener = Listener {
            ctx,
            registry,
            source: source.clone(),
            flood: Flood::default(),
            failures: 0,
            proven: false,
        };
        let handle = tokio::spawn(listener.listen());
        Self { source, handle }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// What reads one queue.
struct Listener {
    ctx: Arc<Context<World>>,
    registry: String,
    source: Source,
    flood: Flood,
    /// Failed polls in a row.
    failures: u32,
    /// The queue has answered.
    proven: bool,
}

/// What a batch of messages asks for.
#[derive(Default)]
struct Asked {
    repositories: HashSet<RepositoryName>,
    settings: HashSet<(Setting, Option<String>)>,
    registry: bool,
    images: HashSet<(RepositoryName, message::ImageChange)>,
    receipts: Vec<String>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    /// There was none, or some of it was read and is gone.
    Away,
    /// All of it stays on the queue.
    Left,
}

impl Listener {
    async fn listen(mut self) {
        tracing::info!(registry = %self.registry, queue = %self.source.queue_url, "reading events");
        loop {
            let sqs = self.source.connection.sqs.clone();
            let queue = self.source.queue_url.clone();
            let wait = if self.proven { WAIT_SECONDS } else { FIRST_WAIT_SECONDS };
            let polled = self.meanwhile(async { sqs.receive(&queue, wait).await }).await;
            let outcome = match polled {
                Ok(messages) => self.take(&messages).await,
                Err(error) => Err(error),
            };
            match outcome {
                Ok(taken) => {
                    self.answered();
                    if taken == Taken::Left {
                        self.meanwhile(tokio::time::sleep(NOTHING_TO_READ)).await;
                    }
                }
                Err(error) => {
                    let pause = self.failed(&error);
                    self.meanwhile(tokio::time::sleep(pause)).await;
                }
            }
        }
    }

    /// Waits for something, and lets looks go on the way that were held back.
    async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        loop {
            let due = self.flood.due();
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                done = &mut wait => return done,
                () = due => self.release(),
            }
        }
    }

    /// Queues the hints of a batch, then deletes its messages.
    async fn take(&mut self, messages: &[Received]) -> Result<Taken, AwsError> {
        let mut asked = Asked::default();
        if !messages.is_empty() {
            self.source.connection.ecr.settle().await;
        }
        for message in messages {
            self.read(message, &mut asked);
        }
        self.hint(&mut asked);
        self.release();
        if asked.receipts.is_empty() {
            let empty = messages.is_empty();
            return Ok(if empty { Taken::Away } else { Taken::Left });
        }
        let sqs = &self.source.connection.sqs;
        let left = sqs.delete(&self.source.queue_url, &asked.receipts).await?;
        if left > 0 {
            tracing::warn!(registry = %self.registry, left, "SQS did not delete some messages; they come again");
            return Ok(if left == asked.receipts.len() {
                Taken::Left
            } else {
                Taken::Away
            });
        }
        Ok(Taken::Away)
    }

    fn read(&self, received: &Received, asked: &mut Asked) {
        let connection = &self.source.connection;
        let home = Home {
            account: &connection.registry_id,
            region: connection.region(),
        };
        let reading = message::read(&received.body, home);
        let ours = match &reading.meaning {
            Meaning::Changed {
                request: Some(request), ..
            } => connection.ecr.wrote(request),
            _ => false,
        };
        let (kind, outcome) = (
            reading.kind.as_str(),
            if ours { "own-write" } else { reading.meaning.as_str() },
        );
        let age = received
            .sent
            .and_then(|sent| Duration::try_from(Timestamp::now().duration_since(sent)).ok());
        self.ctx.metrics.event(&self.registry, kind, outcome, age);
        tracing::debug!(registry = %self.registry, message = %received.id, kind, outcome, "read an event");
        if reading.meaning == Meaning::NotEcr {
            return;
        }
        asked.receipts.push(received.receipt.clone());
        let Meaning::Changed { subjects, .. } = reading.meaning else {
            return;
        };
        if ours {
            return;
        }
        for subject in subjects {
            match subject {
                Subject::Repository(name) if name.as_str() == CLAIM_REPOSITORY => asked.registry = true,
                Subject::Repository(name) => {
                    asked.repositories.insert(name);
                }
                Subject::Setting(setting, prefix) => {
                    asked.settings.insert((setting, prefix));
                }
                Subject::Registry => asked.registry = true,
                Subject::Image(name, what) => {
                    asked.images.insert((name, what));
                }
            }
        }
    }

    fn hint(&mut self, asked: &mut Asked) {
        let world = &self.ctx.world;
        for (repository, what) in asked.images.drain() {
            world.hint(Hint::Image {
                registry: self.registry.clone(),
                repository,
                what,
            });
        }
        // What no object here speaks of is not looked at, and takes no room.
        let names = Hint::Changed(self.registry.clone(), std::mem::take(&mut asked.repositories));
        let known = world.named(&names);
        let now = Instant::now();
        let flood = &mut self.flood;
        let mut wanted: HashSet<Looked> = known.into_iter().map(Looked::Repository).collect();
        for (setting, prefix) in asked.settings.drain() {
            let known = world.prefixed.prefixes(&self.registry, setting, prefix.as_deref());
            wanted.extend(known.into_iter().map(|prefix| Looked::Setting(setting, prefix)));
        }
        if asked.registry {
            wanted.insert(Looked::Registry);
        }
        wanted.retain(|subject| flood.admit(subject.clone(), now));
        self.look(wanted);
    }

    /// Lets the looks go that were held back long enough.
    fn release(&mut self) {
        let released = self.flood.release(Instant::now());
        self.look(released);
    }

    fn look(&self, subjects: impl IntoIterator<Item = Looked>) {
        let mut names = HashSet::new();
        let mut settings: HashMap<Setting, HashSet<String>> = HashMap::new();
        for subject in subjects {
            match subject {
                Looked::Repository(name) => {
                    names.insert(name);
                }
                Looked::Setting(setting, prefix) => {
                    settings.entry(setting).or_default().insert(prefix);
                }
                Looked::Registry => self.ctx.world.hint(Hint::Look {
                    registry: self.registry.clone(),
                    asked: true,
                }),
            }
        }
        if !names.is_empty() {
            self.ctx.world.hint(Hint::Changed(self.registry.clone(), names));
        }
        for (setting, prefixes) in settings {
            self.ctx.world.hint(Hint::Settings {
                registry: self.registry.clone(),
                setting,
                prefixes,
            });
        }
    }

    fn answered(&mut self) {
        self.failures = 0;
        self.proven = true;
        let before = self.ctx.world.queues.state(&self.registry);
        if before == Some(State::Listening) {
            return;
        }
        if let Some(State::Failing(_)) = before {
            self.tell(News::Normal, "EventsListening", "Events are read again.".into());
        }
        self.show(State::Listening);
    }

    /// Tells of a poll that failed; gives how long to pause.
    fn failed(&mut self, error: &AwsError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.proven = false;
        self.ctx.metrics.events_failed(&self.registry, error.kind());
        let pause = pause(self.failures, fastrand::f64());
        tracing::warn!(registry = %self.registry, %error, retry_in_s = pause.as_secs(), "events could not be read");
        let fault = error.fault;
        if self.failures >= TELL_AFTER || !may_pass(fault) {
            let error = error.to_string();
            let mut text = format!("Events are not read: {}. {}", error.trim_end_matches('.'), cure(fault));
            cut(&mut text, MESSAGE);
            let state = State::Failing(text.clone());
            if self.ctx.world.queues.state(&self.registry).as_ref() != Some(&state) {
                self.tell(News::Warning, "EventsFailing", text);
                self.show(state);
            }
        }
        pause
    }

    /// Tells it of the Registry.
    fn tell(&self, news: News, reason: &'static str, note: String) {
        if let Some(guard) = self.ctx.world.registries.get(&ObjectRef::new(&self.registry))
            && let Ok(registry) = &guard.0
        {
            self.ctx.events.tell(registry.object_ref(&()), news, reason, note);
        }
    }

    /// Has the Registry show in its status how it goes.
    fn show(&self, state: State) {
        self.ctx.world.queues.note(&self.registry, state);
        self.ctx.world.hint(Hint::Look {
            registry: self.registry.clone(),
            asked: false,
        });
    }
}

/// The pause after a number of failures in a row: from one second, doubling. `random` from 0 to 1 spreads it.
fn pause(failures: u32, random: f64) -> Duration {
    let doubled = Duration::from_secs(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(0.8 + 0.4 * random)
}

/// Whether a fault may pass by itself within seconds.
const fn may_pass(fault: Fault) -> bool {
    matches!(fault, Fault::Throttled | Fault::Unavailable | Fault::Conflict)
}

const fn cure(fault: Fault) -> &'static str {
    match fault {
        Fault::Denied => {
            "Allow sqs:ReceiveMessage and sqs:DeleteMessage on the queue to the role of the Registry, and kms:Decrypt where the queue has a KMS key of yours."
        }
        Fault::NotFound => "Create the queue, or correct spec.events.queueUrl.",
        Fault::Invalid | Fault::Quota => "Correct spec.events.queueUrl or the queue.",
        Fault::Throttled | Fault::Unavailable | Fault::Conflict => {
            "It is tried again by itself; until then, changes by others are noticed by listing and by full checks."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_are_spread() {
        let seconds = |failures| pause(failures, 0.5).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 60].map(seconds), [1, 2, 4, 32, 60, 60]);
        assert!(pause(60, 0.0) < pause(60, 1.0));
    }

    #[test]
    fn what_does_not_pass_by_itself_has_a_cure_that_names_what_to_change() {
        for fault in [Fault::Denied, Fault::NotFound, Fault::Invalid, Fault::Quota] {
            assert!(!may_pass(fault) && cure(fault).contains("queue"), "{fault:?}");
        }
    }
}
