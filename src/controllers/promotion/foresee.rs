//! What the operator would do next for a promotion, told and not done.

use super::super::world::World;
use super::{Run, way};
use crate::{
    api::{ImagePromotion, promotion::Via},
    control::{
        context::Context,
        error::{Error, Result},
        plan::{Plan, Verdict},
    },
    promotion::{
        facts::Health,
        moves::{Action, Move},
    },
};

/// The moves that are looked ahead at most.
const AHEAD: usize = 300;

/// The Registries that a promotion reads from and copies to.
pub(crate) async fn registries(object: &ImagePromotion, ctx: &Context<World>) -> Result<Vec<String>> {
    way::registries(object, ctx).await
}

/// Asks the engine for the next moves and lets it believe that they were made, up to what only the cluster can tell: how the
/// rollout fares.
pub(crate) async fn foresee(object: ImagePromotion, ctx: &Context<World>) -> Result<Plan<String>> {
    let Some(mut run) = Run::begin(object, ctx).await? else {
        return Ok(Plan::verdict(Verdict::settled()));
    };
    if run.object.spec.suspend {
        let message = "spec.suspend is true: nothing is looked at or written".to_owned();
        return Ok(Plan::verdict(Verdict::Suspended { message }));
    }
    if let Err(verdict) = &run.way {
        return Ok(Plan::verdict(verdict.clone()));
    }
    let mut plan = Plan::verdict(Verdict::settled());
    if let Some(record) = run.leave_source()? {
        plan.steps.extend(record.told.into_iter().map(|told| told.note));
        run.status = record.status;
    }
    for _ in 0..AHEAD {
        let requests = run.requests();
        match run.next(&requests) {
            Move::Look(look) => run.look(look).await?,
            Move::Record(record) => {
                let begins = record.status.rollout.is_some() && record.status.rollout != run.status.rollout;
                if begins || !requests.is_empty() {
                    plan.steps.extend(record.told.into_iter().map(|told| told.note));
                }
                run.status = record.status;
            }
            Move::Do(action) => {
                plan.steps.push(action.to_string());
                if !run.believe(&action) {
                    return Ok(plan);
                }
            }
            Move::Rest(rest) => {
                // What has steps to take is not held up, whatever is to be waited for after them.
                if plan.steps.is_empty() {
                    plan.verdict = rest.verdict;
                }
                return Ok(plan);
            }
        }
    }
    Err(Error::NotConverging {
        left: format!("the promotion took {AHEAD} moves without coming to rest"),
    })
}

impl Run<'_> {
    /// Changes what was seen as the action would; false where nobody can say what it would lead to.
    fn believe(&mut self, action: &Action) -> bool {
        match action {
            Action::Write { target, image } => {
                if let Some(entry) = self.facts.target_mut(target) {
                    entry.written = Some(image.digest.clone());
                    if let (Via::Auto | Via::Direct, Some(found)) = (entry.via, &mut entry.found) {
                        found.digest = Some(image.digest.clone());
                        found.health = Health::Progressing("it would be rolled out".into());
                    }
                }
                true
            }
            Action::MarkRejected { target, digests } => {
                if let Some(found) = self.facts.target_mut(target).and_then(|entry| entry.found.as_mut()) {
                    found.rejected.clone_from(digests);
                }
                true
            }
            Action::Retag { tag, image } => {
                self.status.verified_tag = Some(crate::api::promotion::ImageStatus {
                    tag: Some(tag.clone()),
                    ..image.clone()
                });
                true
            }
            Action::Publish(image) => {
                self.status.published = Some(image.digest.clone());
                true
            }
            Action::Withdraw(_) | Action::StartCopy(_) | Action::StartCheck { .. } | Action::ReplaceStuck { .. } => {
                false
            }
        }
    }
}
