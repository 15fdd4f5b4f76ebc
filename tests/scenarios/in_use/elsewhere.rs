//! Deletions that are carried over to a registry of another cluster spare what runs there.

use anyhow::{Context as _, Result, ensure};
use bed::{DepartureCause, Fault, ImageAge, eventually, throughout};
use serde_json::{Value, json};

use super::hall::{Hall, INTERVAL, LIMIT, Part, REPORTS, can_run_pods, in_use, pod};
use crate::{
    replication::{config, delete, elsewhere, named, wire},
    support::{REGION, Scene, condition, message, run},
};

async fn ends_as(part: &Part, reason: &str) -> Result<Value> {
    let name = named(&part.scene, "a");
    eventually(LIMIT, &format!("{name} to be {reason}"), async || {
        let object = part.scene.get("replicationconfig", &name).await?;
        let ready = condition(&object, "Ready").context("no condition yet")?;
        let current = ready["observedGeneration"] == object["metadata"]["generation"];
        ensure!(current && ready["reason"] == reason, "{ready}");
        Ok(object)
    })
    .await
}

async fn holds_up(part: &Part, words: &str) -> Result<()> {
    let name = named(&part.scene, "a");
    eventually(LIMIT, &format!("{name} to say {words:?}"), async || {
        let object = part.scene.get("replicationconfig", &name).await?;
        let told = message(&object);
        ensure!(
            condition(&object, "Ready").is_some_and(|ready| ready["reason"] == "Protecting") && told.contains(words),
            "{told}"
        );
        Ok(())
    })
    .await?;
    let rules = wire::rules(&part.scene).await?;
    ensure!(
        rules.len() == 1 && rules[0].get("deleteReplication").is_none(),
        "{rules:?}"
    );
    Ok(())
}

/// The digests that are there.
async fn images(there: &Scene, repository: &str) -> Result<Vec<String>> {
    let listed = there
        .ecr()
        .await?
        .list_images()
        .repository_name(repository)
        .send()
        .await?;
    let ids = listed.image_ids.unwrap_or_default();
    Ok(ids.into_iter().filter_map(|id| id.image_digest).collect())
}

#[test]
fn what_only_the_other_cluster_runs_is_kept_here_and_deletions_wait_for_its_reports() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part_with("else-del", json!({})).await?;
        let (scene, repository) = (&part.scene, &part.repository);
        scene
            .rights(&[bed::MANAGES, &["protect", "replicate"]].concat())
            .await?;
        scene
            .apply_registry(json!({ "replication": { "allowDelete": true } }))
            .await?;
        let there = elsewhere::open(stage, "else-del-there").await?;
        there
            .registry(json!({ "replication": { "from": [scene.account] } }))
            .await?;
        // Whoever manages it, its reports can be read.
        let far = elsewhere::observe(scene, &there, "Manage").await?;
        scene.reason("registry", &far, "ManagedElsewhere").await?;

        let copies = elsewhere::rule(&there, "else-del/");
        scene.apply(&config(scene, "a", json!([copies]))).await?;
        ends_as(&part, "Settled").await?;
        let (runs, unused) = (part.push("v1").await?, part.push("v2").await?);
        for digest in [&runs, &unused] {
            eventually(LIMIT, "the image there", async || {
                ensure!(images(&there, repository).await?.contains(digest));
                Ok(())
            })
            .await?;
            let age = ImageAge::pushed(50);
            stage
                .aws
                .age_image(&scene.account, REGION, repository, digest, age)
                .await?;
        }
        part.cleaned_by("all").await?;
        part.is_cleaned().await?;
        can_run_pods(there.cluster, &there.name).await?;
        let image = format!("{}@{runs}", part.uri.replace(&scene.account, &there.account));
        there.apply(&pod(&there.name, "runner", &image)).await?;

        // Nobody reports there yet.
        let mut deletes = copies;
        deletes["deleteReplication"] = json!({ "enabled": true });
        scene.apply(&config(scene, "a", json!([deletes]))).await?;
        holds_up(&part, "no cluster reports there which images it uses").await?;
        elsewhere::observe(scene, &there, "Observe").await?;
        scene.reason("registry", &far, "Observed").await?;
        // There are reports, and they cannot be had.
        let fault = Fault::server_error("ListImages").registry(&there.account, REGION);
        let blind = stage.aws.inject(&fault).await?;
        there
            .settled("asks", json!({ "deletionPolicy": "DeleteWithImages" }))
            .await?;
        holds_up(&part, "its reports could not be read").await?;
        throughout(INTERVAL * 2, "nothing to be deleted there", async || {
            holds_up(&part, "").await
        })
        .await?;
        stage.aws.remove_fault(&blind).await?;

        ends_as(&part, "Settled").await?;
        let rules = wire::rules(scene).await?;
        ensure!(rules[0]["deleteReplication"]["enabled"] == true, "{rules:?}");
        // Not a moment later: the tag comes first.
        ensure!(part.is_tagged(&runs).await?, "{:?}", part.images().await?);
        let done = stage
            .aws
            .run_lifecycle(&scene.account, REGION, Some(repository), 0)
            .await?;
        ensure!(done.len() == 1 && done[0].digest == unused, "{done:?}");
        let left = images(&there, repository).await?;
        ensure!(left.contains(&runs) && !left.contains(&unused), "{left:?}");
        let gone = stage.aws.departures(&there.account, REGION).await?;
        let carried = gone.iter().filter(|gone| gone.cause == DepartureCause::Replication);
        let carried: Vec<_> = carried.map(|gone| &gone.digest).collect();
        ensure!(carried == [&unused], "{gone:?}");

        // Once nobody runs it there, it may go.
        let remove = ["delete", "pod", "runner", "-n", &there.name];
        there.cluster.kubectl(&remove).await?.checked()?;
        part.lost_tag(&runs).await?;
        ensure!(
            images(&there, repository).await?.contains(&runs),
            "the release has deleted it there"
        );
        let written = elsewhere::written(&there).await?;
        ensure!(written.is_empty(), "{written:#?}");
        delete(scene, "a").await
    })
}

/// Rules without filters replicate the reports, too: what this cluster uses of the source is not what it uses of the destination.
#[test]
fn a_report_that_replication_carries_over_takes_no_place_of_another() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("else-report").await?;
        let scene = &part.scene;
        scene
            .rights(&[bed::MANAGES, &["protect", "replicate"]].concat())
            .await?;
        let there = elsewhere::open(stage, "else-report-there").await?;
        there
            .registry(json!({ "replication": { "from": [scene.account] } }))
            .await?;
        let web = there
            .settled("web", json!({ "deletionPolicy": "DeleteWithImages" }))
            .await?;
        let far = elsewhere::observe(scene, &there, "Observe").await?;
        scene.reason("registry", &far, "Observed").await?;
        let repository = "else-report-there/web";
        let digest = stage
            .aws
            .push_image(&there.account, REGION, repository, "v1", b"runs")
            .await?;
        let uri = web["status"]["uri"].as_str().context("no uri")?;
        part.pod("runner", &format!("{uri}@{digest}")).await?;
        let keeps = async || {
            let listed = there
                .ecr()
                .await?
                .list_images()
                .repository_name(repository)
                .send()
                .await?;
            let tags: Vec<&str> = listed.image_ids().iter().filter_map(|id| id.image_tag()).collect();
            ensure!(tags.contains(&in_use(&digest).as_str()), "{tags:?}");
            anyhow::Ok(())
        };
        eventually(LIMIT, "the tag there", keeps).await?;

        let all = json!([{ "destinations": [{ "region": REGION, "registryId": there.account }] }]);
        scene.apply(&config(scene, "a", all)).await?;
        ends_as(&part, "Settled").await?;
        let other = part.push("v2").await?;
        part.pod("other", &part.by(&other)).await?;
        part.has_tag(&other).await?;
        eventually(LIMIT, "the report of the source there", async || {
            let (here, arrived) = (images(scene, REPORTS).await?, images(&there, REPORTS).await?);
            ensure!(
                arrived.iter().any(|digest| here.contains(digest)),
                "{arrived:?} instead of {here:?}"
            );
            Ok(())
        })
        .await?;
        throughout(INTERVAL * 4, "the tag there", keeps).await?;
        delete(scene, "a").await
    })
}
