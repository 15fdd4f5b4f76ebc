//! The ReplicationConfigs: each with a filter of its own, and destinations that others have, too.

use anyhow::{Context as _, Result};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::super::objects::{self, resource};
use super::places::Place;

/// Where the registries replicate to, by turns. Rules of one destination are one in ECR, so that each registry has so many.
const DESTINATIONS: [&str; 5] = ["us-east-1", "us-east-2", "ap-south-1", "eu-north-1", "sa-east-1"];

/// The one that is edited.
pub(super) const EDITED: u32 = 0;

fn name(number: u32) -> String {
    format!("config-{number:04}")
}

/// What a config replicates, and after its edit.
fn filter(number: u32, edited: bool) -> String {
    let edited = if edited { "-edited" } else { "" };
    format!("team-{number}{edited}/")
}

/// The registry of a config.
fn place(number: u32, places: &[Place]) -> &Place {
    &places[number as usize % places.len()]
}

fn rules(number: u32, places: &[Place], edited: bool) -> Value {
    let turn = number as usize / places.len() % DESTINATIONS.len();
    json!([{
        "destinations": [{ "region": DESTINATIONS[turn], "registryId": place(number, places).account }],
        "repositoryFilters": [{ "filter": filter(number, edited), "filterType": "PREFIX_MATCH" }],
    }])
}

fn manifest(number: u32, places: &[Place]) -> Value {
    json!({
        "apiVersion": "ecr-operator.dev/v1alpha1",
        "kind": "ReplicationConfig",
        "metadata": { "name": name(number) },
        "spec": { "registryRef": { "name": place(number, places).name }, "rules": rules(number, places, false) },
    })
}

fn api(client: &Client) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource("ReplicationConfig", "replicationconfigs"))
}

/// Creates so many, as fast as the apiserver takes them.
pub(super) async fn apply(client: &Client, places: &[Place], count: u32) -> Result<()> {
    let manifests: Vec<Value> = (0..count).map(|number| manifest(number, places)).collect();
    objects::create(&api(client), &manifests).await
}

/// The generation of the one that is edited, while it is not.
pub(super) async fn generation(client: &Client) -> Result<i64> {
    let config = api(client).get(&name(EDITED)).await?;
    config.metadata.generation.context("an object without a generation")
}

/// Edits one.
pub(super) async fn edit(client: &Client, places: &[Place]) -> Result<()> {
    let patch = Patch::Merge(json!({ "spec": { "rules": rules(EDITED, places, true) } }));
    let edited = api(client).patch(&name(EDITED), &PatchParams::default(), &patch).await;
    edited.map(drop).context("editing a ReplicationConfig")
}

/// The filters that a registry is to have.
pub(super) fn filters(of: &Place, places: &[Place], count: u32, edited: bool) -> Vec<String> {
    let ours = (0..count).filter(|number| place(*number, places) == of);
    let mut filters: Vec<String> = ours.map(|number| filter(number, edited && number == EDITED)).collect();
    filters.sort();
    filters
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::super::objects::AT_ONCE;
    use super::*;

    #[test]
    fn as_many_as_may_be_asked_for_stay_within_the_limits_of_ecr() {
        let places = Place::three();
        let mut filters: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
        for number in 0..1_500 {
            let config = manifest(number, &places);
            let rule = &config["spec"]["rules"][0];
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let key = (
                text(&config["spec"]["registryRef"]["name"]),
                text(&rule["destinations"][0]["region"]),
            );
            let filter = text(&rule["repositoryFilters"][0]["filter"]);
            assert!(filters.entry(key).or_default().insert(filter), "{number}");
        }
        assert_eq!(filters.len(), 3 * DESTINATIONS.len());
        assert!(filters.values().all(|filters| filters.len() == 100));
    }

    #[test]
    fn no_registry_replicates_to_itself() {
        assert!(Place::three().iter().all(|place| !DESTINATIONS.contains(&place.region)));
    }

    #[test]
    fn those_that_are_applied_first_are_in_all_registries() {
        let places = Place::three();
        let first = (0..u32::try_from(AT_ONCE).unwrap()).map(|number| &place(number, &places).name);
        assert_eq!(first.collect::<BTreeSet<_>>().len(), 3);
    }

    #[test]
    fn an_edit_is_of_one_config() {
        let places = Place::three();
        let of = |place: &Place, edited| filters(place, &places, 6, edited);
        assert_eq!(of(&places[0], false), ["team-0/", "team-3/"]);
        assert_eq!(of(&places[0], true), ["team-0-edited/", "team-3/"]);
        assert_eq!(of(&places[1], true), of(&places[1], false));
    }
}
