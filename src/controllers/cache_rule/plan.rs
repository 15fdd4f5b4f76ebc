//! What an object asks for of a pull-through cache rule, and what speaks against calling it ready. Pure.

use serde_json::json;

use crate::{
    api::PullThroughCacheRule,
    aws::{
        cache_rules::{CacheRule, CacheRuleTerms, EVERY, Validation},
        listing::key,
    },
    control::{
        plan::{Plan, Verdict},
        reason::Reason,
    },
    controllers::prefixed::{
        self,
        plan::{Change, Entry, Wish},
    },
};

/// What is wanted of a rule. The terms hold what is sent to create it; what is `None` there is not managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleWish(pub CacheRuleTerms);

impl RuleWish {
    pub(crate) fn of(object: &PullThroughCacheRule) -> Self {
        let spec = &object.spec;
        let upstream = spec.upstream_repository_prefix.as_ref();
        Self(CacheRuleTerms {
            prefix: spec.ecr_repository_prefix.to_string(),
            url: spec.upstream_registry_url.clone(),
            upstream_registry: spec.upstream_registry.map(|kind| kind.as_str().to_owned()),
            upstream_prefix: upstream.map_or_else(|| EVERY.to_owned(), ToString::to_string),
            credential_arn: spec.credential_arn.as_ref().map(ToString::to_string),
            custom_role_arn: spec.custom_role_arn.as_ref().map(ToString::to_string),
        })
    }
}

/// The kind of the upstream is left out: ECR tells it by the URL where none was given.
fn digest(terms: &CacheRuleTerms) -> String {
    prefixed::digest(&json!([
        1,
        key(&terms.prefix),
        terms.url,
        terms.upstream_prefix,
        terms.credential_arn,
        terms.custom_role_arn,
    ]))
}

impl Entry for CacheRule {
    fn created_at(&self) -> jiff::Timestamp {
        self.created_at
    }

    fn digest(&self) -> String {
        digest(&self.terms)
    }
}

impl Wish for RuleWish {
    type Live = CacheRule;
    type Terms = CacheRuleTerms;

    fn digest(&self) -> String {
        digest(&self.0)
    }

    fn creation(&self) -> CacheRuleTerms {
        self.0.clone()
    }

    fn outline(&self) -> String {
        match self.0.upstream_prefix.as_str() {
            EVERY => format!("upstream {}", self.0.url),
            prefix => format!("upstream {}, names below {prefix}", self.0.url),
        }
    }

    fn fixed(&self, live: &CacheRule) -> Vec<String> {
        let (wish, live) = (&self.0, &live.terms);
        let mut differences = Vec::new();
        let mut differs = |field: &str, live: &str, wish: &str| {
            if live != wish {
                differences.push(format!("{field} is {live}, the object asks for {wish}"));
            }
        };
        differs("upstreamRegistryUrl", &live.url, &wish.url);
        differs("upstreamRepositoryPrefix", &live.upstream_prefix, &wish.upstream_prefix);
        // Rules from before ECR named the kind have none.
        if let (Some(live), Some(wish)) = (&live.upstream_registry, &wish.upstream_registry) {
            differs("upstreamRegistry", live, wish);
        }
        differences
    }

    fn change(&self, live: &CacheRule) -> Result<Option<Change<CacheRuleTerms>>, Verdict> {
        let wish = &self.0;
        let mut terms = live.terms.clone();
        let mut lines = Vec::new();
        for (field, live, wish) in [
            ("credentialArn", &mut terms.credential_arn, &wish.credential_arn),
            ("customRoleArn", &mut terms.custom_role_arn, &wish.custom_role_arn),
        ] {
            if wish.is_some() && live != wish {
                let was = live.as_deref().unwrap_or("absent");
                lines.push(format!("{field}: {was} -> {}", wish.as_deref().unwrap_or_default()));
                live.clone_from(wish);
            }
        }
        Ok((!lines.is_empty()).then_some(Change { lines, terms }))
    }
}

/// The plan with what ECR says of the rule: one that cannot pull is not ready.
pub(crate) fn with_validation<S>(mut plan: Plan<S>, prefix: &str, validation: Option<&Validation>) -> Plan<S> {
    let settled = plan.steps.is_empty() && matches!(plan.verdict, Verdict::Settled { .. });
    if let (true, Some(Validation::Invalid(why))) = (settled, validation) {
        let message = format!(
            "ECR cannot pull through the rule {prefix}: {}; see spec.credentialArn, spec.customRoleArn and the upstream",
            why.trim_end_matches('.')
        );
        plan.verdict = Verdict::blocked(Reason::Invalid, message);
    }
    plan
}
