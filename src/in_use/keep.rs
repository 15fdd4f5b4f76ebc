//! Keeps the tags of a registry as all reports say, in the cluster that manages it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use kube::{Resource as _, runtime::reflector::ObjectRef};
use tokio::time::Instant;

use super::{
    asks::asks,
    protect::{self, Survey},
    replicas::{self, Replicas, Surveyed},
    shared::repository,
    shelf::Shelf,
    shown,
    tags::{Look, Tags},
    usage::{self, Uses},
};
use crate::{
    api::{
        Registry,
        names::RepositoryName,
        registry::{InUse as Settings, InUseStatus},
    },
    aws::error::{AwsError, Fault},
    control::{context::Context, events::News},
    controllers::{
        registry::connection::Connection,
        world::{Hint, World},
    },
};

/// How many repositories are worked on at once.
const AT_ONCE: usize = 3;

/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(30);

/// Keeps tags until the Registry is gone.
pub(super) async fn run(ctx: &Context<World>, registry: &str) {
    let mut keeper = Keeper::default();
    let mut collected = ctx.world.in_use.collected.subscribe();
    while let Some(connection) = ctx.world.connection(registry) {
        let pause = keeper.round(ctx, registry, &connection).await;
        tokio::select! {
            () = connection.in_use.keep.notified() => {}
            Ok(()) = collected.changed(), if keeper.waits_for_collection => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is remembered between two rounds.
#[derive(Debug, Default)]
struct Keeper {
    shelf: Shelf,
    repositories: HashMap<RepositoryName, Tags>,
    /// Since when each repository asks.
    asked_since: HashMap<RepositoryName, Instant>,
    /// Some repository asks since the last collection was begun.
    waits_for_collection: bool,
    replicas: Replicas,
    known: BTreeSet<String>,
    told_silent: BTreeSet<String>,
}

impl Keeper {
    /// One look at everything; gives how soon to look again.
    async fn round(&mut self, ctx: &Context<World>, name: &str, connection: &Connection) -> Duration {
        let world = &ctx.world;
        let in_use = &connection.in_use;
        let interval = world.in_use.interval;
        let Some(reports) = repository() else { return interval };
        let Some(registry) = registry(world, name) else {
            return interval;
        };
        replicas::known(world).await;
        if !connection.manages() {
            let asked = asked(world, name, connection);
            in_use.is_blind(&asked, "this cluster does not manage the registry");
            in_use.cover_only(&[]);
            return self.only_look(world, connection, &reports, &registry).await;
        }
        let (destinations, key) = (replicas::destinations(world, name), connection.key());
        for repository in in_use.take_doubts() {
            if let Some(tags) = self.repositories.get_mut(&repository) {
                tags.doubt();
            }
        }
        // Before anything is let go of that none of them needs any more.
        in_use.cover_only(&destinations);
        let asked = asked(world, name, connection);
        in_use.keep_only(&asked);
        self.repositories.retain(|repository, _| asked.contains(repository));
        if asked.is_empty() && destinations.is_empty() && !replicas::is_destination(world, &key) {
            // Reports are read for nobody; who reported is remembered in the status.
            self.shelf = Shelf::default();
            self.asked_since.clear();
            self.waits_for_collection = false;
            return interval;
        }
        let status = registry.status.as_ref().and_then(|status| status.in_use.as_ref());
        let mut survey = match self.survey(world, connection, &reports, &registry, status).await {
            Ok(survey) => survey,
            Err(error) => {
                tracing::warn!(registry = name, %error, "it is not known which images are in use");
                let why = format!("which images are in use is not known: {error}");
                in_use.is_blind(&asked, &why);
                if in_use.could_not_survey(unreadable(&error)) {
                    replicas::tell_sources(world, connection);
                }
                let blind = destinations.into_iter().map(|key| (key, Some(why.clone())));
                in_use.covering(blind.collect());
                Self::show(ctx, name, connection, None, status);
                return again(&error, interval);
            }
        };
        if in_use.was_surveyed(Surveyed::of(&survey)) {
            replicas::tell_sources(world, connection);
        }
        let covered = self
            .replicas
            .unite(&destinations, &mut survey, |key| replicas::look(world, key));
        self.tell_silent(ctx, &registry, &survey, status);
        let young = self.young(world, &asked);
        let (more, failed) = self.work(world, name, connection, &asked, &young, &survey).await;
        // Only now are the tags there that destinations need.
        if in_use.covering(covered) {
            replicas::tell_objects(world, name);
        }
        Self::show(ctx, name, connection, Some(&survey), status);
        match (failed, more) {
            (Some(pause), _) => pause,
            (None, true) => Duration::ZERO,
            (None, false) => interval,
        }
    }

    /// What is used of a registry that another cluster manages is known from its reports, for those that replicate deletions
    /// to it.
    async fn only_look(
        &mut self,
        world: &World,
        connection: &Connection,
        reports: &RepositoryName,
        registry: &Registry,
    ) -> Duration {
        let interval = world.in_use.interval;
        let key = connection.key();
        let standing = connection.standing();
        let is_open = standing.is_some_and(|standing| standing.is_usable() && !standing.manages());
        if !is_open || !replicas::is_destination(world, &key) {
            return interval;
        }
        let in_use = &connection.in_use;
        if connection.inventory.get(reports).is_none() {
            tracing::debug!("no cluster reports what it uses of a destination");
            let why = "no cluster reports there which images it uses; whoever manages it has them reported once a Repository there asks \
                       for protection, by deletionPolicy: DeleteWithImages or a lifecycle policy with protectInUse";
            if in_use.could_not_survey(why.to_owned()) {
                replicas::tell_sources(world, connection);
            }
            return interval;
        }
        let status = registry.status.as_ref().and_then(|status| status.in_use.as_ref());
        match self.survey(world, connection, reports, registry, status).await {
            Ok(survey) => {
                if in_use.was_surveyed(Surveyed::of(&survey)) {
                    replicas::tell_sources(world, connection);
                }
                interval
            }
            Err(error) => {
                tracing::warn!(%error, "it is not known which images of a destination are in use");
                if in_use.could_not_survey(unreadable(&error)) {
                    replicas::tell_sources(world, connection);
                }
                again(&error, interval)
            }
        }
    }

    /// Reads what is new of the reports, and puts all together.
    async fn survey(
        &mut self,
        world: &World,
        connection: &Connection,
        reports: &RepositoryName,
        registry: &Registry,
        status: Option<&InUseStatus>,
    ) -> Result<Survey, AwsError> {
        let in_use = &connection.in_use;
        let manages = connection.manages();
        let readings = self.shelf.read(world, connection, reports, manages).await?;
        let own = in_use.report();
        let settings = registry.spec.in_use.clone().unwrap_or_default();
        let Settings {
            stale_after,
            retired_clusters,
        } = settings;
        if let Some(status) = status {
            self.known
                .extend(status.clusters.iter().map(|cluster| cluster.id.clone()));
        }
        let retired = retired_clusters.into_iter().collect();
        let stale_after = SignedDuration::try_from(stale_after.duration()).unwrap_or(SignedDuration::MAX);
        let now = Timestamp::now();
        let mut survey = protect::survey(&readings, &self.known, &retired, now, stale_after);
        self.known = survey.clusters.iter().map(|cluster| cluster.id.clone()).collect();
        let collected = world.in_use.collected.borrow().clone();
        let complete = collected.as_ref().is_some_and(|collected| collected.complete);
        if let Some(collected) = collected {
            // Its publication may still be under way.
            let key = connection.key();
            usage::unite(&mut survey.usage, &collected.collection.of(&key));
        }
        if own.is_none() || !complete {
            survey
                .gaps
                .push("not everything that this cluster uses is known yet".into());
        }
        if let Some(record) = connection.inventory.get(reports) {
            let age = now.duration_since(record.created_at);
            let enough = SignedDuration::try_from(world.in_use.interval).unwrap_or(SignedDuration::MAX);
            if age < enough {
                survey.gaps.push(
                    "the repository of reports is new, and other clusters are given an interval to publish what they use"
                        .into(),
                );
            }
        }
        Ok(survey)
    }

    /// The repositories that ask since the last collection was begun: what came to run just before may be missing from it, and
    /// what asks now may be about to get a policy.
    fn young(&mut self, world: &World, asked: &[RepositoryName]) -> HashSet<RepositoryName> {
        let now = Instant::now();
        self.asked_since.retain(|repository, _| asked.contains(repository));
        for repository in asked {
            self.asked_since.entry(repository.clone()).or_insert(now);
        }
        let begun = world
            .in_use
            .collected
            .borrow()
            .as_ref()
            .map(|collected| collected.begun);
        let young = self.asked_since.iter().filter(|(_, since)| begun < Some(**since));
        let young: HashSet<RepositoryName> = young.map(|(repository, _)| repository.clone()).collect();
        self.waits_for_collection = !young.is_empty();
        if self.waits_for_collection {
            world.in_use.workload_changed();
        }
        young
    }

    /// Works on all repositories that ask; whether there is more to be done at once, and how soon to try again what failed.
    async fn work(
        &mut self,
        world: &World,
        registry: &str,
        connection: &Connection,
        asked: &[RepositoryName],
        young: &HashSet<RepositoryName>,
        survey: &Survey,
    ) -> (bool, Option<Duration>) {
        let nothing = Uses::default();
        let mut jobs = Vec::new();
        for repository in asked {
            let mut tags = self.repositories.remove(repository).unwrap_or_default();
            let uses = survey.usage.get(repository).unwrap_or(&nothing);
            let mut gaps = survey.gaps.clone();
            if young.contains(repository) {
                gaps.push("what runs is looked at once more, since the repository has asked just now".into());
            }
            jobs.push(async move {
                let look = Look {
                    world,
                    registry,
                    connection,
                    repository,
                    uses,
                    gaps: &gaps,
                };
                let looked = tags.look(&look).await;
                (repository, tags, looked)
            });
        }
        let mut done = stream::iter(jobs).buffer_unordered(AT_ONCE);
        let (mut more, mut failed) = (false, None);
        while let Some((repository, tags, looked)) = done.next().await {
            self.repositories.insert(repository.clone(), tags);
            match looked {
                Ok(looked) => {
                    more |= looked.more;
                    if connection.in_use.keeps(repository, looked.kept) || looked.released {
                        let names = [repository.clone()].into();
                        world.hint(Hint::Names(registry.to_owned(), names));
                        replicas::tell_objects(world, registry);
                    }
                }
                Err(error) => {
                    failed = failed.max(Some(again(&error, world.in_use.interval)));
                    tracing::warn!(registry, %repository, %error, "images in use could not be kept from clean-up");
                    let why = format!("images in use of {repository} could not be tagged: {error}");
                    connection.in_use.is_blind(std::slice::from_ref(repository), &why);
                }
            }
        }
        (more, failed)
    }

    /// Tells of clusters that have become silent.
    fn tell_silent(
        &mut self,
        ctx: &Context<World>,
        registry: &Registry,
        survey: &Survey,
        status: Option<&InUseStatus>,
    ) {
        // What the status shows was told before the program started.
        let shown = status.into_iter().flat_map(|status| &status.clusters);
        let before: BTreeSet<&str> = shown
            .filter(|cluster| cluster.silent)
            .map(|cluster| cluster.id.as_str())
            .collect();
        let silent: BTreeSet<String> = survey
            .clusters
            .iter()
            .filter(|cluster| cluster.silent)
            .map(|cluster| cluster.id.clone())
            .collect();
        for id in &silent {
            if !self.told_silent.contains(id) && !before.contains(id.as_str()) {
                let note = format!(
                    "Cluster {id} has not reported for long which images it uses. Those that it used stay protected; if it is gone for good, list it in spec.inUse.retiredClusters."
                );
                ctx.events
                    .tell(registry.object_ref(&()), News::Warning, "ClusterSilent", note);
            }
        }
        self.told_silent = silent;
    }

    /// Shows what is known now. Without a survey, who was known stays.
    fn show(
        ctx: &Context<World>,
        registry: &str,
        connection: &Connection,
        survey: Option<&Survey>,
        old: Option<&InUseStatus>,
    ) {
        let in_use = &connection.in_use;
        let (protected, kept) = in_use.overview();
        let mut troubles: Vec<String> = in_use
            .trouble()
            .into_iter()
            .map(|why| format!("the report of this cluster could not be published: {why}"))
            .collect();
        let silent = survey.map(|survey| survey.clusters.iter().filter(|cluster| cluster.silent).count());
        let unreadable = survey.map(|survey| survey.unreadable);
        ctx.metrics.in_use.seen(
            registry,
            protected,
            silent.unwrap_or_default(),
            unreadable.unwrap_or_default(),
        );
        troubles.extend(survey.iter().flat_map(|survey| survey.gaps.iter().cloned()));
        for kept in kept.values() {
            if let super::handle::Protection::Unknown(why) = &kept.protection
                && !troubles.contains(why)
            {
                troubles.push(why.clone());
            }
            troubles.extend(kept.cannot_release.iter().cloned());
        }
        let mut status = shown::status(
            old,
            survey.map_or(&[], |survey| survey.clusters.as_slice()),
            protected,
            &troubles,
        );
        if let (None, Some(old)) = (survey, old) {
            status.clusters.clone_from(&old.clusters);
        }
        if in_use.show(status) {
            ctx.world.hint(Hint::Look {
                registry: registry.to_owned(),
                asked: false,
            });
        }
    }
}

fn unreadable(error: &AwsError) -> String {
    format!("its reports could not be read: {error}")
}

/// How soon to try again after an error: what is denied is not granted within seconds.
fn again(error: &AwsError, interval: Duration) -> Duration {
    match error.fault {
        Fault::Denied | Fault::Invalid | Fault::Quota => interval,
        _ => AGAIN.min(interval),
    }
}

fn registry(world: &World, name: &str) -> Option<Registry> {
    world.registries.get(&ObjectRef::new(name))?.0.as_ref().ok().cloned()
}

/// The repositories of the registry that ask for their images in use to be kept.
fn asked(world: &World, registry: &str, connection: &Connection) -> Vec<RepositoryName> {
    let mut asked = Vec::new();
    for guard in world.repositories.state() {
        let Ok(repository) = &guard.0 else { continue };
        if !repository.is_in(registry) {
            continue;
        }
        // A replica is asked for as if it were the repository itself.
        let replica = (repository.spec.registry_ref.name != registry).then(|| repository.as_replica(registry));
        let repository = replica.as_ref().unwrap_or(repository);
        if !asks(repository) {
            continue;
        }
        // Only what its object was seen to be settled with: another's repository is not touched.
        let seen = repository.status.as_ref().and_then(|status| status.created_at);
        let Ok(name) = repository.repository_name() else {
            continue;
        };
        if connection
            .inventory
            .get(&name)
            .is_some_and(|record| Some(record.created_at) == seen)
        {
            asked.push(name);
        }
    }
    asked.retain(|name| !name.is_reserved());
    asked.sort_unstable();
    asked.dedup();
    asked
}
