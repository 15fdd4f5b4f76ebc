//! One rule: as it came, and what is understood of it.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::sorted;

/// A registry that images are replicated to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub region: String,
    pub registry_id: String,
}

/// What a rule says, as far as this operator knows rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Meaning {
    pub destinations: BTreeSet<Place>,
    /// Beginnings of names; `None`: every repository.
    pub filters: Option<BTreeSet<String>>,
    pub deletes: bool,
}

/// By what a rule of ours is known again: a hash of what it says. It stands in the status of Registries, so it must be the
/// same in every version of the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mark(String);

impl Mark {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// As it was recorded.
    pub(crate) fn recorded(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Meaning {
    /// What a rule says, or nothing where a known part of it is not as it is known.
    fn of(raw: &Value) -> Option<Self> {
        let text = |value: &Value, member: &str| Some(value.get(member)?.as_str()?.to_owned());
        let destinations = raw.get("destinations")?.as_array()?.iter().map(|place| {
            Some(Place {
                region: text(place, "region")?,
                registry_id: text(place, "registryId")?,
            })
        });
        let filters = match raw.get("repositoryFilters").filter(|filters| !filters.is_null()) {
            None => None,
            Some(filters) => {
                let filters = filters.as_array()?.iter().map(|filter| {
                    (filter.get("filterType")? == "PREFIX_MATCH").then_some(())?;
                    text(filter, "filter")
                });
                Some(filters.collect::<Option<_>>()?)
            }
        };
        let deletes = match raw.get("deleteReplication").filter(|deletion| !deletion.is_null()) {
            None => false,
            Some(deletion) => deletion.get("enabled")?.as_bool()?,
        };
        Some(Self {
            destinations: destinations.collect::<Option<_>>()?,
            filters,
            deletes,
        })
    }

    pub(crate) fn mark(&self) -> Mark {
        let hash = Sha256::digest(sorted(&self.value()).as_bytes());
        let mut text = String::with_capacity(64);
        for byte in hash {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Mark(text)
    }

    /// The rule that says this and nothing else.
    pub(crate) fn value(&self) -> Value {
        self.over(&Value::Null)
    }

    /// The rule that says this, and beside it whatever `raw` has that is not known.
    fn over(&self, raw: &Value) -> Value {
        let known = |list: &str, is: &dyn Fn(&Value) -> bool| {
            let listed = raw.get(list).and_then(Value::as_array);
            listed.and_then(|listed| listed.iter().find(|item| is(item))).cloned()
        };
        let mut whole = raw.as_object().cloned().unwrap_or_default();
        let places = self.destinations.iter().map(|place| {
            let plain = json!({ "region": place.region, "registryId": place.registry_id });
            let is = |item: &Value| {
                item.get("region") == plain.get("region") && item.get("registryId") == plain.get("registryId")
            };
            known("destinations", &is).unwrap_or(plain)
        });
        let places: Vec<Value> = places.collect();
        let filters = self.filters.as_ref().map(|filters| {
            let filters = filters.iter().map(|filter| {
                let plain = json!({ "filter": filter, "filterType": "PREFIX_MATCH" });
                known("repositoryFilters", &|item| item.get("filter") == plain.get("filter")).unwrap_or(plain)
            });
            filters.collect::<Vec<Value>>()
        });
        let mut deletion = raw
            .get("deleteReplication")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        deletion.insert("enabled".to_owned(), self.deletes.into());
        whole.insert("destinations".to_owned(), places.into());
        set(&mut whole, "repositoryFilters", filters.map(Value::from));
        let deletion = (self.deletes || deletion.len() > 1).then_some(Value::Object(deletion));
        set(&mut whole, "deleteReplication", deletion);
        Value::Object(whole)
    }

    /// Whether it replicates all that another one does, and deletions alike.
    pub(super) fn includes(&self, other: &Self) -> bool {
        let filters = match (&self.filters, &other.filters) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(all), Some(some)) => all.is_superset(some),
        };
        filters && self.destinations.is_superset(&other.destinations) && self.deletes == other.deletes
    }

    /// Whether all repositories whose names begin so, or all of the registry, are replicated to a registry by it.
    pub(super) fn reaches(&self, prefix: Option<&str>, to: &Place) -> bool {
        let takes = match (&self.filters, prefix) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(filters), Some(prefix)) => filters.iter().any(|filter| prefix.starts_with(filter)),
        };
        takes && self.destinations.contains(to)
    }

    /// Whether a repository is replicated to a registry by it.
    #[cfg(test)]
    pub(super) fn takes(&self, repository: &str, to: &Place) -> bool {
        let filters = self.filters.as_ref();
        self.destinations.contains(to)
            && filters.is_none_or(|filters| filters.iter().any(|filter| repository.starts_with(filter)))
    }
}

fn set(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    match value {
        Some(value) => drop(map.insert(key.to_owned(), value)),
        None => drop(map.remove(key)),
    }
}

/// One rule of a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    raw: Value,
    meaning: Option<Meaning>,
}

impl Rule {
    pub(super) fn read(raw: Value) -> Self {
        let meaning = Meaning::of(&raw);
        Self { raw, meaning }
    }

    /// A rule of ours.
    pub(crate) fn new(meaning: Meaning) -> Self {
        Self {
            raw: meaning.value(),
            meaning: Some(meaning),
        }
    }

    /// The same rule saying something else; what is not known of it stays.
    pub(crate) fn saying(&self, meaning: &Meaning) -> Self {
        Self {
            raw: meaning.over(&self.raw),
            meaning: Some(meaning.clone()),
        }
    }

    pub(crate) fn raw(&self) -> &Value {
        &self.raw
    }

    /// What it says; nothing where it is not understood.
    pub(crate) fn meaning(&self) -> Option<&Meaning> {
        self.meaning.as_ref()
    }

    /// Whether it says nothing that is not known.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = self.meaning.as_ref().map(|meaning| sorted(&meaning.value()));
        plain.is_some_and(|plain| plain == self.essence())
    }

    /// A text by which two rules are equal that mean the same.
    pub(super) fn essence(&self) -> String {
        match &self.meaning {
            None => sorted(&self.raw),
            Some(meaning) => {
                let mut whole = meaning.over(&self.raw);
                // Off, and nothing else, is what it is without.
                if whole.get("deleteReplication") == Some(&json!({ "enabled": false }))
                    && let Some(whole) = whole.as_object_mut()
                {
                    whole.remove("deleteReplication");
                }
                sorted(&whole)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> Rule {
        Rule::read(json!({
            "destinations": [{ "region": "us-east-1", "registryId": "111122223333", "role": "x" }],
            "repositoryFilters": [{ "filter": "b/", "filterType": "PREFIX_MATCH" }, { "filter": "a/", "filterType": "PREFIX_MATCH" }],
            "deleteReplication": { "enabled": true, "grace": "7d" },
            "tomorrow": 1,
        }))
    }

    #[test]
    fn a_rule_is_known_again_by_the_same_mark_in_every_version() {
        let mark = rule().meaning().unwrap().mark();
        assert_eq!(mark.as_str(), GOLDEN);
        assert_eq!(Mark::recorded(mark.as_str()), mark);
    }

    const GOLDEN: &str = "3c55d70dd6a0dcd7e391c92d191a6a32844f6281797d6167f2110ae5234d0da5";

    #[test]
    fn a_rule_that_says_something_else_keeps_what_is_not_known() {
        let old = rule();
        let mut meaning = old.meaning().unwrap().clone();
        meaning.filters.as_mut().unwrap().insert("c/".to_owned());
        meaning.deletes = false;
        let new = old.saying(&meaning);
        assert_eq!(
            new.raw(),
            &json!({
                "destinations": [{ "region": "us-east-1", "registryId": "111122223333", "role": "x" }],
                "repositoryFilters": [
                    { "filter": "a/", "filterType": "PREFIX_MATCH" }, { "filter": "b/", "filterType": "PREFIX_MATCH" },
                    { "filter": "c/", "filterType": "PREFIX_MATCH" },
                ],
                "deleteReplication": { "enabled": false, "grace": "7d" },
                "tomorrow": 1,
            })
        );
        assert!(!old.is_plain() && !new.is_plain());
        assert!(Rule::new(meaning.clone()).is_plain());
        assert_eq!(Rule::new(meaning.clone()).meaning(), Some(&meaning));
        assert_eq!(Rule::read(meaning.value()).meaning(), Some(&meaning));
    }

    #[test]
    fn what_is_not_as_it_is_known_is_not_understood() {
        for raw in [
            json!({}),
            json!({ "destinations": [{ "region": "a" }] }),
            json!({ "destinations": [], "repositoryFilters": [{ "filter": "a", "filterType": "REGEX" }] }),
            json!({ "destinations": [], "repositoryFilters": "a" }),
            json!({ "destinations": [], "deleteReplication": true }),
            json!({ "destinations": [], "deleteReplication": { "enabled": "yes" } }),
        ] {
            assert_eq!(Rule::read(raw.clone()).meaning(), None, "{raw}");
        }
    }
}
