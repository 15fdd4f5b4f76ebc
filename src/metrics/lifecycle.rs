//! What is counted of lifecycle policies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::api::lifecycle::LifecyclePolicyStatus;

/// Labels of a policy. Those of a cluster have no namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PolicyLabels {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
}

/// Figures of lifecycle policies. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct LifecycleMetrics {
    repositories: Family<PolicyLabels, Gauge>,
    applied: Family<PolicyLabels, Gauge>,
    blocked: Family<PolicyLabels, Gauge>,
    images: Family<PolicyLabels, Gauge>,
    /// By uid, so that what is gone can be forgotten.
    known: Arc<Mutex<HashMap<String, PolicyLabels>>>,
}

impl LifecycleMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "lifecycle_policy_repositories",
            "Repositories that the policy applies to",
            self.repositories.clone(),
        );
        registry.register(
            "lifecycle_policy_applied_repositories",
            "Repositories on which the policy is in force",
            self.applied.clone(),
        );
        registry.register(
            "lifecycle_policy_blocked_repositories",
            "Repositories on which something keeps the policy from being put",
            self.blocked.clone(),
        );
        registry.register(
            "lifecycle_policy_images_to_expire",
            "Images that the policy would expire where it is not in force yet",
            self.images.clone(),
        );
    }

    /// A policy was counted.
    pub(crate) fn counted(&self, uid: &str, labels: PolicyLabels, status: &LifecyclePolicyStatus) {
        let set = |family: &Family<PolicyLabels, Gauge>, value: i64| {
            family.get_or_create(&labels).set(value);
        };
        set(&self.repositories, status.repositories.into());
        set(&self.applied, status.applied.into());
        set(&self.blocked, status.blocked.into());
        set(&self.images, i64::try_from(status.images_to_expire).unwrap_or(i64::MAX));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(uid.to_owned(), labels);
    }

    /// A policy is gone.
    pub(crate) fn forget(&self, uid: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(labels) = known.remove(uid) {
            for family in [&self.repositories, &self.applied, &self.blocked, &self.images] {
                family.remove(&labels);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_policy_are_told_until_it_is_gone() {
        let (metrics, mut registry) = (LifecycleMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let labels = PolicyLabels {
            kind: "LifecyclePolicy",
            namespace: "a".into(),
            name: "old".into(),
        };
        let status = LifecyclePolicyStatus {
            repositories: 3,
            blocked: 1,
            images_to_expire: 40,
            ..LifecyclePolicyStatus::default()
        };
        metrics.counted("uid", labels, &status);
        let told = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let of = r#"{kind="LifecyclePolicy",namespace="a",name="old"}"#;
        assert!(
            told().contains(&format!("lifecycle_policy_images_to_expire{of} 40")),
            "{}",
            told()
        );
        assert!(told().contains(&format!("lifecycle_policy_blocked_repositories{of} 1")));
        metrics.forget("uid");
        assert!(!told().contains(of));
    }
}
