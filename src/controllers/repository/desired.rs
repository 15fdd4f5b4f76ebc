//! What an object asks for, worked out from its spec, its Registry and who we are. Pure.

use std::collections::BTreeMap;

use super::super::access::Grants;
use crate::{
    api::{
        OWNER_TAG, Registry, Repository,
        ecr::{Encryption, ExclusionFilter, ImageTagMutability},
        names::{OwnerId, RepositoryName},
        registry::CreationDefaults,
        repository::{Adoption, DeletionPolicy, Grantees, RepositoryPolicy},
    },
    aws::{
        client::Creation,
        record::{Mutability, Record, StoredEncryption},
    },
    control::{plan::Verdict, reason::Reason},
    digest::short,
    document::policy::{self, Allowed, Policy, Statement},
    in_use,
};

/// What is wanted of one repository. `None`: not managed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    pub name: RepositoryName,
    /// The value of the ownership tag.
    pub owner: String,
    pub mutability: Option<Mutability>,
    pub scan_on_push: Option<bool>,
    pub encryption: Option<StoredEncryption>,
    pub policy: Option<PolicyWish>,
    pub tags: Option<BTreeMap<String, String>>,
    pub adopt: bool,
    pub deletion: DeletionPolicy,
    /// For `CreateRepository`, the Registry's defaults included.
    pub creation: Creation,
}

/// What is wanted of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PolicyWish {
    /// These statements, beside those of others.
    Statements(Vec<Statement>),
    /// Exactly this.
    Document(Policy),
}

impl Desired {
    /// Lets the tags of images in use move where all others must not. Only where the mutability is managed.
    pub(crate) fn admit_in_use_tags(&mut self) {
        if let Some(mutability) = &mut self.mutability {
            *mutability = in_use::admitting(mutability);
            self.creation.mutability = Some(mutability.clone());
        }
    }
}

/// Works it out, or says what is not valid or not allowed. Needs no call to AWS.
pub(crate) fn compose(
    repository: &Repository,
    name: &RepositoryName,
    registry: &Registry,
    grants: &Grants,
    owner: &OwnerId,
) -> Result<Desired, Verdict> {
    let invalid = |message: String| Verdict::blocked(Reason::Invalid, message);
    let spec = &repository.spec;
    if name.is_reserved() {
        return Err(invalid(format!(
            "the name {name} is below ecr-operator/, which belongs to the operator; set spec.name"
        )));
    }
    if let Some(key) = spec.tags.as_ref().and_then(|tags| tags.reserved()) {
        return Err(invalid(format!(
            "spec.tags: the key {key:?} belongs to AWS or to the operator"
        )));
    }
    let owner = owner_value(repository, owner)?;
    let mutability = mutability(
        spec.image_tag_mutability,
        spec.image_tag_mutability_exclusion_filters.as_deref(),
    )
    .map_err(|error| invalid(format!("spec.{error}")))?;
    let policy = match &spec.policy {
        Some(policy) => Some(policy_wish(policy, registry, grants)?),
        None => None,
    };
    let encryption = match &spec.encryption {
        Some(encryption) => Some(stored(encryption).map_err(|error| invalid(format!("spec.{error}")))?),
        None => None,
    };
    let key = encryption.as_ref().and_then(|wish| wish.kms_key.as_deref());
    if let Some(region) = key.and_then(|key| elsewhere(key, registry.spec.region.as_str())) {
        return Err(invalid(format!(
            "spec.encryption.kmsKey is a key of Region {region}, and the repository is in {}; KMS keys are regional: create the object with an alias that exists in each Region, or with the id of a multi-Region key (mrk-…)",
            registry.spec.region
        )));
    }
    let tags = spec.tags.as_ref().map(|tags| tags.0.clone());
    let defaults = registry.spec.creation_defaults.clone().unwrap_or_default();
    let creation = creation(
        &defaults,
        mutability.as_ref(),
        spec.scan_on_push,
        encryption.as_ref(),
        tags.as_ref(),
        &owner,
    )
    .map_err(|error| invalid(format!("spec.creationDefaults of the Registry: {error}")))?;
    Ok(Desired {
        name: name.clone(),
        owner,
        mutability,
        scan_on_push: spec.scan_on_push,
        encryption,
        policy,
        tags,
        adopt: spec.adoption == Adoption::Adopt,
        deletion: spec.deletion_policy,
        creation,
    })
}

/// The value of the ownership tag, which AWS limits to 256 characters.
fn owner_value(repository: &Repository, owner: &OwnerId) -> Result<String, Verdict> {
    let namespace = repository.metadata.namespace.as_deref().unwrap_or_default();
    let name = repository.metadata.name.as_deref().unwrap_or_default();
    let value = format!("{owner}/{namespace}/{name}");
    match value.len() <= 256 {
        true => Ok(value),
        false => Err(Verdict::blocked(
            Reason::Invalid,
            "the object's name is longer than 128 characters",
        )),
    }
}

fn mutability(
    value: Option<ImageTagMutability>,
    filters: Option<&[ExclusionFilter]>,
) -> Result<Option<Mutability>, String> {
    let Some(value) = value else {
        return match filters {
            None => Ok(None),
            Some(_) => Err("imageTagMutabilityExclusionFilters need an imageTagMutability *_WITH_EXCLUSION".into()),
        };
    };
    if value.takes_filters() != filters.is_some_and(|filters| !filters.is_empty()) {
        return Err("imageTagMutabilityExclusionFilters go with *_WITH_EXCLUSION, and with no other".into());
    }
    let filters = filters.unwrap_or_default().iter().map(|filter| filter.filter.clone());
    Ok(Some(Mutability::new(value.as_str(), filters)))
}

fn stored(encryption: &Encryption) -> Result<StoredEncryption, String> {
    use crate::api::ecr::EncryptionType;
    if encryption.encryption_type == EncryptionType::Aes256 && encryption.kms_key.is_some() {
        return Err("encryption.kmsKey goes with encryptionType KMS or KMS_DSSE only".into());
    }
    Ok(StoredEncryption {
        encryption_type: encryption.encryption_type.as_str().into(),
        kms_key: encryption.kms_key.clone(),
    })
}

fn creation(
    defaults: &CreationDefaults,
    mutability_wish: Option<&Mutability>,
    scan_on_push: Option<bool>,
    encryption: Option<&StoredEncryption>,
    tags: Option<&BTreeMap<String, String>>,
    owner: &str,
) -> Result<Creation, String> {
    let default_mutability = mutability(
        defaults.image_tag_mutability,
        defaults.image_tag_mutability_exclusion_filters.as_deref(),
    )?;
    let default_encryption = defaults.encryption.as_ref().map(stored).transpose()?;
    let default_tags = defaults.tags.as_ref().map(|tags| &tags.0);
    let mut tags = tags.or(default_tags).cloned().unwrap_or_default();
    tags.insert(OWNER_TAG.to_owned(), owner.to_owned());
    Ok(Creation {
        mutability: mutability_wish.cloned().or(default_mutability),
        scan_on_push: scan_on_push.or(defaults.scan_on_push),
        encryption: encryption.cloned().or(default_encryption),
        tags,
    })
}

fn policy_wish(wish: &RepositoryPolicy, registry: &Registry, grants: &Grants) -> Result<PolicyWish, Verdict> {
    let partition = registry.spec.region.partition();
    let wish = match (&wish.access, &wish.document) {
        (Some(access), None) => {
            let access = policy::Access {
                pull: access.pull.as_ref().map(grantees),
                push: access.push.as_ref().map(grantees),
                lambda: access
                    .lambda
                    .as_ref()
                    .map(|lambda| lambda.source_accounts.iter().map(ToString::to_string).collect()),
            };
            PolicyWish::Statements(policy::compose(&access, registry.spec.region.as_str(), partition))
        }
        (None, Some(document)) => {
            let document = Policy::from_value(&serde_json::Value::Object(document.clone()))
                .map_err(|error| Verdict::blocked(Reason::Invalid, format!("spec.policy.document: {error}")))?;
            PolicyWish::Document(document)
        }
        _ => {
            return Err(Verdict::blocked(
                Reason::Invalid,
                "spec.policy takes exactly one of access and document",
            ));
        }
    };
    let statements = match &wish {
        PolicyWish::Statements(statements) => statements.as_slice(),
        PolicyWish::Document(document) => document.statements(),
    };
    let allowed = Allowed {
        own_account: registry.spec.registry_id.as_str(),
        partition,
        principals: grants.principals.as_deref(),
        organization_ids: &grants.organization_ids,
    };
    match policy::outside(statements, &allowed) {
        None => Ok(wish),
        Some(principal) => Err(Verdict::blocked(
            Reason::NotAllowed,
            format!("spec.policy names {principal}, which no tenant of the Registry lets this namespace name"),
        )),
    }
}

fn grantees(grantees: &Grantees) -> policy::Grantees {
    policy::Grantees {
        principals: grantees.principals.clone(),
        organization_ids: grantees.organization_ids.clone(),
    }
}

impl Desired {
    /// A digest of everything that is managed; what is used at creation only is left out. It must not change with a new
    /// version of the operator unless the meaning does: every object would be checked at once.
    pub(crate) fn hash(&self) -> String {
        let policy = match &self.policy {
            None => None,
            Some(PolicyWish::Statements(ours)) => Some((
                "access",
                policy::merge(None, ours.clone()).map_or_else(String::new, |policy| policy.to_text()),
            )),
            Some(PolicyWish::Document(document)) => Some(("document", document.to_text())),
        };
        let mutability = self.mutability.as_ref().map(|wish| (&wish.value, &wish.filters));
        let encryption = self
            .encryption
            .as_ref()
            .map(|wish| (&wish.encryption_type, &wish.kms_key));
        let whole = serde_json::json!([
            1,
            self.name,
            self.owner,
            mutability,
            self.scan_on_push,
            encryption,
            policy,
            self.tags,
        ]);
        short(&whole.to_string())
    }

    /// Whether what a listing shows is as wanted.
    pub(crate) fn matches(&self, record: &Record) -> bool {
        self.mutability.as_ref().is_none_or(|wish| *wish == record.mutability)
            && self.scan_on_push.is_none_or(|wish| wish == record.scan_on_push)
            && encryption_differs(self.encryption.as_ref(), &record.encryption).is_none()
    }
}

/// How the stored encryption differs from what is wanted, if it does. Id and ARN of one key are equal; an alias cannot
/// be compared, see [`is_alias`].
pub(crate) fn encryption_differs(wish: Option<&StoredEncryption>, stored: &StoredEncryption) -> Option<String> {
    let wish = wish?;
    if wish.encryption_type != stored.encryption_type {
        return Some(format!(
            "encryption is {}, the object asks for {}",
            stored.encryption_type, wish.encryption_type
        ));
    }
    let wanted = wish.kms_key.as_deref()?;
    let stored = stored.kms_key.as_deref().unwrap_or_default();
    let key_id = |key: &str| key.rsplit("key/").next().unwrap_or(key).to_owned();
    let same = wanted == stored || (!wanted.starts_with("arn:") && key_id(wanted) == key_id(stored));
    (!same && !is_alias(wanted)).then(|| format!("the KMS key is {stored}, the object asks for {wanted}"))
}

/// The Region of a key that is named by an ARN, where it is another than the repository's.
fn elsewhere<'k>(key: &'k str, region: &str) -> Option<&'k str> {
    let of = key.strip_prefix("arn:")?.split(':').nth(2)?;
    (of != region).then_some(of)
}

/// Whether a key is named by an alias, which only KMS could resolve.
pub(crate) fn is_alias(key: &str) -> bool {
    key.starts_with("alias/") || (key.starts_with("arn:") && key.contains(":alias/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kms(key: Option<&str>) -> StoredEncryption {
        StoredEncryption {
            encryption_type: "KMS".into(),
            kms_key: key.map(Into::into),
        }
    }

    const ARN: &str = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn id_and_arn_of_one_key_are_equal_and_an_alias_is_not_compared() {
        let stored = kms(Some(ARN));
        for same in [
            ARN,
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            "alias/ecr",
            "arn:aws:kms:eu-west-1:111122223333:alias/ecr",
        ] {
            assert_eq!(encryption_differs(Some(&kms(Some(same))), &stored), None, "{same}");
        }
        assert_eq!(
            encryption_differs(Some(&kms(None)), &stored),
            None,
            "no key named, none compared"
        );
        assert_eq!(encryption_differs(None, &stored), None);
        let other_account = ARN.replace("111122223333", "999999999999");
        for other in [other_account.as_str(), "9999abcd-12ab-34cd-56ef-1234567890ab"] {
            assert!(
                encryption_differs(Some(&kms(Some(other))), &stored).is_some(),
                "{other}"
            );
        }
        assert_eq!(elsewhere(ARN, "eu-west-1"), None);
        assert_eq!(elsewhere(ARN, "us-east-1"), Some("eu-west-1"));
        for regionless in ["alias/ecr", "mrk-1234abcd12ab34cd56ef1234567890ab"] {
            assert_eq!(elsewhere(regionless, "us-east-1"), None, "{regionless}");
        }
        let aes = StoredEncryption {
            encryption_type: "AES256".into(),
            kms_key: None,
        };
        assert!(encryption_differs(Some(&aes), &stored).is_some());
    }
}
