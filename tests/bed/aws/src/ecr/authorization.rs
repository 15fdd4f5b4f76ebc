//! What leads to the data plane: tokens and the download URLs of layers.

use fakecloud_core::service::{AwsRequest, AwsResponse, ResponseBody};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::errors::required;
use super::{Answer, Registry};
use crate::credentials::Caller;
use crate::world::World;

impl Registry {
    pub(super) fn get_authorization_token(&self, world: &World, caller: &Caller) -> AwsResponse {
        let now = chrono::Utc::now();
        let (token, lifetime) = world.tokens.issue(caller);
        let expires = now + lifetime;
        AwsResponse::ok_json(json!({
            "authorizationData": [{
                "authorizationToken": token,
                "expiresAt": expires.timestamp(),
                "proxyEndpoint": self.data_plane_url(),
            }],
        }))
    }

    /// fakecloud's answer, its URL made to work without a password as a pre-signed one does.
    pub(super) async fn get_download_url_for_layer(&self, request: AwsRequest, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?.to_owned();
        let digest = required(body, "layerDigest")?.to_owned();
        let mut answer = self.fall_through(request).await?;
        let url = self.download_url(&name, &digest);
        answer.body = ResponseBody::from(json!({ "downloadUrl": url, "layerDigest": digest }).to_string());
        Ok(answer)
    }

    /// Where a layer is read without a password.
    pub(crate) fn download_url(&self, name: &str, digest: &str) -> String {
        let signature = self.url_signature(name, digest);
        format!(
            "http://{}/v2/{name}/blobs/{digest}?signature={signature}",
            self.blob_store
        )
    }

    /// What lets a layer be read by its URL alone.
    pub(crate) fn url_signature(&self, name: &str, digest: &str) -> String {
        format!("{:x}", Sha256::digest(format!("{}/{name}/{digest}", self.url_secret)))
    }
}
