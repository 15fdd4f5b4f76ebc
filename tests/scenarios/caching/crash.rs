//! Whatever call is the last one that an operator lives to make, the next one ends its work; and an answer that is lost is
//! no reason to take what is ours for somebody else's.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{
    cache_rules::{rule, rules},
    delete, gone, grant, role, secret,
};
use crate::{
    drill::{Drill, Theatre},
    support::{Scene, run},
};

#[test]
fn killed_at_any_call_for_a_cache_rule_the_operator_finishes_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "ptc-kills").await?;
        theatre
            .killed_at_every_call(&Rule::creating(&theatre, "ptc-kill-create").await?)
            .await?;
        theatre
            .killed_at_every_call(&Rule::updating(&theatre, "ptc-kill-update").await?)
            .await?;
        theatre
            .killed_at_every_call(&Rule::deleting(&theatre, "ptc-kill-delete").await?)
            .await
    })
}

#[test]
fn killed_after_any_write_for_a_cache_rule_the_operator_finishes_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "ptc-writes").await?;
        for drill in [
            Rule::creating(&theatre, "ptc-write-create").await?,
            Rule::updating(&theatre, "ptc-write-update").await?,
            Rule::deleting(&theatre, "ptc-write-delete").await?,
        ] {
            theatre.killed_at_every_write(&drill).await?;
            theatre.write_answers_lost(&drill.again()).await?;
        }
        Ok(())
    })
}

#[test]
fn with_any_answer_for_a_cache_rule_lost_the_work_is_done_once() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "ptc-losses").await?;
        let create = Rule::creating(&theatre, "ptc-lose-create").await?;
        let update = Rule::updating(&theatre, "ptc-lose-update").await?;
        let delete = Rule::deleting(&theatre, "ptc-lose-delete").await?;
        // At once: most of the time is spent in the pauses between attempts.
        tokio::try_join!(
            theatre.answers_lost(&create),
            theatre.answers_lost(&update),
            theatre.answers_lost(&delete),
        )
        .map(drop)
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Update,
    Delete,
}

/// What is done to a rule; each round has a prefix of its own.
struct Rule {
    scene: Scene,
    act: Act,
    /// Tells the names of one drill from those of the next in the same scene.
    series: &'static str,
}

impl Rule {
    async fn of(theatre: &Theatre, name: &str, act: Act) -> Result<Self> {
        let scene = theatre.scene(name).await?;
        grant(&scene).await?;
        let drill = Self {
            scene,
            act,
            series: "a",
        };
        // From here on the rules are listed, whatever the operator does next: no round takes a call more than another.
        let first = rule(&drill.scene, name, json!({ "ecrRepositoryPrefix": "first" }));
        drill.scene.apply(&first).await?;
        drill.scene.reason("pullthroughcacherule", name, "Settled").await?;
        Ok(drill)
    }

    async fn creating(theatre: &Theatre, name: &str) -> Result<Self> {
        Self::of(theatre, name, Act::Create).await
    }

    async fn updating(theatre: &Theatre, name: &str) -> Result<Self> {
        Self::of(theatre, name, Act::Update).await
    }

    async fn deleting(theatre: &Theatre, name: &str) -> Result<Self> {
        Self::of(theatre, name, Act::Delete).await
    }

    fn again(&self) -> Self {
        Self {
            scene: self.scene.clone(),
            act: self.act,
            series: "b",
        }
    }

    fn prefix(&self, round: usize) -> String {
        format!("hub-{}{round}", self.series)
    }

    fn name(&self, round: usize) -> String {
        format!("{}-{}", self.scene.name, self.prefix(round))
    }

    fn manifest(&self, round: usize, secret_name: &str) -> Value {
        let spec = json!({
            "ecrRepositoryPrefix": self.prefix(round),
            "upstreamRegistryUrl": "registry-1.docker.io",
            "credentialArn": secret(&self.scene, secret_name),
            "customRoleArn": role(&self.scene, "pull"),
            "deletionPolicy": if self.act == Act::Delete { "Delete" } else { "Retain" },
        });
        rule(&self.scene, &self.name(round), spec)
    }

    async fn is_settled(&self, round: usize, secret_name: &str) -> Result<()> {
        let told = self
            .scene
            .reason("pullthroughcacherule", &self.name(round), "Settled")
            .await?;
        ensure!(told["status"]["owned"]["createdAt"].is_string(), "{}", told["status"]);
        ensure!(told["status"]["owned"]["asked"].is_null(), "{}", told["status"]);
        ensure!(!told["status"]["validation"].is_null(), "{}", told["status"]);
        let prefix = self.prefix(round);
        let rules = rules(&self.scene).await?;
        let found: Vec<_> = rules
            .iter()
            .filter(|rule| rule.ecr_repository_prefix() == Some(&prefix))
            .collect();
        ensure!(found.len() == 1, "{rules:?}");
        ensure!(
            found[0].credential_arn() == Some(secret(&self.scene, secret_name).as_str()),
            "{found:?}"
        );
        ensure!(
            found[0].custom_role_arn() == Some(role(&self.scene, "pull").as_str()),
            "{found:?}"
        );
        Ok(())
    }
}

impl Drill for Rule {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        if self.act != Act::Create {
            self.scene.apply(&self.manifest(round, "before")).await?;
            self.is_settled(round, "before").await?;
        }
        Ok(self.scene.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        match self.act {
            Act::Create | Act::Update => scene.apply(&self.manifest(round, "after")).await.map(drop),
            Act::Delete => delete(scene, "pullthroughcacherule", &self.name(round)).await,
        }
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        if self.act != Act::Delete {
            return self.is_settled(round, "after").await;
        }
        gone(scene, "pullthroughcacherule", &self.name(round)).await?;
        let left = rules(scene).await?;
        let prefix = self.prefix(round);
        ensure!(
            left.iter().all(|rule| rule.ecr_repository_prefix() != Some(&prefix)),
            "{left:?}"
        );
        Ok(())
    }
}
