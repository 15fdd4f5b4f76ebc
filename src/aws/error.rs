//! What went wrong with a call to AWS, and what that means for us. The only place that knows AWS's error codes.

use std::{error::Error as StdError, fmt};

use aws_sdk_ecr::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};

use crate::control::gate::Closed;

/// What an error of AWS means for us. Decides how soon it is worth trying again, see `control::backoff`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// AWS asks for fewer calls.
    Throttled,
    /// No answer, or AWS is at fault (5xx).
    Unavailable,
    /// The credentials may not do this, or are not valid.
    Denied,
    /// What was asked for does not exist.
    NotFound,
    /// Something is in the way: it exists already, or is not empty.
    Conflict,
    /// AWS does not take what we sent.
    Invalid,
    /// A hard limit of the account is reached.
    Quota,
}

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwsError {
    /// The operation as AWS names it.
    pub operation: &'static str,
    /// What it means.
    pub fault: Fault,
    /// AWS's code, such as `RepositoryNotFoundException`; empty where no answer came.
    pub code: String,
    /// AWS's message, or what broke. Depends on the cause alone: no request id, no time, or each condition written from
    /// it would differ from the last.
    pub message: String,
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            operation,
            code,
            message,
            ..
        } = self;
        match code.is_empty() {
            true => write!(f, "{operation} got no answer: {message}"),
            false => write!(f, "{operation} was refused with {code}: {message}"),
        }
    }
}

impl StdError for AwsError {}

impl AwsError {
    /// Classifies what the SDK returned.
    pub(crate) fn new<E, R>(operation: &'static str, error: &SdkError<E, R>) -> Self
    where
        E: ProvideErrorMetadata + StdError + 'static,
        R: fmt::Debug,
    {
        match error {
            SdkError::ServiceError(service) => {
                let code = service.err().code().unwrap_or("Unknown").to_owned();
                let message = service.err().message().unwrap_or("AWS gave no message").to_owned();
                Self {
                    operation,
                    fault: classify(&code),
                    code,
                    message,
                }
            }
            SdkError::ConstructionFailure(_) => Self::unsent(operation, Fault::Invalid, error),
            _ => Self::unsent(operation, Fault::Unavailable, error),
        }
    }

    /// The call itself got no answer. Where another call that it needed was answered, as `AssumeRole` is when the role does
    /// not trust us, that answer says what is wrong.
    fn unsent(operation: &'static str, fault: Fault, error: &dyn StdError) -> Self {
        let answered = std::iter::successors(error.source(), |&cause| cause.source())
            .find_map(|cause| cause.downcast_ref::<ErrorMetadata>())
            .and_then(|answer| {
                Some((
                    answer.code()?.to_owned(),
                    answer.message().unwrap_or_default().to_owned(),
                ))
            });
        match answered {
            Some((code, message)) => Self {
                operation,
                fault: classify(&code),
                code,
                message,
            },
            None => Self::unanswered(operation, fault, causes(error)),
        }
    }

    /// No answer, or none that can be used.
    pub(crate) fn unanswered(operation: &'static str, fault: Fault, message: String) -> Self {
        Self {
            operation,
            fault,
            code: String::new(),
            message,
        }
    }

    /// An answer that lacks what the API promises.
    pub(crate) fn incomplete(operation: &'static str, what: &str) -> Self {
        Self::unanswered(operation, Fault::Unavailable, format!("the answer lacks {what}"))
    }

    /// A write that was held back because the connection may only read.
    pub(crate) fn read_only(operation: &'static str) -> Self {
        let message = "the Registry is in mode Observe, so nothing is written".to_owned();
        Self {
            operation,
            fault: Fault::Denied,
            code: "ReadOnly".into(),
            message,
        }
    }

    /// A write that was held back, or given up, because this process does not lead.
    pub(crate) fn not_leading(operation: &'static str) -> Self {
        Self::unanswered(operation, Fault::Unavailable, Closed.to_string())
    }

    /// AWS's code for metrics, or that no answer came.
    pub(crate) fn kind(&self) -> &str {
        match self.code.is_empty() {
            true => "no-answer",
            false => &self.code,
        }
    }

    /// Whether AWS answered with this code.
    pub(crate) fn is(&self, code: &str) -> bool {
        self.code == code
    }
}

/// The codes of ECR, STS and SQS, and those that any AWS API may give ("Common errors" in each API reference). A code that
/// is not listed is taken for something that can heal, and is tried again ever more slowly.
fn classify(code: &str) -> Fault {
    match code {
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "RequestThrottled"
        | "OverLimit"
        | "KmsThrottled" => Fault::Throttled,
        "LimitExceededException" | "TooManyTagsException" => Fault::Quota,
        "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidClientTokenIdException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "NotAuthorized"
        | "OptInRequired"
        | "BlockedByOrganizationPolicyException"
        | "InvalidSecurity"
        | "UnableToAccessSecretException"
        | "UnableToDecryptSecretValueException"
        | "RegionDisabledException"
        | "KmsAccessDenied" => Fault::Denied,
        "RepositoryNotFoundException"
        | "RepositoryPolicyNotFoundException"
        | "LifecyclePolicyNotFoundException"
        | "ImageNotFoundException"
        | "ScanNotFoundException"
        | "LayersNotFoundException"
        | "LayerInaccessibleException"
        | "PullThroughCacheRuleNotFoundException"
        | "TemplateNotFoundException"
        | "RegistryPolicyNotFoundException"
        | "SigningConfigurationNotFoundException"
        | "ExclusionNotFoundException"
        | "QueueDoesNotExist"
        | "AWS.SimpleQueueService.NonExistentQueue" => Fault::NotFound,
        "RepositoryAlreadyExistsException"
        | "RepositoryNotEmptyException"
        | "PullThroughCacheRuleAlreadyExistsException"
        | "TemplateAlreadyExistsException"
        | "ReplicationBackfillInProgressException"
        | "ExclusionAlreadyExistsException" => Fault::Conflict,
        "InvalidParameterException"
        | "ValidationException"
        | "ValidationError"
        | "InvalidTagParameterException"
        | "SerializationException"
        | "InvalidAddress"
        | "UnsupportedOperation"
        | "UnsupportedUpstreamRegistryException"
        | "SecretNotFoundException"
        | "MalformedPolicyDocument"
        | "PackedPolicyTooLarge"
        | "KmsDisabled"
        | "KmsInvalidState"
        | "KmsNotFound"
        | "KmsException" => Fault::Invalid,
        _ => Fault::Unavailable,
    }
}

/// The chain of causes, without the parts that say the same thing twice.
pub(crate) fn causes(error: &dyn StdError) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&said);
        }
        next = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_limit_is_not_taken_for_throttling() {
        assert_eq!(classify("LimitExceededException"), Fault::Quota);
        assert_eq!(classify("ThrottlingException"), Fault::Throttled);
    }

    #[test]
    fn an_unknown_code_can_heal() {
        assert_eq!(classify("SomethingNewException"), Fault::Unavailable);
        assert_eq!(classify("ServerException"), Fault::Unavailable);
    }

    #[test]
    fn the_message_names_operation_code_and_cause_and_nothing_that_changes() {
        let error = AwsError {
            operation: "SetRepositoryPolicy",
            fault: Fault::Denied,
            code: "AccessDeniedException".into(),
            message: "no".into(),
        };
        assert_eq!(
            error.to_string(),
            "SetRepositoryPolicy was refused with AccessDeniedException: no"
        );
    }
}
