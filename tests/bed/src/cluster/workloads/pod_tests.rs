//! Pods stepped through by hand, with a clock of their own.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::behaviour::Behaviour;
use super::*;

/// A pod and the time it lives in.
struct Story {
    pod: Pod,
    behaviours: Behaviours,
    now: Timestamp,
}

impl Story {
    fn of(spec: &Value) -> Self {
        let pod = json!({ "metadata": { "name": "pod", "uid": "1-2-3" }, "spec": spec });
        Self {
            pod: serde_json::from_value(pod).expect("a pod"),
            behaviours: Behaviours::default(),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn with(mut self, image: &str, behaviour: Behaviour) -> Self {
        self.behaviours.set(image, behaviour);
        self
    }

    fn step(&mut self) -> PodStatus {
        let status = next_status(&self.pod, &self.behaviours, self.now);
        self.pod.status = Some(status.clone());
        status
    }

    fn wait(&mut self, seconds: i64) -> &mut Self {
        self.now += k8s_openapi::jiff::SignedDuration::from_secs(seconds);
        self
    }
}

fn condition(status: &PodStatus, kind: &str) -> Option<String> {
    let mut conditions = status.conditions.iter().flatten();
    conditions
        .find(|each| each.type_ == kind)
        .map(|each| each.status.clone())
}

fn container(status: &PodStatus) -> &ContainerStatus {
    &status.container_statuses.as_ref().expect("statuses")[0]
}

fn waiting_reason(status: &ContainerStatus) -> Option<&str> {
    status.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

fn one(image: &str) -> Value {
    json!({ "containers": [{ "name": "app", "image": image }] })
}

#[test]
fn a_healthy_pod_becomes_ready_and_stays_as_it_is() {
    let mut story = Story::of(&one("app@sha256:aa"));
    let status = story.step();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready").as_deref(), Some("True"));
    let app = container(&status);
    assert_eq!((app.name.as_str(), app.image.as_str()), ("app", "app@sha256:aa"));
    assert_eq!(app.image_id, "app@sha256:aa");
    assert_eq!(story.wait(60).step(), status, "nothing is left to be written");
}

#[test]
fn a_crash_is_restarted_at_once_and_then_ever_again_after_a_while() {
    let mut story = Story::of(&one("bad")).with("bad", Behaviour::Crash);
    assert!(runs(container(&story.step())));
    assert_eq!(ended(container(&story.step())).map(|ended| ended.exit_code), Some(1));
    assert_eq!(container(&story.step()).restart_count, 1);
    story.step();
    let status = story.step();
    let app = container(&status);
    assert_eq!(waiting_reason(app), Some("CrashLoopBackOff"));
    let last = app.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    assert_eq!(last.map(|last| last.exit_code), Some(1));
    assert_eq!(status.phase.as_deref(), Some("Running"), "as a real one tells it");
    assert_eq!(condition(&status, "Ready").as_deref(), Some("False"));
    assert_eq!(story.step(), status, "too early");
    assert_eq!(container(&story.wait(2).step()).restart_count, 2);
}

#[test]
fn a_crash_that_is_mended_recovers_at_the_next_restart() {
    let mut story = Story::of(&one("bad")).with("bad", Behaviour::Crash);
    for _ in 0..5 {
        story.step();
    }
    story.behaviours.set("bad", Behaviour::Healthy);
    let status = story.wait(2).step();
    assert!(container(&status).ready);
    assert_eq!(condition(&status, "Ready").as_deref(), Some("True"));
}

#[test]
fn one_that_crashes_later_is_ready_before() {
    let mut story = Story::of(&one("app")).with("app", Behaviour::CrashAfterReady(Duration::from_secs(3)));
    assert!(container(&story.step()).ready);
    assert!(container(&story.wait(2).step()).ready);
    let status = story.wait(1).step();
    assert_eq!(ended(container(&status)).map(|ended| ended.exit_code), Some(1));
    assert_eq!(condition(&status, "Ready").as_deref(), Some("False"));
}

#[test]
fn what_cannot_be_pulled_says_so_and_keeps_the_pod_pending() {
    let mut story = Story::of(&one("gone:1")).with("gone", Behaviour::PullError);
    let status = story.step();
    assert_eq!(waiting_reason(container(&status)), Some("ErrImagePull"));
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let status = story.step();
    let waiting = container(&status)
        .state
        .as_ref()
        .and_then(|state| state.waiting.clone());
    let waiting = waiting.expect("it waits");
    assert_eq!(waiting.reason.as_deref(), Some("ImagePullBackOff"));
    assert!(waiting.message.is_some_and(|message| message.contains("gone:1")));
    story.behaviours.set("gone", Behaviour::Healthy);
    assert_eq!(condition(&story.step(), "Ready").as_deref(), Some("True"));
}

#[test]
fn one_that_is_never_ready_runs() {
    let mut story = Story::of(&one("slow")).with("slow", Behaviour::NeverReady);
    let status = story.step();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert!(runs(container(&status)));
    assert_eq!(condition(&story.wait(600).step(), "Ready").as_deref(), Some("False"));
}

#[test]
fn a_container_is_judged_by_its_own_image() {
    let spec = json!({ "containers": [{ "name": "app", "image": "good" }, { "name": "side", "image": "bad" }] });
    let mut story = Story::of(&spec).with("bad", Behaviour::NeverReady);
    let status = story.step();
    let ready: Vec<bool> = status
        .container_statuses
        .iter()
        .flatten()
        .map(|each| each.ready)
        .collect();
    assert_eq!(ready, [true, false]);
    assert_eq!(condition(&status, "Ready").as_deref(), Some("False"));
}

#[test]
fn a_task_ends_well_or_fails_and_then_rests() {
    for (behaviour, phase, exit_code) in [(Behaviour::Healthy, "Succeeded", 0), (Behaviour::Crash, "Failed", 1)] {
        let mut spec = one("task");
        spec["restartPolicy"] = "Never".into();
        let mut story = Story::of(&spec).with("task", behaviour);
        assert_eq!(story.step().phase.as_deref(), Some("Running"));
        let status = story.wait(1).step();
        assert_eq!(status.phase.as_deref(), Some(phase));
        assert_eq!(ended(container(&status)).map(|ended| ended.exit_code), Some(exit_code));
        assert_eq!(condition(&status, "Ready").as_deref(), Some("False"));
        assert_eq!(story.wait(60).step(), status);
    }
}

#[test]
fn a_task_that_is_restarted_on_failure_is_not_over() {
    let mut spec = one("task");
    spec["restartPolicy"] = "OnFailure".into();
    let mut story = Story::of(&spec).with("task", Behaviour::Crash);
    story.step();
    assert_eq!(story.step().phase.as_deref(), Some("Running"));
    assert_eq!(container(&story.step()).restart_count, 1);
}

#[test]
fn init_containers_come_first_one_after_the_other() {
    let mut story = Story::of(&json!({
        "initContainers": [
            { "name": "proxy", "image": "proxy", "restartPolicy": "Always" },
            { "name": "migrate", "image": "migrate" },
        ],
        "containers": [{ "name": "app", "image": "app" }],
    }));
    let status = story.step();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(condition(&status, "Initialized").as_deref(), Some("False"));
    assert_eq!(waiting_reason(container(&status)), Some("PodInitializing"));
    let status = story.wait(1).step();
    let names = status
        .init_container_statuses
        .iter()
        .flatten()
        .map(|each| (each.name.as_str(), each.ready));
    assert_eq!(names.collect::<Vec<_>>(), [("proxy", true), ("migrate", true)]);
    assert!(runs(container(&status)));
    assert_eq!(condition(&status, "Ready").as_deref(), Some("True"));
    assert_eq!(story.wait(60).step(), status);
}

#[test]
fn an_init_container_that_crashes_keeps_the_pod_from_starting() {
    let spec = json!({
        "initContainers": [{ "name": "migrate", "image": "bad" }],
        "containers": [{ "name": "app", "image": "app" }],
    });
    let mut story = Story::of(&spec).with("bad", Behaviour::Crash);
    for _ in 0..5 {
        story.step();
    }
    let status = story.step();
    let init = &status.init_container_statuses.as_ref().expect("statuses")[0];
    assert_eq!(
        (waiting_reason(init), init.restart_count),
        (Some("CrashLoopBackOff"), 1)
    );
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(waiting_reason(container(&status)), Some("PodInitializing"));
}

#[test]
fn a_condition_keeps_the_time_of_its_change() {
    let time = |status: &PodStatus| {
        let mut conditions = status.conditions.iter().flatten();
        let ready = conditions.find(|each| each.type_ == "Ready");
        ready.and_then(|ready| ready.last_transition_time.clone())
    };
    let mut story = Story::of(&one("app"));
    let first = time(&story.step());
    assert!(first.is_some());
    story.behaviours.set("app", Behaviour::NeverReady);
    let second = time(&story.wait(5).step());
    assert_ne!(first, second);
    assert_eq!(time(&story.wait(5).step()), second);
}
