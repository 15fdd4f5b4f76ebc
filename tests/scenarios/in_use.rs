//! Images in use are reported, keep a tag while they are, and lose it without being lost.

mod across;
mod elsewhere;
mod hall;
mod replica;

use std::time::Duration;

use anyhow::{Result, ensure};
use aws_sdk_ecr::types::ImageTagMutability;
use bed::{Effect, Fault, eventually, throughout};
use serde_json::json;

pub(crate) use self::hall::observer;
use self::hall::{Hall, INTERVAL, LIMIT, in_use};
use crate::{
    ledger::PARKING,
    support::{REGION, run},
};

#[test]
fn an_image_has_its_tag_while_a_pod_runs_it_and_outlives_the_tag() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("used").await?;
        let digest = part.push("v1").await?;
        part.pod("runner", &part.by(&digest)).await?;
        part.has_tag(&digest).await?;
        ensure!(part.reported().await?.contains(&digest));
        // What has no other tag would be deleted with its last one.
        part.untag("v1").await?;
        part.delete("pod", "runner").await?;
        part.lost_tag(&digest).await?;
        ensure!(part.images().await?.contains_key(&digest), "the image itself is gone");
        ensure!(
            !part.images().await?.contains_key(PARKING),
            "the parking manifest is left over"
        );
        let again = part.scene.get("registry", &part.scene.name).await?;
        ensure!(
            again["status"]["inUse"]["protectedImages"] == 0,
            "{:#}",
            again["status"]
        );
        Ok(())
    })
}

/// The tag is there before the policy, and the policy takes nothing that has one.
#[test]
fn what_runs_survives_a_policy_that_would_have_expired_it() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part_with("cleaned", json!({})).await?;
        let (scene, repository) = (&part.scene, &part.repository);
        let runs = part.push("v1").await?;
        let (old, new) = (part.push("v2").await?, part.push("v3").await?);
        for digest in [&runs, &old] {
            let age = bed::ImageAge::pushed(50);
            stage
                .aws
                .age_image(&scene.account, REGION, repository, digest, age)
                .await?;
        }
        part.pod("runner", &part.by(&runs)).await?;
        part.cleaned_by("all").await?;
        part.is_cleaned().await?;
        part.has_tag(&runs).await?;
        let done = stage
            .aws
            .run_lifecycle(&scene.account, REGION, Some(repository), 0)
            .await?;
        ensure!(done.len() == 1 && done[0].digest == old, "{done:?}");
        let images = part.images().await?;
        ensure!(images.contains_key(&runs) && images.contains_key(&new), "{images:?}");
        // A year later, too.
        let done = stage
            .aws
            .run_lifecycle(&scene.account, REGION, Some(repository), 365)
            .await?;
        ensure!(done.len() == 1 && done[0].digest == new, "{done:?}");
        let gone = stage.aws.departures(&scene.account, REGION).await?;
        ensure!(
            gone.iter()
                .all(|gone| matches!(gone.cause, bed::DepartureCause::Lifecycle { .. })),
            "{gone:?}"
        );
        Ok(())
    })
}

/// A policy in force goes on whatever becomes of the objects that asked for it.
#[test]
fn what_comes_to_run_is_kept_while_the_policy_is_held_up_and_the_repository_suspended() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part_with("held-up", json!({})).await?;
        let scene = &part.scene;
        part.cleaned_by("one").await?;
        part.is_cleaned().await?;
        part.cleaned_by("two").await?;
        part.is("Conflict").await?;
        let first = part.push("v1").await?;
        part.pod("first", &part.by(&first)).await?;
        part.has_tag(&first).await?;
        scene
            .apply(&scene.repository("web", json!({ "suspend": true })))
            .await?;
        part.is("Suspended").await?;
        let second = part.push("v2").await?;
        part.pod("second", &part.by(&second)).await?;
        part.has_tag(&second).await?;
        part.is_cleaned().await
    })
}

#[test]
fn a_policy_that_would_take_an_image_whose_tag_is_gone_is_off_until_the_image_has_it_again() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part_with("taken-off", json!({})).await?;
        let (scene, repository) = (&part.scene, &part.repository);
        let runs = part.push("v1").await?;
        let age = bed::ImageAge::pushed(50);
        stage
            .aws
            .age_image(&scene.account, REGION, repository, &runs, age)
            .await?;
        part.pod("runner", &part.by(&runs)).await?;
        part.cleaned_by("all").await?;
        part.is_cleaned().await?;
        part.has_tag(&runs).await?;
        part.untag(&in_use(&runs)).await?;
        scene.look_now("web").await?;
        eventually(LIMIT, "the policy to be taken off", async || {
            ensure!(part.made("DeleteLifecyclePolicy").await? == 1);
            Ok(())
        })
        .await?;
        part.has_tag(&runs).await?;
        part.is_cleaned().await?;
        part.is("Settled").await
    })
}

#[test]
fn what_does_not_run_now_but_may_is_in_use_too() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("resting").await?;
        let (zero, cron, tagged) = (
            part.push("zero").await?,
            part.push("cron").await?,
            part.push("tagged").await?,
        );
        let idle = part.push("idle").await?;
        let template = |image: &str| {
            json!({ "metadata": { "labels": { "app": "x" } },
                "spec": { "restartPolicy": "Never", "containers": [{ "name": "app", "image": image }] } })
        };
        let mut always = template(&part.by(&zero));
        always["spec"]["restartPolicy"] = json!("Always");
        part.apply(
            "apps/v1",
            "Deployment",
            "zero",
            &json!({ "replicas": 0,
            "selector": { "matchLabels": { "app": "x" } }, "template": always }),
        )
        .await?;
        part.apply(
            "batch/v1",
            "CronJob",
            "cron",
            &json!({ "schedule": "0 0 1 1 *", "suspend": true,
            "jobTemplate": { "spec": { "template": template(&part.by(&cron)) } } }),
        )
        .await?;
        part.apply(
            "batch/v1",
            "CronJob",
            "tagged",
            &json!({ "schedule": "0 0 1 1 *",
            "jobTemplate": { "spec": { "template": template(&format!("{}:tagged", part.uri)) } } }),
        )
        .await?;
        for digest in [&zero, &cron, &tagged] {
            part.has_tag(digest).await?;
        }
        ensure!(!part.is_tagged(&idle).await?, "nobody uses it");
        Ok(())
    })
}

#[test]
fn whichever_answer_of_a_release_is_lost_the_tag_goes_and_the_image_stays() -> Result<()> {
    run(async |stage| {
        let hall = Hall::shared(stage).await?;
        let cut = |operation: &str| Fault::new(operation, Effect::Disconnect);
        let faults = [
            cut("PutImage"),
            cut("PutImage").after(),
            cut("BatchDeleteImage"),
            cut("BatchDeleteImage").after(),
        ];
        let mut parts = Vec::new();
        for (n, fault) in faults.into_iter().enumerate() {
            let part = hall.part(&format!("lost-{n}")).await?;
            let digest = part.push("v1").await?;
            part.pod("runner", &part.by(&digest)).await?;
            part.has_tag(&digest).await?;
            part.untag("v1").await?;
            // As many as the SDK tries, so that the operator sees it.
            let id = stage
                .aws
                .inject(&fault.registry(&part.scene.account, REGION).times(3))
                .await?;
            part.delete("pod", "runner").await?;
            parts.push((part, digest, id));
        }
        for (part, digest, id) in parts {
            part.lost_tag(&digest).await?;
            ensure!(stage.aws.fault(&id).await?.injected > 0, "nothing was struck");
            ensure!(part.images().await?.contains_key(&digest), "the image itself is gone");
        }
        Ok(())
    })
}

#[test]
fn killed_at_either_step_of_a_release_the_operator_finishes_it_later() -> Result<()> {
    run(async |stage| {
        let hall = Hall::open(stage, "in-use-killed").await?;
        for (n, operation) in ["PutImage", "BatchDeleteImage"].into_iter().enumerate() {
            for after in [false, true] {
                let part = hall.part(&format!("killed-{n}-{after}")).await?;
                let digest = part.push("v1").await?;
                part.pod("runner", &part.by(&digest)).await?;
                part.has_tag(&digest).await?;
                part.untag("v1").await?;
                part.delete("pod", "runner").await?;
                part.unreported(&digest).await?;
                let mut fault = Fault::new(operation, Effect::Hold).registry(&part.scene.account, REGION);
                if after {
                    fault = fault.after();
                }
                let id = stage.aws.inject(&fault.times(1)).await?;
                stage.aws.held(&id, LIMIT).await?;
                hall.operator.kill();
                stage.aws.release(&id).await?;
                ensure!(part.images().await?.contains_key(&digest), "the image itself is gone");
                hall.operator.restart().await?;
                part.lost_tag(&digest).await?;
                ensure!(part.images().await?.contains_key(&digest), "the image itself is gone");
            }
        }
        Ok(())
    })
}

#[test]
fn a_tag_that_somebody_moved_removed_or_parked_harms_no_image() -> Result<()> {
    run(async |stage| {
        let hall = Hall::shared(stage).await?;
        let (moved, removed, parked) = tokio::try_join!(hall.part("moved"), hall.part("removed"), hall.part("parked"))?;
        let mut digests = Vec::new();
        for part in [&moved, &removed, &parked] {
            let digest = part.push("v1").await?;
            part.pod("runner", &part.by(&digest)).await?;
            digests.push(digest);
        }
        for (part, digest) in [&moved, &removed, &parked].into_iter().zip(&digests) {
            part.has_tag(digest).await?;
        }
        // Another image, whose only tag is ours after somebody has moved it there.
        let other = moved.push("other").await?;
        moved.put(&other, &in_use(&digests[0])).await?;
        moved.untag("other").await?;
        removed.untag(&in_use(&digests[1])).await?;
        parked.park(&in_use(&digests[2])).await?;
        for part in [&moved, &removed, &parked] {
            part.delete("pod", "runner").await?;
        }
        parked.lost_tag(&digests[2]).await?;
        eventually(LIMIT, "the report to name none of them", async || {
            for (part, digest) in [&moved, &removed].into_iter().zip(&digests) {
                ensure!(!part.reported().await?.contains(digest));
            }
            Ok(())
        })
        .await?;
        throughout(INTERVAL * 3, "what somebody did", async || {
            let images = moved.images().await?;
            ensure!(images[&other] == [in_use(&digests[0])], "{images:?}");
            for (part, digest) in [&moved, &removed, &parked].into_iter().zip(&digests) {
                ensure!(part.images().await?.contains_key(digest), "{digest} is gone");
            }
            Ok(())
        })
        .await
    })
}

#[test]
fn a_tag_in_use_that_somebody_took_off_comes_back() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("back-again").await?;
        let digest = part.push("v1").await?;
        part.pod("runner", &part.by(&digest)).await?;
        part.has_tag(&digest).await?;
        part.park(&in_use(&digest)).await?;
        // A tag that is followed has the repository listed again before long.
        part.pod("by-tag", &format!("{}:v1", part.uri)).await?;
        part.has_tag(&digest).await
    })
}

#[test]
fn what_another_cluster_reports_is_in_use_until_its_report_says_otherwise() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("others").await?;
        let digest = part.push("v1").await?;
        part.is_open().await?;
        part.publish("elsewhere", "2100-01-01T00:00:00Z", &[&digest]).await?;
        part.has_tag(&digest).await?;
        // Nothing that cannot be read, or is not there, lets a tag go.
        part.push_report("elsewhere", &json!({ "dev.ecr-operator.in-use.version": "9" }))
            .await?;
        part.says("elsewhere cannot be read").await?;
        part.delete_report("elsewhere").await?;
        part.says("report of cluster elsewhere is gone").await?;
        throughout(INTERVAL * 2, "the tag", async || {
            ensure!(part.is_tagged(&digest).await?, "a release while a report was missing");
            Ok(())
        })
        .await?;
        part.publish("elsewhere", "2100-01-01T00:00:00Z", &[]).await?;
        part.lost_tag(&digest).await?;
        ensure!(part.images().await?.contains_key(&digest));
        Ok(())
    })
}

#[test]
fn a_silent_cluster_is_told_of_and_stays_protected_until_it_is_retired() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("silent").await?;
        let digest = part.push("v1").await?;
        part.is_open().await?;
        part.publish("old", "2026-01-01T00:00:00Z", &[&digest]).await?;
        part.has_tag(&digest).await?;
        eventually(LIMIT, "the cluster to be shown as silent", async || {
            let registry = part.scene.get("registry", &part.scene.name).await?;
            let cluster = &registry["status"]["inUse"]["clusters"][0];
            ensure!(
                cluster["id"] == "old" && cluster["silent"] == true,
                "{:#}",
                registry["status"]
            );
            Ok(())
        })
        .await?;
        part.told("ClusterSilent", "old").await?;
        part.scene
            .apply_registry(json!({ "inUse": { "retiredClusters": ["old"] } }))
            .await?;
        part.lost_tag(&digest).await?;
        ensure!(part.images().await?.contains_key(&digest));
        Ok(())
    })
}

#[test]
fn a_restart_publishes_nothing_and_rest_costs_little() -> Result<()> {
    run(async |stage| {
        let hall = Hall::open(stage, "in-use-rest").await?;
        let part = hall.part("rest").await?;
        let digest = part.push("v1").await?;
        part.pod("runner", &part.by(&digest)).await?;
        part.has_tag(&digest).await?;
        stage.aws.reset_calls(&part.scene.account, REGION).await?;
        hall.operator.restart().await?;
        let intervals = 3;
        throughout(INTERVAL * intervals + Duration::from_secs(2), "rest", async || {
            ensure!(part.made("PutImage").await? == 0, "PutImage");
            Ok(())
        })
        .await?;
        let mut calls = part.scene.operators_calls().await?;
        calls.retain(|operation, _| !operation.starts_with("sts:") && operation != "DescribeRepositories");
        let lists = calls.get("ListImages").copied().unwrap_or_default();
        ensure!(lists <= intervals as usize + 3, "{calls:?}");
        let total: usize = calls.values().sum();
        ensure!(total - lists <= 6, "{calls:?}");
        Ok(())
    })
}

#[test]
fn where_nobody_asks_nothing_is_written_or_read() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part_with("unasked", json!({})).await?;
        part.push("v1").await?;
        stage.aws.reset_calls(&part.scene.account, REGION).await?;
        throughout(INTERVAL * 2, "rest", async || {
            let mut calls = part.scene.operators_calls().await?;
            calls.retain(|operation, _| !operation.starts_with("sts:") && operation != "DescribeRepositories");
            ensure!(calls.is_empty(), "{calls:?}");
            Ok(())
        })
        .await
    })
}

#[test]
fn where_others_made_the_tags_immutable_ours_stay_and_that_is_said() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("immutable").await?;
        let put = part.scene.ecr().await?.put_image_tag_mutability();
        put.repository_name(&part.repository)
            .image_tag_mutability(ImageTagMutability::Immutable)
            .send()
            .await?;
        let digest = part.push("v1").await?;
        part.pod("runner", &part.by(&digest)).await?;
        part.has_tag(&digest).await?;
        part.says("no image is released").await?;
        part.delete("pod", "runner").await?;
        part.unreported(&digest).await?;
        throughout(INTERVAL * 2, "the tag", async || {
            ensure!(part.is_tagged(&digest).await?, "none");
            Ok(())
        })
        .await
    })
}

#[test]
fn an_immutable_repository_of_ours_lets_our_tags_move_and_no_others() -> Result<()> {
    run(async |stage| {
        let immutable = json!({ "deletionPolicy": "DeleteWithImages", "imageTagMutability": "IMMUTABLE" });
        let part = Hall::shared(stage).await?.part_with("admitting", immutable).await?;
        let live = part.scene.live(&part.repository).await?;
        let filters = live.image_tag_mutability_exclusion_filters();
        ensure!(filters.len() == 1 && filters[0].filter() == "in-use.*", "{filters:?}");
        let digest = part.push("v1").await?;
        part.pod("runner", &part.by(&digest)).await?;
        part.has_tag(&digest).await?;
        part.delete("pod", "runner").await?;
        part.lost_tag(&digest).await?;
        ensure!(part.images().await?.contains_key(&digest));
        let moved = part.push_other("v1").await;
        ensure!(moved.is_err(), "v1 was moved");
        Ok(())
    })
}

/// ECR takes no 1,001st tag, and hands out no manifest of what is in the archive.
#[test]
fn what_cannot_have_our_tag_keeps_the_policy_from_being_put_and_says_why() -> Result<()> {
    run(async |stage| {
        let hall = Hall::shared(stage).await?;
        let full = hall.part_with("full", json!({})).await?;
        let archived = hall.part_with("archived", json!({})).await?;
        let (many, other) = (full.push("v0").await?, full.push("other").await?);
        full.tag_often(&many, 999).await?;
        full.pod("many", &full.by(&many)).await?;
        full.pod("other", &full.by(&other)).await?;
        let stored = archived.push("v1").await?;
        archived.archive(&stored).await?;
        archived.pod("stored", &archived.by(&stored)).await?;
        for part in [&full, &archived] {
            part.cleaned_by("all").await?;
        }
        full.has_tag(&other).await?;
        for (part, why) in [(&full, "maximum number of tags"), (&archived, "cannot be tagged")] {
            part.says(why).await?;
            part.is("Protecting").await?;
            ensure!(
                !part.has_policy().await?,
                "it was put all the same on {}",
                part.repository
            );
        }
        ensure!(full.images().await?.contains_key(&many) && archived.images().await?.contains_key(&stored));
        Ok(())
    })
}

#[test]
fn an_image_of_an_index_protects_the_index() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("indexed").await?;
        let child = part.push("child").await?;
        // The tag moves to the index, so that the image has none.
        let index = part.push_index("child", &child).await?;
        part.pod("runner", &part.by(&child)).await?;
        part.has_tag(&child).await?;
        part.has_tag(&index).await
    })
}

#[test]
fn a_cluster_that_only_observes_reports_with_rights_to_one_repository() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("watched").await?;
        let digest = part.push("v1").await?;
        part.is_open().await?;
        let other = Hall::open(stage, "in-use-observer").await?;
        other.observe(&part).await?;
        other.pod_of(&part, &part.by(&digest)).await?;
        part.has_tag(&digest).await
    })
}

#[test]
fn an_image_is_reported_before_a_promotion_brings_it_anywhere() -> Result<()> {
    run(async |stage| {
        let part = Hall::shared(stage).await?.part("promoted").await?;
        part.is_open().await?;
        let digest = part.push("1.0.0").await?;
        part.promotion("1.0.0").await?;
        part.runs(&digest).await?;
        ensure!(
            part.reported().await?.contains(&digest),
            "it was written before it was reported"
        );
        Ok(())
    })
}

#[test]
fn by_an_event_a_report_is_read_at_once_and_what_we_write_ourselves_is_no_news() -> Result<()> {
    run(async |stage| {
        // Whatever happens here within the hour, an event told of it.
        let part = Hall::open_with(stage, "in-use-told", "1h").await?.part("told").await?;
        part.listen().await?;
        part.is_open().await?;
        let digest = part.push("v1").await?;
        part.publish("elsewhere", "2100-01-01T00:00:00Z", &[&digest]).await?;
        part.has_tag(&digest).await?;
        stage.aws.reset_calls(&part.scene.account, REGION).await?;
        // What somebody else does to the tag is.
        part.park(&in_use(&digest)).await?;
        part.has_tag(&digest).await?;
        throughout(Duration::from_secs(5), "rest", async || {
            let (puts, lists) = (part.made("PutImage").await?, part.made("ListImages").await?);
            ensure!((puts, lists) == (1, 1), "PutImage {puts}, ListImages {lists}");
            Ok(())
        })
        .await
    })
}
