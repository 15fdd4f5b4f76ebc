//! Answers on the wire, in the form each service's clients parse.

use axum::body::Body;
use fakecloud_aws::error::{json_error_response_with_fields, xml_error_response};
use fakecloud_core::service::{AwsResponse, AwsServiceError, ResponseBody};
use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::target::Protocol;

/// An error with a code and a message.
pub(crate) fn refusal(status: u16, code: &str, message: impl Into<String>) -> AwsServiceError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    AwsServiceError::aws_error(status, code, message)
}

/// Writes what a service answered.
pub(crate) fn render(
    outcome: Result<AwsResponse, AwsServiceError>,
    protocol: Protocol,
    request_id: &str,
) -> Response<Body> {
    match outcome {
        Ok(answer) => success(answer, protocol, request_id),
        Err(error) => failure(&error, protocol, request_id),
    }
}

fn success(answer: AwsResponse, protocol: Protocol, request_id: &str) -> Response<Body> {
    let content_type = match protocol {
        Protocol::Json(content_type) => content_type.to_owned(),
        Protocol::Query => answer.content_type,
    };
    let body = match answer.body {
        ResponseBody::Bytes(bytes) => Body::from(bytes),
        // Only object storage streams files, and there is none here.
        ResponseBody::File { .. } => Body::empty(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    response.headers_mut().extend(answer.headers);
    stamp(&mut response, &content_type, request_id);
    response
}

fn failure(error: &AwsServiceError, protocol: Protocol, request_id: &str) -> Response<Body> {
    let (code, message) = (error.code(), error.message());
    let (status, content_type, bytes) = match protocol {
        Protocol::Json(content_type) => {
            // fakecloud has the query protocol's code, which a JSON client looks for in a header only.
            let name = match code {
                "AWS.SimpleQueueService.NonExistentQueue" => "com.amazonaws.sqs#QueueDoesNotExist",
                other => other,
            };
            let (status, _, bytes) =
                json_error_response_with_fields(error.status(), name, &message, error.extra_fields());
            (status, content_type.to_owned(), bytes)
        }
        Protocol::Query => xml_error_response(error.status(), code, &message, request_id),
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    stamp(&mut response, &content_type, request_id);
    for (name, value) in error.response_headers() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn stamp(response: &mut Response<Body>, content_type: &str, request_id: &str) {
    let headers = response.headers_mut();
    for (name, value) in [("content-type", content_type), ("x-amzn-requestid", request_id)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
}
