//! What the apiserver takes of a PullSecret, and of what a Registry says of pulling.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::hall;
use crate::support::{Scene, message, object, run};

async fn rejects(scene: &Scene, spec: Value, sentence: &str) -> Result<()> {
    let refusal = scene
        .refusal(&hall::pull_secret(scene, "refused", spec.clone()))
        .await?;
    ensure!(
        refusal.contains(sentence),
        "{spec} was refused with:\n{refusal}\nwhich does not say: {sentence}"
    );
    Ok(())
}

#[test]
fn a_pull_secret_that_can_never_be_right_is_refused_with_the_field() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-adm").await?;
        rejects(&scene, json!({ "registryRefs": null }), "spec.registryRefs: Required").await?;
        rejects(&scene, json!({ "registryRefs": [] }), "spec.registryRefs").await?;
        let many: Vec<Value> = (0..11).map(|n| json!({ "name": format!("r{n}") })).collect();
        rejects(&scene, json!({ "registryRefs": many }), "spec.registryRefs: Too many").await?;
        let twice = json!({ "registryRefs": [{ "name": "a" }, { "name": "a" }] });
        rejects(&scene, twice, "spec.registryRefs names each Registry once").await?;
        for hostile in ["", "Upper", "a/b", "../x", "-a", "a_b", "a\nb", &"a".repeat(254)] {
            rejects(&scene, json!({ "secretName": hostile }), "spec.secretName").await?;
            rejects(
                &scene,
                json!({ "serviceAccounts": [hostile] }),
                "spec.serviceAccounts[0]",
            )
            .await?;
        }
        rejects(
            &scene,
            json!({ "serviceAccounts": ["a", "a"] }),
            "spec.serviceAccounts[1]: Duplicate",
        )
        .await?;
        let many: Vec<String> = (0..21).map(|n| format!("sa-{n}")).collect();
        rejects(
            &scene,
            json!({ "serviceAccounts": many }),
            "spec.serviceAccounts: Too many",
        )
        .await?;

        hall::settled(&scene, "kept", json!({ "secretName": "ecr" })).await?;
        for spec in [json!({}), json!({ "secretName": "other" })] {
            let refusal = scene.refusal(&hall::pull_secret(&scene, "kept", spec)).await?;
            ensure!(
                refusal.contains("spec.secretName cannot be changed, added or removed"),
                "{refusal}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_pull_role_of_another_account_is_refused() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("pull-adm-role").await?;
        let mut spec = scene.registry_spec();
        for (role, taken) in [
            (format!("arn:aws:iam::{}:role/path/pull", scene.account), true),
            ("arn:aws:iam::999999999999:role/pull".to_owned(), false),
            ("arn:aws:iam::999999999999:user/pull".to_owned(), false),
        ] {
            spec["pull"] = json!({ "roleArn": role });
            let registry = object("Registry", &scene.name, None, spec.clone());
            if taken {
                scene.apply(&registry).await?;
                continue;
            }
            let refusal = scene.refusal(&registry).await?;
            ensure!(refusal.contains("spec.pull.roleArn"), "{refusal}");
        }
        Ok(())
    })
}

#[test]
fn the_longest_names_are_told_to_aws_in_what_it_takes() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, &format!("pull-{}", "n".repeat(58))).await?;
        let name = format!("{}.{}", "x".repeat(120), "y".repeat(120));
        let object = hall::settled(&scene, &name, json!({})).await?;
        ensure!(object["status"]["secretName"] == name.as_str(), "{}", message(&object));
        hall::entry(&scene, &name).await?;
        hall::delete(&scene, &name).await
    })
}
