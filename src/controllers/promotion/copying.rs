//! Copies, which take longer than a reconcile may: each is a task of its own. One that a restart has cut off is begun
//! again and sends only what is not there yet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kube::{ResourceExt as _, core::DeserializeGuard, runtime::reflector::ObjectRef};
use tokio::{sync::Semaphore, task::AbortHandle};

use super::{Run, way};
use crate::{
    api::{ImagePromotion, names::Digest, promotion::ImageStatus},
    control::{error::Result, reason::Reason},
    oci::{
        copy::{self, Copied, Options},
        destination::{Destination, TagWish},
        error::CopyError,
        plane::{self, Plane},
        reference::RegistryHost,
    },
    promotion::facts::Progress,
};

/// How many images are copied at once by one operator; each holds a few blobs in flight.
const AT_ONCE: usize = 2;

/// After how long an attempt that failed for a reason that may go away is followed by another.
const AGAIN: Duration = Duration::from_secs(30);

/// Which copy: of which promotion, which image, to which repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    uid: String,
    digest: Digest,
    to: String,
}

/// The copies under way and those that ended.
#[derive(Debug)]
pub(super) struct Copies {
    tasks: Arc<Mutex<HashMap<Key, Task>>>,
    turns: Arc<Semaphore>,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            tasks: Arc::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

#[derive(Debug)]
struct Task {
    handle: AbortHandle,
    /// The number of the rollout that began it.
    rollout: u64,
    end: Option<(Instant, Result<Copied, CopyError>)>,
}

impl Copies {
    fn tasks(&self) -> MutexGuard<'_, HashMap<Key, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The promotion is gone: what it has under way is cut off.
    pub(super) fn forget(&self, uid: &str) {
        self.tasks().retain(|key, task| {
            if key.uid == uid {
                task.handle.abort();
            }
            key.uid != uid
        });
    }

    fn progress(&self, key: &Key, rollout: u64) -> Progress {
        let tasks = self.tasks();
        let Some(task) = tasks.get(key) else {
            return Progress::NotStarted;
        };
        match &task.end {
            // What hindered an earlier rollout may be mended by now, and what that one has copied may be gone.
            Some(_) if task.rollout != rollout => Progress::NotStarted,
            None => Progress::Running("its blobs are on their way".into()),
            Some((_, Ok(_))) => Progress::Done,
            Some((when, Err(error))) if error.can_heal() || error.reason() == Reason::Denied => {
                match when.elapsed() < AGAIN {
                    true => Progress::Running(error.to_string()),
                    false => Progress::NotStarted,
                }
            }
            Some((_, Err(error))) => Progress::Failed(error.to_string()),
        }
    }
}

impl Run<'_> {
    pub(super) fn look_at_copy(&mut self, image: &ImageStatus) -> Result<()> {
        let copies = &self.ctx.world.promoting.copies;
        let progress = copies.progress(&self.copy_key(image)?, self.rollout());
        self.facts.copy = Some((image.digest.clone(), progress));
        Ok(())
    }

    fn copy_key(&self, image: &ImageStatus) -> Result<Key> {
        Ok(Key {
            uid: self.object.uid().unwrap_or_default(),
            digest: image.digest.clone(),
            to: self.place()?.runs().uri.clone(),
        })
    }

    /// The number of the rollout under way.
    fn rollout(&self) -> u64 {
        self.status.rollout.as_ref().map_or(0, |rollout| rollout.id)
    }

    /// Begins a copy; one that is under way goes on.
    pub(super) fn start_copy(&mut self, image: &ImageStatus) -> Result<()> {
        self.facts.copy = None;
        let key = self.copy_key(image)?;
        let copies = &self.ctx.world.promoting.copies;
        if copies.progress(&key, self.rollout()) != Progress::NotStarted {
            return Ok(());
        }
        let way = self.place()?;
        let Some(to) = &way.copy else { return Ok(()) };
        let source = self.plane(&way.source)?;
        let destination = Destination {
            place: self.plane(to)?,
            pace: to.connection.ecr.pace(),
        };
        let wanted = self.object.spec.copy_to.as_ref().and_then(|to| to.tag.clone());
        let tags: Vec<TagWish> = wanted
            .or_else(|| image.tag.clone())
            .into_iter()
            .map(TagWish::new)
            .collect();
        let digest = image.digest.clone();
        let (turns, tasks) = (Arc::clone(&copies.turns), Arc::clone(&copies.tasks));
        let nudge = (
            self.ctx.world.nudges.clone(),
            ObjectRef::<DeserializeGuard<ImagePromotion>>::new(&self.object.name_any())
                .within(&self.object.namespace().unwrap_or_default()),
        );
        let ending = key.clone();
        // Held until the task stands in the map, or a quick end would find no place to be noted.
        let mut held = copies.tasks();
        let handle = tokio::spawn(async move {
            let end = match turns.acquire().await {
                Ok(_turn) => copy::copy(&source, &destination, &digest, &tags, &Options::default()).await,
                // Never closed.
                Err(_) => return,
            };
            if let Err(error) = &end {
                tracing::warn!(%error, "an image could not be copied");
            }
            if let Some(task) = tasks.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&ending) {
                task.end = Some((Instant::now(), end));
            }
            // Nobody listens only while the program ends.
            let _ = nudge.0.unbounded_send(nudge.1);
        });
        held.insert(
            key,
            Task {
                handle: handle.abort_handle(),
                rollout: self.rollout(),
                end: None,
            },
        );
        Ok(())
    }

    fn plane(&self, place: &way::Place) -> Result<plane::Place> {
        let world = &self.ctx.world;
        let host = RegistryHost::new(place.connection.registry_id.clone(), place.region.clone());
        let http = plane::http_client().map_err(|error| crate::control::error::Error::Refused {
            what: "copy the image".into(),
            why: error.to_string(),
        })?;
        Ok(plane::Place {
            plane: Plane::new(http, place.connection.ecr.clone(), host, world.gate.clone()),
            repository: place.name.clone(),
        })
    }
}
