//! The next state of one container.

use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::behaviour::Behaviour;
use bed_programs::sha256;

/// How long a container that is to end runs.
const TASK: Duration = Duration::from_secs(1);

/// How long lies between two starts of a container that crashes. A real node begins with ten seconds and doubles them.
const BACK_OFF: Duration = Duration::from_secs(2);

/// When a container that ended is started again: a pod's `restartPolicy`, or `Always` for a sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    pub(super) fn parse(policy: Option<&str>) -> Self {
        match policy {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn after(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// A container that has not been started, and why.
pub(super) fn waiting(container: &Container, reason: &str) -> ContainerStatus {
    ContainerStatus {
        name: container.name.clone(),
        image: image(container).to_owned(),
        started: Some(false),
        state: Some(state_waiting(reason, None)),
        ..ContainerStatus::default()
    }
}

/// What `container` comes to after `previous`. `uid` is its pod's.
pub(super) fn next(
    container: &Container,
    previous: Option<&ContainerStatus>,
    behaviour: Behaviour,
    restart: Restart,
    uid: &str,
    now: Timestamp,
) -> ContainerStatus {
    let step = Step {
        container,
        behaviour,
        restart,
        uid,
        now,
    };
    let previous = previous
        .cloned()
        .unwrap_or_else(|| waiting(container, "ContainerCreating"));
    let state = previous.state.clone().unwrap_or_default();
    if let Some(running) = &state.running {
        step.run_on(previous, running)
    } else if let Some(terminated) = &state.terminated {
        step.after_its_end(previous, terminated)
    } else {
        step.leave_waiting(previous)
    }
}

struct Step<'a> {
    container: &'a Container,
    behaviour: Behaviour,
    restart: Restart,
    uid: &'a str,
    now: Timestamp,
}

impl Step<'_> {
    fn run_on(&self, previous: ContainerStatus, running: &ContainerStateRunning) -> ContainerStatus {
        let lasted = |time| {
            running
                .started_at
                .as_ref()
                .is_none_or(|start| passed(&start.0, self.now) >= time)
        };
        match self.behaviour {
            Behaviour::Crash => self.end(previous, running, 1),
            Behaviour::CrashAfterReady(time) if lasted(time) => self.end(previous, running, 1),
            Behaviour::Healthy if self.restart != Restart::Always && lasted(TASK) => self.end(previous, running, 0),
            behaviour => ContainerStatus {
                ready: behaviour != Behaviour::NeverReady,
                ..previous
            },
        }
    }

    fn end(&self, previous: ContainerStatus, running: &ContainerStateRunning, exit_code: i32) -> ContainerStatus {
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        let terminated = ContainerStateTerminated {
            container_id: previous.container_id.clone(),
            exit_code,
            reason: Some(reason.to_owned()),
            started_at: running.started_at.clone(),
            finished_at: Some(Time(self.now)),
            ..ContainerStateTerminated::default()
        };
        ContainerStatus {
            ready: false,
            started: Some(false),
            state: Some(ContainerState {
                terminated: Some(terminated),
                ..ContainerState::default()
            }),
            ..previous
        }
    }

    fn after_its_end(&self, previous: ContainerStatus, terminated: &ContainerStateTerminated) -> ContainerStatus {
        if !self.restart.after(terminated.exit_code) {
            return previous;
        }
        let last_state = Some(ContainerState {
            terminated: Some(terminated.clone()),
            ..ContainerState::default()
        });
        // As on a real node: the first restart comes at once.
        if previous.restart_count == 0 {
            return self.start(ContainerStatus { last_state, ..previous }, 1);
        }
        let message = format!(
            "back-off {}s restarting failed container={}",
            BACK_OFF.as_secs(),
            self.container.name
        );
        ContainerStatus {
            state: Some(state_waiting("CrashLoopBackOff", Some(message))),
            last_state,
            ..previous
        }
    }

    fn leave_waiting(&self, previous: ContainerStatus) -> ContainerStatus {
        let ended = previous.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        if let Some(ended) = ended {
            let rested = ended
                .finished_at
                .as_ref()
                .is_none_or(|end| passed(&end.0, self.now) >= BACK_OFF);
            let restarts = previous.restart_count + 1;
            return if rested {
                self.start(previous, restarts)
            } else {
                previous
            };
        }
        if self.behaviour != Behaviour::PullError {
            return self.start(previous, 0);
        }
        let image = image(self.container);
        let waiting = previous.state.as_ref().and_then(|state| state.waiting.as_ref());
        let reason = waiting.and_then(|waiting| waiting.reason.as_deref());
        let state = match reason {
            Some("ErrImagePull" | "ImagePullBackOff") => {
                state_waiting("ImagePullBackOff", Some(format!("Back-off pulling image \"{image}\"")))
            }
            _ => state_waiting(
                "ErrImagePull",
                Some(format!(
                    "failed to pull and unpack image \"{image}\": failed to resolve reference \"{image}\": {image}: not found"
                )),
            ),
        };
        ContainerStatus {
            state: Some(state),
            ..previous
        }
    }

    fn start(&self, previous: ContainerStatus, restarts: i32) -> ContainerStatus {
        let running = ContainerStateRunning {
            started_at: Some(Time(self.now)),
        };
        let id = sha256(format!("{}/{}/{restarts}", self.uid, self.container.name));
        ContainerStatus {
            container_id: Some(format!("containerd://{id}")),
            image_id: image_id(image(self.container)),
            ready: matches!(self.behaviour, Behaviour::Healthy | Behaviour::CrashAfterReady(_)),
            restart_count: restarts,
            started: Some(true),
            state: Some(ContainerState {
                running: Some(running),
                ..ContainerState::default()
            }),
            ..previous
        }
    }
}

fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

/// The repository with a digest, as a node tells it. For a reference without a digest, which only a registry could resolve,
/// the digest is one of the reference's text.
fn image_id(image: &str) -> String {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, digest.to_owned()),
        None => (image, format!("sha256:{}", sha256(image))),
    };
    // A colon before the last slash belongs to a port.
    let tag = name.rfind(':').filter(|colon| !name[*colon..].contains('/'));
    format!("{}@{digest}", &name[..tag.unwrap_or(name.len())])
}

fn state_waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    }
}

/// How much time lies between the two; none if the clock went back.
fn passed(start: &Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(*start)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_id_is_repository_and_digest() {
        assert_eq!(image_id("host:5000/app:1@sha256:ab"), "host:5000/app@sha256:ab");
        assert_eq!(image_id("host:5000/app@sha256:ab"), "host:5000/app@sha256:ab");
        assert_eq!(
            image_id("host:5000/app:1"),
            format!("host:5000/app@sha256:{}", sha256("host:5000/app:1"))
        );
    }
}
