//! What the command line tells of lifecycle policies, with nothing written.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bed::{ImageAge, Policy};
use serde_json::{Value, json};

use crate::{
    plan::plan,
    support::{REGION, Scene, binary, object, run},
};

/// The rights of somebody who may look, and have ECR work out previews.
fn looks(account: &str) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Action": ["ecr:DescribeImages", "ecr:ListImages", "ecr:BatchGetImage", "ecr:GetLifecyclePolicy",
            "ecr:StartLifecyclePolicyPreview", "ecr:GetLifecyclePolicyPreview"],
        "Resource": format!("arn:aws:ecr:{REGION}:{account}:repository/*") }]})
}

/// Runs `ecr-operator lifecycle …` with rights to look only, and gives its exit code and what it printed.
async fn lifecycle(scene: &Scene, arguments: &[&str]) -> Result<(i32, String)> {
    let output = with_rights(scene, looks(&scene.account), &[&["lifecycle"], arguments].concat()).await?;
    Ok((
        output.status.code().context("no exit code")?,
        format!("{}{}", output.stdout, output.stderr),
    ))
}

/// Runs a command of `ecr-operator` as somebody who has exactly these rights in AWS.
pub(crate) async fn with_rights(scene: &Scene, rights: Value, arguments: &[&str]) -> Result<bed::Output> {
    let bed = scene.cluster.bed();
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": { "AWS": scene.account }, "Action": "sts:AssumeRole" }]});
    let aws = &scene.stage.aws;
    aws.role(&scene.account, "reader", Policy::Document(rights), trust)
        .await?;
    let admin = aws.admin(&scene.account).await?;
    let role = format!("arn:aws:iam::{}:role/reader", scene.account);
    let mut command = Command::new(binary());
    command.args(arguments).args(["--role-arn", &role]);
    command
        .env("KUBECONFIG", scene.cluster.kubeconfig())
        .env("AWS_ENDPOINT_URL", aws.endpoint());
    command.env("AWS_REGION", REGION).envs(admin.environment());
    bed.run(&command, "").await
}

/// A policy by which images of more than so many days go, and its file.
fn older_than(scene: &Scene, days: u32, overlay: Value) -> Result<(Value, String)> {
    let mut spec = json!({ "repositorySelector": {}, "rules": [{
        "selection": { "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days },
        "action": { "type": "expire" } }] });
    crate::support::merge(&mut spec, overlay);
    let policy = object("LifecyclePolicy", "old", Some(&scene.name), spec);
    let file = scene
        .cluster
        .bed()
        .directory()
        .join(format!("policy-{}.yaml", scene.name));
    std::fs::write(&file, policy.to_string())?;
    Ok((policy, file.display().to_string()))
}

async fn push(scene: &Scene, tag: &str, days: i64) -> Result<String> {
    let (aws, repository) = (&scene.stage.aws, format!("{}/web", scene.name));
    let digest = aws
        .push_image(&scene.account, REGION, &repository, tag, tag.as_bytes())
        .await?;
    let age = ImageAge::pushed(days);
    aws.age_image(&scene.account, REGION, &repository, &digest, age).await?;
    Ok(digest)
}

/// Something that would run an image.
async fn runs(scene: &Scene, image: &str) -> Result<()> {
    let template = json!({ "metadata": { "labels": { "app": "x" } }, "spec": { "containers": [{ "name": "x", "image": image }] } });
    scene
        .apply(&json!({ "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": { "name": "x", "namespace": scene.name },
            "spec": { "replicas": 0, "selector": { "matchLabels": { "app": "x" } }, "template": template } }))
        .await
        .map(drop)
}

#[test]
fn a_preview_shows_image_by_image_what_a_policy_would_do_and_does_nothing() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lc-preview").await?;
        scene.registry(json!({})).await?;
        let uri = scene.settled("web", json!({})).await?["status"]["uri"]
            .as_str()
            .context("no uri")?
            .to_owned();
        scene.settled("empty", json!({})).await?;
        let (used, old) = (push(&scene, "v1", 50).await?, push(&scene, "v2", 40).await?);
        push(&scene, "v3", 1).await?;
        runs(&scene, &format!("{uri}@{used}")).await?;
        let (_, file) = older_than(&scene, 30, json!({}))?;
        let (code, text) = lifecycle(&scene, &["preview", "-f", &file]).await?;
        ensure!(code == 2, "33 % are over the limit of 20: {code}: {text}");
        ensure!(text.contains("holds it back: maxPercent is 20"), "{text}");
        ensure!(text.contains("in use: gets its tag first, and stays"), "{text}");

        let (code, text) = lifecycle(
            &scene,
            &["preview", "-f", &file, "--repository", "lc-preview/web", "-o", "json"],
        )
        .await?;
        let printed: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let preview = &printed["previews"][0];
        ensure!(
            code == 2 && printed["previews"].as_array().is_some_and(|all| all.len() == 1),
            "{text}"
        );
        ensure!(preview["images"] == 3 && preview["imagesToExpire"] == 1, "{text}");
        ensure!(
            preview["actsOn"][0]["digest"] == *old && preview["kept"][0]["digest"] == *used,
            "{text}"
        );

        let (_, file) = older_than(
            &scene,
            30,
            json!({ "protectInUse": false, "guard": { "maxPercent": 100 } }),
        )?;
        let (code, text) = lifecycle(&scene, &["preview", "-f", &file]).await?;
        ensure!(
            code == 2 && text.contains("in use, and not protected"),
            "{code}: {text}"
        );
        let (_, file) = older_than(&scene, 90, json!({}))?;
        let (code, text) = lifecycle(&scene, &["preview", "-f", &file]).await?;
        ensure!(code == 0 && text.contains("lets it pass"), "{code}: {text}");
        let (code, text) = lifecycle(&scene, &["preview", "-f", &file, "--repository", "nowhere"]).await?;
        ensure!(
            code == 1 && text.contains("mean no repository nowhere"),
            "{code}: {text}"
        );
        ensure!(stage.aws.departures(&scene.account, REGION).await?.is_empty());
        let policy = scene
            .ecr()
            .await?
            .get_lifecycle_policy()
            .repository_name("lc-preview/web")
            .send()
            .await;
        ensure!(policy.is_err(), "nothing was put");
        Ok(())
    })
}

#[test]
fn an_audit_tells_when_what_runs_would_go_and_a_plan_what_would_be_put() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("lc-audit").await?;
        scene.registry(json!({})).await?;
        let uri = scene.settled("web", json!({})).await?["status"]["uri"]
            .as_str()
            .context("no uri")?
            .to_owned();
        let used = push(&scene, "v1", 20).await?;
        push(&scene, "v2", 90).await?;
        runs(&scene, &format!("{uri}:v1")).await?;
        let audit = ["audit", "--registry", "lc-audit"];
        let (code, text) = lifecycle(&scene, &audit).await?;
        ensure!(
            code == 0 && text.contains("1 of them without a lifecycle policy"),
            "{code}: {text}"
        );

        let rules = json!({ "rules": [{ "rulePriority": 1, "action": { "type": "expire" }, "selection": {
            "tagStatus": "any", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 30 } }] });
        let put = scene
            .ecr()
            .await?
            .put_lifecycle_policy()
            .repository_name("lc-audit/web");
        put.lifecycle_policy_text(rules.to_string()).send().await?;
        let (code, text) = lifecycle(&scene, &audit).await?;
        ensure!(code == 2 && text.contains("in 10 days"), "{code}: {text}");
        let (_, text) = lifecycle(&scene, &["audit", "--registry", "lc-audit", "-o", "json"]).await?;
        let printed: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(printed["goes"].as_array().is_some_and(|goes| goes.len() == 1), "{text}");
        ensure!(
            printed["goes"][0]["digest"] == *used && printed["goes"][0]["inDays"] == 10,
            "{text}"
        );
        let (code, text) = lifecycle(&scene, &["audit", "--registry", "lc-audit", "--within-days", "5"]).await?;
        ensure!(
            code == 0 && text.contains("none is expired or archived within 5 days"),
            "{code}: {text}"
        );
        let (code, text) = lifecycle(&scene, &["audit", "--registry", "nowhere"]).await?;
        ensure!(
            code == 1 && text.contains("Registry nowhere does not exist"),
            "{code}: {text}"
        );

        // The administrator may assume no role, so the plan is made with a Registry that needs none; the file wins.
        let mut registry = scene.registry_spec();
        registry.as_object_mut().context("a map")?.remove("assumeRole");
        let registry = object("Registry", "lc-audit", None, registry);
        let (policy, _) = older_than(&scene, 60, json!({}))?;
        let (code, text) = plan(&scene, &[registry, policy], &[]).await?;
        ensure!(code == 2 && text.contains("LifecyclePolicy old"), "{code}: {text}");
        Ok(())
    })
}
