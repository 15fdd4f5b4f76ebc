//! What an object asks for of a creation template, and how it differs from what ECR has. Pure.

use std::collections::BTreeMap;

use serde_json::json;

use crate::{
    api::{RepositoryCreationTemplate, ecr::Tags},
    aws::{
        listing::key,
        record::{Mutability, StoredEncryption},
        templates::{CreationTemplate, TemplateTerms},
    },
    control::{events::cut, plan::Verdict, reason::Reason},
    controllers::prefixed::{
        self,
        plan::{Change, Entry, Wish},
    },
    document::{lifecycle, policy::Policy},
};

/// The most that a line tells of a document, in bytes.
const BRIEF: usize = 300;

/// What is wanted of a template; what is `None` is not managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateWish {
    prefix: String,
    /// Sorted.
    applied_for: Vec<String>,
    description: Option<String>,
    encryption: Option<StoredEncryption>,
    tags: Option<BTreeMap<String, String>>,
    mutability: Option<Mutability>,
    repository_policy: Option<Document<Policy>>,
    lifecycle_policy: Option<Document<lifecycle::Policy>>,
    custom_role_arn: Option<String>,
}

/// What is wanted of a document that is managed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Document<D> {
    Absent,
    As(D),
}

impl TemplateWish {
    /// Works it out, or says what is not valid.
    pub(crate) fn of(object: &RepositoryCreationTemplate) -> Result<Self, Verdict> {
        let invalid = |message: String| Verdict::blocked(Reason::Invalid, message);
        let spec = &object.spec;
        if let Some(key) = spec.resource_tags.as_ref().and_then(Tags::reserved) {
            return Err(invalid(format!(
                "spec.resourceTags: the key {key:?} belongs to AWS or to the operator"
            )));
        }
        let mut applied_for: Vec<String> = spec
            .applied_for
            .iter()
            .map(|occasion| occasion.as_str().to_owned())
            .collect();
        applied_for.sort_unstable();
        let filters = spec.image_tag_mutability_exclusion_filters.iter().flatten();
        let filters: Vec<String> = filters.map(|filter| filter.filter.clone()).collect();
        let repository_policy = match &spec.repository_policy {
            None => None,
            Some(document) if document.is_empty() => Some(Document::Absent),
            Some(document) => Some(Document::As(
                Policy::from_value(&serde_json::Value::Object(document.clone()))
                    .map_err(|error| invalid(format!("spec.repositoryPolicy: {error}")))?,
            )),
        };
        let lifecycle_policy = match &spec.lifecycle_policy {
            None => None,
            Some(policy) if policy.rules.is_empty() => Some(Document::Absent),
            Some(policy) => {
                let wrong = |why: String| invalid(format!("spec.lifecyclePolicy.{why}"));
                let rules = serde_json::to_value(policy).map_err(|error| wrong(error.to_string()))?;
                let policy = lifecycle::Policy::from_value(&rules).map_err(|error| wrong(error.to_string()))?;
                policy.check(0).map_err(|error| wrong(error.to_string()))?;
                Some(Document::As(policy))
            }
        };
        Ok(Self {
            prefix: spec.prefix.to_string(),
            applied_for,
            description: spec.description.clone(),
            encryption: spec.encryption.as_ref().map(|encryption| StoredEncryption {
                encryption_type: encryption.encryption_type.as_str().to_owned(),
                kms_key: encryption.kms_key.as_ref().map(ToString::to_string),
            }),
            tags: spec.resource_tags.as_ref().map(|tags| tags.0.clone()),
            mutability: spec
                .image_tag_mutability
                .map(|value| Mutability::new(value.as_str(), filters)),
            repository_policy,
            lifecycle_policy,
            custom_role_arn: spec.custom_role_arn.as_ref().map(ToString::to_string),
        })
    }

    /// A digest of everything that is managed. It must not change with a new version of the operator unless the meaning does.
    pub(crate) fn hash(&self) -> String {
        let policy = self.repository_policy.as_ref().map(|document| match document {
            Document::Absent => String::new(),
            Document::As(policy) => policy.to_text(),
        });
        let lifecycle = self.lifecycle_policy.as_ref().map(|document| match document {
            Document::Absent => String::new(),
            Document::As(policy) => policy.to_text(),
        });
        prefixed::digest(&json!([
            1,
            digest(&self.creation()),
            self.description,
            self.tags,
            policy,
            lifecycle
        ]))
    }
}

/// What tells one template from another, ECR's defaults filled in. Of documents only whether they are there: ECR may write
/// them another way.
fn digest(terms: &TemplateTerms) -> String {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mutability = terms.mutability.as_ref();
    prefixed::digest(&json!([
        1,
        key(&terms.prefix),
        terms.applied_for,
        text(&terms.description),
        terms
            .encryption
            .as_ref()
            .map_or("AES256", |stored| stored.encryption_type.as_str()),
        terms.tags.clone().unwrap_or_default(),
        mutability.map_or_else(|| "MUTABLE".to_owned(), ToString::to_string),
        text(&terms.repository_policy).is_some(),
        text(&terms.lifecycle_policy).is_some(),
        terms.custom_role_arn,
    ]))
}

impl Entry for CreationTemplate {
    fn created_at(&self) -> jiff::Timestamp {
        self.created_at
    }

    fn digest(&self) -> String {
        digest(&self.terms)
    }
}

impl Wish for TemplateWish {
    type Live = CreationTemplate;
    type Terms = TemplateTerms;

    fn digest(&self) -> String {
        digest(&self.creation())
    }

    fn creation(&self) -> TemplateTerms {
        let some = |text: &String| !text.is_empty();
        TemplateTerms {
            prefix: self.prefix.clone(),
            applied_for: self.applied_for.clone(),
            description: self.description.clone().filter(some),
            encryption: self.encryption.clone(),
            tags: self.tags.clone().filter(|tags| !tags.is_empty()),
            mutability: self.mutability.clone(),
            repository_policy: self.repository_policy.as_ref().and_then(|document| match document {
                Document::Absent => None,
                Document::As(policy) => Some(policy.to_text()),
            }),
            lifecycle_policy: self.lifecycle_policy.as_ref().and_then(|document| match document {
                Document::Absent => None,
                Document::As(policy) => Some(policy.to_text()),
            }),
            custom_role_arn: self.custom_role_arn.clone(),
        }
    }

    fn outline(&self) -> String {
        format!("applied for {}", self.applied_for.join(", "))
    }

    /// The prefix is how a template is found; ECR can change everything else.
    fn fixed(&self, _: &CreationTemplate) -> Vec<String> {
        Vec::new()
    }

    fn change(&self, live: &CreationTemplate) -> Result<Option<Change<TemplateTerms>>, Verdict> {
        let mut terms = live.terms.clone();
        let lines = self.differences(&mut terms);
        if lines.is_empty() {
            return Ok(None);
        }
        if !live.unknown.is_empty() {
            let message = format!(
                "the template {} has fields that this version of the operator does not know and would lose with an update ({}), \
                 so nothing is written; still to do: {}. Take them out in ECR, make the change there, or use a newer version",
                self.prefix,
                live.unknown.join(", "),
                lines.join("; ")
            );
            return Err(Verdict::blocked(Reason::Conflict, message));
        }
        Ok(Some(Change { lines, terms }))
    }
}

impl TemplateWish {
    /// Puts what is wanted into the terms, and tells each difference.
    fn differences(&self, terms: &mut TemplateTerms) -> Vec<String> {
        let mut lines = Vec::new();
        if self.applied_for != terms.applied_for {
            let (was, wish) = (terms.applied_for.join(", "), self.applied_for.join(", "));
            lines.push(format!("appliedFor: {was} -> {wish}"));
            terms.applied_for.clone_from(&self.applied_for);
        }
        if let Some(wish) = &self.description
            && *wish != terms.description.clone().unwrap_or_default()
        {
            let was = terms.description.take().unwrap_or_default();
            lines.push(format!("description: {was:?} -> {wish:?}"));
            terms.description = Some(wish.clone());
        }
        if let Some(wish) = &self.mutability
            && Some(wish) != terms.mutability.as_ref()
        {
            let was = terms
                .mutability
                .as_ref()
                .map_or_else(|| "absent".into(), ToString::to_string);
            lines.push(format!("imageTagMutability: {was} -> {wish}"));
            terms.mutability = Some(wish.clone());
        }
        if let Some(wish) = &self.encryption
            && !is_encrypted_so(wish, terms.encryption.as_ref())
        {
            let told = |stored: &StoredEncryption| match &stored.kms_key {
                Some(key) => format!("{} {key}", stored.encryption_type),
                None => stored.encryption_type.clone(),
            };
            let was = terms.encryption.as_ref().map_or_else(|| "absent".into(), told);
            lines.push(format!("encryption: {was} -> {}", told(wish)));
            terms.encryption = Some(wish.clone());
        }
        if let Some(wish) = &self.tags
            && *wish != terms.tags.clone().unwrap_or_default()
        {
            let told = |tags: &BTreeMap<String, String>| {
                let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                brief(tags.join(", "))
            };
            let was = told(&terms.tags.take().unwrap_or_default());
            lines.push(format!("resourceTags: [{was}] -> [{}]", told(wish)));
            terms.tags = Some(wish.clone());
        }
        if let Some(wish) = &self.repository_policy {
            let same = |live: &str, wish: &Policy| Policy::parse(live).is_ok_and(|live| live == *wish);
            lines.extend(document(
                "repositoryPolicy",
                &mut terms.repository_policy,
                wish,
                same,
                Policy::to_text,
            ));
        }
        if let Some(wish) = &self.lifecycle_policy {
            let same = |live: &str, wish: &lifecycle::Policy| {
                lifecycle::Policy::parse(live).is_ok_and(|live| live.means_the_same(wish))
            };
            lines.extend(document(
                "lifecyclePolicy",
                &mut terms.lifecycle_policy,
                wish,
                same,
                lifecycle::Policy::to_text,
            ));
        }
        if let Some(wish) = &self.custom_role_arn
            && Some(wish) != terms.custom_role_arn.as_ref()
        {
            let was = terms.custom_role_arn.as_deref().unwrap_or("absent");
            lines.push(format!("customRoleArn: {was} -> {wish}"));
            terms.custom_role_arn = Some(wish.clone());
        }
        lines
    }
}

/// Puts a document into the terms where it does not mean the same, and tells so. One that is to go is sent as an empty text.
fn document<D>(
    field: &str,
    stored: &mut Option<String>,
    wish: &Document<D>,
    same: impl Fn(&str, &D) -> bool,
    text: impl Fn(&D) -> String,
) -> Option<String> {
    let new = match (wish, stored.as_deref()) {
        (Document::Absent, None) => return None,
        (Document::As(wish), Some(live)) if same(live, wish) => return None,
        (Document::Absent, Some(_)) => String::new(),
        (Document::As(wish), _) => text(wish),
    };
    let told = |text: &str| match text {
        "" => "absent".to_owned(),
        text => brief(text.to_owned()),
    };
    let line = format!(
        "{field}: {} -> {}",
        told(stored.as_deref().unwrap_or_default()),
        told(&new)
    );
    *stored = Some(new);
    Some(line)
}

/// A key that the object does not name is ECR's own choice.
fn is_encrypted_so(wish: &StoredEncryption, live: Option<&StoredEncryption>) -> bool {
    live.is_some_and(|live| {
        live.encryption_type == wish.encryption_type && (wish.kms_key.is_none() || live.kms_key == wish.kms_key)
    })
}

fn brief(mut text: String) -> String {
    cut(&mut text, BRIEF);
    text
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
