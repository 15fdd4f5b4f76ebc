//! Scans: each completes soon, with the findings that a test has set for the image, or none. A test may also say that the
//! scan of an image is in any other state, has findings of enhanced scanning, or never was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{page_size, required, unsatisfied};
use super::listing::tags_of;
use super::repositories::{decode_token, encode_token};
use super::{Answer, Registry};
use crate::answer::refusal;
use crate::events::{Event, send};
use crate::world::World;

/// How long a scan takes.
const SCAN: Duration = Duration::from_millis(50);

/// A repository's name and an image's digest.
type Key = (String, String);

/// What is known of scans beyond their results.
#[derive(Default)]
pub(super) struct Scans {
    /// Scanned on push or on request: once in 24 hours is what an image gets.
    scanned: HashSet<Key>,
    /// Results that a test has set.
    set: HashMap<Key, ScanResult>,
}

/// The result of a scan.
#[derive(Clone, Default)]
pub(crate) struct ScanResult {
    pub(crate) status: String,
    /// Of basic scanning.
    pub(crate) findings: Vec<Value>,
    /// Of enhanced scanning; where there are any, or an empty list, they are answered in place of the others.
    pub(crate) enhanced: Option<Vec<Value>>,
}

impl ScanResult {
    fn list(&self) -> &[Value] {
        self.enhanced.as_deref().unwrap_or(&self.findings)
    }
}

impl Scans {
    pub(super) fn forget(&mut self, repository: &str) {
        self.scanned.retain(|(name, _)| name != repository);
        self.set.retain(|(name, _), _| name != repository);
    }
}

impl Registry {
    /// Sets the result of an image's scan, in place of what it was before; `None`: there never was one.
    pub(crate) fn set_scan(
        self: &Arc<Self>,
        world: &Arc<World>,
        repository: &str,
        digest: &str,
        result: Option<ScanResult>,
    ) -> Result<(), AwsServiceError> {
        let key = (repository.to_owned(), digest.to_owned());
        self.with_repository(repository, |repository| {
            if repository.images.contains_key(digest) {
                return Ok(());
            }
            Err(refusal(
                400,
                "ImageNotFoundException",
                format!("there is no image {digest}"),
            ))
        })?;
        let Some(result) = result else {
            let mut extra = self.extra.lock();
            extra.scans.set.remove(&key);
            extra.scans.scanned.remove(&key);
            drop(extra);
            return self.with_repository(repository, |repository| {
                repository.scan_findings.remove(digest);
                Ok(())
            });
        };
        self.extra.lock().scans.set.insert(key, result);
        self.finish_scan(world, repository, digest);
        Ok(())
    }

    pub(super) fn start_image_scan(self: &Arc<Self>, world: &Arc<World>, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let id = body
            .get("imageId")
            .ok_or_else(|| unsatisfied("imageId", "Member must not be null"))?;
        let digest = self.with_repository(name, |repository| {
            let image = self.find_image(repository, id)?;
            if image.image_manifest_media_type.contains("index") || image.image_manifest_media_type.contains("list") {
                return Err(refusal(
                    400,
                    "UnsupportedImageTypeException",
                    "An image index cannot be scanned",
                ));
            }
            Ok(image.image_digest.clone())
        })?;
        if !self.begin_scan(world, name, &digest) {
            return Err(refusal(
                400,
                "LimitExceededException",
                "The scan quota per image has been exceeded. Wait and try again.",
            ));
        }
        Ok(AwsResponse::ok_json(json!({
            "registryId": self.account,
            "repositoryName": name,
            "imageId": id,
            "imageScanStatus": { "status": "IN_PROGRESS" },
        })))
    }

    /// Scans a new image if the repository or the registry says so.
    pub(super) fn scan_on_push(self: &Arc<Self>, world: &Arc<World>, name: &str, digest: &str) {
        let own = self.with_repository(name, |repository| {
            Ok(repository.image_scanning_configuration.scan_on_push)
        });
        let wanted = own.is_ok_and(|own| self.scan_frequency(name, own).0 != "MANUAL");
        if wanted {
            self.begin_scan(world, name, digest);
        }
    }

    /// Starts a scan unless the image has had its one.
    fn begin_scan(self: &Arc<Self>, world: &Arc<World>, name: &str, digest: &str) -> bool {
        if !self
            .extra
            .lock()
            .scans
            .scanned
            .insert((name.to_owned(), digest.to_owned()))
        {
            return false;
        }
        self.record_scan(name, digest, "IN_PROGRESS", &[]);
        let (registry, world) = (Arc::clone(self), Arc::clone(world));
        let (name, digest) = (name.to_owned(), digest.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(SCAN).await;
            registry.finish_scan(&world, &name, &digest);
        });
        true
    }

    fn finish_scan(&self, world: &Arc<World>, name: &str, digest: &str) {
        let key = (name.to_owned(), digest.to_owned());
        let set = self.extra.lock().scans.set.get(&key).cloned();
        let result = set.unwrap_or_else(|| ScanResult {
            status: "COMPLETE".to_owned(),
            ..ScanResult::default()
        });
        let tags = self.record_scan(name, digest, &result.status, result.list());
        let detail = json!({
            "scan-status": result.status,
            "repository-name": name,
            "finding-severity-counts": counts(result.list()),
            "image-digest": digest,
            "image-tags": tags,
        });
        let resources = vec![self.repository_arn(name)];
        send(
            world,
            self,
            Event {
                detail_type: "ECR Image Scan",
                resources,
                detail,
            },
        );
    }

    /// Keeps a scan's state in the repository, where fakecloud looks for it as well; gives the image's tags.
    fn record_scan(&self, name: &str, digest: &str, status: &str, findings: &[Value]) -> Vec<String> {
        // What ends well: the first is of basic scanning, the second of enhanced.
        let done = matches!(status, "COMPLETE" | "ACTIVE").then(Utc::now);
        let result = json!({
            "image_digest": digest,
            "scan_status": status,
            "scan_completed_at": done,
            "vulnerability_source_updated_at": done,
            "finding_severity_counts": counts(findings),
            "findings": findings,
        });
        let recorded = self.with_repository(name, |repository| {
            // Its type has no name outside of fakecloud, but it can be read from JSON.
            if let Ok(result) = serde_json::from_value(result) {
                repository.scan_findings.insert(digest.to_owned(), result);
            }
            Ok(tags_of(repository, digest).into_iter().map(str::to_owned).collect())
        });
        recorded.unwrap_or_default()
    }

    pub(super) fn describe_image_scan_findings(&self, body: &Value) -> Answer {
        let name = required(body, "repositoryName")?;
        let id = body
            .get("imageId")
            .ok_or_else(|| unsatisfied("imageId", "Member must not be null"))?;
        let asked = page_size(body, 100, 1000)?;
        let token = body
            .get("nextToken")
            .and_then(Value::as_str)
            .map(decode_token)
            .transpose()?;
        let skipped: usize = token.and_then(|token| token.parse().ok()).unwrap_or(0);
        self.with_repository(name, |repository| {
            let digest = self.find_image(repository, id)?.image_digest.clone();
            let scan = repository.scan_findings.get(&digest).ok_or_else(|| {
                refusal(
                    400,
                    "ScanNotFoundException",
                    format!(
                        "Image scan does not exist for the image with '{{imageDigest:'{digest}'}}' in the repository \
                         with name '{name}' in the registry with id '{}'",
                        self.account
                    ),
                )
            })?;
            let mut answer = json!({
                "registryId": self.account,
                "repositoryName": name,
                "imageId": { "imageDigest": digest },
                "imageScanStatus": { "status": scan.scan_status },
            });
            if let Some(tag) = id.get("imageTag") {
                answer["imageId"]["imageTag"] = tag.clone();
            }
            let key = (name.to_owned(), digest.clone());
            let enhanced = self
                .extra
                .lock()
                .scans
                .set
                .get(&key)
                .is_some_and(|set| set.enhanced.is_some());
            // Enhanced scanning gives pages of 100, whatever was asked for.
            let (member, size) = if enhanced {
                ("enhancedFindings", 100)
            } else {
                ("findings", asked)
            };
            if let Some(done) = scan.scan_completed_at {
                answer["imageScanFindings"] = json!({
                    "imageScanCompletedAt": done.timestamp(),
                    "vulnerabilitySourceUpdatedAt": done.timestamp(),
                    "findingSeverityCounts": scan.finding_severity_counts,
                    member: scan.findings.iter().skip(skipped).take(size).collect::<Vec<_>>(),
                });
                if scan.findings.len() > skipped + size {
                    answer["nextToken"] = json!(encode_token(&(skipped + size).to_string()));
                }
            }
            Ok(AwsResponse::ok_json(answer))
        })
    }
}

/// How many findings there are of each severity; those without any are absent.
fn counts(findings: &[Value]) -> BTreeMap<String, i64> {
    let mut counts = BTreeMap::new();
    for finding in findings {
        let severity = finding.get("severity").and_then(Value::as_str).unwrap_or("UNDEFINED");
        *counts.entry(severity.to_owned()).or_default() += 1;
    }
    counts
}
