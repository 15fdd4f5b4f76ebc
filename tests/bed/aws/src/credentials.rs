//! Who signed a request: the access key, its signature, and whether the key still works.

use bytes::Bytes;
use fakecloud_aws::sigv4::{ParsedSigV4, SigV4Error, VerifyRequest, headers_from_http, verify};
use fakecloud_core::auth::{CredentialResolver as _, Principal};
use fakecloud_core::service::AwsServiceError;
use http::request::Parts;
use sha2::{Digest as _, Sha256};

use crate::answer::refusal;
use crate::target::Service;
use crate::world::World;

/// The principal behind a request, with what narrows its rights.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) principal: Principal,
    pub(crate) access_key_id: String,
    pub(crate) session_policies: Vec<String>,
}

/// Verifies the signature and resolves the key.
pub(crate) fn authenticate(
    world: &World,
    service: Service,
    signature: &ParsedSigV4,
    parts: &Parts,
    body: &Bytes,
) -> Result<Caller, AwsServiceError> {
    let key = signature.access_key.as_str();
    if world.principals.has_expired(key) || world.resolver.is_expired(key) {
        return Err(expired(service));
    }
    let credential = world.resolver.resolve(key).ok_or_else(|| unknown_key(service))?;
    let token = parts
        .headers
        .get("x-amz-security-token")
        .and_then(|value| value.to_str().ok());
    if credential.session_token.as_deref() != token {
        return Err(unknown_key(service));
    }
    check_signature(signature, parts, body, &credential.secret_access_key)
        .map_err(|error| bad_signature(service, &error))?;
    Ok(Caller {
        principal: credential.principal,
        access_key_id: key.to_owned(),
        session_policies: credential.session_policies,
    })
}

fn check_signature(signature: &ParsedSigV4, parts: &Parts, body: &Bytes, secret: &str) -> Result<(), SigV4Error> {
    let request = VerifyRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &headers_from_http(&parts.headers),
        body,
    };
    verify(signature, &request, secret, chrono::Utc::now())?;
    // The canonical request takes a signed payload hash as the client states it: it still has to be this body's.
    let stated = parts
        .headers
        .get("x-amz-content-sha256")
        .and_then(|value| value.to_str().ok());
    match stated {
        Some(hash) if hash.len() == 64 && hash != format!("{:x}", Sha256::digest(body)) => {
            Err(SigV4Error::SignatureMismatch)
        }
        _ => Ok(()),
    }
}

/// The request carries no usable signature at all.
pub(crate) fn unsigned() -> AwsServiceError {
    refusal(
        400,
        "MissingAuthenticationTokenException",
        "Missing Authentication Token",
    )
}

/// STS and IAM (query services) name the same refusals differently from the JSON services, and with another status.
fn unknown_key(service: Service) -> AwsServiceError {
    let message = "The security token included in the request is invalid.";
    match service {
        Service::Sts | Service::Iam => refusal(403, "InvalidClientTokenId", message),
        Service::Ecr | Service::Sqs => refusal(400, "UnrecognizedClientException", message),
    }
}

fn expired(service: Service) -> AwsServiceError {
    let message = "The security token included in the request is expired";
    match service {
        Service::Sts | Service::Iam => refusal(403, "ExpiredToken", message),
        Service::Ecr | Service::Sqs => refusal(400, "ExpiredTokenException", message),
    }
}

fn bad_signature(service: Service, error: &SigV4Error) -> AwsServiceError {
    let (json, query, message) = match error {
        SigV4Error::RequestTimeTooSkewed { .. } | SigV4Error::PresignedUrlExpired { .. } => (
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "Signature expired: the request's time is too far from the server's",
        ),
        SigV4Error::SignatureMismatch => (
            "InvalidSignatureException",
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. \
             Check your AWS Secret Access Key and signing method.",
        ),
        _ => (
            "IncompleteSignatureException",
            "IncompleteSignature",
            "The request signature is malformed.",
        ),
    };
    match service {
        Service::Sts | Service::Iam => refusal(403, query, message),
        Service::Ecr | Service::Sqs => refusal(400, json, message),
    }
}
