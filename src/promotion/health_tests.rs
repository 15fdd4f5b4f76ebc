use serde_json::{Value, json};

use super::*;
use crate::promotion::facts::StuckPod;
use crate::promotion::samples::{deployment, image, pod, selected_app, waiting};

fn look(object: &Value, pods: &[Value]) -> (Health, u32) {
    let kind = match object["kind"].as_str() {
        Some("StatefulSet") => TargetKind::StatefulSet,
        Some("DaemonSet") => TargetKind::DaemonSet,
        _ => TargetKind::Deployment,
    };
    let limits = Limits {
        max_restarts: 3,
        since: Some("2026-11-24T12:00:10Z".parse().unwrap()),
    };
    health(kind, object, pods, &selected_app(kind, object), limits)
}

fn told(object: &Value, pods: &[Value]) -> String {
    match look(object, pods).0 {
        Health::Healthy => "healthy".into(),
        Health::Progressing(why) => format!("progressing: {why}"),
        Health::Failed(why) => format!("failed: {why}"),
    }
}

fn rolling() -> Value {
    let mut object = deployment(&image('a'));
    object["status"]["updatedReplicas"] = 1.into();
    object["status"]["replicas"] = 3.into();
    object
}

fn stateful_set_sample() -> Value {
    let mut object = deployment(&image('a'));
    object["kind"] = "StatefulSet".into();
    object["spec"]["updateStrategy"] = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } });
    object["status"] = json!({
        "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2, "readyReplicas": 2,
        "currentRevision": "web-1", "updateRevision": "web-2",
    });
    object
}

fn daemon_set_sample() -> Value {
    let mut object = deployment(&image('a'));
    object["kind"] = "DaemonSet".into();
    object["status"] = json!({
        "observedGeneration": 2, "desiredNumberScheduled": 2, "updatedNumberScheduled": 2, "numberAvailable": 2,
    });
    object
}

#[test]
fn a_deployment_is_healthy_once_all_its_pods_are_new_and_available() {
    let mut object = deployment(&image('a'));
    assert_eq!(told(&object, &[]), "healthy");
    object["status"]["availableReplicas"] = 1.into();
    assert_eq!(
        told(&object, &[]),
        "progressing: waits for new pods to become available"
    );
    object["status"]["replicas"] = 3.into();
    assert_eq!(told(&object, &[]), "progressing: waits for old pods to end");
    object["status"]["updatedReplicas"] = 0.into();
    assert_eq!(told(&object, &[]), "progressing: waits for new pods to be created");
    object["spec"]["replicas"] = 0.into();
    object["status"] = json!({ "observedGeneration": 2 });
    assert_eq!(told(&object, &[]), "healthy");
}

#[test]
fn a_status_of_an_earlier_template_says_nothing() {
    for mut object in [deployment(&image('a')), stateful_set_sample(), daemon_set_sample()] {
        assert_eq!(told(&object, &[]), "healthy");
        object["metadata"]["generation"] = 3.into();
        let failing = waiting(pod("web-1", &object, &image('a')), "ImagePullBackOff", "", 0);
        assert!(told(&object, &[failing]).starts_with("progressing: waits for the "));
    }
}

#[test]
fn a_paused_deployment_says_how_to_resume_it_unless_it_is_done() {
    let mut object = rolling();
    object["spec"]["paused"] = true.into();
    assert!(told(&object, &[]).contains("kubectl rollout resume"));
    let mut done = deployment(&image('a'));
    done["spec"]["paused"] = true.into();
    assert_eq!(told(&done, &[]), "healthy");
}

#[test]
fn a_deployment_that_made_no_progress_has_failed_and_its_pods_say_why() {
    let mut object = rolling();
    object["status"]["conditions"][0] =
        json!({ "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded" });
    assert_eq!(
        told(&object, &[]),
        "failed: made no progress within its progressDeadlineSeconds"
    );
    let slow = waiting(pod("web-1", &object, &image('a')), "ErrImagePull", "timed out", 0);
    assert!(told(&object, &[slow]).ends_with("; container app of pod web-1 waits: ErrImagePull: timed out"));
}

#[test]
fn a_quota_is_told_without_what_changes_each_time() {
    let mut object = rolling();
    let message = "pods \"web-5d85c5f8b4-x7k2p\" is forbidden: exceeded quota: small, requested: pods=1, used: pods=4, \
                   limited: pods=4";
    object["status"]["conditions"] =
        json!([{ "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message }]);
    assert_eq!(
        told(&object, &[]),
        "progressing: cannot create pods: exceeded quota: small"
    );
}

#[test]
fn a_stateful_set_with_a_partition_or_on_delete_says_what_it_waits_for() {
    let mut object = stateful_set_sample();
    object["status"]["updatedReplicas"] = 1.into();
    assert_eq!(told(&object, &[]), "progressing: waits for pods to be replaced");
    object["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 1.into();
    assert!(told(&object, &[]).contains("partition keeps pods below number 1"));
    object["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
    assert!(told(&object, &[]).contains("OnDelete"));
    object["status"]["updatedReplicas"] = 2.into();
    assert_eq!(told(&object, &[]), "healthy");
}

#[test]
fn a_stateful_set_that_goes_back_is_not_healthy_while_pods_of_the_failed_revision_are_left() {
    let mut object = stateful_set_sample();
    object["status"]["updateRevision"] = "web-1".into();
    object["status"]["updatedReplicas"] = 1.into();
    assert_ne!(told(&object, &[]), "healthy");
}

#[test]
fn a_pod_that_an_ordered_stateful_set_will_never_replace_is_named() {
    let mut object = stateful_set_sample();
    object["status"]["updatedReplicas"] = 1.into();
    let mut broken = waiting(pod("web-1", &object, &image('b')), "ImagePullBackOff", "", 0);
    broken["metadata"]["labels"]["controller-revision-hash"] = "web-0".into();
    assert!(told(&object, &[broken.clone()]).contains("pod web-1 of an earlier template"));
    let names = |found: &[&Value]| -> Vec<Value> { found.iter().map(|pod| pod["metadata"]["name"].clone()).collect() };
    assert_eq!(
        names(&pods::stuck(TargetKind::StatefulSet, &object, &[broken.clone()])),
        ["web-1"]
    );

    let none = |object: &Value, pod: Value| pods::stuck(TargetKind::StatefulSet, object, &[pod]).is_empty();
    let mut of_new_template = broken.clone();
    of_new_template["metadata"]["labels"]["controller-revision-hash"] = "web-2".into();
    assert!(none(&object, of_new_template));
    let mut leaving = broken.clone();
    leaving["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z".into();
    assert!(none(&object, leaving));
    let mut of_another = broken.clone();
    of_another["metadata"]["ownerReferences"][0]["uid"] = "other".into();
    assert!(none(&object, of_another));
    let mut ready = broken.clone();
    ready["status"]["conditions"][0]["status"] = "True".into();
    assert!(none(&object, ready));
    let mut parallel = object.clone();
    parallel["spec"]["podManagementPolicy"] = "Parallel".into();
    assert!(none(&parallel, broken.clone()));
    object["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 2.into();
    assert!(none(&object, broken));
}

#[test]
fn of_stuck_pods_only_those_without_the_workloads_image_are_replaced_and_only_as_they_were_seen() {
    let object = stateful_set_sample();
    let selected = selected_app(TargetKind::StatefulSet, &object);
    let stuck = |app: &str| {
        let mut pod = waiting(pod("web-1", &object, app), "CrashLoopBackOff", "", 2);
        pod["metadata"]["labels"]["controller-revision-hash"] = "web-0".into();
        pod["metadata"]["uid"] = "91ab".into();
        pod["metadata"]["resourceVersion"] = "77".into();
        pod
    };
    let replaceable = |pod: Value| pods::replaceable(TargetKind::StatefulSet, &object, &[pod], &selected);
    let expected = StuckPod {
        name: "web-1".into(),
        uid: "91ab".into(),
        resource_version: "77".into(),
    };
    assert_eq!(replaceable(stuck(&image('b'))), [expected]);
    assert_eq!(replaceable(stuck(&image('a'))), [], "it has the workload's image");
    let mut unknown = stuck(&image('b'));
    unknown["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(replaceable(unknown), []);
    assert_eq!(
        pods::replaceable(TargetKind::StatefulSet, &object, &[stuck(&image('b'))], &[]),
        [],
        "without a selected container nothing can be said of images"
    );
}

#[test]
fn a_daemon_set_is_healthy_on_every_node_or_on_none() {
    let mut object = daemon_set_sample();
    object["status"]["numberAvailable"] = 1.into();
    assert_eq!(
        told(&object, &[]),
        "progressing: waits for new pods to become available"
    );
    object["status"]["updatedNumberScheduled"] = 1.into();
    assert_eq!(told(&object, &[]), "progressing: waits for pods to be replaced");
    object["spec"]["updateStrategy"] = json!({ "type": "OnDelete" });
    assert!(told(&object, &[]).contains("OnDelete"));
    object["status"]["desiredNumberScheduled"] = 0.into();
    assert_eq!(told(&object, &[]), "healthy");
}

#[test]
fn an_image_that_cannot_be_pulled_fails_at_once_with_the_kubelets_words() {
    let object = rolling();
    let failing = waiting(
        pod("web-1", &object, &image('a')),
        "ImagePullBackOff",
        "Back-off pulling image: not found",
        0,
    );
    let expected = "failed: container app of pod web-1 waits: ImagePullBackOff: Back-off pulling image: not found";
    assert_eq!(told(&object, &[failing]), expected);
    for (reason, verdict) in [
        ("InvalidImageName", "failed"),
        ("CreateContainerConfigError", "failed"),
        ("ErrImageNeverPull", "failed"),
        ("ErrImagePull", "progressing"),
        ("CreateContainerError", "progressing"),
    ] {
        let failing = waiting(pod("web-1", &object, &image('a')), reason, "", 0);
        assert_eq!(
            told(&object, &[failing]),
            format!("{verdict}: container app of pod web-1 waits: {reason}")
        );
    }
    let starting = waiting(pod("web-1", &object, &image('a')), "ContainerCreating", "", 0);
    assert_eq!(
        told(&object, &[starting]),
        "progressing: waits for new pods to be created"
    );
}

#[test]
fn a_crash_loop_fails_after_the_allowed_restarts_and_is_told_in_words_that_stay() {
    let object = rolling();
    let crash = |restarts| {
        let message = format!("back-off {restarts}m0s restarting failed container");
        waiting(
            pod("web-1", &object, &image('a')),
            "CrashLoopBackOff",
            &message,
            restarts,
        )
    };
    let said = "container app of pod web-1 keeps ending with exit code 1";
    assert_eq!(told(&object, &[crash(3)]), format!("progressing: {said}"));
    assert_eq!(told(&object, &[crash(4)]), format!("failed: {said}"));
    assert_eq!(told(&object, &[crash(5)]), told(&object, &[crash(4)]));
    assert_eq!(look(&object, &[crash(4)]).1, 4);
}

#[test]
fn of_several_pods_one_that_failed_speaks_and_else_the_first_by_name() {
    let object = rolling();
    let wait = |name: &str, reason| waiting(pod(name, &object, &image('a')), reason, "", 0);
    let pods = [
        wait("web-3", "ErrImagePull"),
        wait("web-2", "ErrImagePull"),
        wait("web-4", "ImagePullBackOff"),
    ];
    assert!(told(&object, &pods).starts_with("failed: container app of pod web-4"));
    assert!(told(&object, &pods[..2]).starts_with("progressing: container app of pod web-2"));
}

#[test]
fn init_containers_and_sidecars_are_looked_at_too() {
    let object = rolling();
    let mut failing = pod("web-1", &object, &image('a'));
    failing["status"]["initContainerStatuses"] = json!([{
        "name": "migrate", "restartCount": 2, "state": { "waiting": { "reason": "ImagePullBackOff" } },
    }]);
    assert!(told(&object, &[failing.clone()]).starts_with("failed: container migrate of pod web-1"));
    assert_eq!(look(&object, &[failing]).1, 2);
}

#[test]
fn pods_of_old_templates_of_others_and_on_their_way_out_do_not_count() {
    let object = rolling();
    let failing = || waiting(pod("web-1", &object, &image('a')), "ImagePullBackOff", "", 9);
    let edited = |path: &str, value: Value| {
        let mut pod = failing();
        *pod.pointer_mut(path).unwrap() = value;
        look(&object, &[pod])
    };
    let nothing = look(&object, &[]);
    assert_ne!(look(&object, &[failing()]), nothing);
    assert_eq!(edited("/spec/containers/0/image", image('b').into()), nothing);
    assert_eq!(
        edited("/metadata/ownerReferences/0/name", "web-api-5d85c5f8b4".into()),
        nothing
    );
    assert_eq!(edited("/metadata/ownerReferences/0/kind", "Job".into()), nothing);
    assert_eq!(edited("/metadata/ownerReferences", json!([])), nothing);
    assert_eq!(edited("/status/phase", "Failed".into()), nothing);
    let mut leaving = failing();
    leaving["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z".into();
    assert_eq!(look(&object, &[leaving]), nothing);
    // A mirror that admission wrote in is the same image.
    let mirrored = image('a').replace("111122223333", "mirror");
    assert_ne!(edited("/spec/containers/0/image", mirrored.into()), nothing);
}

#[test]
fn restarts_of_pods_from_before_the_rollout_do_not_count() {
    let object = deployment(&image('a'));
    let restarted = |created: &str| {
        let mut pod = pod("web-1", &object, &image('a'));
        pod["metadata"]["creationTimestamp"] = created.into();
        pod["status"]["containerStatuses"][0]["restartCount"] = 7.into();
        look(&object, &[pod]).1
    };
    assert_eq!(restarted("2026-11-24T12:00:11Z"), 7);
    // The clocks differ a little.
    assert_eq!(restarted("2026-11-24T12:00:00Z"), 7);
    assert_eq!(restarted("2026-11-23T12:00:00Z"), 0);
}

#[test]
fn right_after_a_way_back_pods_of_the_failed_image_say_nothing_about_the_good_one() {
    let mut object = stateful_set_sample();
    let failed = waiting(pod("web-1", &object, &image('b')), "CrashLoopBackOff", "", 9);
    assert_eq!(look(&object, std::slice::from_ref(&failed)).1, 9);
    // The template is written, and the controller has not seen it yet.
    object["metadata"]["generation"] = 3.into();
    let (health, restarts) = look(&object, &[failed]);
    assert!(matches!(health, Health::Progressing(_)), "{health:?}");
    assert_eq!(restarts, 0);
}

#[test]
fn a_pod_without_a_node_is_told_without_numbers_of_nodes() {
    let object = rolling();
    let told_with = |message: &str| {
        let mut pending = pod("web-1", &object, &image('a'));
        pending["status"] = json!({ "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message },
        ] });
        told(&object, &[pending])
    };
    let five = "0/5 nodes are available: 2 Insufficient cpu, 3 Insufficient memory. preemption: 0/5 nodes are available: \
                5 No preemption victims found.";
    let six = "0/6 nodes are available: 1 Insufficient memory, 5 Insufficient cpu.";
    let expected = "progressing: pod web-1 cannot be scheduled: Insufficient cpu, Insufficient memory";
    assert_eq!(told_with(five), expected);
    assert_eq!(told_with(six), expected);
}

#[test]
fn messages_of_others_are_cut() {
    let object = rolling();
    let failing = waiting(
        pod("web-1", &object, &image('a')),
        &"R".repeat(999),
        &"m".repeat(99_999),
        0,
    );
    assert!(told(&object, &[failing]).chars().count() < 600);
}
