//! Lifecycle policies: which one applies, what is put and when, and that nothing goes which nobody let go.

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::operation::get_lifecycle_policy::GetLifecyclePolicyError;
use bed::{Effect, Fault, ImageAge, eventually, throughout};
use serde_json::{Value, json};
use std::time::Duration;

use crate::{
    drill::{Drill, Theatre},
    support::{LIMIT, REGION, Scene, merge, message, object, run},
};

/// Images of more than so many days go.
fn older_than(days: u32) -> Value {
    json!([{ "selection": { "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days }, "action": { "type": "expire" } }])
}

/// A policy that does not look after images in use, which takes rights and time of its own; `in_use` tries that.
fn policy(scene: &Scene, name: &str, spec: Value) -> Value {
    let mut whole = json!({ "protectInUse": false });
    merge(&mut whole, spec);
    object("LifecyclePolicy", name, Some(&scene.name), whole)
}

fn everywhere(days: u32) -> Value {
    json!({ "repositorySelector": {}, "rules": older_than(days) })
}

/// A Repository with labels.
fn labelled(scene: &Scene, name: &str, labels: Value) -> Value {
    let mut manifest = scene.repository(name, json!({}));
    manifest["metadata"]["labels"] = labels;
    manifest
}

/// The policy in ECR, `null` where there is none.
async fn in_force(scene: &Scene, name: &str) -> Result<Value> {
    let answer = scene
        .ecr()
        .await?
        .get_lifecycle_policy()
        .repository_name(format!("{}/{name}", scene.name))
        .send()
        .await;
    match answer {
        Ok(answer) => Ok(serde_json::from_str(
            answer.lifecycle_policy_text().unwrap_or_default(),
        )?),
        Err(error)
            if error
                .as_service_error()
                .is_some_and(GetLifecyclePolicyError::is_lifecycle_policy_not_found_exception) =>
        {
            Ok(Value::Null)
        }
        Err(error) => Err(error.into()),
    }
}

/// Waits until images of more than so many days go from a repository.
async fn expires_after(scene: &Scene, name: &str, days: u32) -> Result<()> {
    eventually(LIMIT, &format!("the policy of {days} days on {name}"), async || {
        let policy = in_force(scene, name).await?;
        let rules = policy["rules"].as_array().context("no policy")?;
        ensure!(rules.len() == 1, "{policy}");
        ensure!(rules[0]["selection"]["countNumber"] == days, "{policy}");
        Ok(())
    })
    .await
}

async fn has_none(scene: &Scene, name: &str) -> Result<()> {
    eventually(LIMIT, &format!("no policy on {name}"), async || {
        let policy = in_force(scene, name).await?;
        ensure!(policy.is_null(), "{policy}");
        Ok(())
    })
    .await
}

/// Puts images of these ages into a repository, the newest last.
async fn stocked(scene: &Scene, name: &str, ages: &[i64]) -> Result<()> {
    let repository = format!("{}/{name}", scene.name);
    for (number, age) in ages.iter().enumerate() {
        let content = format!("{repository} {number}");
        let digest = scene
            .stage
            .aws
            .push_image(
                &scene.account,
                REGION,
                &repository,
                &format!("v{number}"),
                content.as_bytes(),
            )
            .await?;
        scene
            .stage
            .aws
            .age_image(&scene.account, REGION, &repository, &digest, ImageAge::pushed(*age))
            .await?;
    }
    Ok(())
}

/// Waits until the policy's status is as wanted.
async fn counted(scene: &Scene, name: &str, wanted: &Value) -> Result<Value> {
    eventually(LIMIT, &format!("the count of policy {name}: {wanted}"), async || {
        let object = scene.get("lifecyclepolicy", name).await?;
        for (key, value) in wanted.as_object().into_iter().flatten() {
            ensure!(object["status"][key] == *value, "{}", object["status"]);
        }
        Ok(object)
    })
    .await
}

#[test]
fn repositories_get_the_policy_that_means_them_most_closely_and_move_with_it() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-choice").await?;
        scene.registry(json!({})).await?;
        let cluster = object(
            "ClusterLifecyclePolicy",
            "lcp-choice",
            None,
            json!({
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": scene.name } },
                "repositorySelector": {},
                "protectInUse": false,
                "rules": older_than(90),
            }),
        );
        scene.apply(&cluster).await?;
        scene.apply(&labelled(&scene, "web", json!({ "tier": "web" }))).await?;
        scene.apply(&labelled(&scene, "db", json!({ "tier": "db" }))).await?;
        expires_after(&scene, "web", 90).await?;
        expires_after(&scene, "db", 90).await?;

        let by_labels = json!({ "repositorySelector": { "matchLabels": { "tier": "web" } }, "rules": older_than(60) });
        scene.apply(&policy(&scene, "selecting", by_labels)).await?;
        expires_after(&scene, "web", 60).await?;
        let by_name = json!({ "repositoryNames": [format!("{}/web", scene.name)], "rules": older_than(30) });
        scene.apply(&policy(&scene, "naming", by_name)).await?;
        expires_after(&scene, "web", 30).await?;
        counted(&scene, "naming", &json!({ "repositories": 1, "applied": 1 })).await?;
        counted(&scene, "selecting", &json!({ "repositories": 0, "overruled": 1 })).await?;

        let gone = [
            "delete",
            "lifecyclepolicy.ecr-operator.dev",
            "naming",
            "-n",
            &scene.name,
        ];
        scene.cluster.kubectl(&gone).await?.checked()?;
        expires_after(&scene, "web", 60).await?;
        scene
            .apply(&labelled(&scene, "web", json!({ "tier": "other" })))
            .await?;
        expires_after(&scene, "web", 90).await?;
        let nothing = counted(&scene, "selecting", &json!({ "repositories": 0, "overruled": 0 })).await?;
        ensure!(message(&nothing).contains("selects no Repository"), "{nothing}");
        scene.reason("lifecyclepolicy", "selecting", "Settled").await?;

        let gone = ["delete", "clusterlifecyclepolicy.ecr-operator.dev", "lcp-choice"];
        scene.cluster.kubectl(&gone).await?.checked()?;
        has_none(&scene, "web").await?;
        has_none(&scene, "db").await?;
        ensure!(stage.aws.departures(&scene.account, REGION).await?.is_empty());
        Ok(())
    })
}

#[test]
fn two_that_mean_a_repository_equally_closely_tie_and_nothing_is_put() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-tie").await?;
        scene.registry(json!({})).await?;
        scene.apply(&policy(&scene, "first", everywhere(30))).await?;
        scene.settled("web", json!({})).await?;
        expires_after(&scene, "web", 30).await?;
        scene.apply(&policy(&scene, "second", everywhere(1))).await?;
        let web = scene.reason("repository", "web", "Conflict").await?;
        let told = message(&web);
        ensure!(
            told.contains("LifecyclePolicy first and LifecyclePolicy second"),
            "{told}"
        );
        for name in ["first", "second"] {
            scene.reason("lifecyclepolicy", name, "Conflict").await?;
            counted(&scene, name, &json!({ "blocked": 1 })).await?;
        }
        expires_after(&scene, "web", 30).await?;
        let gone = [
            "delete",
            "lifecyclepolicy.ecr-operator.dev",
            "second",
            "-n",
            &scene.name,
        ];
        scene.cluster.kubectl(&gone).await?.checked()?;
        scene.reason("repository", "web", "Settled").await?;
        scene.reason("lifecyclepolicy", "first", "Settled").await?;
        expires_after(&scene, "web", 30).await
    })
}

#[test]
fn a_policy_of_somebody_else_stays_until_an_object_claims_the_repository() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-foreign").await?;
        scene.registry(json!({})).await?;
        let ecr = scene.ecr().await?;
        let name = format!("{}/web", scene.name);
        ecr.create_repository().repository_name(&name).send().await?;
        let theirs = json!({ "rules": [{ "rulePriority": 1, "selection": { "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 3 }, "action": { "type": "expire" } }] });
        let put = ecr.put_lifecycle_policy().repository_name(&name);
        put.lifecycle_policy_text(theirs.to_string()).send().await?;
        let web = scene.settled("web", json!({ "adoption": "Adopt" })).await?;
        let shown = web["status"]["lifecyclePolicy"]["message"].as_str().unwrap_or_default();
        ensure!(shown.contains("no object here claims"), "{}", web["status"]);
        scene.look_now("web").await?;
        ensure!(in_force(&scene, "web").await?["rules"][0]["selection"]["tagStatus"] == "untagged");
        scene.apply(&policy(&scene, "all", everywhere(30))).await?;
        expires_after(&scene, "web", 30).await?;
        // What somebody puts in place of ours is mended while it is ours to say, and stays once it is not.
        let put = ecr.put_lifecycle_policy().repository_name(&name);
        put.lifecycle_policy_text(theirs.to_string()).send().await?;
        scene.look_now("web").await?;
        expires_after(&scene, "web", 30).await?;
        let put = ecr.put_lifecycle_policy().repository_name(&name);
        put.lifecycle_policy_text(theirs.to_string()).send().await?;
        let gone = ["delete", "lifecyclepolicy.ecr-operator.dev", "all", "-n", &scene.name];
        scene.cluster.kubectl(&gone).await?.checked()?;
        eventually(LIMIT, "it to be let go", async || {
            let web = scene.get("repository", "web").await?;
            ensure!(
                web["status"]["lifecyclePolicy"]["policy"].is_null(),
                "{}",
                web["status"]
            );
            Ok(())
        })
        .await?;
        ensure!(in_force(&scene, "web").await?["rules"][0]["selection"]["tagStatus"] == "untagged");
        Ok(())
    })
}

#[test]
fn a_tripped_guard_leaves_the_old_policy_until_exactly_that_is_accepted() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-guard").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        stocked(&scene, "web", &[50, 40, 3, 2, 1]).await?;
        scene.apply(&policy(&scene, "all", everywhere(90))).await?;
        expires_after(&scene, "web", 90).await?;

        scene.apply(&policy(&scene, "all", everywhere(30))).await?;
        let web = scene.reason("repository", "web", "Guarded").await?;
        ensure!(message(&web).contains("expire 2 of 5 images"), "{}", message(&web));
        let preview = &web["status"]["lifecyclePolicy"]["preview"];
        ensure!(
            preview["imagesToExpire"] == 2 && preview["bytes"].as_u64() > Some(0),
            "{preview}"
        );
        ensure!(preview["examples"][0]["tags"] == json!(["v0"]), "{preview}");
        expires_after(&scene, "web", 90).await?;
        let all = counted(
            &scene,
            "all",
            &json!({ "applied": 0, "blocked": 1, "imagesToExpire": 2 }),
        )
        .await?;
        scene.reason("lifecyclepolicy", "all", "Guarded").await?;
        let token = preview["token"].as_str().unwrap_or_default().to_owned();
        ensure!(all["status"]["worst"][0]["token"] == token, "{}", all["status"]);
        ensure!(
            stage
                .aws
                .run_lifecycle(&scene.account, REGION, None, 0)
                .await?
                .is_empty()
        );

        // Another image is too old by now: what was accepted is not what would be done.
        stocked(&scene, "web", &[50, 40, 3, 2, 1, 35]).await?;
        let accept = |token: &str| format!("ecr-operator.dev/accept-lifecycle-preview={token}");
        let annotate = [
            "annotate",
            "lifecyclepolicy.ecr-operator.dev",
            "all",
            "-n",
            &scene.name,
            "--overwrite",
        ];
        let with = |value: String| [annotate.to_vec(), vec![Box::leak(value.into_boxed_str())]].concat();
        scene.cluster.kubectl(&with(accept(&token))).await?.checked()?;
        let newer = eventually(LIMIT, "another preview", async || {
            let web = scene.get("repository", "web").await?;
            let preview = &web["status"]["lifecyclePolicy"]["preview"];
            ensure!(preview["imagesToExpire"] == 3, "{preview}");
            Ok(preview["token"].as_str().unwrap_or_default().to_owned())
        })
        .await?;
        ensure!(newer != token);
        expires_after(&scene, "web", 90).await?;
        scene.cluster.kubectl(&with(accept(&newer))).await?.checked()?;
        expires_after(&scene, "web", 30).await?;
        scene.reason("repository", "web", "Settled").await?;
        let done = stage.aws.run_lifecycle(&scene.account, REGION, None, 0).await?;
        ensure!(done.len() == 3, "exactly what the preview said: {done:?}");
        Ok(())
    })
}

#[test]
fn a_policy_in_mode_preview_shows_what_it_would_do_and_puts_nothing() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-shown").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        stocked(&scene, "web", &[50, 1]).await?;
        let spec = json!({ "repositorySelector": {}, "mode": "Preview", "rules": older_than(30) });
        scene.apply(&policy(&scene, "all", spec)).await?;
        counted(
            &scene,
            "all",
            &json!({ "repositories": 1, "applied": 0, "blocked": 0, "imagesToExpire": 1 }),
        )
        .await?;
        scene.reason("lifecyclepolicy", "all", "Settled").await?;
        scene.reason("repository", "web", "Settled").await?;
        ensure!(in_force(&scene, "web").await?.is_null());
        let calls = scene.operators_calls().await?;
        ensure!(!calls.contains_key("PutLifecyclePolicy"), "{calls:?}");
        Ok(())
    })
}

#[test]
fn a_policy_changed_behind_our_back_is_put_again_and_told_as_drift() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-drift").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        stocked(&scene, "web", &[2, 1]).await?;
        scene.apply(&policy(&scene, "all", everywhere(30))).await?;
        expires_after(&scene, "web", 30).await?;
        scene.reason("repository", "web", "Settled").await?;
        scene.event("web", "LifecyclePolicyPut").await?;
        ensure!(
            scene.events("web", "DriftRepaired").await?.is_empty(),
            "a policy that is put for the first time mends nothing"
        );

        let foreign = json!({ "rules": [{ "rulePriority": 1, "selection": { "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 7 }, "action": { "type": "expire" } }] });
        let ecr = scene.ecr().await?;
        ecr.put_lifecycle_policy()
            .repository_name(format!("{}/web", scene.name))
            .lifecycle_policy_text(foreign.to_string())
            .send()
            .await?;
        scene.look_now("web").await?;
        expires_after(&scene, "web", 30).await?;
        let note = scene.event("web", "DriftRepaired").await?;
        ensure!(note.contains("LifecyclePolicy all"), "{note}");
        let web = scene.reason("repository", "web", "Settled").await?;
        ensure!(web["status"]["drift"]["repaired"] == 1, "{}", web["status"]);
        Ok(())
    })
}

/// A preview has no name: the answer to somebody else's is never taken for ours.
#[test]
fn a_preview_of_somebody_else_is_waited_out_and_never_believed() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-preview").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        stocked(&scene, "web", &[50, 40, 1]).await?;
        let ecr = scene.ecr().await?;
        let name = format!("{}/web", scene.name);
        let harmless = json!({ "rules": [{ "rulePriority": 1, "selection": { "tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1000 }, "action": { "type": "expire" } }] });
        // Between our start and our read: theirs takes the place of ours.
        let fault = Fault::new("GetLifecyclePolicyPreview", Effect::Hold)
            .registry(&scene.account, REGION)
            .nth(1);
        let held = stage.aws.inject(&fault).await?;
        scene.apply(&policy(&scene, "all", everywhere(30))).await?;
        stage.aws.held(&held, LIMIT).await?;
        eventually(LIMIT, "a preview of somebody else", async || {
            let start = ecr.start_lifecycle_policy_preview().repository_name(&name);
            let started = start.lifecycle_policy_text(harmless.to_string()).send().await;
            started.map(drop).map_err(anyhow::Error::from)
        })
        .await?;
        eventually(LIMIT, "its end", async || {
            let preview = ecr.get_lifecycle_policy_preview().repository_name(&name).send().await?;
            ensure!(
                preview.status().is_some_and(|status| status.as_str() == "COMPLETE"),
                "{preview:?}"
            );
            Ok(())
        })
        .await?;
        stage.aws.release(&held).await?;
        let web = scene.reason("repository", "web", "Guarded").await?;
        ensure!(message(&web).contains("expire 2 of 3 images"), "{}", message(&web));
        ensure!(in_force(&scene, "web").await?.is_null());
        Ok(())
    })
}

#[test]
fn where_ecr_refuses_the_reason_stands_on_its_own_line_and_the_others_go_on() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-refused").await?;
        scene.registry(json!({})).await?;
        for name in ["web", "db"] {
            scene.settled(name, json!({})).await?;
        }
        let why = "Lifecycle policy validation failure: not on a Tuesday";
        let refusal = Fault::error("PutLifecyclePolicy", 400, "InvalidParameterException", why);
        stage
            .aws
            .inject(&refusal.registry(&scene.account, REGION).nth(1))
            .await?;
        let spec = json!({ "repositorySelector": {}, "guard": { "mode": "Disabled" }, "rules": older_than(30) });
        scene.apply(&policy(&scene, "all", spec)).await?;
        let all = counted(&scene, "all", &json!({ "repositories": 2, "applied": 1, "blocked": 1 })).await?;
        let line = &all["status"]["worst"][0];
        ensure!(
            line["message"]
                .as_str()
                .is_some_and(|told| told.contains("not on a Tuesday")),
            "{line}"
        );
        Ok(())
    })
}

#[test]
fn an_edit_costs_one_put_and_what_is_settled_costs_nothing() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lcp-cost").await?;
        scene.registry(json!({})).await?;
        let spec =
            |days| json!({ "repositorySelector": {}, "guard": { "mode": "Disabled" }, "rules": older_than(days) });
        scene.apply(&policy(&scene, "all", spec(30))).await?;
        for number in 0..10 {
            scene
                .apply(&scene.repository(&format!("web-{number}"), json!({})))
                .await?;
        }
        counted(&scene, "all", &json!({ "repositories": 10, "applied": 10 })).await?;
        let calls = scene.operators_calls().await?;
        ensure!(
            calls["CreateRepository"] == 10 && calls["PutLifecyclePolicy"] == 10,
            "one to create and one to put: {calls:?}"
        );

        stage.aws.reset_calls(&scene.account, REGION).await?;
        scene.apply(&policy(&scene, "all", spec(20))).await?;
        for number in 0..10 {
            expires_after(&scene, &format!("web-{number}"), 20).await?;
        }
        let mut calls = scene.operators_calls().await?;
        calls.remove("DescribeRepositories");
        calls.retain(|operation, _| !operation.starts_with("sts:"));
        ensure!(calls["PutLifecyclePolicy"] == 10 && calls.len() == 1, "{calls:?}");

        counted(&scene, "all", &json!({ "applied": 10 })).await?;
        let before = scene.get("lifecyclepolicy", "all").await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        throughout(Duration::from_secs(3), "rest", async || {
            let now = scene.get("lifecyclepolicy", "all").await?;
            ensure!(
                now["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"],
                "{}",
                now["status"]
            );
            Ok(())
        })
        .await?;
        let calls = scene.operators_calls().await?;
        ensure!(
            calls.keys().all(|operation| operation == "DescribeRepositories"),
            "{calls:?}"
        );
        Ok(())
    })
}

/// A slip of the label that a policy selects by: the next policy would take almost everything.
#[test]
fn a_label_flipped_on_500_repositories_trips_the_guard_and_nothing_goes() -> Result<()> {
    const COUNT: usize = 500;
    run(async |stage| {
        let scene = stage.scene("lcp-flip").await?;
        scene.registry(json!({})).await?;
        let selecting = |tier: &str, days| json!({ "repositorySelector": { "matchLabels": { "tier": tier } }, "rules": older_than(days) });
        scene.apply(&policy(&scene, "gentle", selecting("gentle", 900))).await?;
        scene.apply(&policy(&scene, "harsh", selecting("harsh", 1))).await?;
        let all = |tier: &str| {
            let items = (0..COUNT).map(|number| labelled(&scene, &format!("web-{number}"), json!({ "tier": tier })));
            json!({ "apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>() })
        };
        scene.apply(&all("gentle")).await?;
        counted(&scene, "gentle", &json!({ "applied": COUNT })).await?;
        let age = ImageAge::pushed(30);
        for number in 0..COUNT {
            let name = format!("{}/web-{number}", scene.name);
            let digest = stage.aws.push_image(&scene.account, REGION, &name, "v1", b"x").await?;
            stage.aws.age_image(&scene.account, REGION, &name, &digest, age).await?;
        }
        stage.aws.reset_calls(&scene.account, REGION).await?;
        scene.apply(&all("harsh")).await?;
        let told = counted(
            &scene,
            "harsh",
            &json!({ "repositories": COUNT, "applied": 0, "blocked": COUNT }),
        )
        .await?;
        ensure!(told["status"]["imagesToExpire"] == COUNT, "{}", told["status"]);
        let calls = scene.operators_calls().await?;
        ensure!(
            !calls.contains_key("PutLifecyclePolicy") && !calls.contains_key("DeleteLifecyclePolicy"),
            "{calls:?}"
        );
        let done = stage.aws.run_lifecycle(&scene.account, REGION, None, 0).await?;
        ensure!(done.is_empty(), "{} images went", done.len());
        Ok(())
    })
}

#[test]
fn whatever_call_is_the_last_the_policy_is_put_after_its_preview() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "lcp-kills").await?;
        let scene = theatre.scene("lcp-kill").await?;
        theatre.killed_at_every_call(&Narrow(scene)).await
    })
}

#[test]
fn with_any_answer_lost_the_policy_is_put_after_its_preview() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "lcp-losses").await?;
        let scene = theatre.scene("lcp-lose").await?;
        theatre.answers_lost(&Narrow(scene)).await
    })
}

/// A policy that lets one of ten images go comes to a repository.
struct Narrow(Scene);

impl Drill for Narrow {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        let name = format!("r{round}");
        self.0.settled(&name, json!({})).await?;
        stocked(&self.0, &name, &[50, 9, 8, 7, 6, 5, 4, 3, 2, 1]).await?;
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let spec = json!({ "repositoryNames": [format!("{}/r{round}", scene.name)], "rules": older_than(30) });
        scene.apply(&policy(scene, &format!("p{round}"), spec)).await.map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        let name = format!("r{round}");
        expires_after(scene, &name, 30).await?;
        scene.reason("repository", &name, "Settled").await?;
        counted(scene, &format!("p{round}"), &json!({ "applied": 1 })).await?;
        let gone = scene.stage.aws.departures(&scene.account, REGION).await?;
        ensure!(gone.is_empty(), "{gone:?}");
        Ok(())
    }
}
