//! Publishes what this cluster uses of a registry.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::runtime::reflector::ObjectRef;

use super::{
    report::{Report, tag_in},
    shared::{Collected, repository},
    usage,
};
use crate::{
    api::names::{RepositoryName, Tag},
    control::events::cut,
    controllers::{
        registry::connection::Connection,
        world::{Hint, World},
    },
};

/// A report that is older is published again, so that silence can be told from idleness.
const DAILY: SignedDuration = SignedDuration::from_hours(23);

/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// How long is waited for others who ask for a publication at the same time.
const TOGETHER: Duration = Duration::from_millis(30);

/// Publishes whenever there is something new, until the Registry is gone.
pub(super) async fn run(world: &World, registry: &str) {
    let mut collections = world.in_use.collected.subscribe();
    let mut own = None;
    while let Some(connection) = world.connection(registry) {
        let collected = collections.borrow_and_update().clone();
        let pause = match (collected, repository()) {
            (Some(collected), Some(reports)) => {
                let publisher = Publisher {
                    world,
                    registry,
                    connection: &connection,
                    reports: &reports,
                };
                publisher.publish(&collected, &mut own).await
            }
            _ => world.in_use.interval,
        };
        tokio::select! {
            () = connection.in_use.publish.notified() => tokio::time::sleep(TOGETHER).await,
            changed = collections.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Publisher<'a> {
    world: &'a World,
    registry: &'a str,
    connection: &'a Connection,
    reports: &'a RepositoryName,
}

impl Publisher<'_> {
    /// Publishes if there is something new; gives how soon to look again. `own`: what this cluster is called in its report, once
    /// that was looked for.
    async fn publish(&self, collected: &Collected, own: &mut Option<Tag>) -> Duration {
        let in_use = &self.connection.in_use;
        let interval = self.world.in_use.interval;
        if !self.connection.is_usable() {
            return interval;
        }
        if self.connection.inventory.get(self.reports).is_none() {
            tracing::debug!(registry = self.registry, "nobody collects which images are in use");
            *own = None;
            in_use.reported(None);
            return interval;
        }
        let cluster = match own {
            Some(cluster) => cluster.clone(),
            None => match self.read_own().await {
                Ok(cluster) => own.insert(cluster).clone(),
                Err(why) => return self.failed(why),
            },
        };
        let last = in_use.report();
        if !collected.complete && last.is_none() {
            // Taken for the whole, it would let go of what is missing in it.
            return self.failed("not all that this cluster uses could be listed, see the log".into());
        }
        let report = self.compose(&cluster, collected);
        let is_known = last
            .is_some_and(|last| last.says_the_same(&report) && report.published.duration_since(last.published) < DAILY);
        if is_known {
            return interval;
        }
        let put = async {
            let tag = self.tag()?;
            let text = report.encode().map_err(|error| error.to_string())?;
            let ecr = &self.connection.ecr;
            let put = ecr.put_manifest_of_nothing(self.reports, &text, &tag).await;
            put.map_err(|error| error.to_string())
        };
        match put.await {
            Ok(()) => {
                tracing::info!(
                    registry = self.registry,
                    images = usage::count(&report.usage),
                    "published which images are in use"
                );
                in_use.reported(Some(report));
                in_use.keep.notify_one();
                self.show(String::new());
                interval
            }
            Err(why) => self.failed(why),
        }
    }

    /// Reads this cluster's report: what has not changed since need not be published again.
    async fn read_own(&self) -> Result<Tag, String> {
        let cluster = &self.world.identity.cluster;
        let cluster: Tag = cluster
            .parse()
            .map_err(|error| format!("the UID of the cluster: {error}"))?;
        let stored = self.connection.ecr.report(self.reports, &self.tag()?).await;
        if let Some(manifest) = stored.map_err(|error| error.to_string())? {
            match Report::decode(&cluster, &manifest) {
                Ok(report) => self.connection.in_use.reported(Some(report)),
                Err(error) => {
                    tracing::warn!(registry = self.registry, %error, "this cluster's report is replaced");
                }
            }
        }
        Ok(cluster)
    }

    /// The tag of this cluster's report.
    fn tag(&self) -> Result<Tag, String> {
        let tag = tag_in(&self.world.identity.cluster, &self.connection.key());
        tag.parse().map_err(|error| format!("the tag of the report: {error}"))
    }

    fn compose(&self, cluster: &Tag, collected: &Collected) -> Report {
        let in_use = &self.connection.in_use;
        let mut usage = collected.collection.of(&self.connection.key());
        usage::unite(&mut usage, &in_use.announced());
        usage::unite(&mut usage, &in_use.expected());
        if !collected.complete
            && let Some(last) = in_use.report()
        {
            usage::unite(&mut usage, &last.usage);
        }
        Report {
            cluster: cluster.clone(),
            owner: self.world.identity.owner.to_string(),
            published: Timestamp::now(),
            usage,
        }
    }

    fn failed(&self, why: String) -> Duration {
        tracing::warn!(
            registry = self.registry,
            why,
            "could not publish which images are in use"
        );
        self.world.metrics.in_use.publication_failed(self.registry);
        self.show(unpublished(&why));
        self.connection.in_use.could_not_publish(why);
        AGAIN.min(self.world.in_use.interval)
    }

    /// Shows in the status how it went, where nobody else writes there: whoever manages the registry has more to say.
    fn show(&self, message: String) {
        if self.connection.manages() {
            return;
        }
        let guard = self.world.registries.get(&ObjectRef::new(self.registry));
        let registry = guard.as_ref().and_then(|guard| guard.0.as_ref().ok());
        let Some(registry) = registry else { return };
        let old = registry.status.as_ref().and_then(|status| status.in_use.clone());
        if old.as_ref().map_or("", |old| old.message.as_str()) == message {
            return;
        }
        // Who was known stays, for when this cluster manages the registry.
        let mut status = old.unwrap_or_default();
        status.message = message;
        if self.connection.in_use.show(status) {
            self.world.hint(Hint::Look {
                registry: self.registry.to_owned(),
                asked: false,
            });
        }
    }
}

/// What the status says of a report that could not be published.
pub(super) fn unpublished(why: &str) -> String {
    let mut message = format!(
        "The report of this cluster could not be published: {}.",
        why.trim_end_matches('.')
    );
    cut(&mut message, 1_024);
    message
}
