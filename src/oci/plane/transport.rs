//! How a request is sent: with the token where it belongs, through redirects, again where that may help.

use std::{sync::Arc, time::Duration};

use backon::BackoffBuilder as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use reqwest::{Response, Url};

use super::{
    Place,
    answer::{self, Refusal},
    endpoint::is_own,
    login::{self, Login},
    pauses,
};
use crate::{
    aws::error::AwsError,
    oci::{
        error::CopyError,
        manifest::{MEDIA_TYPES, Manifest},
    },
};

/// How long an answer may take whose size is bounded, or the first byte of a blob.
const ANSWER_LIMIT: Duration = Duration::from_mins(1);

/// How many hops a blob may be away. ECR's are one.
const MOST_REDIRECTS: usize = 5;

/// Where a request goes.
#[derive(Clone)]
pub(super) enum Target {
    /// Below the repository's own path.
    Path(String),
    /// As the registry has said.
    Url(Url),
}

/// A request that can be sent again.
pub(super) struct Call {
    /// As errors name it.
    pub(super) operation: &'static str,
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) limit: Duration,
}

impl Place {
    /// Sends a request, again if need be. A success is an answer of 2xx.
    pub(super) async fn send(&self, call: &Call) -> Result<Response, Refusal> {
        again(|| self.send_once(call)).await
    }

    /// Sends a request once, and once more with a new token where the old one is not taken any more.
    pub(super) async fn send_once(&self, call: &Call) -> Result<Response, Refusal> {
        let login = self.login().await.map_err(Refusal::from)?;
        let refusal = match self.exchange(call, &login).await {
            Err(refusal) if refusal.wants_login() => refusal,
            other => return other,
        };
        tracing::debug!(registry = %self.plane.host(), "the token is not taken any more: {}", refusal.error);
        self.plane.forget(&login).await;
        let login = self.login().await.map_err(Refusal::from)?;
        self.exchange(call, &login).await
    }

    pub(super) async fn login(&self) -> Result<Arc<Login>, CopyError> {
        self.plane.login().await.map_err(|error| match error {
            login::Error::Aws(error) => self.failed(error),
            login::Error::WrongRegistry(message) => CopyError::WrongRegistry(message),
        })
    }

    /// One request, and those it is redirected to.
    async fn exchange(&self, call: &Call, login: &Login) -> Result<Response, Refusal> {
        let mut url = match &call.target {
            Target::Path(path) => login.path(&self.repository, path),
            Target::Url(url) => Ok(url.clone()),
        }
        .map_err(|error| {
            Refusal::from(AwsError::incomplete(
                call.operation,
                &format!("a usable address ({error})"),
            ))
        })?;
        for _ in 0..=MOST_REDIRECTS {
            let response = self.hop(call, &url, login).await?;
            let reads = matches!(call.method, Method::GET | Method::HEAD);
            if !(response.status().is_redirection() && reads) {
                return match response.status().is_success() {
                    true => Ok(response),
                    false => Err(Refusal::read(call.operation, response).await),
                };
            }
            let next = answer::location(&response)
                .ok_or_else(|| Refusal::from(AwsError::incomplete(call.operation, "a Location")))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                let error = AwsError::incomplete(call.operation, "encryption: it redirects from https to http");
                return Err(Refusal::from(error));
            }
            url = next;
        }
        let error = AwsError::incomplete(call.operation, "an end to its redirects");
        Err(Refusal::from(error))
    }

    async fn hop(&self, call: &Call, url: &Url, login: &Login) -> Result<Response, Refusal> {
        let shared = &self.plane.shared;
        let mut request = shared
            .http
            .request(call.method.clone(), url.clone())
            .headers(call.headers.clone());
        if !matches!(call.method, Method::GET | Method::HEAD) {
            request = request
                .header(header::CONTENT_LENGTH, call.body.len())
                .body(call.body.clone());
        }
        if is_own(&login.base, &shared.host, url) {
            request = request.header(header::AUTHORIZATION, login.header.clone());
        }
        let sending = tokio::time::timeout(call.limit, request.send());
        let sent = match call.method {
            Method::GET | Method::HEAD => sending.await,
            _ => shared
                .gate
                .guard(sending)
                .await
                .map_err(|_| Refusal::from(AwsError::not_leading(call.operation)).for_good())?,
        };
        match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Refusal::from(answer::unanswered(call.operation, &error.without_url()))),
            Err(_) => Err(Refusal::from(AwsError::incomplete(
                call.operation,
                &format!("everything: none came within {} s", call.limit.as_secs()),
            ))),
        }
    }
}

/// Does it until it succeeds, fails for good or has failed too often.
pub(super) async fn again<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, Refusal>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let mut pauses = pauses().build();
    loop {
        let refusal = match attempt().await {
            Err(refusal) if refusal.can_heal() => refusal,
            other => return other,
        };
        let Some(pause) = pauses.next() else {
            return Err(refusal);
        };
        let pause = pause.max(refusal.retry_after.unwrap_or_default());
        tracing::debug!(?pause, "a registry failed, it is asked again: {}", refusal.error);
        tokio::time::sleep(pause).await;
    }
}

impl Call {
    pub(super) fn read(operation: &'static str, method: Method, path: String) -> Self {
        Self::write(operation, method, Target::Path(path))
    }

    pub(super) fn write(operation: &'static str, method: Method, target: Target) -> Self {
        Self {
            operation,
            method,
            target,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            limit: ANSWER_LIMIT,
        }
    }

    pub(super) fn put(manifest: &Manifest, reference: &str) -> Self {
        let path = Target::Path(format!("manifests/{reference}"));
        let mut call = Self::write("PUT manifest", Method::PUT, path);
        let media_type = HeaderValue::from_str(&manifest.media_type);
        call.headers
            .extend(media_type.ok().map(|value| (header::CONTENT_TYPE, value)));
        call.body = manifest.bytes.clone();
        call
    }

    pub(super) fn accepting_manifests(mut self) -> Self {
        for media_type in MEDIA_TYPES {
            self.headers
                .append(header::ACCEPT, HeaderValue::from_static(media_type));
        }
        self
    }
}
