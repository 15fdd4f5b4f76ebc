//! What the apiserver refuses of documents, with a sentence that names the field.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::hand::{all, statement};
use crate::support::{Scene, merge, object, run};

/// A Registry that is suspended: nothing is made of it.
fn registry(scene: &Scene, documents: Value) -> Value {
    let mut spec = scene.registry_spec();
    merge(&mut spec, documents);
    merge(&mut spec, json!({ "suspend": true }));
    object("Registry", &scene.name, None, spec)
}

async fn rejects(scene: &Scene, documents: Value, sentence: &str) -> Result<()> {
    let refusal = scene.refusal(&registry(scene, documents.clone())).await?;
    ensure!(
        refusal.contains(sentence),
        "{documents} was refused with:\n{refusal}\nwhich does not say: {sentence}"
    );
    Ok(())
}

fn scanning(kind: &str, rules: &[(&str, &[&str])]) -> Value {
    let rules: Vec<_> = rules
        .iter()
        .map(|(frequency, filters)| {
            let filters: Vec<_> = filters.iter().map(|filter| json!({ "filter": filter })).collect();
            json!({ "scanFrequency": frequency, "repositoryFilters": filters })
        })
        .collect();
    json!({ "scanning": { "scanType": kind, "rules": rules } })
}

#[test]
fn scanning_is_ecrs() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("docs-adm-scan").await?;
        let both = [("SCAN_ON_PUSH", &["*"][..]), ("CONTINUOUS_SCAN", &["prod-*", "a"][..])];
        scene.apply(&registry(&scene, scanning("ENHANCED", &both))).await?;
        scene.apply(&registry(&scene, scanning("BASIC", &[]))).await?;
        rejects(&scene, scanning("BASIC", &both), "CONTINUOUS_SCAN needs ENHANCED").await?;
        let twice = [("SCAN_ON_PUSH", &["a"][..]), ("SCAN_ON_PUSH", &["b"][..])];
        rejects(&scene, scanning("BASIC", &twice), "one rule for each scanFrequency").await?;
        rejects(&scene, scanning("FULL", &[]), "spec.scanning.scanType").await?;
        rejects(
            &scene,
            scanning("BASIC", &[("MANUAL", &["a"])]),
            "spec.scanning.rules[0].scanFrequency",
        )
        .await?;
        for filters in [&[][..], &["Prod"][..], &[""][..], &["a//b"][..]] {
            rejects(
                &scene,
                scanning("BASIC", &[("SCAN_ON_PUSH", filters)]),
                "spec.scanning.rules[0].repositoryFilters",
            )
            .await?;
        }
        let many: Vec<String> = (0..101).map(|number| format!("a{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        rejects(
            &scene,
            scanning("BASIC", &[("SCAN_ON_PUSH", &many)]),
            "must have at most 100 items",
        )
        .await?;
        let mut kind = scanning("BASIC", &[("SCAN_ON_PUSH", &["a"])]);
        kind["scanning"]["rules"][0]["repositoryFilters"][0]["filterType"] = json!("REGEX");
        rejects(&scene, kind, "filterType").await
    })
}

#[test]
fn signing_settings_and_exclusions_are_ecrs() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("docs-adm-rest").await?;
        scene.apply(&registry(&scene, all(&scene.account))).await?;
        let signing = |profile: &str, filters: Value| {
            let rule = json!({ "signingProfileArn": profile, "repositoryFilters": filters });
            json!({ "signing": { "rules": [rule] } })
        };
        let profile = "arn:aws:signer:eu-west-1:111122223333:/signing-profiles/release";
        rejects(
            &scene,
            signing("release", json!([{ "filter": "a" }])),
            "signingProfileArn",
        )
        .await?;
        rejects(&scene, signing(profile, json!([])), "repositoryFilters").await?;
        rejects(
            &scene,
            signing(profile, json!([{ "filter": "a/" }])),
            "repositoryFilters[0].filter",
        )
        .await?;
        let eleven: Vec<_> = (0..11).map(|_| json!({ "signingProfileArn": profile })).collect();
        rejects(
            &scene,
            json!({ "signing": { "rules": eleven } }),
            "must have at most 10 items",
        )
        .await?;
        for (setting, value) in [
            ("blobMounting", "MAYBE"),
            ("basicScanTypeVersion", "CLAIR"),
            ("registryPolicyScope", "V1"),
        ] {
            let settings = json!({ "settings": { setting: value } });
            rejects(&scene, settings, &format!("spec.settings.{setting}")).await?;
        }
        let confirmed =
            |words: &str| json!({ "settings": { "registryPolicyScope": "V2", "confirmRegistryPolicyScope": words } });
        scene
            .apply(&registry(&scene, confirmed("V2 wakes sleeping statements")))
            .await?;
        rejects(&scene, confirmed("yes"), "spec.settings.confirmRegistryPolicyScope").await?;
        rejects(
            &scene,
            json!({ "settings": { "confirmRegistryPolicyScope": "V2 wakes sleeping statements" } }),
            "goes with registryPolicyScope",
        )
        .await?;
        for principal in ["scanner", "arn:aws:iam::111122223333:root", "arn:aws:iam::1:role/a"] {
            rejects(
                &scene,
                json!({ "pullTimeUpdateExclusions": [principal] }),
                "spec.pullTimeUpdateExclusions[0]",
            )
            .await?;
        }
        let many: Vec<_> = (0..101)
            .map(|n| format!("arn:aws:iam::111122223333:role/r{n}"))
            .collect();
        rejects(
            &scene,
            json!({ "pullTimeUpdateExclusions": many }),
            "must have at most 100 items",
        )
        .await
    })
}

#[test]
fn a_registrys_policy_is_iams_and_its_statements_have_names() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("docs-adm-policy").await?;
        let document = |statement: Value| json!({ "policy": { "document": { "Version": "2012-10-17", "Statement": [statement] } } });
        let with = |key: &str, value: Value| {
            let mut statement = statement("A", "ecr:ReplicateImage");
            match value {
                Value::Null => drop(statement.as_object_mut().and_then(|map| map.remove(key))),
                value => statement[key] = value,
            }
            document(statement)
        };
        scene.apply(&registry(&scene, with("Principal", json!("*")))).await?;
        scene.apply(&registry(&scene, json!({ "policy": {} }))).await?;
        for (documents, sentence) in [
            (with("Sid", Value::Null), "has a Sid of 1 to 128 letters and digits"),
            (
                with("Sid", json!("no spaces")),
                "has a Sid of 1 to 128 letters and digits",
            ),
            (
                with("Sid", json!("a".repeat(129))),
                "has a Sid of 1 to 128 letters and digits",
            ),
            (with("Resource", Value::Null), "has a Resource"),
            (with("Action", Value::Null), "has an Action"),
            (with("Action", json!([])), "has an Action"),
            (with("Effect", json!("allow")), "Effect is Allow or Deny"),
            (with("Principal", Value::Null), "names a Principal"),
            (with("Until", json!("later")), "and no other"),
            (
                json!({ "policy": { "document": { "Statement": [] } } }),
                "has at least one statement",
            ),
            (
                json!({ "policy": { "document": { "Version": "2012", "Statement": statement("A", "ecr:*") } } }),
                "spec.policy.document.Version",
            ),
        ] {
            rejects(&scene, documents, sentence).await?;
        }
        Ok(())
    })
}
