//! From what was read of a registry to manifests. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{
        LifecyclePolicy, OWNER_TAG, Registry, Repository,
        ecr::{Encryption, ExclusionFilter, ExclusionFilterType, ImageTagMutability, MAX_TAGS, Tags},
        lifecycle::{Cleanup, LifecyclePolicySpec, MOST_RULES},
        repository::{Adoption, DeletionPolicy, RegistryRef, RepositoryPolicy, RepositorySpec},
    },
    aws::record::{Mutability, Record, StoredEncryption},
    controllers::{
        access::{Grants, Request, Standing, access},
        repository::cleanup,
    },
    document::{lifecycle, policy},
};

/// The most repositories that one LifecyclePolicy names.
const NAMED: usize = 500;

/// The longest name of a Repository: it stands in the tag that says whose the repository is.
const LONGEST: usize = 128;

/// What was read of one repository.
pub(super) struct Found {
    pub record: Record,
    pub tags: BTreeMap<String, String>,
    pub policy: Option<String>,
    pub lifecycle: Option<String>,
}

/// Manifests, and what is to be said of them.
pub(super) struct Exported {
    /// What stands above the manifests.
    heading: String,
    manifests: Vec<Manifest>,
    /// What the reader has to know or do before they are applied.
    pub remarks: Vec<String>,
}

pub(super) struct Manifest {
    pub object: Value,
    /// What is to be known of it.
    remark: Option<&'static str>,
    /// What is left out, and why.
    pub left_out: Vec<String>,
}

/// Composes the manifests. `labels` are those of the namespace, `None` where it does not exist.
pub(super) fn compose(
    found: Vec<Found>,
    registry: &Registry,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> Exported {
    let (managed, found): (Vec<_>, Vec<_>) = found.into_iter().partition(|found| found.tags.contains_key(OWNER_TAG));
    let names = object_names(found.iter().map(|found| &found.record), namespace);
    let mut manifests = Vec::new();
    let mut refused = Vec::new();
    let mut cleanups = Cleanups::default();
    for (found, name) in found.iter().zip(names) {
        let mut left_out = Vec::new();
        let mut repository = repository(found, registry, &name, namespace, &mut left_out);
        match admits(&repository, registry, labels) {
            Ok(grants) => {
                if let Some(text) = &found.policy {
                    repository.spec.policy = policy_of(text, registry, &grants)
                        .inspect_err(|why| {
                            left_out.push(format!("spec.policy is left out, so its policy is not managed: {why}"));
                        })
                        .ok();
                }
            }
            Err(why) => refused.push((found.record.name.clone(), why)),
        }
        if let Some(text) = &found.lifecycle
            && let Err(why) = cleanups.add(text, &found.record, &name)
        {
            left_out.push(format!("its lifecycle policy is left out, so it is not managed: {why}"));
        }
        manifests.push(Manifest::new(&repository, left_out));
    }
    let mut remarks = Vec::new();
    if let Some((name, why)) = refused.first() {
        remarks.push(format!(
            "{} of the {} repositories would be refused with reason NotAllowed, such as {name}: {why}. Add a tenant for namespace {namespace} to Registry {}",
            refused.len(),
            found.len(),
            registry.name_any(),
        ));
    }
    if !managed.is_empty() {
        remarks.push(format!(
            "{} repositories are managed already and left out, such as {}",
            managed.len(),
            managed
                .first()
                .map(|found| found.record.name.as_str())
                .unwrap_or_default()
        ));
    }
    let repositories = manifests.len();
    manifests.extend(cleanups.manifests(namespace));
    Exported {
        heading: format!(
            "# Registry {} (account {} in {}): {repositories} repositories.\n\
             # Applied, these take over what is there as it is. spec.adoption is needed until every Repository is Ready.\n",
            registry.name_any(),
            registry.spec.registry_id,
            registry.spec.region,
        ),
        manifests,
        remarks,
    }
}

impl Exported {
    /// With what the registry has once.
    pub(super) fn with(mut self, (manifests, remarks): (Vec<Manifest>, Vec<String>)) -> Self {
        self.manifests.extend(manifests);
        self.remarks.extend(remarks);
        self
    }

    /// What is left out of how many manifests.
    pub(super) fn incomplete(&self) -> Option<String> {
        let incomplete = self
            .manifests
            .iter()
            .filter(|manifest| !manifest.left_out.is_empty())
            .count();
        (incomplete > 0)
            .then(|| format!("something is left out of {incomplete} manifests; the comments above them say what"))
    }

    /// As YAML, one document an object.
    pub(super) fn text(&self) -> Result<String, serde_yaml_ng::Error> {
        let mut text = self.heading.clone();
        for manifest in &self.manifests {
            text += "---\n";
            let left_out = manifest.left_out.iter().map(String::as_str);
            for comment in manifest.remark.into_iter().chain(left_out) {
                // The words of others must not end the comment.
                let comment = crate::terminal::table::plain(comment);
                // Writing to a String cannot fail.
                let _ = writeln!(text, "# {comment}");
            }
            text += &serde_yaml_ng::to_string(&manifest.object)?;
        }
        Ok(text)
    }
}

impl Manifest {
    pub(super) fn new(object: &(impl Resource + Serialize), left_out: Vec<String>) -> Self {
        // Of types that only have keys of text, which always become JSON.
        let mut object = serde_json::to_value(object).unwrap_or_default();
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
            && spec.get("suspend") == Some(&Value::Bool(false))
        {
            spec.remove("suspend");
        }
        Self {
            object,
            remark: None,
            left_out,
        }
    }
}

/// The Repository without its policy.
fn repository(
    found: &Found,
    registry: &Registry,
    name: &str,
    namespace: &str,
    left_out: &mut Vec<String>,
) -> Repository {
    let record = &found.record;
    let mutability = mutability(&record.mutability);
    if mutability.is_none() {
        left_out.push(format!(
            "spec.imageTagMutability is left out: {} is not known",
            record.mutability
        ));
    }
    let (image_tag_mutability, image_tag_mutability_exclusion_filters) = mutability.unzip();
    let encryption = encryption(&record.encryption);
    if encryption.is_none() {
        left_out.push(format!(
            "spec.encryption is left out: {} is not known",
            record.encryption.encryption_type
        ));
    }
    let tags = usable_tags(&found.tags, left_out);
    let too_many = tags.0.len() > MAX_TAGS;
    if too_many {
        left_out.push(format!(
            "spec.tags are left out: there are {}, and {MAX_TAGS} are the most; take one off, for the tag that says whose the repository is",
            tags.0.len()
        ));
    }
    let default_name = format!("{namespace}/{name}");
    let mut repository = Repository::new(
        name,
        RepositorySpec {
            registry_ref: RegistryRef {
                name: registry.name_any(),
            },
            replica_registry_refs: Vec::new(),
            name: (record.name.as_str() != default_name).then(|| record.name.clone()),
            image_tag_mutability,
            image_tag_mutability_exclusion_filters: image_tag_mutability_exclusion_filters.flatten(),
            encryption,
            scan_on_push: Some(record.scan_on_push),
            policy: None,
            tags: (!tags.0.is_empty() && !too_many).then_some(tags),
            adoption: Adoption::Adopt,
            deletion_policy: DeletionPolicy::Retain,
            suspend: false,
        },
    );
    repository.metadata.namespace = Some(namespace.to_owned());
    repository
}

/// The tags that a manifest may have.
pub(super) fn usable_tags(tags: &BTreeMap<String, String>, left_out: &mut Vec<String>) -> Tags {
    let mut tags = Tags(tags.clone());
    while let Some(key) = tags.reserved().map(str::to_owned) {
        tags.0.remove(&key);
        left_out.push(format!(
            "the tag {key} is left out: its key is the operator's or AWS's own"
        ));
    }
    tags
}

/// In the terms of the API; `None` where ECR says something that they do not have.
fn mutability(stored: &Mutability) -> Option<(ImageTagMutability, Option<Vec<ExclusionFilter>>)> {
    let value: ImageTagMutability = serde_json::from_value(Value::String(stored.value.clone())).ok()?;
    let filters = stored
        .filters
        .iter()
        .map(|filter| ExclusionFilter {
            filter_type: ExclusionFilterType::Wildcard,
            filter: filter.clone(),
        })
        .collect::<Vec<_>>();
    (value.takes_filters() != filters.is_empty()).then(|| (value, value.takes_filters().then_some(filters)))
}

fn encryption(stored: &StoredEncryption) -> Option<Encryption> {
    let encryption_type: crate::api::ecr::EncryptionType =
        serde_json::from_value(Value::String(stored.encryption_type.clone())).ok()?;
    let with_key = encryption_type != crate::api::ecr::EncryptionType::Aes256;
    Some(Encryption {
        encryption_type,
        kms_key: stored.kms_key.clone().filter(|_| with_key),
    })
}

/// What the Registry lets the Repository do, or why it does not let it in.
fn admits(
    repository: &Repository,
    registry: &Registry,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<Grants, String> {
    let name = repository.repository_name().map_err(|error| error.to_string())?;
    let request = Request::of_repository(repository, &name, Some(registry), labels);
    // Whether it is managed or only observed has no bearing on what may be said.
    let access = access(&request, Some(((), Standing::Observing)));
    access
        .map(|access| access.grants())
        .map_err(|denied| denied.verdict().to_string())
}

/// The repository's policy as a manifest has it, or why a manifest cannot have it.
fn policy_of(text: &str, registry: &Registry, grants: &Grants) -> Result<RepositoryPolicy, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let document = policy::Policy::from_value(&value).map_err(|error| error.to_string())?;
    let stored = policy::Policy::parse(text).map_err(|error| error.to_string())?;
    let allowed = policy::Allowed {
        own_account: registry.spec.registry_id.as_str(),
        partition: registry.spec.region.partition(),
        principals: grants.principals.as_deref(),
        organization_ids: &grants.organization_ids,
    };
    if let Some(principal) = policy::outside(document.statements(), &allowed) {
        return Err(format!(
            "it names {principal}, which no tenant of the Registry lets this namespace name"
        ));
    }
    match value {
        Value::Object(map) if document == stored => Ok(RepositoryPolicy {
            access: None,
            document: Some(map),
        }),
        _ => Err("it would not mean the same in a manifest".to_owned()),
    }
}

/// The lifecycle policies, those that do the same together.
#[derive(Default)]
struct Cleanups(BTreeMap<String, Group>);

struct Group {
    policy: lifecycle::Policy,
    members: Vec<Member>,
}

struct Member {
    object: String,
    repository: crate::api::names::RepositoryName,
}

impl Cleanups {
    fn add(&mut self, text: &str, record: &Record, object: &str) -> Result<(), String> {
        let policy = lifecycle::Policy::parse(text).map_err(|error| error.to_string())?;
        policy
            .check(lifecycle::MOST_RULES - MOST_RULES)
            .map_err(|error| error.to_string())?;
        let group = self.0.entry(cleanup::mark(&policy)).or_insert_with(|| Group {
            policy,
            members: Vec::new(),
        });
        group.members.push(Member {
            object: object.to_owned(),
            repository: record.name.clone(),
        });
        Ok(())
    }

    fn manifests(self, namespace: &str) -> Vec<Manifest> {
        let mut manifests = Vec::new();
        for (mark, group) in self.0 {
            let chunks = group.members.chunks(NAMED);
            let several = chunks.len() > 1;
            for (number, members) in chunks.enumerate() {
                let name = match members {
                    [only] if !several => only.object.clone(),
                    _ => {
                        let of_chunk = if several {
                            format!("-{}", number + 1)
                        } else {
                            String::new()
                        };
                        format!("shared-{}{of_chunk}", mark.chars().take(8).collect::<String>())
                    }
                };
                manifests.extend(manifest(&name, namespace, &group.policy, members));
            }
        }
        manifests.sort_by(|a, b| name_of(&a.object).cmp(name_of(&b.object)));
        manifests
    }
}

fn name_of(object: &Value) -> &str {
    object
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn manifest(name: &str, namespace: &str, policy: &lifecycle::Policy, members: &[Member]) -> Option<Manifest> {
    let document: Value = serde_json::from_str(&policy.to_text()).ok()?;
    // Whatever the rules of a policy that was checked are, they have the form of the API.
    let cleanup: Cleanup = serde_json::from_value(serde_json::json!({
        "rules": document["rules"],
        "protectInUse": false,
    }))
    .ok()?;
    let mut object = LifecyclePolicy::new(
        name,
        LifecyclePolicySpec {
            repository_selector: None,
            repository_names: Some(members.iter().map(|member| member.repository.clone()).collect()),
            cleanup,
        },
    );
    object.metadata.namespace = Some(namespace.to_owned());
    let remark =
        "protectInUse is false because nothing keeps images in use now; without it, rules that do are put before these";
    Some(Manifest {
        remark: Some(remark),
        ..Manifest::new(&object, Vec::new())
    })
}

/// The names of the objects, in the order of the records. They depend on the repositories' names alone, so that another
/// export gives the same ones.
fn object_names<'r>(records: impl Iterator<Item = &'r Record>, namespace: &str) -> Vec<String> {
    let candidates: Vec<(String, &str)> = records
        .map(|record| (object_name(record.name.as_str(), namespace), record.name.as_str()))
        .collect();
    let mut once = BTreeSet::new();
    let twice: BTreeSet<String> = candidates
        .iter()
        .filter(|(name, _)| !once.insert(name.clone()))
        .map(|(name, _)| name.clone())
        .collect();
    candidates
        .into_iter()
        .map(
            |(name, repository)| match twice.contains(&name) || name.len() > LONGEST {
                true => with_hash(&name, repository),
                false => name,
            },
        )
        .collect()
}

/// What of a repository's name is left below the namespace's, as the name of an object.
fn object_name(repository: &str, namespace: &str) -> String {
    let below = repository
        .strip_prefix(namespace)
        .and_then(|rest| rest.strip_prefix('/'));
    below.unwrap_or(repository).replace('/', ".").replace('_', "-")
}

/// A name that another repository would have too, or that is too long, made distinct.
fn with_hash(name: &str, repository: &str) -> String {
    let mut hash = crate::digest::short(repository);
    hash.truncate(8);
    let mut kept: String = name.chars().take(LONGEST - hash.len() - 1).collect();
    kept.truncate(kept.trim_end_matches(['-', '.']).len());
    format!("{kept}-{hash}")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;

    const RULES: &str = r#"{"rules":[{"rulePriority":7,"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":100},"action":{"type":"expire"}}]}"#;

    fn registry() -> Registry {
        let spec = json!({
            "region": "eu-west-1",
            "registryId": "111122223333",
            "tenants": [{ "namespaceSelector": {}, "repositoryPrefixes": ["*"], "may": ["Manage"] }],
        });
        Registry::new("main", serde_json::from_value(spec).unwrap())
    }

    fn found(name: &str) -> Found {
        Found {
            record: Record {
                name: name.parse().unwrap(),
                arn: format!("arn:aws:ecr:eu-west-1:111122223333:repository/{name}"),
                uri: String::new(),
                registry_id: "111122223333".into(),
                created_at: Timestamp::UNIX_EPOCH,
                mutability: Mutability::new("MUTABLE", []),
                scan_on_push: false,
                encryption: StoredEncryption {
                    encryption_type: "AES256".into(),
                    kms_key: Some("arn:of:no:interest".into()),
                },
            },
            tags: BTreeMap::new(),
            policy: None,
            lifecycle: None,
        }
    }

    fn exported(found: Vec<Found>) -> Exported {
        compose(found, &registry(), "team-a", Some(&BTreeMap::new()))
    }

    fn objects(found: Vec<Found>) -> Vec<Value> {
        exported(found)
            .manifests
            .into_iter()
            .map(|manifest| manifest.object)
            .collect()
    }

    #[test]
    fn a_repository_is_taken_over_as_it_is_and_never_deleted() {
        let mut web = found("team-a/web");
        web.tags = BTreeMap::from([("team".into(), "a".into())]);
        web.record.mutability = Mutability::new("IMMUTABLE_WITH_EXCLUSION", ["dev-*".into()]);
        assert_eq!(
            objects(vec![web]),
            [json!({
                "apiVersion": "ecr-operator.dev/v1alpha1",
                "kind": "Repository",
                "metadata": { "name": "web", "namespace": "team-a" },
                "spec": {
                    "registryRef": { "name": "main" },
                    "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
                    "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "dev-*" }],
                    "encryption": { "encryptionType": "AES256" },
                    "scanOnPush": false,
                    "tags": { "team": "a" },
                    "adoption": "Adopt",
                    "deletionPolicy": "Retain",
                },
            })]
        );
    }

    #[test]
    fn objects_have_names_of_their_own_that_do_not_change_from_one_export_to_the_next() {
        let long = "a".repeat(200);
        let all = [
            "x/y_z",
            "team-a/web",
            "team-a/web/api",
            "x/y-z",
            "x/y.z",
            "x.y/z",
            &long,
        ];
        let names = |list: &[&str]| -> BTreeMap<String, String> {
            let found = list.iter().map(|name| found(name)).collect();
            objects(found)
                .iter()
                .zip(list)
                .map(|(object, repository)| ((*repository).to_owned(), name_of(object).to_owned()))
                .collect()
        };
        let given = names(&all);
        assert_eq!(given["team-a/web"], "web");
        assert_eq!(given["team-a/web/api"], "web.api");
        let distinct: BTreeSet<&String> = given.values().collect();
        assert_eq!(distinct.len(), all.len(), "{given:?}");
        assert!(given.values().all(|name| name.len() <= LONGEST), "{given:?}");
        let mut reversed = all;
        reversed.reverse();
        assert_eq!(names(&reversed), given);
    }

    #[test]
    fn policies_that_do_the_same_become_one_and_say_nothing_new() {
        let with = |name: &str, text: &str| Found {
            lifecycle: Some(text.into()),
            ..found(name)
        };
        let renumbered = RULES.replace("\"rulePriority\":7", "\"rulePriority\":1");
        let other = RULES.replace("100", "5");
        let all = objects(vec![with("a/b", RULES), with("c/d", &renumbered), with("e/f", &other)]);
        let policies: Vec<&Value> = all
            .iter()
            .filter(|object| object["kind"] == "LifecyclePolicy")
            .collect();
        assert_eq!(policies.len(), 2, "{policies:?}");
        let shared = policies
            .iter()
            .find(|policy| name_of(policy).starts_with("shared-"))
            .expect("the one that two share");
        assert_eq!(shared["spec"]["repositoryNames"], json!(["a/b", "c/d"]));
        assert_eq!(shared["spec"]["protectInUse"], false);
        let object: LifecyclePolicy = serde_json::from_value((*shared).clone()).unwrap();
        let written = serde_json::to_value(&object.spec.cleanup.rules).unwrap();
        let written = lifecycle::Policy::from_value(&json!({ "rules": written })).unwrap();
        assert!(written.means_the_same(&lifecycle::Policy::parse(RULES).unwrap()));
    }

    #[test]
    fn more_repositories_than_a_policy_may_name_have_two() {
        let all = (0..501)
            .map(|number| Found {
                lifecycle: Some(RULES.into()),
                ..found(&format!("a/r{number}"))
            })
            .collect();
        let sizes: Vec<usize> = objects(all)
            .iter()
            .filter_map(|object| object["spec"]["repositoryNames"].as_array().map(Vec::len))
            .collect();
        assert_eq!(sizes, [500, 1]);
    }

    #[test]
    fn what_a_manifest_cannot_say_is_left_out_with_a_comment() {
        let mut odd = found("team-a/odd");
        odd.record.mutability = Mutability::new("WRITE_ONCE", []);
        odd.record.encryption.encryption_type = "ROT13".into();
        odd.tags = BTreeMap::from([("ecr-operator.dev/x\n---".into(), "y".into())]);
        odd.policy = Some(r#"{"Version":"2012-10-17","Statement":[{"Sid":"new statement","Effect":"Allow","Principal":"*","Action":"ecr:ListImages"}]}"#.into());
        odd.lifecycle = Some(RULES.replace("countNumber", "countNumbers"));
        let exported = exported(vec![odd]);
        let [manifest] = &exported.manifests[..] else {
            panic!("one manifest")
        };
        assert_eq!(manifest.left_out.len(), 5, "{:?}", manifest.left_out);
        for left_out in ["imageTagMutability", "encryption", "tags", "policy"] {
            assert!(manifest.object["spec"].get(left_out).is_none(), "{}", manifest.object);
        }
        let text = exported.text().unwrap();
        assert_eq!(text.matches("\n---\n").count(), 1, "nothing ends a comment: {text}");
        assert!(
            exported
                .incomplete()
                .is_some_and(|told| told.contains("left out of 1 manifests"))
        );
    }

    #[test]
    fn a_policy_that_a_tenant_may_have_is_a_document() {
        let mut web = found("team-a/web");
        let text = r#"{"Version":"2012-10-17","Statement":[{"Sid":"x","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"ecr:ListImages"}]}"#;
        web.policy = Some(text.into());
        let all = objects(vec![web]);
        let document: Value = serde_json::from_str(text).unwrap();
        assert_eq!(all[0]["spec"]["policy"], json!({ "document": document }));
    }

    #[test]
    fn what_is_managed_or_would_be_refused_is_told() {
        let mut managed = found("team-a/managed");
        managed.tags = BTreeMap::from([(OWNER_TAG.into(), "prod/team-a/managed".into())]);
        let mut narrow = registry();
        narrow.spec.tenants[0].repository_prefixes = vec!["team-a/".parse().unwrap()];
        let all = vec![managed, found("team-b/web")];
        let exported = compose(all, &narrow, "team-a", Some(&BTreeMap::new()));
        assert_eq!(exported.manifests.len(), 1);
        assert!(exported.remarks[0].contains("team-b/web"), "{:?}", exported.remarks);
        assert!(exported.remarks[1].contains("team-a/managed"), "{:?}", exported.remarks);
    }
}
