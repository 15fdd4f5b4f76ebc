//! Images pushed and pulled by an OCI client, with a token that ECR gives out.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use aws_smithy_types::base64;
use http::{HeaderValue, Method};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Aws, Principal};
use bed_programs::sha256;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const MANIFEST_TYPES: [&str; 4] = [
    MANIFEST_TYPE,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registry {
    data_plane: String,
}

/// The content of an image, as it was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Of its manifest.
    pub digest: String,
    /// What its only layer holds.
    pub content: Vec<u8>,
}

impl Aws {
    /// `host:port` that images of a registry are pushed to and pulled from.
    pub async fn registry_host(&self, account: &str, region: &str) -> Result<String> {
        let registry: Registry = self
            .ask(Method::GET, &format!("registries/{account}/{region}"), &[], None)
            .await?;
        Ok(registry
            .data_plane
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .to_owned())
    }

    /// Pushes an image of one layer that holds `content`, as the account's administrator, and gives its digest. The same
    /// content has the same digest.
    pub async fn push_image(
        &self,
        account: &str,
        region: &str,
        repository: &str,
        tag: &str,
        content: &[u8],
    ) -> Result<String> {
        let admin = self.admin(account).await?;
        self.push_image_as(&admin, account, region, repository, tag, content)
            .await
    }

    /// [`push_image`](Self::push_image) with the rights of `principal`.
    pub async fn push_image_as(
        &self,
        principal: &Principal,
        account: &str,
        region: &str,
        repository: &str,
        tag: &str,
        content: &[u8],
    ) -> Result<String> {
        let host = self.registry_host(account, region).await?;
        let image = Reference::with_tag(host, repository.to_owned(), tag.to_owned());
        push(&image, &self.registry_token(region, principal).await?, content).await
    }

    /// Pulls an image by tag, or by digest (`sha256:…`), with the rights of `principal`.
    pub async fn pull_image_as(
        &self,
        principal: &Principal,
        account: &str,
        region: &str,
        repository: &str,
        tag_or_digest: &str,
    ) -> Result<Image> {
        let (host, repository) = (self.registry_host(account, region).await?, repository.to_owned());
        let image = if tag_or_digest.contains(':') {
            Reference::with_digest(host, repository, tag_or_digest.to_owned())
        } else {
            Reference::with_tag(host, repository, tag_or_digest.to_owned())
        };
        pull(&image, &self.registry_token(region, principal).await?).await
    }

    /// Pushes one blob as the account's administrator, and gives its digest.
    pub async fn push_blob(&self, account: &str, region: &str, repository: &str, content: &[u8]) -> Result<String> {
        let (client, image) = self.entered(account, region, repository, "latest").await?;
        let digest = digest(content);
        client
            .push_blob(&image, content.to_vec(), &digest)
            .await
            .context("pushing a blob")?;
        Ok(digest)
    }

    /// Pushes a manifest as the account's administrator, under a tag or by its digest alone, and gives its digest. Its own
    /// `mediaType` says what it is.
    pub async fn push_manifest(
        &self,
        account: &str,
        region: &str,
        repository: &str,
        tag: Option<&str>,
        manifest: &Value,
    ) -> Result<String> {
        let bytes = serde_json::to_vec(manifest)?;
        let digest = digest(&bytes);
        let (client, image) = self
            .entered(account, region, repository, tag.unwrap_or(&digest))
            .await?;
        let kind = manifest.get("mediaType").and_then(Value::as_str).context("mediaType")?;
        client
            .push_manifest_raw(&image, bytes, HeaderValue::from_str(kind)?)
            .await
            .context("pushing a manifest")?;
        Ok(digest)
    }

    /// Pulls everything that an image consists of, as the account's administrator: the images of an index, configs and
    /// layers. Gives the size of each by its digest, which has been checked.
    pub async fn pull_whole(
        &self,
        account: &str,
        region: &str,
        repository: &str,
        tag_or_digest: &str,
    ) -> Result<BTreeMap<String, usize>> {
        let admin = self.admin(account).await?;
        let token = self.registry_token(region, &admin).await?;
        let mut whole = BTreeMap::new();
        let mut pending = vec![tag_or_digest.to_owned()];
        while let Some(reference) = pending.pop() {
            let (client, image) = self.entered(account, region, repository, &reference).await?;
            let (bytes, _) = client
                .pull_manifest_raw(&image, &token, &MANIFEST_TYPES)
                .await
                .with_context(|| format!("pulling the manifest {reference}"))?;
            let name = digest(&bytes);
            ensure!(
                !reference.starts_with("sha256:") || reference == name,
                "{reference} came as {name}"
            );
            whole.insert(name, bytes.len());
            let manifest: Value = serde_json::from_slice(&bytes)?;
            let listed = |member: &str| manifest.get(member).and_then(Value::as_array).into_iter().flatten();
            let name_of = |descriptor: &Value| descriptor.get("digest")?.as_str().map(str::to_owned);
            pending.extend(listed("manifests").filter_map(name_of));
            for blob in listed("layers").chain(manifest.get("config")).filter_map(name_of) {
                let mut content = Vec::new();
                client
                    .pull_blob(&image, blob.as_str(), &mut content)
                    .await
                    .with_context(|| format!("pulling the blob {blob}"))?;
                whole.insert(blob, content.len());
            }
        }
        Ok(whole)
    }

    /// A client that has the administrator's token, and the image it is for.
    async fn entered(
        &self,
        account: &str,
        region: &str,
        repository: &str,
        tag_or_digest: &str,
    ) -> Result<(oci_client::Client, Reference)> {
        let (host, repository) = (self.registry_host(account, region).await?, repository.to_owned());
        let image = if tag_or_digest.contains(':') {
            Reference::with_digest(host, repository, tag_or_digest.to_owned())
        } else {
            Reference::with_tag(host, repository, tag_or_digest.to_owned())
        };
        let client = client()?;
        let token = self.registry_token(region, &self.admin(account).await?).await?;
        client.auth(&image, &token, RegistryOperation::Push).await?;
        Ok((client, image))
    }

    /// What `aws ecr get-login-password` would print, for an OCI client.
    pub(super) async fn registry_token(&self, region: &str, principal: &Principal) -> Result<RegistryAuth> {
        let answer = self.ecr(region, principal).get_authorization_token().send().await;
        let answer = answer
            .map_err(aws_sdk_ecr::Error::from)
            .context("GetAuthorizationToken")?;
        let token = answer
            .authorization_data()
            .first()
            .and_then(|data| data.authorization_token());
        let token =
            base64::decode(token.context("GetAuthorizationToken gave no token")?).context("decoding the token")?;
        let token = String::from_utf8(token).context("decoding the token")?;
        let (user, password) = token.split_once(':').context("the token is not user:password")?;
        Ok(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
    }
}

/// Pushes an image of one layer that holds `content`, and gives its digest.
pub(super) async fn push(image: &Reference, token: &RegistryAuth, content: &[u8]) -> Result<String> {
    let client = client()?;
    client.auth(image, token, RegistryOperation::Push).await?;
    let layer = digest(content);
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [layer]},
    });
    let config = serde_json::to_vec(&config)?;
    client
        .push_blob(image, content.to_vec(), &layer)
        .await
        .context("pushing a layer")?;
    client
        .push_blob(image, config.clone(), &digest(&config))
        .await
        .context("pushing a config")?;
    let descriptor = |kind: &str, blob: &[u8]| json!({"mediaType": kind, "digest": digest(blob), "size": blob.len()});
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, &config),
        "layers": [descriptor(LAYER_TYPE, content)],
    }))?;
    let pushed = digest(&manifest);
    let kind = HeaderValue::from_static(MANIFEST_TYPE);
    client
        .push_manifest_raw(image, manifest, kind)
        .await
        .context("pushing a manifest")?;
    Ok(pushed)
}

/// Pulls an image of one layer.
pub(super) async fn pull(image: &Reference, token: &RegistryAuth) -> Result<Image> {
    let client = client()?;
    let (manifest, digest) = client.pull_manifest_raw(image, token, &[MANIFEST_TYPE]).await?;
    let manifest: Value = serde_json::from_slice(&manifest)?;
    let layer = manifest
        .pointer("/layers/0/digest")
        .and_then(Value::as_str)
        .context("the image has no layer")?;
    let mut content = Vec::new();
    client
        .pull_blob(image, layer, &mut content)
        .await
        .context("pulling a layer")?;
    Ok(Image { digest, content })
}

fn client() -> Result<oci_client::Client> {
    let config = ClientConfig {
        protocol: ClientProtocol::Http,
        // With a proxy of its own the client does not look for one in the environment, and this one is never used.
        http_proxy: Some("http://127.0.0.1:9".to_owned()),
        no_proxy: Some("127.0.0.1".to_owned()),
        ..ClientConfig::default()
    };
    Ok(oci_client::Client::try_from(config)?)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", sha256(bytes))
}
