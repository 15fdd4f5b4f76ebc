//! Which images of ECR the objects of a cluster speak of. Pure: of each object, only what names an image is read.

use std::collections::HashMap;

use serde::Deserialize;

use super::usage::{self, RegistryKey, Usage, Uses};
use crate::{
    api::{
        ImagePromotion,
        names::{Digest, RepositoryName, Tag},
        promotion::ImageStatus,
    },
    oci::reference::ImageReference,
};

/// What a runtime puts before the reference in `imageID`.
const SCHEMES: [&str; 2] = ["docker-pullable://", "docker://"];

/// The tag of a reference that has neither tag nor digest.
const LATEST: &str = "latest";

/// The spec of a pod, or of something that makes pods, however deep their template lies in it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Spec {
    containers: Option<Vec<Container>>,
    init_containers: Option<Vec<Container>>,
    ephemeral_containers: Option<Vec<Container>>,
    volumes: Option<Vec<Volume>>,
    template: Option<Nested>,
    job_template: Option<Nested>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Nested {
    spec: Option<Box<Spec>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    image: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Volume {
    image: Option<ImageVolume>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ImageVolume {
    reference: Option<String>,
}

/// The status of a pod; that of anything else is empty here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    #[serde(rename = "containerStatuses")]
    containers: Option<Vec<ContainerStatus>>,
    #[serde(rename = "initContainerStatuses")]
    init_containers: Option<Vec<ContainerStatus>>,
    #[serde(rename = "ephemeralContainerStatuses")]
    ephemeral_containers: Option<Vec<ContainerStatus>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ContainerStatus {
    image: Option<String>,
    #[serde(rename = "imageID")]
    image_id: Option<String>,
}

/// What a cluster uses, registry by registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collection {
    pub registries: HashMap<RegistryKey, Usage>,
}

impl Collection {
    /// Takes up what an object says that it runs, or would run.
    pub(crate) fn spec(&mut self, spec: &Spec) {
        for containers in [&spec.containers, &spec.init_containers, &spec.ephemeral_containers] {
            for container in containers.iter().flatten() {
                self.image(container.image.as_deref());
            }
        }
        for volume in spec.volumes.iter().flatten() {
            self.image(volume.image.as_ref().and_then(|image| image.reference.as_deref()));
        }
        for nested in [&spec.template, &spec.job_template] {
            if let Some(spec) = nested.as_ref().and_then(|nested| nested.spec.as_deref()) {
                self.spec(spec);
            }
        }
    }

    /// Takes up what runs in a pod, by the digest that the runtime found.
    pub(crate) fn status(&mut self, status: &Status) {
        for containers in [
            &status.containers,
            &status.init_containers,
            &status.ephemeral_containers,
        ] {
            for container in containers.iter().flatten() {
                self.image(container.image.as_deref());
                // Some runtimes give the digest of the configuration there, which names no image of a registry.
                self.image(container.image_id.as_deref().filter(|id| id.contains('@')));
            }
        }
    }

    /// Takes up an image by its digest.
    pub(crate) fn digest(&mut self, registry: &RegistryKey, repository: &RepositoryName, digest: &Digest) {
        let uses = self.uses(registry.clone(), repository.clone());
        uses.digests.insert(digest.clone());
    }

    fn image(&mut self, text: Option<&str>) {
        let Some(text) = text else { return };
        let text = SCHEMES
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        // What is no image of a private registry of ECR is none of our business.
        let Ok(reference) = text.parse::<ImageReference>() else {
            return;
        };
        let registry = (reference.host.account, reference.host.region);
        let uses = self.uses(registry, reference.repository);
        match (reference.digest, reference.tag) {
            (Some(digest), _) => drop(uses.digests.insert(digest)),
            (None, Some(tag)) => drop(uses.tags.insert(tag)),
            (None, None) => uses.tags.extend(LATEST.parse::<Tag>()),
        }
    }

    fn uses(&mut self, registry: RegistryKey, repository: RepositoryName) -> &mut Uses {
        self.registries
            .entry(registry)
            .or_default()
            .entry(repository)
            .or_default()
    }

    /// Adds what an earlier one had: where this one saw only a part, nothing of that may seem to be unused.
    pub(crate) fn keep(&mut self, earlier: &Self) {
        for (registry, usage) in &earlier.registries {
            usage::unite(self.registries.entry(registry.clone()).or_default(), usage);
        }
    }

    /// What is used of a registry.
    pub(crate) fn of(&self, registry: &RegistryKey) -> Usage {
        self.registries.get(registry).cloned().unwrap_or_default()
    }
}

/// The images that a promotion runs, goes to, or may have to go back to.
pub(crate) fn of_promotion(promotion: &ImagePromotion) -> Vec<&Digest> {
    let Some(status) = &promotion.status else {
        return Vec::new();
    };
    let mut digests: Vec<&Digest> = [
        &status.candidate,
        &status.current,
        &status.previous,
        &status.last_good,
        &status.requested,
    ]
    .into_iter()
    .flatten()
    .map(|image| &image.digest)
    .collect();
    digests.extend(status.targets.iter().filter_map(|target| target.digest.as_ref()));
    if let Some(rollout) = &status.rollout {
        digests.push(&rollout.image.digest);
        digests.extend(rollout.from.iter().map(|from: &ImageStatus| &from.digest));
    }
    digests
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
