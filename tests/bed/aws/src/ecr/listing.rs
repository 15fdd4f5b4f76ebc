//! `DescribeImages` and `ListImages`, with their filters.

use std::collections::HashMap;

use fakecloud_core::service::{AwsResponse, AwsServiceError};
use fakecloud_ecr::{Image, Repository};
use serde_json::{Value, json};

use super::errors::{invalid, optional, page_size, required, unsatisfied};
use super::repositories::{decode_token, encode_token};
use super::{Answer, Registry};
use crate::answer::refusal;

/// Which images a listing is about.
struct Filter {
    tagged: Option<bool>,
    /// Only active images unless asked for others.
    status: Option<String>,
}

impl Filter {
    fn of(body: &Value) -> Result<Self, AwsServiceError> {
        let filter = body.get("filter").unwrap_or(&Value::Null);
        let tagged = match optional(filter, "tagStatus") {
            None | Some("ANY") => None,
            Some("TAGGED") => Some(true),
            Some("UNTAGGED") => Some(false),
            Some(_) => {
                return Err(unsatisfied(
                    "tagStatus",
                    "Member must satisfy enum value set: [ANY, TAGGED, UNTAGGED]",
                ));
            }
        };
        let status = match optional(filter, "imageStatus").unwrap_or("ACTIVE") {
            "ANY" => None,
            status => Some(status.to_owned()),
        };
        Ok(Self { tagged, status })
    }

    fn takes(&self, image: &Image, tags: &[&str]) -> bool {
        self.tagged.is_none_or(|tagged| tagged != tags.is_empty())
            && self.status.as_ref().is_none_or(|status| *status == image.image_status)
    }
}

/// Where a listing goes on, and how much of it one page shows.
struct Paging {
    size: usize,
    /// The key of the last item shown before.
    after: String,
}

impl Paging {
    fn of(body: &Value) -> Result<Self, AwsServiceError> {
        let after = optional(body, "nextToken")
            .map(decode_token)
            .transpose()?
            .unwrap_or_default();
        Ok(Self {
            size: page_size(body, 100, 1000)?,
            after,
        })
    }

    /// The images from where the listing goes on; the first may have been shown in part.
    fn images<'state>(&self, repository: &'state Repository) -> impl Iterator<Item = &'state Image> + use<'state> {
        let digest = self.after.split(' ').next().unwrap_or_default();
        repository.images.range(digest.to_owned()..).map(|(_, image)| image)
    }

    /// One page of `items`, which come in the order of their keys, and the token of the next.
    fn page<T>(&self, items: impl Iterator<Item = (String, T)>) -> (Vec<T>, Option<String>) {
        let mut rest = items.filter(|(key, _)| *key > self.after);
        let (mut shown, mut last) = (Vec::new(), String::new());
        for (key, item) in rest.by_ref().take(self.size) {
            shown.push(item);
            last = key;
        }
        let token = rest.next().map(|_| encode_token(&last));
        (shown, token)
    }
}

impl Registry {
    pub(super) fn describe_images(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let ids = body
            .get("imageIds")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let paged = ["nextToken", "maxResults"]
            .iter()
            .any(|key| body.get(key).is_some_and(|value| !value.is_null()));
        if !ids.is_empty() && paged {
            return Err(invalid("nextToken and maxResults cannot be used with imageIds"));
        }
        if ids.len() > 100 {
            return Err(unsatisfied("imageIds", "Member must have length between 1 and 100"));
        }
        let filter = Filter::of(body)?;
        let (details, token) = self.with_repository(name, |repository| {
            let tags = TagIndex::of(repository);
            if ids.is_empty() {
                let paging = Paging::of(body)?;
                let listed = paging
                    .images(repository)
                    .filter(|image| filter.takes(image, tags.on(image)))
                    .map(|image| {
                        (
                            image.image_digest.clone(),
                            self.detail(repository, image, tags.on(image)),
                        )
                    });
                return Ok(paging.page(listed));
            }
            let found = ids.iter().map(|id| {
                let image = self.find_image(repository, id)?;
                // Whether the default filter hides an image that is named is not documented; a client has to ask for it.
                if !filter.takes(image, tags.on(image)) {
                    return Err(self.no_such_image(repository, id));
                }
                Ok(self.detail(repository, image, tags.on(image)))
            });
            Ok((found.collect::<Result<Vec<_>, AwsServiceError>>()?, None))
        })?;
        let mut answer = json!({ "imageDetails": details });
        if let Some(token) = token {
            answer["nextToken"] = json!(token);
        }
        Ok(AwsResponse::ok_json(answer))
    }

    pub(super) fn list_images(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let filter = Filter::of(body)?;
        let (ids, token) = self.with_repository(name, |repository| {
            let (paging, tags) = (Paging::of(body)?, TagIndex::of(repository));
            let listed = paging
                .images(repository)
                .filter(|image| filter.takes(image, tags.on(image)))
                .flat_map(|image| {
                    let digest = &image.image_digest;
                    let untagged = tags
                        .on(image)
                        .is_empty()
                        .then(|| (digest.clone(), json!({ "imageDigest": digest })));
                    let tagged = tags.on(image).iter().map(move |tag| {
                        (
                            format!("{digest} {tag}"),
                            json!({ "imageDigest": digest, "imageTag": tag }),
                        )
                    });
                    untagged.into_iter().chain(tagged)
                });
            Ok(paging.page(listed))
        })?;
        let mut answer = json!({ "imageIds": ids });
        if let Some(token) = token {
            answer["nextToken"] = json!(token);
        }
        Ok(AwsResponse::ok_json(answer))
    }

    /// The image that an id with a digest, a tag or both names.
    pub(super) fn find_image<'state>(
        &self,
        repository: &'state Repository,
        id: &Value,
    ) -> Result<&'state Image, AwsServiceError> {
        let (digest, tag) = (optional(id, "imageDigest"), optional(id, "imageTag"));
        let holder = tag.map(|tag| repository.image_tags.get(tag).map(String::as_str));
        let wanted = match (digest, holder) {
            (Some(digest), Some(Some(holder))) if digest != holder => None,
            (_, Some(None)) => None,
            (digest, holder) => digest.or(holder.flatten()),
        };
        wanted
            .and_then(|digest| repository.images.get(digest))
            .ok_or_else(|| self.no_such_image(repository, id))
    }

    fn no_such_image(&self, repository: &Repository, id: &Value) -> AwsServiceError {
        let given = |member: &str| optional(id, member).unwrap_or("null").to_owned();
        refusal(
            400,
            "ImageNotFoundException",
            format!(
                "The image with imageId {{imageDigest:'{}', imageTag:'{}'}} does not exist within the repository with name \
                 '{}' in the registry with id '{}'",
                given("imageDigest"),
                given("imageTag"),
                repository.repository_name,
                self.account
            ),
        )
    }

    fn detail(&self, repository: &Repository, image: &Image, tags: &[&str]) -> Value {
        let mut detail = json!({
            "registryId": self.account,
            "repositoryName": repository.repository_name,
            "imageDigest": image.image_digest,
            "imageSizeInBytes": image.image_size_in_bytes,
            "imagePushedAt": image.image_pushed_at.timestamp(),
            "imageManifestMediaType": image.image_manifest_media_type,
            "imageStatus": image.image_status,
        });
        if !tags.is_empty() {
            detail["imageTags"] = json!(tags);
        }
        if let Some(artifact) = &image.artifact_media_type {
            detail["artifactMediaType"] = json!(artifact);
        }
        let times = [
            ("lastRecordedPullTime", image.last_recorded_pull_time),
            ("lastArchivedAt", image.last_archived_at),
            ("lastActivatedAt", image.last_activated_at),
        ];
        for (member, time) in times {
            if let Some(time) = time {
                detail[member] = json!(time.timestamp());
            }
        }
        let manifest: Option<Value> = serde_json::from_str(&image.image_manifest).ok();
        if let Some(subject) = manifest
            .as_ref()
            .and_then(|manifest| manifest.pointer("/subject/digest"))
        {
            detail["subjectManifestDigest"] = subject.clone();
        }
        // No scan summary: native basic scanning does not fill it in.
        detail
    }
}

/// The tags of each image: a repository keeps them the other way round.
struct TagIndex<'state>(HashMap<&'state str, Vec<&'state str>>);

impl<'state> TagIndex<'state> {
    fn of(repository: &'state Repository) -> Self {
        let mut index: HashMap<&str, Vec<&str>> = HashMap::new();
        for (tag, digest) in &repository.image_tags {
            index.entry(digest).or_default().push(tag);
        }
        Self(index)
    }

    fn on(&self, image: &Image) -> &[&'state str] {
        self.0
            .get(image.image_digest.as_str())
            .map(Vec::as_slice)
            .unwrap_or_default()
    }
}

/// The tags that point to a digest.
pub(super) fn tags_of<'state>(repository: &'state Repository, digest: &str) -> Vec<&'state str> {
    repository
        .image_tags
        .iter()
        .filter(|(_, holder)| *holder == digest)
        .map(|(tag, _)| tag.as_str())
        .collect()
}
