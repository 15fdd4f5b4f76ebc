//! What a registry has once and many share: replication of several teams, a Secret to pull with, and moving in.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_ecr::types::{ImageTagMutability, ReplicationConfiguration, ReplicationDestination, ReplicationRule};
use bed::{DockerAuth, Policy, eventually};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::stage::{ACCOUNT, FAR, LIMIT, OWNER, REGION, Stage};
use super::story::Story;

/// Where somebody else replicates to.
const ELSEWHERE: &str = "eu-central-1";

/// Below which name another tool has filled the registry, and with how many repositories.
const MOVED: &str = "old";
const MANY: usize = 800;

pub(crate) async fn tell(story: &mut Story, stage: &Stage) {
    story
        .step(
            "Two teams' rules for replication become one document, and a rule of somebody else stays in it",
            "ECR has one document for a registry. Another tool has put a rule; then kubectl apply -f examples/08-replication.",
            composed(stage),
        )
        .await;
    story
        .step(
            "What was there before a rule is sent, too, and followed",
            "team-a has backfill: OnChange. ECR is asked once, and the object shows what ECR says.",
            backfilled(stage),
        )
        .await;
    story
        .step(
            "A team that leaves takes only its own with it",
            "kubectl delete replicationconfig team-b; what team-a and the other tool want stays.",
            left(stage),
        )
        .await;
    story
        .step(
            "The same repository is kept in another Region",
            "kubectl apply -f examples/13-replicas/registry-us.yaml, and a Repository with replicaRegistryRefs. An edit by hand there
             is undone.",
            mirrored(stage),
        )
        .await;
    story
        .step(
            "A Secret pulls what its namespace may have, and nothing else",
            "kubectl apply -f examples/10-pull-secret; an OCI client pulls with what is in the Secret, and is refused elsewhere.",
            pulled(stage),
        )
        .await;
    story
        .step(
            "A registry that another tool filled is moved in, and nothing changes",
            "800 repositories become manifests with ecr-operator export, and the plan for these has no change.",
            moved_in(stage),
        )
        .await;
}

/// What the registry replicates: each Region with the filters of its rule, in order.
async fn replicated(stage: &Stage) -> Result<Vec<(String, Vec<String>)>> {
    let answer = stage.ecr().await?.describe_registry().send().await?;
    let rules = answer.replication_configuration.map(|document| document.rules);
    let mut all: Vec<(String, Vec<String>)> = rules
        .unwrap_or_default()
        .into_iter()
        .map(|rule| {
            let region = rule.destinations.first().map(|place| place.region.clone());
            let mut filters: Vec<String> = rule.repository_filters().iter().map(|one| one.filter.clone()).collect();
            filters.sort();
            (region.unwrap_or_default(), filters)
        })
        .collect();
    all.sort();
    Ok(all)
}

/// Waits until the registry replicates just this, to Regions with filters.
async fn replicates(stage: &Stage, wanted: &[(&str, &[&str])]) -> Result<()> {
    eventually(LIMIT, "the rules in ECR", async || {
        let found = replicated(stage).await?;
        let same = found.len() == wanted.len()
            && found
                .iter()
                .zip(wanted)
                .all(|((region, filters), (wanted, of))| region == wanted && filters == of);
        ensure!(same, "{found:?}");
        Ok(())
    })
    .await?;
    for (region, filters) in replicated(stage).await? {
        let what = if filters.is_empty() {
            "everything".to_owned()
        } else {
            filters.join(", ")
        };
        println!("   to {region}: {what}");
    }
    Ok(())
}

async fn composed(stage: &Stage) -> Result<()> {
    let there = ReplicationDestination::builder()
        .region(ELSEWHERE)
        .registry_id(ACCOUNT)
        .build()?;
    let foreign = ReplicationRule::builder().destinations(there).build()?;
    let document = ReplicationConfiguration::builder().rules(foreign).build()?;
    let ecr = stage.ecr().await?;
    ecr.put_replication_configuration()
        .replication_configuration(document)
        .send()
        .await?;
    stage.example("08-replication").await?;
    replicates(stage, &[(ELSEWHERE, &[]), (FAR, &["team-a/", "team-b/"])]).await
}

async fn backfilled(stage: &Stage) -> Result<()> {
    let told = eventually(LIMIT, "the backfill", async || {
        let get = ["get", "replicationconfigs.ecr-operator.dev", "team-a", "-o", "json"];
        let config: serde_json::Value = serde_json::from_str(&stage.kubectl(&get).await?)?;
        let told = config["status"]["backfills"][0].clone();
        ensure!(told["state"] == "COMPLETE", "{told}");
        Ok(told)
    })
    .await?;
    let (complete, total) = (&told["complete"], &told["total"]);
    println!("   to {FAR}: {}, {complete} of {total} images", told["state"]);
    let far = stage.aws.ecr(FAR, &stage.aws.admin(ACCOUNT).await?);
    let sent = far.list_images().repository_name("team-a/web").send().await?;
    let tags: Vec<&str> = sent.image_ids().iter().filter_map(|id| id.image_tag()).collect();
    ensure!(tags.contains(&"v1"), "{tags:?}");
    let asked = stage.ecr().await?.list_replication_backfills().send().await?;
    ensure!(asked.backfills().len() == 1, "{asked:?}");
    Ok(())
}

async fn left(stage: &Stage) -> Result<()> {
    stage
        .kubectl(&["delete", "replicationconfigs.ecr-operator.dev", "team-b"])
        .await?;
    replicates(stage, &[(ELSEWHERE, &[]), (FAR, &["team-a/"])]).await
}

async fn mirrored(stage: &Stage) -> Result<()> {
    stage.example("13-replicas/registry-us.yaml").await?;
    let replicas = json!([{ "name": "main-us" }]);
    let spec = json!({ "replicaRegistryRefs": replicas, "imageTagMutability": "IMMUTABLE", "tags": { "team": "a" } });
    stage.apply("mirrored", &spec).await?;
    stage.reason("team-a", "mirrored", "Settled").await?;
    let far = stage.aws.ecr(FAR, &stage.aws.admin(ACCOUNT).await?);
    let immutable = async || {
        let found = far.describe_repositories().repository_names("team-a/mirrored").send();
        let found = found.await?.repositories.unwrap_or_default();
        let mutability = found.first().and_then(|live| live.image_tag_mutability.clone());
        let mutability = mutability.context("no repository")?;
        ensure!(mutability == ImageTagMutability::Immutable, "{mutability}");
        Ok(())
    };
    eventually(LIMIT, "the replica", &immutable).await?;
    println!("   team-a/mirrored is IMMUTABLE in {REGION} and in {FAR}");
    far.put_image_tag_mutability()
        .repository_name("team-a/mirrored")
        .image_tag_mutability(ImageTagMutability::Mutable)
        .send()
        .await?;
    eventually(LIMIT, "the edit to be undone", &immutable).await?;
    let told = stage.event("mirrored", "DriftRepaired").await?;
    println!("   DriftRepaired: {told}");
    Ok(())
}

async fn pulled(stage: &Stage) -> Result<()> {
    let trust = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "AWS": format!("arn:aws:iam::{ACCOUNT}:root") },
        "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"],
    }]});
    let rights = Policy::Document(bed::pull_role_rights(ACCOUNT, REGION)?);
    let role = stage.aws.role(ACCOUNT, "ecr-operator-pull", rights, trust).await?;
    let lets_pull = json!({ "spec": {
        "pull": { "roleArn": role.arn },
        "tenants": [{
            "namespaceSelector": { "matchLabels": { "ecr": "yes" } },
            "repositoryPrefixes": ["{namespace}/"],
            "may": ["Manage", "Pull"],
        }],
    }});
    let patch = ["patch", "registries.ecr-operator.dev", "main", "--type", "merge", "-p"];
    stage.kubectl(&[&patch[..], &[&lets_pull.to_string()]].concat()).await?;
    stage.example("10-pull-secret/pull-secret.yaml").await?;
    let template = r#"go-template={{index .data ".dockerconfigjson" | base64decode}}"#;
    let config = eventually(LIMIT, "the Secret", async || {
        stage
            .kubectl(&["get", "secret", "ecr", "-n", "team-a", "-o", template])
            .await
    })
    .await?;
    let mut entries = DockerAuth::read(config.as_bytes())?;
    let entry = entries.pop().context("the Secret has no entry")?;
    let web = entry.pull("team-a/web", "v1").await?;
    println!("   pulled team-a/web:v1, {}", web.digest);

    let ecr = stage.ecr().await?;
    ecr.create_repository().repository_name("secret/plans").send().await?;
    stage
        .aws
        .push_image(ACCOUNT, REGION, "secret/plans", "v1", b"not for team-a")
        .await?;
    ensure!(entry.pull("secret/plans", "v1").await.is_err(), "it was pulled");
    ensure!(entry.push("team-a/web", "v9", b"x").await.is_err(), "it was pushed");
    Ok(())
}

async fn moved_in(stage: &Stage) -> Result<()> {
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": MOVED, "labels": { "ecr": "yes" } } });
    stage.apply_manifest(&namespace).await?;
    let ecr = stage.ecr().await?;
    let fills = (0..MANY).map(|number| {
        let ecr = &ecr;
        async move {
            let name = format!("{MOVED}/r{number}");
            ecr.create_repository().repository_name(&name).send().await?;
            if number % 2 == 0 {
                let keep = json!({ "rules": [{ "rulePriority": 1,
                    "selection": { "tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 100 },
                    "action": { "type": "expire" } }] });
                let put = ecr.put_lifecycle_policy().repository_name(&name);
                put.lifecycle_policy_text(keep.to_string()).send().await?;
            }
            anyhow::Ok(())
        }
    });
    stream::iter(fills).buffer_unordered(16).try_collect::<()>().await?;
    let export = ["export", "--registry", "main", "--namespace", MOVED, "--prefix", MOVED];
    let manifests = quiet(stage, &export).await?;
    println!(
        "   $ ecr-operator {}\n   {} manifests",
        export.join(" "),
        manifests.matches("\n---\n").count()
    );
    let file = stage.bed.directory().join("moved-in.yaml");
    std::fs::write(&file, &manifests)?;
    let planned = quiet(stage, &["plan", "--owner-id", OWNER, "-f", &file.display().to_string()]).await?;
    let end = planned.lines().last().unwrap_or_default();
    println!("   {end}");
    ensure!(
        end == format!("{MANY} objects: 0 to change, {MANY} to take over as they are, 0 with errors"),
        "{end}"
    );
    Ok(())
}

/// Runs the operator's program as a command line that prints much, and gives that.
async fn quiet(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(&stage.program);
    command.args(arguments).envs(stage.environment().await?);
    stage.bed.run(&command, "").await?.checked()
}
