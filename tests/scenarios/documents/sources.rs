//! Who may replicate into a registry has a statement in its policy, and images arrive with it alone.

use anyhow::{Context as _, Result, ensure};
use bed::eventually;
use serde_json::{Value, json};

use super::{
    hand::{Hand, statement},
    line,
};
use crate::{
    replication,
    support::{LIMIT, REGION, Scene, object, run},
};

/// What became of an image's replication.
async fn status(source: &Scene, repository: &str, digest: &str) -> Result<String> {
    let id = aws_sdk_ecr::types::ImageIdentifier::builder()
        .image_digest(digest)
        .build();
    let ecr = source.ecr().await?;
    let asked = ecr
        .describe_image_replication_status()
        .repository_name(repository)
        .image_id(id);
    let answer = asked.send().await?;
    let status = answer.replication_statuses().first().and_then(|status| status.status());
    Ok(status.context("none yet")?.as_str().to_owned())
}

async fn becomes(source: &Scene, repository: &str, digest: &str, wanted: &str) -> Result<()> {
    eventually(LIMIT, &format!("the replication to be {wanted}"), async || {
        let status = status(source, repository, digest).await?;
        ensure!(status == wanted, "{status}");
        Ok(())
    })
    .await
}

fn from(accounts: &[&str]) -> Value {
    json!({ "replication": { "from": accounts } })
}

#[test]
fn images_of_an_account_arrive_while_it_is_in_the_list_and_statements_of_others_stay() -> Result<()> {
    run(async |stage| {
        let source = replication::open(stage, "from-src").await?;
        let scene = super::scene(stage, "from-dst").await?;
        scene.registry(json!({})).await?;
        let hand = Hand::new(&scene).await?;
        hand.put_policy(&[statement("Theirs", "ecr:ReplicateImage")]).await?;
        let rules = json!([{ "destinations": [{ "region": REGION, "registryId": scene.account }] }]);
        replication::settled(&source, "out", rules).await?;
        source.settled("web", json!({})).await?;
        let repository = "from-src/web";
        let push = async |tag: &str| {
            let pushed = stage
                .aws
                .push_image(&source.account, REGION, repository, tag, tag.as_bytes());
            pushed.await
        };
        let before = push("v1").await?;
        becomes(&source, repository, &before, "FAILED").await?;
        ensure!(!scene.exists(repository).await?);

        let sid = |account: &str| format!("EcrOperatorReplicateFrom{account}");
        let other = "444455556666";
        scene.registry(from(&[&source.account, other])).await?;
        let wanted = ["Theirs".to_owned(), sid(&source.account), sid(other)];
        ensure!(hand.sids().await? == wanted.into(), "{:?}", hand.sids().await?);
        let registry = scene.get("registry", &scene.name).await?;
        ensure!(
            line(&registry, "policy").is_some_and(|line| line["state"] == "Settled"),
            "{registry}"
        );
        let during = push("v2").await?;
        becomes(&source, repository, &during, "COMPLETE").await?;
        ensure!(scene.exists(repository).await?, "it is made where it is missing");

        scene.registry(from(&[other])).await?;
        let wanted = ["Theirs".to_owned(), sid(other)];
        ensure!(hand.sids().await? == wanted.into(), "{:?}", hand.sids().await?);
        let after = push("v3").await?;
        becomes(&source, repository, &after, "FAILED").await?;

        // Left out, it is not managed: what is there stays, as with each document.
        scene.registry(json!({})).await?;
        ensure!(hand.sids().await?.contains(&sid(other)));
        scene.registry(from(&[])).await?;
        ensure!(
            hand.sids().await? == ["Theirs".to_owned()].into(),
            "{:?}",
            hand.sids().await?
        );

        // Beside spec.policy both are asked for.
        let mut both = from(&[other]);
        both["policy"] = json!({ "document": { "Version": "2012-10-17", "Statement": [
            statement("Named", "ecr:CreateRepository") ] } });
        scene.registry(both).await?;
        let wanted = ["Theirs".to_owned(), "Named".to_owned(), sid(other)];
        ensure!(hand.sids().await? == wanted.into(), "{:?}", hand.sids().await?);
        // Without it, its statements stay, as it says.
        scene.registry(from(&[])).await?;
        let wanted = ["Theirs".to_owned(), "Named".to_owned()];
        ensure!(hand.sids().await? == wanted.into(), "{:?}", hand.sids().await?);
        Ok(())
    })
}

#[test]
fn the_list_names_other_accounts_each_once() -> Result<()> {
    run(async |stage| {
        let scene = stage.scene("from-adm").await?;
        let many: Vec<String> = (0..21).map(|n| format!("3000000000{n:02}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (accounts, sentence) in [
            (&[&*scene.account][..], "spec.replication.from names other accounts"),
            (
                &["444455556666", "444455556666"][..],
                "spec.replication.from[1]: Duplicate value",
            ),
            (&["4444"][..], "spec.replication.from[0]"),
            (
                &many[..],
                "spec.replication.from: Too many: 21: must have at most 20 items",
            ),
        ] {
            let mut spec = scene.registry_spec();
            spec["replication"] = from(accounts)["replication"].clone();
            let refusal = scene.refusal(&object("Registry", &scene.name, None, spec)).await?;
            ensure!(refusal.contains(sentence), "{accounts:?} was refused with:\n{refusal}");
        }
        Ok(())
    })
}
