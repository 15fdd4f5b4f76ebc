//! Reads manifests from files.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Resource,
    api::{PartialObjectMeta, PartialObjectMetaExt as _},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    api::{
        ClusterLifecyclePolicy, GROUP, ImagePromotion, LifecyclePolicy, PullSecret, PullThroughCacheRule, Registry,
        ReplicationConfig, Repository, RepositoryCreationTemplate,
    },
    control::driven::Driven,
};

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub registries: Vec<Registry>,
    pub repositories: Vec<Repository>,
    pub promotions: Vec<ImagePromotion>,
    pub lifecycle_policies: Vec<LifecyclePolicy>,
    pub cluster_lifecycle_policies: Vec<ClusterLifecyclePolicy>,
    pub cache_rules: Vec<PullThroughCacheRule>,
    pub templates: Vec<RepositoryCreationTemplate>,
    pub pull_secrets: Vec<PullSecret>,
    pub replication_configs: Vec<ReplicationConfig>,
    pub namespaces: Vec<PartialObjectMeta<Namespace>>,
}

impl Manifests {
    /// Reads every manifest; objects of other kinds are passed over.
    pub(super) fn read(files: &[PathBuf], namespace: &str) -> Result<Self, String> {
        let mut manifests = Self::default();
        for file in files {
            for (source, text) in texts(file)? {
                for document in serde_yaml_ng::Deserializer::from_str(&text) {
                    let value = <Value as serde::Deserialize>::deserialize(document)
                        .map_err(|error| format!("{source}: not valid YAML or JSON: {error}"))?;
                    manifests.take(&value, &source, namespace)?;
                }
            }
        }
        let empty = manifests.registries.is_empty()
            && manifests.repositories.is_empty()
            && manifests.promotions.is_empty()
            && manifests.lifecycle_policies.is_empty()
            && manifests.cluster_lifecycle_policies.is_empty()
            && manifests.cache_rules.is_empty()
            && manifests.templates.is_empty()
            && manifests.pull_secrets.is_empty()
            && manifests.replication_configs.is_empty();
        if empty {
            return Err(format!("the files hold no object of the group {GROUP}"));
        }
        Ok(manifests)
    }

    fn take(&mut self, value: &Value, source: &str, namespace: &str) -> Result<(), String> {
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        if kind == "List" {
            let items = value
                .get("items")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            return items.iter().try_for_each(|item| self.take(item, source, namespace));
        }
        let expected = Registry::api_version(&());
        match kind.as_str() {
            "Registry" if api_version == expected => self.registries.push(parse(value, source)?),
            "Repository" if api_version == expected => {
                let mut repository: Repository = parse(value, source)?;
                repository
                    .metadata
                    .namespace
                    .get_or_insert_with(|| namespace.to_owned());
                self.repositories.push(repository);
            }
            "ImagePromotion" if api_version == expected => {
                let mut promotion: ImagePromotion = parse(value, source)?;
                promotion.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
                self.promotions.push(promotion);
            }
            "LifecyclePolicy" if api_version == expected => {
                let mut policy: LifecyclePolicy = parse(value, source)?;
                policy.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
                self.lifecycle_policies.push(policy);
            }
            "PullSecret" if api_version == expected => {
                let mut object: PullSecret = parse(value, source)?;
                object.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
                self.pull_secrets.push(object);
            }
            "ClusterLifecyclePolicy" if api_version == expected => {
                self.cluster_lifecycle_policies.push(parse(value, source)?);
            }
            "PullThroughCacheRule" if api_version == expected => self.cache_rules.push(parse(value, source)?),
            "RepositoryCreationTemplate" if api_version == expected => self.templates.push(parse(value, source)?),
            "ReplicationConfig" if api_version == expected => {
                self.replication_configs.push(parse(value, source)?);
            }
            "Namespace" if api_version == "v1" => {
                let mut meta = parse::<Namespace>(value, source)?.metadata;
                // As the apiserver would label it.
                let name = meta.name.clone().unwrap_or_default();
                meta.labels
                    .get_or_insert_default()
                    .insert("kubernetes.io/metadata.name".into(), name);
                self.namespaces.push(meta.into_response_partial());
            }
            _ if api_version.split('/').next() == Some(GROUP) => {
                return Err(format!(
                    "{source}: {api_version} {kind} is not a kind of this version of the operator"
                ));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Parses an object, strictly: a field that would be dropped is an error, as it is with `kubectl apply`.
fn parse<K: DeserializeOwned + Serialize>(value: &Value, source: &str) -> Result<K, String> {
    let name = value
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(format!("{source}: a {kind} has no metadata.name"));
    }
    let object: K =
        serde_json::from_value(value.clone()).map_err(|error| format!("{source}: {kind} {name}: {error}"))?;
    let kept = serde_json::to_value(&object).map_err(|error| format!("{source}: {kind} {name}: {error}"))?;
    let spec = |value: &Value| value.get("spec").cloned().unwrap_or_default();
    match dropped(&spec(value), &spec(&kept), "spec") {
        None => Ok(object),
        Some(field) => Err(format!("{source}: {kind} {name}: unknown field {field}")),
    }
}

/// The path of the first key that is in `given` and not in `kept`.
fn dropped(given: &Value, kept: &Value, path: &str) -> Option<String> {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => given.iter().find_map(|(key, value)| {
            let path = format!("{path}.{key}");
            match kept.get(key) {
                Some(kept) => dropped(value, kept, &path),
                // An absent field and an empty list or null are one to our types.
                None if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => None,
                None => Some(path),
            }
        }),
        (Value::Array(given), Value::Array(kept)) => given
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(index, (given, kept))| dropped(given, kept, &format!("{path}[{index}]"))),
        _ => None,
    }
}

/// The fields of the spec that the schema lets nobody change.
fn fixed(kind: &str) -> &'static [&'static str] {
    match kind {
        "PullThroughCacheRule" => &["registryRef", "ecrRepositoryPrefix"],
        "RepositoryCreationTemplate" => &["registryRef", "prefix"],
        "PullSecret" => &["secretName"],
        _ => &["region", "registryId", "registryRef", "name", "encryption"],
    }
}

/// The object as it would stand in the cluster after the file was applied: the file's spec, labels and annotations, and
/// everything else of the object that exists. Refuses what the schema would refuse to change.
pub(super) fn onto<K: Driven>(file: &K, existing: &K) -> Result<K, String> {
    let json = |object: &K| serde_json::to_value(object).map_err(|error| error.to_string());
    let (new, mut old) = (json(file)?, json(existing)?);
    for field in fixed(K::CALLED) {
        let at = format!("/spec/{field}");
        if new.pointer(&at) != old.pointer(&at) {
            return Err(format!(
                "spec.{field} cannot be changed, added or removed; the apiserver will refuse the manifest"
            ));
        }
    }
    if let (Some(object), Some(spec)) = (old.as_object_mut(), new.get("spec")) {
        object.insert("spec".into(), spec.clone());
    }
    let mut merged: K = serde_json::from_value(old).map_err(|error| error.to_string())?;
    let meta = file.meta();
    merged
        .meta_mut()
        .labels
        .get_or_insert_default()
        .extend(meta.labels.clone().unwrap_or_default());
    merged
        .meta_mut()
        .annotations
        .get_or_insert_default()
        .extend(meta.annotations.clone().unwrap_or_default());
    Ok(merged)
}

/// The texts of a file, of every manifest below a directory in the order of their names, or of standard input.
fn texts(path: &Path) -> Result<Vec<(String, String)>, String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| format!("standard input could not be read: {error}"))?;
        return Ok(vec![("standard input".into(), text)]);
    }
    let unreadable = |error: std::io::Error| format!("{} could not be read: {error}", path.display());
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![(
            path.display().to_string(),
            fs::read_to_string(path).map_err(unreadable)?,
        )]);
    }
    let entries = fs::read_dir(path)
        .map_err(unreadable)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(unreadable)?;
    let mut inside: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    inside.sort_unstable();
    let mut found = Vec::new();
    for path in inside {
        let manifest = path
            .extension()
            .is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if manifest || path.is_dir() {
            found.extend(texts(&path)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifests, String> {
        let mut manifests = Manifests::default();
        for document in serde_yaml_ng::Deserializer::from_str(text) {
            manifests.take(
                &<Value as serde::Deserialize>::deserialize(document).unwrap(),
                "test",
                "default",
            )?;
        }
        Ok(manifests)
    }

    const REPOSITORY: &str = "apiVersion: ecr-operator.dev/v1alpha1\nkind: Repository\nmetadata: {name: web}\n";

    #[test]
    fn a_field_that_would_be_dropped_is_an_error_with_its_path() {
        let error = read(&format!(
            "{REPOSITORY}spec: {{registryRef: {{name: main}}, scanOnPsuh: true}}"
        ))
        .unwrap_err();
        assert!(error.contains("unknown field spec.scanOnPsuh"), "{error}");
        let nested = "spec: {registryRef: {name: main}, policy: {access: {pull: {principal: []}, pulls: {}}}}";
        let error = read(&format!("{REPOSITORY}{nested}")).unwrap_err();
        assert!(error.contains("spec.policy.access.pulls"), "{error}");
    }

    #[test]
    fn lists_and_other_kinds_are_understood_and_namespaces_are_filled_in() {
        let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: ecr-operator.dev/v1alpha1, kind: Repository, metadata: {name: web}, spec: {registryRef: {name: main}}}\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: x}}\n- {apiVersion: v1, kind: Namespace, metadata: {name: team-a}}\n";
        let manifests = read(list).unwrap();
        assert_eq!(manifests.repositories[0].metadata.namespace.as_deref(), Some("default"));
        let labels = manifests.namespaces[0].metadata.labels.clone().unwrap();
        assert_eq!(labels["kubernetes.io/metadata.name"], "team-a");
    }

    #[test]
    fn an_unknown_kind_of_our_group_is_an_error() {
        assert!(read("apiVersion: ecr-operator.dev/v1\nkind: Repository\nmetadata: {name: web}\n").is_err());
        assert!(read("apiVersion: ecr-operator.dev/v1alpha1\nkind: Repo\nmetadata: {name: web}\n").is_err());
    }
}
