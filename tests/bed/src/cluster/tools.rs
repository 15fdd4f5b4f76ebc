//! kubectl and helm against a cluster, as an administrator.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::Cluster;
use crate::bed::Output;

impl Cluster {
    /// Runs kubectl to its end. Its failure is not an error here: see [`Output::checked`].
    pub async fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        self.kubectl_with_input(arguments, "").await
    }

    /// Runs kubectl with something on its standard input, for `apply -f -`.
    pub async fn kubectl_with_input<S: AsRef<OsStr>>(&self, arguments: &[S], input: &str) -> Result<Output> {
        let mut command = Command::new(&self.programs.kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(arguments);
        // What it has learnt of one cluster's kinds must not be believed of another's at the same address.
        command.env("KUBECACHEDIR", self.kubectl_cache());
        self.bed.run(&command, input).await
    }

    fn kubectl_cache(&self) -> PathBuf {
        self.bed.directory().join(format!("{}-kubectl-cache", self.name))
    }

    /// kubectl learns the kinds of the cluster anew.
    pub(super) fn forget_kubectl_cache(&self) {
        // None is there if kubectl was never run.
        std::fs::remove_dir_all(self.kubectl_cache()).ok();
    }

    /// Runs helm to its end, with caches and settings of its own. Its failure is not an error here: see
    /// [`Output::checked`].
    pub async fn helm<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut command = Command::new(&self.programs.helm);
        command.args(arguments).env("KUBECONFIG", self.kubeconfig());
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, self.bed.directory().join("helm").join(variable));
        }
        self.bed.run(&command, "").await
    }
}
