//! Reads the reports of all clusters, each only when it is another one.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;

use super::{
    protect::Reading,
    report::{Report, cluster_of},
    usage::RegistryKey,
};
use crate::{
    api::names::{Digest, RepositoryName, Tag},
    aws::{
        client::{Creation, Ecr},
        error::{AwsError, Fault},
    },
    controllers::{
        registry::{connection::Connection, plan::claim_tags},
        world::World,
    },
};

/// The reports as they were last read.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// By cluster, with the digest that was read; none where it went meanwhile, so that it is read again should it come back.
    readings: BTreeMap<Tag, (Option<Digest>, Reading)>,
    read: Option<Instant>,
    cleans_up: bool,
}

impl Shelf {
    /// All reports, this cluster's as it was published. Fails as a whole if a page or a report could not be had.
    pub(super) async fn read(
        &mut self,
        world: &World,
        connection: &Connection,
        reports: &RepositoryName,
        manages: bool,
    ) -> Result<BTreeMap<Tag, Reading>, AwsError> {
        if manages {
            self.open(world, connection, reports).await?;
        }
        let old = self.read.is_none_or(|read| read.elapsed() >= world.in_use.interval);
        if connection.in_use.take_news() || old {
            self.read = None;
            self.read_reports(world, connection, reports).await?;
            self.read = Some(Instant::now());
        }
        let readings = self.readings.iter();
        let mut readings: BTreeMap<Tag, Reading> = readings
            .map(|(tag, (_, reading))| (tag.clone(), reading.clone()))
            .collect();
        if let Some(own) = connection.in_use.report() {
            readings.insert(own.cluster.clone(), Reading::Read(own));
        }
        Ok(readings)
    }

    /// Sees to it that there is a repository of reports.
    async fn open(&mut self, world: &World, connection: &Connection, reports: &RepositoryName) -> Result<(), AwsError> {
        if connection.inventory.get(reports).is_none() {
            let creation = Creation {
                mutability: None,
                scan_on_push: None,
                encryption: None,
                tags: claim_tags(&world.identity),
            };
            match connection.ecr.create(reports, &creation).await {
                Ok(record) => connection.inventory.note(Arc::new(record)),
                Err(error) if error.fault == Fault::Conflict => drop(connection.look_up(reports).await?),
                Err(error) => return Err(error),
            }
            self.cleans_up = false;
            world.in_use.changed.notify_one();
            connection.in_use.publish.notify_one();
        }
        if !self.cleans_up {
            connection.ecr.clean_up_reports().await?;
            self.cleans_up = true;
        }
        Ok(())
    }

    async fn read_reports(
        &mut self,
        world: &World,
        connection: &Connection,
        reports: &RepositoryName,
    ) -> Result<(), AwsError> {
        let registry = connection.key();
        let there = reports_of(&connection.ecr, reports, &registry).await?;
        let own = world.identity.cluster.as_str();
        if connection.in_use.report().is_some() && !there.keys().any(|tag| tag.as_str() == own) {
            // Somebody has deleted it.
            connection.in_use.reported(None);
            connection.in_use.publish.notify_one();
        }
        self.readings.retain(|tag, _| there.contains_key(tag));
        for (tag, digest) in there {
            if tag.as_str() == own
                || self
                    .readings
                    .get(&tag)
                    .is_some_and(|(known, _)| known.as_ref() == Some(&digest))
            {
                continue;
            }
            let before = match self.readings.remove(&tag) {
                Some((_, Reading::Read(report) | Reading::Unreadable(_, Some(report)))) => Some(report),
                _ => None,
            };
            let manifest = connection.ecr.manifest(reports, &digest).await?;
            let read = manifest.is_some().then_some(digest);
            let reading = match manifest {
                Some((_, bytes)) => match Report::decode(&tag, &bytes) {
                    Ok(report) => Reading::Read(report),
                    Err(error) => {
                        tracing::warn!(cluster = %tag, %error, "a report of images in use cannot be read");
                        Reading::Unreadable(error.to_string(), before)
                    }
                },
                None => Reading::Unreadable("it went while it was read".into(), before),
            };
            self.readings.insert(tag, (read, reading));
        }
        Ok(())
    }
}

/// The reports about a registry that are there, by cluster.
pub(super) async fn reports_of(
    ecr: &Ecr,
    reports: &RepositoryName,
    registry: &RegistryKey,
) -> Result<BTreeMap<Tag, Digest>, AwsError> {
    let mut there: BTreeMap<Tag, Digest> = BTreeMap::new();
    let mut token = None;
    loop {
        let page = ecr.list_image_ids(reports, true, token).await?;
        there.extend(page.items.into_iter().filter_map(|(digest, tag)| Some((tag?, digest))));
        token = page.next;
        if token.is_none() {
            break;
        }
    }
    let tagged = there.into_iter();
    // Of one cluster, the tag that names the registry comes last, and counts.
    Ok(tagged
        .filter_map(|(tag, digest)| Some((cluster_of(&tag, registry)?, digest)))
        .collect())
}
