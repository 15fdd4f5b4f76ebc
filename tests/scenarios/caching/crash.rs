//! Whatever call is the last one that an operator lives to make, the next one ends its work; and an answer that is lost is
//! no reason to take what is ours for somebody else's.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::{
    cache_rules::{rule, rules},
    delete, gone, grant, role, secret,
    templates::{full, is_full, template, templates},
};
use crate::{
    drill::{Drill, Theatre},
    support::{Scene, merge, run},
};

#[test]
fn killed_at_any_call_for_a_cache_rule_the_operator_finishes_later() -> Result<()> {
    killed_at_calls(Kind::Rule, "ptc-kills")
}

#[test]
fn killed_after_any_write_for_a_cache_rule_the_operator_finishes_later() -> Result<()> {
    killed_after_writes(Kind::Rule, "ptc-writes")
}

#[test]
fn with_any_answer_for_a_cache_rule_lost_the_work_is_done_once() -> Result<()> {
    answers_lost(Kind::Rule, "ptc-losses")
}

#[test]
fn killed_at_any_call_for_a_template_the_operator_finishes_later() -> Result<()> {
    killed_at_calls(Kind::Template, "rct-kills")
}

#[test]
fn killed_after_any_write_for_a_template_the_operator_finishes_later() -> Result<()> {
    killed_after_writes(Kind::Template, "rct-writes")
}

#[test]
fn with_any_answer_for_a_template_lost_the_work_is_done_once() -> Result<()> {
    answers_lost(Kind::Template, "rct-losses")
}

fn killed_at_calls(kind: Kind, name: &'static str) -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, name).await?;
        for act in ACTS {
            theatre
                .killed_at_every_call(&Entry::of(&theatre, kind, name, act).await?)
                .await?;
        }
        Ok(())
    })
}

fn killed_after_writes(kind: Kind, name: &'static str) -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, name).await?;
        for act in ACTS {
            let drill = Entry::of(&theatre, kind, name, act).await?;
            theatre.killed_at_every_write(&drill).await?;
            theatre.write_answers_lost(&drill.again()).await?;
        }
        Ok(())
    })
}

fn answers_lost(kind: Kind, name: &'static str) -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, name).await?;
        let [create, update, delete] = ACTS;
        let create = Entry::of(&theatre, kind, name, create).await?;
        let update = Entry::of(&theatre, kind, name, update).await?;
        let delete = Entry::of(&theatre, kind, name, delete).await?;
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
enum Kind {
    Rule,
    Template,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Rule => "pullthroughcacherule",
            Self::Template => "repositorycreationtemplate",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Act {
    Create,
    Update,
    Delete,
}

const ACTS: [Act; 3] = [Act::Create, Act::Update, Act::Delete];

/// What is done to a rule or a template; each round has a prefix of its own.
struct Entry {
    scene: Scene,
    kind: Kind,
    act: Act,
    /// Tells the names of one drill from those of the next in the same scene.
    series: &'static str,
}

impl Entry {
    async fn of(theatre: &Theatre, kind: Kind, theatres: &str, act: Act) -> Result<Self> {
        let name = match act {
            Act::Create => format!("{theatres}-create"),
            Act::Update => format!("{theatres}-update"),
            Act::Delete => format!("{theatres}-delete"),
        };
        let scene = theatre.scene(&name).await?;
        grant(&scene).await?;
        let drill = Self {
            scene,
            kind,
            act,
            series: "a",
        };
        // From here on there is a listing, whatever the operator does next: no round takes a call more than another.
        drill.scene.apply(&drill.manifest("first", "before")).await?;
        drill.is_settled("first", "before").await?;
        Ok(drill)
    }

    fn again(&self) -> Self {
        Self {
            scene: self.scene.clone(),
            series: "b",
            ..*self
        }
    }

    fn prefix(&self, round: usize) -> String {
        format!("hub-{}{round}", self.series)
    }

    fn name(&self, prefix: &str) -> String {
        format!("{}-{prefix}", self.scene.name)
    }

    fn manifest(&self, prefix: &str, version: &str) -> Value {
        let deletion = if self.act == Act::Delete { "Delete" } else { "Retain" };
        match self.kind {
            Kind::Rule => {
                let spec = json!({
                    "ecrRepositoryPrefix": prefix,
                    "upstreamRegistryUrl": "registry-1.docker.io",
                    "credentialArn": secret(&self.scene, version),
                    "customRoleArn": role(&self.scene, "pull"),
                    "deletionPolicy": deletion,
                });
                rule(&self.scene, &self.name(prefix), spec)
            }
            Kind::Template => {
                let mut spec = full(&self.scene);
                merge(&mut spec, json!({ "prefix": prefix, "deletionPolicy": deletion }));
                if version == "before" {
                    merge(
                        &mut spec,
                        json!({ "description": "of others", "resourceTags": { "team": "b" } }),
                    );
                }
                template(&self.scene, &self.name(prefix), spec)
            }
        }
    }

    async fn is_settled(&self, prefix: &str, version: &str) -> Result<()> {
        let told = self
            .scene
            .reason(self.kind.name(), &self.name(prefix), "Settled")
            .await?;
        ensure!(told["status"]["owned"]["createdAt"].is_string(), "{}", told["status"]);
        ensure!(told["status"]["owned"]["asked"].is_null(), "{}", told["status"]);
        match self.kind {
            Kind::Rule => {
                ensure!(!told["status"]["validation"].is_null(), "{}", told["status"]);
                let all = rules(&self.scene).await?;
                let mut found = all.iter().filter(|rule| rule.ecr_repository_prefix() == Some(prefix));
                let (Some(found), None) = (found.next(), found.next()) else {
                    bail!("{all:?}");
                };
                ensure!(
                    found.credential_arn() == Some(secret(&self.scene, version).as_str()),
                    "{found:?}"
                );
                ensure!(
                    found.custom_role_arn() == Some(role(&self.scene, "pull").as_str()),
                    "{found:?}"
                );
            }
            Kind::Template => {
                let all = templates(&self.scene).await?;
                let mut found = all.iter().filter(|template| template.prefix() == Some(prefix));
                let (Some(found), None) = (found.next(), found.next()) else {
                    bail!("{all:?}");
                };
                match version {
                    "before" => ensure!(found.description() == Some("of others"), "{found:?}"),
                    _ => is_full(&self.scene, found)?,
                }
            }
        }
        Ok(())
    }

    async fn prefixes(&self) -> Result<Vec<String>> {
        Ok(match self.kind {
            Kind::Rule => {
                let all = rules(&self.scene).await?.into_iter();
                all.filter_map(|rule| rule.ecr_repository_prefix).collect()
            }
            Kind::Template => {
                let all = templates(&self.scene).await?.into_iter();
                all.filter_map(|template| template.prefix).collect()
            }
        })
    }
}

impl Drill for Entry {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        if self.act != Act::Create {
            let prefix = self.prefix(round);
            self.scene.apply(&self.manifest(&prefix, "before")).await?;
            self.is_settled(&prefix, "before").await?;
        }
        Ok(self.scene.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let prefix = self.prefix(round);
        match self.act {
            Act::Create | Act::Update => scene.apply(&self.manifest(&prefix, "after")).await.map(drop),
            Act::Delete => delete(scene, self.kind.name(), &self.name(&prefix)).await,
        }
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        let prefix = self.prefix(round);
        if self.act != Act::Delete {
            return self.is_settled(&prefix, "after").await;
        }
        gone(scene, self.kind.name(), &self.name(&prefix)).await?;
        let left = self.prefixes().await?;
        ensure!(left == ["first"], "{left:?}");
        Ok(())
    }
}
