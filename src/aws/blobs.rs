//! Small blobs, read into memory: configurations of images, payloads of signatures.

use std::{sync::OnceLock, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{
    client::{Ecr, call},
    error::{AwsError, Fault},
};
use crate::{
    api::names::{Digest, RepositoryName},
    http,
};

/// How long a blob may take, from the first byte that is sent to the last that comes.
const TIMEOUT: Duration = Duration::from_secs(20);

impl Ecr {
    /// A blob of at most `limit` bytes, read into memory. Its digest has been checked.
    pub(crate) async fn small_blob(
        &self,
        repository: &RepositoryName,
        digest: &Digest,
        limit: u64,
    ) -> Result<Vec<u8>, AwsError> {
        const OPERATION: &str = "GetDownloadUrlForLayer";
        let request = self
            .client
            .get_download_url_for_layer()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .layer_digest(digest.as_str());
        let answer = call!(self, read "GetDownloadUrlForLayer", request)?;
        let url = answer
            .download_url
            .ok_or_else(|| AwsError::incomplete(OPERATION, "downloadUrl"))?;
        let blob = download(&url, limit)
            .await
            .map_err(|why| AwsError::unanswered(OPERATION, Fault::Unavailable, format!("the blob {digest} {why}")))?;
        check(OPERATION, &blob, digest)?;
        Ok(blob)
    }
}

/// Whether these are the bytes that the digest stands for.
pub(super) fn check(operation: &'static str, bytes: &[u8], digest: &Digest) -> Result<(), AwsError> {
    match Sha256::digest(bytes)[..] == digest.to_bytes() {
        true => Ok(()),
        false => Err(AwsError::incomplete(
            operation,
            &format!("the bytes of {digest}: they have another digest"),
        )),
    }
}

/// Fetches from a presigned address. It carries its own signature, which no message may show; nothing of ours is sent
/// along.
async fn download(url: &str, limit: u64) -> Result<Vec<u8>, String> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    let client = if let Some(client) = CLIENT.get() {
        client
    } else {
        let client = http::client().map_err(|error| error.to_string())?;
        CLIENT.get_or_init(|| client)
    };
    let mut answer = client.get(url).timeout(TIMEOUT).send().await.map_err(told)?;
    if !answer.status().is_success() {
        return Err(format!("could not be downloaded: HTTP status {}", answer.status()));
    }
    let mut blob = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(told)? {
        blob.extend_from_slice(&chunk);
        if blob.len() as u64 > limit {
            return Err(format!("is larger than the {limit} bytes that are read"));
        }
    }
    Ok(blob)
}

fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes: Vec<String> = std::iter::successors(std::error::Error::source(&error), |cause| cause.source())
        .map(ToString::to_string)
        .collect();
    match causes.is_empty() {
        true => format!("could not be downloaded: {error}"),
        false => format!("could not be downloaded: {}", causes.join(": ")),
    }
}
