//! What one listing tells of a registry, shared by all its objects.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use tokio::time::Instant;

use super::{client::Ecr, error::AwsError, record::Record};
use crate::api::names::RepositoryName;

/// The repositories of a registry as last seen: by the listing, or by the answer to a write of ours since.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    records: HashMap<RepositoryName, Entry>,
    /// What we deleted, and when: a listing that began earlier may still show it.
    forgotten: HashMap<RepositoryName, Instant>,
}

#[derive(Debug)]
struct Entry {
    record: Arc<Record>,
    seen: Instant,
}

impl Inventory {
    /// The repository as last seen.
    pub(crate) fn get(&self, name: &RepositoryName) -> Option<Arc<Record>> {
        self.read().records.get(name).map(|entry| Arc::clone(&entry.record))
    }

    /// Every repository as last listed.
    pub(crate) fn names(&self) -> Vec<RepositoryName> {
        self.read().records.keys().cloned().collect()
    }

    /// Notes what an answer of ECR showed after the last listing.
    pub(crate) fn note(&self, record: Arc<Record>) {
        let mut state = self.write();
        state.forgotten.remove(&record.name);
        state.records.insert(
            record.name.clone(),
            Entry {
                record,
                seen: Instant::now(),
            },
        );
    }

    /// Notes that a repository is gone.
    pub(crate) fn forget(&self, name: &RepositoryName) {
        let mut state = self.write();
        state.records.remove(name);
        state.forgotten.insert(name.clone(), Instant::now());
    }

    /// Lists the registry anew and returns the names of repositories that are not as they were: changed, new or gone.
    /// A listing that fails changes nothing.
    pub(crate) async fn refresh(&self, ecr: &Ecr) -> Result<HashSet<RepositoryName>, AwsError> {
        let began = Instant::now();
        let records = ecr.list().await?;
        Ok(self.write().replace(records, began))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes over a listing that began at `began`. What was noted since then is newer than the listing and stays.
    fn replace(&mut self, listing: Vec<Record>, began: Instant) -> HashSet<RepositoryName> {
        let mut changed = HashSet::new();
        let mut fresh = HashMap::with_capacity(listing.len());
        for record in listing {
            if self.forgotten.get(&record.name).is_some_and(|when| *when >= began) {
                continue;
            }
            match self.records.remove(&record.name) {
                Some(entry) if entry.seen >= began => {
                    fresh.insert(record.name, entry);
                }
                // The old allocation is kept where nothing changed: a listing must not double the memory.
                Some(entry) if *entry.record == record => {
                    fresh.insert(record.name, Entry { seen: began, ..entry });
                }
                _ => {
                    changed.insert(record.name.clone());
                    fresh.insert(
                        record.name.clone(),
                        Entry {
                            record: Arc::new(record),
                            seen: began,
                        },
                    );
                }
            }
        }
        for (name, entry) in self.records.drain() {
            if entry.seen >= began {
                fresh.insert(name, entry);
            } else {
                changed.insert(name);
            }
        }
        self.records = fresh;
        self.forgotten.retain(|_, when| *when >= began);
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::aws::record::{Mutability, StoredEncryption};

    fn record(name: &str, mutability: &str) -> Record {
        Record {
            name: name.parse().unwrap(),
            arn: String::new(),
            uri: String::new(),
            registry_id: "111122223333".into(),
            created_at: jiff::Timestamp::UNIX_EPOCH,
            mutability: Mutability::new(mutability, []),
            scan_on_push: false,
            encryption: StoredEncryption {
                encryption_type: "AES256".into(),
                kms_key: None,
            },
        }
    }

    fn names(changed: &HashSet<RepositoryName>) -> Vec<&str> {
        let mut names: Vec<&str> = changed.iter().map(RepositoryName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_listing_tells_what_is_new_changed_and_gone() {
        let mut state = State::default();
        let now = Instant::now();
        let changed = state.replace(vec![record("aa", "MUTABLE"), record("bb", "MUTABLE")], now);
        assert_eq!(names(&changed), ["aa", "bb"]);
        assert!(
            state
                .replace(
                    vec![record("aa", "MUTABLE"), record("bb", "MUTABLE")],
                    now + Duration::from_secs(1)
                )
                .is_empty()
        );
        let changed = state.replace(
            vec![record("bb", "IMMUTABLE"), record("cc", "MUTABLE")],
            now + Duration::from_secs(2),
        );
        assert_eq!(names(&changed), ["aa", "bb", "cc"]);
    }

    #[test]
    fn what_was_written_while_a_listing_ran_is_not_taken_back_by_it() {
        let mut state = State::default();
        let began = Instant::now();
        let written = Entry {
            record: Arc::new(record("aa", "IMMUTABLE")),
            seen: began + Duration::from_secs(1),
        };
        state.records.insert("aa".parse().unwrap(), written);
        assert!(state.replace(vec![record("aa", "MUTABLE")], began).is_empty());
        assert_eq!(
            state.records[&"aa".parse().unwrap()].record.mutability.value,
            "IMMUTABLE"
        );
        assert!(
            state.replace(vec![], began).is_empty(),
            "created after the listing began, so not gone"
        );
    }

    #[test]
    fn what_was_deleted_while_a_listing_ran_does_not_come_back() {
        let mut state = State::default();
        let began = Instant::now();
        state
            .forgotten
            .insert("aa".parse().unwrap(), began + Duration::from_secs(1));
        assert!(state.replace(vec![record("aa", "MUTABLE")], began).is_empty());
        assert!(state.records.is_empty());
        let changed = state.replace(vec![record("aa", "MUTABLE")], began + Duration::from_secs(2));
        assert_eq!(
            names(&changed),
            ["aa"],
            "a later listing shows it: somebody created it again"
        );
    }
}
