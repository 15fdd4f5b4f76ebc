//! Which images must have a tag of ours, which tags may go, and why not. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    report::Report,
    usage::{self, Usage, Uses},
};
use crate::{
    api::{
        IN_USE_TAG_PREFIX,
        names::{Digest, Tag},
    },
    aws::record::Mutability,
};

/// How many clusters are known by name at most. Where there are more, nothing is released: one whose report vanishes could
/// not be told from one that never was.
pub(crate) const MOST_CLUSTERS: usize = 100;

/// A cluster that is named as retired and yet published within this time still runs: its images stay protected.
const STILL_THERE: SignedDuration = SignedDuration::from_hours(48);

/// What became of the reading of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Read(Report),
    /// Why not, and what the cluster said before.
    Unreadable(String, Option<Report>),
}

/// What is known of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    pub id: String,
    /// `None` where it has no report that can be read.
    pub published: Option<Timestamp>,
    pub images: usize,
    pub silent: bool,
}

/// What all reports together say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    pub usage: Usage,
    /// Why this is not all that is used. Empty: it is.
    pub gaps: Vec<String>,
    pub clusters: Vec<Cluster>,
    pub unreadable: usize,
}

/// Puts the reports together. `known`: the clusters that had a report once.
pub(crate) fn survey(
    readings: &BTreeMap<Tag, Reading>,
    known: &BTreeSet<String>,
    retired: &BTreeSet<String>,
    now: Timestamp,
    stale_after: SignedDuration,
) -> Survey {
    let mut survey = Survey::default();
    for (tag, reading) in readings {
        let id = tag.to_string();
        let is_retired = retired.contains(&id);
        let (report, unreadable) = match reading {
            Reading::Read(report) => (Some(report), None),
            Reading::Unreadable(why, before) => (before.as_ref(), Some(why)),
        };
        let age = report.map(|report| now.duration_since(report.published));
        if is_retired && age.is_none_or(|age| age > STILL_THERE) {
            continue;
        }
        if let Some(why) = unreadable {
            survey.unreadable += 1;
            survey
                .gaps
                .push(format!("the report of cluster {id} cannot be read: {why}"));
        }
        if let Some(report) = report {
            usage::unite(&mut survey.usage, &report.usage);
        }
        survey.clusters.push(Cluster {
            id,
            published: report.map(|report| report.published),
            images: report.map_or(0, |report| usage::count(&report.usage)),
            silent: age.is_none_or(|age| age > stale_after),
        });
    }
    let there: HashSet<&str> = readings.keys().map(Tag::as_str).collect();
    for id in known
        .iter()
        .filter(|id| !there.contains(id.as_str()) && !retired.contains(*id))
    {
        survey.gaps.push(format!(
            "the report of cluster {id} is gone; if the cluster is, too, list it in spec.inUse.retiredClusters"
        ));
        survey.clusters.push(Cluster {
            id: id.clone(),
            published: None,
            images: 0,
            silent: true,
        });
    }
    if survey.clusters.len() > MOST_CLUSTERS {
        survey.gaps.push(format!(
            "more than {MOST_CLUSTERS} clusters use the registry, so that not all are known by name"
        ));
    }
    // The worst first: those that are silent, then those heard of longest ago.
    survey
        .clusters
        .sort_by(|a, b| (!a.silent, a.published, &a.id).cmp(&(!b.silent, b.published, &b.id)));
    survey
}

/// What was listed of a repository, as far as it matters: its size must not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// What it was listed for; of anything else it says nothing.
    pub asked: Uses,
    /// Our tags and where they are.
    pub ours: BTreeMap<Tag, Digest>,
    /// Where the tags are that were asked for.
    pub tags: HashMap<Tag, Digest>,
    /// Which of the digests asked for are there, and whether they have a tag of somebody else's.
    pub images: HashMap<Digest, bool>,
}

impl Listing {
    pub(crate) fn of(asked: Uses) -> Self {
        Self {
            asked,
            ..Self::default()
        }
    }

    /// Takes up an entry of the listing: an image with one of its tags, or without one.
    pub(crate) fn take(&mut self, digest: Digest, tag: Option<Tag>) {
        if self.asked.digests.contains(&digest) {
            let tagged = tag.as_ref().is_some_and(|tag| tag.keeps().is_none());
            *self.images.entry(digest.clone()).or_default() |= tagged;
        }
        let Some(tag) = tag else { return };
        if tag.keeps().is_some() {
            self.ours.insert(tag, digest);
        } else if self.asked.tags.contains(&tag) {
            self.tags.insert(tag, digest);
        }
    }
}

/// The images of a repository that are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub digests: BTreeSet<Digest>,
    /// Images and tags that are used and not there.
    pub missing: usize,
    /// Images without a name, of which it is not known whether they belong to an index.
    pub lone: Vec<Digest>,
}

/// Which images are meant. `indexes`: the index of an image, `None` in it where it was found to belong to none.
pub(crate) fn wanted(uses: &Uses, listing: &Listing, indexes: &HashMap<Digest, Option<Digest>>) -> Wanted {
    let mut wanted = Wanted::default();
    for digest in &uses.digests {
        match listing.images.get(digest) {
            None => wanted.missing += 1,
            Some(true) => drop(wanted.digests.insert(digest.clone())),
            Some(false) => {
                wanted.digests.insert(digest.clone());
                match indexes.get(digest) {
                    Some(index) => wanted.digests.extend(index.iter().cloned()),
                    None => wanted.lone.push(digest.clone()),
                }
            }
        }
    }
    for tag in &uses.tags {
        match listing.tags.get(tag) {
            Some(digest) => drop(wanted.digests.insert(digest.clone())),
            None => wanted.missing += 1,
        }
    }
    wanted
}

/// What is to be done in a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Images that lack their tag.
    pub put: Vec<Digest>,
    /// Tags that keep nothing in use.
    pub unused: Vec<Tag>,
    /// Tags that look like ours on images that they do not name: somebody put them there, and they are left alone.
    pub foreign: Vec<Tag>,
}

/// `parking`: where a tag is on its way out.
pub(crate) fn plan(wanted: &BTreeSet<Digest>, ours: &BTreeMap<Tag, Digest>, parking: &Digest) -> Plan {
    let mut plan = Plan::default();
    for digest in wanted {
        if ours.get(&digest.in_use_tag()) != Some(digest) {
            plan.put.push(digest.clone());
        }
    }
    for (tag, holder) in ours {
        let Some(kept) = tag.keeps() else { continue };
        if wanted.contains(&kept) {
            continue;
        }
        match *holder == kept || holder == parking {
            true => plan.unused.push(tag.clone()),
            false => plan.foreign.push(tag.clone()),
        }
    }
    plan
}

/// What to do about a tag that keeps nothing in use, by where it was found right before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// It is on the image that it names: it is moved to the parking manifest, then taken away there.
    Move,
    /// It was moved there before.
    TakeAway,
    /// It is nowhere.
    Gone,
    /// Somebody moved it elsewhere: what it is on now is not ours to judge.
    Leave,
}

pub(crate) fn release(tag: &Tag, holder: Option<&Digest>, parking: &Digest) -> Release {
    match holder {
        None => Release::Gone,
        Some(holder) if holder == parking => Release::TakeAway,
        Some(holder) if tag.keeps().as_ref() == Some(holder) => Release::Move,
        Some(_) => Release::Leave,
    }
}

/// Why tags of ours cannot be moved in a repository of this mutability; `None` where they can.
pub(crate) fn immovable(mutability: &Mutability, tag: &str) -> Option<String> {
    let excepted = mutability.filters.iter().any(|filter| is_match(filter, tag));
    match mutability.value.as_str() {
        "MUTABLE" => None,
        "IMMUTABLE_WITH_EXCLUSION" if excepted => None,
        "MUTABLE_WITH_EXCLUSION" if !excepted => None,
        "MUTABLE_WITH_EXCLUSION" => Some(
            "an exclusion filter makes tags in-use.* immutable: change imageTagMutabilityExclusionFilters so that none matches them"
                .into(),
        ),
        "IMMUTABLE" | "IMMUTABLE_WITH_EXCLUSION" => Some(
            "its tags are immutable: set imageTagMutability to IMMUTABLE_WITH_EXCLUSION with a filter in-use.*".into(),
        ),
        other => Some(format!("its imageTagMutability {other} is not known to this operator")),
    }
}

/// The filter by which tags of ours are excepted from immutability.
const OURS: &str = "in-use.*";

/// How many exclusion filters a repository has at most (`imageTagMutabilityExclusionFilters` in the ECR API Reference).
const MOST_FILTERS: usize = 5;

/// The mutability by which tags of ours can be moved and nothing else changes; as it is where that is so already, or cannot be.
pub(crate) fn admitting(mutability: &Mutability) -> Mutability {
    let is_immutable = matches!(mutability.value.as_str(), "IMMUTABLE" | "IMMUTABLE_WITH_EXCLUSION");
    let any = format!("{IN_USE_TAG_PREFIX}{}", "0".repeat(64));
    if !is_immutable || immovable(mutability, &any).is_none() || mutability.filters.len() >= MOST_FILTERS {
        return mutability.clone();
    }
    let filters = mutability.filters.iter().cloned().chain([OURS.to_owned()]);
    Mutability::new("IMMUTABLE_WITH_EXCLUSION", filters)
}

/// Whether a text matches a pattern in which `*` stands for any text.
fn is_match(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
#[path = "protect_tests.rs"]
mod tests;
