//! Events on objects: each thing once. Publishing never holds a reconcile up.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::sync::{mpsc, oneshot};

/// The same words on the same object are not published again within this time.
const QUIET: Duration = Duration::from_mins(10);

/// How many Events may wait to be published; beyond it they are dropped, since an Event is never the only place where
/// something is told.
const WAITING: usize = 2_000;

/// The longest note the API takes is 1 kB.
const NOTE: usize = 1_000;

/// What kind of news it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum News {
    Normal,
    Warning,
}

/// What the publisher is sent.
enum Message {
    Tell(Box<ObjectReference>, News, &'static str, String),
    /// Answered when everything sent before it was published.
    Flush(oneshot::Sender<()>),
}

/// How long one Event may take to be published: those after it wait.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the last Events may take to be published when the program stops.
const FLUSH: Duration = Duration::from_secs(1);

/// Publishes Events. kube's `Recorder` was rejected: within six minutes it folds Events of one reason into one and
/// keeps the first note, so that of two repaired settings the second would never be told.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    queue: mpsc::Sender<Message>,
}

impl Events {
    /// Starts the publisher; it ends when every clone is dropped.
    pub(crate) fn start(client: Client) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        tokio::spawn(publish(client, waiting));
        Self { queue }
    }

    /// Tells something about an object.
    pub(crate) fn tell(&self, object: ObjectReference, news: News, reason: &'static str, note: impl Into<String>) {
        let message = Message::Tell(Box::new(object), news, reason, note.into());
        if self.queue.try_send(message).is_err() {
            tracing::debug!(reason, "too many Events are waiting; one was dropped");
        }
    }

    /// Waits until what was told is published, for a short while at most.
    pub(crate) async fn flush(&self) {
        let flushed = async {
            let (done, waits) = oneshot::channel();
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                // The publisher ends only with the program.
                let _ = waits.await;
            }
        };
        if tokio::time::timeout(FLUSH, flushed).await.is_err() {
            tracing::warn!("some Events could not be published before the end");
        }
    }
}

async fn publish(client: Client, mut waiting: mpsc::Receiver<Message>) {
    let instance = std::env::var("POD_NAME").unwrap_or_else(|_| "ecr-operator".into());
    let mut told: HashMap<u64, Instant> = HashMap::new();
    while let Some(message) = waiting.recv().await {
        let (object, news, reason, mut note) = match message {
            Message::Tell(object, news, reason, note) => (*object, news, reason, note),
            Message::Flush(done) => {
                // Nobody waits any more where it took too long.
                let _ = done.send(());
                continue;
            }
        };
        cut(&mut note, NOTE);
        told.retain(|_, when| when.elapsed() < QUIET);
        let mut hasher = DefaultHasher::new();
        (object.uid.as_deref(), news, reason, &note).hash(&mut hasher);
        if told.contains_key(&hasher.finish()) {
            continue;
        }
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
        let event = event(object, news, reason, note, &instance, Timestamp::now());
        let api = Api::<Event>::namespaced(client.clone(), &namespace);
        match tokio::time::timeout(ANSWER, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {
                told.insert(hasher.finish(), Instant::now());
            }
            // The namespace of a deleted object may be going away with it.
            Ok(Err(error)) => tracing::debug!(%error, reason, "an Event could not be published"),
            Err(_) => tracing::debug!(reason, "an Event got no answer"),
        }
    }
}

fn event(object: ObjectReference, news: News, reason: &str, note: String, instance: &str, now: Timestamp) -> Event {
    let name = object.name.as_deref().unwrap_or("ecr-operator");
    Event {
        metadata: ObjectMeta {
            // Object names have up to 253 characters, and so has the name of an Event.
            name: Some(format!("{:.220}.{:x}", name, now.as_nanosecond())),
            namespace: Some(object.namespace.clone().unwrap_or_else(|| "default".into())),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".into()),
        event_time: Some(MicroTime(now)),
        note: Some(note),
        reason: Some(reason.into()),
        regarding: Some(object),
        reporting_controller: Some("ecr-operator.dev/ecr-operator".into()),
        reporting_instance: Some(instance.into()),
        type_: Some(match news {
            News::Normal => "Normal".into(),
            News::Warning => "Warning".into(),
        }),
        ..Event::default()
    }
}

/// Shortens a text to at most `limit` bytes, at a character's boundary, and shows that it did.
pub(crate) fn cut(text: &mut String, limit: usize) {
    if text.len() <= limit {
        return;
    }
    let mut end = limit.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push('…');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_characters_boundary() {
        let mut note = "ä".repeat(600);
        cut(&mut note, NOTE);
        assert!(note.len() <= NOTE && note.ends_with('…'));
        let mut short = "short".to_owned();
        cut(&mut short, NOTE);
        assert_eq!(short, "short");
    }
}
