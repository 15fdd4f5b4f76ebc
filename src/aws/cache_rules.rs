//! What ECR is asked about pull-through cache rules. One function an operation.

use aws_sdk_ecr::{primitives::DateTime, types};
use jiff::Timestamp;

use super::{
    client::{Ecr, PAGE, call},
    error::AwsError,
    record::timestamp,
};

/// A rule as ECR has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheRule {
    pub created_at: Timestamp,
    pub terms: CacheRuleTerms,
}

/// What a rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CacheRuleTerms {
    pub prefix: String,
    pub url: String,
    /// The kind of the upstream registry, as ECR names it; ECR tells it by the URL where none is given.
    pub upstream_registry: Option<String>,
    /// `ROOT` where ECR has none.
    pub upstream_prefix: String,
    pub credential_arn: Option<String>,
    pub custom_role_arn: Option<String>,
}

/// What ECR says of a rule when it tries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validation {
    Valid,
    Invalid(String),
    /// It could not be asked, for this reason.
    Unknown(String),
}

/// What upstream prefix a rule without one has.
pub(crate) const EVERY: &str = "ROOT";

impl Ecr {
    /// Every rule of the registry, by its prefix; fails as a whole if a page fails.
    pub(crate) async fn list_cache_rules(&self) -> Result<Vec<(String, CacheRule)>, AwsError> {
        let mut rules = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .client
                .describe_pull_through_cache_rules()
                .registry_id(self.registry_id.as_str())
                .max_results(PAGE)
                .set_next_token(token);
            let page = call!(self, read "DescribePullThroughCacheRules", request)?;
            for rule in page.pull_through_cache_rules.unwrap_or_default() {
                let rule = read(rule)?;
                rules.push((rule.terms.prefix.clone(), rule));
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(rules);
            }
        }
    }

    /// The rule of a prefix as ECR has it now.
    pub(crate) async fn cache_rule(&self, prefix: &str) -> Result<Option<CacheRule>, AwsError> {
        let request = self
            .client
            .describe_pull_through_cache_rules()
            .registry_id(self.registry_id.as_str())
            .ecr_repository_prefixes(prefix);
        match call!(self, read "DescribePullThroughCacheRules", request) {
            Ok(answer) => {
                let rule = answer.pull_through_cache_rules.unwrap_or_default().into_iter().next();
                rule.map(read).transpose()
            }
            Err(error) if error.is("PullThroughCacheRuleNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a rule. Returns what ECR stored.
    pub(crate) async fn create_cache_rule(&self, terms: &CacheRuleTerms) -> Result<CacheRule, AwsError> {
        let upstream = (terms.upstream_prefix != EVERY).then(|| terms.upstream_prefix.clone());
        let request = self
            .client
            .create_pull_through_cache_rule()
            .registry_id(self.registry_id.as_str())
            .ecr_repository_prefix(&terms.prefix)
            .upstream_registry_url(&terms.url)
            .set_upstream_registry(terms.upstream_registry.as_deref().map(types::UpstreamRegistry::from))
            .set_upstream_repository_prefix(upstream)
            .set_credential_arn(terms.credential_arn.clone())
            .set_custom_role_arn(terms.custom_role_arn.clone());
        let answer = call!(self, write "CreatePullThroughCacheRule", request)?;
        Ok(CacheRule {
            created_at: created_at("CreatePullThroughCacheRule", answer.created_at)?,
            terms: CacheRuleTerms {
                prefix: answer.ecr_repository_prefix.unwrap_or_else(|| terms.prefix.clone()),
                url: answer.upstream_registry_url.unwrap_or_else(|| terms.url.clone()),
                upstream_registry: answer.upstream_registry.map(|kind| kind.as_str().to_owned()),
                upstream_prefix: answer.upstream_repository_prefix.unwrap_or_else(|| EVERY.into()),
                credential_arn: answer.credential_arn,
                custom_role_arn: answer.custom_role_arn,
            },
        })
    }

    /// Replaces the credentials and the role of a rule; both are sent, for whether one that is left out stays is not
    /// documented. Returns the terms as ECR stored them.
    pub(crate) async fn update_cache_rule(&self, terms: &CacheRuleTerms) -> Result<CacheRuleTerms, AwsError> {
        let request = self
            .client
            .update_pull_through_cache_rule()
            .registry_id(self.registry_id.as_str())
            .ecr_repository_prefix(&terms.prefix)
            .set_credential_arn(terms.credential_arn.clone())
            .set_custom_role_arn(terms.custom_role_arn.clone());
        let answer = call!(self, write "UpdatePullThroughCacheRule", request)?;
        Ok(CacheRuleTerms {
            credential_arn: answer.credential_arn,
            custom_role_arn: answer.custom_role_arn,
            ..terms.clone()
        })
    }

    /// Deletes a rule; what was pulled through it stays. None to delete is a success.
    pub(crate) async fn delete_cache_rule(&self, prefix: &str) -> Result<(), AwsError> {
        let request = self
            .client
            .delete_pull_through_cache_rule()
            .registry_id(self.registry_id.as_str())
            .ecr_repository_prefix(prefix);
        match call!(self, write "DeletePullThroughCacheRule", request) {
            Err(error) if error.is("PullThroughCacheRuleNotFoundException") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Has ECR try the rule.
    pub(crate) async fn validate_cache_rule(&self, prefix: &str) -> Result<Validation, AwsError> {
        let request = self
            .client
            .validate_pull_through_cache_rule()
            .registry_id(self.registry_id.as_str())
            .ecr_repository_prefix(prefix);
        let answer = call!(self, read "ValidatePullThroughCacheRule", request)?;
        Ok(match answer.is_valid {
            true => Validation::Valid,
            false => Validation::Invalid(answer.failure.unwrap_or_else(|| "ECR does not say why".into())),
        })
    }
}

fn read(rule: types::PullThroughCacheRule) -> Result<CacheRule, AwsError> {
    const OPERATION: &str = "DescribePullThroughCacheRules";
    let lacks = |what: &str| AwsError::incomplete(OPERATION, what);
    Ok(CacheRule {
        created_at: created_at(OPERATION, rule.created_at)?,
        terms: CacheRuleTerms {
            prefix: rule.ecr_repository_prefix.ok_or_else(|| lacks("ecrRepositoryPrefix"))?,
            url: rule.upstream_registry_url.ok_or_else(|| lacks("upstreamRegistryUrl"))?,
            upstream_registry: rule.upstream_registry.map(|kind| kind.as_str().to_owned()),
            upstream_prefix: rule.upstream_repository_prefix.unwrap_or_else(|| EVERY.into()),
            credential_arn: rule.credential_arn,
            custom_role_arn: rule.custom_role_arn,
        },
    })
}

pub(super) fn created_at(operation: &'static str, time: Option<DateTime>) -> Result<Timestamp, AwsError> {
    time.as_ref()
        .and_then(timestamp)
        .ok_or_else(|| AwsError::incomplete(operation, "createdAt"))
}
