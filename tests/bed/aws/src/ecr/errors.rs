//! ECR's errors in its own words.

use fakecloud_core::service::AwsServiceError;
use serde_json::Value;

use crate::answer::refusal;

pub(super) fn invalid(message: impl Into<String>) -> AwsServiceError {
    refusal(400, "InvalidParameterException", message)
}

/// A parameter that fails a constraint.
pub(super) fn unsatisfied(parameter: &str, constraint: &str) -> AwsServiceError {
    invalid(format!(
        "Invalid parameter at '{parameter}' failed to satisfy constraint: '{constraint}'"
    ))
}

pub(super) fn repository_not_found(name: &str, account: &str) -> AwsServiceError {
    refusal(
        400,
        "RepositoryNotFoundException",
        format!("The repository with name '{name}' does not exist in the registry with id '{account}'"),
    )
}

/// The text of a required member of the request.
pub(super) fn required<'body>(body: &'body Value, member: &str) -> Result<&'body str, AwsServiceError> {
    body.get(member)
        .and_then(Value::as_str)
        .ok_or_else(|| unsatisfied(member, "Member must not be null"))
}

/// The text of an optional member of the request.
pub(super) fn optional<'body>(body: &'body Value, member: &str) -> Option<&'body str> {
    body.get(member).and_then(Value::as_str)
}

/// The page size asked for.
pub(super) fn page_size(body: &Value, default: usize, most: usize) -> Result<usize, AwsServiceError> {
    match body.get("maxResults") {
        None | Some(Value::Null) => Ok(default),
        Some(asked) => asked
            .as_u64()
            .and_then(|asked| usize::try_from(asked).ok())
            .filter(|asked| (1..=most).contains(asked))
            .ok_or_else(|| unsatisfied("maxResults", &format!("Member must have value between 1 and {most}"))),
    }
}
