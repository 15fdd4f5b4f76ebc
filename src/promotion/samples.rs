//! Objects as the apiserver returns them, for the tests; what managers own of them was taken from Kubernetes 1.37.

use serde_json::{Value, json};

use super::{ownership::FIELD_MANAGER, workload::Selected};
use crate::api::{
    names::Digest,
    promotion::{Target, TargetKind},
};

pub(super) const REPOSITORY: &str = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/team-a/web";

pub(super) fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

pub(super) fn image(digit: char) -> String {
    format!("{REPOSITORY}@{}", digest(digit))
}

pub(super) fn repositories() -> Vec<String> {
    vec![REPOSITORY.to_owned()]
}

pub(super) fn target(overlay: &Value) -> Target {
    let mut target = json!({ "kind": "Deployment", "name": "web" });
    for (field, value) in overlay.as_object().unwrap() {
        target[field] = value.clone();
    }
    serde_json::from_value(target).unwrap()
}

/// A rolled out Deployment with the containers `app`, of the repository, and `proxy`, of another, from `kubectl apply`.
pub(super) fn deployment(app: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "team-a", "uid": "8de53dd0-1b92-4399-b91e-8528bf598e59",
            "resourceVersion": "227", "generation": 2,
            "managedFields": [status_entry(), client_side_apply(&["app", "proxy"])],
        },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [container("app", app), container("proxy", "docker.io/library/envoy:v1")] },
            },
        },
        "status": {
            "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2,
            "conditions": [{ "type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable" }],
        },
    })
}

/// With what the apiserver fills in.
pub(super) fn container(name: &str, image: &str) -> Value {
    json!({
        "name": name, "image": image, "imagePullPolicy": "IfNotPresent", "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
    })
}

fn status_entry() -> Value {
    json!({
        "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "manager": "kube-controller-manager", "operation": "Update",
        "subresource": "status", "time": "2026-11-24T11:47:30Z",
        "fieldsV1": {
            "f:metadata": { "f:annotations": { "f:deployment.kubernetes.io/revision": {} } },
            "f:status": { "f:observedGeneration": {}, "f:replicas": {} },
        },
    })
}

fn client_side_apply(containers: &[&str]) -> Value {
    let fields = json!({
        ".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {},
        "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {},
    });
    let mut entry = entry(
        "kubectl-client-side-apply",
        "Update",
        "2026-11-24T11:47:18Z",
        containers,
        &fields,
    );
    entry["fieldsV1"]["f:metadata"] =
        json!({ "f:annotations": { ".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {} } });
    entry["fieldsV1"]["f:spec"]["f:replicas"] = json!({});
    entry
}

/// An entry that owns these fields of these containers of a Deployment.
pub(super) fn entry(manager: &str, operation: &str, time: &str, containers: &[&str], fields: &Value) -> Value {
    let items: serde_json::Map<String, Value> = containers
        .iter()
        .map(|name| (format!("k:{{\"name\":\"{name}\"}}"), fields.clone()))
        .collect();
    json!({
        "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "manager": manager, "operation": operation, "time": time,
        "fieldsV1": { "f:spec": { "f:template": { "f:spec": { "f:containers": items } } } },
    })
}

/// What an apply of ours owns.
pub(super) fn our_entry(containers: &[&str]) -> Value {
    let fields = json!({ ".": {}, "f:image": {}, "f:name": {} });
    entry(FIELD_MANAGER, "Apply", "2026-11-24T11:47:19Z", containers, &fields)
}

/// What one container is left with once others have taken its image.
pub(super) fn without_image(object: &mut Value, manager: usize, container: &str) {
    let containers = &mut object["metadata"]["managedFields"][manager]["fieldsV1"]["f:spec"]["f:template"]["f:spec"];
    let item = &mut containers["f:containers"][format!("k:{{\"name\":\"{container}\"}}")];
    item.as_object_mut().unwrap().remove("f:image");
}

/// The Deployment after a promotion wrote the image of `app`.
pub(super) fn promoted(app: &str) -> Value {
    let mut object = deployment(app);
    without_image(&mut object, 1, "app");
    managers(&mut object).insert(0, our_entry(&["app"]));
    object
}

pub(super) fn managers(object: &mut Value) -> &mut Vec<Value> {
    object["metadata"]["managedFields"].as_array_mut().unwrap()
}

/// The same pods from a `CronJob`.
pub(super) fn cron_job(app: &str) -> Value {
    let template = deployment(app)["spec"]["template"].clone();
    let fields = json!({ "f:image": {} });
    let of_deployment = entry("kubectl-set", "Update", "2026-11-24T11:47:20Z", &["app"], &fields);
    let pods = of_deployment["fieldsV1"]["f:spec"].clone();
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {
            "name": "web", "namespace": "team-a", "uid": "1", "resourceVersion": "9", "generation": 1,
            "managedFields": [{
                "apiVersion": "batch/v1", "manager": "kubectl-set", "operation": "Update", "time": "2026-11-24T11:47:20Z",
                "fieldsV1": { "f:spec": { "f:jobTemplate": { "f:spec": pods } } },
            }],
        },
        "spec": { "schedule": "* * * * *", "jobTemplate": { "spec": { "template": template } } },
    })
}

pub(super) fn selected_app(kind: TargetKind, object: &Value) -> Vec<Selected> {
    let target = target(&json!({ "kind": kind.as_str(), "containers": ["app"] }));
    super::workload::selected(&target, object, &repositories())
}

/// A running pod of a workload, with its container `app`.
pub(super) fn pod(name: &str, workload: &Value, app: &str) -> Value {
    let kind = workload["kind"].as_str().unwrap();
    let owner = match kind {
        "Deployment" => json!({ "kind": "ReplicaSet", "name": "web-5d85c5f8b4", "uid": "92bb", "controller": true }),
        kind => json!({ "kind": kind, "name": "web", "uid": workload["metadata"]["uid"], "controller": true }),
    };
    json!({
        "metadata": {
            "name": name, "creationTimestamp": "2026-11-24T12:00:00Z", "ownerReferences": [owner],
            "labels": { "app": "web", "pod-template-hash": "5d85c5f8b4", "controller-revision-hash": workload["status"]["updateRevision"] },
        },
        "spec": { "containers": [{ "name": "app", "image": app }, { "name": "proxy", "image": "envoy" }] },
        "status": {
            "phase": "Running",
            "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [{ "name": "app", "restartCount": 0, "state": { "running": {} } }],
        },
    })
}

/// The same pod with its container `app` waiting.
pub(super) fn waiting(mut pod: Value, reason: &str, message: &str, restarts: u32) -> Value {
    pod["status"]["conditions"][0]["status"] = "False".into();
    pod["status"]["containerStatuses"][0] = json!({
        "name": "app", "restartCount": restarts,
        "state": { "waiting": { "reason": reason, "message": message } },
        "lastState": { "terminated": { "exitCode": 1, "reason": "Error" } },
    });
    pod
}
