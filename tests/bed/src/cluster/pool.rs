//! Clusters that are handed on from one test to the next.
//!
//! A cluster takes seconds of processor time to start and to have the chart installed. A test that is done with one gives it
//! back: whatever the test left is taken away in etcd, and only a cluster that is seen to be as it was goes to another test.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use super::etcd::Etcd;
use super::state::{Baseline, Template};
use super::{Cluster, ControlPlane};

/// The clusters that nobody uses now, and what others are started from.
#[derive(Debug)]
pub struct ClusterPool {
    template: Template,
    idle: Mutex<Vec<&'static Cluster>>,
    started: AtomicUsize,
}

impl ClusterPool {
    /// A pool of clusters that are as this one is now.
    pub async fn like(cluster: &Cluster) -> Result<Self> {
        Ok(Self {
            template: Template::of(&cluster.etcd, &cluster.etcd_prefix()).await?,
            idle: Mutex::default(),
            started: AtomicUsize::default(),
        })
    }

    /// A cluster with a kube-controller-manager, or of an apiserver alone. See [`ControlPlane::cluster`] and
    /// [`ControlPlane::bare_cluster`].
    pub async fn take(&self, control_plane: &ControlPlane, with_controller_manager: bool) -> Result<&'static Cluster> {
        if let Some(cluster) = self.idle_one(with_controller_manager) {
            return Ok(cluster);
        }
        let name = format!("pool-{}", self.started.fetch_add(1, Ordering::Relaxed) + 1);
        let etcd = Etcd::new(&control_plane.etcd_endpoint)?;
        self.template.copy_to(&etcd, &format!("/{name}")).await?;
        let cluster = if with_controller_manager {
            control_plane.cluster(&name).await?
        } else {
            control_plane.bare_cluster(&name).await?
        };
        let baseline = Baseline::of(&etcd, &cluster.etcd_prefix()).await?;
        *cluster.baseline.lock().await = Some(baseline);
        // It is handed from thread to thread, and lives as long as the tests.
        Ok(Box::leak(Box::new(cluster)))
    }

    /// Takes a cluster back. One that was stopped or frozen meanwhile, or that does not become what it was, is ended.
    pub async fn give_back(&self, cluster: &'static Cluster) -> Result<()> {
        cluster.end_clients();
        let restored = cluster.restore().await;
        match restored {
            Ok(true) => self.idle().push(cluster),
            Ok(false) => cluster.stop(),
            Err(error) => {
                cluster.stop();
                return Err(error);
            }
        }
        Ok(())
    }

    fn idle_one(&self, with_controller_manager: bool) -> Option<&'static Cluster> {
        let mut idle = self.idle();
        let at = idle
            .iter()
            .position(|cluster| cluster.controller_manager.is_some() == with_controller_manager)?;
        Some(idle.swap_remove(at))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<&'static Cluster>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// Makes the cluster what it was when it was started. Whether it can be used again.
    async fn restore(&self) -> Result<bool> {
        let mut baseline = self.baseline.lock().await;
        let Some(baseline) = baseline.as_mut() else {
            return Ok(false);
        };
        if self.was_struck.load(Ordering::Relaxed) || !self.apiserver().is_running() {
            return Ok(false);
        }
        baseline.restore(&self.etcd).await?;
        self.reader.forget().await;
        self.forget_kubectl_cache();
        self.count_from_now()?;
        Ok(true)
    }
}
