//! Whatever call or write is the last one that an operator lives to make, and whichever answer is lost: the next one ends
//! the work, and nothing is left over. Promises 1 to 3.

use anyhow::{Context as _, Result, ensure};
use bed::{Effect, Fault};
use serde_json::json;

use super::hall;
use crate::{
    drill::{Drill, Theatre},
    support::{LIMIT, REGION, Scene, run},
};

async fn theatre_scene(theatre: &Theatre, name: &str) -> Result<Scene> {
    hall::scene_on(theatre.stage, theatre.cluster, name).await
}

fn name(round: usize) -> String {
    format!("pull-{round}")
}

fn account(round: usize) -> String {
    format!("account-{round}")
}

async fn make_account(scene: &Scene, round: usize) -> Result<()> {
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{ "name": "theirs" }],
        "metadata": { "name": account(round), "namespace": scene.name } });
    scene.apply(&account).await.map(drop)
}

fn spec(round: usize) -> serde_json::Value {
    json!({ "serviceAccounts": [account(round)] })
}

/// A PullSecret with a `ServiceAccount`.
struct Create(Scene);

impl Drill for Create {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        make_account(&self.0, round).await?;
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let wanted = hall::pull_secret(scene, &name(round), spec(round));
        scene.apply(&wanted).await.map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        let object = scene.reason("pullsecret", &name(round), "Settled").await?;
        let entry = hall::entry(scene, &name(round)).await?;
        let status = entry.status(http::Method::GET, "").await?;
        ensure!(status == http::StatusCode::OK, "{status}");
        ensure!(hall::pull_secrets_of(scene, &account(round)).await? == ["theirs", name(round).as_str()]);
        ensure!(
            object["status"]["serviceAccounts"] == json!([account(round)]),
            "{}",
            object["status"]
        );
        Ok(())
    }
}

/// One that is there is deleted.
struct Delete(Scene);

impl Drill for Delete {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        make_account(&self.0, round).await?;
        hall::settled(&self.0, &name(round), spec(round)).await?;
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let name = name(round);
        let kind = "pullsecret.ecr-operator.dev";
        let delete = ["delete", kind, &name, "-n", &scene.name, "--wait=false"];
        scene.cluster.kubectl(&delete).await?.checked().map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        hall::gone(scene, &name(round)).await?;
        ensure!(
            hall::core(scene, "secret", &name(round)).await?.is_none(),
            "the Secret is left over"
        );
        ensure!(hall::pull_secrets_of(scene, &account(round)).await? == ["theirs"]);
        Ok(())
    }
}

#[test]
fn killed_after_any_write_for_a_pull_secret_the_operator_finishes_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "pull-writes").await?;
        let scene = theatre_scene(&theatre, "pull-write-create").await?;
        theatre.killed_at_every_write(&Create(scene)).await?;
        let scene = theatre_scene(&theatre, "pull-write-delete").await?;
        theatre.killed_at_every_write(&Delete(scene)).await
    })
}

#[test]
fn with_any_answer_to_a_write_for_a_pull_secret_lost_the_work_is_done() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "pull-losses").await?;
        let scene = theatre_scene(&theatre, "pull-lost-create").await?;
        theatre.write_answers_lost(&Create(scene)).await?;
        let scene = theatre_scene(&theatre, "pull-lost-delete").await?;
        theatre.write_answers_lost(&Delete(scene)).await
    })
}

#[test]
fn killed_at_any_call_or_with_any_answer_lost_a_token_is_had_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "pull-calls").await?;
        let scene = theatre_scene(&theatre, "pull-call-create").await?;
        theatre.killed_at_every_call(&Create(scene)).await?;
        let scene = theatre_scene(&theatre, "pull-call-lost").await?;
        theatre.answers_lost(&Create(scene)).await
    })
}

#[test]
fn an_assumption_of_the_role_that_is_not_answered_is_tried_again() -> Result<()> {
    run(async |stage| {
        let scene = hall::scene(stage, "pull-assume").await?;
        for (round, fault) in [
            Fault::new("sts:AssumeRole", Effect::Disconnect).after(),
            Fault::new("sts:AssumeRole", Effect::Disconnect).after().times(6),
            Fault::throttling("sts:AssumeRole").times(3),
            Fault::server_error("GetAuthorizationToken").times(4),
        ]
        .into_iter()
        .enumerate()
        {
            let fault = if round == 0 { fault.times(1) } else { fault };
            let fault = stage.aws.inject(&fault.registry(&scene.account, REGION)).await?;
            scene.apply(&hall::pull_secret(&scene, &name(round), json!({}))).await?;
            let settled = scene.reason("pullsecret", &name(round), "Settled").await;
            settled.with_context(|| format!("round {round}"))?;
            hall::entry(&scene, &name(round)).await?;
            let state = stage.aws.fault(&fault).await?;
            ensure!(state.injected > 0, "{state:?}");
            stage.aws.remove_fault(&fault).await?;
        }
        Ok(())
    })
}

#[test]
fn killed_while_it_assumes_the_role_the_operator_takes_a_token_later() -> Result<()> {
    run(async |stage| {
        let cluster = stage.bare_cluster().await?;
        let operator = stage.rare_operator("pull-assuming", cluster).await?;
        let scene = hall::scene_on(stage, cluster, "pull-assuming").await?;
        let hold = || Fault::new("sts:AssumeRole", Effect::Hold).registry(&scene.account, REGION);
        for (round, fault) in [hold(), hold().after()].into_iter().enumerate() {
            let fault = stage.aws.inject(&fault).await?;
            scene.apply(&hall::pull_secret(&scene, &name(round), json!({}))).await?;
            stage.aws.held(&fault, LIMIT).await?;
            operator.kill();
            stage.aws.remove_fault(&fault).await?;
            ensure!(hall::core(&scene, "secret", &name(round)).await?.is_none());
            operator.restart().await?;
            scene.reason("pullsecret", &name(round), "Settled").await?;
            hall::entry(&scene, &name(round)).await?;
        }
        Ok(())
    })
}
