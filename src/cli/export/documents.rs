//! A registry's documents, as a Registry that names them. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::compose::Manifest;
use crate::{
    api::{Registry, registry::RegistrySpec},
    controllers::registry::documents::{
        part::{Part, wish},
        plan::{Decision, LivePolicy, Recorded, Seen, decide},
    },
    document::scanning::Filter,
};

/// The Registry with what its documents say, or nothing where they say what those of a new registry do. What the Registry names
/// already stays as it is; what a manifest cannot say is left out.
pub(super) fn compose(seen: &BTreeMap<Part, Seen>, registry: &Registry) -> Option<Manifest> {
    let open = seen.iter().filter(|(part, _)| wish(&registry.spec, **part).is_none());
    let open: Vec<(&Part, &Seen)> = open.collect();
    if open.iter().all(|(_, seen)| is_new(seen)) {
        return None;
    }
    let mut spec = registry.spec.clone();
    let mut left_out = Vec::new();
    for (part, seen) in open {
        let said = match said(seen) {
            Ok(Some(said)) => with(&spec, *part, said).and_then(|spec| is_as(spec, *part, seen)),
            Ok(None) => continue,
            Err(why) => Err(why),
        };
        match said {
            Ok(named) => spec = named,
            Err(why) => left_out.push(format!("spec.{part} is left out, so it is not managed: {why}")),
        }
    }
    Some(Manifest::new(&Registry::new(&registry.name_any(), spec), left_out))
}

/// Whether a registry has it so that nobody ever wrote to.
fn is_new(seen: &Seen) -> bool {
    match seen {
        Seen::Scanning(stored) => stored.document.scan_type == "BASIC" && stored.document.rules.is_empty(),
        Seen::Signing(stored) => stored.document.rules.is_empty(),
        Seen::Policy(policy) => *policy == LivePolicy::Absent,
        Seen::Exclusions(principals) => principals.is_empty(),
        Seen::Setting(_) | Seen::Scope { .. } => true,
    }
}

/// A part in the terms of a manifest; `None` where there is nothing to be said.
fn said(seen: &Seen) -> Result<Option<Value>, String> {
    let filters = |filters: &BTreeSet<Filter>| -> Vec<Value> {
        let filters = filters.iter();
        filters
            .map(|filter| json!({ "filter": filter.filter, "filterType": filter.filter_type }))
            .collect()
    };
    Ok(Some(match seen {
        Seen::Scanning(stored) => {
            let rules = stored.document.rules.iter();
            let rules: Vec<Value> = rules
                .map(|(frequency, of)| json!({ "scanFrequency": frequency, "repositoryFilters": filters(of) }))
                .collect();
            json!({ "scanType": stored.document.scan_type, "rules": rules })
        }
        Seen::Signing(stored) if stored.document.rules.is_empty() => return Ok(None),
        Seen::Signing(stored) => {
            let rules = stored.document.rules.iter().map(|rule| {
                let mut said = json!({ "signingProfileArn": rule.profile });
                if !rule.filters.is_empty() {
                    said["repositoryFilters"] = filters(&rule.filters).into();
                }
                said
            });
            json!({ "rules": rules.collect::<Vec<_>>() })
        }
        Seen::Policy(LivePolicy::Absent) => return Ok(None),
        Seen::Policy(LivePolicy::Unknown { why }) => return Err(why.clone()),
        Seen::Policy(LivePolicy::Known { text, .. }) => {
            let document: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            json!({ "document": document })
        }
        // There is no way to V1, and nothing to be said for it.
        Seen::Scope { value, .. } if value == "V1" => return Ok(None),
        Seen::Setting(value) | Seen::Scope { value, .. } => json!(value),
        Seen::Exclusions(principals) if principals.is_empty() => return Ok(None),
        Seen::Exclusions(principals) => json!(principals),
    }))
}

/// The spec with a part named in it.
fn with(spec: &RegistrySpec, part: Part, said: Value) -> Result<RegistrySpec, String> {
    let mut whole = serde_json::to_value(spec).map_err(|error| error.to_string())?;
    let mut place = &mut whole;
    for member in part.field().split('.') {
        place = &mut place[member];
    }
    *place = said;
    serde_json::from_value(whole).map_err(|error| error.to_string())
}

/// The spec, if it asks for just what is there.
fn is_as(spec: RegistrySpec, part: Part, seen: &Seen) -> Result<RegistrySpec, String> {
    let Some(wanted) = wish(&spec, part) else {
        return Err("a manifest does not say it".to_owned());
    };
    match decide(part, &wanted?, seen, &Recorded::default()) {
        Decision::Settled => Ok(spec),
        Decision::Step { .. } => Err("it would not mean the same in a manifest".to_owned()),
        Decision::Blocked { message, .. } => Err(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{scanning::Scanning, signing::Signing};

    fn registry(overlay: &Value) -> Registry {
        let mut spec = json!({ "region": "eu-west-1", "registryId": "111122223333" });
        for (key, value) in overlay.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        Registry::new("main", serde_json::from_value(spec).unwrap())
    }

    fn scanning(value: &Value) -> Seen {
        Seen::Scanning(Scanning::read(value).unwrap())
    }

    fn policy(statements: &Value) -> Seen {
        let document = json!({ "Version": "2012-10-17", "Statement": statements });
        Seen::Policy(LivePolicy::read(Some(document.to_string())))
    }

    fn new() -> BTreeMap<Part, Seen> {
        BTreeMap::from([
            (Part::Scanning, scanning(&json!({ "scanType": "BASIC", "rules": [] }))),
            (Part::Policy, Seen::Policy(LivePolicy::Absent)),
            (Part::Signing, Seen::Signing(Signing::absent())),
            (Part::BlobMounting, Seen::Setting("DISABLED".into())),
            (Part::BasicScanTypeVersion, Seen::Setting("AWS_NATIVE".into())),
            (
                Part::RegistryPolicyScope,
                Seen::Scope {
                    value: "V2".into(),
                    policy: LivePolicy::Absent,
                },
            ),
            (Part::Exclusions, Seen::Exclusions(BTreeSet::new())),
        ])
    }

    #[test]
    fn a_new_registry_has_nothing_to_say() {
        assert!(compose(&new(), &registry(&json!({}))).is_none());
    }

    #[test]
    fn what_was_written_is_said_with_all_settings() {
        let mut seen = new();
        let enhanced = json!({ "scanType": "ENHANCED", "rules": [
            { "scanFrequency": "CONTINUOUS_SCAN", "repositoryFilters": [{ "filter": "prod-*", "filterType": "WILDCARD" }] },
        ]});
        seen.insert(Part::Scanning, scanning(&enhanced));
        let pulls = "arn:aws:iam::111122223333:role/scanner";
        seen.insert(Part::Exclusions, Seen::Exclusions(BTreeSet::from([pulls.to_owned()])));
        let statement = json!({ "Sid": "Other", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::444455556666:root" },
            "Action": "ecr:ReplicateImage", "Resource": "arn:aws:ecr:eu-west-1:111122223333:repository/*" });
        seen.insert(Part::Policy, policy(&json!([statement])));
        let manifest = compose(&seen, &registry(&json!({ "mode": "Manage" }))).unwrap();
        assert_eq!(manifest.left_out, Vec::<String>::new());
        let spec = &manifest.object["spec"];
        assert_eq!(spec["mode"], "Manage");
        assert_eq!(spec["scanning"], enhanced);
        assert_eq!(spec["policy"]["document"]["Statement"][0]["Sid"], "Other");
        assert_eq!(spec["pullTimeUpdateExclusions"], json!([pulls]));
        assert_eq!(spec["settings"]["blobMounting"], "DISABLED");
        assert_eq!(spec["settings"]["registryPolicyScope"], "V2");
        assert!(spec.get("signing").is_none(), "{spec}");
    }

    #[test]
    fn what_cannot_be_said_is_left_out_with_a_reason() {
        let mut seen = new();
        seen.insert(Part::BasicScanTypeVersion, Seen::Setting("CLAIR".into()));
        let nameless = json!({ "Effect": "Allow", "Principal": "*", "Action": "ecr:ReplicateImage" });
        seen.insert(Part::Policy, policy(&json!([nameless])));
        let manifest = compose(&seen, &registry(&json!({}))).unwrap();
        assert_eq!(manifest.left_out.len(), 2, "{:?}", manifest.left_out);
        assert!(
            manifest.left_out[0].starts_with("spec.policy is left out"),
            "{:?}",
            manifest.left_out
        );
        assert!(manifest.object["spec"].get("policy").is_none());
    }

    #[test]
    fn what_the_registry_names_already_is_left_to_it() {
        let mut seen = new();
        seen.insert(
            Part::Scanning,
            scanning(&json!({ "scanType": "ENHANCED", "rules": [] })),
        );
        let named = registry(&json!({ "scanning": { "scanType": "BASIC" } }));
        assert!(compose(&seen, &named).is_none());
    }
}
