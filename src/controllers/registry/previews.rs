//! Which lifecycle previews we started, and when. ECR gives them no name, so this and their text is all that tells them
//! from those of others.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;

use crate::api::names::RepositoryName;

/// The previews that were started and not read to their end. It may be lost: then they are started again.
#[derive(Debug, Default)]
pub(crate) struct Previews(Mutex<HashMap<RepositoryName, (String, Timestamp)>>);

impl Previews {
    /// A preview of the document with this mark was started.
    pub(crate) fn note(&self, name: &RepositoryName, mark: String, at: Timestamp) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone(), (mark, at));
    }

    /// When the preview of the document with this mark was started, if that was the last one.
    pub(crate) fn started(&self, name: &RepositoryName, mark: &str) -> Option<Timestamp> {
        let started = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        started.get(name).filter(|(of, _)| of == mark).map(|(_, at)| *at)
    }

    pub(crate) fn forget(&self, name: &RepositoryName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}
