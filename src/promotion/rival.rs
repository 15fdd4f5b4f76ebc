//! Two promotions that mean one container: the older one has it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::core::{Selector, SelectorExt as _};
use serde_json::Value;

use super::{moves::TargetName, workload};
use crate::api::promotion::Target;

/// A promotion, as far as it matters to others of its namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant<'a> {
    pub created: Option<Timestamp>,
    pub name: &'a str,
    pub targets: &'a [Target],
    /// The names of images that `*` in its targets stands for.
    pub repositories: &'a [String],
}

/// The older promotion, and what it has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    pub name: String,
    pub target: TargetName,
    pub containers: Vec<String>,
}

/// The oldest of the `others` that means a container which `mine` means too, if that one is older; of those created in
/// the same second the first by name. `workloads` are those that `mine` means, as they are: what `*` stands for is seen
/// in them, and so is what a selector finds.
///
/// A promotion has its containers as long as it exists, whatever keeps it from writing: with one that waits, is refused or
/// is suspended, the image would change hands back and forth.
pub(crate) fn rival(mine: Claimant<'_>, others: &[Claimant<'_>], workloads: &[(&TargetName, &Value)]) -> Option<Rival> {
    let age = |claimant: &Claimant<'_>| (claimant.created, claimant.name.to_owned());
    let mut elders: Vec<_> = others.iter().filter(|other| age(other) < age(&mine)).collect();
    elders.sort_by_key(|elder| age(elder));
    elders.into_iter().find_map(|elder| {
        workloads.iter().find_map(|(name, object)| {
            let theirs = containers(elder, name, object);
            let shared: Vec<String> = containers(&mine, name, object)
                .into_iter()
                .filter(|container| theirs.contains(container))
                .collect();
            (!shared.is_empty()).then(|| Rival {
                name: elder.name.to_owned(),
                target: (*name).clone(),
                containers: shared,
            })
        })
    })
}

/// The containers of a workload that a promotion means.
fn containers(claimant: &Claimant<'_>, name: &TargetName, object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for target in claimant.targets.iter().filter(|target| means(target, name, object)) {
        for container in workload::selected(target, object, claimant.repositories) {
            if !found.contains(&container.name) {
                found.push(container.name);
            }
        }
    }
    found
}

fn means(target: &Target, name: &TargetName, object: &Value) -> bool {
    if target.kind != name.kind {
        return false;
    }
    match (&target.name, &target.selector) {
        (Some(wanted), _) => *wanted == name.name,
        (None, Some(selector)) => {
            let labels: BTreeMap<String, String> =
                serde_json::from_value(object["metadata"]["labels"].clone()).unwrap_or_default();
            Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(&labels))
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::promotion::TargetKind,
        promotion::samples::{deployment, image, repositories, target},
    };

    const OTHER: &str = "docker.io/library/envoy";

    fn workload() -> (TargetName, Value) {
        let name = TargetName {
            kind: TargetKind::Deployment,
            name: "web".into(),
        };
        let mut object = deployment(&image('a'));
        object["metadata"]["labels"] = json!({ "app": "web" });
        (name, object)
    }

    /// What keeps a promotion with the target `mine` of the sample's repository from writing, beside one of `theirs`.
    fn between(mine: &Value, theirs: &Value, repository: &str, (older, younger): (&str, &str)) -> Option<Rival> {
        let (name, object) = workload();
        let (mine, theirs) = ([target(mine)], [target(theirs)]);
        let (ours, others) = (repositories(), [repository.to_owned()]);
        let mine = Claimant {
            created: Some(younger.parse().unwrap()),
            name: "mine",
            targets: &mine,
            repositories: &ours,
        };
        let theirs = Claimant {
            created: Some(older.parse().unwrap()),
            name: "first",
            targets: &theirs,
            repositories: &others,
        };
        rival(mine, &[theirs], &[(&name, &object)])
    }

    const FIRST: (&str, &str) = ("2026-11-24T12:00:00Z", "2026-11-24T12:00:01Z");

    #[test]
    fn the_older_one_has_the_container_and_of_one_age_the_first_by_name() {
        let app = json!({ "containers": ["app"] });
        let found = between(&app, &app, OTHER, FIRST).unwrap();
        assert_eq!(
            (found.name.as_str(), found.containers),
            ("first", vec!["app".to_owned()])
        );
        assert_eq!(found.target.to_string(), "Deployment web");
        let (older, younger) = FIRST;
        assert_eq!(between(&app, &app, OTHER, (younger, older)), None);
        assert!(
            between(&app, &app, OTHER, (older, older)).is_some(),
            "first is before mine"
        );
    }

    #[test]
    fn only_what_both_mean_counts() {
        let app = json!({ "containers": ["app"] });
        let repository = repositories().remove(0);
        for (theirs, of, shared) in [
            (json!({ "containers": ["proxy"] }), OTHER, false),
            (json!({ "containers": ["proxy", "app"] }), OTHER, true),
            (json!({ "containers": ["*"] }), OTHER, false),
            (json!({ "containers": ["*"] }), &*repository, true),
            (json!({ "containers": ["gone"] }), OTHER, false),
            (json!({ "containers": [], "initContainers": ["app"] }), OTHER, false),
            (json!({ "name": "api", "containers": ["app"] }), OTHER, false),
            (json!({ "kind": "StatefulSet", "containers": ["app"] }), OTHER, false),
        ] {
            let found = between(&app, &theirs, of, FIRST);
            assert_eq!(found.is_some(), shared, "{theirs} {of}");
        }
        // What mine means by `*` is of its own repository alone.
        let any = json!({ "containers": ["*"] });
        assert!(between(&any, &any, OTHER, FIRST).is_none());
        assert!(between(&any, &app, OTHER, FIRST).is_some());
    }

    #[test]
    fn a_selector_means_what_its_labels_match() {
        let selecting =
            |app: &str| json!({ "name": null, "selector": { "matchLabels": { "app": app } }, "containers": ["app"] });
        let app = json!({ "containers": ["app"] });
        assert!(between(&app, &selecting("web"), OTHER, FIRST).is_some());
        assert!(between(&app, &selecting("api"), OTHER, FIRST).is_none());
        assert!(between(&selecting("web"), &app, OTHER, FIRST).is_some());
    }

    #[test]
    fn of_several_the_oldest_is_named() {
        let (name, object) = workload();
        let targets = [target(&json!({ "containers": ["app"] }))];
        let claimant = |name, created: &str| Claimant {
            created: Some(created.parse().unwrap()),
            name,
            targets: &targets,
            repositories: &[],
        };
        let others = [
            claimant("second", "2026-11-24T12:00:01Z"),
            claimant("first", "2026-11-24T12:00:00Z"),
        ];
        let mine = claimant("third", "2026-11-24T12:00:02Z");
        let found = rival(mine, &others, &[(&name, &object)]).unwrap();
        assert_eq!(found.name, "first");
        assert!(
            rival(mine, &others, &[]).is_none(),
            "what does not exist is not fought over"
        );
    }
}
