//! Argo CD beside a cluster: its repository server and its application controller as processes, and a Git repository that
//! they read by path.
//!
//! # Caveats
//! There is no API server and no user interface, and no credentials of repositories: applications are made as objects, by
//! [`ArgoCd::apply`]. Plain manifests and, by the bed's helm, charts are rendered; there is no kustomize. The cluster that
//! it manages is the one it runs for, as the in-cluster address does not lead anywhere.

mod application;
mod repository;

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use anyhow::Result;
use k8s_openapi::ByteString;
use kube::Api;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use self::repository::Repository;
use super::{Cluster, READY_LIMIT};
use bed_programs as wait;
use bed_programs::ArgoCdPrograms;
use bed_programs::Process;

pub use application::{Application, ApplicationStatus};
pub use repository::Repository as ArgoCdRepository;

/// Where Argo CD keeps its own objects, applications among them.
pub const ARGO_CD_NAMESPACE: &str = "argocd";

/// The `ServiceAccount` with which it applies, as an administrator of the cluster.
const SERVICE_ACCOUNT: &str = "argocd-application-controller";

/// How often applications are compared when nothing calls for it, in seconds. Argo CD's own value is two minutes.
const RESYNC: &str = "10";

/// Argo CD of one cluster. It ends when this value is dropped.
#[derive(Debug)]
pub struct ArgoCd {
    applications: Api<DynamicObject>,
    /// The cluster's address, by which an application names where it goes.
    server: String,
    repository: Repository,
    controller: Process,
    /// Only kept to run.
    _support: [Process; 2],
}

impl Cluster {
    /// Builds Argo CD if need be (about three minutes), starts it for this cluster and waits until it works. To be called
    /// once for a cluster.
    pub async fn argo_cd(&self) -> Result<ArgoCd> {
        let programs = bed_programs::argo_cd().await?;
        // Its processes go on until the bed ends; nobody else gets this cluster.
        self.was_struck.store(true, Ordering::Relaxed);
        let repository = Repository::create(&self.bed, &format!("{}-git", self.name)).await?;
        self.install_argo_cd(&programs).await?;
        let (redis, redis_address) = self.start_redis(&programs).await?;
        let (repo_server, repo_server_address) = self.start_repo_server(&programs, &redis_address).await?;
        let controller = self
            .start_application_controller(&programs, &redis_address, &repo_server_address)
            .await?;
        Ok(ArgoCd {
            applications: application::api(self.client().await?),
            server: self.settings.endpoint.clone(),
            repository,
            controller,
            _support: [redis, repo_server],
        })
    }

    /// The objects that an installation of Argo CD consists of, as far as the two programs ask for them.
    async fn install_argo_cd(&self, programs: &ArgoCdPrograms) -> Result<()> {
        for definition in ["application-crd.yaml", "appproject-crd.yaml"] {
            let file = programs.directory.join(definition);
            let file = file.to_string_lossy();
            // They are too large for the annotation that a client-side apply writes.
            self.kubectl(&["create", "--filename", &*file]).await?.checked()?;
        }
        let definitions = ["crd/applications.argoproj.io", "crd/appprojects.argoproj.io"];
        let established = ["wait", "--for=condition=Established", definitions[0], definitions[1]];
        self.kubectl(&established).await?.checked()?;

        let object = |kind: &str, name: &str| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": ARGO_CD_NAMESPACE } });
        self.create(&json!([
            { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": ARGO_CD_NAMESPACE } },
            object("ServiceAccount", SERVICE_ACCOUNT),
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
                "metadata": { "name": SERVICE_ACCOUNT },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
                "subjects": [{ "kind": "ServiceAccount", "name": SERVICE_ACCOUNT, "namespace": ARGO_CD_NAMESPACE }],
            },
        ]))
        .await?;
        let settings = programs.directory.join("argocd-cm.yaml");
        let settings = settings.to_string_lossy();
        self.kubectl(&["create", "--namespace", ARGO_CD_NAMESPACE, "--filename", &*settings])
            .await?
            .checked()?;

        let mut secret = object("Secret", "argocd-secret");
        secret["metadata"]["labels"] = json!({ "app.kubernetes.io/part-of": "argocd" });
        secret["stringData"] = json!({ "server.secretkey": "of no use here" });
        let mut redis = object("Secret", "argocd-redis");
        redis["stringData"] = json!({ "auth": "" });
        let mut cluster = object("Secret", "cluster");
        cluster["metadata"]["labels"] = json!({ "argocd.argoproj.io/secret-type": "cluster" });
        cluster["stringData"] = json!({
            "name": self.name,
            "server": self.settings.endpoint,
            "config": self.connection().await?.to_string(),
        });
        let mut project = object("AppProject", "default");
        project["apiVersion"] = "argoproj.io/v1alpha1".into();
        project["spec"] = json!({
            "sourceRepos": ["*"],
            "destinations": [{ "namespace": "*", "server": "*" }],
            "clusterResourceWhitelist": [{ "group": "*", "kind": "*" }],
        });
        self.create(&json!([secret, redis, cluster, project])).await
    }

    /// How Argo CD reaches the cluster, in the form of its cluster secrets.
    async fn connection(&self) -> Result<Value> {
        let authority = ByteString(fs::read(&self.credentials.ca_certificate)?);
        let token = self.service_account_token(ARGO_CD_NAMESPACE, SERVICE_ACCOUNT).await?;
        Ok(json!({ "bearerToken": token, "tlsClientConfig": { "caData": authority } }))
    }

    async fn create(&self, items: &Value) -> Result<()> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let create = ["create", "--filename", "-"];
        self.kubectl_with_input(&create, &list.to_string())
            .await?
            .checked()
            .map(drop)
    }

    async fn start_redis(&self, programs: &ArgoCdPrograms) -> Result<(Process, String)> {
        let address = format!("127.0.0.1:{}", self.bed.free_port()?);
        let mut command = Command::new(programs.directory.join("redis"));
        command.arg(&address);
        let process = self.bed.spawn(&format!("{}-redis", self.name), &command)?;
        process
            .until_ready(READY_LIMIT, async || {
                Ok(tokio::net::TcpStream::connect(&address).await.map(drop)?)
            })
            .await?;
        Ok((process, address))
    }

    async fn start_repo_server(&self, programs: &ArgoCdPrograms, redis: &str) -> Result<(Process, String)> {
        // Clones, sockets and caches lie in the system's directory otherwise, where two beds would share them.
        let directory = self.bed.directory().join(format!("{}-repo-server", self.name));
        fs::create_dir(&directory)?;
        // It runs this on every commit, and ignores what it says.
        let verify = directory.join("git-verify-wrapper.sh");
        fs::write(&verify, "#!/bin/sh\n")?;
        fs::set_permissions(&verify, Permissions::from_mode(0o755))?;
        // Charts are rendered by the helm that it finds.
        symlink(bed_programs::control_plane().await?.helm, directory.join("helm"))?;
        let (port, metrics) = (self.bed.free_port()?, self.bed.free_port()?);
        let mut command = Command::new(programs.directory.join("argocd-repo-server"));
        command
            .args(["--address=127.0.0.1", "--metrics-address=127.0.0.1"])
            .args([format!("--port={port}"), format!("--metrics-port={metrics}")])
            .args(["--redis", redis, "--disable-tls", "--client-ca-path="])
            .env("TMPDIR", &directory)
            .env("ARGOCD_ASK_PASS_SOCK", directory.join("ask-pass.sock"))
            .env("PATH", path_with(&directory)?)
            // No commit is signed here.
            .env("ARGOCD_GPG_ENABLED", "false");
        let process = self.bed.spawn(&format!("{}-argocd-repo-server", self.name), &command)?;
        until_healthy(&process, &format!("http://127.0.0.1:{metrics}/healthz?full=true")).await?;
        Ok((process, format!("127.0.0.1:{port}")))
    }

    async fn start_application_controller(
        &self,
        programs: &ArgoCdPrograms,
        redis: &str,
        repo_server: &str,
    ) -> Result<Process> {
        let kubeconfig = self
            .service_account_kubeconfig(ARGO_CD_NAMESPACE, SERVICE_ACCOUNT)
            .await?;
        let metrics = self.bed.free_port()?;
        let mut command = Command::new(programs.directory.join("argocd-application-controller"));
        command
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .args(["--namespace", ARGO_CD_NAMESPACE])
            .args([
                "--repo-server",
                repo_server,
                "--repo-server-plaintext",
                "--redis",
                redis,
            ])
            .args(["--app-resync", RESYNC, "--app-resync-jitter=0"])
            .arg(format!("--metrics-port={metrics}"));
        let name = format!("{}-argocd-application-controller", self.name);
        let process = self.bed.spawn(&name, &command)?;
        until_healthy(&process, &format!("http://127.0.0.1:{metrics}/healthz")).await?;
        Ok(process)
    }
}

impl ArgoCd {
    /// The Git repository that its applications are described in.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The application controller, for its log and its end.
    #[must_use]
    pub fn controller(&self) -> &Process {
        &self.controller
    }

    /// The user as which it is seen by the apiserver.
    #[must_use]
    pub fn user() -> String {
        format!("system:serviceaccount:{ARGO_CD_NAMESPACE}:{SERVICE_ACCOUNT}")
    }
}

/// The search path with `directory` before the others.
fn path_with(directory: &Path) -> Result<OsString> {
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&others));
    Ok(std::env::join_paths(all)?)
}

async fn until_healthy(process: &Process, url: &str) -> Result<()> {
    let http = crate::http_client()?;
    process
        .until_ready(READY_LIMIT, async || {
            let health = http.get(url).send().await?;
            Ok(health.error_for_status().map(drop)?)
        })
        .await
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
