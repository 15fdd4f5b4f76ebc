//! What is in use of a registry, read once, for whoever asks without an operator that runs.

use kube::Client;

use super::{
    collect::Collection,
    lister,
    report::Report,
    shared::repository,
    shelf::reports_of,
    usage::{self, RegistryKey, Usage},
};
use crate::aws::{
    client::Ecr,
    error::{AwsError, Fault},
};

/// What is in use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub usage: Usage,
    /// Why this is not all that is used. Empty: it is, as far as clusters report.
    pub gaps: Vec<String>,
    /// How many clusters have a report.
    pub clusters: usize,
}

/// What the cluster runs, or would, and what all clusters have reported.
pub(crate) async fn snapshot(client: &Client, ecr: &Ecr, registry: &RegistryKey) -> Snapshot {
    let mut collection = Collection::default();
    let unread = lister::workloads(client, &mut collection).await;
    let mut snapshot = Snapshot {
        usage: collection.of(registry),
        gaps: unread
            .into_iter()
            .map(|(kind, error)| format!("the objects of kind {kind} could not be listed: {error}"))
            .collect(),
        clusters: 0,
    };
    if let Err(error) = snapshot.add_reports(ecr, registry).await {
        snapshot
            .gaps
            .push(format!("the reports of other clusters could not be read: {error}"));
    }
    snapshot
}

impl Snapshot {
    async fn add_reports(&mut self, ecr: &Ecr, registry: &RegistryKey) -> Result<(), AwsError> {
        let Some(reports) = repository() else { return Ok(()) };
        let there = match reports_of(ecr, &reports, registry).await {
            Ok(there) => there,
            // No cluster protects anything of the registry.
            Err(error) if error.fault == Fault::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for (cluster, digest) in there {
            self.clusters += 1;
            let manifest = ecr.manifest(&reports, &digest).await?;
            let read = match &manifest {
                Some((_, bytes)) => Report::decode(&cluster, bytes).map_err(|error| error.to_string()),
                None => Err("it went while it was read".into()),
            };
            match read {
                Ok(report) => usage::unite(&mut self.usage, &report.usage),
                Err(why) => self
                    .gaps
                    .push(format!("the report of cluster {cluster} cannot be read: {why}")),
            }
        }
        Ok(())
    }
}
