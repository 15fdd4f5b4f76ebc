//! One kube-apiserver: its files, its flags, its start.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use super::ControlPlane;
use super::audit;
use super::credentials::{Credentials, kubeconfig};
use crate::bed::Bed;
use bed_programs::ControlPlanePrograms;
use bed_programs::Process;

/// All that a start and a later start of the same apiserver have in common.
#[derive(Debug)]
pub(super) struct ApiServer {
    name: String,
    command: Vec<String>,
    program: PathBuf,
    pub(super) endpoint: String,
    pub(super) admin_kubeconfig: PathBuf,
    pub(super) audit_log: PathBuf,
}

impl ApiServer {
    /// Writes its files and settles its flags.
    pub(super) fn prepare(control_plane: &ControlPlane, name: &str) -> Result<Self> {
        let ControlPlane {
            bed,
            credentials,
            programs,
            etcd_endpoint,
            ..
        } = control_plane;
        let file = |kind: &str| bed.directory().join(format!("{name}-{kind}"));
        let port = bed.free_port()?;
        let endpoint = format!("https://127.0.0.1:{port}");
        let admin_token = credentials.admin_token(name);
        let (tokens, admin_kubeconfig) = (file("tokens.csv"), file("admin.kubeconfig"));
        let (audit_policy, audit_log) = (file("audit-policy.json"), file("audit.log"));
        fs::write(
            &tokens,
            format!("{admin_token},bed-admin,bed-admin,\"system:masters\"\n"),
        )?;
        fs::write(
            &admin_kubeconfig,
            kubeconfig(&endpoint, &credentials.ca_certificate, &admin_token, "default"),
        )?;
        fs::write(&audit_policy, audit::policy())?;

        let Credentials {
            certificate,
            key,
            service_account_key,
            service_account_public_key,
            ..
        } = credentials;
        let mut command = vec![
            // Where it is and what it stands on
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--etcd-servers={etcd_endpoint}"),
            format!("--etcd-prefix=/{name}"),
            // A cluster is restored from what was written before.
            "--etcd-compaction-interval=0".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            // Nothing connects to the apiserver from inside a cluster, and loopback would be refused there.
            "--endpoint-reconciler-type=none".to_owned(),
            // Who may do what: as in any cluster
            "--authorization-mode=RBAC,Node".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            // Many clients of one test at once are no flood.
            "--enable-priority-and-fairness=false".to_owned(),
            "--profiling=false".to_owned(),
            // One file, never rotated: it is counted in.
            "--audit-log-maxsize=4096".to_owned(),
        ];
        for (flag, path) in [
            ("tls-cert-file", certificate),
            ("tls-private-key-file", key),
            ("service-account-key-file", service_account_public_key),
            ("service-account-signing-key-file", service_account_key),
            ("token-auth-file", &tokens),
            ("audit-policy-file", &audit_policy),
            ("audit-log-path", &audit_log),
        ] {
            command.push(format!("--{flag}={}", path.display()));
        }
        let ControlPlanePrograms { kube_apiserver, .. } = programs;
        Ok(Self {
            name: name.to_owned(),
            command,
            program: kube_apiserver.clone(),
            endpoint,
            admin_kubeconfig,
            audit_log,
        })
    }

    /// Starts it, without waiting for it to be ready.
    pub(super) fn start(&self, bed: &Bed) -> Result<Process> {
        let mut command = Command::new(&self.program);
        command.args(&self.command);
        bed.spawn(&format!("{}-kube-apiserver", self.name), &command)
    }
}
