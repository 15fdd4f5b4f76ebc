//! Lifecycle policies: put without deleting anything; everything else is fakecloud's.

use fakecloud_core::service::AwsResponse;
use serde_json::{Value, json};

use super::errors::{required, unsatisfied};
use super::{Answer, Registry};

impl Registry {
    pub(super) fn put_lifecycle_policy(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let text = required(body, "lifecyclePolicyText")?;
        if !(100..=30_720).contains(&text.chars().count()) {
            return Err(unsatisfied(
                "LifecyclePolicyText",
                "Member must have length between 100 and 30720",
            ));
        }
        let parsed: Option<Value> = serde_json::from_str(text).ok();
        let rules = parsed.as_ref().and_then(|policy| policy.get("rules")?.as_array());
        if rules.is_none_or(Vec::is_empty) {
            return Err(unsatisfied(
                "LifecyclePolicyText",
                "Lifecycle policy validation failure: no rules",
            ));
        }
        self.with_repository(name, |repository| {
            // The service acts within a day, not at once: nothing is deleted here.
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
}
