//! The scanning configuration of a registry (`RegistryScanningConfiguration` in the ECR API Reference), compared by
//! meaning: neither the order of rules nor that of filters counts.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::known::{Reader, Stored, list, text};

/// Which repositories are scanned when. Values are kept as ECR spells them, so that those of tomorrow are shown and
/// compared rather than lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scanning {
    pub scan_type: String,
    /// By frequency.
    pub rules: BTreeMap<String, BTreeSet<Filter>>,
}

/// Repositories by their names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Filter {
    pub filter: String,
    pub filter_type: String,
}

impl Scanning {
    /// Reads the configuration as ECR gives it; an error says in what it is not one.
    pub(crate) fn read(value: &Value) -> Result<Stored<Self>, String> {
        let mut reader = Reader::new();
        let configuration = reader.object(value, "", &["scanType", "rules"])?;
        let mut rules: BTreeMap<String, BTreeSet<Filter>> = BTreeMap::new();
        for (rule, number) in list(configuration, "rules", "")?.iter().zip(0..) {
            let place = format!("rules[{number}]");
            let rule = reader.object(rule, &place, &["scanFrequency", "repositoryFilters"])?;
            let filters = rules.entry(text(rule, "scanFrequency", &place)?).or_default();
            for filter in list(rule, "repositoryFilters", &place)? {
                filters.insert(Filter::read(&mut reader, filter, &place)?);
            }
        }
        let document = Self {
            scan_type: text(configuration, "scanType", "")?,
            rules,
        };
        Ok(reader.finish(document, value))
    }
}

impl Filter {
    pub(super) fn read(reader: &mut Reader, value: &Value, place: &str) -> Result<Self, String> {
        let place = format!("{place}.repositoryFilters");
        let filter = reader.object(value, &place, &["filter", "filterType"])?;
        Ok(Self {
            filter: text(filter, "filter", &place)?,
            filter_type: text(filter, "filterType", &place)?,
        })
    }
}

/// The filters in a line.
pub(super) fn filters<'f>(filters: impl IntoIterator<Item = &'f Filter>) -> String {
    let filters: Vec<&str> = filters.into_iter().map(|filter| filter.filter.as_str()).collect();
    filters.join(" ")
}

impl fmt::Display for Scanning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scan_type)?;
        if self.rules.is_empty() {
            return f.write_str(" without rules");
        }
        for (frequency, of_rule) in &self.rules {
            write!(f, " {frequency} [{}]", filters(of_rule))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(frequency: &str, filters: &[&str]) -> Value {
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| json!({ "filter": filter, "filterType": "WILDCARD" }))
            .collect();
        json!({ "scanFrequency": frequency, "repositoryFilters": filters })
    }

    fn read(rules: &[Value]) -> Stored<Scanning> {
        Scanning::read(&json!({ "scanType": "ENHANCED", "rules": rules })).expect("a configuration")
    }

    #[test]
    fn order_and_repetition_do_not_matter() {
        let one = read(&[rule("SCAN_ON_PUSH", &["a", "b"]), rule("CONTINUOUS_SCAN", &["prod-*"])]);
        let two = read(&[
            rule("CONTINUOUS_SCAN", &["prod-*"]),
            rule("SCAN_ON_PUSH", &["b", "a", "b"]),
        ]);
        assert_eq!(one.document, two.document);
        assert_ne!(one.text, two.text);
        assert_eq!(
            one.document.to_string(),
            "ENHANCED CONTINUOUS_SCAN [prod-*] SCAN_ON_PUSH [a b]"
        );
    }

    #[test]
    fn everything_that_says_something_is_compared() {
        let base = read(&[rule("SCAN_ON_PUSH", &["a"])]).document;
        for other in [
            read(&[]),
            read(&[rule("SCAN_ON_PUSH", &["b"])]),
            read(&[rule("CONTINUOUS_SCAN", &["a"])]),
            read(&[rule("SCAN_ON_PUSH", &["a"]), rule("CONTINUOUS_SCAN", &["a"])]),
        ] {
            assert_ne!(base, other.document);
        }
        let basic = Scanning::read(&json!({ "scanType": "BASIC", "rules": [rule("SCAN_ON_PUSH", &["a"])] }));
        assert_ne!(base, basic.unwrap().document);
    }

    #[test]
    fn what_a_write_would_lose_is_named_with_its_place() {
        let mut with = rule("SCAN_ON_PUSH", &["a"]);
        with["schedule"] = json!("daily");
        with["repositoryFilters"][0]["negated"] = json!(true);
        with["nothing"] = Value::Null;
        let stored = Scanning::read(&json!({ "scanType": "BASIC", "rules": [with], "engine": { "x": 1 } })).unwrap();
        assert_eq!(
            stored.unknown,
            ["engine", "rules[0].schedule", "rules[0].repositoryFilters.negated"]
        );
        assert_eq!(read(&[]).unknown, Vec::<String>::new());
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for (value, why) in [
            (json!([]), "not an object"),
            (json!({ "rules": [] }), "has no scanType"),
            (json!({ "scanType": "BASIC", "rules": {} }), "not a list"),
            (
                json!({ "scanType": "BASIC", "rules": [{}] }),
                "rules[0] has no scanFrequency",
            ),
        ] {
            let error = Scanning::read(&value).expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }
}
