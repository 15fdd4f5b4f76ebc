//! What is told of ReplicationConfigs: how their backfills stand, and whether images have arrived.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::SecondsGauge;
use crate::api::replication::{ReplicationDestination, VerificationStatus};

/// Labels of what is on its way from a ReplicationConfig to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WayLabels {
    name: String,
    region: String,
    registry_id: String,
    state: &'static str,
}

/// Labels of a ReplicationConfig.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfigLabels {
    name: String,
}

/// How a backfill stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackfillState {
    Waiting,
    InProgress,
    Complete,
    /// It has failed, or has left out images.
    Failed,
    Stopped,
}

impl BackfillState {
    const ALL: [Self; 5] = [
        Self::Waiting,
        Self::InProgress,
        Self::Complete,
        Self::Failed,
        Self::Stopped,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::InProgress => "in_progress",
            Self::Complete => "complete",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// What the status of a ReplicationConfig says.
#[derive(Debug)]
pub(crate) struct Figures<'a> {
    pub name: String,
    /// The last backfill of each destination.
    pub backfills: Vec<(&'a ReplicationDestination, BackfillState)>,
    pub verification: Option<&'a VerificationStatus>,
}

/// Figures of ReplicationConfigs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplicationMetrics {
    backfills: Family<WayLabels, Gauge>,
    images: Family<WayLabels, Gauge>,
    age: Family<ConfigLabels, SecondsGauge>,
    failed: Family<ConfigLabels, Gauge>,
    /// What was told last, so that what is gone can be forgotten.
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    backfills: HashSet<WayLabels>,
    images: HashSet<WayLabels>,
    verified: HashSet<ConfigLabels>,
}

impl ReplicationMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "replication_backfills",
            "The last backfill to a destination: 1 for the state it is in, 0 for the others",
            self.backfills.clone(),
        );
        registry.register(
            "replication_images",
            "Images that ECR was asked about in the last round, by whether they have arrived",
            self.images.clone(),
        );
        registry.register_with_unit(
            "replication_verification_age",
            "Time since ECR was last asked whether images have arrived",
            Unit::Seconds,
            self.age.clone(),
        );
        registry.register(
            "replication_verification_failed",
            "1 where ECR could not be asked for all images when it was asked last, 0 where it could",
            self.failed.clone(),
        );
    }

    /// These are the objects; there are no others. What stays is never absent in between: a scrape may come at any time.
    pub(crate) fn tell(&self, configs: &[Figures<'_>], now: Timestamp) {
        let mut before = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = Told::default();
        for config in configs {
            for (to, state) in &config.backfills {
                for of in BackfillState::ALL {
                    let labels = way(&config.name, to, of.as_str());
                    self.backfills.get_or_create(&labels).set(i64::from(*state == of));
                    told.backfills.insert(labels);
                }
            }
            let Some(last) = config.verification else { continue };
            for to in &last.destinations {
                for (state, images) in [
                    ("complete", to.complete),
                    ("in_progress", to.in_progress),
                    ("failed", to.failed),
                    ("not_replicated", to.not_replicated),
                ] {
                    let labels = way(&config.name, &to.destination, state);
                    self.images.get_or_create(&labels).set(images.into());
                    told.images.insert(labels);
                }
            }
            let labels = ConfigLabels {
                name: config.name.clone(),
            };
            let age = now.duration_since(last.at).as_secs_f64();
            self.age.get_or_create(&labels).set(age);
            self.failed
                .get_or_create(&labels)
                .set(i64::from(last.message.is_some()));
            told.verified.insert(labels);
        }
        for gone in before.backfills.difference(&told.backfills) {
            self.backfills.remove(gone);
        }
        for gone in before.images.difference(&told.images) {
            self.images.remove(gone);
        }
        for gone in before.verified.difference(&told.verified) {
            self.age.remove(gone);
            self.failed.remove(gone);
        }
        *before = told;
    }
}

fn way(name: &str, to: &ReplicationDestination, state: &'static str) -> WayLabels {
    WayLabels {
        name: name.to_owned(),
        region: to.region.to_string(),
        registry_id: to.registry_id.to_string(),
        state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::replication::DestinationStatus;

    fn to(region: &str) -> ReplicationDestination {
        ReplicationDestination {
            region: region.parse().unwrap(),
            registry_id: "111122223333".parse().unwrap(),
        }
    }

    fn verified(to: &ReplicationDestination, failed: u32) -> VerificationStatus {
        VerificationStatus {
            at: Timestamp::from_second(100).unwrap(),
            images: 3 + failed,
            reached: None,
            message: None,
            destinations: vec![DestinationStatus {
                destination: to.clone(),
                complete: 3,
                in_progress: 0,
                failed,
                not_replicated: 0,
                examples: Vec::new(),
            }],
        }
    }

    fn figures<'a>(
        backfills: Vec<(&'a ReplicationDestination, BackfillState)>,
        verification: Option<&'a VerificationStatus>,
    ) -> Figures<'a> {
        Figures {
            name: "a".into(),
            backfills,
            verification,
        }
    }

    #[test]
    fn what_the_status_says_is_told_of_each_destination_until_it_is_gone() {
        let (metrics, mut registry) = (ReplicationMetrics::default(), Registry::default());
        metrics.register(&mut registry);
        let told = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text
        };
        let tell = |configs: &[Figures<'_>], second| metrics.tell(configs, Timestamp::from_second(second).unwrap());
        let of = |figure: &str, region: &str, state: &str, value: i64| {
            format!(r#"{figure}{{name="a",region="{region}",registry_id="111122223333",state="{state}"}} {value}"#)
        };
        let (near, far) = (to("eu-north-1"), to("us-east-1"));
        let mut last = verified(&near, 2);
        let all = vec![(&near, BackfillState::Failed), (&far, BackfillState::InProgress)];
        tell(&[figures(all, Some(&last))], 160);
        for line in [
            of("replication_backfills", "eu-north-1", "failed", 1),
            of("replication_backfills", "eu-north-1", "complete", 0),
            of("replication_backfills", "us-east-1", "in_progress", 1),
            of("replication_backfills", "us-east-1", "failed", 0),
            of("replication_images", "eu-north-1", "complete", 3),
            of("replication_images", "eu-north-1", "failed", 2),
            r#"replication_verification_age_seconds{name="a"} 60.0"#.into(),
            r#"replication_verification_failed{name="a"} 0"#.into(),
        ] {
            assert!(told().contains(&line), "{line} is not in\n{}", told());
        }
        last.message = Some("denied".into());
        last.destinations.clear();
        tell(&[figures(vec![(&near, BackfillState::Complete)], Some(&last))], 160);
        assert!(told().contains(&of("replication_backfills", "eu-north-1", "complete", 1)));
        assert!(told().contains(&of("replication_backfills", "eu-north-1", "failed", 0)));
        assert!(told().contains(r#"replication_verification_failed{name="a"} 1"#));
        for gone in ["us-east-1", "replication_images{"] {
            assert!(!told().contains(gone), "{gone} is still in\n{}", told());
        }
        tell(&[figures(Vec::new(), None)], 160);
        assert!(!told().contains(r#"name="a""#), "{}", told());
    }
}
