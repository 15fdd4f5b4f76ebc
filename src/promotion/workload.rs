//! A workload as the apiserver has it, read for the engine.

use jiff::Timestamp;
use serde_json::Value;

use super::{facts::Found, health, owner, ownership, pods};
use crate::api::{
    REJECTED_ANNOTATION,
    names::Digest,
    promotion::{Target, TargetKind, Via},
};

/// Stands for every container that runs an image of the repository.
const ANY: &str = "*";

/// How many rejected digests are read from a workload; the annotation is anybody's to write.
const MOST_REJECTED: usize = 20;

/// The longest image that is told in full, in characters.
const IMAGE_LENGTH: usize = 512;

/// What the health of a workload is measured by.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// A container that waits in `CrashLoopBackOff` after more restarts than this has failed.
    pub max_restarts: u32,
    /// When the rollout under way began: restarts of pods that are older say nothing about it. Without it all count.
    pub since: Option<Timestamp>,
}

/// A container that a target selects and the workload has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selected {
    pub name: String,
    pub init: bool,
    /// Its place in its list.
    pub index: usize,
    /// As it is written.
    pub image: String,
    /// Whether somebody other than us owns it. Only such a container may be written to: an entry that only we own would
    /// outlive its removal by its owner.
    pub owned: bool,
}

/// Reads a workload. `pods` may hold pods of others; `repositories` are the names of images (`host/repository`) that count
/// as the promotion's. `missing` of the answer holds `*` where it was asked for and no container runs such an image.
pub(crate) fn read(target: &Target, object: &Value, pods: &[Value], repositories: &[String], limits: Limits) -> Found {
    let kind = target.kind;
    let selected = selected(target, object, repositories);
    let tool = owner::owner(kind, object);
    let writer = ownership::writer(kind, object, selected.iter().map(|container| container.name.as_str()));
    let (health, restarts) = health::health(kind, object, pods, &selected, limits);
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let refused = match (target.via, &tool) {
        (Via::Auto, Some(tool)) => owner::refusal(tool, kind, object, &selected),
        _ => None,
    };
    Found {
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        digest: common_digest(&selected, repositories),
        images: selected
            .iter()
            .map(|container| cut(&container.image, IMAGE_LENGTH))
            .collect(),
        missing: missing(target, object, &selected),
        remedy: owner::remedy(tool.as_ref(), writer.as_ref(), kind, object, &selected),
        writer,
        health,
        restarts,
        refused,
        rejected: rejected(object),
        abandoned: ownership::abandoned(kind, object),
        stuck: pods::replaceable(kind, object, pods, &selected),
    }
}

/// The containers that the target selects, in the order of the workload.
pub(crate) fn selected(target: &Target, object: &Value, repositories: &[String]) -> Vec<Selected> {
    let mut found = Vec::new();
    for (list, init) in ownership::LISTS {
        let wanted = if init {
            &target.init_containers
        } else {
            &target.containers
        };
        let containers = pod(target.kind, object)[list].as_array();
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let name = container["name"].as_str().unwrap_or_default();
            let image = container["image"].as_str().unwrap_or_default();
            let by_image = || wanted.iter().any(|wanted| wanted == ANY) && is_of(image, repositories);
            if wanted.iter().any(|wanted| wanted == name) || by_image() {
                found.push(Selected {
                    name: name.to_owned(),
                    init,
                    index,
                    image: image.to_owned(),
                    owned: ownership::others_own(target.kind, object, name),
                });
            }
        }
    }
    found
}

/// The digest that the nodes say all pods run in these containers, `None` where they differ, have no pods, or run images of
/// other repositories.
pub(crate) fn running(selected: &[Selected], pods: &[Value], repositories: &[String]) -> Option<Digest> {
    let mut digests = Vec::new();
    for pod in pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
        for container in selected {
            if !is_of(&container.image, repositories) {
                return None;
            }
            let list = if container.init {
                "initContainerStatuses"
            } else {
                "containerStatuses"
            };
            let statuses = pod["status"][list].as_array().into_iter().flatten();
            let status = statuses
                .into_iter()
                .find(|status| status["name"] == container.name.as_str());
            let id = status.and_then(|status| status["imageID"].as_str()).unwrap_or_default();
            digests.push(id.rsplit_once('@')?.1.parse::<Digest>().ok()?);
        }
    }
    let first = digests.first()?.clone();
    digests.iter().all(|digest| *digest == first).then_some(first)
}

/// The spec of the pods of a workload.
pub(super) fn pod(kind: TargetKind, object: &Value) -> &Value {
    &ownership::template(kind).iter().fold(object, |at, field| &at[*field])["spec"]
}

/// A container or init container; their names are unique together.
pub(super) fn container<'a>(kind: TargetKind, object: &'a Value, name: &str) -> Option<(&'a Value, bool)> {
    let pod = pod(kind, object);
    ownership::LISTS.iter().find_map(|(list, init)| {
        let mut containers = pod[*list].as_array()?.iter();
        containers
            .find(|container| container["name"] == name)
            .map(|container| (container, *init))
    })
}

/// The name of an image: what stands before its tag and digest.
pub(super) fn name_of(image: &str) -> &str {
    let named = image.split_once('@').map_or(image, |(named, _)| named);
    match named.rsplit_once(':') {
        // A colon before the last slash belongs to a port.
        Some((name, tag)) if !tag.contains('/') => name,
        _ => named,
    }
}

/// The digest of an image, `name[:tag]@sha256:…`.
pub(super) fn digest_of(image: &str) -> Option<Digest> {
    image.split_once('@')?.1.parse().ok()
}

fn is_of(image: &str, repositories: &[String]) -> bool {
    repositories.iter().any(|repository| repository == name_of(image))
}

fn common_digest(selected: &[Selected], repositories: &[String]) -> Option<Digest> {
    let mut digests = selected.iter().map(|container| {
        let image = container.image.as_str();
        digest_of(image).filter(|_| is_of(image, repositories))
    });
    let first = digests.next()??;
    digests.all(|digest| digest.as_ref() == Some(&first)).then_some(first)
}

fn missing(target: &Target, object: &Value, selected: &[Selected]) -> Vec<String> {
    let wanted = target.containers.iter().map(|name| (name, false));
    let wanted = wanted.chain(target.init_containers.iter().map(|name| (name, true)));
    let mut missing = Vec::new();
    for (name, init) in wanted {
        let there = match name.as_str() {
            ANY => !selected.is_empty(),
            name => container(target.kind, object, name).is_some_and(|(_, is_init)| is_init == init),
        };
        if !there && !missing.contains(name) {
            missing.push(name.clone());
        }
    }
    missing
}

fn rejected(object: &Value) -> Vec<Digest> {
    let written = object["metadata"]["annotations"][REJECTED_ANNOTATION]
        .as_str()
        .unwrap_or_default();
    let mut digests: Vec<Digest> = Vec::new();
    for digest in written.split(',').filter_map(|digest| digest.trim().parse().ok()) {
        if !digests.contains(&digest) {
            digests.push(digest);
        }
        if digests.len() == MOST_REJECTED {
            break;
        }
    }
    digests
}

/// A text of at most this many characters.
pub(super) fn cut(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let kept = text.chars().take(length.saturating_sub(1));
    kept.chain(['…']).collect()
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
