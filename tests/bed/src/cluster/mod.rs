//! A real control plane: one etcd, and as many clusters on it as are asked for.
//!
//! A cluster here is one kube-apiserver with its own prefix in etcd, and if wanted a kube-controller-manager: clusters do
//! not see each other's objects. A cluster costs a few seconds to start and some 300 MB.

mod apiserver;
mod argo_cd;
mod audit;
mod client;
mod credentials;
mod etcd;
mod gateway;
mod install;
mod objects;
mod pool;
mod state;
mod tools;
mod workloads;

use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use http::Request;

use self::apiserver::ApiServer;
use self::credentials::Credentials;
use self::etcd::Etcd;
use self::objects::Reader;
use self::state::Baseline;
use crate::bed::Bed;
use bed_programs::ControlPlanePrograms;
use bed_programs::{Process, Signal};

pub use argo_cd::{ARGO_CD_NAMESPACE, Application, ApplicationStatus, ArgoCd, ArgoCdRepository};
pub use audit::Writes;
pub(crate) use gateway::kubeconfig as gateway_kubeconfig;
pub use gateway::{Gateway, Write};
pub use install::{NAMESPACE, SERVICE_ACCOUNT};
pub use pool::ClusterPool;
pub use workloads::{Behaviour, Workloads};

/// The end of something that acts on a cluster.
struct Ending(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Ending {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ending")
    }
}

/// How long a part of the control plane may take to become ready. Three seconds are usual; a busy machine takes longer.
const READY_LIMIT: Duration = Duration::from_secs(90);

/// One etcd, with the keys and certificates that the apiservers on it share.
#[derive(Debug)]
pub struct ControlPlane {
    bed: Bed,
    programs: ControlPlanePrograms,
    credentials: Credentials,
    etcd: Process,
    etcd_endpoint: String,
}

impl ControlPlane {
    /// Builds the programs if need be and starts etcd.
    pub async fn start(bed: &Bed) -> Result<Self> {
        let programs = bed_programs::control_plane().await?;
        let credentials = Credentials::create(&bed.directory().join("credentials"))?;
        let client_url = format!("http://127.0.0.1:{}", bed.free_port()?);
        let peer_url = format!("http://127.0.0.1:{}", bed.free_port()?);
        let mut command = Command::new(&programs.etcd);
        command
            .arg("--data-dir")
            .arg(bed.directory().join("etcd"))
            .args([
                "--listen-client-urls",
                &client_url,
                "--advertise-client-urls",
                &client_url,
            ])
            .args([
                "--listen-peer-urls",
                &peer_url,
                "--initial-advertise-peer-urls",
                &peer_url,
            ])
            .args(["--initial-cluster", &format!("default={peer_url}")])
            // What a crash of the machine would lose is of no interest here.
            .args(["--unsafe-no-fsync", "--log-level", "warn"])
            // All that is ever written stays: a cluster is restored from it.
            .arg("--quota-backend-bytes=8589934592");
        let etcd = bed.spawn("etcd", &command)?;
        let http = crate::http_client()?;
        etcd.until_ready(READY_LIMIT, async || {
            let health = http.get(format!("{client_url}/health")).send().await?;
            Ok(health.error_for_status().map(|_| ())?)
        })
        .await?;
        Ok(Self {
            bed: bed.clone(),
            programs,
            credentials,
            etcd,
            etcd_endpoint: client_url,
        })
    }

    /// The etcd below all clusters.
    #[must_use]
    pub fn etcd(&self) -> &Process {
        &self.etcd
    }

    /// Starts a cluster with a kube-controller-manager. `name` is unique in this bed and becomes part of file names.
    pub async fn cluster(&self, name: &str) -> Result<Cluster> {
        let cluster = self.bare_cluster(name).await?;
        let controller_manager = Some(cluster.start_controller_manager()?);
        Ok(Cluster {
            controller_manager,
            ..cluster
        })
    }

    /// Starts a cluster of an apiserver alone: no garbage collection, no default `ServiceAccounts`, namespaces stay
    /// `Terminating`. Faster and smaller; enough for admission and for what only reads and writes objects.
    pub async fn bare_cluster(&self, name: &str) -> Result<Cluster> {
        let settings = ApiServer::prepare(self, name)?;
        let process = Arc::new(settings.start(&self.bed)?);
        let cluster = Cluster {
            name: name.to_owned(),
            bed: self.bed.clone(),
            programs: self.programs.clone(),
            credentials: self.credentials.clone(),
            settings,
            process: Mutex::new(process),
            controller_manager: None,
            reader: Reader::default(),
            etcd: Etcd::new(&self.etcd_endpoint)?,
            baseline: tokio::sync::Mutex::default(),
            clients: Mutex::default(),
            was_struck: AtomicBool::default(),
            counted_from: AtomicU64::default(),
        };
        cluster.wait_ready().await?;
        Ok(cluster)
    }
}

/// One apiserver with its objects.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    bed: Bed,
    programs: ControlPlanePrograms,
    credentials: Credentials,
    settings: ApiServer,
    process: Mutex<Arc<Process>>,
    controller_manager: Option<Process>,
    reader: Reader,
    etcd: Etcd,
    /// What it is restored to, if it is one of a pool.
    baseline: tokio::sync::Mutex<Option<Baseline>>,
    /// What acts on it: operators, and what runs within this program.
    clients: Mutex<Vec<Ending>>,
    /// It was stopped or frozen: what it caches may not be what it was.
    was_struck: AtomicBool,
    /// Where in the audit log its present use began.
    counted_from: AtomicU64,
}

impl Cluster {
    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bed it runs in.
    #[must_use]
    pub fn bed(&self) -> &Bed {
        &self.bed
    }

    /// A kubeconfig for an administrator (group `system:masters`).
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.settings.admin_kubeconfig.clone()
    }

    /// The apiserver as it runs now; [`start_apiserver`](Self::start_apiserver) makes it another one.
    #[must_use]
    pub fn apiserver(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends it for good, with all that it keeps running and the operators on it.
    pub fn stop(&self) {
        self.end_clients();
        self.stop_apiserver();
        if let Some(controller_manager) = &self.controller_manager {
            controller_manager.kill();
        }
    }

    /// Ends something that acts on it, when it is ended itself or given to another test.
    pub(crate) fn ends(&self, client: impl FnOnce() + Send + 'static) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.push(Ending(Box::new(client)));
    }

    /// Ends what acts on it, for good.
    fn end_clients(&self) {
        let clients = std::mem::take(&mut *self.clients.lock().unwrap_or_else(PoisonError::into_inner));
        for Ending(end) in clients {
            end();
        }
    }

    /// What each of its keys in etcd begins with.
    fn etcd_prefix(&self) -> String {
        format!("/{}", self.name)
    }

    /// Kills the apiserver, as a node that is lost would. Its clients see refused connections until
    /// [`start_apiserver`](Self::start_apiserver).
    pub fn stop_apiserver(&self) {
        self.was_struck.store(true, Ordering::Relaxed);
        self.apiserver().kill();
    }

    /// Starts the apiserver again, at the same address with the same objects, and waits until it is ready.
    pub async fn start_apiserver(&self) -> Result<()> {
        self.stop_apiserver();
        let started = Arc::new(self.settings.start(&self.bed)?);
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = started;
        self.wait_ready().await
    }

    /// Freezes the apiserver (`SIGSTOP`): connections stay open and nothing answers, until
    /// [`thaw_apiserver`](Self::thaw_apiserver).
    pub fn freeze_apiserver(&self) -> Result<()> {
        self.was_struck.store(true, Ordering::Relaxed);
        self.apiserver().signal(Signal::STOP)
    }

    /// Lets a frozen apiserver go on.
    pub fn thaw_apiserver(&self) -> Result<()> {
        self.apiserver().signal(Signal::CONT)
    }

    async fn wait_ready(&self) -> Result<()> {
        let client = self.client().await?;
        let look = async || {
            client.request_text(Request::get("/readyz").body(Vec::new())?).await?;
            Ok(())
        };
        self.apiserver().until_ready(READY_LIMIT, look).await
    }

    fn start_controller_manager(&self) -> Result<Process> {
        let mut command = Command::new(&self.programs.kube_controller_manager);
        command
            .arg("--kubeconfig")
            .arg(self.kubeconfig())
            .arg("--service-account-private-key-file")
            .arg(&self.credentials.service_account_key)
            .arg("--root-ca-file")
            .arg(&self.credentials.ca_certificate);
        self.bed
            .spawn(&format!("{}-kube-controller-manager", self.name), &command)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
