//! The bed with repositories of images, nodes for pods, and the queue of events.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bed::{Queue, Workloads};

use super::super::deployments;
use super::super::objects::{self as repositories, Watch};
use super::super::stage::{ACCOUNT, NAMESPACE, REGION, Stage};
use super::super::usage::Usage;
use super::objects::{self, Pair};
use super::view::{Images, Standing, View};

/// How many repositories there are, each with an image of version 1.0.0.
pub(super) const REPOSITORIES: u32 = 100;

/// How long one step of what is measured may take.
pub(super) const LIMIT: Duration = Duration::from_mins(2);

/// How long a message stays hidden that was received and not deleted.
const HIDDEN: Duration = Duration::from_mins(1);

pub(super) struct World {
    pub(super) deployments: View<Images>,
    pub(super) promotions: View<Standing>,
    pub(super) queue: Queue,
    pub(super) workloads: Workloads,
    /// The digest of the newest version of each repository.
    newest: Mutex<BTreeMap<u32, String>>,
    /// What is added to each answer of AWS.
    pub(super) rtt: Duration,
    pub(super) stage: Stage,
}

impl World {
    pub(super) async fn new(stage: Stage, rtt: Duration) -> Result<Self> {
        let workloads = stage.cluster.workloads(2).await?;
        let queue = stage.aws.event_queue(ACCOUNT, REGION, HIDDEN).await?;
        let mut ready = Watch::start(&stage.client).await?;
        let all = usize::try_from(REPOSITORIES)?;
        repositories::apply(&stage.client, REPOSITORIES, &repositories::usual_spec()).await?;
        ready
            .until(LIMIT, "all Repositories to be Ready", |seen| seen.ready() == all)
            .await?;
        let apps = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments");
        let ours = format!("/apis/ecr-operator.dev/v1alpha1/namespaces/{NAMESPACE}/imagepromotions");
        let world = Self {
            deployments: View::follow(&stage.client, &apps).await?,
            promotions: View::follow(&stage.client, &ours).await?,
            queue,
            workloads,
            newest: Mutex::default(),
            rtt,
            stage,
        };
        repositories::for_each(0..REPOSITORIES, async |number| {
            world.push(number, "1.0.0").await.map(drop)
        })
        .await?;
        Ok(world)
    }

    /// Pushes an image of its own content, which is the newest version from then on, and gives its digest.
    pub(super) async fn push(&self, repository: u32, version: &str) -> Result<String> {
        let digest = self
            .push_content(repository, version, &format!("{repository} {version}"))
            .await?;
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.insert(repository, digest.clone());
        Ok(digest)
    }

    pub(super) async fn push_content(&self, repository: u32, tag: &str, content: &str) -> Result<String> {
        self.stage.push(repository, tag, content).await
    }

    /// As the newest version stands in Deployments.
    pub(super) fn newest(&self, repository: u32) -> Result<String> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.get(&repository).cloned().context("the repository is empty")
    }

    /// Creates Deployments of the newest version and, once their pods are there, their promotions; waits until these have
    /// found that nothing is to be done.
    pub(super) async fn apply(&self, pairs: &[Pair]) -> Result<()> {
        let mut all = Vec::with_capacity(pairs.len());
        for pair in pairs {
            let image = repositories::reference(pair.repository, &self.newest(pair.repository)?);
            all.push(pair.deployment(&image));
        }
        deployments::apply(&self.stage.client, &all).await?;
        for pair in pairs {
            let available = |images: &Images| images.are_available().then_some(());
            self.deployments
                .until(LIMIT, &pair.name, "available pods", available)
                .await?;
        }
        objects::apply_promotions(&self.stage.client, pairs).await?;
        self.rest(pairs).await
    }

    /// Waits until each of them is at the newest version and nothing is under way.
    async fn rest(&self, pairs: &[Pair]) -> Result<()> {
        for pair in pairs {
            let newest = self.newest(pair.repository)?;
            self.rests_on(&pair.name, &newest).await?;
        }
        Ok(())
    }

    pub(super) async fn rests_on(&self, promotion: &str, digest: &str) -> Result<()> {
        let what = format!("{digest} as current and nothing under way");
        self.promotions
            .until(LIMIT, promotion, &what, |standing| {
                standing.rests_on(digest).then_some(())
            })
            .await
    }

    pub(super) async fn delete(&self, pairs: &[Pair]) -> Result<()> {
        objects::delete(&self.stage.client, pairs).await
    }

    /// Turns events on or off.
    pub(super) async fn events(&self, on: bool) -> Result<()> {
        self.stage.listen(on.then_some(self.queue.url.as_str())).await
    }

    pub(super) async fn end(self) -> Result<Usage> {
        self.stage.end().await
    }
}
