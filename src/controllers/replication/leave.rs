//! Which leave destinations in other accounts have to give. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    api::{
        Registry, ReplicationConfig,
        names::AccountId,
        registry::RegistryMode,
        replication::{PolicyNeeded, ReplicationDestination},
    },
    document::policy,
    in_use::usage::RegistryKey,
};

/// Every registry for which there is a Registry here, with the accounts that it is seen to let in.
pub(crate) type Known = BTreeMap<RegistryKey, Vec<AccountId>>;

pub(crate) fn known<'r>(registries: impl IntoIterator<Item = &'r Registry>) -> Known {
    let mut known = Known::new();
    for registry in registries {
        let spec = &registry.spec;
        let from = spec.replication.as_ref().and_then(|limits| limits.from.clone());
        let keeps = spec.mode == RegistryMode::Manage && !spec.suspend;
        let lets_in = known
            .entry((spec.registry_id.clone(), spec.region.clone()))
            .or_default();
        lets_in.extend(from.filter(|_| keeps).unwrap_or_default());
    }
    known
}

/// What the policies of the object's destinations have to say, where nobody here sees to it.
pub(crate) fn needed(object: &ReplicationConfig, own: &AccountId, known: &Known) -> Vec<PolicyNeeded> {
    let all = object.spec.rules.iter().flat_map(|rule| &rule.destinations);
    let others: BTreeSet<&ReplicationDestination> = all.filter(|to| to.registry_id != *own).collect();
    let open = others.into_iter().filter(|to| {
        let lets_in = known.get(&(to.registry_id.clone(), to.region.clone()));
        !lets_in.is_some_and(|lets_in| lets_in.contains(own))
    });
    let needed = open.filter_map(|to| {
        let partition = to.region.partition();
        let policy = policy::replication_from([own.as_str()], partition, to.region.as_str(), to.registry_id.as_str());
        Some(PolicyNeeded {
            destination: to.clone(),
            policy: policy.ok()??.to_text(),
        })
    });
    needed.take(25).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const OWN: &str = "111122223333";
    const OTHER: &str = "444455556666";

    fn object(destinations: &[(&str, &str)]) -> ReplicationConfig {
        let to = |(region, account): &(&str, &str)| json!({ "region": region, "registryId": account });
        let destinations: Vec<_> = destinations.iter().map(to).collect();
        serde_json::from_value(json!({
            "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "ReplicationConfig", "metadata": { "name": "a" },
            "spec": { "registryRef": { "name": "main" }, "rules": [{ "destinations": destinations }] },
        }))
        .unwrap()
    }

    fn registry(mode: &str, from: &serde_json::Value) -> Registry {
        serde_json::from_value(json!({
            "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "Registry", "metadata": { "name": "far" },
            "spec": { "region": "us-east-1", "registryId": OTHER, "mode": mode, "replication": { "from": from } },
        }))
        .unwrap()
    }

    #[test]
    fn another_account_has_to_let_this_one_in_and_the_own_needs_no_leave() {
        let own: AccountId = OWN.parse().unwrap();
        let object = object(&[("us-east-1", OWN), ("us-east-1", OTHER), ("eu-north-1", OTHER)]);
        let needed = |registries: &[Registry]| {
            let needed = needed(&object, &own, &known(registries));
            needed
                .into_iter()
                .map(|one| one.destination.region.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(needed(&[]), ["eu-north-1", "us-east-1"]);
        assert_eq!(needed(&[registry("Manage", &json!([OWN]))]), ["eu-north-1"]);
        for unseen in [registry("Manage", &json!([])), registry("Observe", &json!([OWN]))] {
            assert_eq!(needed(&[unseen]), ["eu-north-1", "us-east-1"]);
        }
    }

    #[test]
    fn the_statement_is_told_as_it_has_to_be() {
        let own: AccountId = OWN.parse().unwrap();
        let needed = needed(&object(&[("us-east-1", OTHER)]), &own, &Known::new());
        let policy: serde_json::Value = serde_json::from_str(&needed[0].policy).unwrap();
        let statement = &policy["Statement"][0];
        assert_eq!(statement["Principal"]["AWS"], format!("arn:aws:iam::{OWN}:root"));
        assert_eq!(
            statement["Resource"],
            format!("arn:aws:ecr:us-east-1:{OTHER}:repository/*")
        );
    }
}
