//! What is known of one registry's images in use, shared by those who collect, publish, protect and ask.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{
    replicas::Surveyed,
    report::Report,
    usage::{self, RegistryKey, Usage},
};
use crate::api::{
    names::{Digest, RepositoryName, Tag},
    registry::InUseStatus,
};

/// How long a rollout waits for its image to be reported.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long nobody waits for a report after one could not be published.
const HOPELESS: Duration = Duration::from_mins(1);

/// How long an image that was pushed is expected to be rolled out.
const EXPECTED: Duration = Duration::from_secs(30);

/// How long an image stays in the report that somebody announced; by then its workload has been collected.
const ANNOUNCED: Duration = Duration::from_mins(15);

/// Whether the images in use of a repository are kept from clean-up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// Not known now; why.
    Unknown(String),
    /// Some lack their tag yet.
    Pending { missing_tags: usize },
    /// Each image in use has its tag.
    Complete,
}

/// What is known of a repository that asked for protection.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub protection: Protection,
    /// Images with a tag of ours, or that are to get one.
    pub digests: HashSet<Digest>,
    /// Tags that reports name.
    pub tags: HashSet<Tag>,
    /// How many images have a tag of ours.
    pub tagged: usize,
    pub cannot_release: Option<String>,
}

/// Whether an image that is about to run was reported first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ensured {
    /// It is in the report, or there is nobody to report to.
    Yes,
    /// It was not to be had in time.
    No,
}

/// The images in use of one registry. It survives a connection that is opened anew.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    state: Mutex<State>,
    /// There is something to protect or to release.
    pub(super) keep: Notify,
    /// There is something to publish.
    pub(super) publish: Notify,
    /// Counts what was published, or tried to be.
    published: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    kept: HashMap<RepositoryName, Kept>,
    /// This cluster's report as it is in ECR; `None` while it is not known.
    report: Option<Report>,
    announced: HashMap<(RepositoryName, Digest), Instant>,
    /// Images that were pushed where promotions look: one publication names them all, rather than one for each batch of
    /// promotions that have come to the point where they wait for it.
    expected: HashMap<(RepositoryName, Digest), Instant>,
    /// How many wait for a publication.
    awaited: usize,
    failed: Option<Instant>,
    trouble: Option<String>,
    status: Option<InUseStatus>,
    /// Repositories whose listing is not to be trusted any more.
    doubted: HashSet<RepositoryName>,
    /// The reports are to be read now.
    news: bool,
    /// What all reports say is used of this registry.
    surveyed: Option<Surveyed>,
    /// Why they could not be read the last time.
    unread: Option<String>,
    /// What the destinations of replicated deletions use is kept here, too; or why that is not so.
    covered: BTreeMap<RegistryKey, Option<String>>,
    /// For a plan, which keeps nothing.
    covers_all: bool,
}

/// What lifecycle policies ask.
impl InUse {
    /// The repository asks for its images in use to be kept; the first time is acted on at once.
    pub(crate) fn wake(&self, repository: &RepositoryName) {
        if !self.with(|state| state.kept.contains_key(repository)) {
            self.keep.notify_one();
        }
    }

    pub(crate) fn protection(&self, repository: &RepositoryName) -> Protection {
        self.with(|state| match state.kept.get(repository) {
            Some(kept) => kept.protection.clone(),
            None => Protection::Unknown("which images are in use has not been looked at yet".into()),
        })
    }

    /// How many images of the repository have a tag of ours.
    pub(crate) fn protected(&self, repository: &RepositoryName) -> usize {
        self.with(|state| state.kept.get(repository).map_or(0, |kept| kept.tagged))
    }

    /// Why tags cannot be taken off the repository's images again.
    pub(crate) fn cannot_release(&self, repository: &RepositoryName) -> Option<String> {
        self.with(|state| state.kept.get(repository)?.cannot_release.clone())
    }
}

/// What the replication of deletions asks.
impl InUse {
    /// Whether what a destination uses of the repositories meant is kept from clean-up here; otherwise why that is not so.
    pub(crate) fn covers(&self, destination: &RegistryKey, is_meant: impl Fn(&str) -> bool) -> Result<(), String> {
        self.with(|state| {
            if state.covers_all {
                return Ok(());
            }
            match state.covered.get(destination) {
                Some(None) => {}
                Some(Some(why)) => return Err(why.clone()),
                None => return Err("it has not been looked at yet".into()),
            }
            let mut meant = state.kept.iter().filter(|(name, _)| is_meant(name.as_str()));
            let open = meant.find(|(_, kept)| kept.protection != Protection::Complete);
            match open {
                None => Ok(()),
                Some((
                    _,
                    Kept {
                        protection: Protection::Unknown(why),
                        ..
                    },
                )) => Err(why.clone()),
                Some((name, _)) => Err(format!("images of {name} still get their tags")),
            }
        })
    }

    /// For a plan, which keeps nothing: the operator sees to it before it puts such a rule.
    pub(crate) fn take_for_covered(&self) {
        self.with(|state| state.covers_all = true);
    }

    /// Some object asks for deletions to be replicated.
    pub(crate) fn wake_for_replication(&self) {
        self.keep.notify_one();
    }

    /// Forgets how all destinations but these are covered.
    pub(super) fn cover_only(&self, destinations: &[RegistryKey]) {
        self.with(|state| state.covered.retain(|key, _| destinations.contains(key)));
    }

    /// Notes how destinations are covered; true if that is new.
    pub(super) fn covering(&self, covered: BTreeMap<RegistryKey, Option<String>>) -> bool {
        self.with(|state| {
            let is_new = state.covered != covered;
            state.covered = covered;
            is_new
        })
    }

    pub(super) fn surveyed(&self) -> Option<Surveyed> {
        self.with(|state| state.surveyed.clone())
    }

    /// What all clusters say they use of this registry; empty while nobody needs to know.
    pub(crate) fn used(&self) -> Usage {
        self.with(|state| state.surveyed.as_ref().map(Surveyed::usage).unwrap_or_default())
    }

    /// Notes what is used of this registry; true if that is new.
    pub(super) fn was_surveyed(&self, surveyed: Surveyed) -> bool {
        self.with(|state| {
            let before = state.surveyed.as_ref();
            let is_new = before.is_none_or(|before| !before.says_the_same(&surveyed));
            state.surveyed = Some(surveyed);
            // What could not be read a moment ago is news in any case.
            state.unread.take().is_some() || is_new
        })
    }

    pub(super) fn unread(&self) -> Option<String> {
        self.with(|state| state.unread.clone())
    }

    /// Notes why the reports of this registry cannot be read; true if that is new.
    pub(super) fn could_not_survey(&self, why: String) -> bool {
        self.with(|state| {
            let is_new = state.unread.as_ref() != Some(&why);
            state.unread = Some(why);
            is_new
        })
    }
}

impl InUse {
    /// For a plan, which protects nothing: the operator sees to it that images in use have their tags before it puts a policy.
    pub(crate) fn take_for_protected(&self, repository: &RepositoryName) {
        let kept = Kept {
            protection: Protection::Complete,
            digests: HashSet::new(),
            tags: HashSet::new(),
            tagged: 0,
            cannot_release: None,
        };
        self.keeps(repository, kept);
    }

    /// Whether the image is in use, or has a tag that says so.
    pub(crate) fn protects(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.with(|state| {
            state
                .kept
                .get(repository)
                .is_some_and(|kept| kept.digests.contains(digest))
        })
    }

    /// What the Registry's status shows; `None` while nothing is known.
    pub(crate) fn status(&self) -> Option<InUseStatus> {
        self.with(|state| state.status.clone())
    }

    /// Waits, for a short while at most, until this cluster's report names the image. Many that wait share one
    /// publication. To be called only where there is a repository of reports.
    pub(crate) async fn ensure(&self, repository: &RepositoryName, digest: &Digest) -> Ensured {
        let mut published = self.published.subscribe();
        let is_reported = || {
            self.with(|state| {
                let report = state.report.as_ref();
                report.is_some_and(|report| usage::names(&report.usage, repository, digest))
            })
        };
        let hopeless = self.with(|state| {
            // Also where it is reported: what the next collection begins with may not show the workload yet.
            state
                .announced
                .insert((repository.clone(), digest.clone()), Instant::now());
            state.failed.is_some_and(|when| when.elapsed() < HOPELESS)
        });
        if is_reported() {
            return Ensured::Yes;
        }
        let _waiting = Waiting::begin(self);
        self.publish.notify_one();
        if hopeless {
            return Ensured::No;
        }
        let waits = async {
            while !is_reported() {
                if published.changed().await.is_err() || self.with(|state| state.failed.is_some()) {
                    return Ensured::No;
                }
            }
            Ensured::Yes
        };
        tokio::time::timeout(PATIENCE, waits).await.unwrap_or(Ensured::No)
    }

    /// An image was pushed that promotions may be about to roll out.
    pub(crate) fn expect(&self, repository: &RepositoryName, digest: &Digest) {
        self.with(|state| {
            state.expected.retain(|_, when| when.elapsed() < EXPECTED);
            state
                .expected
                .insert((repository.clone(), digest.clone()), Instant::now());
        });
    }

    /// What is expected to be used in a moment, while somebody waits for a publication; nothing otherwise.
    pub(super) fn expected(&self) -> Usage {
        self.with(|state| {
            state.expected.retain(|_, when| when.elapsed() < EXPECTED);
            match state.awaited {
                0 => Usage::new(),
                _ => usage_of(state.expected.keys()),
            }
        })
    }

    /// Looks at a repository are to begin from what ECR says.
    pub(crate) fn doubt(&self, repository: &RepositoryName) {
        let is_kept = self.with(|state| {
            let is_kept = state.kept.contains_key(repository);
            if is_kept {
                state.doubted.insert(repository.clone());
            }
            is_kept
        });
        if is_kept {
            self.keep.notify_one();
        }
    }

    /// A report has come.
    pub(crate) fn news(&self) {
        self.with(|state| state.news = true);
        self.keep.notify_one();
    }

    /// Whether a report names the tag, so that it matters where it goes.
    pub(crate) fn follows(&self, repository: &RepositoryName, tag: &Tag) -> bool {
        self.with(|state| state.kept.get(repository).is_some_and(|kept| kept.tags.contains(tag)))
    }

    pub(super) fn take_news(&self) -> bool {
        self.with(|state| std::mem::take(&mut state.news))
    }

    pub(super) fn take_doubts(&self) -> HashSet<RepositoryName> {
        self.with(|state| std::mem::take(&mut state.doubted))
    }

    /// Notes how a repository is; true if its protection has become complete.
    pub(super) fn keeps(&self, repository: &RepositoryName, kept: Kept) -> bool {
        self.with(|state| {
            let now = kept.protection == Protection::Complete;
            let before = state.kept.insert(repository.clone(), kept);
            now && before.is_none_or(|before| before.protection != Protection::Complete)
        })
    }

    /// Nothing can be said of any repository that asks, or has been protected.
    pub(super) fn is_blind(&self, repositories: &[RepositoryName], why: &str) {
        self.with(|state| {
            for repository in repositories {
                let kept = state.kept.entry(repository.clone()).or_insert_with(|| Kept {
                    protection: Protection::Unknown(String::new()),
                    digests: HashSet::new(),
                    tags: HashSet::new(),
                    tagged: 0,
                    cannot_release: None,
                });
                kept.protection = Protection::Unknown(why.to_owned());
            }
        });
    }

    /// Forgets all repositories but these.
    pub(super) fn keep_only(&self, repositories: &[RepositoryName]) {
        self.with(|state| state.kept.retain(|name, _| repositories.contains(name)));
    }

    /// All that is known of repositories: how many images have a tag, and why some cannot lose theirs.
    pub(super) fn overview(&self) -> (usize, BTreeMap<RepositoryName, Kept>) {
        self.with(|state| {
            let tagged = state.kept.values().map(|kept| kept.tagged).sum();
            let kept = state.kept.iter().map(|(name, kept)| (name.clone(), kept.clone()));
            (tagged, kept.collect())
        })
    }

    /// Sets what the status shows; true if that is new.
    pub(super) fn show(&self, status: InUseStatus) -> bool {
        self.with(|state| {
            let is_new = state.status.as_ref() != Some(&status);
            state.status = Some(status);
            is_new
        })
    }

    pub(super) fn report(&self) -> Option<Report> {
        self.with(|state| state.report.clone())
    }

    /// The report as it was published, or found.
    pub(super) fn reported(&self, report: Option<Report>) {
        self.with(|state| {
            state.report = report;
            state.failed = None;
            state.trouble = None;
        });
        self.published.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(super) fn could_not_publish(&self, why: String) {
        self.with(|state| {
            state.failed = Some(Instant::now());
            state.trouble = Some(why);
        });
        self.published.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether this cluster uses the image, as far as it has said so.
    pub(super) fn uses(&self, repository: &RepositoryName, digest: &Digest) -> bool {
        self.with(|state| {
            let reported = state
                .report
                .as_ref()
                .is_some_and(|report| usage::names(&report.usage, repository, digest));
            reported || state.announced.contains_key(&(repository.clone(), digest.clone()))
        })
    }

    /// Why this cluster's report could not be published.
    pub(super) fn trouble(&self) -> Option<String> {
        self.with(|state| state.trouble.clone())
    }

    /// Images that were announced a short while ago.
    pub(super) fn announced(&self) -> Usage {
        self.with(|state| {
            state.announced.retain(|_, when| when.elapsed() < ANNOUNCED);
            usage_of(state.announced.keys())
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Somebody waits for a publication; no longer when it is dropped.
struct Waiting<'a>(&'a InUse);

impl<'a> Waiting<'a> {
    fn begin(of: &'a InUse) -> Self {
        of.with(|state| state.awaited += 1);
        Self(of)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.with(|state| state.awaited = state.awaited.saturating_sub(1));
    }
}

fn usage_of<'a>(images: impl Iterator<Item = &'a (RepositoryName, Digest)>) -> Usage {
    let mut usage = Usage::new();
    for (repository, digest) in images {
        let uses = usage.entry(repository.clone()).or_default();
        uses.digests.insert(digest.clone());
    }
    usage
}

#[cfg(test)]
#[path = "handle_tests.rs"]
mod tests;
