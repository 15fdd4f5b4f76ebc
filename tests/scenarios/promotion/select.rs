//! Which image of the repository is wanted, by each policy, and what is said of those that are not.

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::types::{ImageIdentifier, TargetStorageClass};
use serde_json::json;

use super::play::{Play, source};
use crate::support::run;

#[test]
fn a_tag_is_followed_by_the_digest_it_is_on() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "select-tag").await?;
        let first = play.push_content("stable", "one").await?;
        play.deployment("app", &format!("{}:stable", play.uri)).await?;
        play.promote(json!({ "source": source(&json!({ "tag": { "name": "stable" } })) }))
            .await?;
        play.runs(&first).await?;
        let second = play.push_content("stable", "two").await?;
        play.look().await?;
        let status = play.runs(&second).await?;
        ensure!(status["current"]["tag"] == "stable", "{status:#}");
        // Whoever moves the tag back to an older image has chosen that one.
        ensure!(play.push_content("stable", "one").await? == first, "another digest");
        play.look().await?;
        play.runs(&first).await?;

        // An image without a newer push, by its digest alone.
        play.promote(json!({ "source": source(&json!({ "digest": second })) }))
            .await?;
        play.runs(&second).await.map(drop)
    })
}

#[test]
fn the_last_pushed_the_last_by_name_and_the_highest_number_are_found() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "select-orders").await?;
        let ten = play.push("build-10").await?;
        play.deployment("app", &format!("{}:build-10", play.uri)).await?;
        let nine = play.push("build-9").await?;
        let named = play.push("2026-11-01").await?;
        let filter = |filter: serde_json::Value, policy: serde_json::Value| {
            let mut source = source(&policy);
            source["filter"] = filter;
            json!({ "source": source })
        };
        let build = json!({ "include": "^build-(?P<number>[0-9]+)$", "extract": "$number" });
        play.promote(filter(build.clone(), json!({ "numerical": {} }))).await?;
        play.runs(&ten).await?;
        play.promote(filter(build, json!({ "alphabetical": {} }))).await?;
        play.runs(&nine).await?;
        play.promote(filter(
            json!({ "include": "^[0-9]{4}-" }),
            json!({ "alphabetical": { "order": "Descending" } }),
        ))
        .await?;
        play.runs(&named).await?;
        // ECR tells whole seconds: by now a push is a later one.
        let last = play.push("zz").await?;
        let tagged = json!({ "exclude": ["^build-"] });
        play.promote(filter(tagged, json!({ "latestPushed": {} }))).await?;
        play.look().await?;
        play.runs(&last).await?;
        // What cosign and the operator keep for themselves is never picked, although it was pushed last.
        let (signature, in_use) = (format!("sha256-{}.sig", &last[7..]), format!("in-use.{}", &last[7..]));
        play.push_content(&signature, "a signature").await?;
        play.push_content(&in_use, &format!("{} zz", play.scene.name)).await?;
        play.promote(json!({ "source": source(&json!({ "latestPushed": {} })) }))
            .await?;
        play.looked().await?;
        play.runs(&last).await?;
        let named = json!({ "include": "^(in-use|sha256-)" });
        play.promote(filter(named, json!({ "alphabetical": {} }))).await?;
        play.looked().await?;
        play.says("the repository has no image that may be taken").await?;
        play.runs(&last).await.map(drop)
    })
}

#[test]
fn an_image_that_lacks_a_platform_is_passed_over_and_named() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "select-platforms").await?;
        let one = play.push("part-one").await?;
        let two = play.push("part-two").await?;
        let both = play
            .push_index("1.0.0", &[("linux/amd64", &one), ("linux/arm64", &two)])
            .await?;
        play.push_index("1.1.0", &[("linux/amd64", &one)]).await?;
        play.push("1.2.0").await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        let mut source = source(&json!({ "semver": { "range": ">=1.1.0" } }));
        source["platforms"] = json!(["linux/amd64", "linux/arm64"]);
        play.promote(json!({ "source": source })).await?;
        play.reason("NoCandidate").await?;
        let message = play.says("lacks linux/arm64").await?;
        ensure!(message.contains("1.1.0") && message.contains("1.2.0"), "{message}");
        ensure!(
            play.running("app").await? == "registry.k8s.io/pause:3.9",
            "nothing was to be written"
        );
        source["policy"] = json!({ "semver": { "range": ">=1.0.0" } });
        play.promote(json!({ "source": source })).await?;
        let status = play.runs(&both).await?;
        ensure!(status["current"]["tag"] == "1.0.0", "{status:#}");
        Ok(())
    })
}

#[test]
fn where_nothing_fits_the_nearest_are_named_and_prereleases_take_a_range_of_their_own() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "select-none").await?;
        play.push("1.1.0").await?;
        let candidate = play.push("2.0.0-rc.1").await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        play.promote(json!({ "source": source(&json!({ "semver": { "range": ">=2" } })) }))
            .await?;
        let ready = play.reason("NoCandidate").await?;
        let message = ready["message"].as_str().context("no message")?;
        ensure!(
            message.contains("no tag is a version in the range >=2") && message.contains("2.0.0-rc.1"),
            "{message}"
        );
        play.promote(json!({ "source": source(&json!({ "semver": { "range": ">=2.0.0-0" } })) }))
            .await?;
        play.runs(&candidate).await.map(drop)
    })
}

#[test]
fn an_archived_image_is_passed_over() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "select-archived").await?;
        let first = play.push("1.0.0").await?;
        let second = play.push("1.1.0").await?;
        let archive = play.scene.ecr().await?.update_image_storage_class();
        archive
            .repository_name(&play.repository)
            .image_id(ImageIdentifier::builder().image_digest(&second).build())
            .target_storage_class(TargetStorageClass::Archive)
            .send()
            .await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        play.promote(json!({})).await?;
        play.runs(&first).await?;
        play.promote(json!({ "source": source(&json!({ "semver": { "range": "1.1.0" } })) }))
            .await?;
        play.says("1.1.0 is archived").await?;
        play.runs(&first).await.map(drop)
    })
}
