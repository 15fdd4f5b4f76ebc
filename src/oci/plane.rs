//! The client of a registry's data plane: the distribution API of OCI, as far as a copy needs it.
//!
//! Every request is tried again with growing pauses where the registry is throttled, at fault or not reached, all but the
//! streaming of a blob, which [`super::blob`] starts afresh. Writes pass the gate. The password goes to the registry's own
//! host alone: where it redirects to (ECR keeps blobs in S3) the address itself gives the right.

mod answer;
mod endpoint;
mod login;
mod transport;

use crate::api::names::{Digest, Tag};
use std::{fmt, sync::Arc, time::Duration};

use backon::ExponentialBuilder;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use reqwest::{Response, Url};
use tokio::sync::Mutex;

use self::{
    answer::Refusal,
    endpoint::is_own,
    login::Login,
    transport::{Call, Target, again},
};
use super::{
    error::CopyError,
    manifest::{LARGEST, Manifest},
    reference::RegistryHost,
};
use crate::{
    api::names::RepositoryName,
    aws::{client::Ecr, error::AwsError},
    control::gate::Gate,
};

/// How long a registry may take to look at a blob that has been sent: it computes the digest of many gigabytes.
const FINISH_LIMIT: Duration = Duration::from_mins(10);

/// How long a blob may stand still in either direction before its connection is given up.
pub(super) const IDLE_LIMIT: Duration = Duration::from_mins(1);

/// How often a request is sent before it is given up.
const ATTEMPTS: usize = 6;

/// How many pages of referrers are read.
const MOST_PAGES: usize = 100;

/// The data plane of one registry. Cheap to clone; all clones share connections and token.
#[derive(Clone)]
pub(crate) struct Plane {
    shared: Arc<Shared>,
}

struct Shared {
    http: reqwest::Client,
    ecr: Ecr,
    host: RegistryHost,
    gate: Gate,
    login: Mutex<Option<Arc<Login>>>,
}

/// A repository of a registry: where an image is copied from or to.
#[derive(Clone)]
pub(crate) struct Place {
    pub plane: Plane,
    pub repository: RepositoryName,
}

/// What a mount came to.
pub(super) enum Upload {
    /// The blob is there.
    Mounted,
    /// It is to be sent to this address.
    To(Url),
}

/// Pauses of half a second to twenty, each up to twice as long by chance.
pub(super) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(20))
        .with_max_times(ATTEMPTS - 1)
        .with_jitter()
}

impl Plane {
    /// The data plane of the registry at `host`. `ecr` asks for the token, so it must be a client for the Region of `host`,
    /// with credentials that have rights in the registry. Makes no call yet.
    pub(crate) fn new(http: reqwest::Client, ecr: Ecr, host: RegistryHost, gate: Gate) -> Self {
        let login = Mutex::default();
        Self {
            shared: Arc::new(Shared {
                http,
                ecr,
                host,
                gate,
                login,
            }),
        }
    }

    pub(crate) fn host(&self) -> &RegistryHost {
        &self.shared.host
    }

    /// ECR's API for the same registry.
    pub(super) fn ecr(&self) -> &Ecr {
        &self.shared.ecr
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.plane.host(), self.repository)
    }
}

impl Place {
    /// Gets a token, if there is none yet.
    pub(super) async fn enter(&self) -> Result<(), CopyError> {
        self.login().await.map(drop)
    }

    /// An error of AWS that came up here.
    pub(super) fn failed(&self, error: AwsError) -> CopyError {
        let place = self.to_string();
        match error.code.as_str() {
            "RepositoryNotFoundException" | "NAME_UNKNOWN" => CopyError::NoRepository { place },
            _ => CopyError::Registry { place, error },
        }
    }

    /// The digest of the manifest that is called so here, `None` where there is none.
    pub(super) async fn look_up(&self, reference: &str) -> Result<Option<Digest>, CopyError> {
        let call = Call::read("HEAD manifest", Method::HEAD, format!("manifests/{reference}")).accepting_manifests();
        let response = match self.send(&call).await {
            Ok(response) => response,
            Err(refusal) if refusal.is(StatusCode::NOT_FOUND) => return Ok(None),
            Err(refusal) => return Err(self.failed(refusal.error)),
        };
        match answer::digest(response.headers()) {
            Some(digest) => Ok(Some(digest)),
            // A registry need not tell; then the content does.
            None => Ok(self
                .manifest_bytes(reference)
                .await?
                .map(|(_, bytes)| Digest::of(&bytes))),
        }
    }

    /// The manifest of this digest, checked to be it; `None` where there is none.
    pub(super) async fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, CopyError> {
        let Some((content_type, bytes)) = self.manifest_bytes(digest.as_str()).await? else {
            return Ok(None);
        };
        Manifest::read(digest, content_type.as_deref(), bytes)
            .map(Some)
            .map_err(|error| CopyError::Manifest {
                place: self.to_string(),
                digest: digest.clone(),
                error,
            })
    }

    async fn manifest_bytes(&self, reference: &str) -> Result<Option<(Option<String>, Bytes)>, CopyError> {
        let call = Call::read("GET manifest", Method::GET, format!("manifests/{reference}")).accepting_manifests();
        let read = || async {
            let response = self.send_once(&call).await?;
            let content_type = response.headers().get(header::CONTENT_TYPE);
            let content_type = content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
            // One byte more than is allowed, so that what is too large is seen to be.
            let bytes = answer::read(call.operation, response, LARGEST + 1).await?;
            Ok((content_type, bytes))
        };
        match again(read).await {
            Ok(read) => Ok(Some(read)),
            Err(refusal) if refusal.is(StatusCode::NOT_FOUND) && refusal.error.code != "NAME_UNKNOWN" => Ok(None),
            Err(refusal) => Err(self.failed(refusal.error)),
        }
    }

    /// Puts a manifest by its digest.
    pub(super) async fn put_manifest(&self, manifest: &Manifest) -> Result<(), CopyError> {
        let call = Call::put(manifest, manifest.digest.as_str());
        self.stored(manifest, self.send(&call).await)
    }

    /// Puts a manifest by a tag, which is on it from then on. Not tried again: meanwhile somebody else may have set the tag.
    pub(super) async fn put_tag(&self, manifest: &Manifest, tag: &Tag) -> Result<(), CopyError> {
        let call = Call::put(manifest, tag.as_str());
        self.stored(manifest, self.send_once(&call).await)
    }

    /// Whether the registry stored what it was given.
    fn stored(&self, manifest: &Manifest, answer: Result<Response, Refusal>) -> Result<(), CopyError> {
        let response = answer.map_err(|refusal| self.failed(refusal.error))?;
        match answer::digest(response.headers()) {
            Some(stored) if stored != manifest.digest => Err(CopyError::Damaged {
                place: self.to_string(),
                what: format!("the manifest {}", manifest.digest),
                why: format!("the registry stored it as {stored}"),
            }),
            _ => Ok(()),
        }
    }

    /// The digests of what says something about the image, by the registry's own listing; `None` where it has none.
    pub(super) async fn referrers(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, CopyError> {
        let mut found = Vec::new();
        let mut call = Call::read("GET referrers", Method::GET, format!("referrers/{digest}"));
        for _ in 0..MOST_PAGES {
            let read = || async {
                let response = self.send_once(&call).await?;
                let next = answer::next_page(&response);
                Ok((next, answer::read(call.operation, response, LARGEST).await?))
            };
            let (next, page) = match again(read).await {
                Ok(page) => page,
                Err(refusal) if refusal.is_unsupported() => return Ok(None),
                Err(refusal) => return Err(self.failed(refusal.error)),
            };
            let Some(digests) = answer::listed(&page) else {
                return Ok(None);
            };
            found.extend(digests);
            let Some(next) = next else { break };
            call.target = Target::Url(next);
        }
        Ok(Some(found))
    }

    /// Whether the blob is here.
    pub(super) async fn has_blob(&self, digest: &Digest) -> Result<bool, CopyError> {
        let call = Call::read("HEAD blob", Method::HEAD, format!("blobs/{digest}"));
        match self.send(&call).await {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.is(StatusCode::NOT_FOUND) => Ok(false),
            Err(refusal) => Err(self.failed(refusal.error)),
        }
    }

    /// Opens a blob for reading from an offset. Returns where it really begins: a registry may not know offsets.
    pub(super) async fn open_blob(&self, digest: &Digest, offset: u64) -> Result<(u64, Response), CopyError> {
        let mut call = Call::read("GET blob", Method::GET, format!("blobs/{digest}"));
        if offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={offset}-"));
            call.headers.extend(range.ok().map(|value| (header::RANGE, value)));
        }
        let response = match self.send(&call).await {
            Ok(response) => response,
            Err(refusal) if refusal.is(StatusCode::NOT_FOUND) => {
                return Err(CopyError::NotThere {
                    place: self.to_string(),
                    what: format!("blob {digest}"),
                });
            }
            Err(refusal) => return Err(self.failed(refusal.error)),
        };
        let begins = match response.status() {
            StatusCode::PARTIAL_CONTENT => answer::begins_at(response.headers()).unwrap_or(offset),
            _ => 0,
        };
        Ok((begins, response))
    }

    /// Begins to upload a blob. With `from`, a repository of the same registry, the registry is asked to take it from there;
    /// where it does not, that request has begun an upload like any other.
    pub(super) async fn begin_upload(
        &self,
        digest: &Digest,
        from: Option<&RepositoryName>,
    ) -> Result<Upload, CopyError> {
        let path = match from {
            // Neither a digest nor a name has characters that a query would have to escape.
            Some(from) => format!("blobs/uploads/?mount={digest}&from={from}"),
            None => "blobs/uploads/".to_owned(),
        };
        let call = Call::write("POST upload", Method::POST, Target::Path(path));
        let response = self.send(&call).await.map_err(|refusal| self.failed(refusal.error))?;
        match response.status() {
            StatusCode::CREATED => Ok(Upload::Mounted),
            _ => answer::location(&response)
                .map(Upload::To)
                .ok_or_else(|| self.failed(AwsError::incomplete(call.operation, "a Location"))),
        }
    }

    /// Sends the whole of a blob to an upload; returns where it is to be finished. Not tried again: the content is gone.
    pub(super) async fn send_blob(&self, to: Url, size: u64, body: reqwest::Body) -> Result<Url, CopyError> {
        const OPERATION: &str = "PATCH upload";
        let shared = &self.plane.shared;
        let login = self.login().await?;
        let mut request = shared
            .http
            .patch(to.clone())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            // ECR takes no chunked encoding.
            .header(header::CONTENT_LENGTH, size)
            .body(body);
        if is_own(&login.base, &shared.host, &to) {
            request = request.header(header::AUTHORIZATION, login.header.clone());
        }
        let sent = shared.gate.guard(request.send()).await;
        let response = sent
            .map_err(|_| self.failed(AwsError::not_leading(OPERATION)))?
            .map_err(|error| self.failed(answer::unanswered(OPERATION, &error.without_url())))?;
        if !response.status().is_success() {
            let refusal = Refusal::read(OPERATION, response).await;
            return Err(self.failed(refusal.error));
        }
        Ok(answer::location(&response).unwrap_or(to))
    }

    /// Ends an upload: the blob is there from now on. The registry checks the digest too.
    pub(super) async fn finish_upload(&self, mut at: Url, digest: &Digest) -> Result<(), CopyError> {
        at.query_pairs_mut().append_pair("digest", digest.as_str());
        let mut call = Call::write("PUT upload", Method::PUT, Target::Url(at));
        call.limit = FINISH_LIMIT;
        self.send(&call)
            .await
            .map(drop)
            .map_err(|refusal| self.failed(refusal.error))
    }
}
