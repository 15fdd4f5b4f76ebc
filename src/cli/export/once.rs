//! What a registry has once, as manifests: pull-through cache rules, creation templates, replication. Pure.

use std::collections::BTreeSet;

use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::compose::{Manifest, usable_tags};
use crate::{
    api::{PullThroughCacheRule, Registry, ReplicationConfig, RepositoryCreationTemplate},
    aws::{
        cache_rules::CacheRule,
        templates::{CreationTemplate, TemplateTerms},
    },
    controllers::replication::parts,
    document::replication::{Document, Mark, Rule, compose::foreign},
};

/// What was read.
pub(super) struct Once {
    pub cache_rules: Vec<CacheRule>,
    pub templates: Vec<CreationTemplate>,
    /// The replication configuration.
    pub replication: Value,
}

/// The manifests, and what is to be said of them.
pub(super) fn compose(once: &Once, registry: &Registry) -> (Vec<Manifest>, Vec<String>) {
    let mut manifests = Vec::new();
    let mut remarks = Vec::new();
    for rule in &once.cache_rules {
        let spec = cache_rule(rule, registry);
        match object::<PullThroughCacheRule>("PullThroughCacheRule", &rule.terms.prefix, &spec) {
            Ok(object) => manifests.push(Manifest::new(&object, Vec::new())),
            Err(why) => remarks.push(format!(
                "pull-through cache rule {} is left out: {why}",
                rule.terms.prefix
            )),
        }
    }
    for template in &once.templates {
        let mut left_out = Vec::new();
        let prefix = &template.terms.prefix;
        let spec = match template.unknown.as_slice() {
            [] => template_of(&template.terms, registry, &mut left_out),
            unknown => Err(format!("it has {}, which is not known", unknown.join(", "))),
        };
        let object =
            spec.and_then(|spec| object::<RepositoryCreationTemplate>("RepositoryCreationTemplate", prefix, &spec));
        match object {
            Ok(object) => manifests.push(Manifest::new(&object, left_out)),
            Err(why) => remarks.push(format!("creation template {prefix} is left out: {why}")),
        }
    }
    match replication(&once.replication, registry) {
        Ok(Some(manifest)) => manifests.push(manifest),
        Ok(None) => {}
        Err(why) => remarks.push(format!("the replication configuration is left out: {why}")),
    }
    (manifests, remarks)
}

/// An object of these words, as the apiserver would read it.
fn object<K: DeserializeOwned>(kind: &str, prefix: &str, spec: &Map<String, Value>) -> Result<K, String> {
    let name = prefix.to_ascii_lowercase().replace('/', ".").replace('_', "-");
    let name = name.trim_end_matches('.');
    let whole = json!({
        "apiVersion": "ecr-operator.dev/v1alpha1", "kind": kind,
        "metadata": { "name": name },
        "spec": spec,
    });
    serde_json::from_value(whole).map_err(|error| error.to_string())
}

/// The members that have a value.
fn given<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members
        .into_iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn cache_rule(rule: &CacheRule, registry: &Registry) -> Map<String, Value> {
    let terms = &rule.terms;
    given([
        ("registryRef", json!({ "name": registry.name_any() })),
        ("ecrRepositoryPrefix", json!(terms.prefix)),
        ("upstreamRegistryUrl", json!(terms.url)),
        ("upstreamRegistry", json!(terms.upstream_registry)),
        ("upstreamRepositoryPrefix", json!(terms.upstream_prefix)),
        ("credentialArn", json!(terms.credential_arn)),
        ("customRoleArn", json!(terms.custom_role_arn)),
        ("adoption", json!("Adopt")),
        ("deletionPolicy", json!("Retain")),
    ])
}

fn template_of(
    terms: &TemplateTerms,
    registry: &Registry,
    left_out: &mut Vec<String>,
) -> Result<Map<String, Value>, String> {
    let document = |text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => serde_json::from_str(text).map_err(|error| error.to_string()),
        None => Ok(Value::Null),
    };
    let mutability = terms.mutability.as_ref();
    let filters: Option<Vec<Value>> =
        mutability
            .filter(|mutability| !mutability.filters.is_empty())
            .map(|mutability| {
                let filters = mutability.filters.iter();
                filters
                    .map(|filter| json!({ "filterType": "WILDCARD", "filter": filter }))
                    .collect()
            });
    let encryption = terms.encryption.as_ref().map(|encryption| {
        let with_key = encryption.encryption_type != "AES256";
        Value::Object(given([
            ("encryptionType", json!(encryption.encryption_type)),
            (
                "kmsKey",
                json!(encryption.kms_key.as_ref().filter(|key| with_key && !key.is_empty())),
            ),
        ]))
    });
    let tags = usable_tags(&terms.tags.clone().unwrap_or_default(), left_out);
    Ok(given([
        ("registryRef", json!({ "name": registry.name_any() })),
        ("prefix", json!(terms.prefix)),
        ("appliedFor", json!(terms.applied_for)),
        ("description", json!(terms.description)),
        (
            "imageTagMutability",
            json!(mutability.map(|mutability| &mutability.value)),
        ),
        ("imageTagMutabilityExclusionFilters", json!(filters)),
        ("encryption", json!(encryption)),
        ("resourceTags", json!((!tags.0.is_empty()).then_some(tags))),
        ("repositoryPolicy", document(&terms.repository_policy)?),
        ("lifecyclePolicy", document(&terms.lifecycle_policy)?),
        ("customRoleArn", json!(terms.custom_role_arn)),
        ("adoption", json!("Adopt")),
        ("deletionPolicy", json!("Retain")),
    ]))
}

/// One object for the rules that no object has. A rule that says the same is nobody's any less: it stays when the object goes.
fn replication(value: &Value, registry: &Registry) -> Result<Option<Manifest>, String> {
    let document = Document::parse(value).map_err(|error| error.to_string())?;
    let status = registry.status.as_ref().and_then(|status| status.replication.as_ref());
    let written: BTreeSet<Mark> = status
        .iter()
        .flat_map(|marks| &marks.written)
        .map(|mark| Mark::recorded(mark))
        .collect();
    let mut left_out = Vec::new();
    let mut rules = Vec::new();
    for rule in foreign(&document, &written) {
        match sayable(rule) {
            Ok(said) => rules.push(said),
            Err(why) => left_out.push(format!("a rule is left out, and stays as it is: {why}: {}", rule.raw())),
        }
    }
    if rules.is_empty() {
        return match left_out.is_empty() {
            true => Ok(None),
            false => Err(left_out.join("; ")),
        };
    }
    let spec = given([
        ("registryRef", json!({ "name": registry.name_any() })),
        ("rules", Value::Array(rules)),
    ]);
    let object: ReplicationConfig = object("ReplicationConfig", &registry.name_any(), &spec)?;
    Ok(Some(Manifest::new(&object, left_out)))
}

/// The rule as a manifest says it.
fn sayable(rule: &Rule) -> Result<Value, String> {
    let meaning = rule.meaning().filter(|_| rule.is_plain());
    let meaning = meaning.ok_or("it says more than this version knows")?;
    if meaning.deletes {
        return Err("it replicates deletions, which needs spec.replication.allowDelete of the Registry".to_owned());
    }
    let said = parts::rule(meaning).ok_or("it does not fit into a manifest")?;
    serde_json::to_value(said).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::aws::{
        cache_rules::CacheRuleTerms,
        record::{Mutability, StoredEncryption},
    };

    fn registry() -> Registry {
        let spec = json!({ "region": "eu-west-1", "registryId": "111122223333" });
        Registry::new("main", serde_json::from_value(spec).unwrap())
    }

    fn nothing() -> Once {
        Once {
            cache_rules: Vec::new(),
            templates: Vec::new(),
            replication: json!({ "rules": [] }),
        }
    }

    fn exported(once: &Once) -> (Vec<Value>, Vec<String>) {
        let (manifests, remarks) = compose(once, &registry());
        (manifests.into_iter().map(|manifest| manifest.object).collect(), remarks)
    }

    fn template(overlay: impl FnOnce(&mut CreationTemplate)) -> Once {
        let mut template = CreationTemplate {
            created_at: Timestamp::UNIX_EPOCH,
            terms: TemplateTerms {
                prefix: "team/".into(),
                applied_for: vec!["REPLICATION".into()],
                description: None,
                encryption: Some(StoredEncryption {
                    encryption_type: "AES256".into(),
                    kms_key: None,
                }),
                tags: None,
                mutability: Some(Mutability::new("IMMUTABLE", [])),
                repository_policy: None,
                lifecycle_policy: None,
                custom_role_arn: None,
            },
            unknown: Vec::new(),
        };
        overlay(&mut template);
        Once {
            templates: vec![template],
            ..nothing()
        }
    }

    #[test]
    fn an_empty_registry_has_nothing_to_say() {
        assert_eq!(exported(&nothing()), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_rule_is_adopted_as_it_is_and_never_deleted() {
        let rule = CacheRule {
            created_at: Timestamp::UNIX_EPOCH,
            terms: CacheRuleTerms {
                prefix: "ROOT".into(),
                url: "public.ecr.aws".into(),
                upstream_registry: Some("ecr-public".into()),
                upstream_prefix: "ROOT".into(),
                credential_arn: None,
                custom_role_arn: None,
            },
        };
        let (objects, remarks) = exported(&Once {
            cache_rules: vec![rule],
            ..nothing()
        });
        assert_eq!(remarks, Vec::<String>::new());
        assert_eq!(objects[0]["metadata"]["name"], "root");
        assert_eq!(
            objects[0]["spec"],
            json!({
                "registryRef": { "name": "main" }, "ecrRepositoryPrefix": "ROOT", "upstreamRegistryUrl": "public.ecr.aws",
                "upstreamRegistry": "ecr-public", "upstreamRepositoryPrefix": "ROOT", "adoption": "Adopt",
                "deletionPolicy": "Retain",
            })
        );
    }

    #[test]
    fn a_template_with_what_nobody_here_knows_is_left_out() {
        let (objects, remarks) = exported(&template(|_| {}));
        assert_eq!((objects.len(), remarks.len()), (1, 0), "{remarks:?}");
        assert_eq!(objects[0]["metadata"]["name"], "team");
        let (objects, remarks) = exported(&template(|template| template.unknown = vec!["fancy".into()]));
        assert!(objects.is_empty() && remarks[0].contains("fancy"), "{remarks:?}");
    }

    #[test]
    fn rules_that_replicate_deletions_or_say_more_are_left_alone() {
        let to = |region: &str| json!([{ "region": region, "registryId": "111122223333" }]);
        let once = Once {
            replication: json!({ "rules": [
                { "destinations": to("us-east-1"), "repositoryFilters": [{ "filter": "team-a/", "filterType": "PREFIX_MATCH" }] },
                { "destinations": to("us-west-2"), "deleteReplication": { "enabled": true } },
                { "destinations": to("us-east-2"), "fancy": 1 },
            ] }),
            ..nothing()
        };
        let (manifests, remarks) = compose(&once, &registry());
        assert_eq!((manifests.len(), remarks.len()), (1, 0), "{remarks:?}");
        assert_eq!(manifests[0].left_out.len(), 2, "{:?}", manifests[0].left_out);
        let rules = &manifests[0].object["spec"]["rules"];
        assert_eq!(rules.as_array().map(Vec::len), Some(1), "{rules}");
        assert_eq!(rules[0]["destinations"], to("us-east-1"));
    }
}
