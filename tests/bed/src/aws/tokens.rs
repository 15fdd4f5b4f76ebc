//! What somebody can do who has nothing but a registry token, as a kubelet has it from a Secret.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_smithy_types::base64;
use http::{Method, StatusCode};
use oci_client::Reference;
use oci_client::secrets::RegistryAuth;
use serde_json::{Value, json};

use super::images::{pull, push};
use super::{Aws, Image, millis};

/// An entry of a Docker configuration.
#[derive(Clone)]
pub struct DockerAuth {
    /// The host and port that it is for.
    pub host: String,
    /// `base64(user:password)`.
    auth: String,
}

impl DockerAuth {
    /// The entries of a `.dockerconfigjson`.
    pub fn read(config: &[u8]) -> Result<Vec<Self>> {
        let config: Value = serde_json::from_slice(config)?;
        let auths = config["auths"].as_object().context("no auths")?;
        let entry = |(host, entry): (&String, &Value)| {
            let auth = entry["auth"].as_str().context("no auth")?.to_owned();
            Ok(Self {
                host: host.clone(),
                auth,
            })
        };
        auths.iter().map(entry).collect()
    }

    /// Whether the text holds the token or its password.
    pub fn is_in(&self, text: &str) -> Result<bool> {
        let (_, password) = self.plain()?;
        Ok(text.contains(&self.auth) || text.contains(&password))
    }

    /// Pulls an image by its tag.
    pub async fn pull(&self, repository: &str, tag: &str) -> Result<Image> {
        pull(&self.image(repository, tag), &self.login()?).await
    }

    /// Pushes an image of one layer.
    pub async fn push(&self, repository: &str, tag: &str, content: &[u8]) -> Result<String> {
        push(&self.image(repository, tag), &self.login()?, content).await
    }

    /// What a request to the registry is answered with.
    pub async fn status(&self, method: Method, path: &str) -> Result<StatusCode> {
        let url = format!("http://{}/v2/{path}", self.host);
        let request = crate::http_client()?.request(method, url);
        let answer = request
            .header("authorization", format!("Basic {}", self.auth))
            .send()
            .await?;
        Ok(answer.status())
    }

    fn image(&self, repository: &str, tag: &str) -> Reference {
        Reference::with_tag(self.host.clone(), repository.to_owned(), tag.to_owned())
    }

    fn plain(&self) -> Result<(String, String)> {
        let plain = String::from_utf8(base64::decode(&self.auth).context("auth is not base64")?)?;
        let (user, password) = plain.split_once(':').context("auth is not user:password")?;
        Ok((user.to_owned(), password.to_owned()))
    }

    fn login(&self) -> Result<RegistryAuth> {
        let (user, password) = self.plain()?;
        Ok(RegistryAuth::Basic(user, password))
    }
}

impl std::fmt::Debug for DockerAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DockerAuth")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl PartialEq for DockerAuth {
    fn eq(&self, other: &Self) -> bool {
        (&self.host, &self.auth) == (&other.host, &other.auth)
    }
}

impl Aws {
    /// Lets the registry tokens of an account last so long from now on; `None` as ECR has it, twelve hours.
    pub async fn set_token_lifetime(&self, account: &str, lifetime: Option<Duration>) -> Result<()> {
        let body = json!({"account": account, "millis": lifetime.map(millis)});
        self.tell(Method::PUT, "tokens", &body).await
    }
}
