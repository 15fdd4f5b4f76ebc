//! The steps of the demo. Each looks at ECR or at the apiserver itself, not at what the operator says of them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use aws_sdk_ecr::types::{ImageIdentifier, ImageTagMutability, Repository, Tag};
use serde_json::json;

use super::stage::{ACCOUNT, OWNER, REGION, Stage, repository};
use super::story::Story;
use super::{cleanup, promotions, shared};

/// Tells the story, and puts what it plays on into `stage`. `None`: a step failed that later ones need.
#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
pub(crate) async fn tell(story: &mut Story, stage: &mut Option<Stage>, program: PathBuf) -> Option<()> {
    let started = story.step(
        "The bed is started",
        "etcd, kube-apiserver and kube-controller-manager as in any cluster, and an AWS stand-in that
         speaks the protocols of ECR, STS and IAM. All of them are processes on this machine.",
        Stage::start(program),
    );
    let stage = stage.insert(started.await?);
    let installed = story.step(
        "The operator is installed and ready",
        "helm installs the chart; the operator runs as a process, with the chart's ServiceAccount and
         roles, and with the rights in AWS that the guide on IAM lists.",
        stage.install(),
    );
    installed.await?;
    let stage = &*stage;

    let claimed = story.step(
        "A Registry is applied, and this cluster claims it",
        "kubectl apply -f examples/01-first-repository. The claim is a repository in ECR, which only one
         cluster can create.",
        claim(stage),
    );
    claimed.await?;
    let created = story.step(
        "The Repository of the example exists in ECR",
        "team-a/web: immutable tags, scanned on push, with its tags and a mark of whose it is.",
        created(stage),
    );
    created.await?;

    story
        .step(
            "Somebody edits it behind our back, and it is repaired",
            "PutImageTagMutability MUTABLE by hand; the next listing shows it.",
            repaired(stage),
        )
        .await;
    story
        .step(
            "Bad manifests are refused by the apiserver",
            "An uppercase name, filters without their mutability, '*' as principal, a renamed repository.",
            refused(stage),
        )
        .await;
    story
        .step(
            "A namespace that is no tenant gets nothing",
            "The namespace team-b has no label ecr=yes; nothing of it reaches ECR.",
            not_a_tenant(stage),
        )
        .await;
    story
        .step(
            "An image is pushed and pulled by an OCI client",
            "With a token of GetAuthorizationToken, to the address in the object's status.",
            push_and_pull(stage),
        )
        .await;
    story
        .step(
            "What was pushed cannot be overwritten",
            "Tags of team-a/web are immutable: ECR refuses another image of the tag v1.",
            immutable(stage),
        )
        .await;
    story
        .step(
            "A change is planned before it is made",
            "ecr-operator plan prints the steps by the code that would take them; its exit code is 2.",
            planned(stage),
        )
        .await;
    story
        .step(
            "Access is granted, and statements of others stay",
            "policy.access becomes statements of the repository's policy beside one that is not ours.",
            access(stage),
        )
        .await;
    story
        .step(
            "A second object for the same repository is told so",
            "It names the first one, and writes nothing.",
            twice(stage),
        )
        .await;
    story
        .step(
            "A repository that was there before is adopted, on request only",
            "First it is left alone (Exists), then kubectl apply -f examples/03-adoption.",
            adopted(stage),
        )
        .await;
    story
        .step(
            "Deletion is refused while the repository holds an image",
            "deletionPolicy: DeleteIfEmpty; the object waits and says what would help.",
            not_empty(stage),
        )
        .await;
    story
        .step(
            "Without the image it goes",
            "The image is deleted by hand; the repository goes with its object.",
            emptied(stage),
        )
        .await;
    story
        .step(
            "By default, a deleted object leaves its repository",
            "team-a/web stays in ECR with its image; only the mark is taken off.",
            retained(stage),
        )
        .await;
    story
        .step(
            "A restart changes nothing",
            "The operator is stopped and started; it calls nothing in AWS that writes.",
            restarted(stage),
        )
        .await;
    cleanup::tell(story, stage).await;
    shared::tell(story, stage).await;
    promotions::tell(story, stage).await
}

async fn claim(stage: &Stage) -> Result<()> {
    stage.example("01-first-repository/namespace.yaml").await?;
    stage.example("01-first-repository").await?;
    stage.reason("team-a", "web", "Settled").await?;
    let tags = stage.tags("ecr-operator/registry").await?;
    ensure!(
        tags.get("ecr-operator.dev/writer")
            .is_some_and(|writer| writer == "demo"),
        "{tags:?}"
    );
    Ok(())
}

fn is_immutable(live: &Repository) -> bool {
    live.image_tag_mutability() == Some(&ImageTagMutability::Immutable)
}

fn is_scanned(live: &Repository) -> bool {
    live.image_scanning_configuration()
        .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push)
}

async fn created(stage: &Stage) -> Result<()> {
    let live = stage.live("team-a/web").await?;
    ensure!(is_immutable(&live) && is_scanned(&live), "{live:?}");
    let tags = stage.tags("team-a/web").await?;
    ensure!(tags.get("team").is_some_and(|team| team == "a"), "{tags:?}");
    ensure!(
        tags.get("ecr-operator.dev/owner")
            .is_some_and(|owner| owner == "demo/team-a/web"),
        "{tags:?}"
    );
    Ok(())
}

async fn repaired(stage: &Stage) -> Result<()> {
    let put = stage
        .ecr()
        .await?
        .put_image_tag_mutability()
        .repository_name("team-a/web");
    put.image_tag_mutability(ImageTagMutability::Mutable).send().await?;
    stage.live_is("team-a/web", "immutable tags", is_immutable).await?;
    let note = stage.event("web", "DriftRepaired").await?;
    println!("   Event: {note}");
    ensure!(note.contains("MUTABLE -> IMMUTABLE"), "{note}");
    Ok(())
}

async fn refused(stage: &Stage) -> Result<()> {
    for (spec, sentence) in [
        (json!({ "name": "Team-A/Web" }), "spec.name"),
        (
            json!({ "imageTagMutabilityExclusionFilters": [{ "filter": "dev-*" }] }),
            "go with imageTagMutability",
        ),
        (
            json!({ "policy": { "access": { "pull": { "principals": ["*"] } } } }),
            "would open the repository to everyone",
        ),
        (
            json!({ "policy": { "document": { "Statement": [{ "Effect": "Allow" }] } } }),
            "each statement",
        ),
    ] {
        let refusal = stage.refusal(&spec).await?;
        ensure!(refusal.contains(sentence), "{spec}: {refusal}");
    }
    let renamed = repository("team-a", "web", &json!({ "name": "team-a/other" })).to_string();
    let output = stage
        .cluster
        .kubectl_with_input(&["apply", "-f", "-"], &renamed)
        .await?;
    ensure!(
        !output.status.success() && output.stderr.contains("spec.name cannot be changed"),
        "{}",
        output.stderr
    );
    Ok(())
}

async fn not_a_tenant(stage: &Stage) -> Result<()> {
    stage.kubectl(&["create", "namespace", "team-b"]).await?;
    let manifest = repository("team-b", "web", &json!({})).to_string();
    stage
        .cluster
        .kubectl_with_input(&["apply", "-f", "-"], &manifest)
        .await?
        .checked()?;
    let message = stage.reason("team-b", "web", "NotAllowed").await?;
    println!("   {message}");
    ensure!(stage.find("team-b/web").await?.is_none(), "it exists in ECR");
    Ok(())
}

async fn push_and_pull(stage: &Stage) -> Result<()> {
    let digest = stage
        .aws
        .push_image(ACCOUNT, REGION, "team-a/web", "v1", b"the first version")
        .await?;
    let admin = stage.aws.admin(ACCOUNT).await?;
    let pulled = stage
        .aws
        .pull_image_as(&admin, ACCOUNT, REGION, "team-a/web", "v1")
        .await?;
    ensure!(
        pulled.digest == digest && pulled.content == b"the first version",
        "{pulled:?}"
    );
    println!("   {digest}");
    Ok(())
}

async fn immutable(stage: &Stage) -> Result<()> {
    let pushed = stage
        .aws
        .push_image(ACCOUNT, REGION, "team-a/web", "v1", b"another version")
        .await;
    ensure!(pushed.is_err(), "the tag was moved");
    Ok(())
}

async fn planned(stage: &Stage) -> Result<()> {
    let file = stage.bed.directory().join("change.json");
    let change = repository(
        "team-a",
        "web",
        &json!({ "imageTagMutability": "MUTABLE", "scanOnPush": true }),
    );
    std::fs::write(&file, change.to_string())?;
    let mut command = Command::new(&stage.program);
    command.args(["plan", "--owner-id", OWNER, "-f"]).arg(&file);
    command.envs(stage.environment().await?);
    let output = stage.bed.run(&command, "").await?;
    for line in output.stdout.lines() {
        println!("   | {line}");
    }
    ensure!(
        output.status.code() == Some(2),
        "exit code {:?}: {}",
        output.status.code(),
        output.stderr
    );
    ensure!(
        output.stdout.contains("imageTagMutability: IMMUTABLE -> MUTABLE"),
        "{}",
        output.stdout
    );
    ensure!(
        is_immutable(&stage.live("team-a/web").await?),
        "the plan was carried out"
    );
    Ok(())
}

async fn access(stage: &Stage) -> Result<()> {
    stage.apply("api", &json!({ "policy": { "access": {} } })).await?;
    stage.reason("team-a", "api", "Settled").await?;
    let theirs = json!({ "Version": "2012-10-17", "Statement": [{
        "Sid": "Theirs", "Effect": "Allow", "Principal": { "AWS": ACCOUNT }, "Action": "ecr:BatchGetImage",
    }]});
    let ecr = stage.ecr().await?;
    ecr.set_repository_policy()
        .repository_name("team-a/api")
        .policy_text(theirs.to_string())
        .send()
        .await?;
    let role = format!("arn:aws:iam::{ACCOUNT}:role/ci");
    stage
        .apply(
            "api",
            &json!({ "policy": { "access": { "push": { "principals": [role] } } } }),
        )
        .await?;
    stage.reason("team-a", "api", "Settled").await?;
    let policy = ecr.get_repository_policy().repository_name("team-a/api").send().await?;
    let text = policy.policy_text().unwrap_or_default();
    ensure!(text.contains("Theirs") && text.contains("EcrOperatorPush"), "{text}");
    Ok(())
}

async fn twice(stage: &Stage) -> Result<()> {
    stage
        .apply(
            "twin",
            &json!({ "name": "team-a/web", "adoption": "Adopt", "scanOnPush": false }),
        )
        .await?;
    let message = stage.reason("team-a", "twin", "OwnedByAnother").await?;
    println!("   {message}");
    ensure!(is_scanned(&stage.live("team-a/web").await?), "it was written to");
    stage
        .kubectl(&["delete", "repositories.ecr-operator.dev", "twin", "-n", "team-a"])
        .await
        .map(drop)
}

async fn adopted(stage: &Stage) -> Result<()> {
    let theirs = Tag::builder().key("theirs").value("kept").build()?;
    let create = stage
        .ecr()
        .await?
        .create_repository()
        .repository_name("team-a/legacy-app")
        .tags(theirs);
    create.send().await?;
    stage
        .apply("legacy", &json!({ "name": "team-a/legacy-app", "scanOnPush": true }))
        .await?;
    stage.reason("team-a", "legacy", "Exists").await?;
    ensure!(
        !is_scanned(&stage.live("team-a/legacy-app").await?),
        "it was written to"
    );
    stage.example("03-adoption").await?;
    stage.reason("team-a", "legacy", "Settled").await?;
    ensure!(is_scanned(&stage.live("team-a/legacy-app").await?), "it is not managed");
    let tags = stage.tags("team-a/legacy-app").await?;
    ensure!(tags.len() == 2 && tags.contains_key("theirs"), "{tags:?}");
    Ok(())
}

async fn not_empty(stage: &Stage) -> Result<()> {
    stage
        .apply("job", &json!({ "deletionPolicy": "DeleteIfEmpty" }))
        .await?;
    stage.reason("team-a", "job", "Settled").await?;
    stage
        .aws
        .push_image(ACCOUNT, REGION, "team-a/job", "v1", b"a job")
        .await?;
    stage
        .kubectl(&[
            "delete",
            "repositories.ecr-operator.dev",
            "job",
            "-n",
            "team-a",
            "--wait=false",
        ])
        .await?;
    let message = stage.reason("team-a", "job", "NotEmpty").await?;
    println!("   {message}");
    stage.live("team-a/job").await.map(drop)
}

async fn emptied(stage: &Stage) -> Result<()> {
    let image = ImageIdentifier::builder().image_tag("v1").build();
    stage
        .ecr()
        .await?
        .batch_delete_image()
        .repository_name("team-a/job")
        .image_ids(image)
        .send()
        .await?;
    let look = "ecr-operator.dev/reconcile=now";
    stage
        .kubectl(&["annotate", "repositories.ecr-operator.dev", "job", "-n", "team-a", look])
        .await?;
    stage.gone("job").await?;
    ensure!(stage.find("team-a/job").await?.is_none(), "it is still in ECR");
    Ok(())
}

async fn retained(stage: &Stage) -> Result<()> {
    stage
        .kubectl(&[
            "delete",
            "repositories.ecr-operator.dev",
            "web",
            "-n",
            "team-a",
            "--wait=false",
        ])
        .await?;
    stage.gone("web").await?;
    let tags = stage.tags("team-a/web").await?;
    ensure!(
        tags.contains_key("team") && !tags.contains_key("ecr-operator.dev/owner"),
        "{tags:?}"
    );
    let images = stage
        .ecr()
        .await?
        .list_images()
        .repository_name("team-a/web")
        .send()
        .await?;
    ensure!(!images.image_ids().is_empty(), "its image is gone");
    Ok(())
}

async fn restarted(stage: &Stage) -> Result<()> {
    let Some(operator) = &stage.operator else {
        anyhow::bail!("no operator runs")
    };
    operator.stop().await?;
    stage.aws.reset_calls(ACCOUNT, REGION).await?;
    operator.restart().await?;
    // A look that is asked for is served after all that the restart itself brings.
    stage
        .kubectl(&[
            "annotate",
            "repositories.ecr-operator.dev",
            "api",
            "-n",
            "team-a",
            "ecr-operator.dev/reconcile=again",
        ])
        .await?;
    bed::eventually(
        std::time::Duration::from_secs(20),
        "the look to be handled",
        async || {
            let handled = [
                "get",
                "repositories.ecr-operator.dev",
                "api",
                "-n",
                "team-a",
                "-o",
                "jsonpath={.status.lastHandledReconcile}",
            ];
            let handled = stage.kubectl(&handled).await?;
            ensure!(handled == "again", "{handled:?}");
            Ok(())
        },
    )
    .await?;
    let calls = stage.aws.calls(ACCOUNT, REGION).await?.operations;
    let reads = ["Describe", "List", "Get", "sts:"];
    let writes: Vec<_> = calls
        .keys()
        .filter(|name| !reads.iter().any(|read| name.starts_with(read)))
        .collect();
    ensure!(writes.is_empty(), "{writes:?}");
    Ok(())
}
