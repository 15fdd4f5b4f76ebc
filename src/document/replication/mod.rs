//! What a registry replicates: ECR's document, kept with everything in it, known and unknown.
//!
//! The document is replaced as a whole by each writer, and AWS adds to it. So a rule is kept as the JSON that came, and
//! beside it what of it is understood; what nobody here wrote goes back as it came.

pub(crate) mod compose;
#[cfg(test)]
mod properties;
mod rule;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

pub(crate) use self::rule::{Mark, Meaning, Place, Rule};

/// Why a document is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the registry's replication configuration is not as this operator knows it: {0}")]
pub(crate) struct Malformed(&'static str);

/// A registry's `replicationConfiguration`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Document {
    pub rules: Vec<Rule>,
    /// What else is in it.
    rest: Map<String, Value>,
}

impl Document {
    /// Reads the document; none is an empty one.
    pub(crate) fn parse(value: &Value) -> Result<Self, Malformed> {
        let mut rest = match value {
            Value::Null => Map::new(),
            Value::Object(map) => map.clone(),
            _ => return Err(Malformed("it is no object")),
        };
        let rules = match rest.remove("rules") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(rules)) => rules,
            Some(_) => return Err(Malformed("its rules are no list")),
        };
        Ok(Self {
            rules: rules.into_iter().map(Rule::read).collect(),
            rest,
        })
    }

    /// The same with other rules.
    pub(crate) fn with(&self, rules: Vec<Rule>) -> Self {
        Self {
            rules,
            rest: self.rest.clone(),
        }
    }

    /// As it is sent.
    pub(crate) fn value(&self) -> Value {
        let mut whole = self.rest.clone();
        let rules = self.rules.iter().map(|rule| rule.raw().clone()).collect();
        whole.insert("rules".to_owned(), Value::Array(rules));
        Value::Object(whole)
    }

    /// Whether both mean the same, in whatever order.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.essence() == other.essence()
    }

    /// Whether one of its rules replicates all that this one does, and deletions alike.
    pub(crate) fn holds(&self, rule: &Meaning) -> bool {
        self.rules
            .iter()
            .filter_map(Rule::meaning)
            .any(|other| other.includes(rule))
    }

    /// Where these rules replicate repositories to that the document does not replicate there.
    pub(crate) fn gains<'r>(&self, rules: impl IntoIterator<Item = &'r Meaning>) -> BTreeSet<Place> {
        let standing: Vec<&Meaning> = self.rules.iter().filter_map(Rule::meaning).collect();
        let is_new = |rule: &Meaning, to: &Place| {
            let mut filters: Vec<Option<&str>> = match &rule.filters {
                None => vec![None],
                Some(filters) => filters.iter().map(|filter| Some(filter.as_str())).collect(),
            };
            filters.retain(|filter| !standing.iter().any(|other| other.reaches(*filter, to)));
            !filters.is_empty()
        };
        let mut places = BTreeSet::new();
        for rule in rules {
            places.extend(rule.destinations.iter().filter(|to| is_new(rule, to)).cloned());
        }
        places
    }

    fn essence(&self) -> (BTreeMap<String, usize>, String) {
        let mut rules = BTreeMap::new();
        for rule in &self.rules {
            *rules.entry(rule.essence()).or_default() += 1;
        }
        (rules, sorted(&json!(self.rest)))
    }
}

/// JSON by which two values are equal if they mean the same: keys in order, and nothing that is null.
fn sorted(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<_, _> = map.iter().filter(|(_, value)| !value.is_null()).collect();
            let members: Vec<String> = map
                .into_iter()
                .map(|(key, value)| format!("{}:{}", Value::from(key.as_str()), sorted(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(sorted).collect();
            format!("[{}]", items.join(","))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(value: &Value) -> Document {
        Document::parse(value).unwrap()
    }

    #[test]
    fn everything_that_is_not_known_goes_back_as_it_came() {
        let whole = json!({
            "rules": [
                { "destinations": [{ "region": "us-east-1", "registryId": "111122223333", "new": 1 }],
                  "repositoryFilters": [{ "filter": "a/", "filterType": "PREFIX_MATCH" }],
                  "deleteReplication": { "enabled": true }, "tomorrow": { "x": [1, null] } },
                { "destinations": "not a list" },
                7,
            ],
            "switch": "ON",
        });
        assert_eq!(document(&whole).value(), whole);
    }

    #[test]
    fn order_and_what_is_not_said_do_not_count() {
        let one = document(&json!({ "rules": [
            { "destinations": [{ "region": "b", "registryId": "1" }, { "region": "a", "registryId": "1" }],
              "repositoryFilters": [{ "filter": "x", "filterType": "PREFIX_MATCH" }, { "filter": "w", "filterType": "PREFIX_MATCH" }] },
            { "destinations": [{ "region": "c", "registryId": "1" }], "deleteReplication": { "enabled": false } },
        ]}));
        let other = document(&json!({ "rules": [
            { "destinations": [{ "registryId": "1", "region": "c" }], "repositoryFilters": null },
            { "repositoryFilters": [{ "filterType": "PREFIX_MATCH", "filter": "w" }, { "filter": "x", "filterType": "PREFIX_MATCH" }],
              "destinations": [{ "region": "a", "registryId": "1" }, { "region": "b", "registryId": "1" }] },
        ]}));
        assert!(one.is_same(&other));
        for change in [
            json!({ "rules": [] }),
            json!({ "rules": other.value()["rules"], "more": 1 }),
            json!({ "rules": [other.value()["rules"][0]] }),
            json!({ "rules": [other.value()["rules"][0], other.value()["rules"][1], other.value()["rules"][1]] }),
        ] {
            assert!(!one.is_same(&document(&change)), "{change}");
        }
        let mut deletes = one.value();
        deletes["rules"][0]["deleteReplication"] = json!({ "enabled": true });
        assert!(!one.is_same(&document(&deletes)));
        let mut unknown = one.value();
        unknown["rules"][0]["tomorrow"] = json!(1);
        assert!(!one.is_same(&document(&unknown)));
    }

    #[test]
    fn what_is_replicated_already_is_no_gain() {
        let standing = document(&json!({ "rules": [
            { "destinations": [{ "region": "a", "registryId": "1" }],
              "repositoryFilters": [{ "filter": "team-a/", "filterType": "PREFIX_MATCH" }] },
            { "destinations": [{ "region": "b", "registryId": "1" }] },
            { "destinations": [{ "region": "c", "registryId": "1" }], "repositoryFilters": "not a list" },
        ]}));
        let rule = |regions: &[&str], filters: Option<&[&str]>| Meaning {
            destinations: regions
                .iter()
                .map(|region| Place {
                    region: (*region).into(),
                    registry_id: "1".into(),
                })
                .collect(),
            filters: filters.map(|filters| filters.iter().map(ToString::to_string).collect()),
            deletes: false,
        };
        let gains = |rule: Meaning| {
            let gained = standing.gains([&rule]).into_iter();
            gained.map(|place| place.region).collect::<Vec<_>>().concat()
        };
        assert_eq!(gains(rule(&["a", "b"], Some(&["team-a/"]))), "");
        assert_eq!(gains(rule(&["a", "b"], Some(&["team-a/web"]))), "", "a part of it");
        assert_eq!(gains(rule(&["a", "b"], Some(&["team-a/", "team-b/"]))), "a");
        assert_eq!(gains(rule(&["a", "b"], Some(&["team-"]))), "a", "more than is there");
        assert_eq!(gains(rule(&["a", "b"], None)), "a");
        assert_eq!(
            gains(rule(&["c"], Some(&["team-a/"]))),
            "c",
            "what is not understood counts for nothing"
        );
        let mut deletes = rule(&["a"], Some(&["team-a/"]));
        deletes.deletes = true;
        assert_eq!(gains(deletes), "");
    }

    #[test]
    fn a_registry_without_a_configuration_has_an_empty_one() {
        for nothing in [json!(null), json!({}), json!({ "rules": null }), json!({ "rules": [] })] {
            assert!(document(&nothing).rules.is_empty());
        }
        assert!(Document::parse(&json!({ "rules": {} })).is_err());
        assert!(Document::parse(&json!([])).is_err());
    }
}
