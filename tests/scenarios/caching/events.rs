//! What somebody else does to a rule or a template is mended because an event tells of it.
//!
//! The operator of these lists once an hour: what it notices, an event told it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bed::{Queue, eventually, throughout};
use serde_json::{Value, json};

use super::{
    cache_rules::{self, rule},
    secret,
    templates::{self, template},
};
use crate::{
    events::{self, Listening, listening, outcomes, read_up},
    support::{LIMIT, REGION, Scene, Stage, run},
};

const RULE: &str = "pullthroughcacherule";
const TEMPLATE: &str = "repositorycreationtemplate";

/// A scene whose Registry listens to a queue, and whose operator may manage these kinds.
async fn hall(stage: &'static Stage, name: &str) -> Result<(&'static Listening, Scene, Queue)> {
    let shared = listening(stage).await?;
    let (scene, queue) = events::scene(stage, shared.cluster, name, Duration::from_mins(5)).await?;
    scene.rights(&[bed::MANAGES, &["caching", "events"]].concat()).await?;
    Ok((shared, scene, queue))
}

/// A rule for a prefix with a credential of ours.
async fn ruled(scene: &Scene, name: &str, prefix: &str, credential: &str) -> Result<Value> {
    let wish = json!({ "ecrRepositoryPrefix": prefix, "credentialArn": secret(scene, credential) });
    scene.apply(&rule(scene, name, wish)).await?;
    scene.reason(RULE, name, "Settled").await
}

async fn templated(scene: &Scene, name: &str, prefix: &str, description: &str) -> Result<Value> {
    let wish = json!({ "prefix": prefix, "description": description });
    scene.apply(&template(scene, name, wish)).await?;
    scene.reason(TEMPLATE, name, "Settled").await
}

/// What the operator called of ECR since the calls were last forgotten.
async fn calls(scene: &Scene) -> Result<BTreeMap<String, usize>> {
    events::ecr_calls(scene).await
}

/// Waits until the operator has called this of ECR, and makes sure that it calls nothing more.
async fn exactly(scene: &Scene, wanted: &[(&str, usize)]) -> Result<()> {
    let wanted: BTreeMap<String, usize> = wanted.iter().map(|(call, n)| ((*call).to_owned(), *n)).collect();
    eventually(LIMIT, "the calls", async || {
        let calls = calls(scene).await?;
        ensure!(calls == wanted, "{calls:?} instead of {wanted:?}");
        Ok(())
    })
    .await?;
    throughout(Duration::from_secs(1), "no more calls", async || {
        let calls = calls(scene).await?;
        ensure!(calls == wanted, "{calls:?} instead of {wanted:?}");
        Ok(())
    })
    .await
}

/// A record of CloudTrail as it would come from AWS.
fn record(scene: &Scene, operation: &str, parameters: &Value) -> String {
    json!({
        "version": "0", "id": "1", "detail-type": "AWS API Call via CloudTrail", "source": "aws.ecr",
        "account": scene.account, "region": REGION, "time": "2026-11-16T01:54:34Z", "resources": [],
        "detail": {
            "eventSource": "ecr.amazonaws.com", "eventName": operation, "awsRegion": REGION, "readOnly": false,
            "requestParameters": parameters, "requestID": "forged", "eventID": "1",
        },
    })
    .to_string()
}

async fn credential(scene: &Scene, prefix: &str) -> Result<String> {
    let rules = cache_rules::rules(scene).await?;
    let found = rules
        .into_iter()
        .find(|rule| rule.ecr_repository_prefix() == Some(prefix));
    let found = found.context("no rule")?;
    Ok(found.credential_arn().unwrap_or_default().to_owned())
}

async fn description(scene: &Scene, prefix: &str) -> Result<String> {
    let templates = templates::templates(scene).await?;
    let found = templates.into_iter().find(|template| template.prefix() == Some(prefix));
    Ok(found
        .context("no template")?
        .description()
        .unwrap_or_default()
        .to_owned())
}

#[test]
fn a_rule_that_another_edits_is_mended_because_an_event_tells_of_it() -> Result<()> {
    run(async |stage| {
        let (_, scene, queue) = hall(stage, "ptc-told").await?;
        ruled(&scene, "ptc-told", "quay", "ours").await?;
        ruled(&scene, "ptc-told-2", "quay-2", "ours").await?;
        read_up(&queue, 0).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        let ecr = scene.ecr().await?;
        let edit = ecr.update_pull_through_cache_rule().ecr_repository_prefix("quay");
        edit.credential_arn(secret(&scene, "theirs")).send().await?;
        // The rule alone is asked for, and not the list that all share, which is as it was before the edit.
        let mends = [
            ("DescribePullThroughCacheRules", 1),
            ("UpdatePullThroughCacheRule", 1),
            ("ValidatePullThroughCacheRule", 1),
        ];
        exactly(&scene, &mends).await?;
        ensure!(credential(&scene, "quay").await? == secret(&scene, "ours"));
        let note = super::event(&scene, "ptc-told", "DriftRepaired").await?;
        ensure!(note.starts_with("credentialArn: "), "{note}");

        let delete = ecr.delete_pull_through_cache_rule().ecr_repository_prefix("quay");
        delete.send().await?;
        eventually(LIMIT, "the rule to be there again", async || {
            let arn = credential(&scene, "quay").await?;
            ensure!(arn == secret(&scene, "ours"), "{arn}");
            Ok(())
        })
        .await?;
        super::event(&scene, "ptc-told", "Recreated").await.map(drop)
    })
}

#[test]
fn a_template_that_another_edits_is_mended_because_an_event_tells_of_it() -> Result<()> {
    run(async |stage| {
        let (_, scene, queue) = hall(stage, "rct-told").await?;
        templated(&scene, "rct-told", "team", "ours").await?;
        templated(&scene, "rct-told-2", "team-2", "ours").await?;
        read_up(&queue, 0).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        let ecr = scene.ecr().await?;
        let edit = ecr.update_repository_creation_template().prefix("team");
        edit.description("theirs").send().await?;
        let mends = [
            ("DescribeRepositoryCreationTemplates", 1),
            ("UpdateRepositoryCreationTemplate", 1),
        ];
        exactly(&scene, &mends).await?;
        ensure!(description(&scene, "team").await? == "ours");
        let note = super::event(&scene, "rct-told", "DriftRepaired").await?;
        ensure!(note.starts_with("description: "), "{note}");

        ecr.delete_repository_creation_template().prefix("team").send().await?;
        eventually(LIMIT, "the template to be there again", async || {
            let description = description(&scene, "team").await?;
            ensure!(description == "ours", "{description}");
            Ok(())
        })
        .await?;
        super::event(&scene, "rct-told", "Recreated").await.map(drop)
    })
}

/// Promise 5: our own writes come back as events and are not looked at.
#[test]
fn what_the_operator_writes_of_rules_and_templates_comes_back_and_costs_nothing() -> Result<()> {
    run(async |stage| {
        let (shared, scene, queue) = hall(stage, "pre-own").await?;
        ruled(&scene, "pre-own", "quay", "first").await?;
        templated(&scene, "pre-own", "team", "first").await?;
        read_up(&queue, 0).await?;
        let (own, others) = (
            outcomes(&shared.operator, &scene, "own-write").await?,
            outcomes(&shared.operator, &scene, "hinted").await?,
        );
        stage.aws.reset_calls(&scene.account, REGION).await?;
        ruled(&scene, "pre-own", "quay", "second").await?;
        templated(&scene, "pre-own", "team", "second").await?;
        eventually(LIMIT, "both events to be read", async || {
            let now = outcomes(&shared.operator, &scene, "own-write").await?;
            ensure!(now == own + 2, "{now} instead of {}", own + 2);
            Ok(())
        })
        .await?;
        // What each update takes, and nothing more.
        let updates = [
            ("DescribePullThroughCacheRules", 1),
            ("DescribeRepositoryCreationTemplates", 1),
            ("UpdatePullThroughCacheRule", 1),
            ("UpdateRepositoryCreationTemplate", 1),
            ("ValidatePullThroughCacheRule", 1),
        ];
        exactly(&scene, &updates).await?;
        ensure!(outcomes(&shared.operator, &scene, "hinted").await? == others);
        Ok(())
    })
}

#[test]
fn a_record_without_a_prefix_means_all_of_its_kind_and_one_with_another_prefix_nobody() -> Result<()> {
    run(async |stage| {
        let (shared, scene, queue) = hall(stage, "pre-any").await?;
        ruled(&scene, "pre-any-1", "quay", "ours").await?;
        ruled(&scene, "pre-any-2", "hub", "ours").await?;
        templated(&scene, "pre-any", "team/", "ours").await?;
        read_up(&queue, 0).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        for number in 0..20 {
            let named = json!({ "ecrRepositoryPrefix": format!("none-{number}"), "prefix": format!("none-{number}") });
            for operation in ["UpdatePullThroughCacheRule", "DeleteRepositoryCreationTemplate"] {
                queue.send(record(&scene, operation, &named)).await?;
            }
        }
        let nonsense = json!({ "prefix": "../../etc" });
        queue
            .send(record(&scene, "UpdateRepositoryCreationTemplate", &nonsense))
            .await?;
        read_up(&queue, 0).await?;
        ensure!(outcomes(&shared.operator, &scene, "malformed").await? == 1);
        exactly(&scene, &[]).await?;

        queue
            .send(record(&scene, "UpdatePullThroughCacheRule", &Value::Null))
            .await?;
        let looks = [
            ("DescribePullThroughCacheRules", 2),
            ("ValidatePullThroughCacheRule", 2),
        ];
        exactly(&scene, &looks).await?;
        // The same names begin with `team` and `team/`.
        queue
            .send(record(
                &scene,
                "DeleteRepositoryCreationTemplate",
                &json!({ "prefix": "team" }),
            ))
            .await?;
        let mut all = looks.to_vec();
        all.push(("DescribeRepositoryCreationTemplates", 1));
        exactly(&scene, &all).await
    })
}
