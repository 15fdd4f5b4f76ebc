//! Custom resource definitions as files.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::GenerateError;

/// The definition without `nullable`: an optional field of a Rust type becomes nullable, and an explicit null would then
/// count as given, which is neither a value nor its absence. Without it, the apiserver drops nulls.
pub(super) fn finished(crd: &CustomResourceDefinition) -> Result<CustomResourceDefinition, GenerateError> {
    let mut value = serde_json::to_value(crd)?;
    drop_null(&mut value);
    Ok(serde_json::from_value(value)?)
}

fn drop_null(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("nullable") == Some(&Value::Bool(true)) {
                map.remove("nullable");
            }
            if let Some(Value::Array(values)) = map.get_mut("enum") {
                values.retain(|value| !value.is_null());
            }
            map.values_mut().for_each(drop_null);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_null),
        _ => {}
    }
}

/// A definition as YAML.
pub(super) fn yaml(crd: &CustomResourceDefinition) -> Result<String, GenerateError> {
    Ok(serde_yaml_ng::to_string(crd)?)
}

/// The definition as a template of the chart. A template, since Helm never updates what lies in `crds/`; kept when the
/// chart is uninstalled, since with the definition every object of its kind would go.
pub(super) fn template(yaml: &str) -> String {
    let annotated = yaml.replacen(
        "metadata:\n",
        "metadata:\n  annotations:\n    helm.sh/resource-policy: keep\n",
        1,
    );
    format!(
        "{{{{- if .Values.crds.install }}}}\n{}{{{{- end }}}}\n",
        // Text in descriptions must reach the cluster as it is.
        annotated.replace("{{", "{{ \"{{\" }}")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `visit` for every property with its path.
    fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
        for (name, property) in schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let path = format!("{path}.{name}");
            visit(&path, property);
            // These are Kubernetes' own types, documented there.
            if !["namespaceSelector", "repositorySelector", "selector", "conditions"].contains(&name.as_str()) {
                walk(property, &path, visit);
            }
        }
        if let Some(items) = schema.get("items") {
            walk(items, &format!("{path}[]"), visit);
        }
    }

    fn walk_all(mut visit: impl FnMut(&str, &Value)) {
        for crd in super::super::definitions().unwrap() {
            let crd = serde_json::to_value(crd).unwrap();
            let schema = crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap();
            let kind = crd.pointer("/spec/names/kind").unwrap().as_str().unwrap();
            walk(schema, kind, &mut visit);
        }
    }

    #[test]
    fn every_property_says_what_it_means_and_what_happens_without_it() {
        walk_all(|path, property| {
            let description = property.get("description").and_then(Value::as_str).unwrap_or_default();
            if ["spec", "status"]
                .iter()
                .any(|part| path.split('.').nth(1) == Some(part) && path.matches('.').count() == 1)
            {
                return;
            }
            assert!(description.len() >= 15, "{path} has no description");
            assert!(
                description.contains("Default") || description.contains("Required") || path.ends_with("conditions"),
                "{path} says neither 'Required' nor 'Default': {description}"
            );
        });
    }

    #[test]
    fn every_list_string_and_map_has_a_bound() {
        walk_all(|path, property| {
            let has = |key: &str| property.get(key).is_some();
            let bounded = match property.get("type").and_then(Value::as_str) {
                Some("array") => has("maxItems"),
                Some("string") => has("maxLength") || has("enum") || has("format"),
                Some("object") => !has("additionalProperties") || has("maxProperties"),
                _ => true,
            };
            assert!(bounded, "{path} has no bound: {property}");
        });
    }

    #[test]
    fn nothing_is_nullable() {
        assert!(!super::super::crds().unwrap().contains("nullable"));
    }

    #[test]
    fn a_template_keeps_text_that_looks_like_one() {
        let template = super::template("metadata:\n  name: x\ndescription: '{{namespace}}'\n");
        assert!(template.contains("'{{ \"{{\" }}namespace}}'"), "{template}");
        assert!(template.contains("helm.sh/resource-policy: keep"));
    }
}
