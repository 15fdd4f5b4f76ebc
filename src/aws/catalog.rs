//! The images of one repository, as last seen; shared by all promotions that choose among them.
//!
//! Read in full once: a call for each 1,000 images. From then on each change that is told of costs one small read, and
//! the refresh, which finds what nobody told of, lists ids alone and describes the new ones. A read that fails changes
//! nothing. For 50,000 images with two tags each this takes some 10 MB.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::Mutex, time::Instant};

use super::{
    client::Ecr,
    error::AwsError,
    images::{Described, IDS_LIMIT, ImageRef},
};
use crate::{
    api::names::{Digest, RepositoryName, Tag},
    promotion::facts::{Image, Storage},
};

/// Up to so many images, a refresh reads them in full: that is one call, and leaves nothing out.
const ONE_PAGE: usize = 1_000;

/// Above that, they are read in full again after this time, for what a list of ids does not show: an image that was
/// deleted and pushed again in between.
const FULL_AGAIN: Duration = Duration::from_hours(12);

/// The catalog of one repository.
#[derive(Debug)]
pub(crate) struct Catalog {
    ecr: Ecr,
    repository: RepositoryName,
    /// Held while the repository is listed, so that those who ask meanwhile wait for that listing.
    listing: Mutex<Listing>,
    state: RwLock<State>,
}

/// What listings know of each other.
#[derive(Debug, Default)]
struct Listing {
    full_at: Option<Instant>,
    /// The last failure, and when that listing ended: whoever asked before then is answered with it.
    failed: Option<(Instant, AwsError)>,
}

#[derive(Debug, Default)]
struct State {
    /// Nothing until the repository was first listed.
    seen: Option<Seen>,
    /// When something last changed that was not read: a listing that began before is not enough.
    doubted: Option<Instant>,
    /// While a listing is under way.
    meanwhile: Option<Meanwhile>,
}

/// What was read of single images since a listing began, which may be older.
#[derive(Debug)]
struct Meanwhile {
    since: Instant,
    changes: Vec<Change>,
}

/// Ends the taking down of changes, also when the listing is given up.
struct Recording<'a>(&'a RwLock<State>);

impl Drop for Recording<'_> {
    fn drop(&mut self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).meanwhile = None;
    }
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    snapshot: Arc<Snapshot>,
}

/// The images of a repository at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// In the order of their digests.
    records: Vec<Record>,
}

/// One image, in few bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    digest: [u8; 32],
    pushed_at: Timestamp,
    is_index: bool,
    /// False for signatures, lists of contents, charts: they are kept because tags may be on them.
    can_run: bool,
    storage: Storage,
    /// In alphabetical order.
    tags: Box<[Box<str>]>,
}

/// What was read of a single image.
#[derive(Clone, Debug)]
enum Change {
    Found(Record),
    NoDigest([u8; 32]),
    NoTag(Tag),
}

impl Catalog {
    pub(crate) fn new(ecr: Ecr, repository: RepositoryName) -> Self {
        Self {
            ecr,
            repository,
            listing: Mutex::default(),
            state: RwLock::default(),
        }
    }

    /// The images as they were seen at most `max_age` ago; lists them where that is longer ago. Callers that come
    /// together wait for one listing, and get its failure if it fails.
    pub(crate) async fn get(&self, max_age: Duration) -> Result<Arc<Snapshot>, AwsError> {
        let asked = Instant::now();
        if let Some(snapshot) = self.seen_since(asked, max_age) {
            return Ok(snapshot);
        }
        let mut listing = self.listing.lock().await;
        if let Some(snapshot) = self.seen_since(asked, max_age) {
            return Ok(snapshot);
        }
        if let Some((when, error)) = &listing.failed
            && *when >= asked
        {
            return Err(error.clone());
        }
        let answer = self.refresh(&mut listing).await;
        listing.failed = answer.as_ref().err().map(|error| (Instant::now(), error.clone()));
        answer
    }

    /// More has changed than is to be read one by one: whoever asks next gets a new listing.
    pub(crate) fn doubt(&self) {
        self.write().doubted = Some(Instant::now());
    }

    /// Reads one image again, of which was heard that it was pushed, tagged, archived or deleted, and gives it if it is
    /// there. Does nothing before the first listing, which will see it anyway.
    pub(crate) async fn changed(&self, image: &ImageRef) -> Result<Option<Image>, AwsError> {
        let began = Instant::now();
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            if state.seen.is_none() && state.meanwhile.is_none() {
                return Ok(None);
            }
        }
        let change = match (self.ecr.describe_image(&self.repository, image).await?, image) {
            (Some(described), _) => Change::Found(Record::new(&described)),
            (None, ImageRef::Digest(digest)) => Change::NoDigest(digest.to_bytes()),
            (None, ImageRef::Tag(tag)) => Change::NoTag(tag.clone()),
        };
        let found = match &change {
            Change::Found(record) => Some(record.image()),
            Change::NoDigest(_) | Change::NoTag(_) => None,
        };
        let mut state = self.write();
        if let Some(seen) = &mut state.seen {
            Arc::make_mut(&mut seen.snapshot).apply(change.clone());
        }
        if let Some(meanwhile) = &mut state.meanwhile
            && began >= meanwhile.since
        {
            meanwhile.changes.push(change);
        }
        Ok(found)
    }

    fn seen_since(&self, asked: Instant, max_age: Duration) -> Option<Arc<Snapshot>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let seen = state.seen.as_ref()?;
        // Saturates: a listing that ended after the question is of no age.
        let is_enough = state.doubted.is_none_or(|doubted| seen.at > doubted);
        (is_enough && asked.duration_since(seen.at) <= max_age).then(|| Arc::clone(&seen.snapshot))
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    async fn refresh(&self, listing: &mut Listing) -> Result<Arc<Snapshot>, AwsError> {
        let began = Instant::now();
        let _recording = Recording(&self.state);
        let old = {
            let mut state = self.write();
            state.meanwhile = Some(Meanwhile {
                since: began,
                changes: Vec::new(),
            });
            state.seen.as_ref().map(|seen| Arc::clone(&seen.snapshot))
        };
        let known = old.filter(|old| {
            let full_again = listing
                .full_at
                .is_none_or(|full| began.duration_since(full) >= FULL_AGAIN);
            old.records.len() > ONE_PAGE && !full_again
        });
        let read = match &known {
            Some(known) => self.read_new(known).await,
            None => self.read_all().await,
        };
        let mut snapshot = read?;
        if known.is_none() {
            listing.full_at = Some(began);
        }
        let mut state = self.write();
        for change in state
            .meanwhile
            .take()
            .into_iter()
            .flat_map(|meanwhile| meanwhile.changes)
        {
            snapshot.apply(change);
        }
        let snapshot = Arc::new(snapshot);
        state.seen = Some(Seen {
            at: began,
            snapshot: Arc::clone(&snapshot),
        });
        Ok(snapshot)
    }

    /// Every image, page after page.
    async fn read_all(&self) -> Result<Snapshot, AwsError> {
        let mut records = Vec::new();
        let mut token = None;
        loop {
            let page = self.ecr.describe_images_page(&self.repository, token).await?;
            records.extend(page.items.iter().map(Record::new));
            token = page.next;
            if token.is_none() {
                return Ok(Snapshot::new(records));
            }
        }
    }

    /// Which images there are, and their tags; of those that are new, the rest as well.
    async fn read_new(&self, known: &Snapshot) -> Result<Snapshot, AwsError> {
        let mut listed = self.list(false).await?;
        // Active before and not any more: archived or gone. Only then are the archived ones listed too.
        let vanished = known
            .records
            .iter()
            .any(|record| record.storage == Storage::Active && !listed.contains_key(&record.digest));
        let archived = match vanished {
            true => Some(self.list(true).await?),
            false => None,
        };
        let (mut records, new) = known.merge(&mut listed, archived.as_ref());
        for ids in new.chunks(IDS_LIMIT) {
            let ids: Vec<ImageRef> = ids
                .iter()
                .map(|digest| ImageRef::Digest(Digest::from_bytes(digest)))
                .collect();
            match self.ecr.describe_images(&self.repository, &ids).await {
                Ok(described) => records.extend(described.iter().map(Record::new)),
                // One of them was deleted since: which, ECR does not say.
                Err(error) if error.is("ImageNotFoundException") => {
                    for id in &ids {
                        let described = self.ecr.describe_image(&self.repository, id).await?;
                        records.extend(described.as_ref().map(Record::new));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Snapshot::new(records))
    }

    /// The digests with their tags.
    async fn list(&self, archived_too: bool) -> Result<Ids, AwsError> {
        let mut ids = Ids::new();
        let mut token = None;
        loop {
            let page = self.ecr.list_image_ids(&self.repository, archived_too, token).await?;
            for (digest, tag) in page.items {
                let tags = ids.entry(digest.to_bytes()).or_default();
                tags.extend(tag.map(|tag| Box::from(tag.as_str())));
            }
            token = page.next;
            if token.is_none() {
                return Ok(ids);
            }
        }
    }
}

type Ids = HashMap<[u8; 32], Vec<Box<str>>>;

impl Snapshot {
    fn new(mut records: Vec<Record>) -> Self {
        // The same image on two pages: it moved while they were read, and the later page is newer.
        records.reverse();
        records.sort_by_key(|record| record.digest);
        records.dedup_by_key(|record| record.digest);
        records.shrink_to_fit();
        Self { records }
    }

    /// The images that could run, in no order that means anything.
    pub(crate) fn images(&self) -> impl Iterator<Item = Image> {
        self.records.iter().filter(|record| record.can_run).map(Record::image)
    }

    /// Any image, also one that could not run.
    pub(crate) fn image(&self, digest: &Digest) -> Option<Image> {
        let digest = digest.to_bytes();
        let at = self
            .records
            .binary_search_by_key(&digest, |record| record.digest)
            .ok()?;
        self.records.get(at).map(Record::image)
    }

    /// The image that a tag is on, also one that could not run.
    #[cfg(test)]
    pub(crate) fn by_tag(&self, tag: &Tag) -> Option<Image> {
        let holds = |record: &&Record| record.tags.iter().any(|own| **own == *tag.as_str());
        self.records.iter().find(holds).map(Record::image)
    }

    /// How many images there are, with those that could not run.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// About how much memory it takes, in bytes.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        let tags = self.records.iter().flat_map(|record| &record.tags);
        // An allocation takes 16 bytes at least, and a multiple of them.
        let texts: usize = tags
            .map(|tag| mem::size_of::<Box<str>>() + tag.len().next_multiple_of(16) + 16)
            .sum();
        self.records.capacity() * mem::size_of::<Record>() + texts
    }

    /// Takes over what was read of one image.
    fn apply(&mut self, change: Change) {
        match change {
            Change::Found(record) => {
                // A tag is on one image only: what this one has, another has lost.
                let tags: HashSet<&str> = record.tags.iter().map(AsRef::as_ref).collect();
                for other in &mut self.records {
                    if other.digest != record.digest && other.tags.iter().any(|tag| tags.contains(&**tag)) {
                        other.keep_tags(|tag| !tags.contains(tag));
                    }
                }
                match self
                    .records
                    .binary_search_by_key(&record.digest, |record| record.digest)
                {
                    Ok(at) => self.records[at] = record,
                    Err(at) => self.records.insert(at, record),
                }
            }
            Change::NoDigest(digest) => {
                if let Ok(at) = self.records.binary_search_by_key(&digest, |record| record.digest) {
                    self.records.remove(at);
                }
            }
            Change::NoTag(tag) => {
                for record in &mut self.records {
                    if record.tags.iter().any(|own| **own == *tag.as_str()) {
                        record.keep_tags(|own| own != tag.as_str());
                    }
                }
            }
        }
    }

    /// The known records as the listings show them, and the digests of which more must be read. `listed` has what can be
    /// pulled; `all`, where it was read, has everything. What `all` alone has is archived; without it, archived records
    /// stay as they are.
    fn merge(&self, listed: &mut Ids, all: Option<&Ids>) -> (Vec<Record>, Vec<[u8; 32]>) {
        let mut records = Vec::with_capacity(listed.len());
        for record in &self.records {
            if let Some(mut tags) = listed.remove(&record.digest) {
                tags.sort_unstable();
                records.push(Record {
                    storage: Storage::Active,
                    tags: tags.into(),
                    ..record.clone()
                });
            } else if let Some(all) = all {
                let Some(tags) = all.get(&record.digest) else { continue };
                let mut tags = tags.clone();
                tags.sort_unstable();
                records.push(Record {
                    storage: Storage::Archived,
                    tags: tags.into(),
                    ..record.clone()
                });
            } else {
                records.push(record.clone());
            }
        }
        let mut new: Vec<[u8; 32]> = listed.keys().copied().collect();
        new.sort_unstable();
        (records, new)
    }
}

impl Record {
    fn new(described: &Described) -> Self {
        Self {
            digest: described.digest.to_bytes(),
            pushed_at: described.pushed_at,
            is_index: described.is_index(),
            can_run: described.can_run(),
            storage: described.storage,
            tags: described.tags.iter().map(|tag| Box::from(tag.as_str())).collect(),
        }
    }

    fn image(&self) -> Image {
        Image {
            digest: Digest::from_bytes(&self.digest),
            tags: self.tags.iter().filter_map(|tag| tag.parse().ok()).collect(),
            pushed_at: self.pushed_at,
            is_index: self.is_index,
            storage: self.storage,
        }
    }

    fn keep_tags(&mut self, keep: impl Fn(&str) -> bool) {
        let mut tags = mem::take(&mut self.tags).into_vec();
        tags.retain(|tag| keep(tag));
        self.tags = tags.into();
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
