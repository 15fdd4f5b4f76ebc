//! Pull-through cache rules: kept; nothing is pulled from anywhere.

use chrono::Utc;
use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{optional, page_size, required, unsatisfied};
use super::repositories::{decode_token, encode_token};
use super::{Answer, Registry, names};
use crate::answer::refusal;

/// Upstream registries by their URL, or its end where the start is the customer's.
const UPSTREAMS: &[(&str, &str)] = &[
    ("public.ecr.aws", "ecr-public"),
    ("registry-1.docker.io", "docker-hub"),
    ("ghcr.io", "github-container-registry"),
    ("registry.gitlab.com", "gitlab-container-registry"),
    ("registry.k8s.io", "k8s"),
    (".azurecr.io", "azure-container-registry"),
    ("quay.io", "quay"),
    ("cgr.dev", "chainguard"),
    (".amazonaws.com", "ecr"),
];

/// Upstreams that take nobody without credentials.
const PRIVATE: &[&str] = &[
    "docker-hub",
    "github-container-registry",
    "gitlab-container-registry",
    "azure-container-registry",
    "chainguard",
];

impl Registry {
    pub(super) fn create_pull_through_rule(&self, body: &Value) -> Answer {
        let prefix = required(body, "ecrRepositoryPrefix")?;
        let url = required(body, "upstreamRegistryUrl")?;
        let component = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix != "ROOT" && (!(2..=30).contains(&prefix.len()) || !names::is_path(component)) {
            return Err(unsatisfied(
                "ecrRepositoryPrefix",
                "must satisfy the regular expression of prefixes",
            ));
        }
        let upstream = UPSTREAMS.iter().find(|(end, _)| {
            if end.starts_with('.') {
                url.ends_with(end)
            } else {
                url == *end
            }
        });
        let (_, upstream) = upstream.ok_or_else(|| {
            refusal(
                400,
                "UnsupportedUpstreamRegistryException",
                "The upstream registry is not supported",
            )
        })?;
        if optional(body, "upstreamRegistry").is_some_and(|named| named != *upstream) {
            return Err(unsatisfied(
                "upstreamRegistry",
                "does not fit the upstream registry's URL",
            ));
        }
        let secret = optional(body, "credentialArn");
        if secret.is_some_and(|arn| !arn.contains(":secret:ecr-pullthroughcache/")) {
            return Err(unsatisfied(
                "credentialArn",
                "must be the ARN of a secret named ecr-pullthroughcache/*",
            ));
        }
        if PRIVATE.contains(upstream) && secret.is_none() {
            return Err(unsatisfied(
                "credentialArn",
                "Member must not be null for this upstream registry",
            ));
        }
        let now = Utc::now().timestamp();
        let mut rule = json!({
            "registryId": self.account,
            "ecrRepositoryPrefix": prefix,
            "upstreamRegistryUrl": url,
            "upstreamRegistry": upstream,
            "upstreamRepositoryPrefix": optional(body, "upstreamRepositoryPrefix").unwrap_or("ROOT"),
            "createdAt": now,
            "updatedAt": now,
        });
        take_credentials(&mut rule, body);
        let mut extra = self.extra.lock();
        if extra.pull_through.contains_key(prefix) {
            return Err(refusal(
                400,
                "PullThroughCacheRuleAlreadyExistsException",
                format!("A pull through cache rule with the prefix '{prefix}' already exists"),
            ));
        }
        extra.pull_through.insert(prefix.to_owned(), rule.clone());
        Ok(AwsResponse::ok_json(rule))
    }

    pub(super) fn update_pull_through_rule(&self, body: &Value) -> Answer {
        let prefix = required(body, "ecrRepositoryPrefix")?;
        let mut extra = self.extra.lock();
        let rule = extra.pull_through.get_mut(prefix).ok_or_else(|| no_rule(prefix))?;
        take_credentials(rule, body);
        rule["updatedAt"] = json!(Utc::now().timestamp());
        Ok(AwsResponse::ok_json(rule.clone()))
    }

    pub(super) fn delete_pull_through_rule(&self, body: &Value) -> Answer {
        let prefix = required(body, "ecrRepositoryPrefix")?;
        let rule = self
            .extra
            .lock()
            .pull_through
            .remove(prefix)
            .ok_or_else(|| no_rule(prefix))?;
        Ok(AwsResponse::ok_json(rule))
    }

    pub(super) fn validate_pull_through_rule(&self, body: &Value) -> Answer {
        let prefix = required(body, "ecrRepositoryPrefix")?;
        let mut rule = self
            .extra
            .lock()
            .pull_through
            .get(prefix)
            .cloned()
            .ok_or_else(|| no_rule(prefix))?;
        let failure = self.extra.lock().upstream_failures.get(prefix).cloned();
        rule["isValid"] = json!(failure.is_none());
        if let Some(failure) = failure {
            rule["failure"] = json!(failure);
        }
        Ok(AwsResponse::ok_json(rule))
    }

    /// Why nothing can be pulled through the rule of a prefix from now on; `None`: it can.
    pub(crate) fn set_upstream_failure(&self, prefix: String, failure: Option<String>) {
        let failures = &mut self.extra.lock().upstream_failures;
        match failure {
            Some(failure) => failures.insert(prefix, failure),
            None => failures.remove(&prefix),
        };
    }

    pub(super) fn describe_pull_through_rules(&self, body: &Value) -> Answer {
        let extra = self.extra.lock();
        if let Some(wanted) = body.get("ecrRepositoryPrefixes").and_then(Value::as_array) {
            let rules = wanted.iter().filter_map(Value::as_str);
            let rules = rules.map(|prefix| extra.pull_through.get(prefix).ok_or_else(|| no_rule(prefix)));
            let rules = rules.collect::<Result<Vec<_>, _>>()?;
            return Ok(AwsResponse::ok_json(json!({ "pullThroughCacheRules": rules })));
        }
        let (size, after) = (
            page_size(body, 100, 1000)?,
            optional(body, "nextToken").map(decode_token).transpose()?,
        );
        let mut rest = extra
            .pull_through
            .iter()
            .filter(|(prefix, _)| after.as_ref().is_none_or(|a| *prefix > a));
        let page: Vec<_> = rest.by_ref().take(size).collect();
        let rules: Vec<_> = page.iter().map(|(_, rule)| rule).collect();
        let mut answer = json!({ "pullThroughCacheRules": rules });
        if let (Some((last, _)), true) = (page.last(), rest.next().is_some()) {
            answer["nextToken"] = json!(encode_token(last));
        }
        Ok(AwsResponse::ok_json(answer))
    }
}

fn take_credentials(rule: &mut Value, body: &Value) {
    for member in ["credentialArn", "customRoleArn"] {
        if let Some(arn) = optional(body, member) {
            rule[member] = json!(arn);
        }
    }
}

fn no_rule(prefix: &str) -> AwsServiceError {
    refusal(
        400,
        "PullThroughCacheRuleNotFoundException",
        format!("The pull through cache rule with prefix '{prefix}' does not exist"),
    )
}
