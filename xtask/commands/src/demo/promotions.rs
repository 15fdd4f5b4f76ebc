//! The second act: images that go to a Deployment by themselves, and back.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::types::ImageIdentifier;
use bed::{Behaviour, Workloads, eventually};
use serde_json::{Value, json};

use super::stage::{ACCOUNT, OTHER_ACCOUNT, REGION, Stage};
use super::story::Story;

/// How long a rollout may take with all its pods.
const LIMIT: Duration = Duration::from_mins(1);

/// The repository of the act, and how its images are named.
const REPOSITORY: &str = "team-a/app";
const URI: &str = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/team-a/app";

/// Tells the act. `None`: a step failed that later ones need.
pub(super) async fn tell(story: &mut Story, stage: &Stage) -> Option<()> {
    let begun = story.step(
        "A promotion finds the image that runs, and pins its digest",
        "kubectl apply -f examples/06-promotion. The Deployment was given the tag v1.0.0; the pods are
         reported by a kubelet on paper.",
        begin(stage),
    );
    let act = begun.await?;
    let live = story.step(
        "A pushed v1.1.0 is live by its event",
        "The event of the push comes over SQS; the operator polls the repository only every five minutes.",
        act.live("v1.1.0"),
    );
    live.await?;
    story
        .step(
            "v1.2.0 crashes, and is taken back and rejected",
            "Its containers exit at once. The Deployment runs v1.1.0 again, by digest, and carries a note of
             what was taken back.",
            act.crash("v1.2.0", "v1.1.0"),
        )
        .await?;
    story
        .step(
            "A pushed v1.2.1 is live",
            "It is newer than what was taken back, so the hold ends by itself.",
            act.live("v1.2.1"),
        )
        .await?;
    story
        .step(
            "A critical finding holds v1.3.0 back",
            "The scan gate is added to the promotion, and the scan of v1.3.0 finds CVE-2026-0001.",
            act.blocked(),
        )
        .await?;
    story
        .step(
            "An entry of the ignore list lets it through",
            "With a reason, and an end.",
            act.let_through(),
        )
        .await?;
    story
        .step(
            "A rollback by hand sticks",
            "kubectl ecr rollback app. Another look changes nothing.",
            act.roll_back(),
        )
        .await?;
    story
        .step(
            "An image is copied to a second account",
            "A promotion with copyTo: the same digest, in 444455556666.",
            act.copy(),
        )
        .await?;
    Some(())
}

struct Act<'a> {
    stage: &'a Stage,
    workloads: Workloads,
}

/// Applies the example and waits until what it finds is current.
async fn begin(stage: &Stage) -> Result<Act<'_>> {
    let act = Act {
        stage,
        workloads: stage.cluster.workloads(1).await?,
    };
    let queue = stage.aws.event_queue(ACCOUNT, REGION, Duration::from_secs(30)).await?;
    stage.example("06-promotion/registry.yaml").await?;
    let listen = json!({ "spec": { "events": { "queueUrl": queue.url } } }).to_string();
    stage
        .kubectl(&[
            "patch",
            "registries.ecr-operator.dev",
            "main",
            "--type=merge",
            "-p",
            &listen,
        ])
        .await?;
    stage.example("06-promotion/repository.yaml").await?;
    stage.reason("team-a", "app", "Settled").await?;
    let digest = act.push("v1.0.0").await?;
    // What a node would be told by the registry that it pulls the tag from.
    act.workloads.tagged(&format!("{URI}:v1.0.0"), &digest);
    stage.example("06-promotion/deployment.yaml").await?;
    stage
        .kubectl(&["-n", "team-a", "rollout", "status", "deployment/app", "--timeout=30s"])
        .await?;
    stage.example("06-promotion/promotion.yaml").await?;
    // Nobody wants to wait for half a minute of stability here.
    act.change(&json!({ "rollout": { "stabilization": "1s" } })).await?;
    act.runs(&digest).await?;
    Ok(act)
}

impl Act<'_> {
    async fn push(&self, tag: &str) -> Result<String> {
        let content = format!("the content of {tag}");
        self.stage
            .aws
            .push_image(ACCOUNT, REGION, REPOSITORY, tag, content.as_bytes())
            .await
    }

    /// Merges something into the promotion's spec.
    async fn change(&self, spec: &Value) -> Result<()> {
        let patch = json!({ "spec": spec }).to_string();
        let patch = [
            "-n",
            "team-a",
            "patch",
            "imagepromotions.ecr-operator.dev",
            "app",
            "--type=merge",
            "-p",
            &patch,
        ];
        self.stage.kubectl(&patch).await.map(drop)
    }

    async fn status(&self, name: &str) -> Result<Value> {
        let get = [
            "-n",
            "team-a",
            "get",
            "imagepromotions.ecr-operator.dev",
            name,
            "-o",
            "json",
        ];
        let object: Value = serde_json::from_str(&self.stage.kubectl(&get).await?)?;
        Ok(object["status"].clone())
    }

    async fn image(&self) -> Result<String> {
        let path = "jsonpath={.spec.template.spec.containers[0].image}";
        let get = ["-n", "team-a", "get", "deployment", "app", "-o", path];
        self.stage.kubectl(&get).await
    }

    /// Waits until the Deployment is told to run this digest, all its pods do, and nothing is under way.
    async fn runs(&self, digest: &str) -> Result<()> {
        eventually(LIMIT, &format!("the Deployment to run {digest}"), async || {
            let image = self.image().await?;
            ensure!(image == format!("{URI}@{digest}"), "it runs {image}");
            let status = self.status("app").await?;
            ensure!(status["rollout"].is_null(), "{}", status["rollout"]);
            let path = "jsonpath={.items[*].spec.containers[0].image}";
            let pods = self
                .stage
                .kubectl(&["-n", "team-a", "get", "pods", "-l", "app=app", "-o", path])
                .await?;
            ensure!(
                pods.split_whitespace().all(|pod| pod.ends_with(digest)),
                "pods run {pods}"
            );
            Ok(())
        })
        .await
    }

    async fn live(&self, tag: &str) -> Result<()> {
        let digest = self.push(tag).await?;
        let what = format!("the Deployment to be given {tag}");
        let start = std::time::Instant::now();
        eventually(LIMIT, &what, async || {
            let image = self.image().await?;
            ensure!(image.ends_with(&digest), "it has {image}");
            Ok(())
        })
        .await?;
        println!(
            "   | the Deployment was given it after {:.2} s",
            start.elapsed().as_secs_f64()
        );
        self.runs(&digest).await
    }

    async fn crash(&self, tag: &str, good: &str) -> Result<()> {
        let good = self.digest_of(good).await?;
        // What crashes must be known before it runs.
        let content = format!("the content of {tag}");
        let hidden = self
            .stage
            .aws
            .push_image(ACCOUNT, REGION, REPOSITORY, "not-a-version", content.as_bytes())
            .await?;
        self.workloads.behave(&hidden, Behaviour::Crash);
        let bad = self.push(tag).await?;
        eventually(LIMIT, "the image to be rejected", async || {
            let status = self.status("app").await?;
            ensure!(status["rejected"][0]["digest"] == bad.as_str(), "{}", status["phase"]);
            Ok(())
        })
        .await?;
        self.runs(&good).await?;
        let path = "jsonpath={.metadata.annotations.ecr-operator\\.dev/rejected-digests}";
        let noted = self
            .stage
            .kubectl(&["-n", "team-a", "get", "deployment", "app", "-o", path])
            .await?;
        ensure!(noted == bad, "noted on the Deployment: {noted:?}");
        println!(
            "   | {}",
            self.status("app").await?["history"][1]["reason"]
                .as_str()
                .unwrap_or_default()
        );
        Ok(())
    }

    async fn digest_of(&self, tag: &str) -> Result<String> {
        let image = ImageIdentifier::builder().image_tag(tag).build();
        let answer = self
            .stage
            .ecr()
            .await?
            .describe_images()
            .repository_name(REPOSITORY)
            .image_ids(image)
            .send()
            .await?;
        let details = answer.image_details.unwrap_or_default();
        let digest = details.into_iter().next().and_then(|image| image.image_digest);
        digest.with_context(|| format!("ECR has no image {tag}"))
    }

    async fn blocked(&self) -> Result<()> {
        let before = self.image().await?;
        self.change(&json!({ "gates": { "scan": { "maxCritical": 0 } } }))
            .await?;
        let digest = self.push("v1.3.0").await?;
        let scan = json!({
            "account": ACCOUNT, "region": REGION, "repository": REPOSITORY, "digest": digest, "status": "COMPLETE",
            "findings": [{ "name": "CVE-2026-0001", "severity": "CRITICAL" }],
        });
        self.stage.aws.finish_scan(&scan).await?;
        let message = eventually(LIMIT, "the gate to hold it", async || {
            let status = self.status("app").await?;
            let blocked = &status["blockedBy"][0];
            let message = blocked["message"].as_str().unwrap_or_default();
            ensure!(blocked["gate"] == "Scan" && message.contains("CRITICAL"), "{status:#}");
            Ok(message.to_owned())
        })
        .await?;
        println!("   | {message}");
        ensure!(self.image().await? == before, "the Deployment was given it");
        Ok(())
    }

    async fn let_through(&self) -> Result<()> {
        let digest = self.digest_of("v1.3.0").await?;
        let ignore = json!([{ "id": "CVE-2026-0001", "reason": "the function is not called", "expires": "2099-01-01T00:00:00Z" }]);
        self.change(&json!({ "gates": { "scan": { "maxCritical": 0, "ignore": ignore } } }))
            .await?;
        self.runs(&digest).await
    }

    async fn roll_back(&self) -> Result<()> {
        let good = self.digest_of("v1.2.1").await?;
        let mut command = Command::new(bed_programs::plugin().await?);
        command.args(["rollback", "app", "-n", "team-a", "--reason", "slow"]);
        command.envs(self.stage.environment().await?);
        let output = self.stage.bed.run(&command, "").await?;
        for line in output.stdout.lines() {
            println!("   | {line}");
        }
        ensure!(output.status.success(), "{}{}", output.stdout, output.stderr);
        self.runs(&good).await?;
        self.stage
            .kubectl(&[
                "-n",
                "team-a",
                "annotate",
                "imagepromotions.ecr-operator.dev",
                "app",
                "ecr-operator.dev/reconcile=again",
            ])
            .await?;
        eventually(LIMIT, "the look to be handled", async || {
            let status = self.status("app").await?;
            ensure!(status["lastHandledReconcile"] == "again", "not yet");
            Ok(())
        })
        .await?;
        self.runs(&good).await
    }

    async fn copy(&self) -> Result<()> {
        self.stage.open_other_account().await?;
        let digest = self.digest_of("v1.2.1").await?;
        let promotion = json!({
            "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "ImagePromotion",
            "metadata": { "name": "app-copy", "namespace": "team-a" },
            "spec": {
                "source": { "repositoryRef": { "name": "app" }, "policy": { "tag": { "name": "v1.2.1" } } },
                "copyTo": { "registryRef": { "name": "other" }, "repositoryName": REPOSITORY },
            },
        });
        let manifest = promotion.to_string();
        let applied = self
            .stage
            .cluster
            .kubectl_with_input(&["apply", "-f", "-"], &manifest)
            .await?;
        applied.checked()?;
        let admin = self.stage.aws.admin(OTHER_ACCOUNT).await?;
        let ecr = self.stage.aws.ecr(REGION, &admin);
        eventually(LIMIT, "the image in the other account", async || {
            let image = ImageIdentifier::builder().image_tag("v1.2.1").build();
            let answer = ecr
                .describe_images()
                .repository_name(REPOSITORY)
                .image_ids(image)
                .send()
                .await?;
            let found = answer.image_details.unwrap_or_default();
            let found = found.into_iter().next().and_then(|image| image.image_digest);
            ensure!(found.as_deref() == Some(&*digest), "{found:?}");
            Ok(())
        })
        .await
    }
}
