//! Promise 3 for replicas: what is given up elsewhere is given up by what is seen there.

use anyhow::{Context as _, Result, anyhow, ensure};
use bed::{Effect, Fault, eventually};
use serde_json::{Value, json};

use super::{open, says, told, with};
use crate::support::{LIMIT, REGION, Scene, message, run};

const OWNER_TAG: &str = "ecr-operator.dev/owner";

/// The repository is there, and nobody's.
async fn stays(scene: &Scene, repository: &str) -> Result<()> {
    let tags = scene.tags(repository).await?;
    ensure!(!tags.contains_key(OWNER_TAG), "{tags:?}");
    Ok(())
}

async fn remove_image(scene: &Scene, repository: &str, tag: &str) -> Result<()> {
    let id = aws_sdk_ecr::types::ImageIdentifier::builder().image_tag(tag).build();
    let ecr = scene.ecr().await?;
    ecr.batch_delete_image()
        .repository_name(repository)
        .image_ids(id)
        .send()
        .await?;
    Ok(())
}

/// Annotates a Repository, which asks for a look, too.
async fn annotate(scene: &Scene, annotation: &str) -> Result<()> {
    let annotate = [
        "annotate",
        "repository.ecr-operator.dev",
        "web",
        "-n",
        &scene.name,
        "--overwrite",
        annotation,
    ];
    scene.cluster.kubectl(&annotate).await?.checked().map(drop)
}

fn is_unlisted(object: &Value) -> bool {
    object["status"]["replicas"].as_array().is_none_or(Vec::is_empty)
}

#[test]
fn a_reference_that_is_taken_out_leaves_the_repository_and_takes_only_the_mark() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-out").await?;
        let spec = json!({ "deletionPolicy": "DeleteWithImages", "tags": { "team": "a" } });
        let mut manifest = scene.repository("web", with(&[&far.name], spec.clone()));
        manifest["metadata"]["annotations"] = json!({ "ecr-operator.dev/delete-images-of": "repls-out/web" });
        scene.apply(&manifest).await?;
        scene.reason("repository", "web", "Settled").await?;

        // While it cannot be released, it is not forgotten.
        let fault = Fault::server_error("UntagResource").registry(&far.account, REGION);
        let fault = stage.aws.inject(&fault).await?;
        scene.apply(&scene.repository("web", spec)).await?;
        let object = scene.reason("repository", "web", "Unavailable").await?;
        says(&object, &["replica in Registry repls-out-far: "])?;
        ensure!(
            told(&object, &far.name)?["createdAt"].is_string(),
            "{}",
            object["status"]
        );
        ensure!(far.tags("repls-out/web").await?.contains_key(OWNER_TAG));
        stage.aws.remove_fault(&fault).await?;
        scene.look_now("web").await?;

        let object = scene.reason("repository", "web", "Settled").await?;
        ensure!(is_unlisted(&object), "{}", object["status"]);
        stays(&far, "repls-out/web").await?;
        ensure!(far.tags("repls-out/web").await?["team"] == "a");
        let note = scene.event("web", "Released").await?;
        ensure!(
            note.starts_with("in Registry repls-out-far: release repository repls-out/web"),
            "{note}"
        );
        ensure!(!far.operators_calls().await?.contains_key("DeleteRepository"));
        ensure!(scene.tags("repls-out/web").await?.contains_key(OWNER_TAG));
        Ok(())
    })
}

#[test]
fn retaining_takes_the_mark_off_everywhere() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-retain").await?;
        scene.settled("web", with(&[&far.name], json!({}))).await?;
        scene.delete("web").await?;
        scene.gone("web").await?;
        for at in [&scene, &far] {
            stays(at, "repls-retain/web").await?;
            ensure!(!at.operators_calls().await?.contains_key("DeleteRepository"));
        }
        Ok(())
    })
}

#[test]
fn an_image_keeps_the_repository_where_it_is_and_nothing_goes_elsewhere_before_the_first() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-empty").await?;
        let repository = "repls-empty/web";
        scene.expect_deletion(repository);
        far.expect_deletion(repository);
        scene
            .settled("web", with(&[&far.name], json!({ "deletionPolicy": "DeleteIfEmpty" })))
            .await?;
        for at in [&scene, &far] {
            stage
                .aws
                .push_image(&at.account, REGION, repository, "v1", b"content")
                .await?;
        }
        scene.delete("web").await?;
        let object = scene.reason("repository", "web", "NotEmpty").await?;
        ensure!(!message(&object).contains("replica"), "{}", message(&object));
        let reads = far.operators_calls().await?;
        remove_image(&scene, repository, "v1").await?;
        annotate(&scene, "ecr-operator.dev/reconcile=1").await?;
        let object = eventually(LIMIT, "the replica to be in the way", async || {
            let object = scene.get("repository", "web").await?;
            says(&object, &["replica in Registry repls-empty-far: ", "holds images"])?;
            anyhow::Ok(object)
        })
        .await?;
        ensure!(
            told(&object, &far.name)?["reason"] == "NotEmpty",
            "{}",
            object["status"]
        );
        ensure!(!scene.exists(repository).await? && far.exists(repository).await?);
        ensure!(
            !reads.contains_key("ListImages"),
            "it was not looked at before: {reads:?}"
        );
        remove_image(&far, repository, "v1").await?;
        annotate(&scene, "ecr-operator.dev/reconcile=2").await?;
        scene.gone("web").await?;
        ensure!(!far.exists(repository).await?);
        Ok(())
    })
}

/// The policy is changed while the repository itself is given up: the replica is decided on after that.
#[test]
fn a_policy_that_is_changed_while_the_repository_goes_holds_for_its_replica() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-late").await?;
        let given_up = async |name: &str, slow: &str, before: &str, after: &str| {
            let repository = format!("repls-late/{name}");
            let mut manifest = scene.repository(name, with(&[&far.name], json!({ "deletionPolicy": before })));
            manifest["metadata"]["annotations"] = json!({ "ecr-operator.dev/delete-images-of": repository });
            scene.apply(&manifest).await?;
            scene.reason("repository", name, "Settled").await?;
            for at in [&scene, &far] {
                let push = stage.aws.push_image(&at.account, REGION, &repository, "v1", b"content");
                push.await?;
            }
            let hold = Fault::new(slow, Effect::Hold).registry(&scene.account, REGION).times(1);
            let hold = stage.aws.inject(&hold).await?;
            scene.delete(name).await?;
            stage.aws.held(&hold, LIMIT).await?;
            manifest["spec"]["deletionPolicy"] = json!(after);
            scene.apply(&manifest).await?;
            stage.aws.release(&hold).await?;
            scene.gone(name).await
        };

        scene.expect_deletion("repls-late/kept");
        given_up("kept", "DeleteRepository", "DeleteWithImages", "Retain").await?;
        ensure!(!scene.exists("repls-late/kept").await?, "it was on its way");
        stays(&far, "repls-late/kept").await?;
        ensure!(!far.operators_calls().await?.contains_key("DeleteRepository"));

        far.expect_deletion("repls-late/freed");
        given_up("freed", "UntagResource", "Retain", "DeleteWithImages").await?;
        stays(&scene, "repls-late/freed").await?;
        ensure!(!far.exists("repls-late/freed").await?);
        Ok(())
    })
}

#[test]
fn an_image_in_use_in_one_registry_keeps_it_there_with_whatever_else_is_in_it() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-use").await?;
        let repository = "repls-use/web";
        scene.expect_deletion(repository);
        far.expect_deletion(repository);
        scene
            .settled(
                "web",
                with(&[&far.name], json!({ "deletionPolicy": "DeleteWithImages" })),
            )
            .await?;
        let in_use = format!("in-use.{}", "0".repeat(64));
        for (at, tag) in [(&scene, "v1"), (&far, "v1"), (&far, &*in_use)] {
            let content = format!("{tag} of {}", at.name);
            stage
                .aws
                .push_image(&at.account, REGION, repository, tag, content.as_bytes())
                .await?;
        }
        scene.delete("web").await?;
        scene.reason("repository", "web", "NotEmpty").await?;
        annotate(&scene, "ecr-operator.dev/delete-images-of=repls-use/web").await?;
        let object = scene.reason("repository", "web", "Protected").await?;
        says(&object, &["replica in Registry repls-use-far: ", &in_use])?;
        ensure!(!scene.exists(repository).await?, "here nothing spoke against it");
        ensure!(!far.operators_calls().await?.contains_key("DeleteRepository"));
        remove_image(&far, repository, &in_use).await?;
        annotate(&scene, "ecr-operator.dev/reconcile=1").await?;
        scene.gone("web").await?;
        ensure!(!far.exists(repository).await?);
        Ok(())
    })
}

/// The object says where the mutability lets tags of images in use through.
#[test]
fn tags_of_images_in_use_may_move_in_a_replica_like_in_the_repository() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-admit").await?;
        let spec = json!({ "imageTagMutability": "IMMUTABLE", "deletionPolicy": "DeleteWithImages" });
        scene.settled("web", with(&[&far.name], spec)).await?;
        for at in [&scene, &far] {
            let live = at.live("repls-admit/web").await?;
            let filters = live.image_tag_mutability_exclusion_filters().iter();
            let filters: Vec<&str> = filters
                .map(aws_sdk_ecr::types::ImageTagMutabilityExclusionFilter::filter)
                .collect();
            ensure!(filters == ["in-use.*"], "{filters:?}");
        }
        Ok(())
    })
}

#[test]
fn a_replica_that_is_another_repository_by_now_is_left_behind() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-other").await?;
        let repository = "repls-other/web";
        scene.expect_deletion(repository);
        let spec = |suspend: bool| {
            let spec = json!({ "deletionPolicy": "DeleteIfEmpty", "suspend": suspend });
            scene.repository("web", with(&[&far.name], spec))
        };
        scene.apply(&spec(false)).await?;
        scene.reason("repository", "web", "Settled").await?;
        scene.apply(&spec(true)).await?;
        let ecr = far.ecr().await?;
        ecr.delete_repository().repository_name(repository).send().await?;
        // Somebody creates it anew and even copies the mark.
        let mark = aws_sdk_ecr::types::Tag::builder()
            .key(OWNER_TAG)
            .value("bed/repls-other/web")
            .build()?;
        ecr.create_repository()
            .repository_name(repository)
            .tags(mark)
            .send()
            .await?;
        scene.delete("web").await?;
        scene.apply(&spec(false)).await?;
        scene.gone("web").await?;
        ensure!(!scene.exists(repository).await? && far.exists(repository).await?);
        let note = scene.event("web", "LeftBehind").await?;
        ensure!(
            note.contains("Replica in Registry repls-other-far: ") && note.contains("created later"),
            "{note}"
        );
        Ok(())
    })
}

#[test]
fn a_registry_waits_for_its_replicas_and_one_without_leave_loses_them_with_a_warning() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-lost").await?;
        let repository = "repls-lost/web";
        scene.expect_deletion(repository);
        scene
            .settled("web", with(&[&far.name], json!({ "deletionPolicy": "DeleteIfEmpty" })))
            .await?;
        let delete = ["delete", "registry.ecr-operator.dev", &far.name, "--wait=false"];
        scene.cluster.kubectl(&delete).await?.checked()?;
        eventually(LIMIT, "the Registry to say what it waits for", async || {
            let registry = far.get("registry", &far.name).await?;
            says(&registry, &["Repository repls-lost/web"])
        })
        .await?;
        far.apply_registry(json!({ "tenants": null })).await?;
        let object = scene.reason("repository", "web", "NotAllowed").await?;
        says(&object, &["replica in Registry repls-lost-far: "])?;
        scene.delete("web").await?;
        scene.gone("web").await?;
        ensure!(!scene.exists(repository).await?);
        ensure!(
            far.tags(repository).await?.contains_key(OWNER_TAG),
            "it was not touched any more"
        );
        let note = scene.event("web", "LeftBehind").await?;
        ensure!(note.contains(&far.account) && note.contains("has no tenant"), "{note}");
        eventually(LIMIT, "the Registry to go", async || {
            match far.get("registry", &far.name).await {
                Ok(registry) => Err(anyhow!("{}", registry["status"])),
                Err(error) if format!("{error:#}").contains("NotFound") => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    })
}

#[test]
fn a_registry_that_is_down_is_waited_for() -> Result<()> {
    run(async |stage| {
        let (scene, far) = open(stage, "repls-wait").await?;
        let repository = "repls-wait/web";
        scene.expect_deletion(repository);
        far.expect_deletion(repository);
        scene
            .settled("web", with(&[&far.name], json!({ "deletionPolicy": "DeleteIfEmpty" })))
            .await?;
        let fault = Fault::server_error("ecr:*").registry(&far.account, REGION);
        let fault = stage.aws.inject(&fault).await?;
        scene.delete("web").await?;
        let object = eventually(LIMIT, "the replica to be in the way", async || {
            let object = scene.get("repository", "web").await?;
            says(&object, &["replica in Registry repls-wait-far: "])?;
            anyhow::Ok(object)
        })
        .await?;
        ensure!(
            object["metadata"]["finalizers"].as_array().context("none")?.len() == 1,
            "{object}"
        );
        ensure!(!scene.exists(repository).await?);
        stage.aws.remove_fault(&fault).await?;
        annotate(&scene, "ecr-operator.dev/reconcile=1").await?;
        scene.gone("web").await?;
        ensure!(!far.exists(repository).await?);
        Ok(())
    })
}
