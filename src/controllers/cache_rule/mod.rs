//! PullThroughCacheRule: keeps a pull-through cache rule of a registry as an object says.

mod plan;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use self::plan::{RuleWish, with_validation};
use super::{
    prefixed::{self, Prefixed, References, Watch, plan::Wish as _},
    registry::connection::Connection,
    world::World,
};
use crate::{
    api::{
        PullThroughCacheRule,
        cache_rule::{PullThroughCacheRuleStatus, ValidationState, ValidationStatus},
        prefixed::{OwnedStatus, RetainOrDelete},
        repository::Adoption,
        status::CommonStatus,
    },
    aws::{
        cache_rules::{CacheRule, CacheRuleTerms, Validation},
        error::{AwsError, Fault},
        listing::Listing,
    },
    control::{
        context::Context,
        error::Result,
        events::cut,
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
    },
    events::message::Setting,
};

type Seen = prefixed::plan::Seen<CacheRule, Validation>;
type Step = prefixed::plan::Step<CacheRuleTerms>;

/// The longest message of a validation in status, in bytes.
const MESSAGE: usize = 500;

impl Prefixed for PullThroughCacheRule {
    const WHAT: &'static str = "pull-through cache rule";

    const SETTING: Setting = Setting::CacheRule;

    type Entry = CacheRule;

    fn watch(world: &World) -> &Watch<Self> {
        &world.prefixed.cache_rules
    }

    fn listing(connection: &Connection) -> &Listing<CacheRule> {
        &connection.listings.cache_rules
    }

    fn registry_name(&self) -> &str {
        &self.spec.registry_ref.name
    }

    fn prefix(&self) -> &str {
        self.spec.ecr_repository_prefix.as_str()
    }

    fn owned(&self) -> Option<&OwnedStatus> {
        self.status.as_ref()?.owned.as_ref()
    }

    fn adopts(&self) -> bool {
        self.spec.adoption == Adoption::Adopt
    }

    fn deletion(&self) -> RetainOrDelete {
        self.spec.deletion_policy
    }

    async fn list(connection: &Connection) -> Result<Vec<(String, CacheRule)>, AwsError> {
        connection.ecr.list_cache_rules().await
    }

    async fn look_up(connection: &Connection, prefix: &str) -> Result<Option<CacheRule>, AwsError> {
        connection.ecr.cache_rule(prefix).await
    }
}

impl Managed for PullThroughCacheRule {
    type World = World;
    type References = References;
    type Observed = Seen;
    type Step = Step;
    type Status = PullThroughCacheRuleStatus;

    const KIND: &'static str = "PullThroughCacheRule";

    fn status(&self) -> Option<&PullThroughCacheRuleStatus> {
        self.status.as_ref()
    }

    fn common(status: &PullThroughCacheRuleStatus) -> &CommonStatus {
        &status.common
    }

    fn is_suspended(&self) -> bool {
        self.spec.suspend
    }

    fn lane(&self) -> String {
        self.spec.registry_ref.name.clone()
    }

    async fn refer(&self, ctx: &Context<World>) -> Result<References> {
        prefixed::refer(self, ctx).await
    }

    async fn observe(&self, goal: Goal, look: Look, references: &References) -> Result<Seen> {
        let wish = RuleWish::of(self);
        let mut seen: Seen = prefixed::observe(self, Ok(&wish), goal, look, references).await?;
        let rest = prefixed::plan::plan(&self.facts(), Ok(&wish), goal, &seen, Timestamp::now());
        let settled = rest.steps.is_empty() && matches!(rest.verdict, Verdict::Settled { .. });
        if let (Seen::Open(sight), Some(connection), Goal::Present) = (&mut seen, &references.connection, goal)
            && settled
            && self.is_to_be_tried(look, &wish)
        {
            sight.tried = Some(validate(connection, self.prefix()).await?);
        }
        Ok(seen)
    }

    fn plan(&self, goal: Goal, _: &References, seen: &Seen, now: Timestamp) -> Plan<Step> {
        let wish = RuleWish::of(self);
        let plan = prefixed::plan::plan(&self.facts(), Ok(&wish), goal, seen, now);
        match (goal, seen) {
            (Goal::Present, Seen::Open(sight)) if sight.manage => {
                let known = self.status.as_ref().and_then(|status| status.validation.as_ref());
                let known = known.map(known_validation);
                with_validation(plan, self.prefix(), sight.tried.as_ref().or(known.as_ref()))
            }
            _ => plan,
        }
    }

    async fn apply(&self, step: &Step, references: &References, seen: Seen) -> Result<Seen> {
        let connection = references.connection.as_ref().ok_or_else(prefixed::nothing_to_change)?;
        let mut sight = prefixed::opened(seen)?;
        let prefix = self.prefix();
        match step {
            Step::Create { terms, .. } => {
                let answer = connection.ecr.create_cache_rule(terms).await;
                prefixed::created::<Self, _>(connection, prefix, answer, &mut sight).await?;
            }
            Step::Own { .. } => {}
            Step::Update(change) => {
                let created_at = sight.live.as_ref().ok_or_else(prefixed::nothing_to_change)?.created_at;
                let terms = connection.ecr.update_cache_rule(&change.terms).await?;
                let entry = Arc::new(CacheRule { created_at, terms });
                prefixed::note::<Self>(connection, prefix, Some(&entry)).await;
                sight.live = Some(entry);
            }
            Step::Delete { .. } => {
                connection.ecr.delete_cache_rule(prefix).await?;
                prefixed::deleted::<Self, _>(connection, prefix, &mut sight).await?;
            }
        }
        let deletes = matches!(step, Step::Delete { .. }) || self.metadata.deletion_timestamp.is_some();
        if sight.live.is_some() && !deletes {
            sight.tried = Some(validate(connection, prefix).await?);
        }
        Ok(Seen::Open(sight))
    }

    fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> PullThroughCacheRuleStatus {
        let mut status = PullThroughCacheRuleStatus {
            common,
            ..self.status.clone().unwrap_or_default()
        };
        status.drift = prefixed::drift(status.drift, told);
        let (Some(Seen::Open(sight)), Goal::Present) = (told.seen, told.goal) else {
            return status;
        };
        let facts = self.facts();
        status.owned = prefixed::plan::owned_after(&facts, told.goal, told.seen);
        if !sight.manage || sight.elder.is_some() {
            return status;
        }
        if let Some(tried) = &sight.tried {
            status.validation = Some(told_validation(tried));
        }
        if let Some(live) = &sight.live {
            status.upstream_registry.clone_from(&live.terms.upstream_registry);
        }
        let wish = RuleWish::of(self);
        let known = prefixed::plan::Facts {
            owned: status.owned.clone(),
            ..facts
        };
        let rest = prefixed::plan::present(&known, &wish, sight, told.now);
        let settled = rest.steps.is_empty() && matches!(rest.verdict, Verdict::Settled { .. });
        status.desired_hash = settled.then(|| wish.digest());
        if !settled {
            status.validation = None;
        }
        status
    }

    fn is_drift(&self, seen: &Seen) -> bool {
        let recorded = self.status.as_ref().and_then(|status| status.desired_hash.as_deref());
        let hash = RuleWish::of(self).digest();
        matches!(seen, Seen::Open(sight) if sight.manage) && prefixed::is_settled_with(self.owned(), recorded, &hash)
    }

    fn is_adoption(step: &Step) -> bool {
        matches!(step, Step::Own { adopts: true, .. })
    }

    fn headline(steps: &[Step]) -> &'static str {
        prefixed::plan::headline(steps)
    }

    fn rhythm(&self, references: &References, _: Option<&Seen>, outcome: &Result<Verdict>) -> Option<Duration> {
        prefixed::rhythm(references, outcome)
    }

    /// A rule of the prefix may turn out to exist, and to belong to somebody else.
    fn changes_the_plan(step: &Step) -> bool {
        matches!(step, Step::Create { .. })
    }

    fn is_a_look(seen: &Seen) -> bool {
        !matches!(seen, Seen::Shut(_))
    }

    fn to_record(&self, steps: &[Step]) -> Option<PullThroughCacheRuleStatus> {
        let owned = prefixed::plan::owned_before(steps)?;
        Some(PullThroughCacheRuleStatus {
            owned: Some(owned),
            ..self.status.clone().unwrap_or_default()
        })
    }
}

impl PullThroughCacheRule {
    /// Whether ECR is to be asked whether it can pull by the rule: after a change, with each full check, and while it cannot.
    fn is_to_be_tried(&self, look: Look, wish: &RuleWish) -> bool {
        let status = self.status.as_ref();
        let known = status.and_then(|status| status.validation.as_ref());
        let recorded = status.and_then(|status| status.desired_hash.as_deref());
        look != Look::Routine
            || known.is_none_or(|known| known.state == ValidationState::Invalid)
            || recorded != Some(wish.digest().as_str())
    }
}

/// Has ECR try the rule. That it could not be asked makes nothing of the rule wrong.
async fn validate(connection: &Connection, prefix: &str) -> Result<Validation, AwsError> {
    let mut validation = match connection.ecr.validate_cache_rule(prefix).await {
        Ok(validation) => validation,
        Err(error) if error.fault == Fault::NotFound => {
            // It went a moment ago: the next look starts from what ECR says then.
            prefixed::note::<PullThroughCacheRule>(connection, prefix, None).await;
            return Err(error);
        }
        Err(error) => Validation::Unknown(error.to_string()),
    };
    if let Validation::Invalid(why) | Validation::Unknown(why) = &mut validation {
        cut(why, MESSAGE);
    }
    Ok(validation)
}

fn told_validation(validation: &Validation) -> ValidationStatus {
    let (state, message) = match validation {
        Validation::Valid => (ValidationState::Valid, ""),
        Validation::Invalid(why) => (ValidationState::Invalid, why.as_str()),
        Validation::Unknown(why) => (ValidationState::Unknown, why.as_str()),
    };
    ValidationStatus {
        state,
        message: message.to_owned(),
    }
}

fn known_validation(status: &ValidationStatus) -> Validation {
    match status.state {
        ValidationState::Valid => Validation::Valid,
        ValidationState::Invalid => Validation::Invalid(status.message.clone()),
        ValidationState::Unknown => Validation::Unknown(status.message.clone()),
    }
}
