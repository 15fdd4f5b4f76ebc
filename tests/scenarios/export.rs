//! Moving in: what is in a registry becomes manifests, and taking it over changes nothing of it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::{
    Client,
    types::{
        ImageScanningConfiguration, ImageTagMutability, ImageTagMutabilityExclusionFilter,
        ImageTagMutabilityExclusionFilterType, RctAppliedFor, ReplicationConfiguration, ReplicationDestination,
        ReplicationRule, Tag,
    },
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};

use crate::{
    lifecycle_cli::with_rights,
    plan::plan,
    support::{OWNER, REGION, Scene, object, run},
};

/// How many calls are made at once where many repositories are needed.
const AT_ONCE: usize = 16;

/// The rights of somebody who may read.
fn reads(account: &str) -> Result<Value> {
    bed::rights(account, REGION, OWNER, &["read"])
}

fn cleanup(count: u32) -> String {
    json!({ "rules": [{
        "rulePriority": 10,
        "description": "keep some",
        "selection": { "tagStatus": "tagged", "tagPatternList": ["v*"], "countType": "imageCountMoreThan", "countNumber": count },
        "action": { "type": "expire" } }] })
    .to_string()
}

/// A repository as other tools leave them, with settings that depend on its number.
async fn fill(ecr: &Client, account: &str, name: &str, number: usize) -> Result<()> {
    let mut request = ecr.create_repository().repository_name(name);
    request = match number % 4 {
        0 => request.image_tag_mutability(ImageTagMutability::Immutable),
        1 => request
            .image_tag_mutability(ImageTagMutability::ImmutableWithExclusion)
            .image_tag_mutability_exclusion_filters(
                ImageTagMutabilityExclusionFilter::builder()
                    .filter_type(ImageTagMutabilityExclusionFilterType::Wildcard)
                    .filter("dev-*")
                    .build()?,
            ),
        _ => request,
    };
    if number.is_multiple_of(3) {
        let scanning = ImageScanningConfiguration::builder().scan_on_push(true).build();
        request = request.image_scanning_configuration(scanning);
    }
    if number.is_multiple_of(2) {
        request = request.tags(Tag::builder().key("team").value(format!("t{}", number % 7)).build()?);
    }
    request.send().await?;
    if number.is_multiple_of(2) {
        let policy = json!({ "Version": "2008-10-17", "Statement": [{
            "Sid": "pull", "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{account}:root") },
            "Action": ["ecr:GetDownloadUrlForLayer", "ecr:BatchGetImage"] }] });
        ecr.set_repository_policy()
            .repository_name(name)
            .policy_text(policy.to_string())
            .send()
            .await?;
    }
    if !number.is_multiple_of(5) {
        let count = if number.is_multiple_of(3) { 10 } else { 20 };
        ecr.put_lifecycle_policy()
            .repository_name(name)
            .lifecycle_policy_text(cleanup(count))
            .send()
            .await?;
    }
    Ok(())
}

async fn filled(scene: &Scene, repositories: usize) -> Result<()> {
    let ecr = scene.ecr().await?;
    let fills = (0..repositories).map(|number| {
        let (ecr, name) = (
            &ecr,
            format!(
                "{}/{}",
                scene.name,
                if number == 1 {
                    "deep/er_1".into()
                } else {
                    format!("r{number}")
                }
            ),
        );
        async move { fill(ecr, &scene.account, &name, number).await.context(name) }
    });
    stream::iter(fills).buffer_unordered(AT_ONCE).try_collect().await
}

/// What a registry has once: a pull-through cache rule, a creation template, and a rule for replication.
async fn filled_once(scene: &Scene) -> Result<()> {
    let ecr = scene.ecr().await?;
    ecr.create_pull_through_cache_rule()
        .ecr_repository_prefix(&scene.name)
        .upstream_registry_url("quay.io")
        .send()
        .await?;
    ecr.create_repository_creation_template()
        .prefix(&scene.name)
        .applied_for(RctAppliedFor::PullThroughCache)
        .image_tag_mutability(ImageTagMutability::Immutable)
        .lifecycle_policy(cleanup(7))
        .send()
        .await?;
    let there = ReplicationDestination::builder()
        .region("us-east-1")
        .registry_id(&scene.account)
        .build()?;
    let rule = ReplicationRule::builder().destinations(there).build()?;
    let document = ReplicationConfiguration::builder().rules(rule).build()?;
    let put = ecr.put_replication_configuration().replication_configuration(document);
    put.send().await?;
    Ok(())
}

/// Exports the registry with rights to read only.
async fn export(scene: &Scene) -> Result<(Vec<Value>, String)> {
    let output = with_rights(
        scene,
        reads(&scene.account)?,
        &["export", "--registry", &scene.name, "--namespace", &scene.name],
    )
    .await?;
    ensure!(output.status.success(), "{}", output.stderr);
    let documents = serde_yaml_ng::Deserializer::from_str(&output.stdout);
    let manifests = documents
        .map(|document| serde::Deserialize::deserialize(document).map_err(anyhow::Error::from))
        .collect::<Result<Vec<Value>>>()?;
    Ok((
        manifests.into_iter().filter(|manifest| !manifest.is_null()).collect(),
        output.stderr,
    ))
}

/// A Registry that needs no role, as the one who plans has rights of their own.
fn without_role(scene: &Scene) -> Result<Value> {
    let mut spec = scene.registry_spec();
    spec.as_object_mut().context("a map")?.remove("assumeRole");
    Ok(object("Registry", &scene.name, None, spec))
}

/// Everything that ECR says of the repositories, but for our tag.
async fn described(scene: &Scene) -> Result<BTreeMap<String, Vec<String>>> {
    let ecr = scene.ecr().await?;
    let mut all = BTreeMap::new();
    let listed = ecr.describe_repositories().max_results(1_000).send().await?;
    for repository in listed.repositories() {
        let name = repository.repository_name().unwrap_or_default();
        if name.starts_with("ecr-operator/") {
            continue;
        }
        let policy = ecr.get_repository_policy().repository_name(name).send().await;
        let cleanup = ecr.get_lifecycle_policy().repository_name(name).send().await;
        let tags = ecr
            .list_tags_for_resource()
            .resource_arn(repository.repository_arn().unwrap_or_default())
            .send()
            .await?;
        let tags: BTreeMap<&str, &str> = tags
            .tags()
            .iter()
            .filter(|tag| tag.key() != "ecr-operator.dev/owner")
            .map(|tag| (tag.key(), tag.value()))
            .collect();
        all.insert(
            name.to_owned(),
            vec![
                format!("{repository:?}"),
                format!("{:?}", policy.ok().and_then(|policy| policy.policy_text)),
                format!("{:?}", cleanup.ok().and_then(|cleanup| cleanup.lifecycle_policy_text)),
                format!("{tags:?}"),
            ],
        );
    }
    Ok(all)
}

#[test]
fn what_is_exported_takes_over_what_is_there_and_changes_nothing_of_it() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("export").await?;
        scene
            .rights(&[bed::MANAGES, &["caching", "replicate"]].concat())
            .await?;
        scene.registry(json!({})).await?;
        filled(&scene, 12).await?;
        filled_once(&scene).await?;
        let before = described(&scene).await?;
        ensure!(before.len() == 12, "{before:?}");
        let (manifests, notes) = export(&scene).await?;
        ensure!(notes.is_empty(), "{notes}");
        let repositories: Vec<&Value> = manifests
            .iter()
            .filter(|manifest| manifest["kind"] == "Repository")
            .collect();
        ensure!(repositories.len() == 12, "{manifests:?}");
        ensure!(
            repositories
                .iter()
                .all(|repository| repository["spec"]["deletionPolicy"] == "Retain"),
            "{manifests:?}"
        );
        ensure!(
            manifests
                .iter()
                .filter(|manifest| manifest["kind"] == "LifecyclePolicy")
                .count()
                == 2,
            "those that do the same are one: {manifests:?}"
        );

        let mut planned = manifests.clone();
        planned.push(without_role(&scene)?);
        let (code, text) = plan(&scene, &planned, &[]).await?;
        ensure!(
            code == 0 && text.contains(" 0 to change, 14 to take over"),
            "{code}: {text}"
        );

        stage.aws.reset_calls(&scene.account, REGION).await?;
        for manifest in &manifests {
            scene.apply(manifest).await?;
        }
        for repository in &repositories {
            let name = repository["metadata"]["name"].as_str().context("no name")?;
            scene.reason("repository", name, "Settled").await?;
        }
        for policy in manifests
            .iter()
            .filter(|manifest| manifest["kind"] == "LifecyclePolicy")
        {
            let name = policy["metadata"]["name"].as_str().context("no name")?;
            scene.reason("lifecyclepolicy", name, "Settled").await?;
        }
        for kind in [
            "pullthroughcacherule",
            "repositorycreationtemplate",
            "replicationconfig",
        ] {
            scene.reason(kind, "export", "Settled").await?;
        }
        ensure!(described(&scene).await? == before);
        let calls = scene.operators_calls().await?;
        ensure!(calls.get("TagResource") == Some(&12), "{calls:?}");
        ensure!(scene.operators_writes().await? == 12, "nothing but the tags: {calls:?}");

        let (again, notes) = export(&scene).await?;
        ensure!(
            again.iter().all(|manifest| manifest["kind"] != "Repository"),
            "{again:?}"
        );
        ensure!(notes.contains("12 repositories are managed already"), "{notes}");
        Ok(())
    })
}

#[test]
fn the_documents_of_a_registry_are_exported_with_it_and_nothing_of_them_changes() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("export-docs").await?;
        scene.rights(&[bed::MANAGES, &["registry"]].concat()).await?;
        scene.registry(json!({})).await?;
        let (manifests, _) = export(&scene).await?;
        ensure!(manifests.is_empty(), "a new registry has nothing to say: {manifests:?}");
        let ecr = scene.ecr().await?;
        let policy = json!({ "Version": "2012-10-17", "Statement": [{
            "Sid": "Theirs", "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::{}:root", scene.account) },
            "Action": "ecr:ReplicateImage",
            "Resource": format!("arn:aws:ecr:{REGION}:{}:repository/*", scene.account) }] });
        ecr.put_registry_policy().policy_text(policy.to_string()).send().await?;
        let excluded = format!("arn:aws:iam::{}:role/scanner", scene.account);
        ecr.register_pull_time_update_exclusion()
            .principal_arn(&excluded)
            .send()
            .await?;
        let (manifests, notes) = export(&scene).await?;
        ensure!(manifests.len() == 1 && notes.is_empty(), "{manifests:?} {notes}");
        let registry = &manifests[0];
        let spec = &registry["spec"];
        ensure!(
            registry["kind"] == "Registry" && registry["metadata"]["name"] == "export-docs",
            "{registry}"
        );
        ensure!(spec["policy"]["document"]["Statement"][0]["Sid"] == "Theirs", "{spec}");
        ensure!(spec["pullTimeUpdateExclusions"] == json!([excluded]), "{spec}");
        ensure!(spec["scanning"]["scanType"] == "BASIC", "{spec}");
        let role = format!("arn:aws:iam::{}:role/ecr-operator", scene.account);
        ensure!(
            spec["assumeRole"]["roleArn"] == role,
            "not that of whoever exports: {spec}"
        );
        let mut planned = registry.clone();
        planned["spec"].as_object_mut().context("a map")?.remove("assumeRole");
        let (code, text) = plan(&scene, &[planned], &[]).await?;
        ensure!(code == 0, "{code}: {text}");
        scene.apply(registry).await?;
        let object = scene.reason("registry", &scene.name, "Settled").await?;
        let parts = object["status"]["documents"]["parts"].as_array().context("no parts")?;
        ensure!(
            parts.len() >= 3 && parts.iter().all(|part| part["state"] == "Settled"),
            "{parts:?}"
        );
        ensure!(
            scene.operators_writes().await? == 0,
            "{:?}",
            scene.operators_calls().await?
        );
        let (again, _) = export(&scene).await?;
        ensure!(again.is_empty(), "all of it is named by now: {again:?}");
        Ok(())
    })
}

#[test]
fn a_registry_of_800_repositories_is_exported_and_the_plan_shows_no_change() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("export-800").await?;
        scene.registry(json!({})).await?;
        filled(&scene, 800).await?;
        let (mut manifests, _) = export(&scene).await?;
        manifests.push(without_role(&scene)?);
        let (code, text) = plan(&scene, &manifests, &[]).await?;
        let end = text.lines().last().unwrap_or_default();
        ensure!(
            code == 0 && end == "801 objects: 0 to change, 800 to take over as they are, 0 with errors",
            "{code}: {}",
            crate::support::tail(&text)
        );
        Ok(())
    })
}

#[test]
fn what_would_be_refused_is_told_and_a_registry_that_cannot_be_read_is_an_error() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("export-refused").await?;
        scene.registry(json!({})).await?;
        fill(&scene.ecr().await?, &scene.account, "elsewhere/web", 2).await?;
        let (manifests, notes) = export(&scene).await?;
        ensure!(manifests.len() == 2, "{manifests:?}");
        ensure!(
            notes.contains("NotAllowed") && notes.contains("elsewhere/web"),
            "{notes}"
        );

        let arguments = ["export", "--registry", &scene.name];
        let mut rights = reads(&scene.account)?;
        rights["Statement"][0]["Action"] = json!(["ecr:DescribeRepositories", "ecr:ListTagsForResource"]);
        let output = with_rights(&scene, rights, &arguments).await?;
        ensure!(
            !output.status.success() && output.stdout.is_empty(),
            "half of a registry is not taken for the whole: {}",
            output.stdout
        );
        ensure!(
            output.stderr.contains("repository elsewhere/web could not be read"),
            "{}",
            output.stderr
        );
        let output = with_rights(&scene, reads(&scene.account)?, &["export", "--registry", "nowhere"]).await?;
        ensure!(
            output.stderr.contains("Registry nowhere does not exist"),
            "{}",
            output.stderr
        );
        Ok(())
    })
}
