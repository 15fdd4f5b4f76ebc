//! What a cluster runs from a replica keeps its image there.

use anyhow::{Context as _, Result, ensure};
use bed::eventually;
use serde_json::json;

use super::{
    across,
    hall::{LIMIT, in_use},
};
use crate::{
    replication::{FAR, named},
    support::{REGION, message, run},
};

#[test]
fn an_image_that_runs_from_a_replica_keeps_the_replica_and_its_images() -> Result<()> {
    run(async |stage| {
        let part = across::open(stage, "repls-tag").await?;
        let (scene, repository) = (&part.scene, &part.repository);
        let spec = json!({
            "deletionPolicy": "DeleteWithImages",
            "replicaRegistryRefs": [{ "name": named(scene, "far") }],
        });
        let mut manifest = scene.repository("web", spec);
        manifest["metadata"]["annotations"] = json!({ "ecr-operator.dev/delete-images-of": repository });
        scene.apply(&manifest).await?;
        let object = scene.reason("repository", "web", "Settled").await?;
        let uri = object["status"]["replicas"][0]["uri"].as_str().context("no uri")?;
        for region in [REGION, FAR] {
            stage
                .aws
                .push_image(&scene.account, region, repository, "v2", b"unused")
                .await?;
        }
        let digest = stage
            .aws
            .push_image(&scene.account, FAR, repository, "v1", b"runs")
            .await?;
        part.pod("runner", &format!("{uri}@{digest}")).await?;
        let admin = stage.aws.admin(&scene.account).await?;
        let ecr = stage.aws.ecr(FAR, &admin);
        eventually(LIMIT, "the tag in the other registry", async || {
            let listed = ecr.list_images().repository_name(repository).send().await?;
            let tags: Vec<_> = listed.image_ids().iter().filter_map(|id| id.image_tag()).collect();
            ensure!(tags.contains(&in_use(&digest).as_str()), "{tags:?}");
            Ok(())
        })
        .await?;

        scene.expect_deletion(repository);
        scene.delete("web").await?;
        let object = scene.reason("repository", "web", "Protected").await?;
        ensure!(
            message(&object).contains("replica in Registry") && message(&object).contains(&in_use(&digest)),
            "{}",
            message(&object)
        );
        ensure!(!scene.exists(repository).await?, "here nothing spoke against it");
        let there = ecr.list_images().repository_name(repository).send().await?;
        ensure!(there.image_ids().len() >= 3, "{there:?}");
        Ok(())
    })
}
