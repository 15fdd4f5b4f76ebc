//! What is told of PullSecrets.

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::family::Family,
    registry::{Registry, Unit},
};

use super::SecondsGauge;

/// Labels of a PullSecret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PullSecretLabels {
    namespace: String,
    name: String,
}

/// Figures of PullSecrets. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct PullSecretMetrics {
    expires_in: Family<PullSecretLabels, SecondsGauge>,
}

impl PullSecretMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "pull_secret_expires_in",
            "Time until the first token of the Secret expires, if it is not renewed",
            Unit::Seconds,
            self.expires_in.clone(),
        );
    }

    /// These Secrets, by namespace and name of the object, expire then; there are no others.
    pub(crate) fn expire(&self, expiries: &[(String, String, Timestamp)], now: Timestamp) {
        self.expires_in.clear();
        for (namespace, name, expires_at) in expiries {
            let labels = PullSecretLabels {
                namespace: namespace.clone(),
                name: name.clone(),
            };
            let left = expires_at.duration_since(now).as_secs_f64();
            self.expires_in.get_or_create(&labels).set(left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_is_left_is_told_of_those_that_are_there() {
        let (metrics, mut registry) = (PullSecretMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let at = |second| Timestamp::from_second(second).unwrap();
        let told = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        metrics.expire(
            &[("a".into(), "old".into(), at(100)), ("a".into(), "web".into(), at(50))],
            at(60),
        );
        assert!(
            told().contains(r#"pull_secret_expires_in_seconds{namespace="a",name="old"} 40.0"#),
            "{}",
            told()
        );
        assert!(told().contains(r#"pull_secret_expires_in_seconds{namespace="a",name="web"} -10.0"#));
        metrics.expire(&[("a".into(), "web".into(), at(50))], at(60));
        assert!(!told().contains("old"));
    }
}
