//! RepositoryCreationTemplate: keeps a repository creation template of a registry as an object says.

mod plan;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use self::plan::TemplateWish;
use super::{
    prefixed::{self, Prefixed, References, Watch},
    registry::connection::Connection,
    world::World,
};
use crate::{
    api::{
        RepositoryCreationTemplate,
        creation_template::RepositoryCreationTemplateStatus,
        prefixed::{OwnedStatus, RetainOrDelete},
        repository::Adoption,
        status::CommonStatus,
    },
    aws::{
        error::AwsError,
        listing::Listing,
        templates::{CreationTemplate, TemplateTerms},
    },
    control::{
        context::Context,
        error::Result,
        managed::{Look, Managed, Told},
        plan::{Goal, Plan, Verdict},
    },
    events::message::Setting,
};

type Seen = prefixed::plan::Seen<CreationTemplate>;
type Step = prefixed::plan::Step<TemplateTerms>;

impl Prefixed for RepositoryCreationTemplate {
    const WHAT: &'static str = "repository creation template";

    const SETTING: Setting = Setting::Template;

    type Entry = CreationTemplate;

    fn watch(world: &World) -> &Watch<Self> {
        &world.prefixed.templates
    }

    fn listing(connection: &Connection) -> &Listing<CreationTemplate> {
        &connection.listings.templates
    }

    fn registry_name(&self) -> &str {
        &self.spec.registry_ref.name
    }

    fn prefix(&self) -> &str {
        self.spec.prefix.as_str()
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

    async fn list(connection: &Connection) -> Result<Vec<(String, CreationTemplate)>, AwsError> {
        connection.ecr.list_templates().await
    }

    async fn look_up(connection: &Connection, prefix: &str) -> Result<Option<CreationTemplate>, AwsError> {
        connection.ecr.template(prefix).await
    }
}

impl Managed for RepositoryCreationTemplate {
    type World = World;
    type References = References;
    type Observed = Seen;
    type Step = Step;
    type Status = RepositoryCreationTemplateStatus;

    const KIND: &'static str = "RepositoryCreationTemplate";

    fn status(&self) -> Option<&RepositoryCreationTemplateStatus> {
        self.status.as_ref()
    }

    fn common(status: &RepositoryCreationTemplateStatus) -> &CommonStatus {
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
        let wish = TemplateWish::of(self);
        prefixed::observe(self, wish.as_ref().map_err(Clone::clone), goal, look, references).await
    }

    fn plan(&self, goal: Goal, _: &References, seen: &Seen, now: Timestamp) -> Plan<Step> {
        let wish = TemplateWish::of(self);
        prefixed::plan::plan(&self.facts(), wish.as_ref().map_err(Clone::clone), goal, seen, now)
    }

    async fn apply(&self, step: &Step, references: &References, seen: Seen) -> Result<Seen> {
        let connection = references.connection.as_ref().ok_or_else(prefixed::nothing_to_change)?;
        let mut sight = prefixed::opened(seen)?;
        let prefix = self.prefix();
        match step {
            Step::Create { terms, .. } => {
                let answer = connection.ecr.create_template(terms).await;
                prefixed::created::<Self, _>(connection, prefix, answer, &mut sight).await?;
            }
            Step::Own { .. } => {}
            Step::Update(change) => {
                let entry = Arc::new(connection.ecr.update_template(&change.terms).await?);
                prefixed::note::<Self>(connection, prefix, Some(&entry)).await;
                sight.live = Some(entry);
            }
            Step::Delete { .. } => {
                connection.ecr.delete_template(prefix).await?;
                prefixed::deleted::<Self, _>(connection, prefix, &mut sight).await?;
            }
        }
        Ok(Seen::Open(sight))
    }

    fn tell(&self, common: CommonStatus, told: &Told<'_, Self>) -> RepositoryCreationTemplateStatus {
        let mut status = RepositoryCreationTemplateStatus {
            common,
            ..self.status.clone().unwrap_or_default()
        };
        status.drift = prefixed::drift(status.drift, told);
        let (Some(Seen::Open(sight)), Goal::Present, Ok(wish)) = (told.seen, told.goal, TemplateWish::of(self)) else {
            return status;
        };
        let facts = self.facts();
        status.owned = prefixed::plan::owned_after(&facts, told.goal, told.seen);
        if !sight.manage || sight.elder.is_some() {
            return status;
        }
        let known = prefixed::plan::Facts {
            owned: status.owned.clone(),
            ..facts
        };
        let rest = prefixed::plan::present(&known, &wish, sight, told.now);
        let settled = rest.steps.is_empty() && matches!(rest.verdict, Verdict::Settled { .. });
        status.desired_hash = settled.then(|| wish.hash());
        status
    }

    fn is_drift(&self, seen: &Seen) -> bool {
        let recorded = self.status.as_ref().and_then(|status| status.desired_hash.as_deref());
        let hash = TemplateWish::of(self).map(|wish| wish.hash()).unwrap_or_default();
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

    /// A template of the prefix may turn out to exist, and to belong to somebody else.
    fn changes_the_plan(step: &Step) -> bool {
        matches!(step, Step::Create { .. })
    }

    fn is_a_look(seen: &Seen) -> bool {
        !matches!(seen, Seen::Shut(_))
    }

    fn to_record(&self, steps: &[Step]) -> Option<RepositoryCreationTemplateStatus> {
        let owned = prefixed::plan::owned_before(steps)?;
        Some(RepositoryCreationTemplateStatus {
            owned: Some(owned),
            ..self.status.clone().unwrap_or_default()
        })
    }
}
