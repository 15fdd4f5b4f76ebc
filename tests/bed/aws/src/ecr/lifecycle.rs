//! Lifecycle policies as documents: put, read and taken away. Nothing is deleted by any of that: the service acts within a
//! day, and here when a test says so.

use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{required, unsatisfied};
use super::{Answer, Registry};
use crate::answer::refusal;
use crate::lifecycle_policy::Policy;

impl Registry {
    pub(super) fn put_lifecycle_policy(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let text = required(body, "lifecyclePolicyText")?;
        valid(text)?;
        self.with_repository(name, |repository| {
            repository.lifecycle_policy = Some(text.to_owned());
            repository.lifecycle_policy_last_evaluated_at = None;
            Ok(())
        })?;
        Ok(AwsResponse::ok_json(json!({
            "registryId": self.account,
            "repositoryName": name,
            "lifecyclePolicyText": text,
        })))
    }

    pub(super) fn get_lifecycle_policy(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        self.with_repository(name, |repository| {
            let text = repository.lifecycle_policy.as_deref();
            let text = rewritten(text.ok_or_else(|| self.no_lifecycle_policy(name))?);
            let evaluated = repository.lifecycle_policy_last_evaluated_at;
            Ok(self.shown_policy(name, &text, evaluated.map_or(0, |time| time.timestamp())))
        })
    }

    pub(super) fn delete_lifecycle_policy(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        self.with_repository(name, |repository| {
            let text = repository.lifecycle_policy.take();
            let text = rewritten(&text.ok_or_else(|| self.no_lifecycle_policy(name))?);
            let evaluated = repository.lifecycle_policy_last_evaluated_at.take();
            Ok(self.shown_policy(name, &text, evaluated.map_or(0, |time| time.timestamp())))
        })
    }

    fn shown_policy(&self, name: &str, text: &str, evaluated: i64) -> AwsResponse {
        AwsResponse::ok_json(json!({
            "registryId": self.account,
            "repositoryName": name,
            "lifecyclePolicyText": text,
            "lastEvaluatedAt": evaluated,
        }))
    }

    pub(super) fn no_lifecycle_policy(&self, name: &str) -> AwsServiceError {
        refusal(
            400,
            "LifecyclePolicyNotFoundException",
            format!(
                "Lifecycle policy does not exist for the repository with name '{name}' in the registry with id '{}'",
                self.account
            ),
        )
    }
}

/// The policy that a request gives as text.
pub(super) fn valid(text: &str) -> Result<Policy, AwsServiceError> {
    if !(100..=30_720).contains(&text.chars().count()) {
        return Err(unsatisfied(
            "LifecyclePolicyText",
            "Member must have length between 100 and 30720",
        ));
    }
    let policy = Policy::parse(text).and_then(|policy| policy.check(0).map(|()| policy));
    policy.map_err(|error| {
        unsatisfied(
            "LifecyclePolicyText",
            &format!("Lifecycle policy validation failure: {error}"),
        )
    })
}

/// A policy's text as the service gives it back: rules by priority, the rest of it in no order that a client may expect.
pub(super) fn rewritten(text: &str) -> String {
    let policy = Policy::parse(text).map(|policy| policy.to_text());
    let Ok(mut document) = policy
        .map_err(drop)
        .and_then(|text| serde_json::from_str(&text).map_err(drop))
    else {
        return text.to_owned();
    };
    let document: &mut Value = &mut document;
    for rule in document["rules"].as_array_mut().into_iter().flatten() {
        let selection = &mut rule["selection"];
        if selection.get("storageClass").is_none() {
            selection["storageClass"] = json!("standard");
        }
        for list in ["tagPatternList", "tagPrefixList"] {
            if let Some(entries) = selection.get_mut(list).and_then(Value::as_array_mut) {
                entries.reverse();
            }
        }
    }
    format!("{document:#}")
}
