//! Images that the destinations of replicated deletions use. A deletion at the source takes them there, too, so they are
//! kept from clean-up at the source as if they were used from it. docs/decisions/0015-replication.md says how that could
//! destroy something.

use std::{collections::BTreeMap, time::Duration};

use kube::ResourceExt;
use tokio::time::Instant;

use super::{
    protect::Survey,
    usage::{self, RegistryKey, Usage},
};
use crate::{
    api::{
        Registry, ReplicationConfig,
        names::{Digest, RepositoryName},
    },
    control::spawn::list_of,
    controllers::{
        registry::connection::Connection,
        replication::parts::deletes,
        world::{Hint, World},
    },
};

/// How many intervals what was seen of a destination is good for. It looks once in each.
const GOOD_FOR: u32 = 4;

/// What is used of a registry, as its own keeper last saw it, and why that is not all. What it keeps for others is not in it:
/// two registries that replicate to each other would never let go of anything.
#[derive(Clone, Debug)]
pub(super) struct Surveyed {
    usage: Usage,
    gaps: Vec<String>,
    at: Instant,
}

impl Surveyed {
    pub(super) fn usage(&self) -> Usage {
        self.usage.clone()
    }

    pub(super) fn of(survey: &Survey) -> Self {
        Self {
            usage: survey.usage.clone(),
            gaps: survey.gaps.clone(),
            at: Instant::now(),
        }
    }

    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        (&self.usage, &self.gaps) == (&other.usage, &other.gaps)
    }
}

/// What is remembered of the destinations of one registry.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// What each was last known to use: kept while it cannot be seen.
    known: BTreeMap<RegistryKey, Usage>,
}

/// The destinations that deletions are replicated to from a registry, or are asked to be, or were a moment ago.
pub(super) fn destinations(world: &World, registry: &str) -> Vec<RegistryKey> {
    let mut all: Vec<RegistryKey> = Vec::new();
    each(world, |config| {
        if config.spec.registry_ref.name == registry {
            all.extend(places(config));
        }
    });
    all.sort();
    all.dedup();
    all
}

/// Whether deletions are replicated to this registry from another one.
pub(super) fn is_destination(world: &World, key: &RegistryKey) -> bool {
    let mut found = false;
    each(world, |config| found |= places(config).any(|place| place == *key));
    found
}

fn each(world: &World, mut visit: impl FnMut(&ReplicationConfig)) {
    for guard in world.replication_configs.state() {
        if let Ok(config) = &guard.0 {
            visit(config);
        }
    }
}

fn places(config: &ReplicationConfig) -> impl Iterator<Item = RegistryKey> {
    let in_force = config.status.iter().flat_map(|status| &status.in_force);
    let rules = config.spec.rules.iter().chain(in_force).filter(|rule| deletes(rule));
    let places = rules.flat_map(|rule| &rule.destinations);
    places.map(|place| (place.registry_id.clone(), place.region.clone()))
}

/// Until every object is known, none may be taken for one that replicates nothing.
pub(super) async fn known(world: &World) {
    world.readiness.until_done(&list_of::<ReplicationConfig>()).await;
}

impl Replicas {
    /// Adds what the destinations use to what is used here. Gives, for each destination, why that is not all. `look` says what
    /// is used of a destination, or why nothing can be said.
    pub(super) fn unite(
        &mut self,
        wanted: &[RegistryKey],
        survey: &mut Survey,
        look: impl Fn(&RegistryKey) -> Result<Surveyed, String>,
    ) -> BTreeMap<RegistryKey, Option<String>> {
        self.known.retain(|key, _| wanted.contains(key));
        let mut trouble = BTreeMap::new();
        for key in wanted {
            let seen = look(key);
            if let Ok(seen) = &seen {
                let known = self.known.entry(key.clone()).or_default();
                match seen.gaps.is_empty() {
                    true => known.clone_from(&seen.usage),
                    false => usage::unite(known, &seen.usage),
                }
            }
            let gap = match seen {
                Ok(seen) => seen.gaps.first().cloned(),
                Err(why) => Some(why),
            };
            let gap = gap.map(|why| format!("which images are used in {} of {} is not known: {why}", key.1, key.0));
            survey.gaps.extend(gap.clone());
            trouble.insert(key.clone(), gap);
        }
        for used in self.known.values() {
            usage::unite(&mut survey.usage, used);
        }
        trouble
    }
}

/// What is used of a destination, or why nothing can be said.
pub(super) fn look(world: &World, key: &RegistryKey) -> Result<Surveyed, String> {
    let name = registry_of(world, key).ok_or("this cluster has no Registry for it")?;
    let connection = world
        .connection(&name)
        .ok_or_else(|| format!("Registry {name} has not been looked at yet"))?;
    // Its reports can be read whoever manages it.
    if !connection.is_usable() {
        return Err(format!("Registry {name} is not ready"));
    }
    let good_for: Duration = world.in_use.interval * GOOD_FOR;
    let seen = connection.in_use.surveyed();
    seen.filter(|seen| seen.at.elapsed() < good_for).ok_or_else(|| {
        // Nobody else may have asked there yet.
        connection.in_use.keep.notify_one();
        let unread = connection.in_use.unread();
        unread.unwrap_or_else(|| format!("the reports of Registry {name} have not been read yet"))
    })
}

fn registry_of(world: &World, key: &RegistryKey) -> Option<String> {
    let state = world.registries.state();
    let found = state
        .iter()
        .filter_map(|guard| guard.0.as_ref().ok())
        .find(|registry: &&Registry| {
            (&registry.spec.registry_id, &registry.spec.region) == (&key.0, &key.1)
                && world.elder_of(registry).is_none()
        });
    found.map(ResourceExt::name_any)
}

/// Whether this cluster uses the image from a destination, as far as it has said so.
pub(super) fn is_used(world: &World, registry: &str, repository: &RepositoryName, digest: &Digest) -> bool {
    let mut places = destinations(world, registry).into_iter();
    places.any(|key| {
        let connection = registry_of(world, &key).and_then(|name| world.connection(&name));
        connection.is_some_and(|connection| connection.in_use.uses(repository, digest))
    })
}

/// A registry was surveyed with another result: those that replicate deletions to it are to look again.
pub(super) fn tell_sources(world: &World, connection: &Connection) {
    let key = connection.key();
    each(world, |config| {
        if places(config).any(|place| place == key)
            && let Some(source) = world.connection(&config.spec.registry_ref.name)
        {
            source.in_use.keep.notify_one();
        }
    });
}

/// What is known of destinations has changed: objects that wait for it are to look again.
pub(super) fn tell_objects(world: &World, registry: &str) {
    world.hint(Hint::Replication(registry.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:0000000000000000000000000000000000000000000000000000000000000001";

    fn key() -> RegistryKey {
        ("111122223333".parse().unwrap(), "us-east-1".parse().unwrap())
    }

    fn using(gaps: &[&str]) -> Surveyed {
        let mut usage = Usage::new();
        let uses = usage.entry("team-a/web".parse().unwrap()).or_default();
        uses.digests.insert(DIGEST.parse().unwrap());
        Surveyed::of(&Survey {
            usage,
            gaps: gaps.iter().map(ToString::to_string).collect(),
            ..Survey::default()
        })
    }

    fn names(survey: &Survey) -> bool {
        usage::names(&survey.usage, &"team-a/web".parse().unwrap(), &DIGEST.parse().unwrap())
    }

    #[test]
    fn what_a_destination_uses_counts_here_and_goes_on_counting_while_it_cannot_be_seen() {
        let mut replicas = Replicas::default();
        let mut seen = Survey::default();
        let trouble = replicas.unite(&[key()], &mut seen, |_| Ok(using(&[])));
        assert!(names(&seen) && seen.gaps.is_empty());
        assert_eq!(trouble[&key()], None);

        let mut blind = Survey::default();
        let trouble = replicas.unite(&[key()], &mut blind, |_| Err("it is down".into()));
        assert!(names(&blind));
        let why = trouble[&key()].clone().unwrap();
        assert!(
            why.contains("us-east-1 of 111122223333") && why.contains("it is down"),
            "{why}"
        );
        assert_eq!(blind.gaps, [why]);

        // What is seen in part takes nothing away.
        let mut part = Survey::default();
        let nothing = || {
            Surveyed::of(&Survey {
                gaps: vec!["a page".into()],
                ..Survey::default()
            })
        };
        replicas.unite(&[key()], &mut part, |_| Ok(nothing()));
        assert!(names(&part) && part.gaps.len() == 1);

        let mut all = Survey::default();
        replicas.unite(&[key()], &mut all, |_| Ok(Surveyed::of(&Survey::default())));
        assert!(!names(&all) && all.gaps.is_empty());
    }

    #[test]
    fn a_destination_that_nobody_asks_for_any_more_is_forgotten() {
        let mut replicas = Replicas::default();
        replicas.unite(&[key()], &mut Survey::default(), |_| Ok(using(&[])));
        let mut without = Survey::default();
        replicas.unite(&[], &mut without, |_| Err("never asked".into()));
        assert!(!names(&without) && without.gaps.is_empty());
    }
}
