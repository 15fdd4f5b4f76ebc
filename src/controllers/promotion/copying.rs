//! Copies, which take longer than a reconcile may: each is a task of its own. One that a restart has cut off is begun
//! again and sends only what is not there yet.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use kube::{ResourceExt as _, core::DeserializeGuard, runtime::reflector::ObjectRef};
use tokio::{sync::Semaphore, task::AbortHandle};

use super::{Run, way};
use crate::{
    api::{
        ImagePromotion,
        names::Digest,
        promotion::{ImagePromotionStatus, ImageStatus},
    },
    aws::error::AwsError,
    control::{
        error::{Error, Result},
        reason::Reason,
    },
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

/// Which image, to which repository.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    digest: Digest,
    to: String,
    /// The number of the rollout that wants it; 0 outside of one.
    rollout: u64,
}

/// The newest copy of each promotion, by its uid.
#[derive(Debug)]
pub(super) struct Copies {
    tasks: Mutex<HashMap<String, Task>>,
    turns: Arc<Semaphore>,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            tasks: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

#[derive(Debug)]
struct Task {
    wanted: Wanted,
    handle: AbortHandle,
    end: Arc<OnceLock<(Instant, Result<Copied, CopyError>)>>,
}

impl Task {
    fn progress(&self) -> Progress {
        // Asked before the end, which may be set any moment.
        let is_finished = self.handle.is_finished();
        let Some((when, end)) = self.end.get() else {
            // Over without an end: it panicked.
            return match is_finished {
                true => Progress::NotStarted,
                false => Progress::Running("its blobs are on their way".into()),
            };
        };
        let is_over = when.elapsed() >= AGAIN;
        match end {
            // Outside of a rollout it is asked for again where what was copied is gone, or what hindered it may be.
            _ if self.wanted.rollout == 0 && is_over => Progress::NotStarted,
            Ok(_) => Progress::Done,
            Err(error) if may_pass(error) => match is_over {
                true => Progress::NotStarted,
                false => Progress::Running(error.to_string()),
            },
            Err(error) => Progress::Failed(error.to_string()),
        }
    }
}

/// Whether another attempt may succeed: a right may be given while the rollout waits.
fn may_pass(error: &CopyError) -> bool {
    error.can_heal() || error.reason() == Reason::Denied
}

impl Copies {
    fn tasks(&self) -> MutexGuard<'_, HashMap<String, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts off what the promotion has under way: nobody wants it any more. A copy that came to its end later would put its
    /// tag on an image that was left.
    pub(super) fn forget(&self, uid: &str) {
        if let Some(task) = self.tasks().remove(uid) {
            task.handle.abort();
        }
    }

    /// The promotion is in this rollout now, or in none: a copy for another is cut off.
    pub(super) fn leave(&self, uid: &str, rollout: u64) {
        let is_left = |task: &Task| task.wanted.rollout != rollout;
        if self.tasks().get(uid).is_some_and(is_left) {
            self.forget(uid);
        }
    }

    /// What hindered or mended an earlier attempt for another rollout says nothing about this one.
    fn progress(&self, uid: &str, wanted: &Wanted) -> Progress {
        let tasks = self.tasks();
        let task = tasks.get(uid).filter(|task| task.wanted == *wanted);
        task.map_or(Progress::NotStarted, Task::progress)
    }

    /// What a registry had against the copy that waits for its next attempt.
    fn refusal(&self, uid: &str) -> Option<Error> {
        match self.tasks().get(uid)?.end.get()? {
            (_, Err(CopyError::Registry { error, place })) => Some(Error::Aws(AwsError {
                message: format!("{} ({place})", error.message),
                ..error.clone()
            })),
            _ => None,
        }
    }

    fn start(&self, uid: String, task: Task) {
        if let Some(old) = self.tasks().insert(uid, task) {
            old.handle.abort();
        }
    }
}

impl Run<'_> {
    pub(super) fn look_at_copy(&mut self, image: &ImageStatus) -> Result<()> {
        let copies = &self.ctx.world.promoting.copies;
        let uid = self.uid();
        let progress = copies.progress(&uid, &self.wanted(image)?);
        // It says who has to do what; that a rollout goes on does not.
        if matches!(progress, Progress::Running(_))
            && let Some(refusal) = copies.refusal(&uid)
        {
            self.failure = Some(refusal);
        }
        self.facts.copy = Some((image.digest.clone(), progress));
        Ok(())
    }

    fn wanted(&self, image: &ImageStatus) -> Result<Wanted> {
        Ok(Wanted {
            digest: image.digest.clone(),
            to: self.place()?.runs().uri.clone(),
            rollout: rollout_of(&self.status),
        })
    }

    /// Begins a copy; one that is under way goes on.
    pub(super) fn start_copy(&mut self, image: &ImageStatus) -> Result<()> {
        self.facts.copy = None;
        let copies = &self.ctx.world.promoting.copies;
        let (uid, wanted) = (self.uid(), self.wanted(image)?);
        if copies.progress(&uid, &wanted) != Progress::NotStarted {
            return Ok(());
        }
        let way = self.place()?;
        let Some(to) = &way.copy else { return Ok(()) };
        let source = self.plane(&way.source);
        let destination = Destination {
            place: self.plane(to),
            pace: to.connection.ecr.pace(),
        };
        let tag = self.object.spec.copy_to.as_ref().and_then(|to| to.tag.clone());
        let tags: Vec<TagWish> = tag
            .or_else(|| image.tag.clone())
            .into_iter()
            .map(TagWish::new)
            .collect();
        let turns = Arc::clone(&copies.turns);
        let nudges = self.ctx.world.nudges.clone();
        let promotion = ObjectRef::<DeserializeGuard<ImagePromotion>>::new(&self.object.name_any())
            .within(&self.object.namespace().unwrap_or_default());
        let end = Arc::new(OnceLock::new());
        let (ending, digest) = (Arc::clone(&end), image.digest.clone());
        let handle = tokio::spawn(async move {
            // Never closed.
            let Ok(_turn) = turns.acquire().await else { return };
            let ended = copy::copy(&source, &destination, &digest, &tags, &Options::default()).await;
            if let Err(error) = &ended {
                tracing::warn!(%error, "an image could not be copied");
            }
            // Nobody else sets it.
            let _ = ending.set((Instant::now(), ended));
            // Nobody listens only while the program ends.
            let _ = nudges.unbounded_send(promotion);
        });
        let handle = handle.abort_handle();
        copies.start(uid, Task { wanted, handle, end });
        Ok(())
    }

    fn plane(&self, place: &way::Place) -> plane::Place {
        let world = &self.ctx.world;
        let host = RegistryHost::new(place.connection.registry_id.clone(), place.region.clone());
        plane::Place {
            plane: Plane::new(
                world.promoting.http.clone(),
                place.connection.ecr.clone(),
                host,
                world.gate.clone(),
            ),
            repository: place.name.clone(),
        }
    }
}

/// The number of the rollout under way; 0 outside of one.
pub(super) fn rollout_of(status: &ImagePromotionStatus) -> u64 {
    status.rollout.as_ref().map_or(0, |rollout| rollout.id)
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;
    use crate::aws::error::Fault;

    fn wanted(rollout: u64) -> Wanted {
        Wanted {
            digest: Digest::of(b"image"),
            to: "host/copies".into(),
            rollout,
        }
    }

    fn under_way(rollout: u64) -> (Task, tokio::task::JoinHandle<()>) {
        let handle = tokio::spawn(pending());
        let task = Task {
            wanted: wanted(rollout),
            handle: handle.abort_handle(),
            end: Arc::default(),
        };
        (task, handle)
    }

    /// One that ended so long ago.
    fn ended(rollout: u64, end: Result<Copied, CopyError>, ago: Duration) -> anyhow::Result<Task> {
        let when = Instant::now().checked_sub(ago);
        let when = anyhow::Context::context(when, "the clock began a moment ago")?;
        Ok(Task {
            wanted: wanted(rollout),
            handle: tokio::spawn(ready(())).abort_handle(),
            end: Arc::new(OnceLock::from((when, end))),
        })
    }

    fn refused(fault: Fault) -> CopyError {
        CopyError::Registry {
            place: "host/copies".into(),
            error: AwsError::unanswered("PUT manifest", fault, "why".into()),
        }
    }

    #[tokio::test]
    async fn a_copy_that_nobody_wants_any_more_is_cut_off() {
        let copies = Copies::default();
        let (first, first_task) = under_way(1);
        copies.start("uid".into(), first);
        copies.leave("uid", 1);
        assert!(matches!(copies.progress("uid", &wanted(1)), Progress::Running(_)));
        // Another one takes its place.
        let (second, second_task) = under_way(2);
        copies.start("uid".into(), second);
        assert!(first_task.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(copies.progress("uid", &wanted(1)), Progress::NotStarted);
        // Its rollout ends.
        copies.leave("uid", 0);
        assert!(second_task.await.is_err_and(|error| error.is_cancelled()));
        assert_eq!(copies.progress("uid", &wanted(2)), Progress::NotStarted);
    }

    #[tokio::test]
    async fn one_that_panicked_is_begun_again() {
        let handle = tokio::spawn(async { panic!("the copy failed") });
        let task = Task {
            wanted: wanted(1),
            handle: handle.abort_handle(),
            end: Arc::default(),
        };
        assert!(handle.await.is_err());
        assert_eq!(task.progress(), Progress::NotStarted);
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_after_a_while_and_the_rest_fails_its_rollout() -> anyhow::Result<()> {
        for fault in [Fault::Throttled, Fault::Unavailable, Fault::Denied] {
            let soon = ended(1, Err(refused(fault)), Duration::ZERO)?;
            assert!(matches!(soon.progress(), Progress::Running(_)));
            let later = ended(1, Err(refused(fault)), AGAIN)?;
            assert_eq!(later.progress(), Progress::NotStarted);
        }
        let later = ended(1, Err(refused(Fault::Quota)), AGAIN)?;
        assert!(matches!(later.progress(), Progress::Failed(_)));
        Ok(())
    }

    #[tokio::test]
    async fn outside_of_a_rollout_an_end_does_not_last() -> anyhow::Result<()> {
        // The copy may have been deleted, or the tag that was in its way.
        let failed = || Err(refused(Fault::Quota));
        assert!(matches!(
            ended(0, failed(), Duration::ZERO)?.progress(),
            Progress::Failed(_)
        ));
        assert_eq!(ended(0, failed(), AGAIN)?.progress(), Progress::NotStarted);
        Ok(())
    }
}
