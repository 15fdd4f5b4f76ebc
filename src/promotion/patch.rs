//! The bodies with which promotions write to workloads.
//!
//! Each carries the observed `uid` and `resourceVersion`. The apiserver answers 409 where the workload has changed since,
//! or is gone: it must be observed again. Withdrawing and rejecting are merge patches and no JSON patches, because a failed
//! `test` of a JSON patch is answered 422, which cannot be told from a workload that is refused for what is in it.
//!
//! All promotions write as one field manager. What a body of it leaves out is given up, which for an image that nobody
//! else owns is refused ("Required value"); therefore each body repeats what we hold of the other containers.

use serde_json::{Map, Value, json};

use super::{
    ownership,
    workload::{container, name_of},
};
use crate::api::{REJECTED_ANNOTATION, names::Digest, promotion::TargetKind};

/// What the apiserver fills in where an apply names only a container and its image.
const FILLED_IN: [&str; 6] = [
    "name",
    "image",
    "imagePullPolicy",
    "resources",
    "terminationMessagePath",
    "terminationMessagePolicy",
];

/// A body, and how it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// By server-side apply, with force, as [`ownership::FIELD_MANAGER`].
    Apply(Value),
    /// As a merge patch, as the same field manager.
    Merge(Value),
}

/// The server-side apply that puts `image` into those of these containers that exist and that others own too; `None` where
/// there is none. An apply that names a missing container would add it, and one that only we own would outlive its
/// removal by its owner. It holds identity and images, and nothing else.
pub(crate) fn image(kind: TargetKind, object: &Value, containers: &[&str], image: &str) -> Option<Value> {
    let may_be_written =
        |name: &str| container(kind, object, name).is_some() && ownership::others_own(kind, object, name);
    let written: Vec<&str> = containers.iter().copied().filter(|name| may_be_written(name)).collect();
    if written.is_empty() {
        return None;
    }
    let mut images: Vec<(String, String)> = held(kind, object)
        .filter(|(name, _)| !written.contains(&name.as_str()))
        .collect();
    images.extend(written.iter().map(|name| ((*name).to_owned(), image.to_owned())));
    Some(apply(kind, object, &images))
}

/// Gives up containers whose owner has removed them, with words for what that does.
///
/// The owner's removal took everything from such a container but what we hold, so it went on running without its settings.
/// Giving up the hold in `managedFields` would leave it running for ever, with nobody to own it (seen); an apply without it
/// takes it away, as the owner meant it. That is done only where the container has nothing left but its image, and the
/// owner has other containers here. Otherwise it was not removed, but somebody dropped the record of owning it: then only
/// our hold is given up, and the container stays.
pub(crate) fn abandon(kind: TargetKind, object: &Value, abandoned: &[String]) -> Option<(Body, String)> {
    if abandoned.is_empty() {
        return None;
    }
    let names = abandoned.join(", ");
    if abandoned.iter().all(|name| is_bare(kind, object, name)) && has_an_owner(kind, object) {
        let kept: Vec<_> = held(kind, object)
            .filter(|(name, _)| !abandoned.contains(name))
            .collect();
        let told = format!("took container {names} away: its owner had removed it, and only its image was left of it");
        return Some((Body::Apply(apply(kind, object, &kept)), told));
    }
    let body = withdraw(kind, object, abandoned)?;
    let told = format!("gave up container {names}, which nobody else owns any more; it stays as it is");
    Some((Body::Merge(body), told))
}

/// The merge patch that gives up these containers and leaves them as they are: for a promotion that is deleted, or that no
/// longer targets them. `None` where we hold none of them.
pub(crate) fn withdraw(kind: TargetKind, object: &Value, containers: &[String]) -> Option<Value> {
    let managers = ownership::without_ours(kind, object, containers)?;
    Some(merge(object, &json!({ "managedFields": managers })))
}

/// The merge patch that records which digests were taken back from the workload, the latest first; none removes the
/// record.
pub(crate) fn rejected(object: &Value, digests: &[Digest]) -> Value {
    let list: Vec<&str> = digests.iter().map(Digest::as_str).collect();
    let value = match list.as_slice() {
        [] => Value::Null,
        list => list.join(",").into(),
    };
    merge(object, &json!({ "annotations": { REJECTED_ANNOTATION: value } }))
}

/// A merge patch of the metadata for the object as it was observed.
fn merge(object: &Value, metadata: &Value) -> Value {
    let mut body = json!({ "metadata": metadata });
    for field in ["uid", "resourceVersion"] {
        body["metadata"][field] = object["metadata"][field].clone();
    }
    body
}

fn apply(kind: TargetKind, object: &Value, images: &[(String, String)]) -> Value {
    let mut pod = Map::new();
    for (list, init) in ownership::LISTS {
        let of_list = images
            .iter()
            .filter(|(name, _)| container(kind, object, name).is_some_and(|(_, is)| is == init));
        let entries: Vec<Value> = of_list
            .map(|(name, image)| json!({ "name": name, "image": image }))
            .collect();
        if !entries.is_empty() {
            pod.insert(list.to_owned(), entries.into());
        }
    }
    let mut body = json!({ "apiVersion": api_version(kind), "kind": kind.as_str(), "metadata": {} });
    for field in ["name", "namespace", "uid", "resourceVersion"] {
        body["metadata"][field] = object["metadata"][field].clone();
    }
    if !pod.is_empty() {
        let path = ownership::template(kind).iter().chain(&["spec"]);
        *path.fold(&mut body, |at, field| &mut at[*field]) = pod.into();
    }
    body
}

/// The images that we hold already, as they are.
fn held(kind: TargetKind, object: &Value) -> impl Iterator<Item = (String, String)> {
    let ours = ownership::ours(kind, object).into_iter().filter(|(_, image)| *image);
    ours.filter_map(move |(name, _)| {
        let image = container(kind, object, &name)?.0["image"].as_str()?.to_owned();
        Some((name, image))
    })
}

fn is_bare(kind: TargetKind, object: &Value, name: &str) -> bool {
    let Some(fields) = container(kind, object, name).and_then(|(container, _)| container.as_object()) else {
        return false;
    };
    let empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    fields
        .iter()
        .all(|(field, value)| FILLED_IN.contains(&field.as_str()) && (field != "resources" || empty(value)))
}

/// Whether somebody else owns a container here.
fn has_an_owner(kind: TargetKind, object: &Value) -> bool {
    let containers = super::workload::pod(kind, object)["containers"].as_array();
    let mut names = containers
        .into_iter()
        .flatten()
        .filter_map(|container| container["name"].as_str());
    names.any(|name| ownership::others_own(kind, object, name))
}

/// The API of a kind of workload.
pub(crate) const fn api_version(kind: TargetKind) -> &'static str {
    match kind {
        TargetKind::Deployment | TargetKind::StatefulSet | TargetKind::DaemonSet => "apps/v1",
        TargetKind::CronJob => "batch/v1",
    }
}

/// An image by digest; a tag that it has now is left out, since it may be moved.
pub(crate) fn by_digest(repository: &str, digest: &Digest) -> String {
    format!("{}@{digest}", name_of(repository))
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
