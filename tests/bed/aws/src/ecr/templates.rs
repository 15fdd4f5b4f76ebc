//! Repository creation templates: kept, and applied to repositories that replication or a push makes.

use std::collections::BTreeMap;

use chrono::Utc;
use fakecloud_core::service::{AwsResponse, AwsServiceError};
use serde_json::{Value, json};

use super::errors::{optional, page_size, required, unsatisfied};
use super::repositories::{Settings, decode_token, encode_token};
use super::{Answer, Registry, encryption, mutability, names, policy_text, tags};
use crate::answer::refusal;

/// What a template may be applied for.
const OCCASIONS: &[&str] = &["REPLICATION", "PULL_THROUGH_CACHE", "CREATE_ON_PUSH"];

/// Members of a template that are kept as they come.
const PLAIN: &[&str] = &[
    "description",
    "customRoleArn",
    "repositoryPolicy",
    "lifecyclePolicy",
    "resourceTags",
];

/// Members that are looked at one by one.
const KNOWN: &[&str] = &[
    "prefix",
    "appliedFor",
    "imageTagMutability",
    "imageTagMutabilityExclusionFilters",
    "encryptionConfiguration",
    "createdAt",
    "updatedAt",
];

/// A template that says nothing.
fn plain(prefix: &str, created_at: &Value) -> Value {
    json!({
        "prefix": prefix,
        "imageTagMutability": "MUTABLE",
        "encryptionConfiguration": { "encryptionType": "AES256" },
        "resourceTags": [],
        "createdAt": created_at,
        "updatedAt": created_at,
    })
}

impl Registry {
    pub(super) fn create_template(&self, body: &Value) -> Answer {
        let prefix = required(body, "prefix")?;
        let component = prefix.strip_suffix('/').unwrap_or(prefix);
        if prefix != "ROOT" && (prefix.len() > 256 || !names::is_path(component)) {
            return Err(unsatisfied(
                "prefix",
                "must satisfy the regular expression of repository prefixes",
            ));
        }
        let now = Utc::now().timestamp();
        let mut template = plain(prefix, &json!(now));
        if body.get("appliedFor").is_none() {
            return Err(unsatisfied("appliedFor", "Member must not be null"));
        }
        self.change(&mut template, body)?;
        let mut extra = self.extra.lock();
        if extra.templates.contains_key(prefix) {
            return Err(refusal(
                400,
                "TemplateAlreadyExistsException",
                format!("A repository creation template with the prefix '{prefix}' already exists"),
            ));
        }
        extra.templates.insert(prefix.to_owned(), template.clone());
        Ok(self.template_answer(&template))
    }

    pub(super) fn update_template(&self, body: &Value) -> Answer {
        let prefix = required(body, "prefix")?;
        let mut extra = self.extra.lock();
        let known = extra.templates.get_mut(prefix).ok_or_else(|| no_template(prefix))?;
        // Whether what is left out stays is not documented; that it does not is the strict guess.
        let mut template = plain(prefix, &known["createdAt"]);
        template["appliedFor"] = known["appliedFor"].clone();
        self.change(&mut template, body)?;
        template["updatedAt"] = json!(Utc::now().timestamp());
        *known = template.clone();
        Ok(self.template_answer(&template))
    }

    pub(super) fn delete_template(&self, body: &Value) -> Answer {
        let prefix = required(body, "prefix")?;
        let template = self
            .extra
            .lock()
            .templates
            .remove(prefix)
            .ok_or_else(|| no_template(prefix))?;
        Ok(self.template_answer(&template))
    }

    pub(super) fn describe_templates(&self, body: &Value) -> Answer {
        let wanted = body.get("prefixes").and_then(Value::as_array);
        let (size, after) = (
            page_size(body, 100, 1000)?,
            optional(body, "nextToken").map(decode_token).transpose()?,
        );
        let extra = self.extra.lock();
        let mut rest = extra.templates.iter().filter(|(prefix, _)| {
            wanted.is_none_or(|wanted| wanted.iter().any(|name| name == prefix.as_str()))
                && after.as_ref().is_none_or(|after| *prefix > after)
        });
        let page: Vec<_> = rest.by_ref().take(size).collect();
        let mut answer = json!({
            "registryId": self.account,
            "repositoryCreationTemplates": page.iter().map(|(_, template)| template).collect::<Vec<_>>(),
        });
        if let (Some((last, _)), true) = (page.last(), rest.next().is_some()) {
            answer["nextToken"] = json!(encode_token(last));
        }
        Ok(AwsResponse::ok_json(answer))
    }

    fn template_answer(&self, template: &Value) -> AwsResponse {
        AwsResponse::ok_json(json!({ "registryId": self.account, "repositoryCreationTemplate": template }))
    }

    /// Takes over what a request says, also members that nobody here knows.
    fn change(&self, template: &mut Value, body: &Value) -> Result<(), AwsServiceError> {
        if let Some(occasions) = body.get("appliedFor").and_then(Value::as_array) {
            let known = |occasion: &Value| occasion.as_str().is_some_and(|name| OCCASIONS.contains(&name));
            if occasions.is_empty() || !occasions.iter().all(known) {
                return Err(unsatisfied(
                    "appliedFor",
                    "Members must satisfy enum value set: [CREATE_ON_PUSH, PULL_THROUGH_CACHE, REPLICATION]",
                ));
            }
            template["appliedFor"] = json!(occasions);
        }
        if body.get("imageTagMutability").is_some() || body.get("imageTagMutabilityExclusionFilters").is_some() {
            let (mutability, filters) = mutability::requested(body)?;
            template["imageTagMutability"] = json!(mutability);
            template["imageTagMutabilityExclusionFilters"] = json!(filters);
        }
        if let Some(configuration) = body.get("encryptionConfiguration") {
            encryption::resolve(self, Some(configuration))?;
            template["encryptionConfiguration"] = configuration.clone();
        }
        tags::new_tags(&json!({ "tags": body.get("resourceTags").unwrap_or(&json!([])) }))?;
        let policy = optional(body, "repositoryPolicy").filter(|text| !text.is_empty());
        if policy.is_some_and(|text| policy_text::parse(text).is_none()) {
            return Err(unsatisfied("repositoryPolicy", "Invalid repository policy provided"));
        }
        for (member, value) in body.as_object().into_iter().flatten() {
            if PLAIN.contains(&member.as_str()) || !KNOWN.contains(&member.as_str()) {
                template[member] = value.clone();
            }
        }
        Ok(())
    }

    /// The template for a new repository: that of the longest prefix, by whole path components, or `ROOT`.
    pub(super) fn template_for(&self, name: &str, occasion: &str) -> Option<Value> {
        let extra = self.extra.lock();
        let applied = extra.templates.iter().filter(|(_, template)| {
            let occasions = template
                .get("appliedFor")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            occasions.into_iter().any(|known| known == occasion)
        });
        let fits = |prefix: &str| prefix == "ROOT" || name.starts_with(&format!("{}/", prefix.trim_end_matches('/')));
        let length = |prefix: &str| {
            if prefix == "ROOT" {
                0
            } else {
                prefix.trim_end_matches('/').len()
            }
        };
        let best = applied
            .filter(|(prefix, _)| fits(prefix))
            .max_by_key(|(prefix, _)| length(prefix));
        best.map(|(_, template)| template.clone())
    }

    /// Makes a repository as a template says, policies included.
    pub(super) fn create_from(&self, name: &str, template: &Value) -> Result<(), AwsServiceError> {
        let (encryption, key) = encryption::resolve(self, template.get("encryptionConfiguration"))?;
        let tags: BTreeMap<_, _> = tags::new_tags(&json!({ "tags": template["resourceTags"] }))?;
        if (!tags.is_empty() || encryption != "AES256") && optional(template, "customRoleArn").is_none() {
            return Err(refusal(
                400,
                "ValidationException",
                "Tags and KMS keys of a template need its customRoleArn",
            ));
        }
        let settings = Settings {
            mutability: mutability::requested(template)?,
            scan_on_push: false,
            encryption: (encryption, key),
            tags,
        };
        self.add_repository(name, settings)?;
        let text = |member: &str| optional(template, member).filter(|text| !text.is_empty());
        self.with_repository(name, |repository| {
            repository.lifecycle_policy = text("lifecyclePolicy").map(str::to_owned);
            let policy = text("repositoryPolicy").and_then(policy_text::parse);
            repository.policy = policy.map(|document| policy_text::pretty(&document));
            Ok(())
        })
    }

    /// Makes the repository of a push that has none, if a template is there for it.
    pub(crate) fn create_on_push(&self, name: &str) -> Result<bool, AwsServiceError> {
        match self.template_for(name, "CREATE_ON_PUSH") {
            Some(template) => self.create_from(name, &template).map(|()| true),
            None => Ok(false),
        }
    }
}

fn no_template(prefix: &str) -> AwsServiceError {
    refusal(
        400,
        "TemplateNotFoundException",
        format!("The repository creation template with prefix '{prefix}' does not exist"),
    )
}
