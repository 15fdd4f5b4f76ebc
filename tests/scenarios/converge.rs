//! A repository comes to be as its object says, and stays so.

use anyhow::{Result, ensure};
use bed::{eventually, throughout};
use serde_json::json;
use std::time::Duration;

use crate::support::{LIMIT, REGION, condition, message, run};

/// Promise 1, Ready means seen, and promise 5, cheap at rest.
#[test]
fn a_repository_is_created_as_its_object_says_with_few_calls() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("create").await?;
        scene
            .registry(json!({ "creationDefaults": { "scanOnPush": true } }))
            .await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        let spec = json!({
            "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
            "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "dev-*" }],
            "encryption": { "encryptionType": "KMS" },
            "policy": { "access": { "pull": { "principals": [scene.account] } } },
            "tags": { "team": "a" },
        });
        for number in 0..20 {
            scene
                .apply(&scene.repository(&format!("web-{number}"), spec.clone()))
                .await?;
        }
        for number in 0..20 {
            scene.reason("repository", &format!("web-{number}"), "Settled").await?;
        }
        let mut calls = scene.operators_calls().await?;
        calls.retain(|operation, _| !operation.starts_with("sts:") && operation != "DescribeRepositories");
        let total: usize = calls.values().sum();
        ensure!(total <= 50, "at most 2.5 calls each: {calls:?}");

        let object = scene.get("repository", "web-0").await?;
        let live = scene.live("create/web-0").await?;
        ensure!(
            object["status"]["uri"] == live.repository_uri().unwrap_or_default(),
            "{}",
            object["status"]
        );
        ensure!(object["status"]["arn"] == live.repository_arn().unwrap_or_default());
        ensure!(
            live.image_tag_mutability()
                .is_some_and(|value| value.as_str() == "IMMUTABLE_WITH_EXCLUSION")
        );
        ensure!(live.image_tag_mutability_exclusion_filters()[0].filter() == "dev-*");
        ensure!(
            live.image_scanning_configuration()
                .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push),
            "a default of the Registry"
        );
        ensure!(
            live.encryption_configuration()
                .is_some_and(|stored| stored.encryption_type().as_str() == "KMS")
        );
        let tags = scene.tags("create/web-0").await?;
        ensure!(
            tags["team"] == "a" && tags["ecr-operator.dev/owner"] == "bed/create/web-0",
            "{tags:?}"
        );
        let policy = scene
            .ecr()
            .await?
            .get_repository_policy()
            .repository_name("create/web-0")
            .send()
            .await?;
        ensure!(
            policy
                .policy_text()
                .is_some_and(|text| text.contains("EcrOperatorPull"))
        );
        Ok(())
    })
}

/// Promise 5: a second look writes nothing anywhere.
#[test]
fn a_look_at_what_is_settled_writes_nothing() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rest").await?;
        scene.registry(json!({})).await?;
        let before = scene
            .settled("web", json!({ "scanOnPush": true, "tags": { "a": "b" } }))
            .await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        // Several listings go by.
        throughout(Duration::from_secs(3), "rest", async || {
            let now = scene.get("repository", "web").await?;
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
        ensure!(calls["DescribeRepositories"] >= 2, "listings went on: {calls:?}");
        Ok(())
    })
}

/// Promise 6 as far as the listing goes, and promise 7.
#[test]
fn an_edit_behind_our_back_is_repaired_and_told() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("drift").await?;
        scene.registry(json!({})).await?;
        scene
            .settled("web", json!({ "imageTagMutability": "IMMUTABLE", "scanOnPush": true }))
            .await?;
        let ecr = scene.ecr().await?;
        let mutable = aws_sdk_ecr::types::ImageTagMutability::Mutable;
        ecr.put_image_tag_mutability()
            .repository_name("drift/web")
            .image_tag_mutability(mutable)
            .send()
            .await?;
        eventually(LIMIT, "the repair", async || {
            let live = scene.live("drift/web").await?;
            ensure!(
                live.image_tag_mutability()
                    .is_some_and(|value| value.as_str() == "IMMUTABLE")
            );
            Ok(())
        })
        .await?;
        let note = scene.event("web", "DriftRepaired").await?;
        ensure!(note == "imageTagMutability: MUTABLE -> IMMUTABLE", "{note}");
        eventually(LIMIT, "the count of repairs", async || {
            let object = scene.get("repository", "web").await?;
            ensure!(object["status"]["drift"]["repaired"] == 1, "{}", object["status"]);
            Ok(())
        })
        .await
    })
}

#[test]
fn tags_and_policies_are_repaired_when_a_look_is_asked_for() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("look").await?;
        scene.registry(json!({})).await?;
        let spec =
            json!({ "tags": { "team": "a" }, "policy": { "access": { "pull": { "principals": [scene.account] } } } });
        let object = scene.settled("web", spec).await?;
        let ecr = scene.ecr().await?;
        let arn = object["status"]["arn"].as_str().unwrap_or_default();
        ecr.untag_resource()
            .resource_arn(arn)
            .tag_keys("team")
            .tag_keys("ecr-operator.dev/owner")
            .send()
            .await?;
        let theirs = aws_sdk_ecr::types::Tag::builder().key("theirs").value("x").build()?;
        ecr.tag_resource().resource_arn(arn).tags(theirs).send().await?;
        ecr.delete_repository_policy()
            .repository_name("look/web")
            .send()
            .await?;
        let object = scene.look_now("web").await?;
        ensure!(
            condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True"),
            "{}",
            object["status"]
        );
        let tags = scene.tags("look/web").await?;
        ensure!(
            tags["team"] == "a" && tags["ecr-operator.dev/owner"] == "bed/look/web",
            "{tags:?}"
        );
        ensure!(tags["theirs"] == "x", "tags of others stay");
        ensure!(
            ecr.get_repository_policy()
                .repository_name("look/web")
                .send()
                .await
                .is_ok()
        );
        ensure!(
            object["status"]["drift"]["repaired"].as_u64() >= Some(2),
            "{}",
            object["status"]
        );
        Ok(())
    })
}

#[test]
fn every_setting_that_ecr_can_change_follows_the_object() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("change").await?;
        scene.registry(json!({})).await?;
        scene
            .settled(
                "web",
                json!({ "imageTagMutability": "MUTABLE", "tags": { "a": "1", "b": "2" } }),
            )
            .await?;
        let document = json!({ "Version": "2012-10-17", "Statement": [{
            "Sid": "Pull", "Effect": "Allow", "Principal": { "AWS": scene.account }, "Action": "ecr:BatchGetImage",
        }]});
        let spec = json!({
            "imageTagMutability": "IMMUTABLE", "scanOnPush": true, "tags": { "b": "3" }, "policy": { "document": document },
        });
        scene.settled("web", spec).await?;
        let live = scene.live("change/web").await?;
        ensure!(
            live.image_tag_mutability()
                .is_some_and(|value| value.as_str() == "IMMUTABLE")
        );
        ensure!(
            live.image_scanning_configuration()
                .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push)
        );
        let tags = scene.tags("change/web").await?;
        ensure!(tags["b"] == "3" && !tags.contains_key("a"), "{tags:?}");
        scene
            .settled("web", json!({ "tags": {}, "policy": { "access": {} } }))
            .await?;
        ensure!(
            scene.tags("change/web").await?.len() == 1,
            "only the mark of ownership is left"
        );
        // `access: {}` owns none of the statements that the document put there.
        let policy = scene
            .ecr()
            .await?
            .get_repository_policy()
            .repository_name("change/web")
            .send()
            .await?;
        ensure!(policy.policy_text().is_some_and(|text| text.contains("Pull")));
        Ok(())
    })
}

#[test]
fn a_repository_of_nobody_is_adopted_only_on_request() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("adopt").await?;
        scene.registry(json!({})).await?;
        let ecr = scene.ecr().await?;
        ecr.create_repository().repository_name("adopt/web").send().await?;
        scene
            .apply(&scene.repository("web", json!({ "scanOnPush": true })))
            .await?;
        let object = scene.reason("repository", "web", "Exists").await?;
        ensure!(message(&object).contains("spec.adoption"), "{}", message(&object));
        ensure!(
            object["status"].get("createdAt").is_none(),
            "what is not ours is not recorded as ours"
        );
        ensure!(scene.tags("adopt/web").await?.is_empty());
        scene
            .settled("web", json!({ "scanOnPush": true, "adoption": "Adopt" }))
            .await?;
        ensure!(scene.tags("adopt/web").await?["ecr-operator.dev/owner"] == "bed/adopt/web");
        ensure!(scene.event("web", "Adopted").await?.contains("adopt"));
        Ok(())
    })
}

/// Promise 2: one writer per thing.
#[test]
fn of_two_objects_that_name_one_repository_the_second_writes_nothing() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("twice").await?;
        scene.registry(json!({})).await?;
        scene
            .settled("first", json!({ "name": "twice/one", "scanOnPush": true }))
            .await?;
        let second = json!({ "name": "twice/one", "scanOnPush": false, "adoption": "Adopt" });
        scene.apply(&scene.repository("second", second)).await?;
        let object = scene.reason("repository", "second", "OwnedByAnother").await?;
        ensure!(message(&object).contains("bed/twice/first"), "{}", message(&object));
        ensure!(condition(&object, "Stalled").is_some_and(|stalled| stalled["status"] == "True"));
        ensure!(
            scene
                .live("twice/one")
                .await?
                .image_scanning_configuration()
                .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push)
        );
        // The name is free again once its owner has let go of it.
        scene.delete("first").await?;
        scene.gone("first").await?;
        scene.reason("repository", "second", "Settled").await?;
        ensure!(scene.tags("twice/one").await?["ecr-operator.dev/owner"] == "bed/twice/second");
        Ok(())
    })
}

/// Promise 3: what is lost is told.
#[test]
fn a_repository_that_vanished_is_created_again_with_a_warning() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("vanish").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({})).await?;
        let ecr = scene.ecr().await?;
        ecr.delete_repository().repository_name("vanish/web").send().await?;
        let note = scene.event("web", "Recreated").await?;
        ensure!(
            note.contains("vanish/web") && note.contains("images are gone"),
            "{note}"
        );
        ensure!(scene.exists("vanish/web").await?);
        Ok(())
    })
}

#[test]
fn a_repository_that_came_back_as_somebody_elses_is_left_alone() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("back").await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({ "scanOnPush": true })).await?;
        let suspend = |on: bool| scene.repository("web", json!({ "scanOnPush": true, "suspend": on }));
        scene.apply(&suspend(true)).await?;
        eventually(LIMIT, "the pause", async || {
            let object = scene.get("repository", "web").await?;
            let reconciling = condition(&object, "Reconciling").cloned().unwrap_or_default();
            ensure!(reconciling["reason"] == "Suspended", "{reconciling}");
            ensure!(
                condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True"),
                "Ready stays"
            );
            Ok(())
        })
        .await?;
        let ecr = scene.ecr().await?;
        ecr.delete_repository().repository_name("back/web").send().await?;
        ecr.create_repository().repository_name("back/web").send().await?;
        scene.apply(&suspend(false)).await?;
        scene.reason("repository", "web", "OwnedByAnother").await?;
        ensure!(scene.tags("back/web").await?.is_empty());
        ensure!(
            scene
                .live("back/web")
                .await?
                .image_scanning_configuration()
                .is_some_and(|scanning| !scanning.scan_on_push())
        );
        Ok(())
    })
}

/// In `Observe`, state and drift are shown and nothing is written.
#[test]
fn an_observed_registry_is_compared_and_never_written() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("observe").await?;
        let ecr = scene.ecr().await?;
        ecr.create_repository().repository_name("observe/web").send().await?;
        scene.apply_registry(json!({ "mode": "Observe" })).await?;
        scene.reason("registry", "observe", "Observed").await?;
        scene
            .apply(&scene.repository("web", json!({ "scanOnPush": true })))
            .await?;
        let object = scene.reason("repository", "web", "Observed").await?;
        ensure!(
            message(&object).contains("scanOnPush: false -> true"),
            "{}",
            message(&object)
        );
        ensure!(condition(&object, "Ready").is_some_and(|ready| ready["status"] == "False"));
        ensure!(
            object["metadata"].get("finalizers").is_none(),
            "no finalizer: {}",
            object["metadata"]
        );
        scene
            .apply(&scene.repository("same", json!({ "name": "observe/web" })))
            .await?;
        let same = scene.reason("repository", "same", "Observed").await?;
        ensure!(condition(&same, "Ready").is_some_and(|ready| ready["status"] == "True"));
        // A look at what is known already changes neither its words nor its finalizers.
        let label = [
            "label",
            "repository.ecr-operator.dev",
            "same",
            "-n",
            "observe",
            "look=again",
        ];
        let labelled = scene.cluster.kubectl(&label).await?.checked()?;
        throughout(Duration::from_secs(3), &labelled, async || {
            let now = scene.get("repository", "same").await?;
            ensure!(now["metadata"].get("finalizers").is_none(), "{}", now["metadata"]);
            ensure!(
                condition(&now, "Ready") == condition(&same, "Ready"),
                "{}",
                now["status"]
            );
            Ok(())
        })
        .await?;
        scene.delete("web").await?;
        scene.gone("web").await?;
        ensure!(
            scene.operators_writes().await? == 0,
            "{:?}",
            scene.operators_calls().await?
        );
        Ok(())
    })
}

#[test]
fn a_restart_looks_at_the_listing_and_writes_nothing() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("restart").await?;
        let cluster = stage.bare_cluster().await?;
        let operator = stage.operator("restarted", cluster, "bed").await?;
        let scene = crate::support::Scene { cluster, ..scene };
        scene.namespace("restart", "yes").await?;
        scene.registry(json!({})).await?;
        for number in 0..5 {
            scene
                .apply(&scene.repository(&format!("web-{number}"), json!({ "tags": { "a": "b" } })))
                .await?;
        }
        for number in 0..5 {
            scene.reason("repository", &format!("web-{number}"), "Settled").await?;
        }
        operator.stop().await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        let before = cluster.writes(&bed::Cluster::operator_user()).await?;
        operator.restart().await?;
        eventually(LIMIT, "reconciles after the restart", async || {
            let metrics = operator.metrics().await?;
            let all = r#"ecr_operator_reconciles_total{kind="Repository",result="Settled"} "#;
            let count = metrics
                .lines()
                .find_map(|line| line.strip_prefix(all)?.parse::<u32>().ok());
            ensure!(count >= Some(5), "{count:?}");
            Ok(())
        })
        .await?;
        let after = cluster.writes(&bed::Cluster::operator_user()).await?;
        ensure!(after.objects == before.objects, "{before:?} {after:?}");
        let calls = scene.operators_calls().await?;
        let others = calls
            .iter()
            .filter(|(name, _)| !["DescribeRepositories", "ListTagsForResource"].contains(&name.as_str()));
        ensure!(others.clone().all(|(name, _)| name.starts_with("sts:")), "{calls:?}");
        ensure!(
            calls.get("ListTagsForResource").copied().unwrap_or(0) <= 1,
            "the claim alone is read: {calls:?}"
        );
        Ok(())
    })
}
