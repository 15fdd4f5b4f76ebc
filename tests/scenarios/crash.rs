//! Whatever call is the last one that an operator lives to make, the next one ends its work; and an answer that is lost
//! is no reason to do a thing twice. Promises 1 to 3.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::{
    drill::{Drill, Theatre},
    support::{OWNER, Scene, run},
};

#[test]
fn killed_at_any_call_for_a_repository_the_operator_finishes_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "kills").await?;
        let scene = theatre.scene("kill-create").await?;
        theatre.killed_at_every_call(&Create(scene)).await?;
        let scene = theatre.scene("kill-update").await?;
        theatre.killed_at_every_call(&Update(scene)).await?;
        let scene = theatre.scene("kill-delete").await?;
        theatre.killed_at_every_call(&Delete(scene)).await?;
        theatre.killed_at_every_call(&Claim("kill-claim")).await
    })
}

#[test]
fn killed_after_any_write_to_the_cluster_the_operator_finishes_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "writes").await?;
        let scene = theatre.scene("write-create").await?;
        theatre.killed_at_every_write(&Create(scene)).await?;
        let scene = theatre.scene("write-update").await?;
        theatre.killed_at_every_write(&Update(scene)).await?;
        let scene = theatre.scene("write-delete").await?;
        theatre.killed_at_every_write(&Delete(scene)).await?;
        theatre.killed_at_every_write(&Claim("write-claim")).await
    })
}

#[test]
fn with_any_answer_to_a_write_to_the_cluster_lost_the_work_is_done_once() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "writes-lost").await?;
        let scene = theatre.scene("unanswered-create").await?;
        theatre.write_answers_lost(&Create(scene)).await?;
        let scene = theatre.scene("unanswered-update").await?;
        theatre.write_answers_lost(&Update(scene)).await?;
        let scene = theatre.scene("unanswered-delete").await?;
        theatre.write_answers_lost(&Delete(scene)).await?;
        theatre.write_answers_lost(&Claim("unanswered-claim")).await
    })
}

#[test]
fn with_any_answer_lost_the_work_is_done_once() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "losses").await?;
        // At once: most of the time is spent in the pauses between attempts.
        let (create, update, delete, release) = tokio::try_join!(
            theatre.scene("lose-create"),
            theatre.scene("lose-update"),
            theatre.scene("lose-delete"),
            theatre.scene("lose-release"),
        )?;
        let (create, update, delete, release) = (Create(create), Update(update), Delete(delete), Release(release));
        tokio::try_join!(
            theatre.answers_lost(&create),
            theatre.answers_lost(&update),
            theatre.answers_lost(&delete),
            theatre.answers_lost(&release),
            theatre.answers_lost(&Claim("lose-claim")),
        )
        .map(drop)
    })
}

/// A Repository with everything set.
struct Create(Scene);

impl Drill for Create {
    async fn prepare(&self, _: &Theatre, _: usize) -> Result<Scene> {
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let manifest = scene.repository(&name(round), full(&scene.account));
        scene.apply(&manifest).await.map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        let name = name(round);
        scene.reason("repository", &name, "Settled").await?;
        is_as(scene, &name, &full(&scene.account)).await?;
        nothing_but(scene, (0..=round).map(self::name)).await
    }
}

/// All that can change, at once.
struct Update(Scene);

impl Update {
    fn before(scene: &Scene) -> Value {
        json!({
            "imageTagMutability": "MUTABLE",
            "scanOnPush": false,
            "policy": { "access": { "push": { "principals": [scene.account] } } },
            "tags": { "team": "z", "old": "1" },
            "encryption": { "encryptionType": "KMS" },
        })
    }
}

impl Drill for Update {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        let name = name(round);
        self.0.settled(&name, Self::before(&self.0)).await?;
        is_as(&self.0, &name, &Self::before(&self.0)).await?;
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        let manifest = scene.repository(&name(round), full(&scene.account));
        scene.apply(&manifest).await.map(drop)
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        Create(scene.clone()).settled(scene, round).await
    }
}

/// A Repository that stays when its object goes.
struct Release(Scene);

impl Drill for Release {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        self.0.settled(&name(round), json!({})).await?;
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        scene.delete(&name(round)).await
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        scene.gone(&name(round)).await?;
        let tags = scene.tags(&format!("{}/{}", scene.name, name(round))).await?;
        ensure!(!tags.contains_key("ecr-operator.dev/owner"), "{tags:?}");
        Ok(())
    }
}

/// A Repository whose object says that it goes too.
struct Delete(Scene);

impl Drill for Delete {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        let name = name(round);
        self.0.expect_deletion(&format!("{}/{name}", self.0.name));
        self.0
            .settled(&name, json!({ "deletionPolicy": "DeleteIfEmpty" }))
            .await?;
        Ok(self.0.clone())
    }

    async fn act(&self, scene: &Scene, round: usize) -> Result<()> {
        scene.delete(&name(round)).await
    }

    async fn settled(&self, scene: &Scene, round: usize) -> Result<()> {
        scene.gone(&name(round)).await?;
        nothing_but(scene, std::iter::empty()).await
    }
}

/// A Registry's claim; each round has a registry of its own.
struct Claim(&'static str);

impl Drill for Claim {
    async fn prepare(&self, theatre: &Theatre, round: usize) -> Result<Scene> {
        let name = format!("{}-{round}", self.0);
        theatre.stage.scene_on(theatre.cluster, &name).await
    }

    async fn act(&self, scene: &Scene, _: usize) -> Result<()> {
        scene.apply_registry(json!({})).await.map(drop)
    }

    async fn settled(&self, scene: &Scene, _: usize) -> Result<()> {
        let registry = scene.reason("registry", &scene.name, "Settled").await?;
        let tags = scene.tags("ecr-operator/registry").await?;
        ensure!(tags["ecr-operator.dev/writer"] == OWNER, "{tags:?}");
        let claim = &registry["status"]["claim"];
        ensure!(
            tags.values().any(|value| claim["cluster"] == value.as_str()),
            "{tags:?} {claim}"
        );
        nothing_but(scene, std::iter::empty()).await
    }
}

fn name(round: usize) -> String {
    format!("web-{round}")
}

fn full(account: &str) -> Value {
    json!({
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "dev-*" }],
        "scanOnPush": true,
        "encryption": { "encryptionType": "KMS" },
        "policy": { "access": { "pull": { "principals": [account] } } },
        "tags": { "team": "a", "cost": "2" },
    })
}

/// ECR has the repository with each setting of the spec and no more, and it is the one that the object reports.
async fn is_as(scene: &Scene, name: &str, spec: &Value) -> Result<()> {
    let repository = format!("{}/{name}", scene.name);
    let live = scene.live(&repository).await?;
    let status = scene.get("repository", name).await?["status"].take();
    ensure!(status["arn"] == live.repository_arn().unwrap_or_default(), "{status}");
    ensure!(status["uri"] == live.repository_uri().unwrap_or_default(), "{status}");
    let mutability = live.image_tag_mutability().context("no mutability")?;
    ensure!(spec["imageTagMutability"] == mutability.as_str(), "{live:?}");
    let filters: Vec<_> = live
        .image_tag_mutability_exclusion_filters()
        .iter()
        .map(|filter| json!({ "filterType": filter.filter_type().as_str(), "filter": filter.filter() }))
        .collect();
    let wanted = spec["imageTagMutabilityExclusionFilters"].as_array().cloned();
    ensure!(filters == wanted.unwrap_or_default(), "{live:?}");
    let scanning = live.image_scanning_configuration().context("no scanning")?;
    ensure!(spec["scanOnPush"] == scanning.scan_on_push(), "{live:?}");
    let encryption = live.encryption_configuration().context("no encryption")?;
    ensure!(
        spec["encryption"]["encryptionType"] == encryption.encryption_type().as_str(),
        "{live:?}"
    );
    let mut tags: BTreeMap<String, String> = serde_json::from_value(spec["tags"].clone())?;
    let owner = format!("{OWNER}/{repository}");
    tags.insert("ecr-operator.dev/owner".to_owned(), owner);
    let found = scene.tags(&repository).await?;
    ensure!(found == tags, "{found:?}");
    let ecr = scene.ecr().await?;
    let answer = ecr.get_repository_policy().repository_name(&repository).send().await?;
    let policy: Value = serde_json::from_str(answer.policy_text().unwrap_or_default())?;
    let statements = policy["Statement"].as_array().context("no statements")?;
    let sid = if spec["policy"]["access"].get("pull").is_some() {
        "EcrOperatorPull"
    } else {
        "EcrOperatorPush"
    };
    ensure!(statements.len() == 1 && statements[0]["Sid"] == sid, "{policy}");
    Ok(())
}

/// ECR has these repositories of the scene and the claim, and no others.
async fn nothing_but(scene: &Scene, names: impl Iterator<Item = String>) -> Result<()> {
    let mut wanted: Vec<String> = names.map(|name| format!("{}/{name}", scene.name)).collect();
    wanted.push("ecr-operator/registry".to_owned());
    wanted.sort();
    let mut found = scene.repositories().await?;
    found.sort();
    ensure!(found == wanted, "{found:?} instead of {wanted:?}");
    Ok(())
}
