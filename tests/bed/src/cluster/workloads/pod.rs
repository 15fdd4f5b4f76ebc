//! The next status of one pod, as a kubelet would report it.

use std::iter;

use k8s_openapi::api::core::v1::{
    Container, ContainerStateTerminated, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::behaviour::Behaviours;
use super::container::{self, Restart};
use bed_programs::sha256;

/// Where all nodes are, as far as anyone is told. From the block for documentation: nothing answers there.
pub(super) const HOST_IP: &str = "192.0.2.1";

/// The status that `pod` comes to, once it is on a node. One call is one step: a container starts in one and may end in the
/// next.
pub(super) fn next_status(pod: &Pod, behaviours: &Behaviours, now: Timestamp) -> PodStatus {
    let previous = pod.status.clone().unwrap_or_default();
    let Some(spec) = &pod.spec else { return previous };
    if is_over(previous.phase.as_deref()) {
        return previous;
    }
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let restart = Restart::parse(spec.restart_policy.as_deref());
    let init = init_containers(spec, &previous, behaviours, restart, uid, now);
    let containers = containers(spec, &previous, init.done, behaviours, restart, uid, now);

    let phase = phase(&init, &containers, restart);
    let mut status = PodStatus {
        host_ip: Some(HOST_IP.to_owned()),
        host_ips: Some(vec![HostIP { ip: HOST_IP.to_owned() }]),
        observed_generation: pod.metadata.generation,
        phase: Some(phase.to_owned()),
        pod_ip: Some(pod_ip(uid)),
        pod_ips: Some(vec![PodIP { ip: pod_ip(uid) }]),
        start_time: previous.start_time.clone().or(Some(Time(now))),
        ..previous
    };
    let all_ready = !is_over(Some(phase))
        && containers
            .iter()
            .chain(init.statuses.iter().filter(|status| runs(status)))
            .all(|status| status.ready);
    let ready = if is_over(Some(phase)) {
        Condition::not("PodCompleted")
    } else {
        Condition::of(all_ready && init.done, "ContainersNotReady")
    };
    let conditions = [
        ("PodReadyToStartContainers", Condition::of(true, "")),
        ("Initialized", Condition::of(init.done, "ContainersNotInitialized")),
        ("Ready", ready),
        ("ContainersReady", ready),
        ("PodScheduled", Condition::of(true, "")),
    ];
    for (kind, condition) in conditions {
        set(status.conditions.get_or_insert_default(), kind, condition, now);
    }
    status.init_container_statuses = Some(init.statuses).filter(|statuses| !statuses.is_empty());
    status.container_statuses = Some(containers);
    status
}

/// Whether a phase is one that a pod never leaves.
fn is_over(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// How far the init containers are.
struct Init {
    statuses: Vec<ContainerStatus>,
    done: bool,
    failed: bool,
}

/// One after the other; sidecars are passed once they run.
fn init_containers(
    spec: &PodSpec,
    previous: &PodStatus,
    behaviours: &Behaviours,
    restart: Restart,
    uid: &str,
    now: Timestamp,
) -> Init {
    let mut init = Init {
        statuses: Vec::new(),
        done: true,
        failed: false,
    };
    for each in spec.init_containers.iter().flatten() {
        if !init.done {
            init.statuses.push(container::waiting(each, "PodInitializing"));
            continue;
        }
        let sidecar = each.restart_policy.as_deref() == Some("Always");
        let restart = match restart {
            _ if sidecar => Restart::Always,
            // An init container that did its work is not started again.
            Restart::Always | Restart::OnFailure => Restart::OnFailure,
            Restart::Never => Restart::Never,
        };
        let before = previous_of(each, previous.init_container_statuses.as_ref());
        let mut status = next(each, before, behaviours, restart, uid, now);
        let ended = ended(&status);
        init.failed = restart == Restart::Never && ended.is_some_and(|ended| ended.exit_code != 0);
        init.done = if sidecar {
            runs(&status)
        } else {
            ended.is_some_and(|ended| ended.exit_code == 0)
        };
        if !sidecar {
            status.ready = init.done;
        }
        init.statuses.push(status);
    }
    init
}

fn containers(
    spec: &PodSpec,
    previous: &PodStatus,
    initialised: bool,
    behaviours: &Behaviours,
    restart: Restart,
    uid: &str,
    now: Timestamp,
) -> Vec<ContainerStatus> {
    let next = |each| {
        if !initialised {
            return container::waiting(each, "PodInitializing");
        }
        let before = previous_of(each, previous.container_statuses.as_ref());
        next(each, before, behaviours, restart, uid, now)
    };
    spec.containers.iter().map(next).collect()
}

fn previous_of<'a>(container: &Container, statuses: Option<&'a Vec<ContainerStatus>>) -> Option<&'a ContainerStatus> {
    statuses?.iter().find(|status| status.name == container.name)
}

fn image(container: &Container) -> &str {
    container.image.as_deref().unwrap_or_default()
}

fn runs(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn ended(status: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    status.state.as_ref()?.terminated.as_ref()
}

/// As the kubelet's `getPhase` has it.
fn phase(init: &Init, containers: &[ContainerStatus], restart: Restart) -> &'static str {
    if init.failed {
        return "Failed";
    }
    // A container that waits for its first start keeps a pod pending; one that waits for a restart does not.
    let unstarted = |status: &ContainerStatus| !runs(status) && ended(status).is_none() && status.last_state.is_none();
    if !init.done || containers.iter().any(unstarted) {
        return "Pending";
    }
    if restart == Restart::Always || !containers.iter().all(|status| ended(status).is_some()) {
        return "Running";
    }
    let failed = containers.iter().filter_map(ended).any(|ended| ended.exit_code != 0);
    match (failed, restart) {
        (false, _) => "Succeeded",
        (true, Restart::Never) => "Failed",
        (true, _) => "Running",
    }
}

/// An address of its own for each pod, as far as 16 bits of its uid tell them apart.
fn pod_ip(uid: &str) -> String {
    let digits = sha256(uid);
    let part = |at: usize| u8::from_str_radix(digits.get(at..at + 2).unwrap_or_default(), 16).unwrap_or_default();
    format!("10.244.{}.{}", part(0), part(2))
}

#[derive(Clone, Copy)]
struct Condition {
    status: &'static str,
    reason: Option<&'static str>,
}

impl Condition {
    fn of(holds: bool, otherwise: &'static str) -> Self {
        if holds {
            Self {
                status: "True",
                reason: None,
            }
        } else {
            Self::not(otherwise)
        }
    }

    fn not(reason: &'static str) -> Self {
        Self {
            status: "False",
            reason: Some(reason),
        }
    }
}

/// Sets a condition; its time is that of its last change.
fn set(conditions: &mut Vec<PodCondition>, kind: &str, condition: Condition, now: Timestamp) {
    let at = conditions.iter().position(|each| each.type_ == kind);
    let before = at.and_then(|at| conditions.get(at));
    let unchanged = before.filter(|before| before.status == condition.status);
    let new = PodCondition {
        type_: kind.to_owned(),
        status: condition.status.to_owned(),
        reason: condition.reason.map(str::to_owned),
        last_transition_time: unchanged
            .and_then(|before| before.last_transition_time.clone())
            .or(Some(Time(now))),
        ..PodCondition::default()
    };
    match at {
        Some(at) => drop(conditions.splice(at..=at, iter::once(new))),
        None => conditions.push(new),
    }
}

/// The next status of a container, its tag resolved where it was told what it is on.
fn next(
    each: &Container,
    before: Option<&ContainerStatus>,
    behaviours: &Behaviours,
    restart: Restart,
    uid: &str,
    now: Timestamp,
) -> ContainerStatus {
    let mut status = container::next(each, before, behaviours.of(image(each)), restart, uid, now);
    if let (Some(digest), Some((name, _))) = (behaviours.digest(image(each)), status.image_id.split_once('@')) {
        status.image_id = format!("{name}@{digest}");
    }
    status
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
