//! Repository creation templates, from their creation to their end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::types::{ImageTagMutability, RctAppliedFor, RepositoryCreationTemplate};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextMut, dyn_dispatch_hint},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{body::SdkBody, config_bag::ConfigBag};
use bed::{eventually, throughout};
use serde_json::{Value, json};

use super::{delete, event, gone, grant, look_now, role, says, scene, takes_example, without};
use crate::{
    plan::plan,
    support::{LIMIT, REGION, Scene, merge, object, run},
};

const KIND: &str = "repositorycreationtemplate";

/// A template for what replication makes.
pub(super) fn template(scene: &Scene, name: &str, overlay: Value) -> Value {
    let mut spec = json!({
        "registryRef": { "name": scene.name },
        "prefix": "team",
        "appliedFor": ["REPLICATION"],
    });
    merge(&mut spec, overlay);
    object("RepositoryCreationTemplate", name, None, spec)
}

/// Everything that a template can say.
pub(super) fn full(scene: &Scene) -> Value {
    json!({
        "appliedFor": ["PULL_THROUGH_CACHE", "CREATE_ON_PUSH"],
        "description": "of the team",
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": [{ "filter": "dev-*" }],
        "encryption": { "encryptionType": "KMS", "kmsKey": format!("arn:aws:kms:{REGION}:{}:key/1234abcd", scene.account) },
        "resourceTags": { "team": "a" },
        "repositoryPolicy": policy(scene),
        "lifecyclePolicy": { "rules": [expiring(14)] },
        "customRoleArn": role(scene, "templates"),
    })
}

fn policy(scene: &Scene) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Sid": "Pull", "Effect": "Allow", "Principal": { "AWS": [scene.account] }, "Action": ["ecr:BatchGetImage"] },
    ]})
}

fn expiring(days: u32) -> Value {
    json!({
        "description": "untagged images go",
        "selection": { "tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days },
        "action": { "type": "expire" },
    })
}

async fn settled(scene: &Scene, name: &str, overlay: Value) -> Result<Value> {
    scene.apply(&template(scene, name, overlay)).await?;
    scene.reason(KIND, name, "Settled").await
}

/// The templates that ECR has, by their prefixes.
pub(super) async fn templates(scene: &Scene) -> Result<Vec<RepositoryCreationTemplate>> {
    let ecr = scene.ecr().await?;
    let all = ecr
        .describe_repository_creation_templates()
        .into_paginator()
        .items()
        .send();
    Ok(all.collect::<Result<Vec<_>, _>>().await?)
}

async fn live(scene: &Scene) -> Result<RepositoryCreationTemplate> {
    templates(scene).await?.pop().context("no template")
}

/// Checks that ECR has all of [`full`].
pub(super) fn is_full(scene: &Scene, live: &RepositoryCreationTemplate) -> Result<()> {
    let mut occasions: Vec<&str> = live.applied_for().iter().map(RctAppliedFor::as_str).collect();
    occasions.sort_unstable();
    ensure!(occasions == ["CREATE_ON_PUSH", "PULL_THROUGH_CACHE"], "{live:?}");
    ensure!(live.description() == Some("of the team"), "{live:?}");
    ensure!(
        live.image_tag_mutability() == Some(&ImageTagMutability::ImmutableWithExclusion),
        "{live:?}"
    );
    let filters = live.image_tag_mutability_exclusion_filters();
    ensure!(filters.len() == 1 && filters[0].filter() == "dev-*", "{live:?}");
    let encryption = live.encryption_configuration().context("no encryption")?;
    ensure!(encryption.encryption_type().as_str() == "KMS", "{live:?}");
    ensure!(
        encryption.kms_key().is_some_and(|key| key.ends_with("key/1234abcd")),
        "{live:?}"
    );
    let tags = live.resource_tags();
    ensure!(
        tags.len() == 1 && tags[0].key() == "team" && tags[0].value() == "a",
        "{live:?}"
    );
    let text: Value = serde_json::from_str(live.repository_policy().unwrap_or_default())?;
    ensure!(text["Statement"][0]["Sid"] == "Pull", "{live:?}");
    let text: Value = serde_json::from_str(live.lifecycle_policy().unwrap_or_default())?;
    ensure!(text["rules"][0]["selection"]["countNumber"] == 14, "{live:?}");
    ensure!(
        live.custom_role_arn() == Some(role(scene, "templates").as_str()),
        "{live:?}"
    );
    Ok(())
}

async fn create_elsewhere(scene: &Scene, description: &str) -> Result<()> {
    let ecr = scene.ecr().await?;
    let create = ecr.create_repository_creation_template().prefix("team");
    let create = create.applied_for(RctAppliedFor::Replication).description(description);
    create.send().await?;
    Ok(())
}

async fn delete_elsewhere(scene: &Scene) -> Result<()> {
    let ecr = scene.ecr().await?;
    ecr.delete_repository_creation_template().prefix("team").send().await?;
    Ok(())
}

#[test]
fn a_template_is_created_whole_changed_and_kept() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "rct-kept").await?;
        settled(&scene, "rct-kept", full(&scene)).await?;
        is_full(&scene, &live(&scene).await?)?;

        // Only one thing is changed, and the stand-in forgets what an update leaves out.
        let mut changed = full(&scene);
        merge(&mut changed, json!({ "lifecyclePolicy": { "rules": [expiring(30)] } }));
        settled(&scene, "rct-kept", changed).await?;
        let note = event(&scene, "rct-kept", "Updated").await?;
        ensure!(note.starts_with("lifecyclePolicy: {"), "{note}");
        settled(&scene, "rct-kept", full(&scene)).await?;
        is_full(&scene, &live(&scene).await?)?;

        // An edit behind our back, which leaves all else out.
        let ecr = scene.ecr().await?;
        let edit = ecr.update_repository_creation_template().prefix("team");
        edit.description("mine").send().await?;
        eventually(LIMIT, "the repair", async || is_full(&scene, &live(&scene).await?)).await?;
        let note = event(&scene, "rct-kept", "DriftRepaired").await?;
        ensure!(note.contains("description: \"mine\" -> \"of the team\""), "{note}");

        delete_elsewhere(&scene).await?;
        eventually(LIMIT, "the template to be there again", async || {
            is_full(&scene, &live(&scene).await?)
        })
        .await?;
        event(&scene, "rct-kept", "Recreated").await?;

        // What a repository is made from.
        let told = scene.reason(KIND, "rct-kept", "Settled").await?;
        ensure!(told["status"]["owned"]["createdAt"].is_string(), "{}", told["status"]);
        Ok(())
    })
}

#[test]
fn what_a_template_leaves_out_stays_and_what_is_empty_goes() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "rct-left").await?;
        settled(&scene, "rct-left", full(&scene)).await?;
        let bare = json!({ "appliedFor": ["PULL_THROUGH_CACHE", "CREATE_ON_PUSH"], "description": "of the team" });
        settled(&scene, "rct-left", bare.clone()).await?;
        is_full(&scene, &live(&scene).await?)?;
        let mut other = bare;
        merge(&mut other, json!({ "description": "of both" }));
        settled(&scene, "rct-left", other).await?;
        let found = live(&scene).await?;
        ensure!(
            found.description() == Some("of both") && found.resource_tags().len() == 1,
            "{found:?}"
        );
        ensure!(
            found.lifecycle_policy().is_some_and(|text| text.contains("14")),
            "{found:?}"
        );
        let none = json!({ "description": "", "resourceTags": {}, "repositoryPolicy": {}, "lifecyclePolicy": {} });
        settled(&scene, "rct-left", none).await?;
        let found = live(&scene).await?;
        ensure!(found.resource_tags().is_empty(), "{found:?}");
        for text in [found.description(), found.repository_policy(), found.lifecycle_policy()] {
            ensure!(text.unwrap_or_default().is_empty(), "{found:?}");
        }
        ensure!(found.custom_role_arn().is_some(), "{found:?}");
        Ok(())
    })
}

/// Promise 5.
#[test]
fn templates_at_rest_share_one_listing_and_write_nothing() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "rct-rest").await?;
        let mut before = Vec::new();
        for number in 0..4 {
            let mut spec = full(&scene);
            merge(&mut spec, json!({ "prefix": format!("team-{number}") }));
            let name = format!("rct-rest-{number}");
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
        let of = |name: &str| calls.get(name).copied().unwrap_or_default();
        let (listings, registry) = (of("DescribeRepositoryCreationTemplates"), of("DescribeRepositories"));
        ensure!(listings + registry == calls.values().sum::<usize>(), "{calls:?}");
        ensure!(listings >= 2 && listings <= 2 * registry + 2, "{calls:?}");
        Ok(())
    })
}

#[test]
fn a_template_of_nobody_is_left_alone_until_it_is_adopted() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "rct-adopt").await?;
        create_elsewhere(&scene, "theirs").await?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        scene
            .apply(&template(&scene, "rct-adopt", json!({ "description": "ours" })))
            .await?;
        let told = scene.reason(KIND, "rct-adopt", "Exists").await?;
        says(&told, &["repository creation template team exists", "spec.adoption"])?;
        ensure!(scene.operators_writes().await? == 0);
        settled(&scene, "rct-adopt", json!({ "adoption": "Adopt" })).await?;
        ensure!(
            live(&scene).await?.description() == Some("theirs"),
            "adoption changes nothing else"
        );
        event(&scene, "rct-adopt", "Adopted").await?;

        scene
            .apply(&template(
                &scene,
                "rct-adopt-2",
                json!({ "adoption": "Adopt", "description": "mine" }),
            ))
            .await?;
        let told = scene.reason(KIND, "rct-adopt-2", "OwnedByAnother").await?;
        says(&told, &["belongs to RepositoryCreationTemplate rct-adopt"])?;
        ensure!(live(&scene).await?.description() == Some("theirs"));
        Ok(())
    })
}

#[test]
fn a_template_goes_with_its_object_only_where_that_says_so() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "rct-end").await?;
        settled(&scene, "rct-end-1", json!({})).await?;
        delete(&scene, KIND, "rct-end-1").await?;
        gone(&scene, KIND, "rct-end-1").await?;
        live(&scene).await?;
        settled(
            &scene,
            "rct-end-2",
            json!({ "adoption": "Adopt", "deletionPolicy": "Delete" }),
        )
        .await?;
        let ecr = scene.ecr().await?;
        ecr.create_repository().repository_name("team/kept").send().await?;
        delete(&scene, KIND, "rct-end-2").await?;
        gone(&scene, KIND, "rct-end-2").await?;
        ensure!(templates(&scene).await?.is_empty());
        ensure!(scene.exists("team/kept").await?);
        Ok(())
    })
}

/// Puts a field into a request that no version of the SDK knows.
#[derive(Debug)]
struct Newer(&'static str);

#[dyn_dispatch_hint]
impl Intercept for Newer {
    fn name(&self) -> &'static str {
        "a newer field"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        let mut json: Value = serde_json::from_slice(request.body().bytes().ok_or("no body")?)?;
        json[self.0] = json!({ "enabled": true });
        let body = serde_json::to_vec(&json)?;
        request.headers_mut().insert("content-length", body.len().to_string());
        *request.body_mut() = SdkBody::from(body);
        Ok(())
    }
}

/// Promise 3.
#[test]
fn what_a_newer_ecr_knows_of_a_template_is_never_lost() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "rct-newer").await?;
        settled(&scene, "rct-newer", json!({ "description": "ours" })).await?;
        let ecr = scene.ecr().await?;
        let edit = ecr
            .update_repository_creation_template()
            .prefix("team")
            .description("theirs");
        edit.customize().interceptor(Newer("artifactSigning")).send().await?;
        let told = scene.reason(KIND, "rct-newer", "Conflict").await?;
        says(
            &told,
            &[
                "does not know and would lose with an update (artifactSigning)",
                "description: \"theirs\" -> \"ours\"",
            ],
        )?;
        stage.aws.reset_calls(&scene.account, REGION).await?;
        look_now(&scene, KIND, "rct-newer", "1").await?;
        ensure!(scene.operators_writes().await? == 0);
        ensure!(live(&scene).await?.description() == Some("theirs"));
        // Where nothing is to be written, it does not matter.
        settled(&scene, "rct-newer", json!({ "description": "theirs" })).await?;
        scene
            .apply(&template(&scene, "rct-newer", json!({ "description": "ours" })))
            .await?;
        scene.reason(KIND, "rct-newer", "Conflict").await?;
        // Once it is gone, the work goes on by itself.
        let edit = ecr
            .update_repository_creation_template()
            .prefix("team")
            .description("theirs");
        edit.send().await?;
        scene.reason(KIND, "rct-newer", "Settled").await?;
        ensure!(live(&scene).await?.description() == Some("ours"));
        Ok(())
    })
}

#[test]
fn where_the_registry_is_only_observed_differences_of_templates_are_listed() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rct-observe").await?;
        without(&scene, "ecr:DescribeRepositoryCreationTemplates").await?;
        scene
            .apply(&template(&scene, "rct-observe", json!({ "description": "ours" })))
            .await?;
        scene.reason(KIND, "rct-observe", "RegistryNotReady").await?;
        scene.apply_registry(json!({ "mode": "Observe" })).await?;
        let told = scene.reason(KIND, "rct-observe", "Denied").await?;
        says(&told, &["ecr:DescribeRepositoryCreationTemplates"])?;
        grant(&scene).await?;
        look_now(&scene, KIND, "rct-observe", "1").await?;
        let told = scene.reason(KIND, "rct-observe", "Observed").await?;
        says(
            &told,
            &["Differs: create repository creation template team: applied for REPLICATION"],
        )?;
        create_elsewhere(&scene, "theirs").await?;
        eventually(LIMIT, "the difference to be listed", async || {
            let told = scene.get(KIND, "rct-observe").await?;
            says(&told, &["Differs: description: \"theirs\" -> \"ours\""])
        })
        .await?;
        ensure!(scene.operators_writes().await? == 0);
        Ok(())
    })
}

/// Promise 4.
#[test]
fn a_plan_tells_what_would_become_of_a_template() -> Result<()> {
    run(async |stage| {
        let scene = scene(stage, "rct-plan").await?;
        let mut spec = scene.registry_spec();
        spec.as_object_mut().context("a map")?.remove("assumeRole");
        let registry = object("Registry", "rct-plan", None, spec);
        let wish = template(&scene, "rct-plan", full(&scene));
        let (code, text) = plan(&scene, &[registry.clone(), wish.clone()], &[]).await?;
        ensure!(code == 2, "{code}: {text}");
        ensure!(
            text.contains("+ create repository creation template team: applied for CREATE_ON_PUSH, PULL_THROUGH_CACHE"),
            "{text}"
        );
        ensure!(templates(&scene).await?.is_empty(), "nothing was done");
        settled(&scene, "rct-plan", full(&scene)).await?;
        let (code, text) = plan(&scene, &[registry.clone(), wish], &[]).await?;
        ensure!(code == 0, "{code}: {text}");
        // Encryption can be changed here, unlike that of a repository.
        let mut other = full(&scene);
        merge(&mut other, json!({ "encryption": { "encryptionType": "AES256" } }));
        let (code, text) = plan(&scene, &[registry, template(&scene, "rct-plan", other)], &[]).await?;
        ensure!(
            code == 2 && text.contains("+ encryption: KMS arn:aws:kms"),
            "{code}: {text}"
        );
        Ok(())
    })
}

#[test]
fn bad_templates_are_refused_with_the_sentence_that_names_the_field() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rct-bad").await?;
        let key = format!("arn:aws:kms:{REGION}:{}:key/1234abcd", scene.account);
        let any = json!({ "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 9 }, "action": { "type": "expire" } });
        let statement = |overlay: Value| {
            let mut statement =
                json!({ "Effect": "Allow", "Principal": { "AWS": [scene.account] }, "Action": "ecr:BatchGetImage" });
            merge(&mut statement, overlay);
            json!({ "repositoryPolicy": { "Version": "2012-10-17", "Statement": [statement] } })
        };
        for (overlay, sentence) in [
            (json!({ "prefix": "" }), "spec.prefix"),
            (json!({ "prefix": "Team" }), "spec.prefix"),
            (json!({ "prefix": "team//a" }), "spec.prefix"),
            (json!({ "prefix": "a".repeat(257) }), "spec.prefix"),
            (json!({ "prefix": "ecr-operator" }), "belong to the operator"),
            (json!({ "appliedFor": [] }), "spec.appliedFor"),
            (json!({ "appliedFor": null }), "spec.appliedFor: Required"),
            (json!({ "appliedFor": ["PUSH"] }), "spec.appliedFor"),
            (
                json!({ "appliedFor": ["REPLICATION", "REPLICATION"] }),
                "spec.appliedFor",
            ),
            (json!({ "description": "d".repeat(257) }), "spec.description"),
            (
                json!({ "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION" }),
                "imageTagMutabilityExclusionFilters go with",
            ),
            (
                json!({ "imageTagMutabilityExclusionFilters": [{ "filter": "a*" }] }),
                "imageTagMutabilityExclusionFilters go with",
            ),
            (
                json!({ "encryption": { "encryptionType": "KMS" } }),
                "spec.customRoleArn is required",
            ),
            (
                json!({ "encryption": { "encryptionType": "AES256", "kmsKey": key } }),
                "encryption.kmsKey goes with",
            ),
            (
                json!({ "encryption": { "encryptionType": "KMS", "kmsKey": "alias/ecr" }, "customRoleArn": role(&scene, "a") }),
                "spec.encryption.kmsKey",
            ),
            (
                json!({ "resourceTags": { "a": "b" } }),
                "spec.customRoleArn is required",
            ),
            (
                json!({ "resourceTags": { "aws:a": "b" }, "customRoleArn": role(&scene, "a") }),
                "belong to AWS",
            ),
            (
                json!({ "lifecyclePolicy": { "rules": [any, expiring(1)] } }),
                "must be the last of its storage class",
            ),
            (
                json!({ "lifecyclePolicy": { "rules": [expiring(1), expiring(2)] } }),
                "only one rule of a storage class may have tagStatus untagged",
            ),
            (
                json!({ "lifecyclePolicy": { "rules": [{ "selection": {}, "action": { "type": "expire" } }] } }),
                "spec.lifecyclePolicy.rules[0].selection",
            ),
            (
                statement(json!({ "Effect": "Maybe" })),
                "spec.repositoryPolicy.Statement: Effect is Allow or Deny",
            ),
            (
                statement(json!({ "Principal": "*" })),
                "spec.repositoryPolicy.Statement: Principal is a map",
            ),
            (statement(json!({ "Resource": "*" })), "takes no Resource"),
            (
                json!({ "repositoryPolicy": { "Version": "2012-10-17" } }),
                "write repositoryPolicy: {}",
            ),
            (json!({ "customRoleArn": "role" }), "spec.customRoleArn"),
            (json!({ "deletionPolicy": "DeleteIfEmpty" }), "spec.deletionPolicy"),
            (json!({ "tags": {} }), "unknown field \"spec.tags\""),
        ] {
            let refusal = scene.refusal(&template(&scene, "rct-bad", overlay.clone())).await?;
            ensure!(
                refusal.contains(sentence),
                "{overlay} was refused with:\n{refusal}\nwhich does not say: {sentence}"
            );
        }
        takes_example(&scene, "09-creation-templates").await
    })
}

#[test]
fn the_prefix_of_a_template_and_its_registry_cannot_be_changed() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("rct-fixed").await?;
        scene.apply(&template(&scene, "rct-good", json!({}))).await?;
        for (overlay, sentence) in [
            (
                json!({ "registryRef": { "name": "other" } }),
                "spec.registryRef cannot be changed",
            ),
            (json!({ "prefix": "other" }), "spec.prefix cannot be changed"),
        ] {
            let refusal = scene.refusal(&template(&scene, "rct-good", overlay)).await?;
            ensure!(refusal.contains(sentence), "{refusal}");
        }
        scene
            .apply(&template(&scene, "rct-root", json!({ "prefix": "ROOT" })))
            .await?;
        Ok(())
    })
}
