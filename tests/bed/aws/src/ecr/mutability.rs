//! Tag mutability with its exclusion filters.

use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{optional, required, unsatisfied};
use super::{Answer, Registry, names};

const FILTERS: &str = "imageTagMutabilityExclusionFilters";

impl Registry {
    pub(super) fn put_image_tag_mutability(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        required(body, "imageTagMutability")?;
        let (mutability, filters) = requested(body)?;
        self.with_repository(name, |repository| {
            repository.image_tag_mutability.clone_from(&mutability);
            self.extra.lock().filters.insert(name.to_owned(), filters.clone());
            Ok(())
        })?;
        let mut answer = json!({
            "registryId": self.account,
            "repositoryName": name,
            "imageTagMutability": mutability,
        });
        if !filters.is_empty() {
            answer[FILTERS] = json!(filters);
        }
        Ok(AwsResponse::ok_json(answer))
    }
}

/// The mutability that a request sets, with the filters that have to go with it.
pub(super) fn requested(body: &Value) -> Result<(String, Vec<Value>), AwsServiceError> {
    let mutability = optional(body, "imageTagMutability").unwrap_or("MUTABLE");
    let filters = match body.get(FILTERS) {
        None | Some(Value::Null) => Vec::new(),
        Some(filters) => checked(filters)?,
    };
    match (mutability, filters.len()) {
        ("MUTABLE" | "IMMUTABLE", 0) | ("MUTABLE_WITH_EXCLUSION" | "IMMUTABLE_WITH_EXCLUSION", 1..=5) => {
            Ok((mutability.to_owned(), filters))
        }
        ("MUTABLE" | "IMMUTABLE", _) => Err(unsatisfied(
            FILTERS,
            "Exclusion filters can only be used with MUTABLE_WITH_EXCLUSION or IMMUTABLE_WITH_EXCLUSION",
        )),
        ("MUTABLE_WITH_EXCLUSION" | "IMMUTABLE_WITH_EXCLUSION", _) => {
            Err(unsatisfied(FILTERS, "Member must have between 1 and 5 filters"))
        }
        _ => Err(unsatisfied(
            "imageTagMutability",
            "Member must satisfy enum value set: [IMMUTABLE, IMMUTABLE_WITH_EXCLUSION, MUTABLE, \
             MUTABLE_WITH_EXCLUSION]",
        )),
    }
}

fn checked(filters: &Value) -> Result<Vec<Value>, AwsServiceError> {
    let filters = filters
        .as_array()
        .ok_or_else(|| unsatisfied(FILTERS, "Member must be a list"))?;
    filters
        .iter()
        .map(|filter| {
            let (kind, text) = (required(filter, "filterType")?, required(filter, "filter")?);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._*-".contains(&byte);
            if kind != "WILDCARD" || !(1..=128).contains(&text.len()) || !text.bytes().all(allowed) {
                return Err(unsatisfied(
                    "filter",
                    "Member must be of type WILDCARD and satisfy regular expression pattern: ^[0-9a-zA-Z._*-]{1,128}$",
                ));
            }
            Ok(json!({ "filterType": kind, "filter": text }))
        })
        .collect()
}

/// Whether a tag, once there, has to stay where it is.
pub(super) fn is_immutable(mutability: &str, filters: &[Value], tag: &str) -> bool {
    let excluded = || {
        filters
            .iter()
            .any(|filter| optional(filter, "filter").is_some_and(|text| names::matches(text, tag)))
    };
    match mutability {
        "IMMUTABLE" => true,
        "IMMUTABLE_WITH_EXCLUSION" => !excluded(),
        "MUTABLE_WITH_EXCLUSION" => excluded(),
        _ => false,
    }
}
