//! Which lifecycle previews we started, and when. ECR gives them no name, so this and their text is all that tells them
//! from those of others.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::api::names::RepositoryName;

/// An older preview is not believed: images have come since.
const VALID: SignedDuration = SignedDuration::from_mins(15);

/// A preview of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub at: Timestamp,
    /// What had been put was changed by somebody else, and is to be put again.
    pub mends: bool,
}

/// The previews that were started and not read to their end. It may be lost: then they are started again.
#[derive(Debug, Default)]
pub(crate) struct Previews(Mutex<HashMap<RepositoryName, (String, Started)>>);

impl Previews {
    /// A preview of the document with this mark was started.
    pub(crate) fn note(&self, name: &RepositoryName, mark: String, started: Started) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone(), (mark, started));
    }

    /// The preview of the document with this mark, if that was the last one, and not too long ago.
    pub(crate) fn started(&self, name: &RepositoryName, mark: &str, now: Timestamp) -> Option<Started> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, started) = all.get(name).filter(|(of, _)| of == mark)?;
        (now.duration_since(started.at) < VALID).then_some(*started)
    }

    /// Whether one was started for the repository and not read to its end.
    pub(crate) fn is_pending(&self, name: &RepositoryName) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    pub(crate) fn forget(&self, name: &RepositoryName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_preview_is_ours_and_only_while_it_is_young() {
        let (previews, name) = (Previews::default(), "team/web".parse().unwrap());
        let now = Timestamp::UNIX_EPOCH;
        let started = Started { at: now, mends: false };
        previews.note(&name, "one".into(), started);
        assert_eq!(
            previews.started(&name, "one", now + SignedDuration::from_mins(14)),
            Some(started)
        );
        assert_eq!(
            previews.started(&name, "one", now + SignedDuration::from_mins(15)),
            None
        );
        previews.note(&name, "two".into(), started);
        assert_eq!(previews.started(&name, "one", now), None);
        previews.forget(&name);
        assert!(!previews.is_pending(&name));
    }
}
