//! The keys and certificates of a control plane, made in memory: no openssl is asked of the machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::json;

use bed_programs::sha256;

/// Files shared by all apiservers of one control plane. All of them listen on 127.0.0.1, so one certificate serves them.
#[derive(Debug, Clone)]
pub(super) struct Credentials {
    pub(super) ca_certificate: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// Signs `ServiceAccount` tokens.
    pub(super) service_account_key: PathBuf,
    pub(super) service_account_public_key: PathBuf,
    /// What admin tokens are derived from.
    secret: String,
}

impl Credentials {
    /// Makes them in `directory`, which is created.
    pub(super) fn create(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            Ok(path)
        };

        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        authority.distinguished_name.push(DnType::CommonName, "bed");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned);
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
        let service_account_key = KeyPair::generate()?;
        let secret = KeyPair::generate()?.serialize_pem();

        Ok(Self {
            ca_certificate: write("ca.crt", authority.pem())?,
            certificate: write("apiserver.crt", certificate.pem())?,
            key: write("apiserver.key", key.serialize_pem())?,
            service_account_public_key: write("service-account.pub", service_account_key.public_key_pem())?,
            service_account_key: write("service-account.key", service_account_key.serialize_pem())?,
            secret,
        })
    }

    /// The administrator's token in one cluster. Clusters have different ones, so that none can be mistaken for another.
    pub(super) fn admin_token(&self, cluster: &str) -> String {
        sha256(format!("{}{cluster}", self.secret))
    }
}

/// A kubeconfig for `token` at `endpoint`. It is JSON, which every reader of YAML reads.
pub(super) fn kubeconfig(endpoint: &str, ca_certificate: &Path, token: &str, namespace: &str) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "bed", "cluster": {"server": endpoint, "certificate-authority": ca_certificate}}],
        "users": [{"name": "bed", "user": {"token": token}}],
        "contexts": [{"name": "bed", "context": {"cluster": "bed", "user": "bed", "namespace": namespace}}],
        "current-context": "bed",
    });
    format!("{config:#}\n")
}
