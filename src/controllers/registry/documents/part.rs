//! The parts of a Registry's spec that are documents or settings of the registry, each for itself.

use std::{collections::BTreeSet, fmt};

use serde_json::{Value, json};

use crate::{
    api::{
        names::AccountId,
        registry::{
            RegistrySpec,
            documents::{RegistryPolicy, Scanning as ScanningSpec, Signing as SigningSpec},
        },
    },
    digest::short,
    document::{
        policy::{self, Policy, REPLICATE_FROM},
        scanning::{Filter, Scanning},
        signing::{Signing, SigningRule},
    },
};

/// One document or setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    Scanning,
    Policy,
    Signing,
    BlobMounting,
    BasicScanTypeVersion,
    RegistryPolicyScope,
    Exclusions,
}

/// What is wanted of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Scanning(Scanning),
    /// The statements of ours, in a policy of their own; `None`: none.
    Policy(Option<Policy>),
    /// The same, where the spec names none but those that let other accounts replicate in: no others are ours.
    Sources(Option<Policy>),
    Signing(Signing),
    /// A setting that is a value.
    Setting(&'static str),
    /// Scope V2, and whether it may wake statements.
    Scope {
        confirmed: bool,
    },
    Exclusions(BTreeSet<String>),
}

impl Part {
    pub(crate) const ALL: [Self; 7] = [
        Self::Scanning,
        Self::Policy,
        Self::Signing,
        Self::BlobMounting,
        Self::BasicScanTypeVersion,
        Self::RegistryPolicyScope,
        Self::Exclusions,
    ];

    /// Its field in the spec.
    pub(crate) const fn field(self) -> &'static str {
        match self {
            Self::Scanning => "scanning",
            Self::Policy => "policy",
            Self::Signing => "signing",
            Self::BlobMounting => "settings.blobMounting",
            Self::BasicScanTypeVersion => "settings.basicScanTypeVersion",
            Self::RegistryPolicyScope => "settings.registryPolicyScope",
            Self::Exclusions => "pullTimeUpdateExclusions",
        }
    }

    /// The account setting behind it, as ECR names it.
    pub(crate) const fn setting(self) -> Option<&'static str> {
        match self {
            Self::BlobMounting => Some("BLOB_MOUNTING"),
            Self::BasicScanTypeVersion => Some("BASIC_SCAN_TYPE_VERSION"),
            Self::RegistryPolicyScope => Some("REGISTRY_POLICY_SCOPE"),
            Self::Scanning | Self::Policy | Self::Signing | Self::Exclusions => None,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.field())
    }
}

/// What the spec wants of a part; `None` where it does not name it. An error says what is wrong with it.
pub(crate) fn wish(spec: &RegistrySpec, part: Part) -> Option<Result<Wish, String>> {
    let documents = &spec.documents;
    let settings = documents.settings.as_ref();
    Some(Ok(match part {
        Part::Scanning => Wish::Scanning(scanning(documents.scanning.as_ref()?)),
        Part::Policy => return policy(spec),
        Part::Signing => Wish::Signing(signing(documents.signing.as_ref()?)),
        Part::BlobMounting => Wish::Setting(settings?.blob_mounting?.as_str()),
        Part::BasicScanTypeVersion => {
            settings?.basic_scan_type_version?;
            Wish::Setting("AWS_NATIVE")
        }
        Part::RegistryPolicyScope => {
            settings?.registry_policy_scope?;
            Wish::Scope {
                confirmed: settings?.confirm_registry_policy_scope.is_some(),
            }
        }
        Part::Exclusions => Wish::Exclusions(
            documents
                .pull_time_update_exclusions
                .as_ref()?
                .iter()
                .cloned()
                .collect(),
        ),
    }))
}

/// A digest of what is wanted of a part, and of whether it may be written. It must not change with a new version of the
/// operator unless the meaning does: every document would be read at once.
pub(crate) fn hash(part: Part, wish: &Result<Wish, String>, manage: bool) -> String {
    let rule = |filters: &BTreeSet<Filter>| -> Value {
        filters
            .iter()
            .map(|filter| json!([filter.filter, filter.filter_type]))
            .collect()
    };
    let meaning = match wish {
        Err(why) => json!(["invalid", why]),
        Ok(Wish::Scanning(scanning)) => {
            let rules = scanning.rules.iter();
            let rules: Value = rules
                .map(|(frequency, filters)| json!([frequency, rule(filters)]))
                .collect();
            json!([scanning.scan_type, rules])
        }
        Ok(Wish::Policy(policy)) => json!(policy.as_ref().map(Policy::to_text)),
        Ok(Wish::Sources(policy)) => json!(["sources", policy.as_ref().map(Policy::to_text)]),
        Ok(Wish::Signing(signing)) => {
            let rules = signing.rules.iter();
            rules.map(|of| json!([of.profile, rule(&of.filters)])).collect()
        }
        Ok(Wish::Setting(value)) => json!(value),
        Ok(Wish::Scope { confirmed }) => json!(["V2", confirmed]),
        Ok(Wish::Exclusions(principals)) => json!(principals),
    };
    let whole = json!([1, part.field(), manage, meaning]);
    short(&whole.to_string())
}

fn scanning(spec: &ScanningSpec) -> Scanning {
    let filter = |filter: &crate::api::registry::documents::ScanningFilter| Filter {
        filter: filter.filter.clone(),
        filter_type: "WILDCARD".into(),
    };
    let rules = spec.rules.iter().map(|rule| {
        (
            rule.scan_frequency.as_str().to_owned(),
            rule.repository_filters.iter().map(filter).collect(),
        )
    });
    Scanning {
        scan_type: spec.scan_type.as_str().to_owned(),
        rules: rules.collect(),
    }
}

fn signing(spec: &SigningSpec) -> Signing {
    let filter = |filter: &crate::api::registry::documents::SigningFilter| Filter {
        filter: filter.filter.clone(),
        filter_type: "WILDCARD_MATCH".into(),
    };
    let rules = spec.rules.iter().map(|rule| SigningRule {
        profile: rule.signing_profile_arn.clone(),
        filters: rule.repository_filters.iter().flatten().map(filter).collect(),
    });
    Signing { rules: rules.collect() }
}

fn policy(spec: &RegistrySpec) -> Option<Result<Wish, String>> {
    let declared = spec.documents.policy.as_ref();
    let from = spec.replication.as_ref().and_then(|limits| limits.from.as_ref());
    let Some(from) = from else {
        return Some(document(declared?).map(Wish::Policy));
    };
    let region = &spec.region;
    let accounts = from.iter().map(AccountId::as_str);
    let sources = policy::replication_from(accounts, region.partition(), region.as_str(), spec.registry_id.as_str());
    let sources = match sources {
        Ok(sources) => sources,
        Err(error) => return Some(Err(format!("spec.replication.from: {error}"))),
    };
    let Some(declared) = declared else {
        return Some(Ok(Wish::Sources(sources)));
    };
    Some(document(declared).and_then(|document| {
        let taken = document.iter().flat_map(Policy::sids);
        let mut taken = taken.filter(|sid| sid.starts_with(REPLICATE_FROM));
        if let Some(sid) = taken.next() {
            return Err(format!(
                "a statement has the Sid {sid}, which belongs to spec.replication.from; give it another"
            ));
        }
        Ok(Wish::Policy(match (document, sources) {
            (Some(document), Some(sources)) => Some(document.and(sources)),
            (document, sources) => document.or(sources),
        }))
    }))
}

fn document(spec: &RegistryPolicy) -> Result<Option<Policy>, String> {
    let Some(document) = &spec.document else {
        return Ok(None);
    };
    Policy::from_value_for_registry(&Value::Object(document.clone()))
        .map(Some)
        .map_err(|error| error.to_string())
}
