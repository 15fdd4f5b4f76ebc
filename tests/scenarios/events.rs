//! What AWS tells on the queue is acted on at once, and never believed. Promise 6.
//!
//! The operators here list a registry once an hour and check an object every six: what they notice, an event told them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use aws_sdk_ecr::types::Tag;
use bed::{Cluster, Effect, Fault, Operator, Queue, eventually, throughout};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::{LIMIT, REGION, Scene, Stage, condition, lasts, run};

/// How long a message stays hidden that was received and not deleted, where no scenario waits for it.
const HIDDEN: Duration = Duration::from_mins(5);

/// A cluster and its operator.
pub(crate) struct Listening {
    pub(crate) cluster: &'static Cluster,
    pub(crate) operator: Operator,
}

/// The ones that most scenarios share.
pub(crate) async fn listening(stage: &'static Stage) -> Result<&'static Listening> {
    static LISTENING: OnceCell<Listening> = OnceCell::const_new();
    let start = || async {
        let cluster = stage.bare_cluster().await?;
        lasts(cluster);
        let operator = stage.rare_operator("events", cluster).await?;
        anyhow::Ok(Listening { cluster, operator })
    };
    LISTENING.get_or_try_init(start).await
}

/// The rights of the guide on IAM, with those for events or without.
async fn rights(scene: &Scene, events: bool) -> Result<()> {
    let more: &[&str] = if events { &["events"] } else { &[] };
    scene.rights(&[bed::MANAGES, more].concat()).await
}

/// A scene whose Registry listens to a queue.
pub(crate) async fn scene(
    stage: &'static Stage,
    cluster: &'static Cluster,
    name: &str,
    hidden: Duration,
) -> Result<(Scene, Queue)> {
    let scene = stage.scene_on(cluster, name).await?;
    rights(&scene, true).await?;
    let queue = stage.aws.event_queue(&scene.account, REGION, hidden).await?;
    scene.registry(json!({ "events": { "queueUrl": queue.url } })).await?;
    state(&scene, true).await?;
    Ok((scene, queue))
}

/// Waits until the Registry says whether its queue answers; gives what it says is wrong.
async fn state(scene: &Scene, listening: bool) -> Result<String> {
    eventually(2 * LIMIT, "the state of the queue", async || {
        let registry = scene.get("registry", &scene.name).await?;
        let events = &registry["status"]["events"];
        ensure!(events["listening"] == listening, "{}", registry["status"]);
        Ok(events["message"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

/// Waits until the operator has read all there is on the queue, and deleted it but for `left`.
pub(crate) async fn read_up(queue: &Queue, left: usize) -> Result<()> {
    eventually(LIMIT, "the queue to be read", async || {
        let depth = queue.depth().await?;
        ensure!(depth == (0, left), "{depth:?} messages wait and are hidden");
        Ok(())
    })
    .await
}

/// How many messages of the Registry had this outcome.
pub(crate) async fn outcomes(operator: &Operator, scene: &Scene, outcome: &str) -> Result<u64> {
    let metrics = operator.metrics().await?;
    let (registry, outcome) = (format!("registry=\"{}\"", scene.name), format!("outcome=\"{outcome}\""));
    let lines = metrics.lines().filter(|line| {
        line.starts_with("ecr_operator_events_received_total{") && line.contains(&registry) && line.contains(&outcome)
    });
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    Ok(counts.sum())
}

/// What the operator called of ECR.
pub(crate) async fn ecr_calls(scene: &Scene) -> Result<BTreeMap<String, usize>> {
    let mut calls = scene.operators_calls().await?;
    calls.retain(|operation, _| !operation.starts_with("sqs:") && !operation.starts_with("sts:"));
    Ok(calls)
}

/// A Repository with all that others like to change.
fn spec(scene: &Scene) -> Value {
    json!({
        "imageTagMutability": "IMMUTABLE",
        "policy": { "access": { "pull": { "principals": [scene.account] } } },
        "tags": { "team": "a" },
    })
}

async fn policy(scene: &Scene, name: &str) -> Result<String> {
    let answer = scene
        .ecr()
        .await?
        .get_repository_policy()
        .repository_name(name)
        .send()
        .await;
    let answer = answer.map_err(aws_sdk_ecr::Error::from)?;
    answer.policy_text.context("no policy")
}

async fn break_policy(scene: &Scene, name: &str) -> Result<()> {
    let deletion = scene
        .ecr()
        .await?
        .delete_repository_policy()
        .repository_name(name)
        .send();
    deletion
        .await
        .map(drop)
        .map_err(|error| aws_sdk_ecr::Error::from(error).into())
}

async fn break_tag(scene: &Scene, name: &str) -> Result<()> {
    let arn = scene.live(name).await?.repository_arn.context("no ARN")?;
    let tag = Tag::builder().key("team").value("theirs").build()?;
    scene
        .ecr()
        .await?
        .tag_resource()
        .resource_arn(arn)
        .tags(tag)
        .send()
        .await?;
    Ok(())
}

async fn policy_is_mended(scene: &Scene, name: &str) -> Result<()> {
    eventually(LIMIT, "the policy to be mended", async || {
        let text = policy(scene, name).await?;
        ensure!(text.contains("EcrOperatorPull"), "{text}");
        Ok(())
    })
    .await
}

async fn tag_is_mended(scene: &Scene, name: &str) -> Result<()> {
    eventually(LIMIT, "the tag to be mended", async || {
        let tags = scene.tags(name).await?;
        ensure!(tags["team"] == "a", "{tags:?}");
        Ok(())
    })
    .await
}

#[test]
fn what_another_changes_is_mended_because_an_event_tells_of_it() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (scene, queue) = scene(stage, shared.cluster, "told", HIDDEN).await?;
        for name in ["policy", "tag", "mutability", "gone"] {
            scene.settled(name, spec(&scene)).await?;
        }
        read_up(&queue, 0).await?;

        let by_hand = scene.ecr().await?;
        break_policy(&scene, "told/policy").await?;
        break_tag(&scene, "told/tag").await?;
        by_hand
            .put_image_tag_mutability()
            .repository_name("told/mutability")
            .image_tag_mutability(aws_sdk_ecr::types::ImageTagMutability::Mutable)
            .send()
            .await?;
        let before = scene.live("told/gone").await?.created_at;
        by_hand.delete_repository().repository_name("told/gone").send().await?;

        policy_is_mended(&scene, "told/policy").await?;
        tag_is_mended(&scene, "told/tag").await?;
        eventually(LIMIT, "the mutability to be mended", async || {
            let live = scene.live("told/mutability").await?;
            let mutability = live.image_tag_mutability.context("none")?;
            ensure!(mutability.as_str() == "IMMUTABLE", "{mutability:?}");
            Ok(())
        })
        .await?;
        eventually(LIMIT, "the repository to be created again", async || {
            let live = scene.live("told/gone").await?;
            ensure!(live.created_at != before, "the old one");
            Ok(())
        })
        .await?;
        let note = scene.event("tag", "DriftRepaired").await?;
        ensure!(note.contains("team"), "{note}");
        Ok(())
    })
}

#[test]
fn a_claim_that_another_changes_is_seen_because_an_event_tells_of_it() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (scene, _) = scene(stage, shared.cluster, "taken", HIDDEN).await?;
        let claim = scene
            .live("ecr-operator/registry")
            .await?
            .repository_arn
            .context("no ARN")?;
        let tag = Tag::builder().key("ecr-operator.dev/writer").value("theirs").build()?;
        scene
            .ecr()
            .await?
            .tag_resource()
            .resource_arn(claim)
            .tags(tag)
            .send()
            .await?;
        scene.reason("registry", "taken", "ManagedElsewhere").await.map(drop)
    })
}

/// They are understood, and no setting of a repository depends on them.
#[test]
fn events_of_images_are_read_and_cost_no_call() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (scene, queue) = scene(stage, shared.cluster, "images", HIDDEN).await?;
        scene.settled("web", json!({ "scanOnPush": true })).await?;
        read_up(&queue, 0).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        let push = stage.aws.push_image(&scene.account, REGION, "images/web", "v1", b"one");
        let digest = push.await?;
        let found = json!({ "account": scene.account, "region": REGION, "repository": "images/web", "digest": digest,
            "status": "COMPLETE", "findings": [{ "name": "CVE-1", "severity": "CRITICAL" }] });
        stage.aws.finish_scan(&found).await?;
        let image = aws_sdk_ecr::types::ImageIdentifier::builder()
            .image_digest(&digest)
            .build();
        let archive = scene
            .ecr()
            .await?
            .update_image_storage_class()
            .repository_name("images/web");
        archive
            .image_id(image)
            .target_storage_class(aws_sdk_ecr::types::TargetStorageClass::Archive)
            .send()
            .await?;
        read_up(&queue, 0).await?;
        let metrics = shared.operator.metrics().await?;
        for (kind, least) in [("ImageAction", 2), ("ImageScan", 1)] {
            let line =
                format!(r#"ecr_operator_events_received_total{{registry="images",kind="{kind}",outcome="hinted"}} "#);
            let count = metrics
                .lines()
                .find_map(|metric| metric.strip_prefix(&line)?.parse().ok());
            ensure!(count.unwrap_or(0) >= least, "{kind}: {metrics}");
        }
        for outcome in ["malformed", "unknown", "left", "elsewhere"] {
            let count = outcomes(&shared.operator, &scene, outcome).await?;
            ensure!(count == 0, "{count} were {outcome}");
        }
        let calls = ecr_calls(&scene).await?;
        ensure!(calls.is_empty(), "{calls:?}");
        Ok(())
    })
}

#[test]
fn reading_stops_and_starts_with_its_registry() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (scene, queue) = scene(stage, shared.cluster, "paused", Duration::from_secs(2)).await?;
        scene.settled("web", spec(&scene)).await?;
        read_up(&queue, 0).await?;
        let events = json!({ "queueUrl": queue.url });
        scene
            .apply_registry(json!({ "events": events, "suspend": true }))
            .await?;
        eventually(LIMIT, "the Registry to pause", async || {
            let registry = scene.get("registry", "paused").await?;
            let reconciling = condition(&registry, "Reconciling").ok_or_else(|| anyhow!("none"))?;
            ensure!(reconciling["reason"] == "Suspended", "{reconciling}");
            Ok(())
        })
        .await?;
        break_policy(&scene, "paused/web").await?;
        throughout(Duration::from_secs(3), "the message on the queue", async || {
            let (waiting, hidden) = queue.depth().await?;
            ensure!(waiting + hidden == 1, "{waiting} wait and {hidden} are hidden");
            Ok(())
        })
        .await?;
        scene.apply_registry(json!({ "events": events })).await?;
        policy_is_mended(&scene, "paused/web").await?;

        // Another way to AWS is another connection, which is read from anew.
        let endpoints = json!({ "sqs": stage.aws.endpoint() });
        scene
            .apply_registry(json!({ "events": events, "endpoints": endpoints }))
            .await?;
        scene.reason("registry", "paused", "Settled").await?;
        state(&scene, true).await?;
        break_tag(&scene, "paused/web").await?;
        tag_is_mended(&scene, "paused/web").await?;
        read_up(&queue, 0).await
    })
}

#[test]
fn of_two_registries_on_one_queue_the_elder_reads_it() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (elder, queue) = scene(stage, shared.cluster, "elder", HIDDEN).await?;
        let younger = stage.scene_on(shared.cluster, "younger").await?;
        younger.registry(json!({ "events": { "queueUrl": queue.url } })).await?;
        let message = state(&younger, false).await?;
        ensure!(message.contains("Registry elder"), "{message}");
        elder.settled("web", spec(&elder)).await?;
        read_up(&queue, 0).await?;
        break_policy(&elder, "elder/web").await?;
        policy_is_mended(&elder, "elder/web").await?;
        let polls = stage
            .aws
            .calls(&younger.account, REGION)
            .await?
            .of("sqs:ReceiveMessage");
        ensure!(polls == 0, "{polls}");
        Ok(())
    })
}

/// Promise 5: our own writes come back as events and are not looked at.
#[test]
fn our_own_writes_come_back_and_cost_nothing() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (scene, queue) = scene(stage, shared.cluster, "own", HIDDEN).await?;
        for number in 0..20 {
            scene
                .apply(&scene.repository(&format!("web-{number}"), spec(&scene)))
                .await?;
        }
        for number in 0..20 {
            scene.reason("repository", &format!("web-{number}"), "Settled").await?;
        }
        read_up(&queue, 0).await?;
        // CreateRepository and SetRepositoryPolicy, told of once each.
        let own = outcomes(&shared.operator, &scene, "own-write").await?;
        let others = outcomes(&shared.operator, &scene, "hinted").await?;
        ensure!(own + others >= 40, "{own} of ours and {others} hints");
        // An event may come before the answer to the call itself.
        ensure!(others <= 4, "{own} of ours were known, {others} were not");
        let calls = ecr_calls(&scene).await?;
        let reads: usize = ["ListTagsForResource", "GetRepositoryPolicy"]
            .iter()
            .filter_map(|operation| calls.get(*operation))
            .sum();
        ensure!(reads <= 2 * usize::try_from(others)?, "{calls:?} for {others} hints");
        Ok(())
    })
}

/// A record of CloudTrail as it would come from AWS.
fn call(scene: &Scene, operation: &str, repository: &str) -> Value {
    json!({
        "version": "0", "id": "1", "detail-type": "AWS API Call via CloudTrail", "source": "aws.ecr",
        "account": scene.account, "region": REGION, "time": "2026-11-16T01:54:34Z", "resources": [],
        "detail": {
            "eventSource": "ecr.amazonaws.com", "eventName": operation, "awsRegion": REGION, "readOnly": false,
            "requestParameters": { "repositoryName": repository }, "requestID": "forged", "eventID": "1",
        },
    })
}

#[test]
fn messages_that_are_doubled_late_and_out_of_order_change_nothing_more() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (scene, queue) = scene(stage, shared.cluster, "doubled", HIDDEN).await?;
        scene.settled("web", spec(&scene)).await?;
        read_up(&queue, 0).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        break_policy(&scene, "doubled/web").await?;
        // Of a repository that is there, and of times long past.
        for operation in [
            "DeleteRepository",
            "CreateRepository",
            "SetRepositoryPolicy",
            "DeleteRepositoryPolicy",
        ] {
            for _ in 0..2 {
                queue.send(call(&scene, operation, "doubled/web").to_string()).await?;
            }
        }
        policy_is_mended(&scene, "doubled/web").await?;
        read_up(&queue, 0).await?;
        let calls = ecr_calls(&scene).await?;
        ensure!(calls["SetRepositoryPolicy"] == 1, "mended once: {calls:?}");
        ensure!(
            !calls.contains_key("CreateRepository") && !calls.contains_key("TagResource"),
            "{calls:?}"
        );
        Ok(())
    })
}

#[test]
fn what_a_lost_message_told_is_mended_with_the_next() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (scene, queue) = scene(stage, shared.cluster, "lost", HIDDEN).await?;
        scene.settled("web", spec(&scene)).await?;
        let nowhere = stage.aws.queue(&scene.account, REGION, "nowhere", HIDDEN).await?;
        stage.aws.set_event_queue(&scene.account, REGION, &nowhere.url).await?;
        break_tag(&scene, "lost/web").await?;
        let told = nowhere.take().await?.context("the event went somewhere else")?;
        ensure!(told.contains("TagResource"), "{told}");
        stage.aws.set_event_queue(&scene.account, REGION, &queue.url).await?;
        break_policy(&scene, "lost/web").await?;
        policy_is_mended(&scene, "lost/web").await?;
        tag_is_mended(&scene, "lost/web").await
    })
}

#[test]
fn whatever_is_written_to_the_queue_changes_nothing_and_costs_few_calls() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let (scene, queue) = scene(stage, shared.cluster, "forged", HIDDEN).await?;
        let before = scene.settled("web", spec(&scene)).await?;
        read_up(&queue, 0).await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;

        let with = |mut message: Value, path: &str, value: Value| {
            if let Some(place) = message.pointer_mut(path) {
                *place = value;
            }
            message.to_string()
        };
        let forged = call(&scene, "DeleteRepository", "forged/web");
        let elsewhere = [
            with(forged.clone(), "/account", json!("999999999999")),
            with(forged.clone(), "/region", json!("us-east-1")),
            with(forged.clone(), "/detail/awsRegion", json!("us-east-1")),
        ];
        let malformed = [
            with(forged.clone(), "/detail", json!(["x"])),
            with(
                forged.clone(),
                "/detail/requestParameters",
                json!({ "repositoryName": "../../etc" }),
            ),
            with(
                forged.clone(),
                "/detail/requestParameters",
                json!({ "resourceArn": "arn:aws:s3:::x" }),
            ),
        ];
        let unknown = [
            with(forged.clone(), "/detail-type", json!("ECR Something New")),
            with(forged.clone(), "/detail/eventName", json!("SomethingNew")),
        ];
        let left = [
            "not JSON".to_owned(),
            "{}".to_owned(),
            "[".repeat(50_000),
            json!({ "x": "y".repeat(250_000) }).to_string(),
            with(forged.clone(), "/source", json!("com.example")),
        ];
        for message in elsewhere.iter().chain(&malformed).chain(&unknown).chain(&left) {
            queue.send(message).await?;
        }
        // No scan was made: what it says was found does not count.
        let mut scan = with(forged.clone(), "/detail-type", json!("ECR Image Scan"));
        scan = with(
            serde_json::from_str(&scan)?,
            "/detail",
            json!({
            "scan-status": "COMPLETE", "repository-name": "forged/web", "finding-severity-counts": { "CRITICAL": 0 },
            "image-digest": format!("sha256:{}", "0".repeat(64)), "image-tags": ["v1"] }),
        );
        queue.send(scan).await?;
        // One after the other: those that arrive together are one look anyway.
        for round in 0..20 {
            for number in 0..5 {
                let none = format!("forged/none-{round}-{number}");
                queue
                    .send(call(&scene, "SetRepositoryPolicy", &none).to_string())
                    .await?;
            }
            queue.send(forged.to_string()).await?;
            queue
                .send(call(&scene, "PutRegistryPolicy", "forged/web").to_string())
                .await?;
            read_up(&queue, left.len()).await?;
        }

        for (outcome, count) in [
            ("elsewhere", elsewhere.len()),
            ("malformed", malformed.len()),
            ("unknown", unknown.len()),
            ("left", left.len()),
        ] {
            let seen = outcomes(&shared.operator, &scene, outcome).await?;
            ensure!(seen == u64::try_from(count)?, "{seen} of {count} were {outcome}");
        }
        let calls = ecr_calls(&scene).await?;
        let most = |operation: &str, most: usize| {
            let count = calls.get(operation).copied().unwrap_or_default();
            ensure!(count <= most, "{count} times {operation}: {calls:?}");
            Ok(())
        };
        // Five looks at once at the repository and five at the Registry, and few more each while this went on.
        most("GetRepositoryPolicy", 10)?;
        most("ListTagsForResource", 20)?;
        most("DescribeRepositories", 30)?;
        let writes = calls.keys().find(|operation| {
            !["Describe", "List", "Get"]
                .iter()
                .any(|read| operation.starts_with(read))
        });
        ensure!(writes.is_none(), "{calls:?}");
        let after = scene.get("repository", "web").await?;
        ensure!(
            after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"],
            "{}",
            after["status"]
        );
        Ok(())
    })
}

/// The Events on the Registry, which has no namespace.
async fn told(scene: &Scene, reason: &str) -> Result<Vec<String>> {
    scene.cluster_events(&scene.name, reason).await
}

/// Promise 7.
#[test]
fn a_queue_that_cannot_be_read_is_told_once_and_does_not_touch_ready() -> Result<()> {
    run(async |stage| {
        let shared = listening(stage).await?;
        let scene = stage.scene_on(shared.cluster, "silent").await?;
        rights(&scene, true).await?;
        // Its URL is known before it is there.
        let other = stage.aws.queue(&scene.account, REGION, "other", HIDDEN).await?;
        let url = other.url.replace("/other", "/ecr-operator");
        scene.registry(json!({ "events": { "queueUrl": url } })).await?;
        let message = state(&scene, false).await?;
        ensure!(message.contains("Create the queue"), "{message}");
        polled(stage, &scene, 3).await?;
        let registry = scene.get("registry", "silent").await?;
        let ready = condition(&registry, "Ready").ok_or_else(|| anyhow!("no condition"))?;
        ensure!(ready["status"] == "True" && ready["reason"] == "Settled", "{ready}");
        let notes = told(&scene, "EventsFailing").await?;
        ensure!(notes.len() == 1 && notes[0] == message, "{notes:?}");
        scene.settled("web", spec(&scene)).await?;
        let metrics = shared.operator.metrics().await?;
        ensure!(
            metrics.contains(r#"ecr_operator_events_poll_errors_total{registry="silent",result="#),
            "{metrics}"
        );

        let queue = stage.aws.event_queue(&scene.account, REGION, HIDDEN).await?;
        ensure!(queue.url == url, "{}", queue.url);
        state(&scene, true).await?;
        eventually(LIMIT, "an Event", async || {
            told(&scene, "EventsListening")
                .await?
                .pop()
                .ok_or_else(|| anyhow!("none"))
        })
        .await?;
        break_policy(&scene, "silent/web").await?;
        policy_is_mended(&scene, "silent/web").await?;

        rights(&scene, false).await?;
        queue.send("wakes the poll that waits").await?;
        let message = state(&scene, false).await?;
        ensure!(message.contains("Allow sqs:ReceiveMessage"), "{message}");

        // Whoever does not want events any more is not read from.
        scene.apply_registry(json!({})).await?;
        eventually(LIMIT, "the state to go", async || {
            let registry = scene.get("registry", "silent").await?;
            ensure!(registry["status"].get("events").is_none(), "{}", registry["status"]);
            Ok(())
        })
        .await
    })
}

/// Waits until the queue was asked for messages so often.
async fn polled(stage: &Stage, scene: &Scene, times: u64) -> Result<()> {
    eventually(LIMIT, "polls", async || {
        let calls = stage.aws.calls(&scene.account, REGION).await?;
        ensure!(calls.of("sqs:ReceiveMessage") >= times, "{:?}", calls.operations);
        Ok(())
    })
    .await
}

#[test]
fn a_message_that_was_received_and_not_deleted_comes_again_after_a_restart() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.rare_operator("killed", cluster).await?;
        let (scene, queue) = scene(stage, cluster, "killed", Duration::from_secs(2)).await?;
        scene.settled("web", spec(&scene)).await?;
        read_up(&queue, 0).await?;

        // It can neither look nor delete the message.
        let hold = |operation: &str| Fault::new(operation, Effect::Hold).registry(&scene.account, REGION);
        let looks = stage.aws.inject(&hold("DescribeRepositories")).await?;
        let deletions = stage.aws.inject(&hold("sqs:DeleteMessageBatch")).await?;
        break_policy(&scene, "killed/web").await?;
        stage.aws.held(&deletions, LIMIT).await?;
        operator.kill();
        for fault in [&looks, &deletions] {
            eventually(LIMIT, "the call to be given up", async || {
                let state = stage.aws.fault(fault).await?;
                ensure!(state.held == 0, "{state:?}");
                Ok(())
            })
            .await?;
            stage.aws.remove_fault(fault).await?;
        }
        ensure!(policy(&scene, "killed/web").await.is_err(), "it was mended before");
        operator.restart().await?;
        policy_is_mended(&scene, "killed/web").await?;
        read_up(&queue, 0).await
    })
}
