//! Deletions that are carried over to another Region spare what runs there.

use anyhow::{Context as _, Result, ensure};
use bed::{DepartureCause, Fault, ImageAge, Policy, eventually};
use serde_json::{Value, json};

use super::hall::{Hall, LIMIT, Part};
use crate::{
    replication::{FAR, config, delete, named, rule, wire},
    support::{OWNER, REGION, condition, message, object, run},
};

/// A part whose operator may do all of this in both Regions, with a Registry of the other one.
pub(super) async fn open(stage: &'static crate::support::Stage, name: &str) -> Result<Part> {
    let part = Hall::shared(stage).await?.part_with(name, json!({})).await?;
    let scene = &part.scene;
    let mut statements = Vec::new();
    for region in [REGION, FAR] {
        let features = [bed::MANAGES, &["protect", "replicate"]].concat();
        let rights = bed::rights(&scene.account, region, OWNER, &features)?;
        statements.extend(rights["Statement"].as_array().cloned().unwrap_or_default());
    }
    for (at, statement) in statements.iter_mut().enumerate() {
        statement["Sid"] = json!(format!("S{at}"));
    }
    let rights = json!({ "Version": "2012-10-17", "Statement": statements });
    scene.role(Policy::Document(rights)).await?;
    scene
        .apply_registry(json!({ "replication": { "allowDelete": true } }))
        .await?;
    let mut far = scene.registry_spec();
    far["region"] = json!(FAR);
    scene
        .apply(&object("Registry", &named(scene, "far"), None, far))
        .await?;
    scene.reason("registry", &named(scene, "far"), "Settled").await?;
    Ok(part)
}

async fn ends_as(part: &Part, name: &str, reason: &str) -> Result<Value> {
    let name = named(&part.scene, name);
    eventually(LIMIT, &format!("{name} to be {reason}"), async || {
        let object = part.scene.get("replicationconfig", &name).await?;
        let ready = condition(&object, "Ready").context("no condition yet")?;
        let current = ready["observedGeneration"] == object["metadata"]["generation"];
        ensure!(current && ready["reason"] == reason, "{ready}");
        Ok(object)
    })
    .await
}

/// The digests that the other Region has.
async fn far(part: &Part) -> Result<Vec<String>> {
    let admin = part.scene.stage.aws.admin(&part.scene.account).await?;
    let list = part.scene.stage.aws.ecr(FAR, &admin).list_images();
    let listed = list.repository_name(&part.repository).send().await?;
    let ids = listed.image_ids.unwrap_or_default();
    Ok(ids.into_iter().filter_map(|id| id.image_digest).collect())
}

async fn arrived(part: &Part, digest: &str) -> Result<()> {
    eventually(LIMIT, "the image in the other Region", async || {
        ensure!(far(part).await?.iter().any(|there| there == digest));
        Ok(())
    })
    .await
}

fn deleting(part: &Part) -> Value {
    let mut rule = rule(&part.scene, FAR, &[&format!("{}/", part.scene.name)]);
    rule["deleteReplication"] = json!({ "enabled": true });
    json!([rule])
}

#[test]
fn an_image_that_only_the_other_region_runs_survives_a_lifecycle_policy_here() -> Result<()> {
    run(async |stage| {
        let part = open(stage, "across").await?;
        let (scene, repository) = (&part.scene, &part.repository);
        let copies = json!([rule(scene, FAR, &["across/"])]);
        scene.apply(&config(scene, "a", copies)).await?;
        ends_as(&part, "a", "Settled").await?;
        let (runs, unused) = (part.push("v1").await?, part.push("v2").await?);
        for digest in [&runs, &unused] {
            arrived(&part, digest).await?;
            let age = ImageAge::pushed(50);
            stage
                .aws
                .age_image(&scene.account, REGION, repository, digest, age)
                .await?;
        }
        let there = format!("{}@{runs}", part.uri.replace(REGION, FAR));
        part.pod("runner", &there).await?;
        part.cleaned_by("all").await?;
        part.is_cleaned().await?;

        // While it is not known what runs there, deletions are not carried over.
        let fault = Fault::server_error("ListImages").registry(&scene.account, FAR);
        let blind = stage.aws.inject(&fault).await?;
        scene.apply(&config(scene, "a", deleting(&part))).await?;
        let held = ends_as(&part, "a", "Protecting").await?;
        ensure!(message(&held).contains(FAR), "{}", message(&held));
        let rules = wire::rules(scene).await?;
        ensure!(
            rules.len() == 1 && rules[0].get("deleteReplication").is_none(),
            "{rules:?}"
        );
        stage.aws.remove_fault(&blind).await?;

        ends_as(&part, "a", "Settled").await?;
        let rules = wire::rules(scene).await?;
        ensure!(rules[0]["deleteReplication"]["enabled"] == true, "{rules:?}");
        // Not a moment later: the tag comes first.
        ensure!(part.is_tagged(&runs).await?, "{:?}", part.images().await?);
        let done = stage
            .aws
            .run_lifecycle(&scene.account, REGION, Some(repository), 0)
            .await?;
        ensure!(done.len() == 1 && done[0].digest == unused, "{done:?}");
        let images = far(&part).await?;
        ensure!(images.contains(&runs) && !images.contains(&unused), "{images:?}");
        let gone = stage.aws.departures(&scene.account, FAR).await?;
        let carried = gone
            .iter()
            .all(|gone| gone.digest == unused && gone.cause == DepartureCause::Replication);
        ensure!(gone.len() == 1 && carried, "{gone:?}");

        // Once nobody runs it, it may go.
        part.delete("pod", "runner").await?;
        part.lost_tag(&runs).await?;
        ensure!(far(&part).await?.contains(&runs), "the release has deleted it there");
        delete(scene, "a").await
    })
}

/// The operator of this cluster dies and knows nothing for a while.
#[test]
fn what_the_other_region_runs_keeps_its_tag_while_the_destination_cannot_be_seen() -> Result<()> {
    run(async |stage| {
        let part = open(stage, "across-blind").await?;
        let scene = &part.scene;
        scene
            .apply(&scene.repository("web", json!({ "deletionPolicy": "DeleteWithImages" })))
            .await?;
        let digest = part.push("v1").await?;
        let there = format!("{}@{digest}", part.uri.replace(REGION, FAR));
        part.pod("runner", &there).await?;
        scene.apply(&config(scene, "a", deleting(&part))).await?;
        ends_as(&part, "a", "Settled").await?;
        part.has_tag(&digest).await?;
        // The other Registry goes away; what it used stays in use.
        let name = named(scene, "far");
        let remove = ["delete", "registry.ecr-operator.dev", &name, "--timeout=60s"];
        scene.cluster.kubectl(&remove).await?.checked()?;
        part.delete("pod", "runner").await?;
        part.says("this cluster has no Registry for it").await?;
        bed::throughout(super::hall::INTERVAL * 4, "the tag", async || {
            ensure!(part.is_tagged(&digest).await?);
            Ok(())
        })
        .await?;
        ends_as(&part, "a", "Settled").await?;
        delete(scene, "a").await
    })
}
