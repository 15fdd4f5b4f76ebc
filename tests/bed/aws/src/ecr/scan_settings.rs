//! The registry's scanning configuration, and what it means for a repository.

use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{optional, required, unsatisfied};
use super::{Answer, Registry, names};

impl Registry {
    pub(super) fn put_registry_scanning_configuration(&self, body: &Value) -> Answer {
        let kind = optional(body, "scanType").unwrap_or("BASIC");
        let frequencies: &[&str] = match kind {
            "BASIC" => &["SCAN_ON_PUSH"],
            "ENHANCED" => &["SCAN_ON_PUSH", "CONTINUOUS_SCAN"],
            _ => {
                return Err(unsatisfied(
                    "scanType",
                    "Member must satisfy enum value set: [BASIC, ENHANCED]",
                ));
            }
        };
        let rules = body
            .get("rules")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let mut seen = Vec::new();
        for rule in rules {
            let frequency = required(rule, "scanFrequency")?;
            if !frequencies.contains(&frequency) || seen.contains(&frequency) {
                return Err(unsatisfied(
                    "scanFrequency",
                    "must fit the scan type, once for each frequency",
                ));
            }
            seen.push(frequency);
            checked_filters(rule)?;
        }
        let configuration = json!({ "scanType": kind, "rules": rules });
        self.extra.lock().scanning = Some(configuration.clone());
        Ok(AwsResponse::ok_json(
            json!({ "registryScanningConfiguration": configuration }),
        ))
    }

    pub(super) fn get_registry_scanning_configuration(&self) -> AwsResponse {
        AwsResponse::ok_json(json!({
            "registryId": self.account,
            "scanningConfiguration": self.scanning_configuration(),
        }))
    }

    fn scanning_configuration(&self) -> Value {
        self.extra
            .lock()
            .scanning
            .clone()
            .unwrap_or_else(|| json!({ "scanType": "BASIC", "rules": [] }))
    }

    pub(super) fn batch_get_repository_scanning_configuration(&self, body: &Value) -> Answer {
        let names = body
            .get("repositoryNames")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if !(1..=25).contains(&names.len()) {
            return Err(unsatisfied(
                "repositoryNames",
                "Member must have length between 1 and 25",
            ));
        }
        let (mut found, mut failures) = (Vec::new(), Vec::new());
        for name in names.iter().filter_map(Value::as_str) {
            let on_push = self.with_repository(name, |repository| {
                Ok(repository.image_scanning_configuration.scan_on_push)
            });
            let Ok(own) = on_push else {
                failures.push(json!({
                    "repositoryName": name,
                    "failureCode": "REPOSITORY_NOT_FOUND",
                    "failureReason": format!("The repository with name '{name}' does not exist"),
                }));
                continue;
            };
            let (frequency, filters) = self.scan_frequency(name, own);
            found.push(json!({
                "repositoryArn": self.repository_arn(name),
                "repositoryName": name,
                "scanOnPush": frequency != "MANUAL",
                "scanFrequency": frequency,
                "appliedScanFilters": filters,
            }));
        }
        Ok(AwsResponse::ok_json(
            json!({ "scanningConfigurations": found, "failures": failures }),
        ))
    }

    /// How often a repository is scanned, and by which filters. `own` is its own switch for scans on push.
    pub(super) fn scan_frequency(&self, name: &str, own: bool) -> (String, Vec<Value>) {
        let configuration = self.scanning_configuration();
        let rules = configuration
            .get("rules")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        // Continuous scanning wins where both match.
        for frequency in ["CONTINUOUS_SCAN", "SCAN_ON_PUSH"] {
            for rule in rules
                .iter()
                .filter(|rule| optional(rule, "scanFrequency") == Some(frequency))
            {
                let filters = rule
                    .get("repositoryFilters")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten();
                let matching: Vec<_> = filters
                    .filter(|filter| optional(filter, "filter").is_some_and(|text| filter_takes(text, name)))
                    .cloned()
                    .collect();
                if !matching.is_empty() {
                    return (frequency.to_owned(), matching);
                }
            }
        }
        // Enhanced scanning does not ask the repository.
        let basic = optional(&configuration, "scanType") == Some("BASIC");
        (
            if own && basic { "SCAN_ON_PUSH" } else { "MANUAL" }.to_owned(),
            Vec::new(),
        )
    }
}

fn checked_filters(rule: &Value) -> Result<(), AwsServiceError> {
    let filters = rule.get("repositoryFilters").and_then(Value::as_array);
    let filters = filters.ok_or_else(|| unsatisfied("repositoryFilters", "Member must not be null"))?;
    if filters.len() > 100 {
        return Err(unsatisfied(
            "repositoryFilters",
            "Member must have length less than or equal to 100",
        ));
    }
    for filter in filters {
        required(filter, "filter")?;
        if required(filter, "filterType")? != "WILDCARD" {
            return Err(unsatisfied(
                "filterType",
                "Member must satisfy enum value set: [WILDCARD]",
            ));
        }
    }
    Ok(())
}

/// Whether a scanning filter takes a repository: without `*` it may stand anywhere in the name.
fn filter_takes(filter: &str, name: &str) -> bool {
    if filter.contains('*') {
        names::matches(filter, name)
    } else {
        name.contains(filter)
    }
}
