//! Account settings, and the principals whose pulls leave no trace.

use chrono::Utc;
use fakecloud_core::service::AwsResponse;
use serde_json::{Value, json};

use super::errors::{optional, page_size, required, unsatisfied};
use super::repositories::{decode_token, encode_token};
use super::{Answer, Registry};
use crate::answer::refusal;

/// Each setting with the values it may have; the first is what it has from the start.
const SETTINGS: &[(&str, &[&str])] = &[
    ("BASIC_SCAN_TYPE_VERSION", &["AWS_NATIVE"]),
    ("BLOB_MOUNTING", &["DISABLED", "ENABLED"]),
    ("REGISTRY_POLICY_SCOPE", &["V2", "V1"]),
];

impl Registry {
    pub(super) fn get_account_setting(&self, body: &Value) -> Answer {
        let name = required(body, "name")?;
        let (_, values) = SETTINGS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(unknown_setting)?;
        let set = self.extra.lock().settings.get(name).cloned();
        let value = set.unwrap_or_else(|| (*values.first().unwrap_or(&"")).to_owned());
        Ok(AwsResponse::ok_json(json!({ "name": name, "value": value })))
    }

    pub(super) fn put_account_setting(&self, body: &Value) -> Answer {
        let (name, value) = (required(body, "name")?, required(body, "value")?);
        let (_, values) = SETTINGS
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(unknown_setting)?;
        if !values.contains(&value) {
            let message = format!("The value '{value}' is not valid for the setting '{name}'");
            return Err(refusal(400, "ValidationException", message));
        }
        self.extra.lock().settings.insert(name.to_owned(), value.to_owned());
        Ok(AwsResponse::ok_json(json!({ "name": name, "value": value })))
    }

    pub(super) fn register_exclusion(&self, body: &Value) -> Answer {
        let arn = required(body, "principalArn")?;
        if arn.len() > 200 || !arn.contains(":iam::") || !(arn.contains(":role/") || arn.contains(":user/")) {
            return Err(unsatisfied("principalArn", "must be the ARN of a role or user"));
        }
        let now = Utc::now();
        self.with_state(|state| {
            // fakecloud looks here when it records a pull; the entry's type has no name outside of it.
            let entry = json!({ "principal_arn": arn, "registered_at": now });
            let exclusions = &mut state.pull_time_exclusions;
            if exclusions.contains_key(arn) {
                return Err(refusal(
                    400,
                    "ExclusionAlreadyExistsException",
                    format!("'{arn}' is excluded already"),
                ));
            }
            if let Ok(entry) = serde_json::from_value(entry) {
                exclusions.insert(arn.to_owned(), entry);
            }
            Ok(AwsResponse::ok_json(
                json!({ "principalArn": arn, "createdAt": now.timestamp() }),
            ))
        })
    }

    pub(super) fn deregister_exclusion(&self, body: &Value) -> Answer {
        let arn = required(body, "principalArn")?;
        self.with_state(|state| match state.pull_time_exclusions.remove(arn) {
            Some(_) => Ok(AwsResponse::ok_json(json!({ "principalArn": arn }))),
            None => Err(refusal(
                400,
                "ExclusionNotFoundException",
                format!("'{arn}' is not excluded"),
            )),
        })
    }

    pub(super) fn list_exclusions(&self, body: &Value) -> Answer {
        let size = page_size(body, 100, 1000)?;
        let after = optional(body, "nextToken").map(decode_token).transpose()?;
        self.with_state(|state| {
            let mut rest = state
                .pull_time_exclusions
                .keys()
                .filter(|arn| after.as_ref().is_none_or(|a| *arn > a));
            let page: Vec<_> = rest.by_ref().take(size).collect();
            let mut answer = json!({ "pullTimeUpdateExclusions": page });
            if let (Some(last), true) = (page.last(), rest.next().is_some()) {
                answer["nextToken"] = json!(encode_token(last));
            }
            Ok(AwsResponse::ok_json(answer))
        })
    }
}

fn unknown_setting() -> fakecloud_core::service::AwsServiceError {
    refusal(400, "ValidationException", "There is no such account setting")
}
