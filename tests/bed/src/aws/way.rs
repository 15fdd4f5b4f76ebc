//! The way of one blob from a repository to another, for a client that knows nothing of registries.

use anyhow::{Context as _, Result};
use aws_smithy_types::base64;
use oci_client::secrets::RegistryAuth;

use super::Aws;

/// Where a blob is to be had and where it goes. Once all of it was sent to `upload` by `PATCH`, an empty `PUT` to `finish`
/// stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobWay {
    /// The header of this name for all three, with the rights of the account's administrator. The first redirects to a
    /// place that refuses it.
    pub authorization: String,
    /// To be read, following redirects.
    pub download: String,
    /// An upload that has begun.
    pub upload: String,
    /// The same upload, with the digest that it must have.
    pub finish: String,
}

impl Aws {
    /// Begins the upload of a blob that a repository of the account has to another one; each is given by Region and name.
    pub async fn blob_way(&self, account: &str, from: (&str, &str), to: (&str, &str), digest: &str) -> Result<BlobWay> {
        let admin = self.admin(account).await?;
        let RegistryAuth::Basic(user, password) = self.registry_token(to.0, &admin).await? else {
            anyhow::bail!("the registry's token is no password");
        };
        let authorization = format!("Basic {}", base64::encode(format!("{user}:{password}")));
        let source = self.registry_host(account, from.0).await?;
        let host = self.registry_host(account, to.0).await?;
        let start = self.http.post(format!("http://{host}/v2/{}/blobs/uploads/", to.1));
        let started = start
            .header("authorization", &authorization)
            .send()
            .await?
            .error_for_status()?;
        let location = started
            .headers()
            .get("location")
            .context("the upload has no location")?;
        let upload = reqwest::Url::parse(&format!("http://{host}"))?.join(location.to_str()?)?;
        let mut finish = upload.clone();
        finish.query_pairs_mut().append_pair("digest", digest);
        Ok(BlobWay {
            authorization,
            download: format!("http://{source}/v2/{}/blobs/{digest}", from.1),
            upload: upload.into(),
            finish: finish.into(),
        })
    }
}
