//! What ECR tells of images is acted on at once, and never believed. The promotions here look by themselves once a day.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::types::ImageIdentifier;
use bed::{Queue, eventually};
use serde_json::json;

use super::play::{LIMIT, Play, workloads};
use crate::support::{REGION, Stage, run};

/// A play whose Registry listens to a queue.
async fn open(stage: &'static Stage, name: &str) -> Result<(Play, Queue)> {
    workloads(stage).await?;
    let scene = stage.scene(name).await?;
    let hidden = Duration::from_mins(5);
    let queue = stage.aws.event_queue(&scene.account, REGION, hidden).await?;
    let play = Play::enter(scene, json!({ "events": { "queueUrl": queue.url } })).await?;
    eventually(2 * LIMIT, "the queue to be read", async || {
        let registry = play.scene.get("registry", name).await?;
        ensure!(
            registry["status"]["events"]["listening"] == true,
            "{}",
            registry["status"]
        );
        Ok(())
    })
    .await?;
    Ok((play, queue))
}

async fn read_up(queue: &Queue) -> Result<()> {
    eventually(LIMIT, "the queue to be read", async || {
        let depth = queue.depth().await?;
        ensure!(depth == (0, 0), "{depth:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_push_is_live_because_an_event_tells_of_it_and_costs_few_calls() -> Result<()> {
    run(async |stage| {
        let (play, queue) = open(stage, "events-push").await?;
        play.begin(json!({ "interval": "1d" })).await?;
        read_up(&queue).await?;
        stage.aws.reset_calls(&play.scene.account, REGION).await?;
        let second = play.push("1.1.0").await?;
        play.runs(&second).await?;
        let calls = play.scene.operators_calls().await?;
        let described = calls.get("DescribeImages").copied().unwrap_or_default();
        ensure!((1..=6).contains(&described), "{calls:?}");
        ensure!(!calls.contains_key("ListImages"), "{calls:?}");
        Ok(())
    })
}

#[test]
fn a_candidate_that_is_deleted_is_none_any_more() -> Result<()> {
    run(async |stage| {
        let (play, _queue) = open(stage, "events-delete").await?;
        let gates = json!({ "approval": {} });
        let first = play.begin(json!({ "interval": "1d", "gates": gates })).await?;
        let second = play.push("1.1.0").await?;
        let third = play.push("1.2.0").await?;
        play.waits(&third, "Approval", "").await?;
        let delete = async |digest: &str| {
            let id = ImageIdentifier::builder().image_digest(digest).build();
            let delete = play.scene.ecr().await?.batch_delete_image();
            let answer = delete.repository_name(&play.repository).image_ids(id).send().await?;
            ensure!(answer.failures().is_empty(), "{answer:?}");
            anyhow::Ok(())
        };
        delete(&third).await?;
        play.waits(&second, "Approval", "").await?;
        delete(&second).await?;
        play.until("nothing to wait for", |status| {
            status["candidate"]["digest"] == first.as_str() && status["blockedBy"].is_null()
        })
        .await?;
        play.runs(&first).await.map(drop)
    })
}

#[test]
fn what_a_lost_event_told_is_seen_by_the_next_look() -> Result<()> {
    run(async |stage| {
        let (play, queue) = open(stage, "events-lost").await?;
        let first = play.begin(json!({ "interval": "1d" })).await?;
        read_up(&queue).await?;
        let account = &play.scene.account;
        let nowhere = stage
            .aws
            .queue(account, REGION, "nowhere", Duration::from_mins(5))
            .await?;
        stage.aws.set_event_queue(account, REGION, &nowhere.url).await?;
        let second = play.push("1.1.0").await?;
        nowhere.take().await?.context("the event went somewhere else")?;
        // An edit makes it look, and what it knows of the repository still is of before.
        play.promote(json!({ "interval": "1d", "historyLimit": 5 })).await?;
        play.until("the edit to be seen", |status| status["observedGeneration"] == 2)
            .await?;
        play.runs(&first).await?;
        // Nobody tells of it; the interval alone does.
        play.promote(json!({ "interval": "30s" })).await?;
        play.runs(&second).await.map(drop)
    })
}

#[test]
fn doubled_and_reordered_events_lead_to_the_same_place() -> Result<()> {
    run(async |stage| {
        let (play, queue) = open(stage, "events-mixed").await?;
        let first = play.begin(json!({ "interval": "1d" })).await?;
        read_up(&queue).await?;
        let account = &play.scene.account;
        let aside = stage
            .aws
            .queue(account, REGION, "aside", Duration::from_mins(5))
            .await?;
        stage.aws.set_event_queue(account, REGION, &aside.url).await?;
        play.push("1.1.0").await?;
        let doomed = play.push("1.3.0").await?;
        let last = play.push("1.2.0").await?;
        let id = ImageIdentifier::builder().image_digest(&doomed).build();
        let delete = play.scene.ecr().await?.batch_delete_image();
        delete.repository_name(&play.repository).image_ids(id).send().await?;
        let mut messages = Vec::new();
        while let Some(message) = aside.take().await? {
            messages.push(message);
        }
        ensure!(messages.len() >= 4, "{messages:?}");
        // The deletion first, the pushes after it, and all of it twice.
        let reversed: Vec<&String> = messages.iter().rev().collect();
        for message in reversed.iter().chain(&reversed) {
            queue.send(message.as_str()).await?;
        }
        play.runs(&last).await?;
        read_up(&queue).await?;
        let status = play.looked().await?;
        ensure!(status["current"]["digest"] == last.as_str(), "{status:#}");
        let ran = status["history"].to_string();
        ensure!(!ran.contains(&doomed) && ran.contains(&first), "{status:#}");
        Ok(())
    })
}
