//! `ecr-operator export --registry NAME`

mod compose;
mod documents;
mod once;

use std::{collections::BTreeMap, io::IsTerminal as _, process::ExitCode};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressDrawTarget};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use self::{
    compose::{Exported, Found},
    once::Once,
};
use super::way::{Rights, Way};
use crate::{
    api::names::RepositoryName,
    aws::{error::AwsError, record::Record},
    control::gate::Gate,
    controllers::registry::documents::{self as registry_documents, part::Part},
    terminal::{self, Outcome},
};

/// How many repositories are read at once.
const AT_ONCE: usize = 8;

/// The names below which repositories are the operator's own.
const OWN: &str = "ecr-operator/";

/// Prints manifests for what a registry holds: its repositories and their lifecycle policies, and what it has once, which are
/// pull-through cache rules, creation templates, rules for replication, and its documents and settings, for which the Registry
/// itself is printed with them. They take over what is there as it is: applying them changes nothing in ECR but the tag that
/// says whose each repository is, and deleting them again leaves everything there. What cannot be said in a manifest is left out, which means not managed, and a comment says so.
/// Repositories that an installation of the operator manages already are left out too. Needs read rights only, and no running
/// operator.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The Registry of the cluster that is read.
    #[arg(long, value_name = "NAME")]
    registry: String,

    /// The namespace of the manifests. Default: that of the kubeconfig's context.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,

    /// Only repositories whose names begin with this, compared by path segment, and nothing of what the registry has once.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    prefix: String,

    #[command(flatten)]
    rights: Rights,
}

pub(super) fn main(args: &Args) -> Outcome {
    let exported = terminal::block_on(export(args))?;
    let text = exported.text().map_err(|error| error.to_string())?;
    terminal::print(&text)?;
    for remark in exported.remarks.iter().chain(&exported.incomplete()) {
        use std::io::Write as _;
        // Whoever does not hear it finds it in the manifests, too, or is told by the operator.
        let _ = writeln!(std::io::stderr(), "note: {remark}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn export(args: &Args) -> Result<Exported, String> {
    let client = super::gated(terminal::cluster().await?, &Gate::closed())?;
    let way = Way::open(&client, &args.registry, &args.rights).await?;
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let labels = Api::<Namespace>::all(client.clone())
        .get_metadata_opt(&namespace)
        .await
        .map_err(|error| format!("namespace {namespace} could not be read: {error}"))?
        .map(|found| found.metadata.labels.unwrap_or_default());
    let records = way.ecr.list().await.map_err(|error| {
        format!(
            "the repositories of Registry {} could not be listed: {error}",
            args.registry
        )
    })?;
    let records: Vec<Record> = records
        .into_iter()
        .filter(|record| !record.name.as_str().starts_with(OWN) && is_below(&args.prefix, &record.name))
        .collect();
    let bar = progress(records.len());
    let reads = records.into_iter().map(|record| {
        let (way, bar) = (&way, &bar);
        async move {
            let name = record.name.clone();
            let found = read(way, record).await;
            bar.inc(1);
            found.map_err(|error| format!("repository {name} could not be read: {error}"))
        }
    });
    let mut found: Vec<Found> = stream::iter(reads).buffer_unordered(AT_ONCE).try_collect().await?;
    bar.finish_and_clear();
    found.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    let exported = compose::compose(found, &way.registry, &namespace, labels.as_ref());
    if !args.prefix.is_empty() {
        return Ok(exported);
    }
    let once = read_once(&way)
        .await
        .map_err(|error| format!("what Registry {} has once could not be read: {error}", args.registry))?;
    let exported = exported.with(once::compose(&once, &way.registry));
    let mut seen = BTreeMap::new();
    for part in Part::ALL {
        let found = registry_documents::read(&way.ecr, part).await;
        let found =
            found.map_err(|error| format!("{part} of Registry {} could not be read: {error}", args.registry))?;
        seen.insert(part, found);
    }
    let documents = documents::compose(&seen, &way.registry);
    Ok(exported.with((documents.into_iter().collect(), Vec::new())))
}

async fn read_once(way: &Way) -> Result<Once, AwsError> {
    let cache_rules = way.ecr.list_cache_rules().await?;
    let templates = way.ecr.list_templates().await?;
    Ok(Once {
        cache_rules: cache_rules.into_iter().map(|(_, rule)| rule).collect(),
        templates: templates.into_iter().map(|(_, template)| template).collect(),
        replication: way.ecr.replication().await?,
    })
}

/// Whether the name is below the prefix; an empty prefix holds all.
fn is_below(prefix: &str, name: &RepositoryName) -> bool {
    let prefix = prefix.trim_end_matches('/');
    match name.as_str().strip_prefix(prefix) {
        Some(rest) => prefix.is_empty() || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// Everything that is said of one repository. A part that cannot be read fails the whole: without it, what the manifest says
/// could differ from what is there.
async fn read(way: &Way, record: Record) -> Result<Found, AwsError> {
    Ok(Found {
        tags: way.ecr.tags(&record.arn).await?,
        policy: way.ecr.policy(&record.name).await?,
        lifecycle: way.ecr.lifecycle(&record.name).await?,
        record,
    })
}

fn progress(repositories: usize) -> ProgressBar {
    let target = match std::io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    ProgressBar::with_draw_target(Some(u64::try_from(repositories).unwrap_or(u64::MAX)), target)
        .with_message("repositories read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_segment() {
        let is_below = |prefix, name: &str| is_below(prefix, &name.parse().unwrap());
        assert!(is_below("", "team/web"));
        assert!(is_below("team", "team/web") && is_below("team/", "team/web"));
        assert!(is_below("team/web", "team/web"));
        assert!(!is_below("tea", "team/web") && !is_below("team", "team-b/web"));
    }
}
