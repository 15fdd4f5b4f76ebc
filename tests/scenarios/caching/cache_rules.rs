//! Pull-through cache rules, from their creation to their end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::types::PullThroughCacheRule;
use bed::{Fault, Policy, eventually, throughout};
use serde_json::{Value, json};

use super::{delete, event, gone, grant, look_now, role, says, scene, secret, takes_example, without};
use crate::{
    plan::plan,
    support::{LIMIT, REGION, Scene, merge, object, run},
};

const KIND: &str = "pullthroughcacherule";

/// A rule for Quay, which takes everybody.
pub(super) fn rule(scene: &Scene, name: &str, overlay: Value) -> Value {
    let mut spec = json!({
        "registryRef": { "name": scene.name },
        "ecrRepositoryPrefix": "quay",
        "upstreamRegistryUrl": "quay.io",
    });
    merge(&mut spec, overlay);
    object("PullThroughCacheRule", name, None, spec)
}

async fn settled(scene: &Scene, name: &str, overlay: Value) -> Result<Value> {
    scene.apply(&rule(scene, name, overlay)).await?;
    scene.reason(KIND, name, "Settled").await
}

/// The rules that ECR has, by their prefixes.
pub(super) async fn rules(scene: &Scene) -> Result<Vec<PullThroughCacheRule>> {
    let ecr = scene.ecr().await?;
    let all = ecr.describe_pull_through_cache_rules().into_paginator().items().send();
    Ok(all.collect::<Result<Vec<_>, _>>().await?)
}

async fn live(scene: &Scene) -> Result<PullThroughCacheRule> {
    rules(scene).await?.pop().context("no rule")
}

/// Somebody else creates a rule.
async fn create_elsewhere(scene: &Scene, prefix: &str, url: &str) -> Result<()> {
    let ecr = scene.ecr().await?;
    let create = ecr.create_pull_through_cache_rule().ecr_repository_prefix(prefix);
    create.upstream_registry_url(url).send().await?;
    Ok(())
}

async fn delete_elsewhere(scene: &Scene, prefix: &str) -> Result<()> {
    let ecr = scene.ecr().await?;
    let delete = ecr.delete_pull_through_cache_rule().ecr_repository_prefix(prefix);
    delete.send().await?;
    Ok(())
}

#[test]
fn a_rule_is_created_changed_and_kept() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ptc-kept").await?;
        let spec = |name: &str| {
            json!({
                "ecrRepositoryPrefix": "docker-hub",
                "upstreamRegistryUrl": "registry-1.docker.io",
                "upstreamRegistry": "docker-hub",
                "upstreamRepositoryPrefix": "library",
                "credentialArn": secret(&scene, name),
                "customRoleArn": role(&scene, "pull"),
            })
        };
        let told = settled(&scene, "ptc-kept", spec("first")).await?;
        let found = live(&scene).await?;
        ensure!(found.upstream_repository_prefix() == Some("library"), "{found:?}");
        ensure!(
            found.credential_arn() == Some(secret(&scene, "first").as_str()),
            "{found:?}"
        );
        ensure!(
            found.custom_role_arn() == Some(role(&scene, "pull").as_str()),
            "{found:?}"
        );
        ensure!(told["status"]["validation"]["state"] == "Valid", "{}", told["status"]);
        ensure!(told["status"]["upstreamRegistry"] == "docker-hub", "{}", told["status"]);
        ensure!(told["status"]["owned"]["createdAt"].is_string(), "{}", told["status"]);

        settled(&scene, "ptc-kept", spec("second")).await?;
        ensure!(live(&scene).await?.credential_arn() == Some(secret(&scene, "second").as_str()));
        let note = event(&scene, "ptc-kept", "Updated").await?;
        ensure!(
            note.starts_with("credentialArn: ") && note.ends_with("/second"),
            "{note}"
        );

        let ecr = scene.ecr().await?;
        let edit = ecr.update_pull_through_cache_rule().ecr_repository_prefix("docker-hub");
        edit.credential_arn(secret(&scene, "foreign")).send().await?;
        eventually(LIMIT, "the repair", async || {
            let found = live(&scene).await?;
            ensure!(
                found.credential_arn() == Some(secret(&scene, "second").as_str()),
                "{found:?}"
            );
            ensure!(
                found.custom_role_arn() == Some(role(&scene, "pull").as_str()),
                "{found:?}"
            );
            Ok(())
        })
        .await?;
        event(&scene, "ptc-kept", "DriftRepaired").await?;

        delete_elsewhere(&scene, "docker-hub").await?;
        eventually(LIMIT, "the rule to be there again", async || live(&scene).await).await?;
        event(&scene, "ptc-kept", "Recreated").await?;
        let told = scene.reason(KIND, "ptc-kept", "Settled").await?;
        eventually(LIMIT, "the count of repairs", async || {
            let now = scene.get(KIND, "ptc-kept").await?;
            ensure!(now["status"]["drift"]["repaired"] == 2, "{}", now["status"]);
            Ok(())
        })
        .await?;

        // What is left out is left alone, and a role that others set goes with no update of ours.
        let mut without = spec("third");
        merge(&mut without, json!({ "customRoleArn": null }));
        settled(&scene, "ptc-kept", without).await?;
        ensure!(live(&scene).await?.custom_role_arn() == Some(role(&scene, "pull").as_str()));
        ensure!(told["status"]["validation"]["state"] == "Valid", "{}", told["status"]);
        Ok(())
    })
}

/// Promise 5.
#[test]
fn rules_at_rest_share_one_listing_and_write_nothing() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ptc-rest").await?;
        let mut before = Vec::new();
        for number in 0..4 {
            let spec = json!({ "ecrRepositoryPrefix": format!("quay-{number}") });
            let name = format!("ptc-rest-{number}");
            before.push((name.clone(), settled(&scene, &name, spec).await?));
        }
        stage.aws.reset_calls(&scene.account, REGION).await?;
        throughout(Duration::from_secs(4), "rest", async || {
            for (name, before) in &before {
                let now = scene.get(KIND, name).await?;
                ensure!(
                    now["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"],
                    "{}",
                    now["status"]
                );
            }
            Ok(())
        })
        .await?;
        let calls = scene.operators_calls().await?;
        let listings = calls.get("DescribePullThroughCacheRules").copied().unwrap_or_default();
        let registry = calls.get("DescribeRepositories").copied().unwrap_or_default();
        ensure!(
            calls
                .keys()
                .all(|name| ["DescribePullThroughCacheRules", "DescribeRepositories"].contains(&name.as_str())),
            "{calls:?}"
        );
        // One an interval, as the registry's own listing, whatever the number of rules.
        ensure!(listings >= 2 && listings <= 2 * registry + 2, "{calls:?}");
        Ok(())
    })
}

#[test]
fn a_rule_of_nobody_is_left_alone_until_it_is_adopted() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ptc-adopt").await?;
        create_elsewhere(&scene, "quay", "quay.io").await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        let wish = json!({ "credentialArn": secret(&scene, "quay") });
        scene.apply(&rule(&scene, "ptc-adopt", wish.clone())).await?;
        let told = scene.reason(KIND, "ptc-adopt", "Exists").await?;
        says(&told, &["pull-through cache rule quay exists", "spec.adoption"])?;
        ensure!(scene.operators_writes().await? == 0);
        ensure!(told["metadata"]["finalizers"].is_null(), "{}", told["metadata"]);

        // One that could never settle is not adopted.
        let other = json!({ "upstreamRegistryUrl": "public.ecr.aws", "adoption": "Adopt" });
        scene.apply(&rule(&scene, "ptc-adopt", other)).await?;
        let told = scene.reason(KIND, "ptc-adopt", "Immutable").await?;
        says(
            &told,
            &["upstreamRegistryUrl is quay.io, the object asks for public.ecr.aws"],
        )?;
        ensure!(told["status"]["owned"].is_null(), "{}", told["status"]);
        ensure!(scene.operators_writes().await? == 0);

        let mut adopting = wish;
        merge(&mut adopting, json!({ "adoption": "Adopt" }));
        settled(&scene, "ptc-adopt", adopting).await?;
        ensure!(live(&scene).await?.credential_arn() == Some(secret(&scene, "quay").as_str()));
        let note = event(&scene, "ptc-adopt", "Adopted").await?;
        ensure!(note.starts_with("adopt pull-through cache rule quay"), "{note}");
        // From now on the apiserver refuses what ECR would never take.
        let other = json!({ "upstreamRegistryUrl": "public.ecr.aws", "adoption": "Adopt" });
        let refusal = scene.refusal(&rule(&scene, "ptc-adopt", other)).await?;
        ensure!(
            refusal.contains("spec.upstreamRegistryUrl cannot be changed"),
            "{refusal}"
        );
        Ok(())
    })
}

#[test]
fn of_two_objects_for_one_prefix_the_first_has_the_rule() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ptc-two").await?;
        settled(&scene, "ptc-two-z", json!({})).await?;
        let second = json!({ "ecrRepositoryPrefix": "quay/", "credentialArn": secret(&scene, "quay") });
        scene.apply(&rule(&scene, "ptc-two-a", second.clone())).await?;
        let told = scene.reason(KIND, "ptc-two-a", "OwnedByAnother").await?;
        says(&told, &["belongs to PullThroughCacheRule ptc-two-z"])?;
        ensure!(live(&scene).await?.credential_arn().is_none());
        // Its deletion takes nothing with it, whatever it says.
        let mut deleting = second.clone();
        merge(&mut deleting, json!({ "deletionPolicy": "Delete" }));
        scene.apply(&rule(&scene, "ptc-two-a", deleting)).await?;
        delete(&scene, KIND, "ptc-two-a").await?;
        gone(&scene, KIND, "ptc-two-a").await?;
        live(&scene).await?;

        let mut adopting = second;
        merge(
            &mut adopting,
            json!({ "ecrRepositoryPrefix": "quay", "adoption": "Adopt" }),
        );
        scene.apply(&rule(&scene, "ptc-two-b", adopting)).await?;
        scene.reason(KIND, "ptc-two-b", "OwnedByAnother").await?;
        delete(&scene, KIND, "ptc-two-z").await?;
        gone(&scene, KIND, "ptc-two-z").await?;
        scene.reason(KIND, "ptc-two-b", "Settled").await?;
        ensure!(live(&scene).await?.credential_arn() == Some(secret(&scene, "quay").as_str()));
        Ok(())
    })
}

#[test]
fn a_rule_goes_with_its_object_only_where_that_says_so() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ptc-end").await?;
        settled(&scene, "ptc-end-1", json!({})).await?;
        delete(&scene, KIND, "ptc-end-1").await?;
        gone(&scene, KIND, "ptc-end-1").await?;
        live(&scene).await?;

        settled(
            &scene,
            "ptc-end-2",
            json!({ "adoption": "Adopt", "deletionPolicy": "Delete" }),
        )
        .await?;
        // A repository that was made by pulls, with whatever is in it, is none of the rule's.
        let ecr = scene.ecr().await?;
        ecr.create_repository().repository_name("quay/kept").send().await?;
        delete(&scene, KIND, "ptc-end-2").await?;
        gone(&scene, KIND, "ptc-end-2").await?;
        ensure!(rules(&scene).await?.is_empty());
        ensure!(scene.exists("quay/kept").await?);

        // Another rule took the place of the one that was recorded.
        let first = settled(&scene, "ptc-end-3", json!({ "deletionPolicy": "Delete" })).await?;
        let created = first["status"]["owned"]["createdAt"]
            .as_str()
            .context("no time")?
            .to_owned();
        let suspended = json!({ "deletionPolicy": "Delete", "suspend": true });
        scene.apply(&rule(&scene, "ptc-end-3", suspended)).await?;
        // The stand-in tells creation times in seconds.
        eventually(LIMIT, "a rule created in another second", async || {
            delete_elsewhere(&scene, "quay").await?;
            create_elsewhere(&scene, "quay", "quay.io").await?;
            let now = live(&scene).await?.created_at().context("no time")?.secs();
            let then = created.parse::<jiff::Timestamp>()?.as_second();
            ensure!(now != then, "{now}");
            Ok(())
        })
        .await?;
        scene
            .apply(&rule(&scene, "ptc-end-3", json!({ "deletionPolicy": "Delete" })))
            .await?;
        let told = scene.reason(KIND, "ptc-end-3", "Exists").await?;
        says(&told, &["created again by somebody else"])?;
        delete(&scene, KIND, "ptc-end-3").await?;
        gone(&scene, KIND, "ptc-end-3").await?;
        live(&scene).await?;
        event(&scene, "ptc-end-3", "LeftBehind").await?;
        Ok(())
    })
}

#[test]
fn a_rule_that_ecr_cannot_pull_by_is_not_ready_and_says_why() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ptc-invalid").await?;
        let upstream = |failure| stage.aws.set_upstream_failure(&scene.account, REGION, "quay", failure);
        upstream(Some("The upstream answered 401 Unauthorized")).await?;
        scene.apply(&rule(&scene, "ptc-invalid", json!({}))).await?;
        let told = scene.reason(KIND, "ptc-invalid", "Invalid").await?;
        says(
            &told,
            &[
                "ECR cannot pull through the rule quay: The upstream answered 401 Unauthorized",
                "spec.credentialArn",
            ],
        )?;
        ensure!(told["status"]["validation"]["state"] == "Invalid", "{}", told["status"]);
        let asked = scene.operators_calls().await?["ValidatePullThroughCacheRule"];
        throughout(Duration::from_secs(3), "patience", async || {
            let calls = scene.operators_calls().await?;
            ensure!(calls["ValidatePullThroughCacheRule"] == asked, "{calls:?}");
            Ok(())
        })
        .await?;
        upstream(None).await?;
        look_now(&scene, KIND, "ptc-invalid", "1").await?;
        let told = scene.reason(KIND, "ptc-invalid", "Settled").await?;
        ensure!(
            told["status"]["validation"] == json!({ "state": "Valid" }),
            "{}",
            told["status"]
        );

        // That it cannot be asked makes nothing of the rule wrong.
        let denied = Fault::error(
            "ValidatePullThroughCacheRule",
            400,
            "AccessDeniedException",
            "not authorized",
        );
        stage.aws.inject(&denied.registry(&scene.account, REGION)).await?;
        let told = look_now(&scene, KIND, "ptc-invalid", "2").await?;
        ensure!(told["status"]["validation"]["state"] == "Unknown", "{}", told["status"]);
        scene.reason(KIND, "ptc-invalid", "Settled").await?;
        Ok(())
    })
}

#[test]
fn what_is_denied_or_refused_is_told_and_heals() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("ptc-denied").await?;
        without(&scene, "ecr:DescribePullThroughCacheRules").await?;
        scene.registry(json!({})).await?;
        scene.apply(&rule(&scene, "ptc-denied", json!({}))).await?;
        let told = scene.reason(KIND, "ptc-denied", "Denied").await?;
        says(
            &told,
            &[
                "ecr:DescribePullThroughCacheRules",
                "Grant the operator's role the right",
            ],
        )?;
        grant(&scene).await?;
        let refused = Fault::error(
            "CreatePullThroughCacheRule",
            400,
            "SecretNotFoundException",
            "The ARN of the secret specified in the pull through cache rule was not found",
        );
        let id = stage.aws.inject(&refused.registry(&scene.account, REGION)).await?;
        let told = look_now(&scene, KIND, "ptc-denied", "1").await?;
        let told = match message_of(&told) {
            true => told,
            false => scene.reason(KIND, "ptc-denied", "Invalid").await?,
        };
        says(&told, &["SecretNotFoundException", "was not found"])?;
        ensure!(
            told["status"]["owned"].is_null(),
            "a refusal is certain: {}",
            told["status"]
        );
        stage.aws.remove_fault(&id).await?;
        // What somebody else makes now is not taken for what was refused.
        create_elsewhere(&scene, "quay", "quay.io").await?;
        look_now(&scene, KIND, "ptc-denied", "2").await?;
        scene.reason(KIND, "ptc-denied", "Exists").await?;
        Ok(())
    })
}

fn message_of(object: &Value) -> bool {
    crate::support::message(object).contains("SecretNotFoundException")
}

#[test]
fn where_the_registry_is_only_observed_drift_is_listed_and_nothing_written() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("ptc-observe").await?;
        grant(&scene).await?;
        // Before there is a Registry, and while it is not ready.
        scene
            .apply(&rule(
                &scene,
                "ptc-observe",
                json!({ "credentialArn": secret(&scene, "a") }),
            ))
            .await?;
        let told = scene.reason(KIND, "ptc-observe", "RegistryNotReady").await?;
        says(&told, &["Registry ptc-observe does not exist"])?;
        scene.role(Policy::None).await?;
        scene.apply_registry(json!({ "mode": "Observe" })).await?;
        scene.reason("registry", "ptc-observe", "Denied").await?;
        let told = scene.reason(KIND, "ptc-observe", "RegistryNotReady").await?;
        says(&told, &["Registry ptc-observe is not ready"])?;
        grant(&scene).await?;
        scene
            .apply_registry(json!({ "mode": "Observe", "creationDefaults": { "scanOnPush": true } }))
            .await?;

        let told = scene.reason(KIND, "ptc-observe", "Observed").await?;
        says(&told, &["Differs: create pull-through cache rule quay"])?;
        create_elsewhere(&scene, "quay", "quay.io").await?;
        eventually(LIMIT, "the drift to be listed", async || {
            let told = scene.get(KIND, "ptc-observe").await?;
            says(&told, &["Differs: credentialArn: absent -> arn:aws:secretsmanager"])
        })
        .await?;
        ensure!(scene.operators_writes().await? == 0);
        ensure!(scene.get(KIND, "ptc-observe").await?["metadata"]["finalizers"].is_null());
        Ok(())
    })
}

#[test]
fn a_registry_waits_for_its_rules() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ptc-referred").await?;
        settled(&scene, "ptc-referred", json!({})).await?;
        let delete_registry = ["delete", "registry.ecr-operator.dev", &scene.name, "--wait=false"];
        scene.cluster.kubectl(&delete_registry).await?.checked()?;
        eventually(LIMIT, "the Registry to say what holds it", async || {
            let registry = scene.get("registry", &scene.name).await?;
            says(
                &registry,
                &["PullThroughCacheRule ptc-referred still refers to this Registry"],
            )
        })
        .await?;
        delete(&scene, KIND, "ptc-referred").await?;
        gone(&scene, KIND, "ptc-referred").await?;
        gone(&scene, "registry", &scene.name).await
    })
}

/// Promise 4.
#[test]
fn a_plan_tells_what_would_become_of_a_rule() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "ptc-plan").await?;
        // The administrator's own keys: no role is assumed.
        let mut spec = scene.registry_spec();
        spec.as_object_mut().context("a map")?.remove("assumeRole");
        let registry = object("Registry", "ptc-plan", None, spec);
        let wish = rule(&scene, "ptc-plan", json!({}));
        let (code, text) = plan(&scene, &[registry.clone(), wish.clone()], &[]).await?;
        ensure!(code == 2, "{code}: {text}");
        ensure!(
            text.contains("PullThroughCacheRule ptc-plan\n  + create pull-through cache rule quay: upstream quay.io"),
            "{text}"
        );
        ensure!(rules(&scene).await?.is_empty(), "nothing was done");
        let twin = rule(&scene, "ptc-plan-twin", json!({}));
        let (code, text) = plan(&scene, &[registry.clone(), wish.clone(), twin], &[]).await?;
        ensure!(code == 1 && text.contains("OwnedByAnother"), "{code}: {text}");
        settled(&scene, "ptc-plan", json!({})).await?;
        let (code, text) = plan(&scene, &[registry.clone(), wish], &[]).await?;
        ensure!(code == 0, "{code}: {text}");
        let other = rule(&scene, "ptc-plan", json!({ "credentialArn": secret(&scene, "a") }));
        let (code, text) = plan(&scene, &[registry, other], &[]).await?;
        ensure!(
            code == 2 && text.contains("+ credentialArn: absent -> arn:aws"),
            "{code}: {text}"
        );
        Ok(())
    })
}

#[test]
fn bad_rules_are_refused_with_the_sentence_that_names_the_field() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("ptc-bad").await?;
        let hub = json!({ "upstreamRegistryUrl": "registry-1.docker.io" });
        for (overlay, sentence) in [
            (json!({ "ecrRepositoryPrefix": "a" }), "spec.ecrRepositoryPrefix"),
            (json!({ "ecrRepositoryPrefix": "Docker" }), "spec.ecrRepositoryPrefix"),
            (
                json!({ "ecrRepositoryPrefix": "root" .to_uppercase() + "s" }),
                "spec.ecrRepositoryPrefix",
            ),
            (
                json!({ "ecrRepositoryPrefix": "a".repeat(31) }),
                "spec.ecrRepositoryPrefix",
            ),
            (
                json!({ "ecrRepositoryPrefix": "ecr-operator" }),
                "belong to the operator",
            ),
            (
                json!({ "ecrRepositoryPrefix": "ecr-operator/x" }),
                "belong to the operator",
            ),
            (json!({ "upstreamRegistryUrl": "https://quay.io" }), "without a scheme"),
            (json!({ "upstreamRegistryUrl": "quay.io/team" }), "without a path"),
            (
                json!({ "upstreamRegistryUrl": null }),
                "spec.upstreamRegistryUrl: Required",
            ),
            (json!({ "upstreamRegistry": "dockerhub" }), "spec.upstreamRegistry"),
            (
                json!({ "upstreamRepositoryPrefix": "Library" }),
                "spec.upstreamRepositoryPrefix",
            ),
            (
                json!({ "credentialArn": format!("arn:aws:secretsmanager:{REGION}:{}:secret:other/quay-secret", scene.account) }),
                "spec.credentialArn",
            ),
            (
                json!({ "customRoleArn": "arn:aws:iam::111122223333:user/me" }),
                "spec.customRoleArn",
            ),
            (json!({ "deletionPolicy": "DeleteWithImages" }), "spec.deletionPolicy"),
            (json!({ "adoption": "Always" }), "spec.adoption"),
            (hub, "spec.credentialArn is required with this upstreamRegistryUrl"),
            (
                json!({ "upstreamRegistryUrl": "team.azurecr.io" }),
                "spec.credentialArn is required",
            ),
            (json!({ "tags": {} }), "unknown field \"spec.tags\""),
        ] {
            let refusal = scene.refusal(&rule(&scene, "ptc-bad", overlay.clone())).await?;
            ensure!(
                refusal.contains(sentence),
                "{overlay} was refused with:\n{refusal}\nwhich does not say: {sentence}"
            );
        }
        for overlay in [
            json!({}),
            json!({ "ecrRepositoryPrefix": "ROOT", "upstreamRepositoryPrefix": "ROOT" }),
        ] {
            let name = format!("ptc-good-{}", overlay.as_object().map_or(0, serde_json::Map::len));
            scene.apply(&rule(&scene, &name, overlay)).await?;
        }
        for (overlay, sentence) in [
            (
                json!({ "registryRef": { "name": "other" } }),
                "spec.registryRef cannot be changed",
            ),
            (
                json!({ "ecrRepositoryPrefix": "other" }),
                "spec.ecrRepositoryPrefix cannot be changed",
            ),
        ] {
            let refusal = scene.refusal(&rule(&scene, "ptc-good-0", overlay)).await?;
            ensure!(refusal.contains(sentence), "{refusal}");
        }
        // Nothing exists yet, so that what was written wrongly can be corrected.
        scene
            .apply(&rule(
                &scene,
                "ptc-good-0",
                json!({ "upstreamRegistryUrl": "public.ecr.aws" }),
            ))
            .await?;
        takes_example(&scene, "11-pull-through-cache").await
    })
}
