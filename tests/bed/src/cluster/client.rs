//! Clients of a cluster: for the administrator, and for any `ServiceAccount`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use super::Cluster;
use super::credentials::kubeconfig;

/// A working day: no test lasts longer, and a demo that is kept does not lose its rights meanwhile.
const TOKEN_SECONDS: i64 = 12 * 60 * 60;

impl Cluster {
    /// A client with an administrator's rights. It belongs to the async runtime that it is made in.
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// A client with the rights of a `ServiceAccount`. It belongs to the async runtime that it is made in.
    pub async fn service_account_client(&self, namespace: &str, name: &str) -> Result<Client> {
        client(&self.service_account_kubeconfig(namespace, name).await?).await
    }

    /// A kubeconfig for a `ServiceAccount` that exists, with a token of twelve hours from the `TokenRequest` API.
    pub async fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.service_account_token(namespace, name).await?;
        let path = self
            .bed
            .directory()
            .join(format!("{}-{namespace}-{name}.kubeconfig", self.name));
        fs::write(
            &path,
            kubeconfig(
                &self.settings.endpoint,
                &self.credentials.ca_certificate,
                &token,
                namespace,
            ),
        )?;
        Ok(path)
    }

    /// The token that such a kubeconfig holds.
    pub(super) async fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec,
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await;
        let status = answer
            .with_context(|| format!("a token for the ServiceAccount {namespace}/{name}"))?
            .status;
        let status = status.context("the apiserver answered a TokenRequest without a token")?;
        Ok(status.token)
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // Taken from the environment; no proxy reaches our 127.0.0.1.
    config.proxy_url = None;
    Ok(Client::try_from(config)?)
}
