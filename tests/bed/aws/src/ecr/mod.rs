//! The registry of one account in one Region. fakecloud holds its state and carries out what it does as ECR does;
//! everything else has a handler of its own in this folder.

mod archive;
mod authorization;
mod backfill;
mod deletion;
mod encryption;
mod errors;
mod images;
mod layers;
mod lifecycle;
mod lifecycle_run;
mod listing;
mod manifest;
mod mutability;
mod names;
mod operations;
mod policy;
mod policy_text;
mod preview;
mod pull_through;
mod reading;
mod replication;
mod repositories;
mod scan_settings;
mod scanning;
mod settings;
mod signing;
mod tags;
mod templates;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use fakecloud_core::multi_account::MultiAccountState;
use fakecloud_core::service::{AwsRequest, AwsResponse, AwsService as _, AwsServiceError};
use fakecloud_ecr::{EcrService, EcrState, Repository, SharedEcrState};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use uuid::Uuid;

use crate::answer::refusal;
use crate::credentials::Caller;
use crate::world::World;

pub(crate) use images::Push;
pub(crate) use lifecycle_run::Age;
pub(crate) use operations::allows;
pub(crate) use preview::{Ending, Previews};
pub(crate) use scanning::ScanResult;

/// What fakecloud's state has no place for.
#[derive(Default)]
struct Extra {
    /// Mutability exclusion filters, by repository.
    filters: BTreeMap<String, Vec<Value>>,
    /// The replication rules as they were put, `deleteReplication` included.
    replication: Vec<Value>,
    backfills: Vec<backfill::Backfill>,
    /// Creation templates and pull-through cache rules as answers show them, by their prefixes.
    templates: BTreeMap<String, Value>,
    pull_through: BTreeMap<String, Value>,
    /// Why nothing can be pulled through a rule, by its prefix.
    upstream_failures: BTreeMap<String, String>,
    /// Documents of the registry; none until one is put.
    scanning: Option<Value>,
    signing: Option<Value>,
    settings: BTreeMap<String, String>,
    /// Repository and digest of what has been scanned, and of what a test has set for later scans.
    scans: scanning::Scans,
    /// The latest preview of each repository's lifecycle policy.
    previews: BTreeMap<String, preview::Preview>,
}

/// One registry.
pub(crate) struct Registry {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) data_plane: SocketAddr,
    blob_store: SocketAddr,
    state: SharedEcrState,
    service: EcrService,
    /// Locked after `state`, never before it.
    extra: Mutex<Extra>,
    /// What the download URLs of layers are signed with.
    url_secret: String,
}

type Answer = Result<AwsResponse, AwsServiceError>;

impl Registry {
    pub(crate) fn new(account: &str, region: &str, data_plane: SocketAddr, blob_store: SocketAddr) -> Self {
        let endpoint = format!("http://{data_plane}");
        let state: SharedEcrState = Arc::new(RwLock::new(MultiAccountState::<EcrState>::new(
            account, region, &endpoint,
        )));
        Self {
            account: account.to_owned(),
            region: region.to_owned(),
            data_plane,
            blob_store,
            service: EcrService::new(Arc::clone(&state)),
            state,
            extra: Mutex::default(),
            url_secret: Uuid::new_v4().to_string(),
        }
    }

    /// Where images are pushed to and pulled from.
    pub(crate) fn data_plane_url(&self) -> String {
        format!("http://{}", self.data_plane)
    }

    pub(crate) fn repository_arn(&self, name: &str) -> String {
        format!("arn:aws:ecr:{}:{}:repository/{name}", self.region, self.account)
    }

    /// The tags of a repository; `None` if there is no such repository.
    pub(crate) fn repository_tags(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let states = self.state.read();
        states
            .get(&self.account)?
            .repositories
            .get(name)
            .map(|repository| repository.tags.clone())
    }

    /// Carries out a signed call, if the caller may.
    pub(crate) async fn call(self: &Arc<Self>, world: &Arc<World>, caller: &Caller, request: AwsRequest) -> Answer {
        let Some(operation) = operations::find(&request.action) else {
            return Err(refusal(400, "UnknownOperationException", "No such operation"));
        };
        let body: Value = if request.body.is_empty() {
            Value::Object(serde_json::Map::new())
        } else {
            serde_json::from_slice(&request.body)
                .map_err(|_| refusal(400, "SerializationException", "The body is not JSON"))?
        };
        operations::authorize(world, self, caller, operation, &body)?;
        match operation {
            "CreateRepository" => self.create_repository(&body),
            "DescribeRepositories" => self.describe_repositories(&body),
            "DeleteRepository" => self.delete_repository(world, caller, &body),
            "PutImageScanningConfiguration" => self.put_image_scanning_configuration(&body),
            "PutImageTagMutability" => self.put_image_tag_mutability(&body),
            "SetRepositoryPolicy" => self.set_repository_policy(world, &body),
            "GetRepositoryPolicy" => self.get_repository_policy(&body),
            "DeleteRepositoryPolicy" => self.delete_repository_policy(&body),
            "TagResource" => self.tag_resource(&body),
            "UntagResource" => self.untag_resource(&body),
            "ListTagsForResource" => self.list_tags_for_resource(&body),
            "PutLifecyclePolicy" => self.put_lifecycle_policy(&body),
            "GetLifecyclePolicy" => self.get_lifecycle_policy(&body),
            "DeleteLifecyclePolicy" => self.delete_lifecycle_policy(&body),
            "StartLifecyclePolicyPreview" => self.start_lifecycle_policy_preview(world, &body),
            "GetLifecyclePolicyPreview" => self.get_lifecycle_policy_preview(world, &body),
            "PutImage" => self.put_image(world, &body),
            "BatchGetImage" => self.batch_get_image(caller, &body),
            "BatchCheckLayerAvailability" => self.batch_check_layer_availability(&body),
            "CompleteLayerUpload" => self.complete_layer_upload(request, &body).await,
            "DescribeImages" => self.describe_images(&body),
            "ListImages" => self.list_images(&body),
            "BatchDeleteImage" => self.batch_delete_image(world, caller, &body),
            "GetAuthorizationToken" => Ok(self.get_authorization_token(world, caller)),
            "PutReplicationConfiguration" => self.put_replication_configuration(&body),
            "DescribeRegistry" => Ok(self.describe_registry()),
            "StartReplicationBackfill" => self.start_replication_backfill(world, &body),
            "StopReplicationBackfill" => self.stop_replication_backfill(&body),
            "ListReplicationBackfills" => self.list_replication_backfills(&body),
            "DescribeReplicationBackfillResults" => self.describe_replication_backfill_results(&body),
            "StartImageScan" => self.start_image_scan(world, &body),
            "DescribeImageScanFindings" => self.describe_image_scan_findings(&body),
            "PutRegistryScanningConfiguration" => self.put_registry_scanning_configuration(&body),
            "GetRegistryScanningConfiguration" => Ok(self.get_registry_scanning_configuration()),
            "BatchGetRepositoryScanningConfiguration" => self.batch_get_repository_scanning_configuration(&body),
            "PutRegistryPolicy" => self.put_registry_policy(&body),
            "PutSigningConfiguration" => self.put_signing_configuration(&body),
            "GetSigningConfiguration" => self.get_signing_configuration(),
            "DeleteSigningConfiguration" => self.delete_signing_configuration(),
            "DescribeImageSigningStatus" => self.describe_image_signing_status(&body),
            "CreateRepositoryCreationTemplate" => self.create_template(&body),
            "UpdateRepositoryCreationTemplate" => self.update_template(&body),
            "DeleteRepositoryCreationTemplate" => self.delete_template(&body),
            "DescribeRepositoryCreationTemplates" => self.describe_templates(&body),
            "CreatePullThroughCacheRule" => self.create_pull_through_rule(&body),
            "UpdatePullThroughCacheRule" => self.update_pull_through_rule(&body),
            "DeletePullThroughCacheRule" => self.delete_pull_through_rule(&body),
            "DescribePullThroughCacheRules" => self.describe_pull_through_rules(&body),
            "ValidatePullThroughCacheRule" => self.validate_pull_through_rule(&body),
            "GetAccountSetting" => self.get_account_setting(&body),
            "PutAccountSetting" => self.put_account_setting(&body),
            "RegisterPullTimeUpdateExclusion" => self.register_exclusion(&body),
            "DeregisterPullTimeUpdateExclusion" => self.deregister_exclusion(&body),
            "ListPullTimeUpdateExclusions" => self.list_exclusions(&body),
            "UpdateImageStorageClass" => self.update_image_storage_class(world, &body),
            "GetDownloadUrlForLayer" => self.get_download_url_for_layer(request, &body).await,
            _ => self.fall_through(request).await,
        }
    }

    /// Lets fakecloud carry the request out; its message for a missing repository lacks the registry.
    pub(crate) async fn fall_through(&self, request: AwsRequest) -> Answer {
        self.service.handle(request).await.map_err(|error| {
            if error.code() == "RepositoryNotFoundException" {
                let message = error.message();
                let name = message.split('\'').nth(1).unwrap_or_default();
                return errors::repository_not_found(name, &self.account);
            }
            error
        })
    }

    /// Reads or changes the registry's state in fakecloud.
    fn with_state<T>(&self, act: impl FnOnce(&mut EcrState) -> T) -> T {
        act(self.state.write().get_or_create(&self.account))
    }

    /// Reads or changes a repository; an error if there is none of that name.
    fn with_repository<T>(
        &self,
        name: &str,
        act: impl FnOnce(&mut Repository) -> Result<T, AwsServiceError>,
    ) -> Result<T, AwsServiceError> {
        self.with_state(|state| {
            let missing = || errors::repository_not_found(name, &self.account);
            act(state.repositories.get_mut(name).ok_or_else(missing)?)
        })
    }
}
