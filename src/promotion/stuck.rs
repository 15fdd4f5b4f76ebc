//! A rollback that Kubernetes would not end: see `docs/decisions/0012-stuck-pods.md`.

use super::{
    facts::{Facts, TargetFacts},
    moves::{Action, Move, TargetName},
};
use crate::api::promotion::{RolloutKind, RolloutStatus};

/// Deletes the pods of the failed image for which a `StatefulSet` waits, once it has the good image. In a rollback only: on
/// the way forward nothing says that the new image is any better than that of the pod.
pub(super) fn replace(facts: &Facts, rollout: &RolloutStatus, target: &TargetFacts) -> Option<Move> {
    let found = target.found.as_ref()?;
    let is_back = found.digest.as_ref() == Some(&rollout.image.digest);
    if rollout.kind != RolloutKind::Rollback || !is_back || found.stuck.is_empty() {
        return None;
    }
    facts.try_once(Action::ReplaceStuck {
        target: TargetName {
            kind: target.kind,
            name: target.name.clone(),
        },
        pods: found.stuck.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::promotion::{Actor, Phase, TargetKind, Via},
        promotion::{
            facts::StuckPod,
            ledger,
            samples::{deployment, digest, image, repositories, target},
            workload::{self, Limits},
        },
    };

    fn rollout(kind: RolloutKind, to: char) -> RolloutStatus {
        let began = "2026-11-24T12:00:00Z".parse().unwrap();
        RolloutStatus {
            id: 2,
            kind,
            image: ledger::nameless(digest(to)),
            from: None,
            phase: Phase::RollingOut,
            since: began,
            started_at: began,
            verification: 0,
            reason: String::new(),
            by: Actor::Operator,
            failure: None,
        }
    }

    /// A target that runs this image, and what it waits for.
    fn waiting(running: char, pods: &[&str]) -> TargetFacts {
        let wanted = target(&json!({ "kind": "StatefulSet", "containers": ["app"] }));
        let object = deployment(&image(running));
        let mut found = workload::read(&wanted, &object, &[], &repositories(), Limits::default());
        let pod = |name: &&str| StuckPod {
            name: (*name).to_owned(),
            uid: "91ab".into(),
            resource_version: "77".into(),
        };
        found.stuck = pods.iter().map(pod).collect();
        TargetFacts {
            kind: TargetKind::StatefulSet,
            name: "web".into(),
            via: Via::Auto,
            written: found.digest.clone(),
            found: Some(found),
        }
    }

    #[test]
    fn pods_are_deleted_in_a_rollback_alone_and_once_the_workload_has_the_good_image() {
        let stuck = waiting('a', &["web-1"]);
        let Some(Move::Do(Action::ReplaceStuck { target, pods })) =
            replace(&Facts::default(), &rollout(RolloutKind::Rollback, 'a'), &stuck)
        else {
            panic!("the pod stays");
        };
        assert_eq!(
            (target.to_string().as_str(), pods[0].name.as_str()),
            ("StatefulSet web", "web-1")
        );
        for kind in [RolloutKind::Promotion, RolloutKind::Pin] {
            assert_eq!(
                replace(&Facts::default(), &rollout(kind, 'a'), &stuck),
                None,
                "{kind:?}"
            );
        }
        let back = rollout(RolloutKind::Rollback, 'a');
        assert_eq!(
            replace(&Facts::default(), &back, &waiting('b', &["web-1"])),
            None,
            "it has another image"
        );
        assert_eq!(replace(&Facts::default(), &back, &waiting('a', &[])), None);
    }
}
