//! Promise 4, no surprise: what would be done is printed by the code that does it, and nothing is done.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::support::{OWNER, REGION, Scene, binary, run};

/// Runs `ecr-operator plan` over manifests, and gives its exit code and what it printed.
pub(crate) async fn plan(scene: &Scene, manifests: &[Value], arguments: &[&str]) -> Result<(i32, String)> {
    let bed = scene.cluster.bed();
    let file = bed.directory().join(format!("plan-{}.yaml", scene.name));
    let text: Vec<String> = manifests.iter().map(ToString::to_string).collect();
    std::fs::write(&file, text.join("\n---\n"))?;
    let admin = scene.stage.aws.admin(&scene.account).await?;
    let mut command = Command::new(binary());
    command
        .args(["plan", "--owner-id", OWNER, "-f"])
        .arg(&file)
        .args(arguments);
    command
        .env("KUBECONFIG", scene.cluster.kubeconfig())
        .env("AWS_ENDPOINT_URL", scene.stage.aws.endpoint());
    command.env("AWS_REGION", REGION).envs(admin.environment());
    let output = bed.run(&command, "").await?;
    Ok((
        output.status.code().context("no exit code")?,
        format!("{}{}", output.stdout, output.stderr),
    ))
}

#[test]
fn a_plan_tells_the_steps_and_takes_none() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("plan").await?;
        // The administrator's own keys: no role is assumed.
        let mut registry = scene.registry_spec();
        registry.as_object_mut().context("a map")?.remove("assumeRole");
        let registry = crate::support::object("Registry", "plan", None, registry);
        let web = scene.repository("web", json!({ "imageTagMutability": "IMMUTABLE" }));
        let (code, text) = plan(&scene, &[registry.clone(), web.clone()], &[]).await?;
        ensure!(code == 2, "{code}: {text}");
        ensure!(text.contains("claim the registry for bed"), "{text}");
        ensure!(
            text.contains("create repository plan/web, imageTagMutability IMMUTABLE"),
            "{text}"
        );
        ensure!(
            !scene.exists("plan/web").await? && !scene.exists("ecr-operator/registry").await?,
            "nothing was done"
        );

        scene.registry(json!({})).await?;
        scene
            .settled("web", json!({ "imageTagMutability": "IMMUTABLE" }))
            .await?;
        let (code, text) = plan(&scene, &[web], &[]).await.context("settled")?;
        ensure!(code == 1 || code == 0, "{text}");
        Ok(())
    })
}

#[test]
fn a_plan_of_what_is_settled_is_empty_and_of_a_change_is_its_step() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("replan").await?;
        scene.registry(json!({ "tenants": [{ "namespaceSelector": {}, "repositoryPrefixes": ["{namespace}/"], "may": ["Manage"] }] })).await?;
        scene.settled("web", json!({ "tags": { "team": "a" } })).await?;
        // The administrator may assume no role, so the plan is made with a Registry that needs none; the file wins.
        let mut registry = scene.registry_spec();
        registry.as_object_mut().context("a map")?.remove("assumeRole");
        let registry = crate::support::object("Registry", "replan", None, registry);
        let same = scene.repository("web", json!({ "tags": { "team": "a" } }));
        let (code, text) = plan(&scene, &[registry.clone(), same], &[]).await?;
        ensure!(code == 0, "{code}: {text}");
        let other = scene.repository("web", json!({ "tags": { "team": "b" } }));
        let (code, text) = plan(&scene, &[registry.clone(), other], &["-o", "json"]).await?;
        let printed: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        ensure!(code == 2 && printed["changes"] == 1, "{text}");
        ensure!(
            printed["objects"][1]["steps"][0] == "tags team: \"a\" -> \"b\"",
            "{text}"
        );

        let outside = scene.repository("out", json!({ "name": "other/web" }));
        let (code, text) = plan(&scene, &[registry.clone(), outside], &[]).await?;
        ensure!(code == 1 && text.contains("NotAllowed"), "{code}: {text}");
        let renamed = scene.repository("web", json!({ "name": "replan/other" }));
        let (code, text) = plan(&scene, &[registry, renamed], &[]).await?;
        ensure!(
            code == 1 && text.contains("spec.name cannot be changed"),
            "{code}: {text}"
        );
        Ok(())
    })
}

#[test]
fn nonsense_is_refused_at_the_start_with_a_sentence() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("nonsense").await?;
        let attempt = async |arguments: &[&str]| {
            let mut command = Command::new(binary());
            command.args(arguments);
            let output = scene.cluster.bed().run(&command, "").await?;
            anyhow::Ok((output.status.code(), output.stderr))
        };
        for (arguments, sentence) in [
            (&["run"][..], "--owner-id"),
            (&["run", "--owner-id", "a/b"][..], "is not an owner id"),
            (
                &["run", "--owner-id", "a", "--check-interval", "5"][..],
                "write a number and a unit",
            ),
            (&["run", "--owner-id", "a", "--concurrency", "0"][..], "--concurrency"),
            (&["plan", "--owner-id", "a"][..], "--filename"),
            (&["frobnicate"][..], "unrecognized subcommand"),
        ] {
            let (code, text) = attempt(arguments).await?;
            ensure!(
                code == Some(1) && text.contains(sentence),
                "{arguments:?}: {code:?} {text}"
            );
        }
        for arguments in [
            &["version"][..],
            &["crd"][..],
            &["completion", "bash"][..],
            &["--help"][..],
        ] {
            ensure!(attempt(arguments).await?.0 == Some(0), "{arguments:?}");
        }
        Ok(())
    })
}
