//! Which images are used, by registry and repository. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::names::{AccountId, Digest, Region, RepositoryName, Tag};

/// Images of one repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    pub digests: BTreeSet<Digest>,
    /// Those of which only the tag is known; which images they are is for whoever sees the repository.
    pub tags: BTreeSet<Tag>,
}

/// Images of one registry.
pub(crate) type Usage = BTreeMap<RepositoryName, Uses>;

/// A private registry.
pub(crate) type RegistryKey = (AccountId, Region);

impl Uses {
    pub(crate) fn len(&self) -> usize {
        self.digests.len() + self.tags.len()
    }

    /// Whether an image is among them, by its digest or one of its tags.
    pub(crate) fn include(&self, digest: &str, tags: &[String]) -> bool {
        self.digests.iter().any(|used| used.as_str() == digest)
            || self.tags.iter().any(|used| tags.iter().any(|tag| tag == used.as_str()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.digests.extend(other.digests.iter().cloned());
        self.tags.extend(other.tags.iter().cloned());
    }

    /// Whether it holds everything of the other.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.digests.is_subset(&self.digests) && other.tags.is_subset(&self.tags)
    }
}

/// Adds one usage to another: nothing is ever taken out.
pub(crate) fn unite(into: &mut Usage, other: &Usage) {
    for (repository, uses) in other {
        into.entry(repository.clone()).or_default().extend(uses);
    }
}

/// How many images it names.
pub(crate) fn count(usage: &Usage) -> usize {
    usage.values().map(Uses::len).sum()
}

/// Whether it names this image by its digest.
pub(crate) fn names(usage: &Usage, repository: &RepositoryName, digest: &Digest) -> bool {
    usage.get(repository).is_some_and(|uses| uses.digests.contains(digest))
}
