//! Promise 3 over all scenarios: every deletion in ECR by the operator is one that a scenario asked for.

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

fn account_for(expected: &BTreeSet<(String, String)>, deletions: &[Deletion]) -> Result<()> {
    let mut carried_out = BTreeMap::new();
    for deletion in deletions {
        let principal = deletion.principal.as_deref().unwrap_or_default();
        if !principal.contains("/ecr-operator") {
            continue;
        }
        ensure!(
            deletion.operation == "DeleteRepository",
            "the operator deletes no images by themselves: {deletion:?}"
        );
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
}
