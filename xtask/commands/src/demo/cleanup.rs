//! Clean-up: a policy that would take too much, what it would take, and what becomes of it once that is accepted.

use anyhow::{Context as _, Result, ensure};
use bed::{ImageAge, eventually};
use serde_json::{Value, json};

use super::stage::{ACCOUNT, REGION, Stage};
use super::story::Story;

const REPOSITORY: &str = "team-a/cleaned";

/// The repository of which an image runs.
const RUNNING: &str = "team-a/running";

pub(crate) async fn tell(story: &mut Story, stage: &Stage) {
    story
        .step(
            "A lifecycle policy is previewed by ECR, and its guard keeps it from being put",
            "Two of four images are older than 30 days, and the guard lets a fifth go at most. Nothing is put.",
            guarded(stage),
        )
        .await;
    story
        .step(
            "Exactly that preview is accepted, and ECR does what it said",
            "kubectl annotate lifecyclepolicy with the token; a day later two images are gone, and no other.",
            accepted(stage),
        )
        .await;
    story
        .step(
            "Before anybody is hurt: which images that run would go",
            "Somebody has put a policy by hand. A Deployment runs an image of two months ago, and the audit tells that it goes.",
            audited(stage),
        )
        .await;
    story
        .step(
            "An image in use survives a policy that would have expired it",
            "A LifecyclePolicy with the same rule takes over: first the image gets its tag, then the policy is put. A day later
             only the image goes that nobody runs, and the audit finds nothing more.",
            survived(stage),
        )
        .await;
}

/// By this rule images of more than 30 days go.
fn older_than_30_days() -> Value {
    json!({
        "selection": { "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 30 },
        "action": { "type": "expire" },
    })
}

/// Pushes images so many days ago; gives their digests.
async fn push(stage: &Stage, repository: &str, images: &[(&str, i64)]) -> Result<Vec<String>> {
    let mut digests = Vec::new();
    for (tag, days) in images {
        let digest = stage
            .aws
            .push_image(ACCOUNT, REGION, repository, tag, tag.as_bytes())
            .await?;
        let age = ImageAge::pushed(*days);
        stage.aws.age_image(ACCOUNT, REGION, repository, &digest, age).await?;
        digests.push(digest);
    }
    Ok(digests)
}

/// The lifecycle policy that stands in ECR.
async fn in_force(stage: &Stage, repository: &str) -> Result<Option<String>> {
    let ecr = stage.ecr().await?;
    match ecr.get_lifecycle_policy().repository_name(repository).send().await {
        Ok(answer) => Ok(answer.lifecycle_policy_text),
        Err(error) => match error.as_service_error() {
            Some(service) if service.is_lifecycle_policy_not_found_exception() => Ok(None),
            _ => Err(error.into()),
        },
    }
}

async fn preview(stage: &Stage) -> Result<Value> {
    let get = [
        "get",
        "repositories.ecr-operator.dev",
        "cleaned",
        "-n",
        "team-a",
        "-o",
        "json",
    ];
    let object: Value = serde_json::from_str(&stage.kubectl(&get).await?)?;
    Ok(object["status"]["lifecyclePolicy"]["preview"].clone())
}

async fn guarded(stage: &Stage) -> Result<()> {
    stage.apply("cleaned", &json!({})).await?;
    stage.reason("team-a", "cleaned", "Settled").await?;
    push(stage, REPOSITORY, &[("v1", 60), ("v2", 45), ("v3", 2), ("v4", 1)]).await?;
    let policy = json!({
        "apiVersion": "ecr-operator.dev/v1alpha1",
        "kind": "LifecyclePolicy",
        "metadata": { "name": "monthly", "namespace": "team-a" },
        "spec": { "repositoryNames": [REPOSITORY], "protectInUse": false, "rules": [older_than_30_days()] },
    });
    stage.apply_manifest(&policy).await?;
    let message = stage.reason("team-a", "cleaned", "Guarded").await?;
    println!("   {message}");
    ensure!(message.contains("expire 2 of 4 images"), "{message}");
    ensure!(in_force(stage, REPOSITORY).await?.is_none(), "the policy was put");
    let get = ["get", "ecrlp", "monthly", "-n", "team-a"];
    eventually(super::stage::LIMIT, "the policy to count it as blocked", async || {
        let blocked = stage
            .kubectl(&[&get[..], &["-o", "jsonpath={.status.blocked}"]].concat())
            .await?;
        ensure!(blocked == "1", "{blocked}");
        Ok(())
    })
    .await?;
    print!("   {}", stage.kubectl(&get).await?.replace('\n', "\n   "));
    println!();
    Ok(())
}

async fn accepted(stage: &Stage) -> Result<()> {
    let seen = preview(stage).await?;
    let token = seen["token"].as_str().context("no preview")?;
    let annotation = format!("ecr-operator.dev/accept-lifecycle-preview={token}");
    stage
        .kubectl(&["annotate", "ecrlp", "monthly", "-n", "team-a", &annotation])
        .await?;
    stage.reason("team-a", "cleaned", "Settled").await?;
    eventually(super::stage::LIMIT, "the policy in ECR", async || {
        let text = in_force(stage, REPOSITORY).await?.context("there is none")?;
        ensure!(text.contains("sinceImagePushed"), "{text}");
        Ok(())
    })
    .await?;
    let done = stage.aws.run_lifecycle(ACCOUNT, REGION, Some(REPOSITORY), 0).await?;
    let gone: Vec<&str> = done.iter().flat_map(|act| &act.tags).map(String::as_str).collect();
    println!("   gone: {}", gone.join(", "));
    ensure!(gone == ["v1", "v2"], "{done:?}");
    Ok(())
}

async fn audited(stage: &Stage) -> Result<()> {
    stage.apply("running", &json!({})).await?;
    stage.reason("team-a", "running", "Settled").await?;
    let digests = push(stage, RUNNING, &[("v1", 60), ("v2", 60), ("v3", 1)]).await?;
    let image = format!("{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{RUNNING}@{}", digests[0]);
    let template = json!({ "metadata": { "labels": { "app": "old" } }, "spec": { "containers": [{ "name": "app", "image": image }] } });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "old", "namespace": "team-a" },
        "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "old" } }, "template": template },
    });
    stage.apply_manifest(&deployment).await?;
    let mut rule = older_than_30_days();
    rule["rulePriority"] = 1.into();
    let put = stage.ecr().await?.put_lifecycle_policy().repository_name(RUNNING);
    put.lifecycle_policy_text(json!({ "rules": [rule] }).to_string())
        .send()
        .await?;
    let (code, told) = stage.command(&["lifecycle", "audit", "--registry", "main"]).await?;
    ensure!(code == Some(2) && told.contains(RUNNING), "{code:?}");
    Ok(())
}

async fn survived(stage: &Stage) -> Result<()> {
    let policy = json!({
        "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "LifecyclePolicy",
        "metadata": { "name": "careful", "namespace": "team-a" },
        "spec": { "repositoryNames": [RUNNING], "guard": { "maxPercent": 50 }, "rules": [older_than_30_days()] },
    });
    stage.apply_manifest(&policy).await?;
    eventually(super::stage::LIMIT * 2, "the policy in ECR", async || {
        let text = in_force(stage, RUNNING).await?.context("there is none")?;
        ensure!(text.contains("in-use."), "{text}");
        Ok(())
    })
    .await?;
    let done = stage.aws.run_lifecycle(ACCOUNT, REGION, Some(RUNNING), 0).await?;
    let gone: Vec<&str> = done.iter().flat_map(|act| &act.tags).map(String::as_str).collect();
    println!("   gone: {}", gone.join(", "));
    ensure!(gone == ["v2"], "{done:?}");
    let (code, _) = stage.command(&["lifecycle", "audit", "--registry", "main"]).await?;
    ensure!(code == Some(0), "{code:?}");
    Ok(())
}
