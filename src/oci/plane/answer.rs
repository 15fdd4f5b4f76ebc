//! What a registry's answer means.

use std::{error::Error as StdError, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use reqwest::{Response, Url};
use serde::Deserialize;

use super::IDLE_LIMIT;
use crate::{
    api::names::Digest,
    aws::error::{AwsError, Fault, causes},
    oci::error::CopyError,
};

/// The most bytes of an error that are read.
const LARGEST_ERROR: usize = 64 << 10;

/// The longest pause that a registry may ask for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// An answer other than 2xx, or none at all.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) error: AwsError,
    status: Option<StatusCode>,
    /// When the registry wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    final_: bool,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<Told>,
}

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// A page of referrers: an index.
#[derive(Deserialize)]
struct Listing {
    manifests: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    digest: String,
}

impl Refusal {
    /// Reads what the registry says.
    pub(super) async fn read(operation: &'static str, response: Response) -> Self {
        let status = response.status();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            .map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
        // What cannot be read says nothing; the status does.
        let body = read(operation, response, LARGEST_ERROR).await.unwrap_or_default();
        let (code, message) = told(status, &body);
        Self {
            error: AwsError {
                operation,
                fault: fault(status),
                code,
                message,
            },
            status: Some(status),
            retry_after,
            final_: false,
        }
    }

    pub(super) fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }

    /// The registry does not offer what was asked for.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(
            self.status,
            Some(
                StatusCode::NOT_FOUND
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::BAD_REQUEST
                    | StatusCode::NOT_IMPLEMENTED
            )
        )
    }

    /// The token is not taken. ECR says so of an expired one with 403, as of a right that is lacking.
    pub(super) fn wants_login(&self) -> bool {
        self.is(StatusCode::UNAUTHORIZED)
            || (self.is(StatusCode::FORBIDDEN) && self.error.message.to_lowercase().contains("expired"))
    }

    pub(super) fn can_heal(&self) -> bool {
        !self.final_ && matches!(self.error.fault, Fault::Throttled | Fault::Unavailable) && !self.is_unsupported()
    }

    /// Not to be tried again from here.
    pub(super) fn for_good(mut self) -> Self {
        self.final_ = true;
        self
    }
}

impl From<AwsError> for Refusal {
    fn from(error: AwsError) -> Self {
        Self {
            error,
            status: None,
            retry_after: None,
            final_: false,
        }
    }
}

/// What kept us from sending at all has been tried often enough where it came up.
impl From<CopyError> for Refusal {
    fn from(error: CopyError) -> Self {
        let error = match error {
            CopyError::Registry { error, .. } => error,
            other => AwsError {
                operation: "GetAuthorizationToken",
                fault: Fault::Denied,
                code: "WrongRegistry".to_owned(),
                message: other.to_string(),
            },
        };
        Self::from(error).for_good()
    }
}

/// No answer came.
pub(super) fn unanswered(operation: &'static str, error: &dyn StdError) -> AwsError {
    AwsError {
        operation,
        fault: Fault::Unavailable,
        code: String::new(),
        message: causes(error),
    }
}

fn fault(status: StatusCode) -> Fault {
    match status {
        StatusCode::TOO_MANY_REQUESTS => Fault::Throttled,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fault::Denied,
        StatusCode::NOT_FOUND => Fault::NotFound,
        StatusCode::CONFLICT => Fault::Conflict,
        StatusCode::REQUEST_TIMEOUT => Fault::Unavailable,
        status if status.is_client_error() => Fault::Invalid,
        _ => Fault::Unavailable,
    }
}

/// Code and message of an error, in the registry's words if it has any.
fn told(status: StatusCode, body: &[u8]) -> (String, String) {
    let http = format!("HTTP {}", status.as_u16());
    let first = serde_json::from_slice::<Errors>(body)
        .ok()
        .and_then(|told| told.errors.into_iter().next());
    match first {
        Some(told) if !told.code.is_empty() => (told.code, told.message),
        // S3 answers with XML that holds request ids; a condition must not.
        _ => (http, status.canonical_reason().unwrap_or("no reason given").to_owned()),
    }
}

/// Reads a body of at most `most` bytes.
pub(super) async fn read(operation: &'static str, mut response: Response, most: usize) -> Result<Bytes, Refusal> {
    let mut body = BytesMut::new();
    loop {
        let chunk = tokio::time::timeout(IDLE_LIMIT, response.chunk())
            .await
            .map_err(|_| Refusal::from(AwsError::incomplete(operation, "its end")))?
            .map_err(|error| Refusal::from(unanswered(operation, &error.without_url())))?;
        let Some(chunk) = chunk else {
            return Ok(body.freeze());
        };
        let room = most - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if body.len() == most {
            return Ok(body.freeze());
        }
    }
}

/// The digest that the registry says it has given.
pub(super) fn digest(headers: &HeaderMap) -> Option<Digest> {
    headers.get("docker-content-digest")?.to_str().ok()?.parse().ok()
}

/// `Location`, which may be relative.
pub(super) fn location(response: &Response) -> Option<Url> {
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    response.url().join(location).ok()
}

/// The next page of a listing: `Link: <address>; rel="next"`.
pub(super) fn next_page(response: &Response) -> Option<Url> {
    let link = response.headers().get(header::LINK)?.to_str().ok()?;
    response.url().join(linked(link)?).ok()
}

fn linked(link: &str) -> Option<&str> {
    let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    parameters.contains("next").then_some(address)
}

/// The digests of a page; `None` if it is no page of referrers.
pub(super) fn listed(page: &[u8]) -> Option<Vec<Digest>> {
    let listing: Listing = serde_json::from_slice(page).ok()?;
    listing
        .manifests
        .into_iter()
        .map(|listed| listed.digest.parse().ok())
        .collect()
}

/// The first byte of a part: `Content-Range: bytes 7-9/10`.
pub(super) fn begins_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_registry_at_fault_or_in_a_hurry_is_asked_again_and_a_refusal_is_not() {
        for (status, wanted) in [
            (429, Fault::Throttled),
            (500, Fault::Unavailable),
            (503, Fault::Unavailable),
            (408, Fault::Unavailable),
            (401, Fault::Denied),
            (403, Fault::Denied),
            (404, Fault::NotFound),
            (400, Fault::Invalid),
            (413, Fault::Invalid),
        ] {
            assert_eq!(fault(StatusCode::from_u16(status).unwrap()), wanted, "{status}");
        }
    }

    #[test]
    fn an_error_is_told_in_the_registrys_words_and_without_what_changes() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no right"}]}"#;
        assert_eq!(told(StatusCode::FORBIDDEN, body), ("DENIED".into(), "no right".into()));
        let of_s3 = b"<Error><Code>AccessDenied</Code><RequestId>4711</RequestId></Error>";
        let wanted = ("HTTP 403".to_owned(), "Forbidden".to_owned());
        for body in [&of_s3[..], b"", b"{}", br#"{"errors":[]}"#] {
            assert_eq!(told(StatusCode::FORBIDDEN, body), wanted);
        }
    }

    #[test]
    fn only_a_link_to_the_next_page_is_followed() {
        assert_eq!(
            linked("</v2/a/referrers/x?n=2>; rel=\"next\""),
            Some("/v2/a/referrers/x?n=2")
        );
        assert_eq!(linked("</v2/a>; rel=\"prev\""), None);
        assert_eq!(linked("nonsense"), None);
    }

    #[test]
    fn a_page_of_anything_else_is_no_page() {
        let digest = Digest::of(b"");
        let page = format!("{{\"manifests\":[{{\"digest\":\"{digest}\",\"size\":1}}]}}");
        assert_eq!(listed(page.as_bytes()), Some(vec![digest]));
        for other in ["", "{}", "<html>", "{\"manifests\":[{\"digest\":\"md5:1\"}]}"] {
            assert_eq!(listed(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_part_tells_where_it_begins() {
        let headers =
            |value: &'static str| HeaderMap::from_iter([(header::CONTENT_RANGE, HeaderValue::from_static(value))]);
        assert_eq!(begins_at(&headers("bytes 7-9/10")), Some(7));
        assert_eq!(begins_at(&headers("bytes */10")), None);
        assert_eq!(begins_at(&HeaderMap::new()), None);
    }
}
