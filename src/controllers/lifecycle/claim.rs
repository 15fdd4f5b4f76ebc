//! What the policies of the cluster want of a Repository: who comes first, and the document composed from its rules.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    ResourceExt as _,
    core::{DeserializeGuard, Selector},
};

use super::select::{Choice, Meant, PolicyName, Rank, Subject, choose};
use crate::{
    api::{
        ACCEPT_ANNOTATION, ClusterLifecyclePolicy, IN_USE_TAG_PREFIX, LifecyclePolicy, Repository, lifecycle::Cleanup,
        names::RepositoryName,
    },
    control::{plan::Verdict, reason::Reason},
    controllers::{
        repository::cleanup::{Claim, Limits, Wish},
        world::{Labels, World},
    },
    document::lifecycle::Policy,
};

/// How many rules are kept for those that protect images in use.
const OURS: usize = 2;

/// The document that a policy asks for, images in use protected.
pub(crate) fn document(cleanup: &Cleanup) -> Result<Policy, String> {
    let rules = serde_json::to_value(&cleanup.rules).map_err(|error| error.to_string())?;
    let policy = Policy::from_value(&serde_json::json!({ "rules": rules })).map_err(|error| format!("spec.{error}"))?;
    policy.check(OURS).map_err(|error| format!("spec.{error}"))?;
    if !cleanup.protect_in_use {
        return Ok(policy);
    }
    let composed = policy.protecting(IN_USE_TAG_PREFIX);
    composed.check(0).map_err(|error| {
        format!("spec.rules cannot be put together with the rule that keeps images in use (prefix {IN_USE_TAG_PREFIX}): {error}")
    })?;
    Ok(composed)
}

/// A policy that means a Repository.
pub(crate) struct Meaning {
    pub rank: Rank,
    pub name: PolicyName,
    pub cleanup: Cleanup,
    /// The annotation that accepts previews.
    pub accepts: String,
}

impl World {
    /// The policies that mean a Repository, or the name of one that cannot be read and might.
    pub(crate) async fn policies_of(
        &self,
        repository: &Repository,
        name: &RepositoryName,
        namespace: Option<&Labels>,
    ) -> Result<Vec<Meaning>, String> {
        // Before both lists are complete, a policy that was not seen yet would be taken to be gone.
        self.readiness
            .until_done(&crate::control::spawn::list_of::<LifecyclePolicy>())
            .await;
        self.readiness
            .until_done(&crate::control::spawn::list_of::<ClusterLifecyclePolicy>())
            .await;
        self.known_policies_of(repository, name, namespace)
    }

    /// The same, of what is known so far.
    pub(crate) fn known_policies_of(
        &self,
        repository: &Repository,
        name: &RepositoryName,
        namespace: Option<&Labels>,
    ) -> Result<Vec<Meaning>, String> {
        let subject = Subject {
            name,
            labels: repository.labels(),
            namespace,
        };
        let mut found = Vec::new();
        for guard in self.lifecycle_policies.state() {
            let DeserializeGuard(read) = guard.as_ref();
            match read {
                Ok(policy) if policy.metadata.namespace == repository.metadata.namespace => {
                    if !understood([policy.spec.repository_selector.as_ref()]) {
                        return Err(PolicyName::Namespaced(policy.name_any()).to_string());
                    }
                    found.extend(Meant::of(policy).rank(subject).map(|rank| Meaning {
                        rank,
                        name: PolicyName::Namespaced(policy.name_any()),
                        cleanup: policy.spec.cleanup.clone(),
                        accepts: accepts(policy),
                    }));
                }
                Err(invalid) if invalid.metadata.namespace == repository.metadata.namespace => {
                    return Err(PolicyName::Namespaced(invalid.metadata.name.clone().unwrap_or_default()).to_string());
                }
                _ => {}
            }
        }
        for guard in self.cluster_lifecycle_policies.state() {
            match &guard.0 {
                Ok(policy) => {
                    let selectors = [
                        policy.spec.repository_selector.as_ref(),
                        Some(&policy.spec.namespace_selector),
                    ];
                    if !understood(selectors) {
                        return Err(PolicyName::Cluster(policy.name_any()).to_string());
                    }
                    found.extend(Meant::of_cluster(policy).rank(subject).map(|rank| Meaning {
                        rank,
                        name: PolicyName::Cluster(policy.name_any()),
                        cleanup: policy.spec.cleanup.clone(),
                        accepts: accepts(policy),
                    }));
                }
                Err(invalid) => {
                    return Err(PolicyName::Cluster(invalid.metadata.name.clone().unwrap_or_default()).to_string());
                }
            }
        }
        Ok(found)
    }

    /// What is wanted of the lifecycle policy of a Repository.
    pub(crate) async fn cleanup_of(
        &self,
        repository: &Repository,
        name: &RepositoryName,
        namespace: Option<&Labels>,
    ) -> Wish {
        let held = |by: String, reason, message: String| Wish::Held {
            by,
            verdict: Some(Verdict::blocked(reason, message)),
        };
        let meaning = match self.policies_of(repository, name, namespace).await {
            Ok(meaning) => meaning,
            Err(unreadable) => {
                let message = format!(
                    "{unreadable} cannot be read and may mean this repository; its lifecycle policy is left as it is"
                );
                return held(String::new(), Reason::Invalid, message);
            }
        };
        let chosen = match choose(
            meaning
                .into_iter()
                .map(|meaning| (meaning.rank, meaning.name.clone(), meaning)),
        ) {
            Choice::Nobody => return Wish::Unclaimed,
            Choice::One(chosen) => chosen,
            Choice::Tie(names) => {
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                let message = format!(
                    "{} mean the repository equally closely, so neither is put and its lifecycle policy is left as it is; change what one of them selects",
                    names.join(" and ")
                );
                return held(String::new(), Reason::Conflict, message);
            }
        };
        let by = chosen.name.to_string();
        if chosen.cleanup.suspend {
            return Wish::Held { by, verdict: None };
        }
        match document(&chosen.cleanup) {
            Ok(document) => Wish::Claimed(Box::new(Claim {
                by,
                document,
                mode: chosen.cleanup.mode,
                guard: Limits::of(&chosen.cleanup),
                protect: chosen.cleanup.protect_in_use,
                accepted: [chosen.accepts, accepts(repository)]
                    .iter()
                    .flat_map(|list| list.split([',', ' ']))
                    .filter(|token| !token.is_empty())
                    .map(ToOwned::to_owned)
                    .collect(),
            })),
            Err(error) => held(by.clone(), Reason::Invalid, format!("{by}: {error}")),
        }
    }
}

/// Whether the selectors are ones that Kubernetes knows. The schema takes any operator, and one that is not known would
/// select nothing.
fn understood<const N: usize>(selectors: [Option<&LabelSelector>; N]) -> bool {
    let mut given = selectors.into_iter().flatten();
    given.all(|selector| Selector::try_from(selector.clone()).is_ok())
}

fn accepts(object: &impl kube::Resource) -> String {
    object
        .meta()
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(ACCEPT_ANNOTATION).cloned())
        .unwrap_or_default()
}
