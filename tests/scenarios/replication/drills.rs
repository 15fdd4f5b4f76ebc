//! Whatever call or write is the last one that an operator lives to make, rules of others stay and ours are there once.

use anyhow::Result;
use serde_json::{Value, json};

use super::{backfill, config, delete, grant, has, is, named, rule, settled, wire};
use crate::{
    drill::{Drill, Theatre},
    support::{Scene, run},
};

/// Where everything starts from: a rule of somebody else, and one of another object.
async fn prepare(scene: &Scene) -> Result<()> {
    grant(scene).await?;
    scene
        .stage
        .aws
        .reset_calls(&scene.account, crate::support::REGION)
        .await
}

fn theirs(scene: &Scene) -> Value {
    let mut rule = rule(scene, super::FAR, &["theirs/"]);
    rule["x-tomorrow"] = json!(1);
    rule
}

fn filter(round: usize) -> String {
    format!("round-{round}/")
}

fn name(round: usize) -> String {
    format!("r{round}")
}

/// An object is created; those of earlier rounds stay.
struct Create(Scene);

impl Drill for Create {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        if round == 0 {
            prepare(&self.0).await?;
            wire::put(&self.0, &json!([theirs(&self.0)])).await?;
        }
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let rules = json!([rule(scene, super::FAR, &[&filter(round)])]);
        scene.apply(&config(scene, &name(round), rules)).await.map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        is(scene, &name(round), "Settled").await?;
        let filters: Vec<String> = (0..=round).map(filter).collect();
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        has(scene, &[theirs(scene), rule(scene, super::FAR, &filters)]).await
    }
}

/// An object is created whose images are to be sent, also those that were there before.
struct Backfill(Scene);

impl Drill for Backfill {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        if round == 0 {
            prepare(&self.0).await?;
        }
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let rules = json!([rule(scene, super::FAR, &[&filter(round)])]);
        scene
            .apply(&backfill::on_change(scene, &name(round), rules))
            .await
            .map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        backfill::is(scene, &name(round), "COMPLETE").await?;
        // One for each change, whatever was lost on the way.
        anyhow::ensure!(backfill::all(scene).await?.len() == round + 1);
        Ok(())
    }
}

/// An object goes, and another one stays.
struct Delete(Scene);

impl Drill for Delete {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        let scene = &self.0;
        if round == 0 {
            prepare(scene).await?;
            wire::put(scene, &json!([theirs(scene)])).await?;
            settled(scene, "stays", json!([rule(scene, super::FAR, &["stays/"])])).await?;
        }
        settled(scene, &name(round), json!([rule(scene, super::FAR, &[&filter(round)])])).await?;
        Ok(scene.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let name = named(scene, &name(round));
        let delete = ["delete", "replicationconfig.ecr-operator.dev", &name, "--wait=false"];
        scene.cluster.kubectl(&delete).await?.checked().map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        // It may be gone already.
        let _ = delete(scene, &name(round)).await;
        let found = scene.get("replicationconfig", &named(scene, &name(round))).await;
        anyhow::ensure!(found.is_err(), "it is still there");
        has(scene, &[theirs(scene), rule(scene, super::FAR, &["stays/"])]).await
    }
}

#[test]
fn killed_at_any_call_or_write_for_replication_the_operator_finishes_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "repl-kills").await?;
        let create = Create(theatre.scene("repl-kill-create").await?);
        theatre.killed_at_every_call(&create).await?;
        let delete = Delete(theatre.scene("repl-kill-delete").await?);
        theatre.killed_at_every_call(&delete).await?;
        let create = Create(theatre.scene("repl-write-create").await?);
        theatre.killed_at_every_write(&create).await?;
        let delete = Delete(theatre.scene("repl-write-delete").await?);
        theatre.killed_at_every_write(&delete).await
    })
}

#[test]
fn a_backfill_is_started_once_whenever_the_operator_dies() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "fill-kills").await?;
        let backfill = Backfill(theatre.scene("fill-kill").await?);
        theatre.killed_at_every_call(&backfill).await?;
        let backfill = Backfill(theatre.scene("fill-write").await?);
        theatre.killed_at_every_write(&backfill).await
    })
}

#[test]
fn a_backfill_is_started_once_whatever_answer_is_lost() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "fill-losses").await?;
        let backfill = Backfill(theatre.scene("fill-lose").await?);
        theatre.answers_lost(&backfill).await?;
        let backfill = Backfill(theatre.scene("fill-lost").await?);
        theatre.write_answers_lost(&backfill).await
    })
}

#[test]
fn with_any_answer_for_replication_lost_the_work_is_done_once() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "repl-losses").await?;
        let (create, delete) = tokio::try_join!(theatre.scene("repl-lose-create"), theatre.scene("repl-lose-delete"))?;
        let (create, delete) = (Create(create), Delete(delete));
        tokio::try_join!(theatre.answers_lost(&create), theatre.answers_lost(&delete))?;
        let create = Create(theatre.scene("repl-lost-create").await?);
        theatre.write_answers_lost(&create).await?;
        let delete = Delete(theatre.scene("repl-lost-delete").await?);
        theatre.write_answers_lost(&delete).await
    })
}
