//! Every image that left a registry since the start, and why. A tag that is taken off an image that stays is none.

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;

use crate::ecr::Registry;

/// What took an image away.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all_fields = "camelCase", tag = "cause")]
pub(crate) enum Cause {
    /// A rule of the repository's lifecycle policy, by its priority; for a referrer, the rule that took its subject.
    Lifecycle { rule: u32 },
    /// `BatchDeleteImage`, with all the ids it named.
    BatchDelete { principal: String, image_ids: Vec<Value> },
    /// `DeleteRepository` with `force`.
    RepositoryDeleted { principal: String },
    /// Replication of a deletion in another registry.
    Replication,
}

/// An image that is gone.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Departure {
    account: String,
    region: String,
    repository: String,
    digest: String,
    /// Those it had.
    tags: Vec<String>,
    #[serde(flatten)]
    cause: Cause,
}

/// All of them: nothing is ever forgotten.
#[derive(Default)]
pub(crate) struct Departures(Mutex<Vec<Departure>>);

impl Departures {
    pub(crate) fn record<T: AsRef<str>>(
        &self,
        registry: &Registry,
        repository: &str,
        digest: &str,
        tags: &[T],
        cause: Cause,
    ) {
        self.0.lock().push(Departure {
            account: registry.account.clone(),
            region: registry.region.clone(),
            repository: repository.to_owned(),
            digest: digest.to_owned(),
            tags: tags.iter().map(|tag| tag.as_ref().to_owned()).collect(),
            cause,
        });
    }

    /// Those of one registry, in the order in which they went.
    pub(crate) fn report(&self, account: &str, region: &str) -> Vec<Departure> {
        let all = self.0.lock();
        let wanted = |departure: &&Departure| departure.account == account && departure.region == region;
        all.iter().filter(wanted).cloned().collect()
    }
}
