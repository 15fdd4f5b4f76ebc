//! What the apiserver takes of a ReplicationConfig and what it refuses.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{config, named};
use crate::support::{Scene, run};

async fn rejects(scene: &Scene, rules: Value, sentence: &str) -> Result<()> {
    let refusal = scene.refusal(&config(scene, "refused", rules.clone())).await?;
    ensure!(
        refusal.contains(sentence),
        "{rules} was refused with:\n{refusal}\nwhich does not say: {sentence}"
    );
    Ok(())
}

fn to(region: &str) -> Value {
    json!([{ "region": region, "registryId": "111122223333" }])
}

#[test]
fn a_rule_of_aws_is_taken_as_it_stands_and_bad_ones_are_refused() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("repl-adm").await?;
        let text = r#"[
            {"destinations": [{"region": "us-west-2", "registryId": "111122223333"}, {"region": "us-west-1", "registryId": "444455556666"}],
             "repositoryFilters": [{"filter": "prod/", "filterType": "PREFIX_MATCH"}, {"filter": "team-a", "filterType": "PREFIX_MATCH"}],
             "deleteReplication": {"enabled": true}},
            {"destinations": [{"region": "eu-central-1", "registryId": "111122223333"}]}
        ]"#;
        scene
            .apply(&config(&scene, "taken", serde_json::from_str(text)?))
            .await?;
        let filtered = |filters: Value| json!([{ "destinations": to("us-west-2"), "repositoryFilters": filters }]);
        let prefix = |filter: &str| json!({ "filter": filter, "filterType": "PREFIX_MATCH" });
        for (rules, sentence) in [
            (json!([]), "spec.rules in body should have at least 1 items"),
            (
                json!(vec![json!({ "destinations": to("us-west-2") }); 26]),
                "must have at most 25 items",
            ),
            (json!([{}]), "spec.rules[0].destinations: Required value"),
            (
                json!([{ "destinations": [] }]),
                "spec.rules[0].destinations in body should have at least 1 items",
            ),
            (
                json!([{ "destinations": [{ "region": "us-west-2" }] }]),
                "registryId: Required value",
            ),
            (
                json!([{ "destinations": to("Oregon") }]),
                "spec.rules[0].destinations[0].region",
            ),
            (
                json!([{ "destinations": [{ "region": "us-west-2", "registryId": "1" }] }]),
                "spec.rules[0].destinations[0].registryId",
            ),
            (
                json!([{ "destinations": [to("us-west-2")[0], to("us-west-2")[0]] }]),
                "spec.rules[0].destinations[1]: Duplicate value",
            ),
            (
                filtered(json!([])),
                "spec.rules[0].repositoryFilters in body should have at least 1 items",
            ),
            (filtered(json!([{ "filter": "a/" }])), "filterType: Required value"),
            (
                filtered(json!([{ "filter": "a/", "filterType": "WILDCARD" }])),
                "Unsupported value: \"WILDCARD\"",
            ),
            (
                filtered(json!([prefix("a")])),
                "spec.rules[0].repositoryFilters[0].filter",
            ),
            (
                filtered(json!([prefix("prod*")])),
                "spec.rules[0].repositoryFilters[0].filter",
            ),
            (
                filtered(json!([prefix("a/"), prefix("a/")])),
                "spec.rules[0].repositoryFilters[1]: Duplicate value",
            ),
            (
                filtered(json!((0..101).map(|n| prefix(&format!("f{n}/"))).collect::<Vec<_>>())),
                "must have at most 100 items",
            ),
            (
                json!([{ "destinations": to("us-west-2"), "deleteReplication": {} }]),
                "deleteReplication.enabled: Required value",
            ),
            (
                json!([{ "destinations": to("us-west-2"), "tomorrow": 1 }]),
                "unknown field \"spec.rules[0].tomorrow\"",
            ),
        ] {
            rejects(&scene, rules, sentence).await?;
        }
        let mut moved = config(&scene, "taken", serde_json::from_str(text)?);
        moved["spec"]["registryRef"]["name"] = json!("another");
        let refusal = scene.refusal(&moved).await?;
        ensure!(refusal.contains("spec.registryRef cannot be changed"), "{refusal}");
        let name = named(&scene, "taken");
        scene
            .cluster
            .kubectl(&["delete", "replicationconfig.ecr-operator.dev", &name])
            .await?
            .checked()
            .map(drop)
    })
}

#[test]
fn what_is_no_interval_and_no_way_to_backfill_is_refused() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("repl-adm-more").await?;
        let with = |field: &str, value: Value| {
            let mut object = config(&scene, "more", json!([{ "destinations": to("us-west-2") }]));
            object["spec"][field] = value;
            object
        };
        let interval = "spec.verify.interval is 10m to 7d, such as 30m, 6h or 1d";
        for (field, value, sentence) in [
            ("backfill", json!("Always"), "Unsupported value: \"Always\""),
            ("verify", json!({ "interval": "9m" }), interval),
            ("verify", json!({ "interval": "169h" }), interval),
            ("verify", json!({ "interval": "8d" }), interval),
            ("verify", json!({ "interval": "often" }), "spec.verify.interval"),
            ("verify", json!({ "maxCalls": 9 }), "spec.verify.maxCalls"),
            ("verify", json!({ "maxCalls": 2_001 }), "spec.verify.maxCalls"),
        ] {
            let refusal = scene.refusal(&with(field, value.clone())).await?;
            ensure!(refusal.contains(sentence), "{value} was refused with:\n{refusal}");
        }
        for interval in ["10m", "1h30m", "168h", "7d"] {
            scene.apply(&with("verify", json!({ "interval": interval }))).await?;
        }
        scene.apply(&with("verify", json!({}))).await.map(drop)
    })
}
