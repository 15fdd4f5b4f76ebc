//! The signing configuration of a registry (`SigningConfiguration` in the ECR API Reference), compared by meaning: neither
//! the order of rules nor that of filters counts.

use std::{collections::BTreeSet, fmt};

use serde_json::Value;

use super::{
    known::{Reader, Stored, list, text},
    scanning::{Filter, filters},
};

/// Which images are signed with which profile. None at all is the same as no rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signing {
    pub rules: BTreeSet<SigningRule>,
}

/// The images of some repositories are signed with a profile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SigningRule {
    pub profile: String,
    /// Empty: every repository.
    pub filters: BTreeSet<Filter>,
}

impl Signing {
    /// Reads the configuration as ECR gives it; an error says in what it is not one.
    pub(crate) fn read(value: &Value) -> Result<Stored<Self>, String> {
        let mut reader = Reader::new();
        let configuration = reader.object(value, "", &["rules"])?;
        let mut rules = BTreeSet::new();
        for (rule, number) in list(configuration, "rules", "")?.iter().zip(0..) {
            let place = format!("rules[{number}]");
            let rule = reader.object(rule, &place, &["signingProfileArn", "repositoryFilters"])?;
            let filters = list(rule, "repositoryFilters", &place)?
                .iter()
                .map(|filter| Filter::read(&mut reader, filter, &place));
            rules.insert(SigningRule {
                profile: text(rule, "signingProfileArn", &place)?,
                filters: filters.collect::<Result<_, _>>()?,
            });
        }
        Ok(reader.finish(Self { rules }, value))
    }

    /// What a registry has where nobody ever put a configuration.
    pub(crate) fn absent() -> Stored<Self> {
        Stored {
            document: Self::default(),
            unknown: Vec::new(),
            text: String::new(),
        }
    }
}

impl fmt::Display for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rules.is_empty() {
            return f.write_str("nothing");
        }
        for (rule, number) in self.rules.iter().zip(0..) {
            let gap = if number == 0 { "" } else { ", " };
            // The last part of the ARN is the profile's name.
            let profile = rule.profile.rsplit('/').next().unwrap_or_default();
            match rule.filters.is_empty() {
                true => write!(f, "{gap}{profile} for every repository")?,
                false => write!(f, "{gap}{profile} for [{}]", filters(&rule.filters))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(profile: &str, filters: &[&str]) -> Value {
        let filters: Vec<_> = filters
            .iter()
            .map(|filter| json!({ "filter": filter, "filterType": "WILDCARD_MATCH" }))
            .collect();
        let profile = format!("arn:aws:signer:eu-west-1:111122223333:/signing-profiles/{profile}");
        match filters.is_empty() {
            true => json!({ "signingProfileArn": profile }),
            false => json!({ "signingProfileArn": profile, "repositoryFilters": filters }),
        }
    }

    fn read(rules: &[Value]) -> Stored<Signing> {
        Signing::read(&json!({ "rules": rules })).expect("a configuration")
    }

    #[test]
    fn order_does_not_matter_and_no_rules_are_no_configuration() {
        let one = read(&[rule("release", &["a/*", "b"]), rule("test", &[])]);
        let two = read(&[rule("test", &[]), rule("release", &["b", "a/*"])]);
        assert_eq!(one.document, two.document);
        assert_eq!(
            one.document.to_string(),
            "release for [a/* b], test for every repository"
        );
        assert_eq!(read(&[]).document, Signing::absent().document);
        assert_ne!(one.document, read(&[rule("test", &[])]).document);
        assert_ne!(
            read(&[rule("test", &["a"])]).document,
            read(&[rule("test", &[])]).document
        );
    }

    #[test]
    fn what_a_write_would_lose_is_named() {
        let mut with = rule("release", &["a"]);
        with["expiry"] = json!("30d");
        assert_eq!(read(&[with]).unknown, ["rules[0].expiry"]);
        assert!(Signing::read(&json!({ "rules": [{}] })).is_err());
    }
}
