//! What ECR is asked about repository creation templates. One function an operation.

use std::collections::BTreeMap;

use aws_sdk_ecr::types::{
    EncryptionConfigurationForRepositoryCreationTemplate, EncryptionType, ImageTagMutability, RctAppliedFor,
    RepositoryCreationTemplate,
};
use jiff::Timestamp;
use serde_json::Value;

use super::{
    cache_rules::created_at,
    client::{Ecr, PAGE, call, filters, tags, unbuildable},
    error::AwsError,
    record::{Mutability, StoredEncryption},
    wire::Wire,
};

/// A template as ECR has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreationTemplate {
    pub created_at: Timestamp,
    /// What ECR shows is there; what it does not show is `None`.
    pub terms: TemplateTerms,
    /// Fields of the answer that this version of the operator does not know, and could not send back.
    pub unknown: Vec<String>,
}

/// What a template says. What is `None` is not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TemplateTerms {
    pub prefix: String,
    /// Sorted: ECR's order carries no meaning.
    pub applied_for: Vec<String>,
    pub description: Option<String>,
    pub encryption: Option<StoredEncryption>,
    pub tags: Option<BTreeMap<String, String>>,
    pub mutability: Option<Mutability>,
    pub repository_policy: Option<String>,
    pub lifecycle_policy: Option<String>,
    pub custom_role_arn: Option<String>,
}

/// The fields of a template in an answer that the operator knows, and those of what is inside of them.
const KNOWN: [(&str, &[&str]); 12] = [
    ("prefix", &[]),
    ("description", &[]),
    ("encryptionConfiguration", &["encryptionType", "kmsKey"]),
    ("resourceTags", &["Key", "Value"]),
    ("imageTagMutability", &[]),
    ("imageTagMutabilityExclusionFilters", &["filterType", "filter"]),
    ("repositoryPolicy", &[]),
    ("lifecyclePolicy", &[]),
    ("appliedFor", &[]),
    ("customRoleArn", &[]),
    ("createdAt", &[]),
    ("updatedAt", &[]),
];

/// Sets everything that the terms say, for a creation as for an update.
macro_rules! saying {
    ($request:expr, $operation:literal, $terms:expr) => {{
        let terms = $terms;
        let (mutability, excepted) = match &terms.mutability {
            Some(mutability) => (
                Some(ImageTagMutability::from(mutability.value.as_str())),
                filters($operation, mutability)?,
            ),
            None => (None, None),
        };
        $request
            .prefix(&terms.prefix)
            .set_applied_for(Some(
                terms
                    .applied_for
                    .iter()
                    .map(|occasion| RctAppliedFor::from(occasion.as_str()))
                    .collect(),
            ))
            .set_description(terms.description.clone())
            .set_encryption_configuration(encryption($operation, terms.encryption.as_ref())?)
            .set_resource_tags(terms.tags.as_ref().map(|set| tags($operation, set)).transpose()?)
            .set_image_tag_mutability(mutability)
            .set_image_tag_mutability_exclusion_filters(excepted)
            .set_repository_policy(terms.repository_policy.clone())
            .set_lifecycle_policy(terms.lifecycle_policy.clone())
            .set_custom_role_arn(terms.custom_role_arn.clone())
    }};
}

impl Ecr {
    /// Every template of the registry, by its prefix; fails as a whole if a page fails.
    pub(crate) async fn list_templates(&self) -> Result<Vec<(String, CreationTemplate)>, AwsError> {
        let mut templates = Vec::new();
        let mut token = None;
        loop {
            let wire = Wire::default();
            let request = self
                .client
                .describe_repository_creation_templates()
                .max_results(PAGE)
                .set_next_token(token)
                .customize()
                .interceptor(wire.clone());
            let page = call!(self, read "DescribeRepositoryCreationTemplates", request)?;
            let read = read_all(page.repository_creation_templates.unwrap_or_default(), &wire)?;
            templates.extend(
                read.into_iter()
                    .map(|template| (template.terms.prefix.clone(), template)),
            );
            token = page.next_token;
            if token.is_none() {
                return Ok(templates);
            }
        }
    }

    /// The template of a prefix as ECR has it now.
    pub(crate) async fn template(&self, prefix: &str) -> Result<Option<CreationTemplate>, AwsError> {
        let wire = Wire::default();
        let request = self
            .client
            .describe_repository_creation_templates()
            .prefixes(prefix)
            .customize()
            .interceptor(wire.clone());
        match call!(self, read "DescribeRepositoryCreationTemplates", request) {
            Ok(answer) => {
                let read = read_all(answer.repository_creation_templates.unwrap_or_default(), &wire)?;
                Ok(read.into_iter().next())
            }
            // No such error is documented; the other operations have it.
            Err(error) if error.is("TemplateNotFoundException") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates a template. Returns what ECR stored.
    pub(crate) async fn create_template(&self, terms: &TemplateTerms) -> Result<CreationTemplate, AwsError> {
        const OPERATION: &str = "CreateRepositoryCreationTemplate";
        let request = saying!(
            self.client.create_repository_creation_template(),
            "CreateRepositoryCreationTemplate",
            terms
        );
        let answer = call!(self, write "CreateRepositoryCreationTemplate", request)?;
        let stored = answer.repository_creation_template;
        read(
            OPERATION,
            stored.ok_or_else(|| AwsError::incomplete(OPERATION, "repositoryCreationTemplate"))?,
        )
    }

    /// Replaces what a template says. Whether ECR keeps what an update leaves out is not documented, so the terms are to
    /// say everything. Returns what ECR stored.
    pub(crate) async fn update_template(&self, terms: &TemplateTerms) -> Result<CreationTemplate, AwsError> {
        const OPERATION: &str = "UpdateRepositoryCreationTemplate";
        let request = saying!(
            self.client.update_repository_creation_template(),
            "UpdateRepositoryCreationTemplate",
            terms
        );
        let answer = call!(self, write "UpdateRepositoryCreationTemplate", request)?;
        let stored = answer.repository_creation_template;
        read(
            OPERATION,
            stored.ok_or_else(|| AwsError::incomplete(OPERATION, "repositoryCreationTemplate"))?,
        )
    }

    /// Deletes a template; repositories stay. None to delete is a success.
    pub(crate) async fn delete_template(&self, prefix: &str) -> Result<(), AwsError> {
        let request = self.client.delete_repository_creation_template().prefix(prefix);
        match call!(self, write "DeleteRepositoryCreationTemplate", request) {
            Err(error) if error.is("TemplateNotFoundException") => Ok(()),
            other => other.map(drop),
        }
    }
}

fn encryption(
    operation: &'static str,
    stored: Option<&StoredEncryption>,
) -> Result<Option<EncryptionConfigurationForRepositoryCreationTemplate>, AwsError> {
    let build = |stored: &StoredEncryption| {
        EncryptionConfigurationForRepositoryCreationTemplate::builder()
            .encryption_type(EncryptionType::from(stored.encryption_type.as_str()))
            .set_kms_key(stored.kms_key.clone())
            .build()
            .map_err(|error| unbuildable(operation, &error))
    };
    stored.map(build).transpose()
}

/// The templates of an answer, with what of it is not known.
fn read_all(templates: Vec<RepositoryCreationTemplate>, wire: &Wire) -> Result<Vec<CreationTemplate>, AwsError> {
    const OPERATION: &str = "DescribeRepositoryCreationTemplates";
    let unknown = unknown_of_each(wire, OPERATION)?;
    if unknown.len() != templates.len() {
        return Err(AwsError::incomplete(OPERATION, "a template"));
    }
    let both = templates.into_iter().zip(unknown);
    both.map(|(template, unknown)| {
        Ok(CreationTemplate {
            unknown,
            ..read(OPERATION, template)?
        })
    })
    .collect()
}

fn read(operation: &'static str, template: RepositoryCreationTemplate) -> Result<CreationTemplate, AwsError> {
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let prefix = template
        .prefix
        .ok_or_else(|| AwsError::incomplete(operation, "prefix"))?;
    let mut applied_for: Vec<String> = template
        .applied_for
        .unwrap_or_default()
        .iter()
        .map(|occasion| occasion.as_str().to_owned())
        .collect();
    applied_for.sort_unstable();
    let excepted = template.image_tag_mutability_exclusion_filters.unwrap_or_default();
    Ok(CreationTemplate {
        created_at: created_at(operation, template.created_at)?,
        terms: TemplateTerms {
            prefix,
            applied_for,
            description: some(template.description),
            encryption: template.encryption_configuration.map(|encryption| StoredEncryption {
                encryption_type: encryption.encryption_type.as_str().to_owned(),
                kms_key: some(encryption.kms_key),
            }),
            tags: Some(
                template
                    .resource_tags
                    .unwrap_or_default()
                    .into_iter()
                    .map(|tag| (tag.key, tag.value))
                    .collect(),
            ),
            mutability: template
                .image_tag_mutability
                .map(|value| Mutability::new(value.as_str(), excepted.into_iter().map(|filter| filter.filter))),
            repository_policy: some(template.repository_policy),
            lifecycle_policy: some(template.lifecycle_policy),
            custom_role_arn: some(template.custom_role_arn),
        },
        unknown: Vec::new(),
    })
}

/// What is not known of each template of the answer, in its order.
fn unknown_of_each(wire: &Wire, operation: &'static str) -> Result<Vec<Vec<String>>, AwsError> {
    match wire.answer(operation)?.get("repositoryCreationTemplates") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(templates)) => Ok(templates.iter().map(unknown).collect()),
        Some(_) => Err(AwsError::incomplete(operation, "a list of templates")),
    }
}

/// The fields of a template that are not known, those inside of others with both names.
fn unknown(template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (field, value) in template
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, value)| !value.is_null())
    {
        let Some((_, inside)) = KNOWN.iter().find(|(known, _)| known == field) else {
            found.push(field.clone());
            continue;
        };
        let parts = match value {
            Value::Array(parts) => parts.as_slice(),
            value => std::slice::from_ref(value),
        };
        for (part, _) in parts.iter().filter_map(Value::as_object).flatten() {
            let name = format!("{field}.{part}");
            if !inside.contains(&part.as_str()) && !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_are_not_known_are_named_wherever_they_are() {
        let known = json!({
            "prefix": "team", "description": "", "createdAt": 1.5, "updatedAt": 2, "appliedFor": ["REPLICATION"],
            "encryptionConfiguration": { "encryptionType": "KMS", "kmsKey": "k" },
            "resourceTags": [{ "Key": "a", "Value": "b" }],
            "imageTagMutability": "MUTABLE", "imageTagMutabilityExclusionFilters": [{ "filterType": "WILDCARD", "filter": "a" }],
            "repositoryPolicy": "", "lifecyclePolicy": "", "customRoleArn": "r", "later": null,
        });
        assert!(unknown(&known).is_empty());
        let newer = json!({
            "prefix": "team", "signing": { "on": true },
            "resourceTags": [{ "Key": "a", "Value": "b", "Scope": "c" }, { "Scope": "d" }],
            "encryptionConfiguration": { "encryptionType": "KMS", "rotation": 1 },
        });
        let mut names = unknown(&newer);
        names.sort_unstable();
        assert_eq!(
            names,
            ["encryptionConfiguration.rotation", "resourceTags.Scope", "signing"]
        );
    }
}
