//! A destination that another cluster manages: told what it lacks, and never written to from here.

use anyhow::{Context as _, Result, ensure};
use bed::{Policy, eventually};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{backfill, delete, named};
use crate::{
    in_use::observer,
    replicas::{says, told, with},
    support::{LIMIT, REGION, Scene, Stage, lasts, merge, message, object, run},
};

/// What the installation of the other cluster is called.
const THERE: &str = "elsewhere";

/// A scene whose Registry the operator of another cluster manages. All of them share the cluster.
pub(crate) async fn open(stage: &'static Stage, name: &str) -> Result<Scene> {
    static CLUSTER: OnceCell<&'static bed::Cluster> = OnceCell::const_new();
    let start = async || {
        let cluster = stage.bare_cluster().await?;
        lasts(cluster);
        let args = ["--in-use-interval", "5s"];
        let operator = stage.operator_with(THERE, cluster, THERE, &args).await?;
        Box::leak(Box::new(operator));
        anyhow::Ok(cluster)
    };
    let cluster = CLUSTER.get_or_try_init(start).await?;
    let scene = stage.scene_on(cluster, name).await?;
    let features = [bed::MANAGES, &["registry", "protect"]].concat();
    let rights = bed::rights(&scene.account, REGION, THERE, &features)?;
    scene.role(Policy::Document(rights)).await?;
    scene.registry(json!({})).await?;
    Ok(scene)
}

/// A Registry here of the registry there, with the rights that the guide gives for observing; gives its name.
pub(crate) async fn observe(here: &Scene, there: &Scene, mode: &str) -> Result<String> {
    let role = observer(there).await?;
    let mut spec = there.registry_spec();
    merge(&mut spec, json!({ "mode": mode, "assumeRole": { "roleArn": role } }));
    let name = named(here, "there");
    here.apply(&object("Registry", &name, None, spec)).await?;
    Ok(name)
}

/// What the operator of this cluster changed there, reports of images in use aside.
pub(crate) async fn written(there: &Scene) -> Result<Vec<String>> {
    let calls = there.stage.aws.calls(&there.account, REGION).await?.calls;
    let reads = ["Describe", "List", "Get", "BatchGet", "sts:"];
    let from_here = calls.into_iter().filter(|call| {
        let who = call.principal.as_deref().unwrap_or_default();
        let uploads = [
            "PutImage",
            "InitiateLayerUpload",
            "UploadLayerPart",
            "CompleteLayerUpload",
        ];
        let is_report =
            call.repository.as_deref() == Some("ecr-operator/in-use") && uploads.contains(&call.operation.as_str());
        who.contains("ecr-operator-observer")
            && !is_report
            && !reads.iter().any(|read| call.operation.starts_with(read))
    });
    Ok(from_here.map(|call| format!("{call:?}")).collect())
}

/// A rule that replicates there what is below a prefix.
pub(crate) fn rule(there: &Scene, prefix: &str) -> Value {
    json!({
        "destinations": [{ "region": REGION, "registryId": there.account }],
        "repositoryFilters": [{ "filter": prefix, "filterType": "PREFIX_MATCH" }],
    })
}

/// The tags that have arrived there.
async fn arrived(there: &Scene, repository: &str, wanted: &[&str]) -> Result<()> {
    let ecr = there.ecr().await?;
    eventually(LIMIT, &format!("{wanted:?} to arrive"), async || {
        let listed = ecr.list_images().repository_name(repository).send().await?;
        let mut tags: Vec<&str> = listed.image_ids().iter().filter_map(|id| id.image_tag()).collect();
        tags.sort_unstable();
        ensure!(tags == wanted, "{tags:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_destination_of_another_cluster_is_told_what_it_lacks_and_not_written_to() -> Result<()> {
    run(async |stage| {
        let (scene, there) = (super::open(stage, "else").await?, open(stage, "else-there").await?);
        let far = observe(&scene, &there, "Observe").await?;
        scene.reason("registry", &far, "Observed").await?;
        let push = async |tag: &str| {
            let push = stage
                .aws
                .push_image(&scene.account, REGION, "else/web", tag, tag.as_bytes());
            push.await.map(drop)
        };
        let create = scene.ecr().await?.create_repository().repository_name("else/web");
        create.send().await?;
        push("early").await?;
        let rules = json!([rule(&there, "else/")]);
        scene.apply(&backfill::on_change(&scene, "a", rules.clone())).await?;
        let object = backfill::is(&scene, "a", "FAILED").await?;
        let failed = &object["status"]["backfills"][0]["examples"][0];
        ensure!(failed["failureCode"] == "AccessDenied", "{failed}");
        let needed = object["status"]["policiesNeeded"].as_array().context("nothing")?;
        ensure!(
            needed.len() == 1 && needed[0]["registryId"] == there.account.as_str(),
            "{needed:?}"
        );
        let needed: Value = serde_json::from_str(needed[0]["policy"].as_str().context("no policy")?)?;
        ensure!(there.ecr().await?.get_registry_policy().send().await.is_err());
        ensure!(written(&there).await?.is_empty(), "{:#?}", written(&there).await?);

        // What was asked for, word for word, is what the other cluster's Registry puts.
        there
            .registry(json!({ "replication": { "from": [scene.account] } }))
            .await?;
        let policy = there.ecr().await?.get_registry_policy().send().await?;
        let policy: Value = serde_json::from_str(policy.policy_text().unwrap_or_default())?;
        ensure!(policy == needed, "{policy} instead of {needed}");
        push("late").await?;
        arrived(&there, "else/web", &["late"]).await?;
        // A backfill is not repeated by itself.
        delete(&scene, "a").await?;
        scene.apply(&backfill::on_change(&scene, "a", rules)).await?;
        let object = backfill::is(&scene, "a", "COMPLETE").await?;
        ensure!(message(&object).is_empty(), "{}", message(&object));
        arrived(&there, "else/web", &["early", "late"]).await?;
        ensure!(written(&there).await?.is_empty(), "{:#?}", written(&there).await?);
        Ok(())
    })
}

#[test]
fn a_replica_in_a_registry_of_another_cluster_is_told_and_not_made() -> Result<()> {
    run(async |stage| {
        let (scene, there) = (
            super::open(stage, "else-repl").await?,
            open(stage, "else-repl-there").await?,
        );
        for (mode, registry, reason, words) in [
            (
                "Observe",
                "Observed",
                "Observed",
                "is in mode Observe, so that nothing is written there: differs: create repository else-repl/web",
            ),
            (
                "Manage",
                "ManagedElsewhere",
                "ManagedElsewhere",
                "the registry is managed by the installation \"elsewhere\"",
            ),
        ] {
            let far = observe(&scene, &there, mode).await?;
            scene.reason("registry", &far, registry).await?;
            let manifest = scene.repository("web", with(&[&far], json!({ "scanOnPush": true })));
            scene.apply(&manifest).await?;
            let object = scene.reason("repository", "web", reason).await?;
            says(&object, &["replica in Registry else-repl-there: ", words])?;
            ensure!(told(&object, &far)?["ready"] == false, "{}", object["status"]);
            ensure!(scene.exists("else-repl/web").await?, "the repository itself is there");
            ensure!(!there.exists("else-repl/web").await?);
            ensure!(written(&there).await?.is_empty(), "{:#?}", written(&there).await?);
        }
        // Nothing was begun there, so that nothing is waited for.
        scene.delete("web").await?;
        scene.gone("web").await?;
        ensure!(written(&there).await?.is_empty(), "{:#?}", written(&there).await?);
        Ok(())
    })
}
