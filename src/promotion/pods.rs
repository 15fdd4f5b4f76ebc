//! The pods of a workload's newest template, and what they wait for.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{
    facts::{Health, StuckPod},
    workload::{Selected, cut, digest_of},
};
use crate::api::promotion::TargetKind;

/// The longest message of others that is repeated, in characters.
const MESSAGE_LENGTH: usize = 400;

/// By how much the clocks of apiserver and operator may differ for a pod to count as younger than the rollout.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Reasons to wait that do not heal without an edit. `ErrImagePull` is not among them: it is what the first attempt says,
/// and the second becomes `ImagePullBackOff`.
const HOPELESS: [&str; 4] = [
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
];

/// The pods that run the newest template, by name; without those that have ended or are being deleted.
///
/// The hash of the newest template stands in no field of a `Deployment` or `DaemonSet`: their pods are told by the images
/// of the selected containers. Pods that an edit of something else in the template has outdated pass for new ones until
/// they are gone.
pub(super) fn newest<'a>(kind: TargetKind, object: &Value, pods: &'a [Value], selected: &[Selected]) -> Vec<&'a Value> {
    let mut newest: Vec<&Value> = pods
        .iter()
        .filter(|pod| {
            let ended = ["Failed", "Succeeded"]
                .iter()
                .any(|phase| pod["status"]["phase"] == *phase);
            !ended
                && !pod["metadata"]["deletionTimestamp"].is_string()
                && belongs(kind, object, pod)
                && is_newest(kind, object, pod, selected)
        })
        .collect();
    newest.sort_by_key(|pod| pod["metadata"]["name"].as_str().unwrap_or_default());
    newest
}

/// The pods of an earlier template that a `StatefulSet` never replaces by itself, by name: with `OrderedReady` it waits for
/// a pod that is not ready, also where that pod is what a newer template is to mend (Kubernetes' documentation calls the way
/// out a forced rollback). Such a pod must be deleted.
pub(super) fn stuck<'a>(kind: TargetKind, object: &Value, pods: &'a [Value]) -> Vec<&'a Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let ordered = spec["podManagementPolicy"]
        .as_str()
        .is_none_or(|policy| policy == "OrderedReady");
    let rolling = spec["updateStrategy"]["type"]
        .as_str()
        .is_none_or(|type_| type_ == "RollingUpdate");
    if kind != TargetKind::StatefulSet || !is_observed(object) || !ordered || !rolling {
        return Vec::new();
    }
    let partition = spec["updateStrategy"]["rollingUpdate"]["partition"]
        .as_u64()
        .unwrap_or(0);
    let stuck = pods.iter().filter(|pod| {
        let revision = &pod["metadata"]["labels"]["controller-revision-hash"];
        let outdated = revision.is_string() && *revision != status["updateRevision"];
        let kept = ordinal(pod).is_none_or(|ordinal| ordinal < partition);
        outdated
            && !kept
            && belongs(kind, object, pod)
            && !pod["metadata"]["deletionTimestamp"].is_string()
            && !is_ready(pod)
    });
    let mut stuck: Vec<&Value> = stuck.collect();
    stuck.sort_by_key(|pod| name(&pod["metadata"]));
    stuck
}

/// Of the pods that are [`stuck`] those that a rollback may delete: none that runs the workload's image already, and which
/// another edit of the template has outdated.
pub(super) fn replaceable(kind: TargetKind, object: &Value, pods: &[Value], selected: &[Selected]) -> Vec<StuckPod> {
    let text = |pod: &Value, field: &str| pod["metadata"][field].as_str().map(str::to_owned);
    stuck(kind, object, pods)
        .into_iter()
        .filter(|pod| !selected.is_empty() && !has_images(pod, selected))
        .filter_map(|pod| {
            Some(StuckPod {
                name: text(pod, "name")?,
                uid: text(pod, "uid")?,
                resource_version: text(pod, "resourceVersion")?,
            })
        })
        .collect()
}

fn ordinal(pod: &Value) -> Option<u64> {
    name(&pod["metadata"]).rsplit_once('-')?.1.parse().ok()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn belongs(kind: TargetKind, object: &Value, pod: &Value) -> bool {
    let owners = pod["metadata"]["ownerReferences"].as_array();
    let Some(owner) = owners.into_iter().flatten().find(|owner| owner["controller"] == true) else {
        return false;
    };
    match kind {
        TargetKind::Deployment => {
            // The owner is a ReplicaSet, which is not at hand; its name is made of these two.
            let hash = pod["metadata"]["labels"]["pod-template-hash"]
                .as_str()
                .unwrap_or_default();
            owner["kind"] == "ReplicaSet" && owner["name"] == format!("{}-{hash}", name(&object["metadata"]))
        }
        _ => owner["kind"] == kind.as_str() && owner["uid"] == object["metadata"]["uid"],
    }
}

fn is_newest(kind: TargetKind, object: &Value, pod: &Value, selected: &[Selected]) -> bool {
    if kind == TargetKind::StatefulSet {
        let revision = &pod["metadata"]["labels"]["controller-revision-hash"];
        return is_observed(object) && revision.is_string() && *revision == object["status"]["updateRevision"];
    }
    has_images(pod, selected)
}

/// Whether the status is that of the newest template. Right after a write its `updateRevision` still names the one before,
/// and the pods of an image that was just taken back would pass for the newest.
fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// Whether the pod has the images of the workload in these containers.
fn has_images(pod: &Value, selected: &[Selected]) -> bool {
    selected.iter().all(|container| {
        let list = if container.init { "initContainers" } else { "containers" };
        let containers = pod["spec"][list].as_array();
        let mut images = containers
            .into_iter()
            .flatten()
            .filter(|candidate| candidate["name"] == container.name.as_str())
            .filter_map(|candidate| candidate["image"].as_str());
        // Admission may have written the name of another registry into the pod; the digest stays what it is.
        let wanted = digest_of(&container.image);
        images.any(|image| image == container.image || wanted.is_some() && digest_of(image) == wanted)
    })
}

/// The restarts of all containers of these pods together, of those pods alone that are younger than `since`.
pub(super) fn restarts(pods: &[&Value], since: Option<Timestamp>) -> u32 {
    let counted = pods.iter().filter(|pod| match (since, created(pod)) {
        (Some(since), Some(created)) => created.checked_add(SKEW).is_ok_and(|latest| latest >= since),
        _ => true,
    });
    counted
        .flat_map(|pod| statuses(pod))
        .map(|status| count(status, "restartCount"))
        .fold(0, u32::saturating_add)
}

/// What keeps these pods from running: the first that will not heal, else the first that may.
pub(super) fn trouble(pods: &[&Value], max_restarts: u32) -> Option<Health> {
    let mut may_heal = None;
    for pod in pods {
        for status in statuses(pod) {
            match of_container(pod, status, max_restarts) {
                Some(Health::Failed(why)) => return Some(Health::Failed(why)),
                Some(other) => may_heal = may_heal.or(Some(other)),
                None => {}
            }
        }
        may_heal = may_heal.or_else(|| unschedulable(pod));
    }
    may_heal
}

fn of_container(pod: &Value, status: &Value, max_restarts: u32) -> Option<Health> {
    let waiting = &status["state"]["waiting"];
    let reason = waiting["reason"].as_str()?;
    let whose = format!("container {} of pod {}", name(status), name(&pod["metadata"]));
    match reason {
        "CrashLoopBackOff" => {
            let said = format!("{whose} keeps ending{}", ending(&status["lastState"]["terminated"]));
            let failed = count(status, "restartCount") > max_restarts;
            Some(if failed {
                Health::Failed(said)
            } else {
                Health::Progressing(said)
            })
        }
        // What every container goes through.
        "ContainerCreating" | "PodInitializing" => None,
        reason => {
            let reason = cut(reason, 64);
            let said = match waiting["message"].as_str().unwrap_or_default() {
                "" => format!("{whose} waits: {reason}"),
                message => format!("{whose} waits: {reason}: {}", cut(message, MESSAGE_LENGTH)),
            };
            let failed = HOPELESS.contains(&reason.as_str());
            Some(if failed {
                Health::Failed(said)
            } else {
                Health::Progressing(said)
            })
        }
    }
}

/// The kubelet's own message on a crash loop counts the seconds of its pause; why the container ended does not change.
fn ending(terminated: &Value) -> String {
    let reason = cut(terminated["reason"].as_str().unwrap_or_default(), 64);
    match (terminated["exitCode"].as_i64(), reason.as_str()) {
        (Some(code), "" | "Error") => format!(" with exit code {code}"),
        (Some(code), reason) => format!(" with exit code {code} ({reason})"),
        (None, _) => String::new(),
    }
}

fn unschedulable(pod: &Value) -> Option<Health> {
    let mut conditions = pod["status"]["conditions"].as_array()?.iter();
    let scheduled = conditions.find(|condition| condition["type"] == "PodScheduled")?;
    if scheduled["reason"] != "Unschedulable" {
        return None;
    }
    let message = without_counts(scheduled["message"].as_str().unwrap_or_default());
    let whose = name(&pod["metadata"]);
    Some(Health::Progressing(match message.as_str() {
        "" => format!("pod {whose} cannot be scheduled"),
        message => format!("pod {whose} cannot be scheduled: {message}"),
    }))
}

/// The scheduler's `0/5 nodes are available: 2 Insufficient cpu, 3 Insufficient memory. preemption: …` without the numbers
/// of nodes, which change as nodes come and go.
fn without_counts(message: &str) -> String {
    let causes = message
        .split_once(" nodes are available: ")
        .map_or(message, |(_, causes)| causes);
    let causes = causes.split_once(" preemption: ").map_or(causes, |(causes, _)| causes);
    let causes = causes.trim_end_matches(['.', ' ']).split(", ");
    let mut causes: Vec<&str> = causes
        .map(|cause| cause.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '))
        .collect();
    // They are sorted with their numbers.
    causes.sort_unstable();
    cut(&causes.join(", "), MESSAGE_LENGTH)
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
}

fn created(pod: &Value) -> Option<Timestamp> {
    pod["metadata"]["creationTimestamp"].as_str()?.parse().ok()
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

fn count(status: &Value, field: &str) -> u32 {
    u32::try_from(status[field].as_u64().unwrap_or(0)).unwrap_or(u32::MAX)
}
