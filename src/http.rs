//! HTTP outside of the SDK of AWS and of the Kubernetes client.

use std::time::Duration;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The client could not be made, as where the system's certificates cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client could be made: {0}; see that the certificates and the proxy of the environment can be read")]
pub(crate) struct NoClient(#[from] reqwest::Error);

/// The client for registries, for presigned addresses, for Prometheus and for hooks. It follows no redirect by itself: where
/// one leads to was not allowed by anybody, and what is sent along was not meant for it. Proxies are those of the
/// environment; how long an answer may take is for each request to say.
pub(crate) fn client() -> Result<reqwest::Client, NoClient> {
    Ok(reqwest::Client::builder()
        .user_agent(concat!("ecr-operator/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .build()?)
}
