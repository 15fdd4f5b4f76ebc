//! What the apiserver takes of a LifecyclePolicy and what it refuses, rule by rule of ECR's grammar.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::support::{Scene, merge, object, run};

fn policy(scene: &Scene, name: &str, spec: Value) -> Value {
    let mut whole = json!({ "repositorySelector": {} });
    merge(&mut whole, spec);
    object("LifecyclePolicy", name, Some(&scene.name), whole)
}

async fn accepts(scene: &Scene, rules: Value) -> Result<()> {
    scene
        .apply(&policy(scene, "accepted", json!({ "rules": rules })))
        .await
        .map(drop)
}

async fn rejects(scene: &Scene, rules: Value, sentence: &str) -> Result<()> {
    let refusal = scene
        .refusal(&policy(scene, "refused", json!({ "rules": rules })))
        .await?;
    ensure!(
        refusal.contains(sentence),
        "{rules} was refused with:\n{refusal}\nwhich does not say: {sentence}"
    );
    Ok(())
}

/// The rule that every test starts from.
fn rule(selection: Value, action: &Value) -> Value {
    let mut whole =
        json!({ "tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14 });
    merge(&mut whole, selection);
    json!({ "selection": whole, "action": action })
}

fn expiring(selection: Value) -> Value {
    rule(selection, &json!({ "type": "expire" }))
}

fn ranked(priority: u32, mut rule: Value) -> Value {
    merge(&mut rule, json!({ "rulePriority": priority }));
    rule
}

fn any() -> Value {
    json!({ "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 100 }, "action": { "type": "expire" } })
}

#[test]
fn a_document_of_aws_is_taken_as_it_stands() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-adm-aws").await?;
        let text = r#"[
            {"rulePriority": 1, "description": "Rule 1", "selection": {"tagStatus": "tagged", "tagPatternList": ["prod*"], "countType": "imageCountMoreThan", "countNumber": 1}, "action": {"type": "expire"}},
            {"rulePriority": 2, "description": "Rule 2", "selection": {"tagStatus": "tagged", "tagPrefixList": ["beta"], "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 90}, "action": {"type": "transition", "targetStorageClass": "archive"}},
            {"rulePriority": 3, "description": "Rule 3", "selection": {"tagStatus": "any", "storageClass": "archive", "countType": "sinceImageTransitioned", "countUnit": "days", "countNumber": 365}, "action": {"type": "expire"}},
            {"rulePriority": 4, "selection": {"tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 60}, "action": {"type": "expire"}}
        ]"#;
        accepts(&scene, serde_json::from_str(text)?).await?;
        // The same without priorities: then their order counts.
        let mut rules: Vec<Value> = serde_json::from_str(text)?;
        for rule in &mut rules {
            rule.as_object_mut().map(|rule| rule.remove("rulePriority"));
        }
        accepts(&scene, json!(rules)).await?;
        // As many and as long as ECR takes them.
        let pattern = |n: usize| format!("{n}-{}*", "a".repeat(150));
        let many: Vec<Value> = (0..48)
            .map(|n| expiring(json!({ "tagStatus": "tagged", "tagPatternList": [pattern(n)] })))
            .collect();
        accepts(&scene, json!(many)).await
    })
}

#[expect(clippy::too_many_lines, reason = "one line a rule of the grammar")]
#[test]
fn each_rule_of_the_grammar_is_refused_with_its_sentence() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-adm-grammar").await?;
        let archive = |number: u32| json!({ "tagStatus": "any", "storageClass": "archive", "countType": "sinceImageTransitioned", "countNumber": number });
        let move_on = json!({ "type": "transition", "targetStorageClass": "archive" });
        for (rules, sentence) in [
            (json!([]), "should have at least 1 items"),
            (json!(vec![any(); 49]), "must have at most 48 items"),
            (
                json!([ranked(1, expiring(json!({}))), any()]),
                "either every rule has a rulePriority or none has",
            ),
            (
                json!([ranked(1, expiring(json!({}))), ranked(1, any())]),
                "each rulePriority may be used once only",
            ),
            (
                json!([ranked(2, expiring(json!({}))), ranked(1, any())]),
                "must have the highest rulePriority of its storage class",
            ),
            (
                json!([any(), expiring(json!({}))]),
                "must be the last of its storage class",
            ),
            (json!([any(), any()]), "must be the last of its storage class"),
            (
                json!([expiring(json!({})), expiring(json!({ "countNumber": 7 }))]),
                "only one rule of a storage class may have tagStatus untagged",
            ),
            (
                json!([expiring(json!({ "tagStatus": "tagged" }))]),
                "exactly one of tagPatternList and tagPrefixList",
            ),
            (
                json!([expiring(
                    json!({ "tagStatus": "tagged", "tagPatternList": ["a"], "tagPrefixList": ["b"] })
                )]),
                "exactly one of tagPatternList and tagPrefixList",
            ),
            (
                json!([expiring(json!({ "tagPrefixList": ["b"] }))]),
                "go with tagStatus tagged only",
            ),
            (
                json!([expiring(
                    json!({ "tagStatus": "tagged", "tagPatternList": ["*a*b*c*d*"] })
                )]),
                "at most four '*'",
            ),
            (
                json!([expiring(json!({ "tagStatus": "tagged", "tagPatternList": [] }))]),
                "should have at least 1 items",
            ),
            (
                json!([expiring(json!({ "countUnit": null }))]),
                "countUnit days is required",
            ),
            (
                json!([expiring(json!({ "countType": "imageCountMoreThan" }))]),
                "countUnit does not go with countType imageCountMoreThan",
            ),
            (json!([expiring(json!({ "countNumber": 0 }))]), "countNumber"),
            (
                json!([expiring(json!({ "countType": "sinceLastTuesday" }))]),
                "countType",
            ),
            (
                json!([expiring(
                    json!({ "countType": "sinceImageTransitioned", "countNumber": 100 })
                )]),
                "requires storageClass archive",
            ),
            (
                json!([expiring(json!({ "storageClass": "archive" }))]),
                "goes with countType sinceImageTransitioned only",
            ),
            (json!([expiring(archive(89))]), "at least 90"),
            (
                json!([rule(archive(90), &move_on)]),
                "goes with action.type expire only",
            ),
            (
                json!([expiring(json!({ "countType": "sinceImagePulled" }))]),
                "goes with action.type transition only",
            ),
            (
                json!([rule(json!({}), &json!({ "type": "transition" }))]),
                "targetStorageClass archive is required",
            ),
            (
                json!([rule(
                    json!({}),
                    &json!({ "type": "expire", "targetStorageClass": "archive" })
                )]),
                "goes with no other",
            ),
            (
                json!([rule(
                    json!({}),
                    &json!({ "type": "transition", "targetStorageClass": "standard" })
                )]),
                "can only be archive",
            ),
        ] {
            rejects(&scene, rules, sentence).await?;
        }
        let long: Vec<Value> = (0..48)
            .map(|n| expiring(json!({ "tagStatus": "tagged", "tagPrefixList": [format!("{n}-a{}", "a".repeat(280)), format!("{n}-b{}", "a".repeat(280))] })))
            .collect();
        let longer: Vec<Value> = long.iter().cloned().chain([any()]).skip(1).collect();
        rejects(&scene, json!(longer), "more than 30,720 characters").await
    })
}

#[test]
fn a_policy_says_which_repositories_it_is_for() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-adm-for").await?;
        let sentence = "exactly one of repositorySelector and repositoryNames";
        let both = policy(
            &scene,
            "both",
            json!({ "repositoryNames": ["team/web"], "rules": [any()] }),
        );
        let neither = object(
            "LifecyclePolicy",
            "neither",
            Some(&scene.name),
            json!({ "rules": [any()] }),
        );
        let cluster = object(
            "ClusterLifecyclePolicy",
            "lcp-adm-for",
            None,
            json!({ "namespaceSelector": {}, "rules": [any()] }),
        );
        let nowhere = object(
            "ClusterLifecyclePolicy",
            "lcp-adm-for",
            None,
            json!({ "repositorySelector": {}, "rules": [any()] }),
        );
        for (manifest, sentence) in [
            (both, sentence),
            (neither, sentence),
            (cluster, sentence),
            (nowhere, "namespaceSelector"),
        ] {
            let refusal = scene.refusal(&manifest).await?;
            ensure!(refusal.contains(sentence), "{refusal}");
        }
        let percent = policy(
            &scene,
            "percent",
            json!({ "guard": { "maxPercent": 101 }, "rules": [any()] }),
        );
        let refusal = scene.refusal(&percent).await?;
        ensure!(refusal.contains("maxPercent"), "{refusal}");
        Ok(())
    })
}
