//! What promotions share among themselves, and remember between two reconciles. It may be lost at any time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kube::ResourceExt as _;
use tokio::sync::Semaphore;

use super::{
    check::Answers,
    copying::Copies,
    images::{Scans, Seen},
};
use crate::{
    api::ImagePromotion,
    http::{self, NoClient},
};

/// See the module.
#[derive(Debug)]
pub(crate) struct Promoting {
    objects: Mutex<HashMap<String, Remembered>>,
    pub(super) copies: Copies,
    pub(super) answers: Answers,
    pub(super) platforms: Seen,
    pub(crate) scans: Scans,
    /// For registries, Prometheus and hooks.
    pub(super) http: reqwest::Client,
    /// Reads of single images of which events told.
    pub(crate) reads: Arc<Semaphore>,
    pub(crate) settings: Settings,
}

/// How many of these run at once.
const READS: usize = 64;

/// What the installation allows promotions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// What addresses of Prometheus and of hooks must begin with. Empty: none is allowed.
    pub allowed_addresses: Vec<String>,
    /// The key that hooks are signed with.
    pub publish_key: Option<Arc<[u8]>>,
}

#[derive(Debug, Default)]
struct Remembered {
    /// The resourceVersion of our last write.
    resource_version: Option<String>,
    /// The last rollout that the metrics were told of.
    ended: Option<u64>,
}

impl Promoting {
    pub(crate) fn new(settings: Settings) -> Result<Self, NoClient> {
        Ok(Self {
            objects: Mutex::default(),
            copies: Copies::default(),
            answers: Answers::default(),
            platforms: Seen::default(),
            scans: Scans::default(),
            http: http::client()?,
            reads: Arc::new(Semaphore::new(READS)),
            settings,
        })
    }

    fn objects(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the watch has not shown our last write of the object yet, or has shown a later one of somebody else.
    pub(super) fn is_behind(&self, object: &ImagePromotion) -> bool {
        let objects = self.objects();
        let known = object.uid().and_then(|uid| objects.get(&uid)?.resource_version.clone());
        known.is_some() && known != object.resource_version()
    }

    pub(super) fn wrote(&self, object: &ImagePromotion) {
        if let Some(uid) = object.uid() {
            self.objects().entry(uid).or_default().resource_version = object.resource_version();
        }
    }

    /// Whether the end of a rollout is news; the first one that is seen after a start is not.
    pub(super) fn ended(&self, object: &ImagePromotion, rollout: u64) -> bool {
        let mut objects = self.objects();
        let Some(uid) = object.uid() else { return false };
        let before = objects.entry(uid).or_default().ended.replace(rollout);
        before.is_some_and(|before| before < rollout)
    }

    /// The object is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.objects().remove(uid);
        self.copies.forget(uid);
        self.answers.forget(uid);
    }
}
