//! The registries: each of an account of its own, in several Regions.

use anyhow::{Context as _, Result};
use kube::core::DynamicObject;
use kube::{Api, Client};
use serde_json::Value;

use super::super::figures::{Counts, difference};
use super::super::objects::{self, Collection, Watch, lack, resource};
use super::super::phases::generous;
use super::super::stage::Stage;

/// Where the registries are, by turns.
const REGIONS: [&str; 3] = ["eu-west-1", "eu-central-1", "us-west-2"];

/// The accounts are counted from here.
const FIRST_ACCOUNT: u64 = 500_000_000_000;

/// A registry and the name of its Registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) account: String,
    pub(super) region: &'static str,
}

impl Place {
    /// So many of them.
    pub(super) fn some(count: u32) -> Vec<Self> {
        let place = |(number, region): (u32, &&'static str)| Self {
            name: format!("registry-{number:02}"),
            account: (FIRST_ACCOUNT + u64::from(number)).to_string(),
            region,
        };
        (0..count).zip(REGIONS.iter().cycle()).map(place).collect()
    }

    /// One in each Region.
    pub(super) fn three() -> Vec<Self> {
        Self::some(3)
    }
}

/// Makes the operator's role in each account, and the Registries.
pub(super) async fn apply(stage: &Stage, places: &[Place]) -> Result<()> {
    let mut manifests = Vec::new();
    for Place { name, account, region } in places {
        stage.role(account, region).await?;
        manifests.push(stage.registry(name, account, region));
    }
    objects::create(&api(&stage.client), &manifests).await
}

/// The same, and waits until all are claimed and nothing is done any more.
pub(super) async fn open(stage: &Stage, places: &[Place]) -> Result<()> {
    let mut watch = Watch::of(&stage.client, Collection::cluster("registries"), lack).await?;
    apply(stage, places).await?;
    let claimed = watch.until(generous(0), "all Registries to be Ready", |seen| {
        seen.ready() == places.len()
    });
    claimed.await?;
    stage.rest().await
}

fn api(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource("Registry", "registries"))
}

/// The calls to some registries by whomever.
#[derive(Debug)]
pub(super) struct CallsBy(Vec<(String, Counts)>);

impl CallsBy {
    pub(super) async fn now(stage: &Stage, places: &[Place]) -> Result<Self> {
        let mut all = Vec::new();
        for place in places {
            let calls = stage.aws.calls(&place.account, place.region).await?;
            all.push((place.name.clone(), calls.operations));
        }
        Ok(Self(all))
    }

    /// How often an operation was called since, by the name of the Registry.
    pub(super) fn since(&self, before: &Self, operation: &str) -> Counts {
        let old = before.0.iter().map(|(_, counts)| counts);
        let since = self.0.iter().zip(old).map(|((name, new), old)| {
            let calls = difference(old, new).get(operation).copied().unwrap_or_default();
            (name.clone(), calls)
        });
        since.collect()
    }
}

/// What all filters of a registry's replication configuration say, as ECR has it.
pub(super) async fn filters(stage: &Stage, place: &Place) -> Result<Vec<String>> {
    let ecr = stage.aws.ecr(place.region, &stage.aws.admin(&place.account).await?);
    stage.admin.counts("DescribeRegistry");
    let answer = ecr.describe_registry().send().await;
    let answer = answer.with_context(|| format!("the replication configuration of {}", place.name))?;
    let rules = answer
        .replication_configuration
        .map(|all| all.rules)
        .unwrap_or_default();
    let filters = rules
        .into_iter()
        .flat_map(|rule| rule.repository_filters.unwrap_or_default());
    Ok(filters.map(|filter| filter.filter).collect())
}

/// How many repositories there are in a registry, as ECR has it; at most 1,000.
pub(super) async fn repositories(stage: &Stage, place: &Place) -> Result<usize> {
    let ecr = stage.aws.ecr(place.region, &stage.aws.admin(&place.account).await?);
    stage.admin.counts("DescribeRepositories");
    let answer = ecr.describe_repositories().max_results(1_000).send().await;
    let answer = answer.with_context(|| format!("the repositories of {}", place.name))?;
    Ok(answer.repositories.map_or(0, |all| all.len()))
}

/// As it is printed.
pub(super) fn printed(calls: &Counts) -> Value {
    calls
        .iter()
        .map(|(name, count)| (name.clone(), Value::from(*count)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_registry_is_of_an_account_of_its_own() {
        let places = Place::some(20);
        let accounts: BTreeSet<&str> = places.iter().map(|place| place.account.as_str()).collect();
        let regions: BTreeSet<&str> = places.iter().map(|place| place.region).collect();
        assert_eq!((accounts.len(), regions.len()), (20, 3));
        assert!(accounts.iter().all(|account| account.len() == 12));
        let three: BTreeSet<&str> = Place::three().iter().map(|place| place.region).collect();
        assert_eq!(three, regions);
    }

    #[test]
    fn calls_are_counted_by_registry_and_none_is_told_as_such() {
        let calls = |put: [u64; 2]| {
            let counted = |(name, put): (&str, u64)| {
                let counts = Counts::from([("Put".to_owned(), put), ("Get".to_owned(), 9)]);
                (name.to_owned(), counts)
            };
            CallsBy([("a", put[0]), ("b", put[1])].map(counted).to_vec())
        };
        let since = calls([3, 1]).since(&calls([1, 1]), "Put");
        assert_eq!(since, Counts::from([("a".to_owned(), 2), ("b".to_owned(), 0)]));
        assert_eq!(printed(&since)["a"], 2);
    }
}
