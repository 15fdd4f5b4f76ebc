//! How what is wanted of a template is held against what ECR has.

#![expect(
    clippy::needless_pass_by_value,
    reason = "json!() values are made where they are passed"
)]

use serde_json::{Value, json};

use super::*;

const ROLE: &str = "arn:aws:iam::111122223333:role/ecr-templates";

fn wish(overlay: Value) -> TemplateWish {
    checked(overlay).unwrap()
}

fn checked(overlay: Value) -> Result<TemplateWish, Verdict> {
    let mut spec = json!({ "registryRef": { "name": "main" }, "prefix": "team", "appliedFor": ["REPLICATION"] });
    let overlay = overlay.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().unwrap().extend(overlay);
    TemplateWish::of(&RepositoryCreationTemplate::new(
        "team",
        serde_json::from_value(spec).unwrap(),
    ))
}

/// As ECR has what was created by a wish.
fn stored(wish: &TemplateWish) -> CreationTemplate {
    let mut terms = wish.creation();
    terms.tags.get_or_insert_default();
    terms.mutability.get_or_insert_with(|| Mutability::new("MUTABLE", []));
    terms.encryption.get_or_insert_with(|| StoredEncryption {
        encryption_type: "AES256".into(),
        kms_key: None,
    });
    CreationTemplate {
        created_at: jiff::Timestamp::UNIX_EPOCH,
        terms,
        unknown: Vec::new(),
    }
}

fn rule(days: u32) -> Value {
    json!({
        "selection": { "tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": days },
        "action": { "type": "expire" },
    })
}

fn policy(action: &Value) -> Value {
    json!({ "Version": "2012-10-17", "Statement": [
        { "Effect": "Allow", "Principal": { "AWS": "444455556666" }, "Action": action },
    ]})
}

fn all() -> Value {
    json!({
        "description": "of the team",
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": [{ "filter": "b-*" }, { "filter": "a-*" }],
        "encryption": { "encryptionType": "KMS" },
        "resourceTags": { "team": "a" },
        "repositoryPolicy": policy(&json!(["ecr:BatchGetImage"])),
        "lifecyclePolicy": { "rules": [rule(14)] },
        "customRoleArn": ROLE,
    })
}

#[test]
fn what_was_created_is_as_wanted_and_is_known_again() {
    for overlay in [json!({}), all()] {
        let wish = wish(overlay);
        let live = stored(&wish);
        assert_eq!(wish.change(&live), Ok(None));
        assert_eq!(Wish::digest(&wish), Entry::digest(&live));
    }
    assert_ne!(Wish::digest(&wish(json!({}))), Entry::digest(&stored(&wish(all()))));
}

#[test]
fn documents_are_compared_by_meaning() {
    let wish = wish(all());
    let mut live = stored(&wish);
    let other = json!({ "Statement": [{ "Action": "ecr:BatchGetImage", "Effect": "Allow",
        "Principal": { "AWS": ["arn:aws:iam::444455556666:root"] } }], "Version": "2012-10-17" });
    live.terms.repository_policy = Some(serde_json::to_string_pretty(&other).unwrap());
    let mut ranked = rule(14);
    ranked["rulePriority"] = json!(7);
    ranked["selection"]["storageClass"] = json!("standard");
    live.terms.lifecycle_policy = Some(json!({ "rules": [ranked] }).to_string());
    // As stored, the key is there that ECR chose.
    live.terms.encryption.as_mut().unwrap().kms_key = Some("arn:aws:kms:eu-west-1:111122223333:key/1".into());
    assert_eq!(wish.change(&live), Ok(None));
}

#[test]
fn an_update_says_everything_that_is_known_and_tells_what_differs() {
    let live = stored(&wish(all()));
    let change = wish(json!({ "appliedFor": ["REPLICATION", "CREATE_ON_PUSH"], "description": "new" }))
        .change(&live)
        .unwrap()
        .unwrap();
    assert_eq!(
        change.lines,
        [
            "appliedFor: REPLICATION -> CREATE_ON_PUSH, REPLICATION",
            "description: \"of the team\" -> \"new\""
        ]
    );
    let expected = TemplateTerms {
        applied_for: vec!["CREATE_ON_PUSH".into(), "REPLICATION".into()],
        description: Some("new".into()),
        ..live.terms.clone()
    };
    assert_eq!(
        change.terms, expected,
        "what the object leaves out is sent as it was read"
    );
}

#[test]
fn what_is_left_out_stays_and_what_is_empty_goes() {
    let live = stored(&wish(all()));
    assert_eq!(wish(json!({})).change(&live), Ok(None));
    let empty = json!({ "description": "", "resourceTags": {}, "repositoryPolicy": {}, "lifecyclePolicy": {} });
    let change = wish(empty.clone()).change(&live).unwrap().unwrap();
    assert_eq!(change.lines.len(), 4, "{:?}", change.lines);
    let text = |text: &Option<String>| text.as_deref() == Some("");
    assert!(
        text(&change.terms.description)
            && text(&change.terms.repository_policy)
            && text(&change.terms.lifecycle_policy)
    );
    assert_eq!(change.terms.tags, Some(BTreeMap::new()));
    assert_eq!(wish(empty).change(&stored(&wish(json!({})))), Ok(None));
}

#[test]
fn nothing_is_written_where_something_unknown_would_be_lost() {
    let mut live = stored(&wish(all()));
    live.unknown = vec!["signing".into()];
    assert_eq!(wish(all()).change(&live), Ok(None), "at rest it does not matter");
    let refused = wish(json!({ "description": "new" })).change(&live).unwrap_err();
    assert_eq!(refused.reason(), Reason::Conflict);
    assert!(
        refused.to_string().contains("would lose with an update (signing)"),
        "{refused}"
    );
}

#[test]
fn documents_that_ecr_would_refuse_are_refused_before() {
    for (overlay, text) in [
        (
            json!({ "repositoryPolicy": { "Statement": [] } }),
            "spec.repositoryPolicy",
        ),
        (
            json!({ "lifecyclePolicy": { "rules": [rule(14), rule(15)] } }),
            "spec.lifecyclePolicy",
        ),
        (json!({ "resourceTags": { "aws:x": "y" } }), "spec.resourceTags"),
    ] {
        let verdict = checked(overlay).unwrap_err();
        assert_eq!(verdict.reason(), Reason::Invalid);
        assert!(verdict.to_string().contains(text), "{verdict}");
    }
}

#[test]
fn the_hash_speaks_of_what_is_managed() {
    let hash = |overlay| wish(overlay).hash();
    assert_eq!(hash(json!({})), hash(json!({})));
    for overlay in [
        json!({ "description": "" }),
        json!({ "repositoryPolicy": {} }),
        json!({ "lifecyclePolicy": { "rules": [rule(14)] } }),
        json!({ "resourceTags": {} }),
    ] {
        assert_ne!(hash(json!({})), hash(overlay.clone()), "{overlay}");
    }
}
