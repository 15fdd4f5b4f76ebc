//! Managed signing: its configuration is kept; there is nobody who signs.

use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{required, unsatisfied};
use super::{Answer, Registry};
use crate::answer::refusal;

impl Registry {
    pub(super) fn put_signing_configuration(&self, body: &Value) -> Answer {
        let configuration = body.get("signingConfiguration").cloned().unwrap_or_default();
        let rules = configuration.get("rules").and_then(Value::as_array);
        let rules = rules.ok_or_else(|| unsatisfied("rules", "Member must not be null"))?;
        if rules.len() > 10 {
            return Err(unsatisfied("rules", "Member must have length less than or equal to 10"));
        }
        for rule in rules {
            if !required(rule, "signingProfileArn")?.contains(":/signing-profiles/") {
                return Err(unsatisfied("signingProfileArn", "must be the ARN of a signing profile"));
            }
            for filter in rule
                .get("repositoryFilters")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                required(filter, "filter")?;
                if required(filter, "filterType")? != "WILDCARD_MATCH" {
                    return Err(unsatisfied(
                        "filterType",
                        "Member must satisfy enum value set: [WILDCARD_MATCH]",
                    ));
                }
            }
        }
        self.extra.lock().signing = Some(configuration.clone());
        Ok(AwsResponse::ok_json(json!({ "signingConfiguration": configuration })))
    }

    pub(super) fn get_signing_configuration(&self) -> Answer {
        let configuration = self.extra.lock().signing.clone().ok_or_else(none)?;
        Ok(AwsResponse::ok_json(
            json!({ "registryId": self.account, "signingConfiguration": configuration }),
        ))
    }

    pub(super) fn delete_signing_configuration(&self) -> Answer {
        let configuration = self.extra.lock().signing.take().ok_or_else(none)?;
        Ok(AwsResponse::ok_json(
            json!({ "registryId": self.account, "signingConfiguration": configuration }),
        ))
    }

    pub(super) fn describe_image_signing_status(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let id = body
            .get("imageId")
            .ok_or_else(|| unsatisfied("imageId", "Member must not be null"))?;
        self.with_repository(name, |repository| self.find_image(repository, id).map(|_| ()))?;
        Ok(AwsResponse::ok_json(json!({
            "registryId": self.account,
            "repositoryName": name,
            "imageId": id,
            "signingStatuses": [],
        })))
    }
}

fn none() -> AwsServiceError {
    refusal(
        400,
        "SigningConfigurationNotFoundException",
        "The registry has no signing configuration",
    )
}
