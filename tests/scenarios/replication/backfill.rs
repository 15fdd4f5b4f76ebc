//! What was there before a rule is sent once, and what does not arrive is told.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Result, ensure};
use bed::{Operator, eventually};
use serde_json::{Value, json};

use super::{FAR, config, look_now, named, open, rule, settled, told};
use crate::support::{LIMIT, OWNER, REGION, Scene, message, run};

/// An object that asks for backfills.
pub(super) fn on_change(scene: &Scene, name: &str, rules: Value) -> Value {
    let mut object = config(scene, name, rules);
    object["spec"]["backfill"] = json!("OnChange");
    object
}

/// Every backfill that ECR knows.
pub(super) async fn all(scene: &Scene) -> Result<Vec<aws_sdk_ecr::types::ReplicationBackfillSummary>> {
    let answer = scene
        .ecr()
        .await?
        .list_replication_backfills()
        .max_results(50)
        .send()
        .await?;
    Ok(answer.backfills.unwrap_or_default())
}

/// Waits until the object tells of its only backfill that it is in this state.
pub(super) async fn is(scene: &Scene, name: &str, state: &str) -> Result<Value> {
    super::is(scene, name, "Settled").await?;
    eventually(LIMIT, &format!("the backfill to be {state}"), async || {
        let object = scene.get("replicationconfig", &named(scene, name)).await?;
        let told = &object["status"]["backfills"];
        ensure!(told[0]["state"] == state && told[1].is_null(), "{told}");
        Ok(object)
    })
    .await
}

async fn push(scene: &Scene, repository: &str, tag: &str) -> Result<String> {
    let aws = &scene.stage.aws;
    aws.push_image(&scene.account, REGION, repository, tag, tag.as_bytes())
        .await
}

/// The tags that arrived in the other Region.
async fn arrived(scene: &Scene, repository: &str) -> Result<Vec<String>> {
    let aws = &scene.stage.aws;
    let far = aws.ecr(FAR, &aws.admin(&scene.account).await?);
    let Ok(answer) = far.list_images().repository_name(repository).send().await else {
        return Ok(Vec::new());
    };
    let mut tags: Vec<String> = answer
        .image_ids()
        .iter()
        .filter_map(|id| id.image_tag.clone())
        .collect();
    tags.sort();
    Ok(tags)
}

async fn create(scene: &Scene, repository: &str) -> Result<()> {
    let create = scene.ecr().await?.create_repository().repository_name(repository);
    create.send().await?;
    Ok(())
}

/// Waits until the operator's metrics say so of the object and a destination.
async fn measured(operator: &Operator, scene: &Scene, name: &str, to: (&str, &str), figures: &[&str]) -> Result<()> {
    let (name, (region, account)) = (named(scene, name), to);
    eventually(LIMIT, &format!("{figures:?} in metrics"), async || {
        let metrics = operator.metrics().await?;
        let ours: Vec<&str> = metrics
            .lines()
            .filter(|line| line.contains(&format!("name=\"{name}\"")))
            .collect();
        for figure in figures {
            let (figure, state_and_value) = figure.split_once(' ').unwrap_or((figure, ""));
            let (state, value) = state_and_value.split_once(' ').unwrap_or((state_and_value, ""));
            let labels = format!(r#"name="{name}",region="{region}",registry_id="{account}",state="{state}""#);
            let line = format!("ecr_operator_replication_{figure}{{{labels}}} {value}");
            ensure!(ours.contains(&line.as_str()), "{line} is not among {ours:#?}");
        }
        Ok(())
    })
    .await
}

#[test]
fn what_was_there_before_is_sent_once_for_each_change_and_never_without_one() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "fill-once").await?;
        for repository in ["team-a/web", "team-b/web", "other/web"] {
            create(&scene, repository).await?;
            push(&scene, repository, "early").await?;
        }
        let a = json!([rule(&scene, FAR, &["team-a/"])]);
        scene.apply(&on_change(&scene, "a", a.clone())).await?;
        let object = is(&scene, "a", "COMPLETE").await?;
        let told = &object["status"]["backfills"][0];
        ensure!(
            told["total"] == 1 && told["complete"] == 1 && told["failed"] == 0,
            "{told}"
        );
        ensure!(all(&scene).await?[0].replication_backfill_id() == told["id"], "{told}");
        ensure!(arrived(&scene, "team-a/web").await? == ["early"]);
        ensure!(arrived(&scene, "team-b/web").await?.is_empty());
        let far = (FAR, scene.account.as_str());
        measured(
            &stage.operator,
            &scene,
            "a",
            far,
            &["backfills complete 1", "backfills failed 0", "backfills in_progress 0"],
        )
        .await?;
        // What the registry replicates already is no change, whoever asks for it.
        scene.apply(&on_change(&scene, "same", a)).await?;
        super::is(&scene, "same", "Settled").await?;
        // Nor is what nobody wants to be sent.
        settled(&scene, "never", json!([rule(&scene, FAR, &["other/"])])).await?;
        ensure!(all(&scene).await?.len() == 1);
        scene
            .apply(&on_change(&scene, "b", json!([rule(&scene, FAR, &["team-b/"])])))
            .await?;
        is(&scene, "b", "COMPLETE").await?;
        ensure!(all(&scene).await?.len() == 2);
        ensure!(arrived(&scene, "team-b/web").await? == ["early"]);
        // One that is over is not asked for again.
        stage.aws.reset_calls(&scene.account, REGION).await?;
        look_now(&scene, "a", "1").await?;
        let calls = scene.operators_calls().await?;
        ensure!(!calls.contains_key("StartReplicationBackfill"), "{calls:?}");
        is(&scene, "a", "COMPLETE").await.map(drop)
    })
}

#[test]
fn what_another_tool_took_out_is_sent_again_when_it_is_put_back() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "fill-drift").await?;
        scene
            .apply(&on_change(&scene, "a", json!([rule(&scene, FAR, &[])])))
            .await?;
        is(&scene, "a", "COMPLETE").await?;
        super::wire::put(&scene, &json!([])).await?;
        create(&scene, "team-a/web").await?;
        push(&scene, "team-a/web", "meanwhile").await?;
        look_now(&scene, "a", "1").await?;
        eventually(LIMIT, "the image to arrive", async || {
            let arrived = arrived(&scene, "team-a/web").await?;
            ensure!(arrived == ["meanwhile"], "{arrived:?}");
            Ok(())
        })
        .await?;
        ensure!(all(&scene).await?.len() == 2);
        Ok(())
    })
}

#[test]
fn images_that_are_refused_are_told_with_examples_and_hold_nothing_up() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "fill-fails").await?;
        create(&scene, "team-a/web").await?;
        let digest = push(&scene, "team-a/web", "early").await?;
        // The other account lets nobody in.
        let rules = json!([{ "destinations": [{ "region": FAR, "registryId": "300000000001" }] }]);
        scene.apply(&on_change(&scene, "a", rules)).await?;
        let object = is(&scene, "a", "FAILED").await?;
        let told = &object["status"]["backfills"][0];
        ensure!(told["failed"] == 1, "{told}");
        let example = &told["examples"][0];
        ensure!(
            example["repository"] == "team-a/web" && example["image"] == digest.as_str(),
            "{told}"
        );
        ensure!(example["failureCode"] == "AccessDenied", "{told}");
        let object = eventually(LIMIT, "the condition to say so", async || {
            let object = scene.get("replicationconfig", &named(&scene, "a")).await?;
            ensure!(
                message(&object).contains("the backfill to 300000000001 in us-east-1 has failed"),
                "{}",
                message(&object)
            );
            Ok(object)
        })
        .await?;
        ensure!(
            object["status"]["conditions"][0]["status"] == "True",
            "{}",
            object["status"]
        );
        let notes = eventually(LIMIT, "an Event", async || {
            let notes = told_of(&scene).await?;
            ensure!(!notes.is_empty());
            Ok(notes)
        })
        .await?;
        ensure!(notes.len() == 1, "{notes:?}");
        Ok(())
    })
}

async fn told_of(scene: &Scene) -> Result<Vec<String>> {
    told(scene, &named(scene, "a"), "BackfillFailed").await
}

/// Waits until the operator has listed what the registry has now.
async fn listed(scene: &Scene) -> Result<()> {
    scene.stage.aws.reset_calls(&scene.account, REGION).await?;
    eventually(LIMIT, "two listings", async || {
        let calls = scene.operators_calls().await?;
        // The first may have begun before.
        let listings = calls.get("DescribeRepositories").copied().unwrap_or_default();
        ensure!(listings >= 2, "{calls:?}");
        Ok(())
    })
    .await
}

#[test]
fn whether_images_have_arrived_is_asked_now_and_then_within_a_number_of_calls() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "verify").await?;
        for repository in ["team-a/early", "team-a/web", "other/web"] {
            create(&scene, repository).await?;
        }
        let early = push(&scene, "team-a/early", "early").await?;
        let mut object = config(&scene, "a", json!([rule(&scene, FAR, &["team-a/"])]));
        object["spec"]["verify"] = json!({ "interval": "1h", "maxCalls": 10 });
        settled(&scene, "b", json!([rule(&scene, FAR, &["team-a/"])])).await?;
        push(&scene, "team-a/web", "late").await?;
        push(&scene, "other/web", "late").await?;
        listed(&scene).await?;
        scene.apply(&object).await?;
        let status = eventually(LIMIT, "the first answers", async || {
            let object = scene.get("replicationconfig", &named(&scene, "a")).await?;
            let told = object["status"]["verification"].clone();
            let to = told["destinations"][0].clone();
            ensure!(told["images"] == 2 && to["complete"] == 1, "{told}");
            Ok(told)
        })
        .await?;
        let to = &status["destinations"][0];
        ensure!(to["notReplicated"] == 1 && to["failed"] == 0, "{status}");
        ensure!(to["examples"][0]["repository"] == "team-a/early", "{status}");
        ensure!(to["examples"][0]["image"] == early.as_str(), "{status}");
        ensure!(status["reached"].is_null() && status["message"].is_null(), "{status}");
        let far = (FAR, scene.account.as_str());
        let figures = ["images complete 1", "images not_replicated 1", "images failed 0"];
        measured(&stage.operator, &scene, "a", far, &figures).await?;
        // The next round is an hour away.
        stage.aws.reset_calls(&scene.account, REGION).await?;
        settled(&scene, "c", json!([rule(&scene, FAR, &["x/"])])).await?;
        let calls = scene.operators_calls().await?;
        ensure!(!calls.contains_key("DescribeImageReplicationStatus"), "{calls:?}");
        // Whoever asks is answered now: two calls for each repository, and one of them has gone up since.
        let backfill = scene.ecr().await?.start_replication_backfill().destination(
            aws_sdk_ecr::types::ReplicationDestination::builder()
                .region(FAR)
                .registry_id(&scene.account)
                .build()?,
        );
        backfill.send().await?;
        eventually(LIMIT, "the image to arrive", async || {
            ensure!(arrived(&scene, "team-a/early").await? == ["early"]);
            Ok(())
        })
        .await?;
        let object = look_now(&scene, "a", "1").await?;
        let to = &object["status"]["verification"]["destinations"][0];
        ensure!(to["complete"] == 2 && to["notReplicated"] == 0, "{to}");
        let calls = scene.operators_calls().await?;
        ensure!(calls["DescribeImageReplicationStatus"] == 2, "{calls:?}");
        let figures = ["images complete 2", "images not_replicated 0", "images failed 0"];
        measured(&stage.operator, &scene, "a", far, &figures).await?;
        // What is not verified any more is not told of.
        settled(&scene, "a", json!([rule(&scene, FAR, &["team-a/"])])).await?;
        eventually(LIMIT, "the figures to go", async || {
            let metrics = stage.operator.metrics().await?;
            let name = format!("name=\"{}\"", named(&scene, "a"));
            let mut left = metrics.lines().filter(|line| line.contains(&name));
            ensure!(left.next().is_none(), "{metrics}");
            Ok(())
        })
        .await
    })
}

/// They are worked out from the status alone.
#[test]
fn what_metrics_tell_comes_back_after_a_restart_without_a_call_and_goes_with_its_object() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.operator("fill-metrics", cluster, OWNER).await?;
        let scene = stage.scene_on(cluster, "fill-metrics").await?;
        super::grant(&scene).await?;
        scene.registry(json!({})).await?;
        create(&scene, "team-a/web").await?;
        push(&scene, "team-a/web", "early").await?;
        // The other account lets nobody in.
        let other = "300000000002";
        let rules = json!([{ "destinations": [{ "region": FAR, "registryId": other }] }]);
        let mut object = on_change(&scene, "a", rules);
        object["spec"]["verify"] = json!({ "interval": "1h" });
        scene.apply(&object).await?;
        is(&scene, "a", "FAILED").await?;
        look_now(&scene, "a", "1").await?;
        let figures = ["backfills failed 1", "backfills complete 0", "images failed 1"];
        let told = async || {
            measured(&operator, &scene, "a", (FAR, other), &figures).await?;
            let metrics = operator.metrics().await?;
            let name = format!("name=\"{}\"", named(&scene, "a"));
            let own: BTreeSet<String> = metrics
                .lines()
                .filter(|line| line.starts_with("ecr_operator_replication_") && line.contains(&name))
                .map(str::to_owned)
                .collect();
            Ok::<_, anyhow::Error>(own)
        };
        let is_told = |own: &BTreeSet<String>, start: &str| own.iter().any(|line| line.starts_with(start));
        let before = told().await?;
        let name = named(&scene, "a");
        let failed = format!("ecr_operator_replication_verification_failed{{name=\"{name}\"}} 0");
        ensure!(is_told(&before, &failed), "{before:#?}");

        operator.stop().await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        operator.restart().await?;
        let after = told().await?;
        let age = format!("ecr_operator_replication_verification_age_seconds{{name=\"{name}\"}} ");
        ensure!(is_told(&after, &age), "{after:#?}");
        let without = |mut own: BTreeSet<String>| {
            own.retain(|line| !line.starts_with(&age));
            own
        };
        let (before, after) = (without(before), without(after));
        ensure!(after == before, "{after:#?} instead of {before:#?}");
        let calls = scene.operators_calls().await?;
        for operation in [
            "ListReplicationBackfills",
            "DescribeImageReplicationStatus",
            "DescribeRegistry",
        ] {
            ensure!(!calls.contains_key(operation), "{calls:?}");
        }

        super::delete(&scene, "a").await?;
        eventually(LIMIT, "the figures to go", async || {
            let metrics = operator.metrics().await?;
            ensure!(!metrics.contains(&format!("name=\"{name}\"")), "{metrics}");
            Ok(())
        })
        .await?;
        operator.stop().await.map(drop)
    })
}

#[test]
fn a_round_of_questions_goes_on_where_the_last_one_has_ended() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "verify-many").await?;
        let rules = json!([rule(&scene, FAR, &["team-a/"])]);
        settled(&scene, "a", rules.clone()).await?;
        // Two calls each, and ten a round.
        for nth in 0..8 {
            let repository = format!("team-a/{nth}");
            create(&scene, &repository).await?;
            push(&scene, &repository, "v1").await?;
        }
        let mut object = config(&scene, "a", rules);
        object["spec"]["verify"] = json!({ "maxCalls": 10 });
        scene.apply(&object).await?;
        let asked = AtomicU32::new(0);
        let round = async || {
            let token = asked.fetch_add(1, Ordering::Relaxed).to_string();
            let mut object = look_now(&scene, "a", &token).await?;
            Ok::<_, anyhow::Error>(object["status"]["verification"].take())
        };
        // Until all of them were listed.
        let first = eventually(LIMIT, "a whole round", async || {
            let told = round().await?;
            ensure!(told["images"] == 5, "{told}");
            Ok(told)
        })
        .await?;
        let second = round().await?;
        ensure!(
            second["images"] == 5 && second["reached"] != first["reached"],
            "{first} {second}"
        );
        Ok(())
    })
}
