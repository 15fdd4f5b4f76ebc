//! Other promotions that mean the same containers.

use kube::ResourceExt as _;

use super::{super::world::World, Run, way};
use crate::{
    api::{ImagePromotion, promotion::Target},
    control::{plan::Verdict, reason::Reason},
    promotion::rival::{Claimant, rival},
};

impl Run<'_> {
    /// Why nothing is written to targets: an older promotion means one of their containers. To be asked after the targets
    /// were read.
    pub(super) fn rival(&self) -> Option<Verdict> {
        let world = &self.ctx.world;
        let uris = self.place().ok()?.uris();
        let state = world.promotions.state();
        let others: Vec<(&ImagePromotion, Vec<String>)> = state
            .iter()
            .filter_map(|guard| guard.0.as_ref().ok())
            .filter(|other| {
                other.namespace() == self.object.namespace()
                    && other.uid() != self.object.uid()
                    && other.metadata.deletion_timestamp.is_none()
                    && share(&other.spec.targets, &self.object.spec.targets)
            })
            .map(|other| (other, world.uris_of(other)))
            .collect();
        let others: Vec<Claimant<'_>> = others.iter().map(|(other, uris)| claimant(other, uris)).collect();
        let mut workloads: Vec<_> = self.objects.iter().map(|(name, (_, object))| (name, object)).collect();
        workloads.sort_by_key(|(name, _)| (name.kind, name.name.as_str()));
        let found = rival(claimant(&self.object, &uris), &others, &workloads)?;
        let message = format!(
            "ImagePromotion {} is older and has container {} of {}: nothing is written here",
            found.name,
            found.containers.join(", "),
            found.target
        );
        Some(Verdict::blocked(Reason::TargetTaken, message))
    }

    /// The spec is new: others may have to give way to it, or need not any more.
    pub(super) fn tell_rivals(&self) {
        let world = &self.ctx.world;
        let mine = &self.object;
        let concerned = world.promotions_that(|other| {
            other.namespace() == mine.namespace()
                && other.uid() != mine.uid()
                && (gives_way(other) || share(&other.spec.targets, &mine.spec.targets))
        });
        world.nudge(concerned);
    }
}

/// A promotion is gone: those that gave way to one look again.
pub(super) fn gone(world: &World) {
    world.nudge(world.promotions_that(gives_way));
}

fn gives_way(promotion: &ImagePromotion) -> bool {
    let conditions = promotion.status.iter().flat_map(|status| &status.common.conditions);
    let mut reasons = conditions.map(|condition| condition.reason.as_str());
    reasons.any(|reason| reason == Reason::TargetTaken.as_str())
}

/// Whether targets of two promotions may mean one workload.
fn share(some: &[Target], others: &[Target]) -> bool {
    some.iter().any(|one| {
        others.iter().any(|other| {
            one.kind == other.kind && (one.name == other.name || one.name.is_none() || other.name.is_none())
        })
    })
}

fn claimant<'a>(promotion: &'a ImagePromotion, repositories: &'a [String]) -> Claimant<'a> {
    Claimant {
        created: promotion.creation_timestamp().map(|time| time.0),
        name: promotion.metadata.name.as_deref().unwrap_or_default(),
        targets: &promotion.spec.targets,
        repositories,
    }
}

impl World {
    /// The names of images that count as a promotion's, as far as its repositories are known.
    fn uris_of(&self, promotion: &ImagePromotion) -> Vec<String> {
        self.repositories_of(promotion)
            .filter_map(|(registry_name, name)| {
                let guard = self
                    .registries
                    .get(&kube::runtime::reflector::ObjectRef::new(&registry_name))?;
                let registry = guard.0.as_ref().ok()?;
                Some(way::uri(registry, self.connection(&registry_name).as_deref(), &name))
            })
            .collect()
    }
}
