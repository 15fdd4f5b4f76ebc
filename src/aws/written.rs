//! Which writes were our own, by the request ids of AWS's answers, so that an event which tells of one need not be
//! looked at.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Mutex, PoisonError},
};

/// How many writes are remembered. CloudTrail's events come minutes late at most, and no registry takes that many writes
/// of ours meanwhile; an older one costs a look.
const REMEMBERED: usize = 8_192;

/// The latest writes that AWS has answered.
#[derive(Debug, Default)]
pub(crate) struct Written(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    order: VecDeque<String>,
    ids: HashSet<String>,
}

impl Written {
    /// AWS answered a write of ours with this request id.
    pub(crate) fn note(&self, request_id: &str) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !latest.ids.insert(request_id.to_owned()) {
            return;
        }
        latest.order.push_back(request_id.to_owned());
        if latest.order.len() > REMEMBERED
            && let Some(oldest) = latest.order.pop_front()
        {
            latest.ids.remove(&oldest);
        }
    }

    /// Whether this is the request id of a write of ours.
    pub(crate) fn holds(&self, request_id: &str) -> bool {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.ids.contains(request_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_writes_are_known_and_their_number_is_bounded() {
        let written = Written::default();
        for number in 0..=REMEMBERED {
            written.note(&number.to_string());
            written.note(&number.to_string());
        }
        assert!(!written.holds("0"), "the oldest gave way");
        assert!(written.holds("1") && written.holds(&REMEMBERED.to_string()));
        assert_eq!(written.0.lock().unwrap().order.len(), REMEMBERED);
    }
}
