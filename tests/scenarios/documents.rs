//! The registry's documents: each part by itself, and nothing of others lost. Promises 1 to 5.

mod hand;
mod refusals;
mod sources;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bed::{Effect, Fault, Policy, eventually, throughout};
use futures::future::try_join_all;
use serde_json::{Value, json};

use self::hand::{Hand, all, statement};
use crate::{
    drill::{Drill, Theatre},
    plan::plan,
    support::{LIMIT, OWNER, REGION, Scene, Stage, message, object, run},
};

/// How long nothing may happen for it to count as nothing.
const QUIET: Duration = Duration::from_secs(4);

/// What the operator needs for a registry's documents; `without` an action.
pub(crate) async fn rights(scene: &Scene, without: Option<&str>) -> Result<()> {
    let features = [bed::MANAGES, &["registry", "events"]].concat();
    let mut policy = bed::rights(&scene.account, REGION, OWNER, &features)?;
    for statement in policy["Statement"].as_array_mut().context("no statements")? {
        let actions = statement["Action"].as_array_mut().context("no actions")?;
        actions.retain(|action| Some(action.as_str().unwrap_or_default()) != without);
    }
    scene.role(Policy::Document(policy)).await
}

async fn scene(stage: &'static Stage, name: &str) -> Result<Scene> {
    let scene = stage.scene(name).await?;
    rights(&scene, None).await?;
    Ok(scene)
}

/// The line of a part in the status of the Registry.
fn line<'a>(registry: &'a Value, part: &str) -> Option<&'a Value> {
    let parts = registry["status"]["documents"]["parts"].as_array()?;
    parts.iter().find(|line| line["name"] == part)
}

/// Waits until a part is told to be so, and returns its message.
async fn told(scene: &Scene, part: &str, state: &str) -> Result<String> {
    eventually(LIMIT, &format!("{part} to be {state}"), async || {
        let registry = scene.get("registry", &scene.name).await?;
        let line = line(&registry, part).with_context(|| registry["status"].to_string())?;
        ensure!(line["state"] == state, "{line}");
        Ok(line["message"].as_str().unwrap_or_default().to_owned())
    })
    .await
}

/// Asks for a look now and waits until the documents were read.
async fn look_now(scene: &Scene, token: &str) -> Result<Value> {
    let annotation = format!("ecr-operator.dev/reconcile={token}");
    let annotate = [
        "annotate",
        "registry.ecr-operator.dev",
        &scene.name,
        "--overwrite",
        &annotation,
    ];
    scene.cluster.kubectl(&annotate).await?.checked()?;
    eventually(LIMIT, "the documents to be read", async || {
        let registry = scene.get("registry", &scene.name).await?;
        let handled = &registry["status"]["documents"]["lastHandledReconcile"];
        ensure!(handled == token, "{}", registry["status"]);
        Ok(registry)
    })
    .await
}

/// The notes of the Events on the Registry with this reason.
async fn events(scene: &Scene, reason: &str) -> Result<Vec<String>> {
    scene.cluster_events(&scene.name, reason).await
}

/// Waits for an Event on the Registry that says something.
async fn event(scene: &Scene, reason: &str, says: &str) -> Result<()> {
    eventually(LIMIT, &format!("an Event {reason}: {says}"), async || {
        let notes = events(scene, reason).await?;
        ensure!(notes.iter().any(|note| note.contains(says)), "{notes:?}");
        Ok(())
    })
    .await
}

/// The operator's calls that concern documents.
async fn calls(scene: &Scene) -> Result<Vec<String>> {
    let calls = scene.operators_calls().await?.into_keys();
    let concern = |operation: &String| {
        ["Registry", "Signing", "AccountSetting", "Exclusion"]
            .iter()
            .any(|what| operation.contains(what))
    };
    Ok(calls.filter(concern).collect())
}

#[test]
fn each_part_is_brought_about_and_drift_is_mended() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs").await?;
        let hand = Hand::new(&scene).await?;
        hand.put_scanning("BASIC", &["older-rule"]).await?;
        scene.registry(all(&scene.account)).await?;
        hand.is_as_asked().await?;
        for part in [
            "scanning",
            "policy",
            "signing",
            "settings.blobMounting",
            "settings.basicScanTypeVersion",
            "settings.registryPolicyScope",
            "pullTimeUpdateExclusions",
        ] {
            told(&scene, part, "Settled").await?;
        }
        // Nobody finds out from ECR what was there before.
        event(&scene, "DocumentReplaced", "older-rule").await?;
        event(
            &scene,
            "DocumentPut",
            "scanning: BASIC SCAN_ON_PUSH [older-rule] -> BASIC",
        )
        .await?;

        hand.put_scanning("BASIC", &["theirs"]).await?;
        hand.put_signing("theirs").await?;
        hand.put_policy(&[statement("Theirs", "ecr:ReplicateImage")]).await?;
        hand.put_setting("BLOB_MOUNTING", "DISABLED").await?;
        hand.deregister("scanner").await?;
        hand.register("theirs").await?;
        look_now(&scene, "1").await?;
        hand.is_as_asked().await?;
        ensure!(hand.sids().await? == ["EcrOperatorReplicate", "Named", "Theirs"].map(str::to_owned).into());
        ensure!(hand.excluded().await?.contains(&hand.principal("theirs")));
        for drift in [
            "scanning: ",
            "signing: ",
            "policy: ",
            "settings.blobMounting: ",
            "pullTimeUpdateExclusions: ",
        ] {
            event(&scene, "DriftRepaired", drift).await?;
        }
        scene.reason("registry", "docs", "Settled").await.map(drop)
    })
}

#[test]
fn statements_and_exclusions_of_others_stay() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs-others").await?;
        let hand = Hand::new(&scene).await?;
        // Of the same names as ours will be, and there before us.
        hand.put_policy(&[statement("Theirs", "ecr:*"), statement("Named", "ecr:CreateRepository")])
            .await?;
        hand.register("scanner").await?;
        hand.register("theirs").await?;
        let spec = json!({
            "policy": { "document": { "Version": "2012-10-17", "Statement": [
                statement("Named", "ecr:ReplicateImage"), statement("New", "ecr:ReplicateImage") ] } },
            "pullTimeUpdateExclusions": [hand.principal("scanner"), hand.principal("mirror")],
        });
        scene.registry(spec).await?;
        let registry = scene.get("registry", "docs-others").await?;
        let documents = &registry["status"]["documents"];
        ensure!(documents["managedStatements"] == json!(["New"]), "{documents}");
        ensure!(
            documents["managedExclusions"] == json!([hand.principal("mirror")]),
            "{documents}"
        );
        ensure!(hand.sids().await? == ["Named", "New", "Theirs"].map(str::to_owned).into());

        scene
            .registry(json!({ "policy": {}, "pullTimeUpdateExclusions": [] }))
            .await?;
        ensure!(
            hand.sids().await? == ["Named", "Theirs"].map(str::to_owned).into(),
            "what was there before us stays"
        );
        let theirs = BTreeSet::from([hand.principal("scanner"), hand.principal("theirs")]);
        ensure!(hand.excluded().await? == theirs);

        // Parts that are dropped, and a Registry that goes, leave everything as it is.
        scene.registry(all(&scene.account)).await?;
        let (sids, excluded) = (hand.sids().await?, hand.excluded().await?);
        scene.registry(json!({})).await?;
        eventually(LIMIT, "the documents to be forgotten", async || {
            let registry = scene.get("registry", "docs-others").await?;
            ensure!(registry["status"].get("documents").is_none(), "{}", registry["status"]);
            Ok(())
        })
        .await?;
        scene.registry(all(&scene.account)).await?;
        let delete = ["delete", "registry.ecr-operator.dev", "docs-others"];
        scene.cluster.kubectl(&delete).await?.checked()?;
        event(&scene, "DocumentsKept", "stay in account").await?;
        hand.is_as_asked().await?;
        ensure!((hand.sids().await?, hand.excluded().await?) == (sids, excluded));
        Ok(())
    })
}

#[test]
fn a_member_that_we_do_not_know_keeps_the_document_from_being_written() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs-tomorrow").await?;
        let hand = Hand::new(&scene).await?;
        hand.put_scanning_of_tomorrow("theirs").await?;
        hand.put_signing_of_tomorrow("theirs").await?;
        hand.put_policy_of_tomorrow().await?;
        scene.apply_registry(all(&scene.account)).await?;
        let registry = scene.reason("registry", "docs-tomorrow", "Conflict").await?;
        ensure!(
            message(&registry).contains("rules[0].schedule"),
            "{}",
            message(&registry)
        );
        for part in ["scanning", "signing", "policy"] {
            let why = told(&scene, part, "Blocked").await?;
            ensure!(why.contains("nothing is written"), "{why}");
        }
        // The others went on.
        told(&scene, "settings.blobMounting", "Settled").await?;
        told(&scene, "pullTimeUpdateExclusions", "Settled").await?;
        ensure!(hand.scanning().await?.contains("theirs"));
        let writes = calls(&scene).await?;
        for document in ["RegistryScanning", "Signing", "RegistryPolicy"] {
            let written = format!("Put{document}");
            ensure!(!writes.iter().any(|call| call.starts_with(&written)), "{writes:?}");
        }

        // Somebody takes it out.
        hand.put_scanning("BASIC", &["theirs"]).await?;
        look_now(&scene, "1").await?;
        told(&scene, "scanning", "Settled").await.map(drop)
    })
}

#[test]
fn one_part_that_is_denied_stops_neither_the_others_nor_repositories() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("docs-denied").await?;
        rights(&scene, Some("ecr:PutRegistryScanningConfiguration")).await?;
        let hand = Hand::new(&scene).await?;
        scene.apply_registry(all(&scene.account)).await?;
        let registry = scene.reason("registry", "docs-denied", "Denied").await?;
        ensure!(
            message(&registry).starts_with("spec.scanning: PutRegistryScanningConfiguration was refused"),
            "{}",
            message(&registry)
        );
        for part in ["policy", "signing", "settings.blobMounting", "pullTimeUpdateExclusions"] {
            told(&scene, part, "Settled").await?;
        }
        event(&scene, "Denied", "spec.scanning").await?;
        // What only AWS can refuse.
        scene.settled("web", json!({ "tags": { "team": "a" } })).await?;
        hand.put_signing("theirs").await?;
        let invalid = Fault::error("PutSigningConfiguration", 400, "ValidationException", "no such profile")
            .registry(&scene.account, REGION);
        let fault = stage.aws.inject(&invalid).await?;
        look_now(&scene, "1").await?;
        ensure!(told(&scene, "signing", "Blocked").await?.contains("no such profile"));
        told(&scene, "policy", "Settled").await?;
        stage.aws.remove_fault(&fault).await?;

        rights(&scene, None).await?;
        look_now(&scene, "2").await?;
        scene.reason("registry", "docs-denied", "Settled").await?;
        hand.is_as_asked().await
    })
}

#[test]
fn v2_waits_for_words_that_name_it() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs-scope").await?;
        let hand = Hand::new(&scene).await?;
        hand.put_setting("REGISTRY_POLICY_SCOPE", "V1").await?;
        hand.put_policy(&[statement("Awake", "ecr:ReplicateImage"), statement("Sleeper", "ecr:*")])
            .await?;
        scene
            .apply_registry(json!({ "settings": { "registryPolicyScope": "V2" } }))
            .await?;
        let registry = scene.reason("registry", "docs-scope", "Protected").await?;
        ensure!(message(&registry).contains("sleep: Sleeper."), "{}", message(&registry));
        ensure!(hand.setting("REGISTRY_POLICY_SCOPE").await? == "V1");
        scene
            .registry(json!({ "settings": {
                "registryPolicyScope": "V2", "confirmRegistryPolicyScope": "V2 wakes sleeping statements" } }))
            .await?;
        ensure!(hand.setting("REGISTRY_POLICY_SCOPE").await? == "V2");
        Ok(())
    })
}

#[test]
fn what_the_spec_leaves_out_is_neither_read_nor_written() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs-least").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        ensure!(calls(&scene).await?.is_empty(), "{:?}", calls(&scene).await?);
        scene
            .registry(json!({ "settings": { "blobMounting": "ENABLED" } }))
            .await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        look_now(&scene, "1").await?;
        ensure!(
            calls(&scene).await? == ["GetAccountSetting"],
            "{:?}",
            calls(&scene).await?
        );
        Ok(())
    })
}

#[test]
fn at_rest_nothing_is_called_and_nothing_written() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs-rest").await?;
        scene.registry(all(&scene.account)).await?;
        let before = scene.get("registry", "docs-rest").await?;
        // Listed once a second meanwhile.
        throughout(QUIET, "nothing to happen to documents", async || {
            let now = scene.get("registry", "docs-rest").await?;
            ensure!(
                now["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"],
                "{now}"
            );
            let calls = calls(&scene).await?;
            ensure!(calls.is_empty(), "{calls:?}");
            Ok(())
        })
        .await?;
        // The same in another order, and an edit of something else, read no document.
        let mut spec = all(&scene.account);
        for list in [
            "/scanning/rules/0/repositoryFilters",
            "/signing/rules",
            "/pullTimeUpdateExclusions",
        ] {
            let list = spec.pointer_mut(list).and_then(Value::as_array_mut).context("a list")?;
            list.reverse();
        }
        spec["creationDefaults"] = json!({ "scanOnPush": true });
        scene.apply_registry(spec).await?;
        scene.reason("registry", "docs-rest", "Settled").await?;
        throughout(QUIET, "nothing to happen to documents", async || {
            let calls = calls(&scene).await?;
            ensure!(calls.is_empty(), "{calls:?}");
            Ok(())
        })
        .await
    })
}

#[test]
fn a_registry_that_is_only_observed_lists_drift() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs-observed").await?;
        let hand = Hand::new(&scene).await?;
        hand.put_scanning("BASIC", &["theirs"]).await?;
        let mut spec = all(&scene.account);
        spec["mode"] = json!("Observe");
        scene.apply_registry(spec.clone()).await?;
        let differs = told(&scene, "scanning", "Differs").await?;
        ensure!(
            differs.starts_with("scanning: BASIC SCAN_ON_PUSH [theirs] -> "),
            "{differs}"
        );
        told(&scene, "settings.registryPolicyScope", "Settled").await?;
        let registry = eventually(LIMIT, "the differences to be told", async || {
            let registry = scene.get("registry", "docs-observed").await?;
            ensure!(message(&registry).contains("scanning: BASIC"), "{}", registry["status"]);
            Ok(registry)
        });
        ensure!(message(&registry.await?).contains("policy: + EcrOperatorReplicate"));
        scene
            .apply(&scene.repository("web", json!({ "adoption": "Adopt" })))
            .await?;
        scene.reason("repository", "web", "Observed").await?;
        ensure!(
            scene.operators_writes().await? == 0,
            "{:?}",
            scene.operators_calls().await?
        );

        // The same manifest in mode Manage is carried out.
        spec["mode"] = json!("Manage");
        scene.registry(spec).await?;
        hand.is_as_asked().await
    })
}

#[test]
fn an_edit_by_somebody_else_is_mended_when_its_event_comes() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("docs-events").await?;
        rights(&scene, None).await?;
        let queue = stage
            .aws
            .event_queue(&scene.account, REGION, Duration::from_secs(30))
            .await?;
        let hand = Hand::new(&scene).await?;
        let mut spec = all(&scene.account);
        spec["events"] = json!({ "queueUrl": queue.url });
        scene.registry(spec).await?;
        eventually(LIMIT, "the queue to be read", async || {
            let registry = scene.get("registry", "docs-events").await?;
            ensure!(
                registry["status"]["events"]["listening"] == true,
                "{}",
                registry["status"]
            );
            Ok(())
        })
        .await?;
        hand.put_scanning("BASIC", &["theirs"]).await?;
        mended(&hand, LIMIT).await
    })
}

/// The shortest period of full checks is a minute.
#[test]
fn an_edit_by_somebody_else_is_mended_with_the_next_full_check() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let args = ["--check-interval", "1m"];
        let operator = stage.operator_with("docs-checks", cluster, "bed", &args).await?;
        let scene = stage.scene_on(cluster, "docs-checks").await?;
        rights(&scene, None).await?;
        let hand = Hand::new(&scene).await?;
        scene.registry(all(&scene.account)).await?;
        hand.put_scanning("BASIC", &["theirs"]).await?;
        mended(&hand, 3 * LIMIT).await?;
        operator.stop().await.map(drop)
    })
}

async fn mended(hand: &Hand, limit: Duration) -> Result<()> {
    eventually(limit, "the drift to be mended", async || hand.is_as_asked().await).await
}

#[test]
fn a_restart_reads_no_settled_document_and_a_second_cluster_writes_none() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.operator("docs-restart", cluster, "bed").await?;
        let scene = stage.scene_on(cluster, "docs-restart").await?;
        rights(&scene, None).await?;
        let hand = Hand::new(&scene).await?;
        scene.registry(all(&scene.account)).await?;
        operator.stop().await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        operator.restart().await?;
        eventually(LIMIT, "two listings after the restart", async || {
            let calls = scene.operators_calls().await?;
            ensure!(calls.get("DescribeRepositories") >= Some(&2), "{calls:?}");
            Ok(())
        })
        .await?;
        ensure!(calls(&scene).await?.is_empty(), "{:?}", calls(&scene).await?);
        operator.stop().await?;

        let cluster = stage.bare_cluster().await?;
        let other = stage.operator("docs-other", cluster, "other").await?;
        let second = Scene {
            cluster,
            ..scene.clone()
        };
        second
            .apply_registry(json!({ "settings": { "blobMounting": "DISABLED" }, "pullTimeUpdateExclusions": [] }))
            .await?;
        second.reason("registry", "docs-restart", "ManagedElsewhere").await?;
        hand.is_as_asked().await?;
        ensure!(calls(&scene).await?.is_empty(), "{:?}", calls(&scene).await?);
        other.stop().await.map(drop)
    })
}

#[test]
fn a_document_that_hangs_holds_up_neither_the_listing_nor_the_others() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs-hang").await?;
        let hand = Hand::new(&scene).await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({ "scanOnPush": true })).await?;
        let unanswered = Fault::new("GetSigningConfiguration", Effect::Hold).registry(&scene.account, REGION);
        let fault = stage.aws.inject(&unanswered).await?;
        scene.apply_registry(all(&scene.account)).await?;
        stage.aws.held(&fault, LIMIT).await?;
        // Found by the listing, and mended, while the document hangs.
        let scanning = aws_sdk_ecr::types::ImageScanningConfiguration::builder().build();
        let put = scene.ecr().await?.put_image_scanning_configuration();
        put.repository_name("docs-hang/web")
            .image_scanning_configuration(scanning)
            .send()
            .await?;
        eventually(LIMIT, "the repository's drift to be mended", async || {
            let live = scene.live("docs-hang/web").await?;
            let scans = live
                .image_scanning_configuration()
                .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push);
            ensure!(scans, "{live:?}");
            Ok(())
        })
        .await?;
        ensure!(told(&scene, "signing", "Failed").await?.contains("nothing came within"));
        for part in [
            "scanning",
            "policy",
            "settings.blobMounting",
            "pullTimeUpdateExclusions",
        ] {
            told(&scene, part, "Settled").await?;
        }
        stage.aws.remove_fault(&fault).await?;
        scene.reason("registry", "docs-hang", "Settled").await?;
        hand.is_as_asked().await
    })
}

#[test]
fn a_plan_shows_what_would_change() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "docs-plan").await?;
        let hand = Hand::new(&scene).await?;
        hand.put_policy(&[statement("Theirs", "ecr:ReplicateImage")]).await?;
        // The administrator's own keys: no role is assumed.
        let registry = |documents: Value| -> Result<Value> {
            let mut spec = scene.registry_spec();
            spec.as_object_mut().context("a map")?.remove("assumeRole");
            crate::support::merge(&mut spec, documents);
            Ok(object("Registry", "docs-plan", None, spec))
        };
        let (code, text) = plan(&scene, &[registry(all(&scene.account))?], &[]).await?;
        ensure!(code == 2, "{code}: {text}");
        for step in [
            "claim the registry for bed",
            "scanning: BASIC without rules -> BASIC SCAN_ON_PUSH [prod-* team]",
            "policy: + EcrOperatorReplicate, + Named",
            "signing: nothing -> ",
            "settings.blobMounting: DISABLED -> ENABLED",
            "pullTimeUpdateExclusions: + arn:aws:iam",
        ] {
            ensure!(text.contains(step), "{step}: {text}");
        }
        ensure!(
            hand.sids().await? == BTreeSet::from(["Theirs".to_owned()]),
            "nothing was done"
        );
        hand.put_scanning_of_tomorrow("theirs").await?;
        let (code, text) = plan(&scene, &[registry(all(&scene.account))?], &[]).await?;
        ensure!(code == 1 && text.contains("rules[0].schedule"), "{code}: {text}");
        Ok(())
    })
}

#[test]
fn whatever_call_or_write_is_the_last_each_part_is_settled_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "docs-kills").await?;
        for (part, name) in Rounds::ALL {
            let calls = rounds(&theatre, &format!("kill-{name}"), part).await?;
            theatre.killed_at_every_call(&calls).await?;
            let writes = rounds(&theatre, &format!("write-{name}"), part).await?;
            theatre.killed_at_every_write(&writes).await?;
        }
        Ok(())
    })
}

#[test]
fn with_any_answer_lost_each_part_is_settled_once() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "docs-losses").await?;
        // Each part in a registry of its own: most of the time an answer is waited for that does not come.
        let mut calls = Vec::new();
        for (part, name) in Rounds::ALL {
            calls.push(rounds(&theatre, &format!("lose-{name}"), part).await?);
        }
        try_join_all(calls.iter().map(|rounds| theatre.answers_lost(rounds))).await?;
        for (part, name) in Rounds::ALL {
            let writes = rounds(&theatre, &format!("lost-{name}"), part).await?;
            theatre.write_answers_lost(&writes).await?;
        }
        Ok(())
    })
}

/// A registry with something of others in it, and with what was asked for before the first round.
async fn rounds(theatre: &Theatre, name: &str, part: Part) -> Result<Rounds> {
    const BEFORE: usize = 999;
    let scene = theatre.scene(name).await?;
    rights(&scene, None).await?;
    let hand = Hand::new(&scene).await?;
    hand.put_policy(&[statement("Theirs", "ecr:ReplicateImage")]).await?;
    hand.register("theirs").await?;
    let rounds = Rounds { scene, part };
    rounds.scene.registry(rounds.spec(BEFORE)).await?;
    Ok(rounds)
}

/// Each round asks for another value of one part.
struct Rounds {
    scene: Scene,
    part: Part,
}

#[derive(Clone, Copy)]
enum Part {
    Scanning,
    Policy,
    Signing,
    Setting,
    Exclusions,
}

impl Rounds {
    const ALL: [(Part, &'static str); 5] = [
        (Part::Scanning, "scanning"),
        (Part::Policy, "policy"),
        (Part::Signing, "signing"),
        (Part::Setting, "setting"),
        (Part::Exclusions, "exclusions"),
    ];

    fn spec(&self, round: usize) -> Value {
        let account = &self.scene.account;
        match self.part {
            Part::Scanning => json!({ "scanning": { "scanType": "BASIC", "rules": [
                { "scanFrequency": "SCAN_ON_PUSH", "repositoryFilters": [{ "filter": format!("round-{round}") }] } ] } }),
            Part::Policy => json!({ "policy": { "document": { "Version": "2012-10-17", "Statement": [
                statement(&format!("Round{round}"), "ecr:ReplicateImage") ] } } }),
            Part::Signing => {
                let profile = format!("arn:aws:signer:{REGION}:{account}:/signing-profiles/round_{round}");
                json!({ "signing": { "rules": [{ "signingProfileArn": profile }] } })
            }
            Part::Setting => {
                let value = if round.is_multiple_of(2) { "ENABLED" } else { "DISABLED" };
                json!({ "settings": { "blobMounting": value } })
            }
            Part::Exclusions => {
                json!({ "pullTimeUpdateExclusions": [format!("arn:aws:iam::{account}:role/round-{round}")] })
            }
        }
    }
}

impl Drill for Rounds {
    async fn prepare(&self, _: &Theatre, _: usize) -> Result<Scene> {
        Ok(self.scene.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        scene.apply_registry(self.spec(round)).await.map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        let registry = scene.reason("registry", &scene.name, "Settled").await?;
        let documents = &registry["status"]["documents"];
        let hand = Hand::new(scene).await?;
        match self.part {
            Part::Scanning => {
                let scanning = hand.scanning().await?;
                ensure!(scanning.contains(&format!("\"round-{round}\"")), "{scanning}");
            }
            Part::Signing => {
                let signing = hand.signing().await?;
                ensure!(signing.ends_with(&format!("/round_{round}")), "{signing}");
            }
            Part::Setting => {
                let wanted = if round.is_multiple_of(2) { "ENABLED" } else { "DISABLED" };
                ensure!(hand.setting("BLOB_MOUNTING").await? == wanted);
            }
            Part::Policy => {
                let ours = format!("Round{round}");
                ensure!(documents["managedStatements"] == json!([ours]), "{documents}");
                let sids = hand.sids().await?;
                ensure!(sids == BTreeSet::from(["Theirs".to_owned(), ours]), "{sids:?}");
            }
            Part::Exclusions => {
                let ours = hand.principal(&format!("round-{round}"));
                ensure!(documents["managedExclusions"] == json!([ours]), "{documents}");
                let excluded = hand.excluded().await?;
                ensure!(
                    excluded == BTreeSet::from([hand.principal("theirs"), ours]),
                    "{excluded:?}"
                );
            }
        }
        Ok(())
    }
}
