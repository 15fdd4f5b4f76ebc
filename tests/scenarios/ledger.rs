//! Promise 3 over all scenarios: every deletion in ECR by the operator is one that a scenario asked for, or takes a tag of
//! the operator's off the manifest that holds nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use anyhow::{Result, ensure};
use bed::{Aws, Deletion};

/// The repositories that the operator is meant to delete, by account and name.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<BTreeSet<(String, String)>>);

impl Ledger {
    /// Enters a repository: the operator may try to delete it, and may succeed once.
    pub(crate) fn expect(&self, account: &str, repository: &str) {
        let mut expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        expected.insert((account.to_owned(), repository.to_owned()));
    }

    /// Accounts for all that the operator has deleted, or tried to, since the stage was set up.
    pub(crate) async fn check(&self, aws: &Aws) -> Result<()> {
        let deletions = aws.deletions().await?;
        let expected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        account_for(&expected, &deletions)
    }
}

/// The digest of the manifest to which tags are moved before they are taken away.
pub(crate) const PARKING: &str = "sha256:828453525f6e15f99b069acf68f230c83c3e0ac20fe6bff65f3537e20305ac50";

/// Whether it names one tag of the operator's on the parking manifest, and nothing else.
fn takes_off_a_parked_tag(deletion: &Deletion) -> bool {
    let [image] = deletion.images.as_slice() else {
        return false;
    };
    let hex = image
        .strip_suffix(PARKING)
        .and_then(|rest| rest.strip_suffix('@'))
        .and_then(|tag| tag.strip_prefix("in-use."));
    hex.is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

fn account_for(expected: &BTreeSet<(String, String)>, deletions: &[Deletion]) -> Result<()> {
    let mut carried_out = BTreeMap::new();
    for deletion in deletions {
        let principal = deletion.principal.as_deref().unwrap_or_default();
        if !principal.contains("/ecr-operator") {
            continue;
        }
        if deletion.operation == "BatchDeleteImage" {
            ensure!(
                takes_off_a_parked_tag(deletion),
                "the operator deletes no images by themselves: {deletion:?}"
            );
            continue;
        }
        let repository = deletion.repository.clone().unwrap_or_default();
        let key = (deletion.account.clone(), repository);
        ensure!(expected.contains(&key), "no scenario asked for this: {deletion:?}");
        if deletion.outcome == "ok" {
            let times = carried_out.entry(key).or_insert(0);
            *times += 1;
            ensure!(*times == 1, "deleted a second time: {deletion:?}");
        }
    }
    Ok(())
}

#[test]
fn the_ledger_tells_what_nobody_asked_for() {
    let expected = BTreeSet::from([("1".to_owned(), "a/web".to_owned())]);
    let deletion = |operation: &str, repository: &str, who: &str, outcome: &str| Deletion {
        operation: operation.to_owned(),
        account: "1".to_owned(),
        region: "eu-west-1".to_owned(),
        principal: Some(format!("arn:aws:sts::1:assumed-role/{who}/session")),
        repository: Some(repository.to_owned()),
        images: Vec::new(),
        outcome: outcome.to_owned(),
    };
    let ours = |operation, repository, outcome| deletion(operation, repository, "ecr-operator", outcome);
    let asked = ours("DeleteRepository", "a/web", "ok");
    let refused = ours("DeleteRepository", "a/web", "RepositoryNotEmptyException");
    let by_hand = deletion("BatchDeleteImage", "a/other", "admin", "ok");
    assert!(account_for(&expected, &[refused.clone(), asked.clone(), refused, by_hand]).is_ok());
    assert!(account_for(&expected, &[asked.clone(), asked]).is_err());
    for undeclared in [
        ours("DeleteRepository", "a/other", "ok"),
        ours("DeleteRepository", "a/other", "RepositoryNotEmptyException"),
        ours("BatchDeleteImage", "a/web", "ok"),
    ] {
        assert!(account_for(&expected, &[undeclared]).is_err());
    }
    let taken_off = |images: &[String]| Deletion {
        images: images.to_vec(),
        ..ours("BatchDeleteImage", "a/web", "ok")
    };
    let hex = "0".repeat(64);
    let parked = format!("in-use.{hex}@{PARKING}");
    assert!(account_for(&expected, &[taken_off(std::slice::from_ref(&parked))]).is_ok());
    for images in [
        vec![],
        vec![parked.clone(), parked],
        vec![format!("in-use.{hex}")],
        vec![format!("@{PARKING}")],
        vec![format!("v1@{PARKING}")],
        vec![format!("in-use.{hex}@sha256:{hex}")],
    ] {
        assert!(account_for(&expected, &[taken_off(&images)]).is_err(), "{images:?}");
    }
}
