//! Copies to another account and Region, of which the targets run.

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::types::ImageIdentifier;
use bed::{Effect, Fault, Policy};
use serde_json::{Value, json};

use super::play::{LIMIT, Play, rights, tenant};
use crate::support::{REGION, Scene, Stage, run};

/// Another Region than [`REGION`].
const ELSEWHERE: &str = "us-east-1";

/// What copying takes beyond the rights of promotions.
const COPYING: [&str; 8] = [
    "BatchCheckLayerAvailability",
    "BatchGetImage",
    "CompleteLayerUpload",
    "DescribeImages",
    "GetDownloadUrlForLayer",
    "InitiateLayerUpload",
    "PutImage",
    "UploadLayerPart",
];

/// Gives the operator's role the rights to copy.
pub(super) async fn let_copy(scene: &Scene, region: &str) -> Result<()> {
    let_copy_without(scene, region, "").await
}

/// The same but for one of them.
async fn let_copy_without(scene: &Scene, region: &str, missing: &str) -> Result<()> {
    let mut policy = rights(scene, region)?;
    let given = COPYING.iter().filter(|action| **action != missing);
    let actions: Vec<String> = given.map(|action| format!("ecr:{action}")).collect();
    let statements = policy["Statement"].as_array_mut().context("no statements")?;
    statements.push(json!({ "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*" }));
    statements.push(json!({ "Effect": "Allow", "Action": actions,
        "Resource": format!("arn:aws:ecr:{region}:{}:repository/*", scene.account) }));
    scene.role(Policy::Document(policy)).await
}

/// A Registry in another account and Region, with a repository for copies that the play's namespace has.
struct Destination {
    scene: Scene,
    repository: String,
    uri: String,
}

impl Destination {
    async fn open(play: &Play, may: Value) -> Result<Self> {
        let name = format!("{}-to", play.scene.name);
        let scene = play.scene.stage.scene_on(play.scene.cluster, &name).await?;
        let_copy(&scene, ELSEWHERE).await?;
        let mut tenant = tenant(&scene);
        tenant["may"] = may;
        scene
            .registry(json!({ "region": ELSEWHERE, "tenants": [tenant] }))
            .await?;
        let_copy(&play.scene, REGION).await?;
        let copies = json!({ "registryRef": { "name": name } });
        let settled = play.scene.settled("copies", copies).await?;
        Ok(Self {
            scene,
            repository: format!("{}/copies", play.scene.name),
            uri: settled["status"]["uri"].as_str().context("no uri")?.to_owned(),
        })
    }

    async fn digest(&self, tag: &str) -> Result<String> {
        let aws = &self.scene.stage.aws;
        let admin = aws.admin(&self.scene.account).await?;
        let image = aws.pull_image_as(&admin, &self.scene.account, ELSEWHERE, &self.repository, tag);
        Ok(image.await?.digest)
    }

    async fn runs(&self, play: &Play, digest: &str) -> Result<Value> {
        let status = play
            .until(&format!("the copy of {digest} to run"), |status| {
                status["current"]["digest"] == digest && status["rollout"].is_null()
            })
            .await?;
        let image = play.running("app").await?;
        ensure!(image == format!("{}@{digest}", self.uri), "{image}\n{status:#}");
        Ok(status)
    }
}

fn to_copies() -> Value {
    json!({ "copyTo": { "repositoryRef": { "name": "copies" } } })
}

#[test]
fn the_targets_run_the_copy_at_the_same_digest() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "copying").await?;
        let to = Destination::open(&play, json!(["Manage", "Promote"])).await?;
        let first = play.push("1.0.0").await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        play.promote(to_copies()).await?;
        to.runs(&play, &first).await?;
        ensure!(to.digest("1.0.0").await? == first, "another image arrived");
        let second = play.push("1.1.0").await?;
        play.look().await?;
        to.runs(&play, &second).await?;
        ensure!(to.digest("1.1.0").await? == second, "another image arrived");
        play.request("rollback", "one").await?;
        to.runs(&play, &first).await.map(drop)
    })
}

#[test]
fn a_tag_of_others_is_not_moved_and_the_targets_stay() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "copying-taken").await?;
        let to = Destination::open(&play, json!(["Manage", "Promote"])).await?;
        let first = play.push("1.0.0").await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        play.promote(to_copies()).await?;
        to.runs(&play, &first).await?;
        let aws = &stage.aws;
        let theirs = aws
            .push_image(&to.scene.account, ELSEWHERE, &to.repository, "1.1.0", b"theirs")
            .await?;
        let second = play.push("1.1.0").await?;
        play.look().await?;
        let status = play
            .until("the copy to have failed", |status| {
                status["history"][0]["outcome"] == "Failed" && status["rollout"].is_null()
            })
            .await?;
        let reason = status["history"][0]["reason"].as_str().unwrap_or_default();
        ensure!(
            reason.contains("could not be copied") && reason.contains("1.1.0"),
            "{reason}"
        );
        play.scene.event("app", "Failed").await?;
        play.looked().await?;
        to.runs(&play, &first).await?;
        ensure!(to.digest("1.1.0").await? == theirs, "the tag was moved");

        // Once the tag is free, it can be tried again.
        let ecr = aws.ecr(ELSEWHERE, &aws.admin(&to.scene.account).await?);
        let id = ImageIdentifier::builder().image_tag("1.1.0").build();
        let free = ecr.batch_delete_image().repository_name(&to.repository);
        free.image_ids(id).send().await?;
        play.request("resume", "one").await?;
        to.runs(&play, &second).await?;
        ensure!(to.digest("1.1.0").await? == second, "another image is there");
        Ok(())
    })
}

#[test]
fn a_right_that_is_missing_is_told_and_the_copy_goes_on_once_it_is_given() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "copying-rights").await?;
        let to = Destination::open(&play, json!(["Manage", "Promote"])).await?;
        let_copy_without(&to.scene, ELSEWHERE, "InitiateLayerUpload").await?;
        let digest = play.push("1.0.0").await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        play.promote(to_copies()).await?;
        play.reason("Denied").await?;
        let message = play.says(&to.uri).await?;
        ensure!(play.status().await?["phase"] == "Copying", "{message}");
        let_copy(&to.scene, ELSEWHERE).await?;
        to.runs(&play, &digest).await.map(drop)
    })
}

#[test]
fn nothing_goes_to_a_registry_that_the_namespace_may_not_promote_to() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "copying-denied").await?;
        let to = Destination::open(&play, json!(["Manage"])).await?;
        play.push("1.0.0").await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        play.promote(to_copies()).await?;
        play.reason("NotAllowed").await?;
        ensure!(
            play.running("app").await? == "registry.k8s.io/pause:3.9",
            "nothing was to be written"
        );
        let written = stage.aws.calls(&to.scene.account, ELSEWHERE).await?;
        ensure!(written.on_plane("oci:PutManifest") == 0, "something was copied");
        Ok(())
    })
}

/// Copies alone need no pods.
#[test]
fn killed_in_the_middle_of_a_copy_the_operator_goes_on_and_sends_nothing_twice() -> Result<()> {
    run(async |stage: &'static Stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.rare_operator("copy-kills", cluster).await?;
        let play = Play::open_on(stage, cluster, "copying-killed").await?;
        let to = Destination::open(&play, json!(["Manage", "Promote"])).await?;
        let digest = play.push("1.0.0").await?;
        let hold = Fault::new("oci:PutManifest", Effect::Hold).registry(&to.scene.account, ELSEWHERE);
        let hold = stage.aws.inject(&hold).await?;
        let mut spec = to_copies();
        spec["targets"] = Value::Null;
        play.promote(spec).await?;
        stage.aws.held(&hold, LIMIT).await?;
        operator.kill();
        let before = stage.aws.calls(&to.scene.account, ELSEWHERE).await?;
        let sent = before.on_plane("oci:FinishUpload");
        ensure!(sent > 0, "no blob was sent before");
        stage.aws.remove_fault(&hold).await?;
        operator.restart().await?;
        let status = play
            .until("the copy to be there", |status| {
                status["current"]["digest"] == digest.as_str() && status["rollout"].is_null()
            })
            .await?;
        ensure!(status["lastRollout"] == 1, "{status:#}");
        ensure!(to.digest("1.0.0").await? == digest, "another image arrived");
        let after = stage.aws.calls(&to.scene.account, ELSEWHERE).await?;
        ensure!(
            after.on_plane("oci:FinishUpload") == sent,
            "blobs that were there were sent again"
        );
        Ok(())
    })
}

#[test]
fn a_missing_destination_is_named() -> Result<()> {
    run(async |stage| {
        let play = Play::open(stage, "copying-missing").await?;
        play.push("1.0.0").await?;
        play.deployment("app", "registry.k8s.io/pause:3.9").await?;
        play.promote(to_copies()).await?;
        play.says("Repository copies does not exist in this namespace").await?;
        let to = Destination::open(&play, json!(["Manage", "Promote"])).await?;
        play.until("the copy to run", |status| {
            status["current"]["tag"] == "1.0.0" && status["rollout"].is_null()
        })
        .await?;
        ensure!(play.running("app").await?.starts_with(&to.uri), "the copy runs");
        Ok(())
    })
}
