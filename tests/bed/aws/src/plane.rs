//! The data plane of a registry: the OCI distribution API, with ECR's passwords and rights. fakecloud keeps the blobs.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use fakecloud_core::path::split_path_segments;
use fakecloud_core::protocol::parse_query_body;
use fakecloud_core::service::{AwsRequest, AwsResponse, AwsServiceError, ResponseBody};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use uuid::Uuid;

use crate::answer::refusal;
use crate::credentials::Caller;
use crate::ecr::{Push, Registry, allows};
use crate::faults::{self, Strike, Struck, When};
use crate::serve::Cut;
use crate::world::World;

/// The largest manifest that ECR takes.
const LARGEST_MANIFEST: usize = 4 << 20;

/// Which of a registry's two ports a request came to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    /// The registry itself.
    Registry,
    /// Where its blobs are: S3.
    Store,
}

/// Answers a request to `/v2/`, or to where it redirects to for blobs.
pub(crate) async fn request(
    world: Arc<World>,
    registry: Arc<Registry>,
    side: Side,
    request: Request<Incoming>,
) -> Result<Response<Body>, Cut> {
    let (parts, body) = request.into_parts();
    let operation = operation(side, &parts);
    world
        .calls
        .record_on_plane(operation, &registry.account, &registry.region);
    let strikes = world.faults.strikes(&Struck {
        operation,
        account: &registry.account,
        region: &registry.region,
        principal: None,
    });
    if let Some(error) = faults::suffer(&strikes, When::Before).await? {
        return Ok(failure(&error));
    }
    let range = parts.headers.get("range").cloned();
    let answer = match side {
        Side::Registry => answer(&world, &registry, parts, Body::new(body)).await,
        Side::Store => stored(&registry, parts, Body::new(body))
            .await
            .map(|answer| part_of(answer, range.as_ref())),
    };
    if let Some(error) = faults::suffer(&strikes, When::After).await? {
        return Ok(failure(&error));
    }
    Ok(match answer {
        Ok(answer) => render(answer, &strikes),
        Err(error) => failure(&error),
    })
}

/// Under which name a request is counted, and faults are set for it.
fn operation(side: Side, parts: &Parts) -> &'static str {
    let segments = split_path_segments(parts.uri.path());
    let rest = Place::of(&segments).map(|place| place.rest).unwrap_or_default();
    match (side, parts.method.as_str(), rest.as_slice()) {
        (Side::Store, ..) => "oci:DownloadBlob",
        (_, "HEAD", ["blobs", _]) => "oci:HeadBlob",
        (_, "GET", ["blobs", _]) => "oci:GetBlob",
        (_, "POST", ["blobs", "uploads"]) => "oci:StartUpload",
        (_, "PATCH", ["blobs", "uploads", _]) => "oci:PatchUpload",
        (_, "PUT", ["blobs", "uploads", _]) => "oci:FinishUpload",
        (_, "HEAD", ["manifests", _]) => "oci:HeadManifest",
        (_, "GET", ["manifests", _]) => "oci:GetManifest",
        (_, "PUT", ["manifests", _]) => "oci:PutManifest",
        (_, "DELETE", ["manifests", _]) => "oci:DeleteManifest",
        (_, "GET", ["referrers", _]) => "oci:ListReferrers",
        (_, "GET", ["tags", "list"]) => "oci:ListTags",
        _ => "oci:Other",
    }
}

/// Answers as S3 does: by the signature in the address, and by nothing besides it.
async fn stored(registry: &Arc<Registry>, parts: Parts, body: Body) -> Result<AwsResponse, AwsServiceError> {
    let query = query(&parts);
    let segments = split_path_segments(parts.uri.path());
    let place = Place::of(&segments);
    if parts.headers.contains_key("authorization") {
        return Err(refusal(400, "InvalidArgument", "Only one auth mechanism allowed"));
    }
    let signed = match (&place, query.get("signature")) {
        (Some(place), Some(signature)) => match place.rest.as_slice() {
            ["blobs", digest] => *signature == registry.url_signature(&place.repository, digest),
            _ => false,
        },
        _ => false,
    };
    if parts.method != Method::GET || !signed {
        return Err(refusal(
            403,
            "AccessDenied",
            "The signature of the download URL is wrong",
        ));
    }
    registry
        .fall_through(aws_request(registry, None, parts, query, body))
        .await
}

fn query(parts: &Parts) -> HashMap<String, String> {
    parse_query_body(&Bytes::copy_from_slice(
        parts.uri.query().unwrap_or_default().as_bytes(),
    ))
}

/// The rest of an answer from `Range: bytes=N-` on; all of it for other ranges.
fn part_of(mut answer: AwsResponse, range: Option<&HeaderValue>) -> AwsResponse {
    let first = range
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.strip_suffix('-'))
        .and_then(|first| first.parse::<usize>().ok());
    if let (Some(first), ResponseBody::Bytes(content)) = (first, &answer.body)
        && first < content.len()
    {
        let length = content.len();
        let span = format!("bytes {first}-{}/{length}", length - 1);
        answer
            .headers
            .extend(HeaderValue::from_str(&span).map(|span| (HeaderName::from_static("content-range"), span)));
        answer.body = ResponseBody::Bytes(content.slice(first..));
        answer.status = StatusCode::PARTIAL_CONTENT;
    }
    answer
}

/// What a path addresses within the registry.
struct Place<'path> {
    repository: String,
    /// `blobs`, `manifests`, `tags` or `referrers`, and what follows.
    rest: Vec<&'path str>,
}

impl<'path> Place<'path> {
    fn of(segments: &'path [String]) -> Option<Self> {
        let segments: Vec<_> = segments
            .iter()
            .map(String::as_str)
            .filter(|segment| !segment.is_empty())
            .collect();
        // From the end: repositories and tags may be called `blobs` themselves.
        let at = match segments.as_slice() {
            [.., "blobs", "uploads", _] => segments.len() - 3,
            [.., "blobs" | "manifests" | "tags" | "referrers", _] => segments.len() - 2,
            _ => return None,
        };
        let (name, rest) = segments.split_at(at);
        let repository = name.strip_prefix(&["v2"]).filter(|name| !name.is_empty())?.join("/");
        Some(Self {
            repository,
            rest: rest.to_vec(),
        })
    }

    /// The actions of which a request needs one; none for what the registry does not offer.
    fn actions(&self, method: &Method) -> &'static [&'static str] {
        match (method.as_str(), self.rest.as_slice()) {
            ("GET" | "HEAD", ["manifests", _]) | ("GET", ["referrers", _]) => &["BatchGetImage"],
            ("GET", ["blobs", _]) => &["GetDownloadUrlForLayer"],
            ("HEAD", ["blobs", _]) => &["BatchCheckLayerAvailability", "GetDownloadUrlForLayer"],
            ("POST", ["blobs", "uploads"]) | ("DELETE", ["blobs", "uploads", _]) => &["InitiateLayerUpload"],
            ("PATCH", ["blobs", "uploads", _]) => &["UploadLayerPart"],
            ("PUT", ["blobs", "uploads", _]) => &["CompleteLayerUpload"],
            ("PUT", ["manifests", _]) => &["PutImage"],
            ("DELETE", ["manifests", _]) => &["BatchDeleteImage"],
            ("GET", ["tags", "list"]) => &["ListImages"],
            _ => &[],
        }
    }
}

async fn answer(
    world: &Arc<World>,
    registry: &Arc<Registry>,
    parts: Parts,
    body: Body,
) -> Result<AwsResponse, AwsServiceError> {
    let path = parts.uri.path().to_owned();
    let query = query(&parts);
    let segments = split_path_segments(&path);
    let place = Place::of(&segments);
    let authorization = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let caller = authorization
        .and_then(|value| world.tokens.bearer(value))
        .ok_or_else(|| unauthorized(registry))?;
    let Some(place) = place else {
        return if matches!(path.as_str(), "/v2" | "/v2/") {
            Ok(version())
        } else {
            Err(not_found())
        };
    };
    let actions = place.actions(&parts.method);
    if actions.is_empty() {
        return Err(refusal(405, "UNSUPPORTED", "The operation is not supported"));
    }
    if caller.principal.account_id != registry.account {
        return Err(denied("no resource-based policy allows it"));
    }
    let may = |actions: &[&'static str]| {
        allows(world, registry, &caller, actions, &place.repository).map_err(|error| denied(&error.message()))
    };
    may(actions)?;
    if parts.method == Method::DELETE && matches!(actions, ["BatchDeleteImage"]) {
        return Err(refusal(405, "UNSUPPORTED", "The operation is not supported"));
    }
    let starts_push = matches!(actions, ["InitiateLayerUpload"]) && parts.method == Method::POST;
    if starts_push && registry.repository_tags(&place.repository).is_none() {
        // Without a template, or the right to use it, the push goes on to fail for want of a repository.
        if may(&["CreateRepository"]).is_ok() {
            registry
                .create_on_push(&place.repository)
                .map_err(|error| as_distribution_error(&error))?;
        }
    }
    if let (true, Some(digest), Some(from)) = (starts_push, query.get("mount"), query.get("from"))
        && allows(world, registry, &caller, &["GetDownloadUrlForLayer"], from).is_ok()
        && registry.mount(from, &place.repository, digest)
    {
        return Ok(created(&format!("/v2/{}/blobs/{digest}", place.repository), digest));
    }
    if let (&Method::PUT, ["manifests", reference]) = (&parts.method, place.rest.as_slice()) {
        return put_manifest(world, registry, &place.repository, reference, &parts.headers, body).await;
    }
    if let (&Method::GET, ["blobs", digest]) = (&parts.method, place.rest.as_slice())
        && registry.has_layer(&place.repository, digest)
    {
        return Ok(redirect(&registry.download_url(&place.repository, digest)));
    }
    registry
        .fall_through(aws_request(registry, Some(&caller), parts, query, body))
        .await
}

/// The content is elsewhere.
fn redirect(location: &str) -> AwsResponse {
    let mut answer = created(location, "");
    answer.status = StatusCode::TEMPORARY_REDIRECT;
    answer.headers.remove("docker-content-digest");
    answer
}

async fn put_manifest(
    world: &Arc<World>,
    registry: &Arc<Registry>,
    repository: &str,
    reference: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<AwsResponse, AwsServiceError> {
    let too_large = |_| refusal(413, "SIZE_INVALID", "The manifest is too large");
    let body = to_bytes(body, LARGEST_MANIFEST).await.map_err(too_large)?;
    let manifest =
        std::str::from_utf8(&body).map_err(|_| refusal(400, "MANIFEST_INVALID", "The manifest is no text"))?;
    let by_digest = reference.contains(':');
    let push = Push {
        repository,
        manifest,
        media_type: headers.get("content-type").and_then(|value| value.to_str().ok()),
        tag: (!by_digest).then_some(reference),
        digest: by_digest.then_some(reference),
    };
    let digest = registry
        .push(world, &push)
        .map_err(|error| as_distribution_error(&error))?;
    Ok(created(&format!("/v2/{repository}/manifests/{digest}"), &digest))
}

/// There is something new at `location`.
fn created(location: &str, digest: &str) -> AwsResponse {
    let mut headers = HeaderMap::new();
    for (name, value) in [("docker-content-digest", digest), ("location", location)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    let body = ResponseBody::default();
    AwsResponse {
        status: StatusCode::CREATED,
        content_type: String::new(),
        body,
        headers,
    }
}

/// The distribution API's codes for what `PutImage` refuses.
fn as_distribution_error(error: &AwsServiceError) -> AwsServiceError {
    let (status, code) = match error.code() {
        "RepositoryNotFoundException" => (404, "NAME_UNKNOWN"),
        "ImageTagAlreadyExistsException" => (400, "TAG_INVALID"),
        "LayersNotFoundException" => (400, "MANIFEST_BLOB_UNKNOWN"),
        "ImageDigestDoesNotMatchException" => (400, "DIGEST_INVALID"),
        _ => (400, "MANIFEST_INVALID"),
    };
    refusal(status, code, error.message())
}

fn aws_request(
    registry: &Registry,
    caller: Option<&Caller>,
    parts: Parts,
    query: HashMap<String, String>,
    body: Body,
) -> AwsRequest {
    let mut headers = parts.headers;
    // Already checked, or not needed: the service itself takes any password, but wants one.
    headers.insert("authorization", HeaderValue::from_static("Basic QVdTOg=="));
    AwsRequest {
        service: "ecr".to_owned(),
        action: String::new(),
        region: registry.region.clone(),
        account_id: registry.account.clone(),
        request_id: Uuid::new_v4().to_string(),
        path_segments: split_path_segments(parts.uri.path()),
        raw_path: parts.uri.path().to_owned(),
        raw_query: parts.uri.query().unwrap_or_default().to_owned(),
        headers,
        query_params: query,
        body: Bytes::new(),
        body_stream: parking_lot::Mutex::new(Some(body)),
        method: parts.method,
        is_query_protocol: false,
        access_key_id: caller.map(|caller| caller.access_key_id.clone()),
        principal: caller.map(|caller| caller.principal.clone()),
    }
}

fn version() -> AwsResponse {
    AwsResponse::ok_json(json!({}))
}

fn unauthorized(registry: &Registry) -> AwsServiceError {
    let realm = format!(
        "Basic realm=\"{}\",service=\"ecr.amazonaws.com\"",
        registry.data_plane_url()
    );
    let challenge = vec![("www-authenticate".to_owned(), realm)];
    let message = "Your authorization token is missing, unknown or has expired. Reauthenticate and try again.";
    AwsServiceError::aws_error_with_headers(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message, challenge)
}

fn denied(message: &str) -> AwsServiceError {
    refusal(403, "DENIED", message)
}

fn not_found() -> AwsServiceError {
    refusal(404, "NOT_FOUND", "There is no such path")
}

fn render(answer: AwsResponse, strikes: &[Strike]) -> Response<Body> {
    let content = match answer.body {
        ResponseBody::Bytes(bytes) => bytes,
        ResponseBody::File { .. } => Bytes::new(),
    };
    let length = HeaderValue::from(content.len());
    let mut response = Response::new(faults::spoil(strikes, content));
    *response.status_mut() = answer.status;
    response.headers_mut().extend(answer.headers);
    // A spoiled answer says how long it should have been; the answer to HEAD says it of what it does not hold.
    response.headers_mut().entry("content-length").or_insert(length);
    if let Ok(content_type) = HeaderValue::from_str(&answer.content_type)
        && !content_type.is_empty()
    {
        response.headers_mut().insert("content-type", content_type);
    }
    stamped(response)
}

fn failure(error: &AwsServiceError) -> Response<Body> {
    let body = json!({ "errors": [{ "code": error.code(), "message": error.message() }] });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = error.status();
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    for (name, value) in error.response_headers() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    stamped(response)
}

fn stamped(mut response: Response<Body>) -> Response<Body> {
    let version = HeaderValue::from_static("registry/2.0");
    response
        .headers_mut()
        .insert("docker-distribution-api-version", version);
    response
}
