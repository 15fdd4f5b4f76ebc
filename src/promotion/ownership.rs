//! Who owns the images of a workload, by the field managers that the apiserver keeps in `metadata.managedFields`.
//!
//! Their format is that of the server-side apply documentation ("Field management"): a tree of `f:<field>` and
//! `k:{"name":"<item>"}` keys, an entry for each manager and operation. The caches that objects are read from must keep
//! `managedFields`.

use serde_json::{Map, Value, json};

use super::facts::Writer;
use crate::api::promotion::TargetKind;

/// The field manager of promotions. It does not begin with `kubectl`: Flux takes over what such managers own.
pub(crate) const FIELD_MANAGER: &str = "ecr-operator-image-promotion";

/// The longest name of a manager that the apiserver takes.
const MANAGER_LENGTH: usize = 128;

/// The two lists of containers of a pod.
pub(super) const LISTS: [(&str, bool); 2] = [("containers", false), ("initContainers", true)];

/// Where the pod template is in a workload.
pub(super) const fn template(kind: TargetKind) -> &'static [&'static str] {
    match kind {
        TargetKind::CronJob => &["spec", "jobTemplate", "spec", "template"],
        TargetKind::Deployment | TargetKind::StatefulSet | TargetKind::DaemonSet => &["spec", "template"],
    }
}

/// What one manager owns of a workload by one kind of write.
struct Entry<'a> {
    manager: &'a str,
    operation: &'a str,
    time: &'a str,
    /// What it owns of the pod's spec.
    pod: &'a Value,
}

impl<'a> Entry<'a> {
    fn of(kind: TargetKind, entry: &'a Value) -> Self {
        let pod = template(kind)
            .iter()
            .fold(&entry["fieldsV1"], |at, field| &at[format!("f:{field}")]);
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        Self {
            manager: text("manager"),
            operation: text("operation"),
            time: text("time"),
            pod: &pod["f:spec"],
        }
    }

    fn container(&self, name: &str) -> Option<&'a Value> {
        let key = item(name);
        LISTS
            .iter()
            .find_map(|(list, _)| self.pod[format!("f:{list}")].get(&key))
    }

    fn is_ours(&self) -> bool {
        self.manager == FIELD_MANAGER
    }

    /// Whether a person wrote this, and not a tool that writes again and again.
    ///
    /// Seen with kubectl 1.37: `set image` is `kubectl-set`, `edit`, `patch` and `replace` accordingly, and `rollout undo`
    /// is `kubectl` with the operation Update, while `apply --server-side` is `kubectl` with Apply. `kubectl create` only
    /// makes new workloads. k9s writes as `k9s`, or as the kubectl command that it runs. Dashboards that pass the requests
    /// of a browser on write under the first word of its user agent, `Mozilla`. Lens cannot be told apart: it writes as
    /// `node-fetch`, which is every client of Node.js.
    fn is_person(&self) -> bool {
        let of_apply = ["kubectl-client-side-apply", "kubectl-last-applied", "kubectl-create"];
        let with_kubectl = self.manager == "kubectl" || self.manager.starts_with("kubectl-");
        self.operation == "Update"
            && (with_kubectl && !of_apply.contains(&self.manager) || ["k9s", "Mozilla"].contains(&self.manager))
    }
}

fn entries(kind: TargetKind, object: &Value) -> impl Iterator<Item = Entry<'_>> {
    let all = object["metadata"]["managedFields"].as_array();
    all.into_iter()
        .flatten()
        .filter(|entry| entry["subresource"].as_str().unwrap_or_default().is_empty())
        .map(move |entry| Entry::of(kind, entry))
}

/// The key of a container in a tree of owned fields.
pub(super) fn item(name: &str) -> String {
    format!("k:{}", json!({ "name": name }))
}

/// Who, other than us, owns the image of one of these containers; the one that wrote last where they are several.
pub(super) fn writer<'a>(
    kind: TargetKind,
    object: &Value,
    containers: impl Iterator<Item = &'a str>,
) -> Option<Writer> {
    let names: Vec<&str> = containers.collect();
    let owns_image = |entry: &Entry<'_>| {
        let mut owned = names.iter().filter_map(|name| entry.container(name));
        owned.any(|fields| fields.get("f:image").is_some())
    };
    // Times are all of the form 2026-11-24T11:47:19Z; of equal ones the later entry is taken.
    let last = entries(kind, object)
        .filter(|entry| !entry.is_ours() && owns_image(entry))
        .max_by_key(|entry| entry.time)?;
    Some(Writer {
        manager: last.manager.chars().take(MANAGER_LENGTH).collect(),
        is_person: last.is_person(),
    })
}

/// Whether somebody other than us owns this container, so that its owner can take it away again. Where no manager is
/// recorded at all, somebody does: the apiserver gives what it finds to `before-first-apply`.
pub(super) fn others_own(kind: TargetKind, object: &Value, name: &str) -> bool {
    let unrecorded = object["metadata"]["managedFields"].as_array().is_none_or(Vec::is_empty);
    unrecorded || entries(kind, object).any(|entry| !entry.is_ours() && entry.container(name).is_some())
}

/// The containers that we own anything of, by name, with whether that includes the image.
pub(super) fn ours(kind: TargetKind, object: &Value) -> Vec<(String, bool)> {
    let mut found: Vec<(String, bool)> = Vec::new();
    for entry in entries(kind, object).filter(Entry::is_ours) {
        for (list, _) in LISTS {
            let items = entry.pod[format!("f:{list}")].as_object();
            for (key, fields) in items.into_iter().flatten() {
                if let Some(name) = name_in(key) {
                    found.push((name, fields.get("f:image").is_some()));
                }
            }
        }
    }
    found
}

/// The containers that exist and that only we own any more: their owner has removed them.
pub(crate) fn abandoned(kind: TargetKind, object: &Value) -> Vec<String> {
    let ours = ours(kind, object).into_iter().map(|(name, _)| name);
    ours.filter(|name| !others_own(kind, object, name) && super::workload::container(kind, object, name).is_some())
        .collect()
}

/// The managers of the object without our hold on these containers: what they have stays as it is. `None` where we hold
/// none of them.
pub(super) fn without_ours(kind: TargetKind, object: &Value, containers: &[String]) -> Option<Value> {
    let mut managers = object["metadata"]["managedFields"].as_array()?.clone();
    let before = managers.clone();
    for entry in managers.iter_mut().filter(|entry| entry["manager"] == FIELD_MANAGER) {
        for name in containers {
            release(kind, entry, name);
        }
    }
    managers.retain(|entry| {
        entry["manager"] != FIELD_MANAGER || entry["fieldsV1"].as_object().is_some_and(|f| !f.is_empty())
    });
    (managers != before).then(|| managers.into())
}

/// Takes one container out of one entry, and what is empty afterwards.
fn release(kind: TargetKind, entry: &mut Value, name: &str) {
    for (list, _) in LISTS {
        let mut path = vec!["fieldsV1".to_owned()];
        path.extend(
            template(kind)
                .iter()
                .chain(&["spec", list])
                .map(|field| format!("f:{field}")),
        );
        path.push(item(name));
        remove(entry, &path);
    }
}

fn remove(at: &mut Value, path: &[String]) {
    let (Some(fields), Some((first, rest))) = (at.as_object_mut(), path.split_first()) else {
        return;
    };
    if rest.is_empty() {
        fields.remove(first);
        return;
    }
    let Some(below) = fields.get_mut(first) else {
        return;
    };
    let held_some = below.as_object().is_some_and(|below| !below.is_empty());
    remove(below, rest);
    // `fieldsV1` itself stays for the caller to see that nothing is left.
    if held_some && first != "fieldsV1" && below.as_object().is_some_and(Map::is_empty) {
        fields.remove(first);
    }
}

fn name_in(key: &str) -> Option<String> {
    let fields: Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
    Some(fields["name"].as_str()?.to_owned())
}
