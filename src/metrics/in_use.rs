//! What is counted of images in use.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::RegistryLabels;

/// Figures of images in use. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct InUseMetrics {
    protected: Family<RegistryLabels, Gauge>,
    silent: Family<RegistryLabels, Gauge>,
    unreadable: Family<RegistryLabels, Gauge>,
    failed: Family<RegistryLabels, Counter>,
    released: Family<RegistryLabels, Counter>,
    unreported: Counter,
}

impl InUseMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "in_use_protected_images",
            "Images that are kept from clean-up because they are in use",
            self.protected.clone(),
        );
        registry.register(
            "in_use_silent_clusters",
            "Clusters that have not reported for too long what they use",
            self.silent.clone(),
        );
        registry.register(
            "in_use_unreadable_reports",
            "Reports of images in use that cannot be read; nothing is released meanwhile",
            self.unreadable.clone(),
        );
        registry.register(
            "in_use_publications_failed",
            "Times that this cluster's report of images in use could not be published",
            self.failed.clone(),
        );
        registry.register(
            "in_use_released_images",
            "Images that are not kept from clean-up any more",
            self.released.clone(),
        );
        registry.register(
            "in_use_unreported_rollouts",
            "Images that were rolled out before they could be reported as in use",
            self.unreported.clone(),
        );
    }

    pub(crate) fn seen(&self, registry: &str, protected: usize, silent: usize, unreadable: usize) {
        let set = |family: &Family<RegistryLabels, Gauge>, value: usize| {
            family
                .get_or_create(&labels(registry))
                .set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.protected, protected);
        set(&self.silent, silent);
        set(&self.unreadable, unreadable);
    }

    pub(crate) fn publication_failed(&self, registry: &str) {
        self.failed.get_or_create(&labels(registry)).inc();
    }

    pub(crate) fn released(&self, registry: &str) {
        self.released.get_or_create(&labels(registry)).inc();
    }

    pub(crate) fn unreported(&self) {
        self.unreported.inc();
    }

    pub(super) fn forget(&self, registry: &str) {
        for family in [&self.protected, &self.silent, &self.unreadable] {
            family.remove(&labels(registry));
        }
    }
}

fn labels(registry: &str) -> RegistryLabels {
    RegistryLabels {
        registry: registry.to_owned(),
    }
}
