//! Puts the rules of many owners together, and into the document that is there.
//!
//! What is there and is not known to be ours stays as it is. What is ours is what is on record ([`Mark`]); a rule that
//! somebody else wrote and that says the same as one of ours is theirs: it is not doubled, and not removed with ours.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Document, Mark, Meaning, Place, Rule};

/// The most rules of a registry, and the most different destinations in them (`ReplicationConfiguration` in the ECR API
/// Reference, "Amazon ECR service quotas" in its User Guide).
pub(crate) const MOST: usize = 25;

/// The most filters of a rule.
pub(crate) const MOST_FILTERS: usize = 100;

/// One owner of rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// By which its owner is known.
    pub id: String,
    pub wish: Wish,
    /// Its rules that are there, as far as is known.
    pub in_force: Vec<Meaning>,
}

/// What an owner wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Rules(Vec<Meaning>),
    /// What is in force stays.
    Held,
    /// None of its rules.
    Gone,
}

/// The limit that an owner's rules exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exceeded {
    Rules,
    Destinations,
    Filters,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules => write!(f, "the registry would have more than {MOST} rules for replication"),
            Self::Destinations => write!(f, "the registry would replicate to more than {MOST} destinations"),
            Self::Filters => write!(
                f,
                "a rule would have more than {MOST_FILTERS} filters, with those of other rules for the same destinations"
            ),
        }
    }
}

/// What each owner gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Composed {
    /// The rules of all, put together.
    pub rules: Vec<Meaning>,
    /// What of it is whose.
    pub parts: BTreeMap<String, Vec<Meaning>>,
    pub exceeded: BTreeMap<String, Exceeded>,
}

type Key = (BTreeSet<Place>, bool);

/// Rules of equal destinations and equal deletion, become one with all filters.
#[derive(Clone, Debug, Default)]
struct Merged(BTreeMap<Key, Option<BTreeSet<String>>>);

impl Merged {
    fn add<'a>(&mut self, rules: impl IntoIterator<Item = &'a Meaning>) {
        for rule in rules {
            let key = (rule.destinations.clone(), rule.deletes);
            match self.0.get_mut(&key) {
                None => drop(self.0.insert(key, rule.filters.clone())),
                Some(all) => match (all.as_mut(), &rule.filters) {
                    (Some(filters), Some(more)) => filters.extend(more.iter().cloned()),
                    // Of every repository and of some is of every one.
                    _ => *all = None,
                },
            }
        }
    }

    fn rules(self) -> Vec<Meaning> {
        let rules = self.0.into_iter().map(|((destinations, deletes), filters)| Meaning {
            destinations,
            filters,
            deletes,
        });
        rules.collect()
    }
}

fn merged<'a>(parts: impl IntoIterator<Item = &'a Vec<Meaning>>) -> Vec<Meaning> {
    let mut merged = Merged::default();
    for part in parts {
        merged.add(part);
    }
    merged.rules()
}

/// Puts the wishes together, the oldest owner first. Where all together are too much, what is in force comes before what is
/// new, so that whoever asks for more is held up and nobody else.
pub(crate) fn compose(claims: &[Claim], foreign: &[&Rule]) -> Composed {
    let room = Room::beside(foreign);
    let wanted = |claim: &Claim| match &claim.wish {
        Wish::Rules(rules) => rules.clone(),
        Wish::Held => claim.in_force.clone(),
        Wish::Gone => Vec::new(),
    };
    let mut parts: BTreeMap<String, Vec<Meaning>> =
        claims.iter().map(|claim| (claim.id.clone(), wanted(claim))).collect();
    let mut exceeded = BTreeMap::new();
    let all = merged(parts.values());
    if room.holds(&all).is_ok() {
        let rules = all;
        return Composed { rules, parts, exceeded };
    }
    parts.clear();
    for claim in claims {
        let stays = match claim.wish {
            Wish::Gone => Vec::new(),
            _ => claim.in_force.clone(),
        };
        parts.insert(claim.id.clone(), stays);
        if let Err(limit) = room.holds(&merged(parts.values())) {
            parts.insert(claim.id.clone(), Vec::new());
            exceeded.insert(claim.id.clone(), limit);
        }
    }
    for claim in claims {
        let Wish::Rules(rules) = &claim.wish else { continue };
        if parts.get(&claim.id) == Some(rules) {
            continue;
        }
        let before = parts.insert(claim.id.clone(), rules.clone());
        match room.holds(&merged(parts.values())) {
            Ok(()) => drop(exceeded.remove(&claim.id)),
            Err(limit) => {
                parts.insert(claim.id.clone(), before.unwrap_or_default());
                exceeded.insert(claim.id.clone(), limit);
            }
        }
    }
    Composed {
        rules: merged(parts.values()),
        parts,
        exceeded,
    }
}

/// How much there is room for beside what somebody else wrote.
struct Room {
    rules: usize,
    destinations: BTreeSet<Place>,
    said: BTreeSet<Meaning>,
}

impl Room {
    fn beside(foreign: &[&Rule]) -> Self {
        let said: BTreeSet<Meaning> = foreign.iter().filter_map(|rule| rule.meaning()).cloned().collect();
        Self {
            rules: foreign.len(),
            destinations: said.iter().flat_map(|rule| rule.destinations.iter().cloned()).collect(),
            said,
        }
    }

    fn holds(&self, ours: &[Meaning]) -> Result<(), Exceeded> {
        let new: Vec<&Meaning> = ours.iter().filter(|rule| !self.said.contains(rule)).collect();
        // Where somebody else has exceeded it, what is not ours does not count: ECR has the last word.
        if !new.is_empty() && self.rules + new.len() > MOST {
            return Err(Exceeded::Rules);
        }
        let mut destinations: BTreeSet<&Place> = self.destinations.iter().collect();
        let before = destinations.len();
        destinations.extend(new.iter().flat_map(|rule| &rule.destinations));
        if destinations.len() > MOST.max(before) {
            return Err(Exceeded::Destinations);
        }
        let most = new
            .iter()
            .filter_map(|rule| rule.filters.as_ref().map(BTreeSet::len))
            .max();
        match most.is_some_and(|most| most > MOST_FILTERS) {
            true => Err(Exceeded::Filters),
            false => Ok(()),
        }
    }
}

/// Which rules of a document are ours, by their place in it. Each mark stands for one rule: of two that say the same, one
/// is ours, and not the one that says more than is known.
pub(crate) fn ours(live: &Document, written: &BTreeSet<Mark>) -> BTreeSet<usize> {
    let mut candidates: Vec<(usize, &Rule, Mark)> = live
        .rules
        .iter()
        .enumerate()
        .filter_map(|(at, rule)| Some((at, rule, rule.meaning()?.mark())))
        .filter(|(_, _, mark)| written.contains(mark))
        .collect();
    candidates.sort_by_key(|(at, rule, _)| (Reverse(rule.is_plain()), *at));
    let mut taken = BTreeSet::new();
    let ours = candidates.into_iter().filter(|(_, _, mark)| taken.insert(mark.clone()));
    ours.map(|(at, _, _)| at).collect()
}

/// The rules that somebody else wrote.
pub(crate) fn foreign<'a>(live: &'a Document, written: &BTreeSet<Mark>) -> Vec<&'a Rule> {
    let ours = ours(live, written);
    let all = live.rules.iter().enumerate();
    all.filter(|(at, _)| !ours.contains(at)).map(|(_, rule)| rule).collect()
}

/// The document as it should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Next {
    pub document: Document,
    /// The rules in it that are ours.
    pub marks: BTreeSet<Mark>,
    /// What is to be there and is not.
    pub missing: Vec<Meaning>,
    /// How many rules of ours nobody wants any more.
    pub obsolete: usize,
}

/// Puts our rules into the document that is there. Nothing of anybody else is moved or changed.
pub(crate) fn next(live: &Document, written: &BTreeSet<Mark>, wanted: &[Meaning]) -> Next {
    let ours = ours(live, written);
    let is_foreign = |rule: &Meaning| {
        let mut others = live.rules.iter().enumerate().filter(|(at, _)| !ours.contains(at));
        others.any(|(_, other)| other.meaning() == Some(rule))
    };
    let standing: BTreeSet<&Meaning> = ours.iter().filter_map(|at| live.rules.get(*at)?.meaning()).collect();
    let mut open: Vec<&Meaning> = wanted
        .iter()
        .filter(|rule| !standing.contains(rule) && !is_foreign(rule))
        .collect();
    let missing = open.iter().map(|rule| (*rule).clone()).collect();
    let (mut rules, mut marks, mut obsolete) = (Vec::new(), BTreeSet::new(), 0);
    for (at, rule) in live.rules.iter().enumerate() {
        let Some(said) = rule.meaning().filter(|_| ours.contains(&at)) else {
            rules.push(rule.clone());
            continue;
        };
        if wanted.contains(said) {
            marks.insert(said.mark());
            rules.push(rule.clone());
            continue;
        }
        obsolete += 1;
        let same = |new: &&Meaning| (&new.destinations, new.deletes) == (&said.destinations, said.deletes);
        if let Some(place) = open.iter().position(same) {
            let new = open.remove(place);
            marks.insert(new.mark());
            rules.push(rule.saying(new));
        }
    }
    for rule in open {
        marks.insert(rule.mark());
        rules.push(Rule::new(rule.clone()));
    }
    Next {
        document: live.with(rules),
        marks,
        missing,
        obsolete,
    }
}
