//! Promise 8, least privilege: what the rights of a feature allow, and what is said where they are missing.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::{OWNER, REGION, Scene, binary, message, object, run};

/// What `ecr-operator iam-policy` prints.
async fn printed(scene: &Scene, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new(binary());
    command.args([
        "iam-policy",
        "--owner-id",
        OWNER,
        "--region",
        REGION,
        "--account",
        &scene.account,
    ]);
    command.args(arguments);
    let output = scene.cluster.bed().run(&command, "").await?;
    ensure!(output.status.success(), "{}", output.stderr);
    serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
}

#[test]
fn the_command_prints_what_the_scenarios_run_with() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-printed").await?;
        for features in [&["read"][..], &["events"], &["pull-role"], bed::MANAGES] {
            let list = features.join(",");
            ensure!(
                printed(&scene, &["--features", &list]).await? == bed::rights(&scene.account, REGION, OWNER, features)?,
                "{list}"
            );
        }
        let narrow = printed(&scene, &["--features", "delete", "--prefix", "team-a"]).await?;
        let expected = format!("arn:aws:ecr:{REGION}:{}:repository/team-a/*", scene.account);
        ensure!(narrow["Statement"][0]["Resource"] == json!([expected]), "{narrow}");
        Ok(())
    })
}

#[test]
fn with_a_feature_off_its_calls_are_denied_and_the_objects_say_what_is_missing() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rights-off").await?;
        scene.rights(&["read", "repository"]).await?;
        scene.registry(json!({})).await?;
        scene.settled("web", json!({ "tags": { "team": "a" } })).await?;

        let rules = json!([{ "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 100 },
            "action": { "type": "expire" } }]);
        let policy = object(
            "LifecyclePolicy",
            "all",
            Some(&scene.name),
            json!({ "repositorySelector": {}, "protectInUse": false, "rules": rules }),
        );
        scene.apply(&policy).await?;
        let web = scene.reason("repository", "web", "Denied").await?;
        ensure!(
            message(&web).contains("ecr:StartLifecyclePolicyPreview"),
            "{}",
            message(&web)
        );
        scene.rights(&["read", "repository", "lifecycle"]).await?;
        scene.look_now("web").await?;
        scene.reason("repository", "web", "Settled").await?;

        let arguments = ["delete", "lifecyclepolicy.ecr-operator.dev", "all", "-n", &scene.name];
        scene.cluster.kubectl(&arguments).await?.checked()?;
        scene
            .settled(
                "web",
                json!({ "tags": { "team": "a" }, "deletionPolicy": "DeleteIfEmpty" }),
            )
            .await?;
        scene.expect_deletion(&format!("{}/web", scene.name));
        let arguments = [
            "delete",
            "repository.ecr-operator.dev",
            "web",
            "-n",
            &scene.name,
            "--wait=false",
        ];
        scene.cluster.kubectl(&arguments).await?.checked()?;
        let web = scene.reason("repository", "web", "Denied").await?;
        ensure!(message(&web).contains("ecr:DeleteRepository"), "{}", message(&web));
        ensure!(scene.exists(&format!("{}/web", scene.name)).await?);
        Ok(())
    })
}
