//! Tags of repositories, addressed by ARN.

use std::collections::BTreeMap;

use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{required, unsatisfied};
use super::{Answer, Registry};
use crate::answer::refusal;

/// How many tags a repository may have.
const MOST: usize = 50;

impl Registry {
    pub(super) fn tag_resource(&self, body: &Value) -> Answer {
        let name = self.addressed(body)?;
        let added = new_tags(body)?;
        self.with_repository(name, |repository| {
            let mut tags = repository.tags.clone();
            tags.extend(added);
            if tags.len() > MOST {
                return Err(too_many());
            }
            repository.tags = tags;
            Ok(AwsResponse::ok_json(json!({})))
        })
    }

    pub(super) fn untag_resource(&self, body: &Value) -> Answer {
        let name = self.addressed(body)?;
        let keys: Vec<_> = body
            .get("tagKeys")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for key in &keys {
            check_key(key)?;
        }
        self.with_repository(name, |repository| {
            repository.tags.retain(|key, _| !keys.contains(&key.as_str()));
            Ok(AwsResponse::ok_json(json!({})))
        })
    }

    pub(super) fn list_tags_for_resource(&self, body: &Value) -> Answer {
        let name = self.addressed(body)?;
        self.with_repository(name, |repository| {
            let tags: Vec<_> = repository
                .tags
                .iter()
                .map(|(key, value)| json!({ "Key": key, "Value": value }))
                .collect();
            Ok(AwsResponse::ok_json(json!({ "tags": tags })))
        })
    }

    /// The repository that the ARN in the request names.
    fn addressed<'body>(&self, body: &'body Value) -> Result<&'body str, AwsServiceError> {
        let arn = required(body, "resourceArn")?;
        arn.strip_prefix(&self.repository_arn("")).ok_or_else(|| {
            unsatisfied(
                "resourceArn",
                "must be the ARN of a repository in the Region of the request",
            )
        })
    }
}

/// The tags in a request, unchecked, for the conditions of policies; `None` if it carries none.
pub(super) fn of_request(body: &Value) -> Option<BTreeMap<String, String>> {
    let tags = body.get("tags")?.as_array()?;
    let pair = |tag: &Value| {
        Some((
            tag.get("Key")?.as_str()?.to_owned(),
            tag.get("Value")?.as_str()?.to_owned(),
        ))
    };
    Some(tags.iter().filter_map(pair).collect())
}

/// The tags that a request adds.
pub(super) fn new_tags(body: &Value) -> Result<BTreeMap<String, String>, AwsServiceError> {
    let listed = body.get("tags").and_then(Value::as_array).map_or(0, Vec::len);
    let tags = of_request(body).unwrap_or_default();
    if tags.len() != listed {
        return Err(invalid_tag(
            "Each tag needs a Key and a Value, and no key may be given twice",
        ));
    }
    for (key, value) in &tags {
        check_key(key)?;
        if value.chars().count() > 256 {
            return Err(invalid_tag("Tag values have at most 256 characters"));
        }
    }
    if tags.len() > MOST {
        return Err(too_many());
    }
    Ok(tags)
}

fn check_key(key: &str) -> Result<(), AwsServiceError> {
    if !(1..=128).contains(&key.chars().count()) {
        return Err(invalid_tag("Tag keys have between 1 and 128 characters"));
    }
    if key.to_ascii_lowercase().starts_with("aws:") {
        return Err(invalid_tag(
            "Tag keys that start with 'aws:' are reserved for system use",
        ));
    }
    Ok(())
}

fn invalid_tag(message: &str) -> AwsServiceError {
    refusal(400, "InvalidTagParameterException", message)
}

fn too_many() -> AwsServiceError {
    refusal(
        400,
        "TooManyTagsException",
        format!("The list of tags on the repository is over the limit. The maximum number of tags is {MOST}."),
    )
}
