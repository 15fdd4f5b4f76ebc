//! Killed at any call or write, and with any answer lost, a replica is made once and given up as asked.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::{told, with};
use crate::{
    drill::{Drill, Theatre},
    support::{Scene, run},
};

/// The scene whose object it is, the one of the replica, and the one whose calls count.
struct Pair {
    main: Scene,
    far: Scene,
    counts: Scene,
}

impl Pair {
    /// `far`: the calls to the replica's registry count.
    async fn open(theatre: &Theatre, name: &str, far: bool) -> Result<Self> {
        let main = theatre.scene(name).await?;
        let other = theatre.scene(&format!("{name}-far")).await?;
        let counts = if far { other.clone() } else { main.clone() };
        Ok(Self {
            main,
            far: other,
            counts,
        })
    }

    fn repository(&self, round: usize) -> String {
        format!("{}/{}", self.main.name, name(round))
    }

    /// Both registries have these repositories of the scene, the claim, and no others.
    async fn have(&self, mut wanted: Vec<String>) -> Result<()> {
        wanted.push("ecr-operator/registry".to_owned());
        wanted.sort();
        for at in [&self.main, &self.far] {
            let mut found = at.repositories().await?;
            found.sort();
            ensure!(found == wanted, "{found:?} instead of {wanted:?} in {}", at.name);
        }
        Ok(())
    }

    fn spec(&self) -> Value {
        let spec = json!({ "scanOnPush": true, "tags": { "team": "a" }, "deletionPolicy": "DeleteIfEmpty" });
        with(&[&self.far.name], spec)
    }
}

fn name(round: usize) -> String {
    format!("web-{round}")
}

struct Create(Pair);

impl Drill for Create {
    async fn prepare(&self, _: &Theatre, _: usize) -> Result<Scene> {
        Ok(self.0.counts.clone())
    }

    async fn act(&self, _: &Scene, round: usize) -> Result<()> {
        let main = &self.0.main;
        main.apply(&main.repository(&name(round), self.0.spec()))
            .await
            .map(drop)
    }

    async fn settled(&self, _: &Scene, round: usize) -> Result<()> {
        let (main, far) = (&self.0.main, &self.0.far);
        let object = main.reason("repository", &name(round), "Settled").await?;
        ensure!(told(&object, &far.name)?["ready"] == true, "{}", object["status"]);
        for at in [main, far] {
            let live = at.live(&self.0.repository(round)).await?;
            ensure!(
                live.image_scanning_configuration()
                    .is_some_and(aws_sdk_ecr::types::ImageScanningConfiguration::scan_on_push)
            );
            let tags = at.tags(&self.0.repository(round)).await?;
            ensure!(tags.len() == 2 && tags["team"] == "a", "{tags:?}");
        }
        self.0
            .have((0..=round).map(|round| self.0.repository(round)).collect())
            .await
    }
}

struct Delete(Pair);

impl Drill for Delete {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        for at in [&self.0.main, &self.0.far] {
            at.expect_deletion(&self.0.repository(round));
        }
        self.0.main.settled(&name(round), self.0.spec()).await?;
        Ok(self.0.counts.clone())
    }

    async fn act(&self, _: &Scene, round: usize) -> Result<()> {
        self.0.main.delete(&name(round)).await
    }

    async fn settled(&self, _: &Scene, round: usize) -> Result<()> {
        self.0.main.gone(&name(round)).await?;
        self.0.have(Vec::new()).await
    }
}

/// The reference is taken out: the repository stays, whatever the object says of deletions.
struct Release(Pair);

impl Drill for Release {
    async fn prepare(&self, _: &Theatre, round: usize) -> Result<Scene> {
        self.0.main.settled(&name(round), self.0.spec()).await?;
        Ok(self.0.counts.clone())
    }

    async fn act(&self, _: &Scene, round: usize) -> Result<()> {
        let main = &self.0.main;
        let mut spec = self.0.spec();
        spec["replicaRegistryRefs"] = json!([]);
        main.apply(&main.repository(&name(round), spec)).await.map(drop)
    }

    async fn settled(&self, _: &Scene, round: usize) -> Result<()> {
        let (main, far) = (&self.0.main, &self.0.far);
        let object = main.reason("repository", &name(round), "Settled").await?;
        let replicas = object["status"]["replicas"].as_array();
        ensure!(replicas.is_none_or(Vec::is_empty), "{}", object["status"]);
        let tags = far.tags(&self.0.repository(round)).await?;
        ensure!(tags.len() == 1 && tags["team"] == "a", "{tags:?}");
        let tags = main.tags(&self.0.repository(round)).await?;
        ensure!(tags.len() == 2, "{tags:?}");
        self.0
            .have((0..=round).map(|round| self.0.repository(round)).collect())
            .await
    }
}

#[test]
fn killed_at_any_call_for_a_replica_the_operator_finishes_later() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "repls-kills").await?;
        for (far, name) in [(true, "repls-kill"), (false, "repls-killm")] {
            let create = Create(Pair::open(&theatre, &format!("{name}-c"), far).await?);
            theatre.killed_at_every_call(&create).await?;
            let delete = Delete(Pair::open(&theatre, &format!("{name}-d"), far).await?);
            theatre.killed_at_every_call(&delete).await?;
        }
        let release = Release(Pair::open(&theatre, "repls-kill-r", true).await?);
        theatre.killed_at_every_call(&release).await
    })
}

#[test]
fn killed_after_any_write_to_the_cluster_no_replica_is_forgotten() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "repls-writes").await?;
        let create = Create(Pair::open(&theatre, "repls-write-c", true).await?);
        theatre.killed_at_every_write(&create).await?;
        let delete = Delete(Pair::open(&theatre, "repls-write-d", true).await?);
        theatre.killed_at_every_write(&delete).await?;
        let release = Release(Pair::open(&theatre, "repls-write-r", true).await?);
        theatre.killed_at_every_write(&release).await
    })
}

#[test]
fn with_any_answer_lost_a_replica_is_made_and_given_up_once() -> Result<()> {
    run(async |stage| {
        let theatre = Theatre::open(stage, "repls-losses").await?;
        let create = Create(Pair::open(&theatre, "repls-lose-c", true).await?);
        let delete = Delete(Pair::open(&theatre, "repls-lose-d", true).await?);
        let release = Release(Pair::open(&theatre, "repls-lose-r", true).await?);
        tokio::try_join!(
            theatre.answers_lost(&create),
            theatre.answers_lost(&delete),
            theatre.answers_lost(&release),
        )
        .map(drop)
    })
}
