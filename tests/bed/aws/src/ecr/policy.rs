//! Repository policies.

use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{required, unsatisfied};
use super::{Answer, Registry, policy_text};
use crate::answer::refusal;
use crate::world::World;

/// The longest policy, in characters.
const LONGEST: usize = 10_240;

impl Registry {
    pub(super) fn set_repository_policy(&self, world: &World, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let text = required(body, "policyText")?;
        if text.chars().count() > LONGEST {
            return Err(unsatisfied(
                "PolicyText",
                "Member must have length less than or equal to 10240",
            ));
        }
        let invalid = || unsatisfied("PolicyText", "Invalid repository policy provided");
        let document = policy_text::parse(text).ok_or_else(invalid)?;
        let unknown = world.unknown_accounts.read();
        if policy_text::accounts(&document)
            .iter()
            .any(|account| unknown.contains(account))
        {
            return Err(invalid());
        }
        let stored = policy_text::pretty(&document);
        self.with_repository(name, |repository| {
            repository.policy = Some(stored.clone());
            Ok(())
        })?;
        Ok(self.policy_answer(name, &stored))
    }

    pub(super) fn get_repository_policy(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let text = self.with_repository(name, |repository| {
            repository.policy.clone().ok_or_else(|| self.no_policy(name))
        })?;
        Ok(self.policy_answer(name, &text))
    }

    pub(super) fn delete_repository_policy(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let text = self.with_repository(name, |repository| {
            repository.policy.take().ok_or_else(|| self.no_policy(name))
        })?;
        Ok(self.policy_answer(name, &text))
    }

    /// A registry policy is taken and given back as a repository's is; each of its statements has a `Resource` too.
    pub(super) fn put_registry_policy(&self, body: &Value) -> Answer {
        let text = required(body, "policyText")?;
        let document = policy_text::parse(text).filter(policy_text::has_resources);
        let document = document.ok_or_else(|| unsatisfied("PolicyText", "Invalid registry policy provided"))?;
        let stored = policy_text::pretty(&document);
        self.with_state(|state| state.registry_policy = Some(stored.clone()));
        Ok(AwsResponse::ok_json(
            json!({ "registryId": self.account, "policyText": stored }),
        ))
    }

    fn policy_answer(&self, name: &str, text: &str) -> AwsResponse {
        AwsResponse::ok_json(json!({
            "registryId": self.account,
            "repositoryName": name,
            "policyText": text,
        }))
    }

    fn no_policy(&self, name: &str) -> AwsServiceError {
        refusal(
            400,
            "RepositoryPolicyNotFoundException",
            format!(
                "Repository policy does not exist for the repository with name '{name}' in the registry with id '{}'",
                self.account
            ),
        )
    }
}
