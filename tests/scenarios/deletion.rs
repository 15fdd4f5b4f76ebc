//! Promise 3: no image and no repository is deleted unless an object says so in words.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::support::{LIMIT, REGION, condition, message, run};

#[test]
fn retaining_is_the_default_and_only_takes_the_mark_off() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("retain").await?;
        scene.registry(json!({})).await?;
        scene
            .settled("web", json!({ "scanOnPush": true, "tags": { "team": "a" } }))
            .await?;
        scene.delete("web").await?;
        scene.gone("web").await?;
        let tags = scene.tags("retain/web").await?;
        ensure!(tags.len() == 1 && tags["team"] == "a", "{tags:?}");
        ensure!(!scene.operators_calls().await?.contains_key("DeleteRepository"));
        Ok(())
    })
}

#[test]
fn an_image_keeps_its_repository_until_the_object_or_the_image_changes() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("if-empty").await?;
        scene.registry(json!({})).await?;
        for name in ["kept", "freed"] {
            scene.expect_deletion(&format!("if-empty/{name}"));
            scene
                .settled(name, json!({ "deletionPolicy": "DeleteIfEmpty" }))
                .await?;
            stage
                .aws
                .push_image(&scene.account, REGION, &format!("if-empty/{name}"), "v1", b"content")
                .await?;
            scene.delete(name).await?;
            let object = scene.reason("repository", name, "NotEmpty").await?;
            ensure!(message(&object).contains("holds images"), "{}", message(&object));
            ensure!(condition(&object, "Stalled").is_some_and(|stalled| stalled["status"] == "True"));
        }
        // Changing the policy frees the object.
        let retain = r#"{"spec":{"deletionPolicy":"Retain"}}"#;
        let patch = [
            "patch",
            "repository.ecr-operator.dev",
            "kept",
            "-n",
            "if-empty",
            "--type=merge",
            "-p",
            retain,
        ];
        scene.cluster.kubectl(&patch).await?.checked()?;
        scene.gone("kept").await?;
        ensure!(scene.exists("if-empty/kept").await?);
        // So does removing the image; a look is asked for, rather than waited for.
        let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag("v1").build();
        scene
            .ecr()
            .await?
            .batch_delete_image()
            .repository_name("if-empty/freed")
            .image_ids(id)
            .send()
            .await?;
        let annotate = [
            "annotate",
            "repository.ecr-operator.dev",
            "freed",
            "-n",
            "if-empty",
            "ecr-operator.dev/reconcile=now",
        ];
        scene.cluster.kubectl(&annotate).await?.checked()?;
        scene.gone("freed").await?;
        ensure!(!scene.exists("if-empty/freed").await?);
        Ok(())
    })
}

#[test]
fn images_go_only_with_the_annotation_that_names_the_repository_and_never_while_in_use() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("with-images").await?;
        scene.registry(json!({})).await?;
        scene
            .settled("web", json!({ "deletionPolicy": "DeleteWithImages" }))
            .await?;
        let repository = "with-images/web";
        scene.expect_deletion(repository);
        stage
            .aws
            .push_image(&scene.account, REGION, repository, "v1", b"one")
            .await?;
        let in_use = format!("in-use.{}", "0".repeat(64));
        stage
            .aws
            .push_image(&scene.account, REGION, repository, &in_use, b"two")
            .await?;
        scene.delete("web").await?;
        let annotate = async |value: &str| {
            let annotation = format!("ecr-operator.dev/delete-images-of={value}");
            let annotate = [
                "annotate",
                "repository.ecr-operator.dev",
                "web",
                "-n",
                "with-images",
                "--overwrite",
                &annotation,
            ];
            scene.cluster.kubectl(&annotate).await?.checked()
        };
        let object = scene.reason("repository", "web", "NotEmpty").await?;
        ensure!(message(&object).contains("delete-images-of"), "{}", message(&object));
        annotate(repository).await?;
        let object = scene.reason("repository", "web", "Protected").await?;
        ensure!(message(&object).contains(&in_use), "{}", message(&object));
        ensure!(!scene.operators_calls().await?.contains_key("DeleteRepository"));
        let id = aws_sdk_ecr::types::ImageIdentifier::builder()
            .image_tag(&in_use)
            .build();
        scene
            .ecr()
            .await?
            .batch_delete_image()
            .repository_name(repository)
            .image_ids(id)
            .send()
            .await?;
        let again = [
            "annotate",
            "repository.ecr-operator.dev",
            "web",
            "-n",
            "with-images",
            "ecr-operator.dev/reconcile=now",
        ];
        scene.cluster.kubectl(&again).await?.checked()?;
        scene.gone("web").await?;
        ensure!(!scene.exists(repository).await?);
        let calls = scene.operators_calls().await?;
        ensure!(
            calls["DeleteRepository"] == 1 && !calls.contains_key("BatchDeleteImage"),
            "{calls:?}"
        );
        Ok(())
    })
}

#[test]
fn a_repository_that_is_another_one_by_now_is_left_behind() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("other-one").await?;
        scene.registry(json!({})).await?;
        let spec = json!({ "deletionPolicy": "DeleteIfEmpty", "suspend": true });
        scene
            .settled("web", json!({ "deletionPolicy": "DeleteIfEmpty" }))
            .await?;
        scene.apply(&scene.repository("web", spec)).await?;
        let ecr = scene.ecr().await?;
        ecr.delete_repository().repository_name("other-one/web").send().await?;
        // Somebody creates it anew and even copies the mark.
        let mark = aws_sdk_ecr::types::Tag::builder()
            .key("ecr-operator.dev/owner")
            .value("bed/other-one/web")
            .build()?;
        ecr.create_repository()
            .repository_name("other-one/web")
            .tags(mark)
            .send()
            .await?;
        scene.delete("web").await?;
        scene
            .apply(&scene.repository("web", json!({ "deletionPolicy": "DeleteIfEmpty" })))
            .await?;
        scene.gone("web").await?;
        ensure!(
            scene.exists("other-one/web").await?,
            "createdAt differs, so it is not the one that the object means"
        );
        ensure!(scene.event("web", "LeftBehind").await?.contains("created later"));
        Ok(())
    })
}

#[test]
fn a_suspended_object_is_not_deleted_until_it_goes_on() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("paused").await?;
        scene.expect_deletion("paused/web");
        scene.registry(json!({})).await?;
        scene
            .settled("web", json!({ "deletionPolicy": "DeleteIfEmpty" }))
            .await?;
        scene
            .apply(&scene.repository("web", json!({ "deletionPolicy": "DeleteIfEmpty", "suspend": true })))
            .await?;
        scene.delete("web").await?;
        bed::eventually(LIMIT, "the pause to be told", async || {
            let object = scene.get("repository", "web").await?;
            let reason = condition(&object, "Reconciling").context("no condition")?["reason"].clone();
            ensure!(
                reason == "Suspended" && object["metadata"]["deletionTimestamp"].is_string(),
                "{reason}"
            );
            Ok(())
        })
        .await?;
        ensure!(scene.exists("paused/web").await?);
        scene
            .apply(&scene.repository("web", json!({ "deletionPolicy": "DeleteIfEmpty" })))
            .await?;
        scene.gone("web").await?;
        ensure!(!scene.exists("paused/web").await?);
        Ok(())
    })
}

/// An image that is pushed, and is in use, between the look and the deletion.
#[test]
fn an_image_in_use_that_came_after_the_look_survives() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("late").await?;
        scene.expect_deletion("late/web");
        scene.registry(json!({})).await?;
        let mut manifest = scene.repository("web", json!({ "deletionPolicy": "DeleteWithImages" }));
        manifest["metadata"]["annotations"] = json!({ "ecr-operator.dev/delete-images-of": "late/web" });
        scene.apply(&manifest).await?;
        scene.reason("repository", "web", "Settled").await?;
        let hold = bed::Fault::new("DeleteRepository", bed::Effect::Hold)
            .registry(&scene.account, REGION)
            .times(1);
        let id = stage.aws.inject(&hold).await?;
        scene.delete("web").await?;
        stage.aws.held(&id, LIMIT).await?;
        let in_use = format!("in-use.{}", "1".repeat(64));
        stage
            .aws
            .push_image(&scene.account, REGION, "late/web", &in_use, b"late")
            .await?;
        stage.aws.release(&id).await?;
        let object = scene.reason("repository", "web", "Protected").await?;
        ensure!(message(&object).contains(&in_use), "{}", message(&object));
        ensure!(scene.exists("late/web").await?);
        Ok(())
    })
}
