//! Many owners, one document: rules are put together, what others wrote stays, and who goes takes only what is theirs.

mod admission;
mod backfill;
mod drills;
pub(crate) mod elsewhere;
pub(crate) mod wire;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use bed::{Effect, Fault, eventually, throughout};
use serde_json::{Value, json};

use crate::support::{LIMIT, OWNER, REGION, Scene, Stage, message, object, run};

/// The Region that is replicated to.
pub(crate) const FAR: &str = "us-east-1";

/// A scene whose operator may replicate, and its Registry.
pub(crate) async fn open(stage: &'static Stage, name: &str) -> Result<Scene> {
    let scene = stage.scene(name).await?;
    grant(&scene).await?;
    scene.registry(json!({})).await?;
    Ok(scene)
}

pub(crate) async fn grant(scene: &Scene) -> Result<()> {
    scene.rights(&[bed::MANAGES, &["replicate"]].concat()).await
}

/// A rule in ECR's terms; without filters for every repository.
pub(crate) fn rule(scene: &Scene, region: &str, filters: &[&str]) -> Value {
    let mut rule = json!({ "destinations": [{ "region": region, "registryId": scene.account }] });
    if !filters.is_empty() {
        let filters = filters
            .iter()
            .map(|filter| json!({ "filter": filter, "filterType": "PREFIX_MATCH" }));
        rule["repositoryFilters"] = filters.collect();
    }
    rule
}

/// The name of an object, which the whole cluster shares.
pub(crate) fn named(scene: &Scene, name: &str) -> String {
    format!("{}-{name}", scene.name)
}

pub(crate) fn config(scene: &Scene, name: &str, rules: Value) -> Value {
    let mut spec = json!({ "registryRef": { "name": scene.name } });
    spec["rules"] = rules;
    object("ReplicationConfig", &named(scene, name), None, spec)
}

pub(crate) async fn settled(scene: &Scene, name: &str, rules: Value) -> Result<Value> {
    scene.apply(&config(scene, name, rules)).await?;
    is(scene, name, "Settled").await
}

pub(crate) async fn is(scene: &Scene, name: &str, reason: &str) -> Result<Value> {
    scene.reason("replicationconfig", &named(scene, name), reason).await
}

pub(crate) async fn delete(scene: &Scene, name: &str) -> Result<()> {
    let name = named(scene, name);
    let delete = ["delete", "replicationconfig.ecr-operator.dev", &name, "--timeout=60s"];
    scene.cluster.kubectl(&delete).await?.checked().map(drop)
}

/// Asks for a look now and waits until it was handled.
pub(crate) async fn look_now(scene: &Scene, name: &str, token: &str) -> Result<Value> {
    let named = named(scene, name);
    let annotation = format!("ecr-operator.dev/reconcile={token}");
    let annotate = [
        "annotate",
        "replicationconfig.ecr-operator.dev",
        &named,
        "--overwrite",
        &annotation,
    ];
    scene.cluster.kubectl(&annotate).await?.checked()?;
    eventually(LIMIT, "the look to be handled", async || {
        let object = scene.get("replicationconfig", &named).await?;
        ensure!(
            object["status"]["lastHandledReconcile"] == token,
            "{}",
            object["status"]
        );
        Ok(object)
    })
    .await
}

/// The rules as sets: order does not count.
fn set(rules: &[Value]) -> BTreeSet<String> {
    let sorted = rules.iter().cloned().map(|mut rule| {
        for list in ["destinations", "repositoryFilters"] {
            if let Some(list) = rule.get_mut(list).and_then(Value::as_array_mut) {
                list.sort_by_key(ToString::to_string);
            }
        }
        rule.to_string()
    });
    sorted.collect()
}

/// The registry has these rules and no others.
pub(crate) async fn has(scene: &Scene, wanted: &[Value]) -> Result<()> {
    let found = wire::rules(scene).await?;
    ensure!(
        set(&found) == set(wanted) && found.len() == wanted.len(),
        "{found:#?} instead of {wanted:#?}"
    );
    Ok(())
}

/// The notes of Events on an object of the whole cluster.
pub(crate) async fn told(scene: &Scene, name: &str, reason: &str) -> Result<Vec<String>> {
    scene.cluster_events(name, reason).await
}

#[test]
fn owners_of_equal_destinations_share_a_rule_and_one_that_goes_takes_only_its_own() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-two").await?;
        settled(&scene, "a", json!([rule(&scene, FAR, &["team-a/", "shared/"])])).await?;
        let both = json!([
            rule(&scene, FAR, &["team-b/", "shared/"]),
            rule(&scene, "eu-north-1", &[])
        ]);
        let object = settled(&scene, "b", both.clone()).await?;
        ensure!(object["status"]["inForce"] == both, "{}", object["status"]);
        let north = rule(&scene, "eu-north-1", &[]);
        has(
            &scene,
            &[rule(&scene, FAR, &["team-a/", "team-b/", "shared/"]), north.clone()],
        )
        .await?;
        delete(&scene, "a").await?;
        has(&scene, &[rule(&scene, FAR, &["team-b/", "shared/"]), north.clone()]).await?;
        // An edit takes what is not asked for any more.
        settled(&scene, "b", json!([north])).await?;
        has(&scene, &[north]).await?;
        delete(&scene, "b").await?;
        has(&scene, &[]).await
    })
}

#[test]
fn a_rule_without_filters_stands_for_every_repository_while_its_owner_is_there() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-all").await?;
        settled(&scene, "some", json!([rule(&scene, FAR, &["team-a/"])])).await?;
        settled(&scene, "all", json!([rule(&scene, FAR, &[])])).await?;
        has(&scene, &[rule(&scene, FAR, &[])]).await?;
        delete(&scene, "all").await?;
        has(&scene, &[rule(&scene, FAR, &["team-a/"])]).await
    })
}

#[test]
fn rules_of_another_tool_stay_with_all_that_is_in_them() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-foreign").await?;
        let mut deletes = rule(&scene, FAR, &["zoo/", "team-a/"]);
        deletes["deleteReplication"] = json!({ "enabled": true });
        let mut unknown = rule(&scene, FAR, &["team-a/"]);
        unknown["x-tomorrow"] = json!({ "grace": ["7d", null] });
        let plain = rule(&scene, "eu-north-1", &[]);
        let theirs = json!([deletes, unknown, plain]);
        wire::put(&scene, &theirs).await?;
        let before = wire::rules(&scene).await?;
        ensure!(before == *theirs.as_array().context("a list")?, "{before:?}");
        let ours = rule(&scene, FAR, &["team-b/"]);
        // One of ours says what another tool says already.
        settled(&scene, "a", json!([ours, rule(&scene, "eu-north-1", &[])])).await?;
        let now = wire::rules(&scene).await?;
        ensure!(now[..3] == before[..], "{now:#?}");
        has(&scene, &[deletes, unknown, plain, ours]).await?;
        let note = told(&scene, &scene.name, "ReplicationReplaced").await?;
        ensure!(note.len() == 1 && note[0].contains("x-tomorrow"), "{note:?}");
        delete(&scene, "a").await?;
        let now = wire::rules(&scene).await?;
        ensure!(now == before, "{now:#?}");
        Ok(())
    })
}

#[test]
fn a_limit_holds_up_the_object_that_exceeds_it_and_no_other() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-limit").await?;
        let many: Vec<Value> = (0..24).map(|n| rule(&scene, &format!("us-east-{n}9"), &[])).collect();
        settled(&scene, "many", json!(many)).await?;
        let few: Vec<Value> = (0..2).map(|n| rule(&scene, &format!("eu-west-{n}9"), &[])).collect();
        scene.apply(&config(&scene, "few", json!(few))).await?;
        let held = is(&scene, "few", "Quota").await?;
        ensure!(message(&held).contains("more than 25 rules"), "{}", message(&held));
        has(&scene, &many).await?;
        // There is room for another one, whatever waits.
        let one = rule(&scene, "ap-south-1", &[]);
        settled(&scene, "one", json!([one])).await?;
        is(&scene, "many", "Settled").await?;
        delete(&scene, "many").await?;
        is(&scene, "few", "Settled").await?;
        has(&scene, &[few, vec![one]].concat()).await
    })
}

#[test]
fn fifty_that_are_created_together_are_few_puts_and_at_rest_there_is_no_call() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-fifty").await?;
        let all: Vec<Value> = (0..50)
            .map(|n| {
                config(
                    &scene,
                    &format!("n{n}"),
                    json!([rule(&scene, FAR, &[&format!("team-{n}/")])]),
                )
            })
            .collect();
        scene
            .apply(&json!({ "apiVersion": "v1", "kind": "List", "items": all }))
            .await?;
        let mut versions = Vec::new();
        for n in 0..50 {
            let object = is(&scene, &format!("n{n}"), "Settled").await?;
            versions.push(object["metadata"]["resourceVersion"].clone());
        }
        let rules = wire::rules(&scene).await?;
        let filters = rules[0]["repositoryFilters"].as_array().map(Vec::len);
        ensure!(rules.len() == 1 && filters == Some(50), "{rules:?}");
        let calls = scene.operators_calls().await?;
        // kubectl creates one after the other; they are seen in a few batches.
        ensure!(calls["PutReplicationConfiguration"] <= 12, "{calls:?}");
        stage.aws.reset_calls(&scene.account, REGION).await?;
        throughout(Duration::from_secs(4), "rest", async || {
            let calls = scene.operators_calls().await?;
            ensure!(!calls.contains_key("DescribeRegistry"), "{calls:?}");
            ensure!(scene.operators_writes().await? == 0, "{calls:?}");
            Ok(())
        })
        .await?;
        for (n, version) in versions.iter().enumerate() {
            let object = scene.get("replicationconfig", &named(&scene, &format!("n{n}"))).await?;
            ensure!(
                object["metadata"]["resourceVersion"] == *version,
                "{}",
                object["status"]
            );
        }
        Ok(())
    })
}

#[test]
fn what_somebody_changed_of_ours_is_mended_and_told_and_what_they_added_stays() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-drift").await?;
        let ours = rule(&scene, FAR, &["team-a/"]);
        settled(&scene, "a", json!([ours])).await?;
        let theirs = rule(&scene, FAR, &["team-a/", "more/"]);
        wire::put(&scene, &json!([theirs])).await?;
        let object = look_now(&scene, "a", "1").await?;
        has(&scene, &[theirs, ours]).await?;
        ensure!(object["status"]["drift"]["repaired"] == 1, "{}", object["status"]);
        eventually(LIMIT, "the Event", async || {
            let notes = told(&scene, &named(&scene, "a"), "DriftRepaired").await?;
            ensure!(notes.len() == 1, "{notes:?}");
            Ok(())
        })
        .await?;
        // What is as it should be costs a read and nothing else.
        stage.aws.reset_calls(&scene.account, REGION).await?;
        look_now(&scene, "a", "2").await?;
        let calls = scene.operators_calls().await?;
        ensure!(calls["DescribeRegistry"] == 1, "{calls:?}");
        ensure!(scene.operators_writes().await? == 0, "{calls:?}");
        Ok(())
    })
}

#[test]
fn an_edit_by_others_is_mended_when_an_event_tells_of_it() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("repl-event").await?;
        scene.rights(&[bed::MANAGES, &["replicate", "events"]].concat()).await?;
        let queue = stage
            .aws
            .event_queue(&scene.account, REGION, Duration::from_mins(5))
            .await?;
        scene.registry(json!({ "events": { "queueUrl": queue.url } })).await?;
        let ours = rule(&scene, FAR, &["team-a/"]);
        settled(&scene, "a", json!([ours])).await?;
        wire::put(&scene, &json!([])).await?;
        eventually(LIMIT, "the rule to come back", async || {
            has(&scene, std::slice::from_ref(&ours)).await
        })
        .await
    })
}

/// Somebody writes between our put and our look at it.
#[test]
fn a_write_of_another_in_the_gap_is_told_with_its_text_and_both_are_there_in_the_end() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-gap").await?;
        let ours = rule(&scene, FAR, &["team-a/"]);
        let fault = Fault::new("PutReplicationConfiguration", Effect::Hold)
            .after()
            .registry(&scene.account, REGION)
            .nth(1);
        let held = stage.aws.inject(&fault).await?;
        scene.apply(&config(&scene, "a", json!([ours]))).await?;
        stage.aws.held(&held, LIMIT).await?;
        let theirs = rule(&scene, "eu-north-1", &["theirs/"]);
        wire::put(&scene, &json!([theirs])).await?;
        stage.aws.release(&held).await?;
        is(&scene, "a", "Settled").await?;
        has(&scene, &[theirs.clone(), ours]).await?;
        let notes = eventually(LIMIT, "the Event", async || {
            let notes = told(&scene, &scene.name, "ReplicationOverwritten").await?;
            ensure!(!notes.is_empty());
            Ok(notes)
        })
        .await?;
        ensure!(notes.len() == 1 && notes[0].contains("theirs/"), "{notes:?}");
        delete(&scene, "a").await?;
        has(&scene, &[theirs]).await
    })
}

/// Somebody writes between our look and our put: what was worked out is for another document.
#[test]
fn a_write_of_another_before_the_put_is_seen() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-before").await?;
        // The second read is right before the put.
        let fault = Fault::new("DescribeRegistry", Effect::Hold)
            .registry(&scene.account, REGION)
            .nth(2);
        let held = stage.aws.inject(&fault).await?;
        let ours = rule(&scene, FAR, &["team-a/"]);
        scene.apply(&config(&scene, "a", json!([ours]))).await?;
        stage.aws.held(&held, LIMIT).await?;
        let theirs = rule(&scene, "eu-north-1", &["theirs/"]);
        wire::put(&scene, &json!([theirs])).await?;
        stage.aws.release(&held).await?;
        is(&scene, "a", "Settled").await?;
        has(&scene, &[theirs, ours]).await
    })
}

#[test]
fn where_nothing_may_be_written_it_is_compared_only() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("repl-observe").await?;
        grant(&scene).await?;
        scene.apply_registry(json!({ "mode": "Observe" })).await?;
        scene.reason("registry", &scene.name, "Observed").await?;
        scene
            .apply(&config(&scene, "a", json!([rule(&scene, FAR, &["team-a/"])])))
            .await?;
        let object = is(&scene, "a", "Observed").await?;
        ensure!(message(&object).contains("1 rule not in ECR"), "{}", message(&object));
        ensure!(object["metadata"].get("finalizers").is_none(), "{}", object["metadata"]);
        // A rule that says more holds it.
        wire::put(&scene, &json!([rule(&scene, FAR, &["team-a/", "team-b/"])])).await?;
        let object = look_now(&scene, "a", "1").await?;
        ensure!(message(&object).contains("Nothing differs"), "{}", message(&object));
        delete(&scene, "a").await?;
        ensure!(scene.operators_writes().await? == 0);
        Ok(())
    })
}

#[test]
fn a_suspended_object_keeps_what_it_has_and_gets_nothing_more() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-suspend").await?;
        let first = rule(&scene, FAR, &["team-a/"]);
        settled(&scene, "a", json!([first])).await?;
        let mut suspended = config(&scene, "a", json!([rule(&scene, FAR, &["team-a/", "more/"])]));
        suspended["spec"]["suspend"] = json!(true);
        scene.apply(&suspended).await?;
        let other = rule(&scene, "eu-north-1", &[]);
        settled(&scene, "b", json!([other])).await?;
        has(&scene, &[first, other.clone()]).await?;
        suspended["spec"]["suspend"] = json!(false);
        scene.apply(&suspended).await?;
        is(&scene, "a", "Settled").await?;
        has(&scene, &[rule(&scene, FAR, &["team-a/", "more/"]), other]).await
    })
}

#[test]
fn a_registry_waits_for_its_configs_and_one_that_is_missing_is_told() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("repl-registry").await?;
        grant(&scene).await?;
        scene
            .apply(&config(&scene, "a", json!([rule(&scene, FAR, &[])])))
            .await?;
        is(&scene, "a", "RegistryNotReady").await?;
        scene.registry(json!({})).await?;
        is(&scene, "a", "Settled").await?;
        let remove = ["delete", "registry.ecr-operator.dev", &scene.name, "--wait=false"];
        scene.cluster.kubectl(&remove).await?.checked()?;
        let registry = scene.reason("registry", &scene.name, "Conflict").await?;
        let first = format!("ReplicationConfig {}", named(&scene, "a"));
        ensure!(message(&registry).contains(&first), "{}", message(&registry));
        delete(&scene, "a").await?;
        has(&scene, &[]).await
    })
}

#[test]
fn a_denied_put_is_told_and_heals() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-denied").await?;
        let fault = Fault::error(
            "PutReplicationConfiguration",
            400,
            "AccessDeniedException",
            "User is not authorized to perform: ecr:PutReplicationConfiguration",
        );
        let id = stage.aws.inject(&fault.registry(&scene.account, REGION)).await?;
        let ours = rule(&scene, FAR, &["team-a/"]);
        scene.apply(&config(&scene, "a", json!([ours]))).await?;
        let object = is(&scene, "a", "Denied").await?;
        ensure!(
            message(&object).contains("ecr:PutReplicationConfiguration"),
            "{}",
            message(&object)
        );
        stage.aws.remove_fault(&id).await?;
        look_now(&scene, "a", "1").await?;
        is(&scene, "a", "Settled").await?;
        has(&scene, &[ours]).await
    })
}

#[test]
fn after_a_restart_ours_are_ours_and_theirs_are_theirs_and_nothing_is_called_for_it() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.operator("repl-restart", cluster, OWNER).await?;
        let scene = stage.scene_on(cluster, "repl-restart").await?;
        grant(&scene).await?;
        scene.registry(json!({})).await?;
        let theirs = rule(&scene, FAR, &["theirs/"]);
        wire::put(&scene, &json!([theirs])).await?;
        let ours = rule(&scene, FAR, &["team-a/"]);
        settled(&scene, "a", json!([ours])).await?;
        operator.kill();
        stage.aws.reset_calls(&scene.account, REGION).await?;
        operator.restart().await?;
        let other = rule(&scene, "eu-north-1", &[]);
        settled(&scene, "b", json!([other])).await?;
        has(&scene, &[theirs.clone(), ours, other.clone()]).await?;
        let calls = scene.operators_calls().await?;
        ensure!(calls["PutReplicationConfiguration"] == 1, "{calls:?}");
        delete(&scene, "a").await?;
        has(&scene, &[theirs, other]).await
    })
}

#[test]
fn deletions_need_the_registrys_leave_and_a_registry_of_each_destination() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-leave").await?;
        let mut deletes = rule(&scene, FAR, &["team-a/"]);
        deletes["deleteReplication"] = json!({ "enabled": true });
        scene.apply(&config(&scene, "a", json!([deletes]))).await?;
        let object = is(&scene, "a", "NotAllowed").await?;
        ensure!(message(&object).contains("allowDelete"), "{}", message(&object));
        scene
            .apply_registry(json!({ "replication": { "allowDelete": true } }))
            .await?;
        let object = is(&scene, "a", "RegistryNotReady").await?;
        ensure!(message(&object).contains("no Registry for it"), "{}", message(&object));
        has(&scene, &[]).await?;
        // What is off is what it is without.
        deletes["deleteReplication"] = json!({ "enabled": false });
        settled(&scene, "a", json!([deletes])).await?;
        has(&scene, &[rule(&scene, FAR, &["team-a/"])]).await
    })
}

#[test]
fn a_registry_that_is_its_own_destination_is_told() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-self").await?;
        scene
            .apply(&config(&scene, "a", json!([rule(&scene, REGION, &[])])))
            .await?;
        let object = is(&scene, "a", "Invalid").await?;
        ensure!(
            message(&object).contains("destination of its own images"),
            "{}",
            message(&object)
        );
        let good = rule(&scene, FAR, &[]);
        settled(&scene, "b", json!([good])).await?;
        has(&scene, &[good]).await
    })
}

#[test]
fn a_plan_shows_the_put_and_makes_none() -> Result<()> {
    run(async |stage| {
        let scene = open(stage, "repl-plan").await?;
        settled(&scene, "a", json!([rule(&scene, FAR, &["team-a/"])])).await?;
        let manifest = config(&scene, "b", json!([rule(&scene, FAR, &["team-b/"])]));
        // The administrator may assume no role, so the plan is made with a Registry that needs none; the file wins.
        let mut registry = scene.registry_spec();
        registry.as_object_mut().context("a map")?.remove("assumeRole");
        let registry = object("Registry", &scene.name, None, registry);
        let (code, text) = crate::plan::plan(&scene, &[registry.clone(), manifest], &[]).await?;
        ensure!(code == 2, "{code}: {text}");
        ensure!(
            text.contains("put the replication configuration: 1 rule to add or to change, 1 of ours replaced or removed, 0 of others kept"),
            "{text}"
        );
        let same = config(&scene, "a", json!([rule(&scene, FAR, &["team-a/"])]));
        let (code, text) = crate::plan::plan(&scene, &[registry, same], &[]).await?;
        ensure!(code == 0, "{code}: {text}");
        has(&scene, &[rule(&scene, FAR, &["team-a/"])]).await
    })
}

#[test]
fn the_leave_that_another_account_has_to_give_is_told_until_its_registry_here_gives_it() -> Result<()> {
    run(async |stage| {
        let (scene, far) = (open(stage, "repl-let-in").await?, stage.scene("repl-let-in-far").await?);
        far.rights(&[bed::MANAGES, &["registry"]].concat()).await?;
        far.registry(json!({})).await?;
        let to = json!([{ "destinations": [{ "region": REGION, "registryId": far.account }] }]);
        let object = settled(&scene, "a", to).await?;
        let needed = &object["status"]["policiesNeeded"][0];
        ensure!(needed["registryId"] == far.account.as_str(), "{}", object["status"]);
        let policy: Value = serde_json::from_str(needed["policy"].as_str().context("no policy")?)?;
        let principal = format!("arn:aws:iam::{}:root", scene.account);
        ensure!(policy["Statement"][0]["Principal"]["AWS"] == principal, "{policy}");
        far.registry(json!({ "replication": { "from": [scene.account] } }))
            .await?;
        eventually(LIMIT, "nothing more to be asked for", async || {
            let object = scene.get("replicationconfig", &named(&scene, "a")).await?;
            ensure!(object["status"]["policiesNeeded"].is_null(), "{}", object["status"]);
            Ok(())
        })
        .await
    })
}
