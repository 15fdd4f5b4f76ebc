//! The count of signed calls: exact per operation, and the latest ones in detail; and every deletion there ever was.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;
use serde::Serialize;

/// How many calls are kept in detail; the counts go on beyond it.
const KEPT: usize = 20_000;

/// One signed call and what came of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Call {
    pub(crate) seq: u64,
    pub(crate) operation: String,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) principal: Option<String>,
    /// `ok`, or the error code that was answered.
    pub(crate) outcome: String,
    /// It came to the registry itself, which may have refused it; whatever became of its answer.
    pub(crate) carried_out: bool,
    pub(crate) repository: Option<String>,
    /// As `tag`, `@digest` or `tag@digest`.
    pub(crate) images: Vec<String>,
}

/// A call that deletes a repository or images, and what it came to in the registry itself: `ok` if it was carried out,
/// also when a fault took its answer away; otherwise the code of its refusal, or `abandoned` if it never got so far.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Deletion {
    pub(crate) operation: String,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) principal: Option<String>,
    pub(crate) repository: Option<String>,
    /// As `tag`, `@digest` or `tag@digest`.
    pub(crate) images: Vec<String>,
    pub(crate) outcome: String,
}

/// All of them since the start: no reset forgets one, and none is pushed out by later calls.
#[derive(Default)]
pub(crate) struct Deletions(Mutex<Vec<Deletion>>);

impl Deletions {
    /// Enters a call that is about to be carried out, if it is one of those; gives its place for [`Self::end`].
    pub(crate) fn begin(&self, call: &Call) -> Option<usize> {
        if !matches!(call.operation.as_str(), "DeleteRepository" | "BatchDeleteImage") {
            return None;
        }
        let mut all = self.0.lock();
        all.push(Deletion {
            operation: call.operation.clone(),
            account: call.account.clone(),
            region: call.region.clone(),
            principal: call.principal.clone(),
            repository: call.repository.clone(),
            images: call.images.clone(),
            outcome: "abandoned".to_owned(),
        });
        Some(all.len() - 1)
    }

    /// Says what came of it.
    pub(crate) fn end(&self, place: Option<usize>, outcome: &str) {
        let mut all = self.0.lock();
        if let Some(deletion) = place.and_then(|place| all.get_mut(place)) {
            outcome.clone_into(&mut deletion.outcome);
        }
    }

    pub(crate) fn report(&self) -> Vec<Deletion> {
        self.0.lock().clone()
    }
}

/// What `GET /calls` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    total: u64,
    operations: BTreeMap<String, u64>,
    calls: Vec<Call>,
    /// Requests to the data plane, which are no signed calls and in no other count.
    data_plane: BTreeMap<String, u64>,
}

/// Which calls a report or a reset is about; a missing member matches everything.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    account: Option<String>,
    region: Option<String>,
}

impl Filter {
    fn takes(&self, account: &str, region: &str) -> bool {
        self.account.as_deref().is_none_or(|wanted| wanted == account)
            && self.region.as_deref().is_none_or(|wanted| wanted == region)
    }
}

/// By account, Region and operation.
type Counts = BTreeMap<(String, String, String), u64>;

#[derive(Default)]
struct Counted {
    seq: u64,
    counts: Counts,
    /// Of the data plane.
    plane: Counts,
    recent: VecDeque<Call>,
}

/// The counter.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Counted>);

impl Calls {
    /// Counts a call; its `seq` is given here.
    pub(crate) fn record(&self, mut call: Call) {
        let mut counted = self.0.lock();
        counted.seq += 1;
        call.seq = counted.seq;
        let key = (call.account.clone(), call.region.clone(), call.operation.clone());
        *counted.counts.entry(key).or_default() += 1;
        if counted.recent.len() == KEPT {
            counted.recent.pop_front();
        }
        counted.recent.push_back(call);
    }

    /// Counts a request to the data plane.
    pub(crate) fn record_on_plane(&self, operation: &str, account: &str, region: &str) {
        let key = (account.to_owned(), region.to_owned(), operation.to_owned());
        *self.0.lock().plane.entry(key).or_default() += 1;
    }

    pub(crate) fn report(&self, filter: &Filter) -> Report {
        let counted = self.0.lock();
        let summed = |counts: &Counts| {
            let mut operations: BTreeMap<String, u64> = BTreeMap::new();
            for ((account, region, operation), count) in counts {
                if filter.takes(account, region) {
                    *operations.entry(operation.clone()).or_default() += count;
                }
            }
            operations
        };
        let operations = summed(&counted.counts);
        Report {
            data_plane: summed(&counted.plane),
            total: operations.values().sum(),
            operations,
            calls: counted
                .recent
                .iter()
                .filter(|call| filter.takes(&call.account, &call.region))
                .cloned()
                .collect(),
        }
    }

    pub(crate) fn reset(&self, filter: &Filter) {
        let mut counted = self.0.lock();
        let kept = |(account, region, _): &(String, String, String), _: &mut u64| !filter.takes(account, region);
        counted.counts.retain(kept);
        counted.plane.retain(kept);
        counted.recent.retain(|call| !filter.takes(&call.account, &call.region));
    }
}
