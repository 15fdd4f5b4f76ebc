//! The operator as a process beside the cluster, with the rights that its chart gives it and no others.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::aws::{Aws, Principal};
use crate::bed::Bed;
use crate::cluster::{Cluster, NAMESPACE, SERVICE_ACCOUNT};
use crate::process::{Process, Signal};

/// How long the operator may take to be ready.
const READY_LIMIT: Duration = Duration::from_mins(1);

/// How long it may take to end when it is asked to, as kubelet gives it by default.
const STOP_LIMIT: Duration = Duration::from_secs(30);

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
    /// More arguments, after `run --owner-id … --listen …`.
    pub args: Vec<String>,
}

/// A running operator. Dropped, it is killed.
#[derive(Debug)]
pub struct Operator {
    bed: Bed,
    name: String,
    process: Mutex<Arc<Process>>,
    command: Command,
    http: reqwest::Client,
    base: String,
}

impl Operator {
    /// Starts the operator as the `ServiceAccount` of the installed chart, and waits until its `/readyz` says 200.
    ///
    /// Several may run at once on one cluster. `name` is unique in the bed and names the log.
    pub async fn start(name: &str, cluster: &Cluster, aws: &Aws, options: OperatorOptions) -> Result<Self> {
        let bed = cluster.bed().clone();
        let listen = format!("127.0.0.1:{}", bed.free_port()?);
        let kubeconfig = cluster.service_account_kubeconfig(NAMESPACE, SERVICE_ACCOUNT).await?;

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

        let process = Mutex::new(Arc::new(bed.spawn(name, &command)?));
        let (http, base) = (crate::http_client()?, format!("http://{listen}"));
        let operator = Self {
            bed,
            name: name.to_owned(),
            process,
            command,
            http,
            base,
        };
        operator.wait_ready().await?;
        Ok(operator)
    }

    /// The operator as it runs now; [`restart`](Self::restart) makes it another one. Its log is that of all its starts.
    #[must_use]
    pub fn process(&self) -> Arc<Process> {
        Arc::clone(&self.process.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks it to end (`SIGTERM`) and waits until it has.
    pub async fn stop(&self) -> Result<ExitStatus> {
        let process = self.process();
        process.signal(Signal::TERM)?;
        process.wait_exit(STOP_LIMIT).await
    }

    /// Kills it (`SIGKILL`): it can finish nothing.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Starts it again with the same settings, killing it if it runs, and waits until it is ready.
    pub async fn restart(&self) -> Result<()> {
        self.kill();
        let started = Arc::new(self.bed.spawn(&self.name, &self.command)?);
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = started;
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

#[cfg(test)]
#[path = "operator_tests.rs"]
mod tests;
