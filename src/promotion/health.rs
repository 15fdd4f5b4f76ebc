//! How far a workload is with its newest template, by its own status and by its newest pods.
//!
//! A `Deployment`'s deadline is ten minutes and only reported, and the other kinds have none; what a pod waits for tells
//! much earlier that a rollout will not succeed. Messages end in conditions: they hold nothing that ticks, such as counts or
//! pauses, and of several pods the first by name speaks.

use serde_json::Value;

use super::{
    facts::Health,
    pods,
    workload::{Limits, Selected, cut},
};
use crate::api::promotion::TargetKind;

/// The longest message of others that is repeated, in characters.
const MESSAGE_LENGTH: usize = 400;

/// How the workload is, and the restarts of its newest pods together.
pub(crate) fn health(
    kind: TargetKind,
    object: &Value,
    pods: &[Value],
    selected: &[Selected],
    limits: Limits,
) -> (Health, u32) {
    if kind == TargetKind::CronJob {
        return (Health::Healthy, 0);
    }
    let newest = pods::newest(kind, object, pods, selected);
    let restarts = pods::restarts(&newest, limits.since);
    let stuck = pods::stuck(kind, object, pods).into_iter().next();
    let stuck = stuck.map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default());
    match (judge(kind, object, &newest, limits.max_restarts), stuck) {
        (Health::Progressing(_), Some(pod)) => (Health::Progressing(of_stuck(pod)), restarts),
        (health, _) => (health, restarts),
    }
}

fn of_stuck(pod: &str) -> String {
    format!(
        "pod {pod} of an earlier template is not ready, and a StatefulSet with podManagementPolicy OrderedReady waits for \
         it for ever: delete the pod"
    )
}

fn judge(kind: TargetKind, object: &Value, newest: &[&Value], max_restarts: u32) -> Health {
    let metadata = &object["metadata"];
    if metadata["deletionTimestamp"].is_string() {
        return Health::Progressing(format!("{} is being deleted", kind.as_str()));
    }
    // Until its controller has seen the newest template, status and pods are those of an earlier one.
    if number(&object["status"]["observedGeneration"]) < number(&metadata["generation"]) {
        return Health::Progressing(format!(
            "waits for the {} controller to see the new template",
            kind.as_str()
        ));
    }
    let progress = match kind {
        TargetKind::Deployment => deployment(object),
        TargetKind::StatefulSet => stateful_set(object),
        TargetKind::DaemonSet => daemon_set(object),
        TargetKind::CronJob => Health::Healthy,
    };
    let Health::Progressing(waits) = progress else {
        return progress_or_pods(progress, newest, max_restarts);
    };
    pods::trouble(newest, max_restarts).unwrap_or(Health::Progressing(waits))
}

/// What the pods say is nearer to the cause than that a deadline has passed.
fn progress_or_pods(progress: Health, newest: &[&Value], max_restarts: u32) -> Health {
    match (&progress, pods::trouble(newest, max_restarts)) {
        (Health::Failed(_), Some(Health::Failed(cause))) => Health::Failed(cause),
        (Health::Failed(why), Some(Health::Progressing(cause))) => Health::Failed(format!("{why}; {cause}")),
        _ => progress,
    }
}

/// As `kubectl rollout status` has it.
fn deployment(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    let wanted = replicas(spec);
    let updated = number(&status["updatedReplicas"]);
    let old_are_gone = number(&status["replicas"]) <= updated;
    if updated >= wanted && old_are_gone && number(&status["availableReplicas"]) >= wanted {
        return Health::Healthy;
    }
    if spec["paused"] == true {
        return Health::Progressing("is paused by spec.paused: resume it with `kubectl rollout resume`".into());
    }
    let progressing = condition(status, "Progressing");
    if progressing.is_some_and(|condition| condition["reason"] == "ProgressDeadlineExceeded") {
        return Health::Failed("made no progress within its progressDeadlineSeconds".into());
    }
    if let Some(failure) = condition(status, "ReplicaFailure").filter(|condition| condition["status"] == "True") {
        return Health::Progressing(format!("cannot create pods: {}", refusal(failure)));
    }
    if updated < wanted {
        return Health::Progressing("waits for new pods to be created".into());
    }
    if !old_are_gone {
        return Health::Progressing("waits for old pods to end".into());
    }
    Health::Progressing("waits for new pods to become available".into())
}

fn stateful_set(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    let wanted = replicas(spec);
    let strategy = &spec["updateStrategy"];
    let updated = number(&status["updatedReplicas"]);
    let all = updated >= wanted;
    if all && number(&status["availableReplicas"]) >= wanted {
        return Health::Healthy;
    }
    if all {
        return Health::Progressing("waits for new pods to become available".into());
    }
    if strategy["type"] == "OnDelete" {
        return Health::Progressing(on_delete());
    }
    let partition = number(&strategy["rollingUpdate"]["partition"]);
    if partition > 0 && updated >= wanted.saturating_sub(partition) {
        return Health::Progressing(format!(
            "spec.updateStrategy.rollingUpdate.partition keeps pods below number {partition} on the old template: lower \
             it for the new image to reach them"
        ));
    }
    Health::Progressing("waits for pods to be replaced".into())
}

fn daemon_set(object: &Value) -> Health {
    let (spec, status) = (&object["spec"], &object["status"]);
    let wanted = number(&status["desiredNumberScheduled"]);
    let all = number(&status["updatedNumberScheduled"]) >= wanted;
    if all && number(&status["numberAvailable"]) >= wanted {
        return Health::Healthy;
    }
    if all {
        return Health::Progressing("waits for new pods to become available".into());
    }
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Health::Progressing(on_delete());
    }
    Health::Progressing("waits for pods to be replaced".into())
}

fn on_delete() -> String {
    "spec.updateStrategy is OnDelete: its pods take the new image once they are deleted".into()
}

fn replicas(spec: &Value) -> u64 {
    spec["replicas"].as_u64().unwrap_or(1)
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    let mut conditions = status["conditions"].as_array()?.iter();
    conditions.find(|condition| condition["type"] == type_)
}

/// The apiserver's message on a pod that it refuses, without the pod's made-up name.
fn refusal(condition: &Value) -> String {
    let message = condition["message"].as_str().unwrap_or_default();
    let cause = message
        .split_once(" is forbidden: ")
        .map_or(message, |(_, cause)| cause);
    // The usage of a quota changes with every other pod of the namespace.
    let quota = cause.split_once(", requested: ").map_or(cause, |(quota, _)| quota);
    cut(quota, MESSAGE_LENGTH)
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
