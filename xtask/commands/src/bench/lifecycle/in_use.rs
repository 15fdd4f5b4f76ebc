//! Images that Deployments name: what it costs that they are, and how soon one more has its tag.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bed::eventually;

use super::super::deployments;
use super::super::figures::{Figures, rounded};
use super::super::measured::Measured;
use super::super::objects;
use super::super::phases::window;
use super::super::say;
use super::super::stage::Stage;
use super::super::usage::number;
use super::IN_USE_INTERVAL;

/// In so many repositories, so many digests each.
const REPOSITORIES: u32 = 50;
const EACH: u32 = 10;

/// How many looks at what is in use are waited for at rest.
const LOOKS: u32 = 6;

/// How long it may take until all images have their tags, which is the time of as many `PutImage` by the budget.
const LIMIT: Duration = Duration::from_mins(5);

pub(super) async fn measure(stage: &Stage) -> Result<Measured> {
    let all = REPOSITORIES * EACH;
    say(&format!("pushing {all} images, and naming them in Deployments"));
    objects::for_each(0..REPOSITORIES, async |number| push(stage, number).await).await?;
    // None has pods: only what they name counts.
    let mut manifests = Vec::new();
    for repository in 0..REPOSITORIES {
        for image in 0..EACH {
            let tag = tag(image);
            let digest = stage.admin.digest(&objects::repository(repository), &tag).await?;
            let reference = objects::reference(repository, &digest);
            manifests.push(deployments::manifest(&name(repository, image), 0, &reference));
        }
    }
    let start = Instant::now();
    deployments::apply(&stage.client, &manifests).await?;
    eventually(LIMIT, "all images to have their tags", async || {
        let status = stage.registry_status().await?;
        let tagged = &status["inUse"]["protectedImages"];
        ensure!(*tagged == all, "{tagged} have theirs: {}", status["inUse"]);
        Ok(())
    })
    .await?;
    let tagged_after = start.elapsed().as_secs_f64();
    stage.rest().await?;

    let rest = window(stage, IN_USE_INTERVAL * LOOKS).await?;
    let (repository, other) = (objects::repository(0), tag(EACH));
    let digest = stage.admin.digest(&repository, &other).await?;
    let kept_by = digest.replacen("sha256:", "in-use.", 1);
    let before = stage.reading().await?;
    let start = Instant::now();
    let image = objects::reference(0, &digest);
    deployments::set_image(&stage.client, &name(0, 0), &image).await?;
    eventually(LIMIT, "the image to have its tag", async || {
        ensure!(stage.admin.has_tag(&repository, &kept_by).await?, "it has none");
        Ok(())
    })
    .await?;
    let seconds = start.elapsed().as_secs_f64();
    let changed = Figures::between(&before, &stage.reading().await?);
    let calls_at_rest = number(rest.total_calls()) / f64::from(LOOKS);
    let writes_at_rest = rest.writes.objects;
    let measured = Measured {
        count: all,
        figures: Figures { seconds, ..changed },
    };
    Ok(measured
        .with("digests", all)
        .with("repositories", REPOSITORIES)
        .with("in_use_interval_seconds", IN_USE_INTERVAL.as_secs())
        .with("seconds_until_all_had_their_tags", rounded(tagged_after))
        .with("rest_aws_calls_per_interval", rounded(calls_at_rest))
        .with(
            "rest_aws_calls_by_operation",
            serde_json::to_value(&rest.calls).context("the calls at rest")?,
        )
        .with("rest_apiserver_writes", writes_at_rest))
}

/// One more image than is named at first.
async fn push(stage: &Stage, repository: u32) -> Result<()> {
    let name = objects::repository(repository);
    let base = stage.push(repository, "base", "base").await?;
    let manifest = stage.admin.manifest(&name, &base).await?;
    for image in 0..=EACH {
        stage.admin.put_variant(&name, &manifest, &tag(image)).await?;
    }
    Ok(())
}

fn tag(image: u32) -> String {
    format!("variant-{image:02}")
}

fn name(repository: u32, image: u32) -> String {
    format!("app-{repository:03}-{image:02}")
}
