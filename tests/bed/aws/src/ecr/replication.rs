//! Replication: the rules as they were put, and images carried over to the registries they name.

use std::collections::BTreeSet;
use std::sync::Arc;

use fakecloud_core::auth::{
    ConditionContext, IamAction, IamDecision, IamPolicyEvaluator as _, Principal, PrincipalType,
};
use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{optional, required, unsatisfied};
use super::repositories::Settings;
use super::{Answer, Registry, mutability};
use crate::departures::Cause;
use crate::events::{Event, send};
use crate::registries::registry;
use crate::world::World;

/// The most rules, and the most destinations over all of them.
const MOST: usize = 25;

/// An account and a Region.
pub(super) type Destination = (String, String);

impl Registry {
    pub(super) fn put_replication_configuration(&self, body: &Value) -> Answer {
        let rules = body
            .pointer("/replicationConfiguration/rules")
            .and_then(Value::as_array);
        let rules = rules.ok_or_else(|| unsatisfied("rules", "Member must not be null"))?;
        if rules.len() > MOST {
            return Err(unsatisfied("rules", "Member must have length less than or equal to 25"));
        }
        let rules = rules
            .iter()
            .map(|rule| self.checked(rule))
            .collect::<Result<Vec<_>, _>>()?;
        if rules.iter().flat_map(destinations).collect::<BTreeSet<_>>().len() > MOST {
            return Err(unsatisfied(
                "destinations",
                "A registry replicates to at most 25 destinations",
            ));
        }
        self.extra.lock().replication.clone_from(&rules);
        Ok(AwsResponse::ok_json(
            json!({ "replicationConfiguration": { "rules": rules } }),
        ))
    }

    pub(super) fn describe_registry(&self) -> AwsResponse {
        let rules = self.extra.lock().replication.clone();
        AwsResponse::ok_json(json!({
            "registryId": self.account,
            "replicationConfiguration": { "rules": rules },
        }))
    }

    /// A rule with what the service knows of it, and with members named `x-…`, which stand for what a later version of the
    /// service will know.
    fn checked(&self, rule: &Value) -> Result<Value, AwsServiceError> {
        let listed = |member: &str| rule.get(member).and_then(Value::as_array);
        let targets = listed("destinations").ok_or_else(|| unsatisfied("destinations", "Member must not be null"))?;
        let targets = targets.iter().map(|target| {
            let (region, account) = (required(target, "region")?, required(target, "registryId")?);
            if account == self.account && region == self.region {
                return Err(unsatisfied("destinations", "A registry does not replicate to itself"));
            }
            Ok(json!({ "region": region, "registryId": account }))
        });
        let mut checked = json!({ "destinations": targets.collect::<Result<Vec<_>, AwsServiceError>>()? });
        if let Some(filters) = listed("repositoryFilters") {
            let filters = filters.iter().map(|filter| match required(filter, "filterType")? {
                "PREFIX_MATCH" => Ok(json!({ "filter": required(filter, "filter")?, "filterType": "PREFIX_MATCH" })),
                _ => Err(unsatisfied(
                    "filterType",
                    "Member must satisfy enum value set: [PREFIX_MATCH]",
                )),
            });
            let filters = filters.collect::<Result<Vec<_>, AwsServiceError>>()?;
            if !(1..=100).contains(&filters.len()) {
                return Err(unsatisfied(
                    "repositoryFilters",
                    "Member must have length between 1 and 100",
                ));
            }
            checked["repositoryFilters"] = json!(filters);
        }
        if let Some(deletion) = rule.get("deleteReplication").filter(|deletion| !deletion.is_null()) {
            let enabled = deletion.get("enabled").and_then(Value::as_bool);
            let enabled = enabled.ok_or_else(|| unsatisfied("enabled", "Member must not be null"))?;
            checked["deleteReplication"] = json!({ "enabled": enabled });
        }
        let later = rule.as_object().into_iter().flatten();
        for (member, value) in later.filter(|(member, _)| member.starts_with("x-")) {
            checked[member] = value.clone();
        }
        Ok(checked)
    }

    /// The destinations of the rules that take a repository; those for deletions only, if asked for.
    fn destinations_of(&self, repository: &str, deletions: bool) -> BTreeSet<Destination> {
        let extra = self.extra.lock();
        let rules = extra.replication.iter().filter(|rule| {
            let filters = rule.get("repositoryFilters").and_then(Value::as_array);
            let taken = filters.is_none_or(|filters| {
                filters
                    .iter()
                    .any(|filter| optional(filter, "filter").is_some_and(|f| repository.starts_with(f)))
            });
            let deletes = rule
                .pointer("/deleteReplication/enabled")
                .and_then(Value::as_bool)
                .unwrap_or(false);
            taken && (deletes || !deletions)
        });
        rules.flat_map(destinations).collect()
    }

    /// Whether some rule replicates to this destination.
    pub(super) fn replicates_to(&self, destination: &Destination) -> bool {
        self.extra
            .lock()
            .replication
            .iter()
            .flat_map(destinations)
            .any(|known| known == *destination)
    }

    /// Whether some rule replicates a repository to this destination.
    pub(super) fn sends(&self, repository: &str, destination: &Destination) -> bool {
        self.destinations_of(repository, false).contains(destination)
    }

    /// Carries a pushed image over, after the push has been answered.
    pub(super) fn replicate(self: &Arc<Self>, world: &Arc<World>, repository: &str, digest: &str, tag: Option<&str>) {
        let targets = self.destinations_of(repository, false);
        if targets.is_empty() {
            return;
        }
        for target in &targets {
            self.record_replication(repository, digest, target, "IN_PROGRESS");
        }
        let (source, world) = (Arc::clone(self), Arc::clone(world));
        let (repository, digest, tag) = (repository.to_owned(), digest.to_owned(), tag.map(str::to_owned));
        tokio::spawn(async move {
            for target in targets {
                let status = match source.copy_to(&world, &target, &repository, &digest, tag.as_deref()) {
                    Ok(()) => "COMPLETE",
                    Err(error) => {
                        tracing::info!(%error, ?target, "replication failed");
                        "FAILED"
                    }
                };
                source.record_replication(&repository, &digest, &target, status);
            }
        });
    }

    /// Copies one image to another registry, its repository made if need be.
    pub(super) fn copy_to(
        &self,
        world: &Arc<World>,
        (account, region): &Destination,
        name: &str,
        digest: &str,
        tag: Option<&str>,
    ) -> Result<(), AwsServiceError> {
        let target = registry(world, account, region)?;
        if *account != self.account {
            target.accepts_from(world, &self.account, name)?;
        }
        let (image, layers) = self.with_repository(name, |repository| {
            let image = repository.images.get(digest).cloned();
            let wanted = |layer: &str| image.as_ref().is_some_and(|image| image.image_manifest.contains(layer));
            let layers = repository.layers.iter().filter(|(layer, _)| wanted(layer));
            let layers: Vec<_> = layers.map(|(layer, stored)| (layer.clone(), stored.clone())).collect();
            Ok((image, layers))
        })?;
        // Deleted since: there is nothing to carry over.
        let Some(image) = image else { return Ok(()) };
        let known = target.repository_tags(name).is_some();
        if !known {
            match target.template_for(name, "REPLICATION") {
                Some(template) => target.create_from(name, &template)?,
                None => target.add_repository(name, Settings::default()).map(|_| ())?,
            }
        }
        let filters = target.extra.lock().filters.get(name).cloned().unwrap_or_default();
        target.with_repository(name, |repository| {
            repository.layers.extend(layers);
            repository.images.entry(digest.to_owned()).or_insert(image);
            if let Some(tag) = tag {
                let taken = repository.image_tags.get(tag).is_some_and(|holder| holder != digest);
                // The image arrives without its tag where that may not move.
                if !taken || !mutability::is_immutable(&repository.image_tag_mutability, &filters, tag) {
                    repository.image_tags.insert(tag.to_owned(), digest.to_owned());
                }
            }
            Ok(())
        })?;
        let mut detail = json!({
            "result": "SUCCESS",
            "repository-name": name,
            "image-digest": digest,
            "source-account": self.account,
            "action-type": "REPLICATE",
            "source-region": self.region,
        });
        if let Some(tag) = tag {
            detail["image-tag"] = json!(tag);
        }
        let resources = vec![target.repository_arn(name)];
        send(
            world,
            &target,
            Event {
                detail_type: "ECR Replication Action",
                resources,
                detail,
            },
        );
        Ok(())
    }

    /// Whether the registry policy lets another account replicate into this registry.
    fn accepts_from(&self, world: &World, account: &str, name: &str) -> Result<(), AwsServiceError> {
        let policy = self
            .state
            .read()
            .get(&self.account)
            .and_then(|state| state.registry_policy.clone());
        let root = format!("arn:aws:iam::{account}:root");
        let principal = Principal {
            arn: root.clone(),
            user_id: account.to_owned(),
            account_id: account.to_owned(),
            principal_type: PrincipalType::Root,
            source_identity: None,
            tags: None,
        };
        let mut needed = vec!["ReplicateImage"];
        if self.repository_tags(name).is_none() {
            needed.push("CreateRepository");
        }
        for action in needed {
            let action = IamAction {
                service: "ecr",
                action,
                resource: self.repository_arn(name),
            };
            let context = ConditionContext::default();
            let decision =
                world
                    .evaluator
                    .evaluate_resource_policy_only(&principal, &action, &context, policy.as_deref());
            if decision != IamDecision::Allow {
                let message = format!("{root} may not {} into {}", action.action_string(), action.resource);
                return Err(crate::access::access_denied(crate::target::Service::Ecr, message));
            }
        }
        Ok(())
    }

    pub(super) fn record_replication(&self, name: &str, digest: &str, target: &Destination, status: &str) {
        let (account, region) = target;
        let failure = (status == "FAILED").then_some("AccessDenied");
        let entry = json!({ "region": region, "registry_id": account, "status": status, "failure_code": failure });
        // The repository may be gone by now.
        let _ = self.with_repository(name, |repository| {
            let statuses = repository.replication_statuses.entry(digest.to_owned()).or_default();
            statuses.retain(|known| known.registry_id != *account || known.region != *region);
            // Its type has no name outside of fakecloud, but it can be read from JSON.
            if let Ok(entry) = serde_json::from_value(entry) {
                statuses.push(entry);
            }
            Ok(())
        });
    }

    /// Carries a deletion over where a rule wants it: a tag, or an image whose last tag is gone.
    pub(super) fn replicate_deletion(&self, world: &Arc<World>, name: &str, digest: &str, tag: Option<&str>) {
        for (account, region) in self.destinations_of(name, true) {
            let Ok(target) = registry(world, &account, &region) else {
                continue;
            };
            // Nothing to delete where the repository has never come to be.
            let _ = target.with_repository(name, |repository| {
                repository
                    .image_tags
                    .retain(|known, holder| holder != digest || tag.is_some_and(|tag| tag != known));
                if !repository.image_tags.values().any(|holder| holder == digest)
                    && repository.images.remove(digest).is_some()
                {
                    let tags: Vec<_> = tag.into_iter().collect();
                    world
                        .departures
                        .record(&target, name, digest, &tags, Cause::Replication);
                }
                Ok(())
            });
            target.announce_image(world, "DELETE", name, digest, tag);
        }
    }
}

fn destinations(rule: &Value) -> Vec<Destination> {
    let targets = rule.get("destinations").and_then(Value::as_array).into_iter().flatten();
    let pair = |target: &Value| {
        Some((
            optional(target, "registryId")?.to_owned(),
            optional(target, "region")?.to_owned(),
        ))
    };
    targets.filter_map(pair).collect()
}
