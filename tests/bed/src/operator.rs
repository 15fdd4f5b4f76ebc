//! The operator as a process beside the cluster, with the rights that its chart gives it and no others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::task::JoinHandle;

use crate::aws::{Aws, Principal};
use crate::bed::Bed;
use crate::cluster::{Cluster, Gateway, NAMESPACE, SERVICE_ACCOUNT, gateway_kubeconfig};
use bed_programs::{Process, Signal};

/// How long the operator may take to be ready.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// How long it may take to end when it is asked to, as kubelet gives it by default.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How often it is looked whether an operator has failed.
const KEEP_INTERVAL: Duration = Duration::from_millis(100);

/// What an operator is started with.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The program.
    pub binary: PathBuf,
    /// Its `--owner-id`.
    pub owner_id: String,
    /// Whose AWS credentials it has, beyond the roles it assumes.
    pub principal: Principal,
    /// Its `AWS_REGION`.
    pub region: String,
    /// More environment, over what the bed sets.
    pub env: BTreeMap<String, String>,
    /// The way to its cluster; directly if there is none.
    pub gateway: Option<Gateway>,
    /// More arguments, after `run --owner-id … --listen …`.
    pub args: Vec<String>,
}

/// A running operator. Dropped, it is killed.
///
/// One that ends with an error, as an operator does that lost its lead, is started again, as kubelet would. Kubelet also
/// starts one again that ended well; here that was asked for by the test. With its cluster it ends for good.
#[derive(Debug)]
pub struct Operator {
    running: Arc<Running>,
    keeping: JoinHandle<()>,
    http: reqwest::Client,
    base: String,
}

/// The process and what starts it again.
#[derive(Debug)]
pub(crate) struct Running {
    bed: Bed,
    name: String,
    command: Command,
    state: Mutex<State>,
    /// Only kept to serve.
    _gateway: Option<Gateway>,
}

#[derive(Debug)]
struct State {
    process: Arc<Process>,
    /// It was killed or stopped on purpose.
    down: bool,
    /// Its cluster is not there for it any more.
    ended: bool,
    restarts: u32,
}

impl Operator {
    /// Starts the operator as the `ServiceAccount` of the installed chart, and waits until its `/readyz` says 200.
    ///
    /// Several may run at once on one cluster. `name` is unique in the bed and names the log, and stands for the pod's.
    pub async fn start(name: &str, cluster: &Cluster, aws: &Aws, options: OperatorOptions) -> Result<Self> {
        let bed = cluster.bed().clone();
        let listen = format!("127.0.0.1:{}", bed.free_port()?);
        let kubeconfig = match &options.gateway {
            None => cluster.service_account_kubeconfig(NAMESPACE, SERVICE_ACCOUNT).await?,
            Some(gateway) => {
                let path = bed.directory().join(format!("{name}-gateway.kubeconfig"));
                std::fs::write(&path, gateway_kubeconfig(gateway.url(), NAMESPACE))?;
                path
            }
        };

        let mut command = Command::new(options.binary);
        command
            .args(["run", "--owner-id", &options.owner_id, "--listen", &listen])
            .args(options.args);
        command
            .env("KUBECONFIG", kubeconfig)
            .env("AWS_REGION", options.region)
            .env("AWS_ENDPOINT_URL", aws.endpoint());
        // Without it, missing credentials are looked for at an address that does not answer, which takes seconds.
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        // As the chart does; what is started again under this name need not wait for its own Lease to run out.
        command.env("POD_NAME", name);
        command.envs(options.principal.environment()).envs(options.env);

        let state = Mutex::new(State {
            process: Arc::new(bed.spawn(name, &command)?),
            down: false,
            ended: false,
            restarts: 0,
        });
        let running = Arc::new(Running {
            bed,
            name: name.to_owned(),
            command,
            state,
            _gateway: options.gateway,
        });
        let ended = Arc::downgrade(&running);
        cluster.ends(move || {
            if let Some(running) = ended.upgrade() {
                running.end();
            }
        });
        let operator = Self {
            keeping: tokio::spawn(keep(Arc::clone(&running))),
            running,
            http: crate::http_client()?,
            base: format!("http://{listen}"),
        };
        operator.wait_ready().await?;
        Ok(operator)
    }

    /// The operator as it runs now; each start makes it another one. Its log is that of all its starts.
    #[must_use]
    pub fn process(&self) -> Arc<Process> {
        Arc::clone(&self.running.lock().process)
    }

    /// How often it ended with an error and was started again.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.running.lock().restarts
    }

    /// Asks it to end (`SIGTERM`) and waits until it has. It stays down until [`restart`](Self::restart).
    pub async fn stop(&self) -> Result<ExitStatus> {
        let process = self.running.take_down();
        process.signal(Signal::TERM)?;
        process.wait_exit(STOP_LIMIT).await
    }

    /// Kills it (`SIGKILL`): it can finish nothing. It stays down until [`restart`](Self::restart).
    pub fn kill(&self) {
        self.running.take_down().kill();
    }

    /// Starts it again with the same settings, killing it if it runs, and waits until it is ready.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        self.running.spawn(&mut self.running.lock())?;
        self.wait_ready().await
    }

    /// `/metrics`, in OpenMetrics text.
    pub async fn metrics(&self) -> Result<String> {
        let (status, text) = self.get("/metrics").await?;
        if status != 200 {
            bail!("/metrics answered {status}: {text}");
        }
        Ok(text)
    }

    /// What a path of its own server answers: status and body.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.http.get(format!("{}{path}", self.base)).send().await;
        let answer = answer.with_context(|| format!("the operator's {path}"))?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    async fn wait_ready(&self) -> Result<()> {
        let look = async || match self.get("/readyz").await? {
            (200, _) => Ok(()),
            (status, text) => Err(anyhow!("/readyz answers {status}: {text}")),
        };
        self.process().until_ready(READY_LIMIT, look).await
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is not started again from now on; gives the process that is still to be ended.
    fn take_down(&self) -> Arc<Process> {
        let mut state = self.lock();
        state.down = true;
        Arc::clone(&state.process)
    }

    /// Ends it for good: its cluster is not there for it any more.
    pub(crate) fn end(&self) {
        self.take_down().kill();
        self.lock().ended = true;
    }

    fn spawn(&self, state: &mut State) -> Result<()> {
        state.process = Arc::new(self.bed.spawn(&self.name, &self.command)?);
        state.down = false;
        Ok(())
    }
}

/// Starts it again whenever it has failed, until there is no cluster for it any more.
async fn keep(running: Arc<Running>) {
    loop {
        tokio::time::sleep(KEEP_INTERVAL).await;
        let mut state = running.lock();
        if state.ended {
            return;
        }
        let failed = state.process.exit_status().is_some_and(|status| !status.success());
        if failed && !state.down && running.spawn(&mut state).is_ok() {
            state.restarts += 1;
        }
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.keeping.abort();
        self.kill();
    }
}

#[cfg(test)]
#[path = "operator_tests.rs"]
mod tests;
