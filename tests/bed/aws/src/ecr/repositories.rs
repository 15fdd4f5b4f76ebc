//! Repositories: made, listed, deleted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fakecloud_core::service::{AwsResponse, AwsServiceError};
use fakecloud_ecr::Repository;
use serde_json::{Value, json};

use super::errors::{invalid, optional, page_size, repository_not_found, required, unsatisfied};
use super::listing::tags_of;
use super::{Answer, Registry, encryption, mutability, names, tags};
use crate::answer::refusal;
use crate::credentials::Caller;
use crate::departures::Cause;
use crate::world::World;

impl Registry {
    pub(super) fn create_repository(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let settings = Settings {
            mutability: mutability::requested(body)?,
            scan_on_push: scan_on_push(body),
            encryption: encryption::resolve(self, body.get("encryptionConfiguration"))?,
            tags: tags::new_tags(body)?,
        };
        self.add_repository(name, settings)
    }

    /// Makes a repository with settings that have been checked.
    pub(super) fn add_repository(&self, name: &str, settings: Settings) -> Answer {
        if !names::is_repository_name(name) {
            return Err(unsatisfied(
                "repositoryName",
                "must satisfy regular expression \
                 '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*'",
            ));
        }
        let mut states = self.state.write();
        let repositories = &mut states.get_or_create(&self.account).repositories;
        if repositories.contains_key(name) {
            return Err(refusal(
                400,
                "RepositoryAlreadyExistsException",
                format!(
                    "The repository with name '{name}' already exists in the registry with id '{}'",
                    self.account
                ),
            ));
        }
        let host = format!("{}.dkr.ecr.{}.amazonaws.com", self.account, self.region);
        let mut repository = Repository::new(name, self.repository_arn(name), &self.account, &host);
        let (mutability, filters) = settings.mutability;
        repository.image_tag_mutability = mutability;
        repository.image_scanning_configuration.scan_on_push = settings.scan_on_push;
        (
            repository.encryption_configuration.encryption_type,
            repository.encryption_configuration.kms_key,
        ) = settings.encryption;
        repository.tags = settings.tags;
        self.extra.lock().filters.insert(name.to_owned(), filters);
        let shown = self.shown(&repository);
        repositories.insert(name.to_owned(), repository);
        Ok(AwsResponse::ok_json(json!({ "repository": shown })))
    }

    /// `scanOnPush` may be left out, which means false: the SDKs do not send a false at all.
    pub(super) fn put_image_scanning_configuration(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let scan_on_push = scan_on_push(body);
        self.with_repository(name, |repository| {
            repository.image_scanning_configuration.scan_on_push = scan_on_push;
            Ok(())
        })?;
        Ok(AwsResponse::ok_json(json!({
            "registryId": self.account,
            "repositoryName": name,
            "imageScanningConfiguration": { "scanOnPush": scan_on_push },
        })))
    }

    pub(super) fn describe_repositories(&self, body: &Value) -> Answer {
        let names = body.get("repositoryNames").filter(|names| !names.is_null());
        let paged = ["nextToken", "maxResults"]
            .iter()
            .any(|key| body.get(key).is_some_and(|value| !value.is_null()));
        let states = self.state.read();
        let repositories = match states.get(&self.account) {
            Some(state) => &state.repositories,
            None => return Ok(AwsResponse::ok_json(json!({ "repositories": [] }))),
        };
        if let Some(names) = names {
            let names: Vec<_> = names
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            if paged {
                return Err(invalid("nextToken and maxResults cannot be used with repositoryNames"));
            }
            if !(1..=100).contains(&names.len()) {
                return Err(unsatisfied(
                    "repositoryNames",
                    "Member must have length between 1 and 100",
                ));
            }
            let shown = names.into_iter().map(|name| {
                let found = repositories
                    .get(name)
                    .ok_or_else(|| repository_not_found(name, &self.account))?;
                Ok(self.shown(found))
            });
            let shown = shown.collect::<Result<Vec<_>, AwsServiceError>>()?;
            return Ok(AwsResponse::ok_json(json!({ "repositories": shown })));
        }
        let size = page_size(body, 100, 1000)?;
        let after = optional(body, "nextToken").map(decode_token).transpose()?;
        let mut rest = repositories
            .range::<str, _>((
                after
                    .as_deref()
                    .map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
                std::ops::Bound::Unbounded,
            ))
            .map(|(_, repository)| repository);
        let page: Vec<_> = rest.by_ref().take(size).collect();
        let mut answer = json!({ "repositories": page.iter().map(|found| self.shown(found)).collect::<Vec<_>>() });
        if let (Some(last), true) = (page.last(), rest.next().is_some()) {
            answer["nextToken"] = json!(encode_token(&last.repository_name));
        }
        Ok(AwsResponse::ok_json(answer))
    }

    pub(super) fn delete_repository(&self, world: &World, caller: &Caller, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let force = body.get("force").and_then(Value::as_bool).unwrap_or(false);
        let mut states = self.state.write();
        let repositories = &mut states.get_or_create(&self.account).repositories;
        let repository = repositories
            .get(name)
            .ok_or_else(|| repository_not_found(name, &self.account))?;
        if !force && !repository.images.is_empty() {
            return Err(refusal(
                400,
                "RepositoryNotEmptyException",
                format!(
                    "The repository with name '{name}' in registry with id '{}' cannot be deleted because it still \
                     contains images",
                    self.account
                ),
            ));
        }
        let shown = self.shown(repository);
        for digest in repository.images.keys() {
            let tags = tags_of(repository, digest);
            let cause = Cause::RepositoryDeleted {
                principal: caller.principal.arn.clone(),
            };
            world.departures.record(self, name, digest, &tags, cause);
        }
        repositories.remove(name);
        let mut extra = self.extra.lock();
        extra.filters.remove(name);
        extra.scans.forget(name);
        extra.previews.remove(name);
        Ok(AwsResponse::ok_json(json!({ "repository": shown })))
    }

    /// A repository as answers show it.
    fn shown(&self, repository: &Repository) -> Value {
        let mut encryption = json!({ "encryptionType": repository.encryption_configuration.encryption_type });
        if let Some(key) = &repository.encryption_configuration.kms_key {
            encryption["kmsKey"] = json!(key);
        }
        let mut shown = json!({
            "repositoryArn": repository.repository_arn,
            "registryId": repository.registry_id,
            "repositoryName": repository.repository_name,
            "repositoryUri": repository.repository_uri,
            "createdAt": seconds(repository.created_at.timestamp_millis()),
            "imageTagMutability": repository.image_tag_mutability,
            "imageScanningConfiguration": {
                "scanOnPush": repository.image_scanning_configuration.scan_on_push,
            },
            "encryptionConfiguration": encryption,
        });
        let filters = self
            .extra
            .lock()
            .filters
            .get(&repository.repository_name)
            .cloned()
            .unwrap_or_default();
        if !filters.is_empty() {
            shown["imageTagMutabilityExclusionFilters"] = json!(filters);
        }
        shown
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mutability: ("MUTABLE".to_owned(), Vec::new()),
            scan_on_push: false,
            encryption: ("AES256".to_owned(), None),
            tags: std::collections::BTreeMap::new(),
        }
    }
}

/// The settings of a new repository.
pub(super) struct Settings {
    pub(super) mutability: (String, Vec<Value>),
    pub(super) scan_on_push: bool,
    pub(super) encryption: (String, Option<String>),
    pub(super) tags: std::collections::BTreeMap<String, String>,
}

/// A time on the wire: seconds, with milliseconds as the fraction, so that a repository which is deleted and made again
/// within a second is seen to be another one.
fn seconds(milliseconds: i64) -> Value {
    let fraction = format!("{}.{:03}", milliseconds / 1_000, milliseconds % 1_000);
    fraction
        .parse::<serde_json::Number>()
        .map_or(Value::Null, Value::Number)
}

fn scan_on_push(body: &Value) -> bool {
    body.pointer("/imageScanningConfiguration/scanOnPush")
        .and_then(Value::as_bool)
        .unwrap_or(false)
}

/// A token is the last name of the page before, so that pages stay right while repositories come and go.
pub(super) fn encode_token(last: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("after:{last}"))
}

pub(super) fn decode_token(token: &str) -> Result<String, AwsServiceError> {
    URL_SAFE_NO_PAD
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.strip_prefix("after:").map(str::to_owned))
        .ok_or_else(|| unsatisfied("nextToken", "The specified token is invalid"))
}
