//! Which operation of which service a signed request asks for.

use std::collections::HashMap;

use bytes::Bytes;
use fakecloud_core::protocol::parse_query_body;
use http::request::Parts;

/// The services behind the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    Ecr,
    Iam,
    Sqs,
    Sts,
}

impl Service {
    /// By the service name in the credential scope.
    fn from_scope(name: &str) -> Option<Self> {
        match name {
            "ecr" => Some(Self::Ecr),
            "iam" => Some(Self::Iam),
            "sqs" => Some(Self::Sqs),
            "sts" => Some(Self::Sts),
            _ => None,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ecr => "ecr",
            Self::Iam => "iam",
            Self::Sqs => "sqs",
            Self::Sts => "sts",
        }
    }
}

/// How the request and its answer are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// awsJson, with the content type of its version.
    Json(&'static str),
    /// awsQuery: a form in, XML out.
    Query,
}

/// The addressed operation.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) service: Service,
    pub(crate) operation: String,
    pub(crate) protocol: Protocol,
    /// The parameters of a query request.
    pub(crate) form: HashMap<String, String>,
}

impl Target {
    /// Reads the target of a request signed for `scope`; `None` if there is no such service or operation.
    pub(crate) fn of(scope: &str, parts: &Parts, body: &Bytes) -> Option<Self> {
        let service = Service::from_scope(scope)?;
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(target) = header("x-amz-target") {
            let content_type = match header("content-type") {
                Some("application/x-amz-json-1.0") => "application/x-amz-json-1.0",
                _ => "application/x-amz-json-1.1",
            };
            return Some(Self {
                service,
                operation: target.rsplit('.').next()?.to_owned(),
                protocol: Protocol::Json(content_type),
                form: HashMap::new(),
            });
        }
        let mut form: HashMap<String, String> = parse_query_body(&Bytes::copy_from_slice(
            parts.uri.query().unwrap_or_default().as_bytes(),
        ));
        form.extend(parse_query_body(body));
        Some(Self {
            service,
            operation: form.get("Action")?.clone(),
            protocol: Protocol::Query,
            form,
        })
    }

    /// The name under which calls are counted and faults are set: ECR's operations bare, others with their service.
    pub(crate) fn counted_as(&self) -> String {
        match self.service {
            Service::Ecr => self.operation.clone(),
            other => format!("{}:{}", other.name(), self.operation),
        }
    }
}
