//! What the operator counts and times, in OpenMetrics.

mod in_use;
pub(crate) mod lifecycle;
pub(crate) mod pull_secret;
pub(crate) mod replication;

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use self::{
    in_use::InUseMetrics, lifecycle::LifecycleMetrics, pull_secret::PullSecretMetrics, replication::ReplicationMetrics,
};

/// Labels of what is told by kind of object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// Labels of finished reconciles.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: &'static str,
    result: &'static str,
}

/// Labels of objects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectLabels {
    kind: &'static str,
    ready: &'static str,
}

/// Labels of calls to AWS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    registry: String,
    operation: String,
    result: String,
}

/// Labels of what is told by operation of AWS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    registry: String,
    operation: String,
}

/// Labels of what is told by Registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistryLabels {
    registry: String,
}

/// Labels of messages on the queue of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    registry: String,
    kind: &'static str,
    outcome: &'static str,
}

/// Labels of polls that failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventFailureLabels {
    registry: String,
    result: String,
}

/// Labels of rollouts that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RolloutLabels {
    kind: String,
    outcome: String,
}

type SecondsGauge = Gauge<f64, AtomicU64>;

/// Every figure the operator gives. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_seconds: Family<KindLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<KindLabels, Gauge>,
    oldest_trigger: Family<KindLabels, SecondsGauge>,
    objects: Family<ObjectLabels, Gauge<i64, AtomicI64>>,
    drift_repaired: Family<KindLabels, Counter>,
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<OperationLabels, Histogram, fn() -> Histogram>,
    throttled: Family<OperationLabels, Counter>,
    inventory_age: Family<RegistryLabels, SecondsGauge>,
    events: Family<EventLabels, Counter>,
    event_age: Family<RegistryLabels, Histogram, fn() -> Histogram>,
    event_failures: Family<EventFailureLabels, Counter>,
    rollouts: Family<RolloutLabels, Counter>,
    leader: Gauge,
    pub(crate) in_use: InUseMetrics,
    pub(crate) lifecycle: LifecycleMetrics,
    pub(crate) pull_secrets: PullSecretMetrics,
    pub(crate) replication: ReplicationMetrics,
    /// When each registry was last listed; the gauge is worked out when it is asked for.
    listed: Arc<Mutex<HashMap<String, Instant>>>,
}

/// 10 ms to about 11 hours.
fn waits() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 4.0, 12))
}

/// 5 ms to about 40 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 14))
}

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "a list of what there is, to be read as one")]
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("ecr_operator");
        let metrics = Self {
            registry: Arc::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            in_flight: Family::default(),
            oldest_trigger: Family::default(),
            objects: Family::default(),
            drift_repaired: Family::default(),
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(seconds as fn() -> Histogram),
            throttled: Family::default(),
            inventory_age: Family::default(),
            events: Family::default(),
            event_age: Family::new_with_constructor(waits as fn() -> Histogram),
            event_failures: Family::default(),
            rollouts: Family::default(),
            leader: Gauge::default(),
            in_use: InUseMetrics::default(),
            lifecycle: LifecycleMetrics::default(),
            pull_secrets: PullSecretMetrics::default(),
            replication: ReplicationMetrics::default(),
            listed: Arc::default(),
        };
        registry.register(
            "reconciles",
            "Reconciles that ended, by how",
            metrics.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time a reconcile took",
            Unit::Seconds,
            metrics.reconcile_seconds.clone(),
        );
        registry.register(
            "reconciles_in_flight",
            "Reconciles that are running",
            metrics.in_flight.clone(),
        );
        registry.register_with_unit(
            "oldest_trigger_age",
            "Age of the oldest change that no reconcile has taken up yet",
            Unit::Seconds,
            metrics.oldest_trigger.clone(),
        );
        registry.register("objects", "Objects, by their Ready condition", metrics.objects.clone());
        registry.register(
            "drift_repaired",
            "Settings that were put right after somebody else changed them",
            metrics.drift_repaired.clone(),
        );
        registry.register(
            "aws_calls",
            "Calls to AWS, attempts by the SDK included, by result: ok, or AWS's error code",
            metrics.calls.clone(),
        );
        registry.register_with_unit(
            "aws_call_duration",
            "Time AWS took to answer",
            Unit::Seconds,
            metrics.call_seconds.clone(),
        );
        registry.register("aws_throttled", "Calls that AWS throttled", metrics.throttled.clone());
        registry.register_with_unit(
            "inventory_age",
            "Time since the registry was last listed as a whole",
            Unit::Seconds,
            metrics.inventory_age.clone(),
        );
        registry.register(
            "events_received",
            "Messages received from the queue of events, by what they tell and what became of them",
            metrics.events.clone(),
        );
        registry.register_with_unit(
            "event_age",
            "Time that a message was on the queue of events",
            Unit::Seconds,
            metrics.event_age.clone(),
        );
        registry.register(
            "events_poll_errors",
            "Times that the queue of events could not be read, by AWS's error code",
            metrics.event_failures.clone(),
        );
        registry.register(
            "rollouts",
            "Rollouts of ImagePromotions that ended, by kind and outcome",
            metrics.rollouts.clone(),
        );
        registry.register(
            "leader",
            "1 where this replica leads, 0 where it stands by",
            metrics.leader.clone(),
        );
        metrics.in_use.register(&mut registry);
        metrics.lifecycle.register(&mut registry);
        metrics.pull_secrets.register(&mut registry);
        metrics.replication.register(&mut registry);
        Self {
            registry: Arc::new(registry),
            ..metrics
        }
    }

    /// This replica leads; it ends when it does not any more.
    pub(crate) fn leads(&self) {
        self.leader.set(1);
    }

    /// A reconcile begins.
    pub(crate) fn begin(&self, kind: &'static str) {
        self.in_flight.get_or_create(&KindLabels { kind }).inc();
    }

    /// A reconcile ended.
    pub(crate) fn end(&self, kind: &'static str, result: &'static str, took: Duration) {
        self.in_flight.get_or_create(&KindLabels { kind }).dec();
        self.reconciles.get_or_create(&ReconcileLabels { kind, result }).inc();
        self.reconcile_seconds
            .get_or_create(&KindLabels { kind })
            .observe(took.as_secs_f64());
    }

    /// Drift was put right.
    pub(crate) fn repaired(&self, kind: &'static str, settings: u64) {
        self.drift_repaired.get_or_create(&KindLabels { kind }).inc_by(settings);
    }

    /// One attempt of a call to AWS ended.
    pub(crate) fn call(&self, registry: &str, operation: &str, result: &str, took: Duration) {
        let (registry, operation, result) = (registry.to_owned(), operation.to_owned(), result.to_owned());
        let by_operation = OperationLabels {
            registry: registry.clone(),
            operation: operation.clone(),
        };
        self.call_seconds
            .get_or_create(&by_operation)
            .observe(took.as_secs_f64());
        self.calls
            .get_or_create(&CallLabels {
                registry,
                operation,
                result,
            })
            .inc();
    }

    /// AWS throttled a call.
    pub(crate) fn throttled(&self, registry: &str, operation: &str) {
        let labels = OperationLabels {
            registry: registry.to_owned(),
            operation: operation.to_owned(),
        };
        self.throttled.get_or_create(&labels).inc();
    }

    /// A registry was listed as a whole.
    pub(crate) fn listed(&self, registry: &str) {
        self.listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(registry.to_owned(), Instant::now());
    }

    /// A message was received from the queue of events.
    pub(crate) fn event(&self, registry: &str, kind: &'static str, outcome: &'static str, age: Option<Duration>) {
        let registry = registry.to_owned();
        if let Some(age) = age {
            let labels = RegistryLabels {
                registry: registry.clone(),
            };
            self.event_age.get_or_create(&labels).observe(age.as_secs_f64());
        }
        self.events
            .get_or_create(&EventLabels {
                registry,
                kind,
                outcome,
            })
            .inc();
    }

    /// The queue of events could not be read.
    pub(crate) fn events_failed(&self, registry: &str, result: &str) {
        let (registry, result) = (registry.to_owned(), result.to_owned());
        self.event_failures
            .get_or_create(&EventFailureLabels { registry, result })
            .inc();
    }

    /// A rollout of a promotion ended.
    pub(crate) fn rollout_ended(&self, kind: &str, outcome: &str) {
        let (kind, outcome) = (kind.to_owned(), outcome.to_owned());
        self.rollouts.get_or_create(&RolloutLabels { kind, outcome }).inc();
    }

    /// A Registry is gone: its figures must not stay behind as if it were merely old.
    pub(crate) fn forget_registry(&self, registry: &str) {
        self.listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(registry);
        self.in_use.forget(registry);
        self.inventory_age.remove(&RegistryLabels {
            registry: registry.to_owned(),
        });
    }

    /// How many objects of a kind there are, by their Ready condition.
    pub(crate) fn objects(&self, kind: &'static str, counts: &HashMap<&'static str, i64>) {
        for ready in ["True", "False", "Unknown"] {
            let count = counts.get(ready).copied().unwrap_or(0);
            self.objects.get_or_create(&ObjectLabels { kind, ready }).set(count);
        }
    }

    /// The age of the oldest change that waits.
    pub(crate) fn oldest_trigger(&self, kind: &'static str, age: Duration) {
        self.oldest_trigger
            .get_or_create(&KindLabels { kind })
            .set(age.as_secs_f64());
    }

    /// All figures as OpenMetrics text.
    pub(crate) fn render(&self) -> String {
        for (registry, when) in self.listed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = RegistryLabels {
                registry: registry.clone(),
            };
            self.inventory_age
                .get_or_create(&labels)
                .set(when.elapsed().as_secs_f64());
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear();
            // Writing to a String cannot fail; a scraper must not take half a page for all of it.
            let _ = writeln!(text, "# EOF");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_was_counted_and_ends_as_openmetrics_asks() {
        let metrics = Metrics::new();
        metrics.begin("Repository");
        metrics.end("Repository", "Settled", Duration::from_millis(20));
        metrics.call("main", "CreateRepository", "ok", Duration::from_millis(20));
        metrics.listed("main");
        metrics.objects("Repository", &HashMap::from([("True", 3)]));
        let text = metrics.render();
        for line in [
            r#"ecr_operator_reconciles_total{kind="Repository",result="Settled"} 1"#,
            r#"ecr_operator_aws_calls_total{registry="main",operation="CreateRepository",result="ok"} 1"#,
            r#"ecr_operator_objects{kind="Repository",ready="True"} 3"#,
            r#"ecr_operator_inventory_age_seconds{registry="main"}"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        metrics.forget_registry("main");
        assert!(!metrics.render().contains("inventory_age_seconds{"));
    }
}
