//! ECR's operations and the rights that each needs.

use fakecloud_core::auth::IamAction;
use fakecloud_core::service::AwsServiceError;
use serde_json::Value;

use super::{Registry, tags};
use crate::access::{self, Facts, access_denied};
use crate::credentials::Caller;
use crate::target::Service;
use crate::world::World;

/// Every operation of the service's model.
const OPERATIONS: &[&str] = &[
    "BatchCheckLayerAvailability",
    "BatchDeleteImage",
    "BatchGetImage",
    "BatchGetRepositoryScanningConfiguration",
    "CompleteLayerUpload",
    "CreatePullThroughCacheRule",
    "CreateRepository",
    "CreateRepositoryCreationTemplate",
    "DeleteLifecyclePolicy",
    "DeletePullThroughCacheRule",
    "DeleteRegistryPolicy",
    "DeleteRepository",
    "DeleteRepositoryCreationTemplate",
    "DeleteRepositoryPolicy",
    "DeleteSigningConfiguration",
    "DeregisterPullTimeUpdateExclusion",
    "DescribeImageReplicationStatus",
    "DescribeImageScanFindings",
    "DescribeImageSigningStatus",
    "DescribeImages",
    "DescribePullThroughCacheRules",
    "DescribeRegistry",
    "DescribeReplicationBackfillResults",
    "DescribeRepositories",
    "DescribeRepositoryCreationTemplates",
    "GetAccountSetting",
    "GetAuthorizationToken",
    "GetDownloadUrlForLayer",
    "GetLifecyclePolicy",
    "GetLifecyclePolicyPreview",
    "GetRegistryPolicy",
    "GetRegistryScanningConfiguration",
    "GetRepositoryPolicy",
    "GetSigningConfiguration",
    "InitiateLayerUpload",
    "ListImageReferrers",
    "ListImages",
    "ListPullTimeUpdateExclusions",
    "ListReplicationBackfills",
    "ListTagsForResource",
    "PutAccountSetting",
    "PutImage",
    "PutImageScanningConfiguration",
    "PutImageTagMutability",
    "PutLifecyclePolicy",
    "PutRegistryPolicy",
    "PutRegistryScanningConfiguration",
    "PutReplicationConfiguration",
    "PutSigningConfiguration",
    "RegisterPullTimeUpdateExclusion",
    "SetRepositoryPolicy",
    "StartImageScan",
    "StartLifecyclePolicyPreview",
    "StartReplicationBackfill",
    "StopReplicationBackfill",
    "TagResource",
    "UntagResource",
    "UpdateImageStorageClass",
    "UpdatePullThroughCacheRule",
    "UpdateRepositoryCreationTemplate",
    "UploadLayerPart",
    "ValidatePullThroughCacheRule",
];

/// The operation of that name, if the service has it.
pub(super) fn find(name: &str) -> Option<&'static str> {
    OPERATIONS.iter().copied().find(|operation| *operation == name)
}

/// Lets the caller through if the registry is its own and each right that the operation needs is granted.
pub(super) fn authorize(
    world: &World,
    registry: &Registry,
    caller: &Caller,
    operation: &'static str,
    body: &Value,
) -> Result<(), AwsServiceError> {
    let resources = resources(registry, operation, body);
    let addressed = body.get("registryId").and_then(Value::as_str);
    let foreign = addressed.filter(|id| *id != caller.principal.account_id);
    let foreign_arn = resources
        .iter()
        .find(|arn| arn.starts_with("arn:") && account(arn) != registry.account);
    if foreign.is_some() || foreign_arn.is_some() {
        // Rights across accounts come from repository policies, which are not evaluated for this.
        let resource = foreign_arn.or(resources.first()).map_or("*", String::as_str);
        let resource = foreign.map_or_else(|| resource.to_owned(), |id| resource.replace(&registry.account, id));
        return Err(access_denied(
            Service::Ecr,
            format!(
                "User: {} is not authorized to perform: ecr:{operation} on resource: {resource} because no \
                 resource-based policy allows the ecr:{operation} action",
                caller.principal.arn
            ),
        ));
    }
    let request_tags = tags::of_request(body);
    let mut actions = vec![action_of(operation)];
    if operation == "CreateRepository" && request_tags.as_ref().is_some_and(|tags| !tags.is_empty()) {
        actions.push("TagResource");
    }
    for resource in resources {
        let name = resource.split_once(":repository/").map_or("", |(_, name)| name);
        let mut facts = Facts {
            region: registry.region.clone(),
            resource_tags: registry.repository_tags(name),
            request_tags: request_tags.clone(),
            ..Facts::default()
        };
        if let Some(keys) = body.get("tagKeys").and_then(Value::as_array) {
            let keys = keys.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            facts.keys.insert("aws:TagKeys".to_owned(), keys);
        }
        for action in &actions {
            let action = IamAction {
                service: "ecr",
                action,
                resource: resource.clone(),
            };
            access::authorize(world, Service::Ecr, caller, &[action], &facts)?;
        }
    }
    Ok(())
}

/// Whether the caller has one of `actions` on a repository: what the data plane asks.
pub(crate) fn allows(
    world: &World,
    registry: &Registry,
    caller: &Caller,
    actions: &[&'static str],
    repository: &str,
) -> Result<(), AwsServiceError> {
    let facts = Facts {
        region: registry.region.clone(),
        resource_tags: registry.repository_tags(repository),
        ..Facts::default()
    };
    let mut outcome = Ok(());
    for action in actions {
        let action = IamAction {
            service: "ecr",
            action,
            resource: registry.repository_arn(repository),
        };
        outcome = access::authorize(world, Service::Ecr, caller, &[action], &facts);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The action that guards an operation: its own name, but for one.
fn action_of(operation: &'static str) -> &'static str {
    match operation {
        "ListImageReferrers" => "BatchGetImage",
        other => other,
    }
}

fn account(arn: &str) -> &str {
    arn.split(':').nth(4).unwrap_or_default()
}

/// The ARNs that an operation acts on; `*` where the action knows no resource.
fn resources(registry: &Registry, operation: &str, body: &Value) -> Vec<String> {
    if let Some(arn) = body.get("resourceArn").and_then(Value::as_str) {
        return vec![arn.to_owned()];
    }
    if let Some(name) = body.get("repositoryName").and_then(Value::as_str) {
        return vec![registry.repository_arn(name)];
    }
    let names: Vec<_> = match body.get("repositoryNames").and_then(Value::as_array) {
        Some(names) => names
            .iter()
            .filter_map(Value::as_str)
            .map(|name| registry.repository_arn(name))
            .collect(),
        None => Vec::new(),
    };
    match operation {
        _ if !names.is_empty() => names,
        "DescribeRepositories" => vec![registry.repository_arn("*")],
        _ => vec!["*".to_owned()],
    }
}
