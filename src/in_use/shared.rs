//! What those who collect, publish and protect share among themselves.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{collect::Collection, report::tag_in};
use crate::{
    api::{
        IN_USE_REPOSITORY,
        names::{Digest, RepositoryName, Tag},
    },
    controllers::world::{Hint, World},
    events::message::ImageChange,
};

/// What this cluster uses, as it was last collected.
#[derive(Debug)]
pub(super) struct Collected {
    pub collection: Collection,
    /// When it was begun: what came to be used since may be missing.
    pub begun: Instant,
    /// Otherwise it is what was seen before, and whatever was seen now.
    pub complete: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How often is looked what is used.
    pub interval: Duration,
    pub(super) collected: watch::Sender<Option<Arc<Collected>>>,
    /// A workload has changed, or a registry has come.
    pub(super) changed: Notify,
    /// A registry has come, gone, or is to be used otherwise.
    pub(super) registries: Notify,
}

impl Shared {
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            collected: watch::Sender::new(None),
            changed: Notify::new(),
            registries: Notify::new(),
        }
    }

    /// A workload has changed: what is used may have, too.
    pub(crate) fn workload_changed(&self) {
        self.changed.notify_one();
    }
}

/// The name of the repository of reports. It is valid; where that were not so, nothing would be published.
pub(crate) fn repository() -> Option<RepositoryName> {
    IN_USE_REPOSITORY.parse().ok()
}

impl World {
    /// Lets those look again whom a hint concerns. False where it concerns nobody else.
    pub(crate) fn hint_in_use(&self, hint: &Hint) -> bool {
        match hint {
            Hint::Registry(registry) => {
                self.in_use.registries.notify_one();
                self.in_use.changed.notify_one();
                if let Some(connection) = self.connection(registry) {
                    connection.in_use.publish.notify_one();
                    connection.in_use.keep.notify_one();
                }
            }
            Hint::Names(registry, names) | Hint::Changed(registry, names) => {
                let Some(connection) = self.connection(registry) else {
                    return true;
                };
                if repository().is_some_and(|reports| names.contains(&reports)) {
                    self.in_use.changed.notify_one();
                    connection.in_use.publish.notify_one();
                    connection.in_use.keep.notify_one();
                }
                if matches!(hint, Hint::Changed(..)) {
                    for name in names {
                        connection.in_use.doubt(name);
                    }
                }
            }
            Hint::Image {
                registry,
                repository: name,
                what,
            } => return self.hint_image(registry, name, what),
            Hint::Namespace(_)
            | Hint::Policies(_)
            | Hint::Replication(_)
            | Hint::Settings { .. }
            | Hint::Look { .. } => {}
        }
        true
    }

    /// An image was pushed: the promotions that look there may roll it out in a moment, from there or from where they copy
    /// it to.
    fn expect(&self, registry: &str, name: &RepositoryName, digest: &Digest) {
        let Some(reports) = repository() else { return };
        for guard in self.promotions.state() {
            let Ok(promotion) = &guard.0 else { continue };
            if !self
                .repositories_of(promotion)
                .any(|(of, its)| of == registry && its == *name)
            {
                continue;
            }
            for (of, its) in self.repositories_of(promotion) {
                let connection = self.connection(&of);
                if let Some(connection) = connection.filter(|to| to.inventory.get(&reports).is_some()) {
                    connection.in_use.expect(&its, digest);
                }
            }
        }
    }

    fn hint_image(&self, registry: &str, name: &RepositoryName, what: &ImageChange) -> bool {
        let (digest, tag) = match what {
            ImageChange::Pushed { digest, tag }
            | ImageChange::Deleted { digest, tag }
            | ImageChange::Replicated { digest, tag } => (digest.as_deref(), tag.as_deref()),
            ImageChange::Scanned { .. } | ImageChange::StorageClass { .. } => return true,
        };
        let Some(connection) = self.connection(registry) else {
            return true;
        };
        let in_use = &connection.in_use;
        if repository().as_ref() == Some(name) {
            let key = connection.key();
            if tag != Some(tag_in(&self.identity.cluster, &key).as_str()) {
                in_use.news();
            }
            return false;
        }
        let digest: Option<Digest> = digest.and_then(|digest| digest.parse().ok());
        let tag: Option<Tag> = tag.and_then(|tag| tag.parse().ok());
        let Some(kept) = tag.as_ref().and_then(Tag::keeps) else {
            if let (ImageChange::Pushed { .. }, Some(digest), Some(_)) = (what, &digest, &tag) {
                self.expect(registry, name, digest);
            }
            if tag.is_some_and(|tag| in_use.follows(name, &tag)) {
                in_use.doubt(name);
            }
            return true;
        };
        // What we did ourselves is no news: a tag on what is in use, or one on its way out from what is not.
        let in_use_now = in_use.protects(name, &kept);
        let put = matches!(what, ImageChange::Pushed { .. }) && digest.as_ref() == Some(&kept);
        let parked = digest.as_ref() == Some(crate::aws::parking::digest());
        if !(put && in_use_now || parked && !in_use_now) {
            in_use.doubt(name);
        }
        false
    }
}
