//! Keeps the tags of one repository as they should be.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    handle::{Kept, Protection},
    indexes::Indexes,
    protect::{self, Listing, Plan, Release, Wanted},
    replicas,
    usage::Uses,
};
use crate::{
    api::{
        CLAIM_REPOSITORY, IN_USE_TAG_PREFIX,
        names::{Digest, RepositoryName, Tag},
    },
    aws::{
        error::{AwsError, Fault},
        images::ImageRef,
        parking::{self, ReleasedTag},
    },
    controllers::{
        registry::{connection::Connection, plan::is_ours},
        world::World,
    },
};

/// How many tags are put before others have a turn.
const PUTS: usize = 40;

/// How long everything is taken to be as it was listed, our own writes included.
const LISTED: Duration = Duration::from_hours(24);

/// The same where a tag is followed, or an image was not there, in intervals.
const FOLLOWED: u32 = 3;

/// How long an image that ECR refuses to tag is left alone.
const REFUSED: Duration = Duration::from_hours(1);

/// What is remembered of a repository between two looks.
#[derive(Debug, Default)]
pub(super) struct Tags {
    listing: Option<(Listing, Instant)>,
    /// Somebody else has a hand in it: it is listed again.
    doubted: bool,
    indexes: Indexes,
    indexes_since: Option<Instant>,
    /// Since when a tag keeps nothing in use.
    unused: HashMap<Tag, Instant>,
    /// Images that ECR refused to tag, and why.
    refused: HashMap<Digest, (Instant, String)>,
}

/// What a look at a repository is about.
pub(super) struct Look<'a> {
    pub world: &'a World,
    pub registry: &'a str,
    pub connection: &'a Connection,
    pub repository: &'a RepositoryName,
    pub uses: &'a Uses,
    /// Why it is not known what is in use. Tags are put all the same.
    pub gaps: &'a [String],
}

/// What came of it.
pub(super) struct Looked {
    pub kept: Kept,
    /// There is more to be done at once.
    pub more: bool,
    /// Some image is not protected any more.
    pub released: bool,
}

impl Tags {
    /// What is remembered of the repository is not to be trusted.
    pub(super) fn doubt(&mut self) {
        self.listing = None;
    }

    pub(super) async fn look(&mut self, look: &Look<'_>) -> Result<Looked, AwsError> {
        let (mut listing, listed) = match self.listing.take() {
            Some((listing, at)) if !self.is_old(look, &listing, at) => (listing, at),
            _ => (list(look).await?, Instant::now()),
        };
        let done = self.keep(look, &mut listing).await;
        self.listing = Some((listing, listed));
        // A write without an answer may have been carried out.
        if done.is_err() || std::mem::take(&mut self.doubted) {
            self.listing = None;
        }
        done
    }

    fn is_old(&self, look: &Look<'_>, listing: &Listing, at: Instant) -> bool {
        let wanted = protect::wanted(look.uses, listing, &self.indexes.found);
        let follows = !look.uses.tags.is_empty() || wanted.missing > 0;
        let most = match follows {
            true => (look.world.in_use.interval * FOLLOWED).min(LISTED),
            false => LISTED,
        };
        at.elapsed() > most || !listing.asked.covers(look.uses)
    }

    async fn keep(&mut self, look: &Look<'_>, listing: &mut Listing) -> Result<Looked, AwsError> {
        if self.indexes_since.is_none_or(|since| since.elapsed() > LISTED) {
            // An index may have been pushed for an image that had none.
            self.indexes.found.retain(|_, index| index.is_some());
            self.indexes_since = Some(Instant::now());
        }
        let mut wanted = protect::wanted(look.uses, listing, &self.indexes.found);
        if !wanted.lone.is_empty() {
            let ecr = &look.connection.ecr;
            self.indexes.search(ecr, look.repository, &wanted.lone).await?;
            wanted = protect::wanted(look.uses, listing, &self.indexes.found);
        }
        let plan = protect::plan(&wanted.digests, &listing.ours, parking::digest());
        let left = self.put(look, &plan, listing).await?;
        // Of an image whose index is not known yet, the index's tag would seem to keep nothing in use.
        let (mut released, mut later) = (0, 0);
        if look.gaps.is_empty() && wanted.lone.is_empty() {
            (released, later) = self.release(look, &plan, listing).await?;
        } else {
            self.unused.clear();
        }
        Ok(Looked {
            kept: self.kept(look, listing, &wanted, left),
            more: left > 0 || later > 0 || !wanted.lone.is_empty(),
            released: released > 0,
        })
    }

    /// Puts tags on; gives how many are left for another time.
    async fn put(&mut self, look: &Look<'_>, plan: &Plan, listing: &mut Listing) -> Result<usize, AwsError> {
        self.refused.retain(|_, (when, _)| when.elapsed() < REFUSED);
        let open: Vec<&Digest> = plan
            .put
            .iter()
            .filter(|digest| !self.refused.contains_key(digest))
            .collect();
        for digest in open.iter().take(PUTS) {
            let tag = digest.in_use_tag();
            let put = look.connection.ecr.put_tag(look.repository, digest, &tag).await;
            match put {
                Ok(()) => {
                    tracing::info!(registry = look.registry, repository = %look.repository, %digest, "keeps an image in use from clean-up");
                    listing.ours.insert(tag, (*digest).clone());
                }
                Err(error) if is_missing(&error) && !look.is_there(digest).await? => {
                    listing.images.remove(*digest);
                    listing.tags.retain(|_, holder| holder != *digest);
                }
                Err(error) if is_missing(&error) || is_about_the_image(&error) => {
                    tracing::warn!(registry = look.registry, repository = %look.repository, %digest, %error, "an image in use cannot be kept from clean-up");
                    let why = match is_missing(&error) {
                        true => "ECR does not hand out its manifest, as of an image in the archive".to_owned(),
                        false => error.to_string(),
                    };
                    self.refused.insert((*digest).clone(), (Instant::now(), why));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(open.len().saturating_sub(PUTS))
    }

    /// Takes tags off that have kept nothing in use for an interval: how many, and how many are left for another time.
    async fn release(
        &mut self,
        look: &Look<'_>,
        plan: &Plan,
        listing: &mut Listing,
    ) -> Result<(usize, usize), AwsError> {
        let unused: HashSet<&Tag> = plan.unused.iter().collect();
        self.unused.retain(|tag, _| unused.contains(tag));
        let mut due = Vec::new();
        for tag in &plan.unused {
            let since = *self.unused.entry(tag.clone()).or_insert_with(Instant::now);
            if since.elapsed() >= look.world.in_use.interval && look.immovable(tag.as_str()).is_none() {
                due.push(tag);
            }
        }
        if due.is_empty() || !look.holds_claim().await? {
            return Ok((0, 0));
        }
        let (mut released, later) = (0, due.len().saturating_sub(PUTS));
        for tag in due.into_iter().take(PUTS) {
            if look.take_off(tag).await? {
                tracing::info!(registry = look.registry, repository = %look.repository, %tag, "an image is not in use any more");
                look.world.metrics.in_use.released(look.registry);
                released += 1;
            } else {
                self.doubted = true;
            }
            listing.ours.remove(tag);
            self.unused.remove(tag);
        }
        Ok((released, later))
    }

    fn kept(&self, look: &Look<'_>, listing: &Listing, wanted: &Wanted, left: usize) -> Kept {
        let refused = self.refused.iter().find(|(digest, _)| wanted.digests.contains(*digest));
        let protection = match (look.gaps.first(), refused) {
            (Some(gap), _) => Protection::Unknown(gap.clone()),
            (None, Some((digest, (_, why)))) => Protection::Unknown(format!(
                "{} in {} cannot be tagged: {why}",
                digest.short(),
                look.repository
            )),
            (None, None) if left > 0 => Protection::Pending { missing_tags: left },
            (None, None) if !wanted.lone.is_empty() => Protection::Unknown(format!(
                "the indexes of images in {} are still being looked for",
                look.repository
            )),
            (None, None) => Protection::Complete,
        };
        let held = listing
            .ours
            .iter()
            .filter(|(tag, holder)| tag.keeps().as_ref() == Some(holder));
        let held: Vec<&Digest> = held.map(|(_, holder)| holder).collect();
        Kept {
            protection,
            tagged: held.len(),
            digests: wanted.digests.iter().chain(held).cloned().collect(),
            tags: look.uses.tags.iter().cloned().collect(),
            cannot_release: look.immovable(&format!("{IN_USE_TAG_PREFIX}{}", "0".repeat(64))),
        }
    }
}

impl Look<'_> {
    /// Why tags of ours cannot be moved there.
    fn immovable(&self, tag: &str) -> Option<String> {
        let record = self.connection.inventory.get(self.repository)?;
        protect::immovable(&record.mutability, tag)
            .map(|why| format!("in {} no image is released from protection: {why}", self.repository))
    }

    /// Whether this cluster still is the one that manages the registry, by ECR's own word.
    async fn holds_claim(&self) -> Result<bool, AwsError> {
        let claim = CLAIM_REPOSITORY
            .parse()
            .map_err(|_| AwsError::incomplete("DescribeRepositories", "a claim name"))?;
        let claim = self.connection.read_claim(&claim).await?;
        let ours = claim.is_some_and(|claim| is_ours(&claim, &self.world.identity));
        Ok(ours && self.connection.manages())
    }

    /// Whether the image is there after all, be it in the archive.
    async fn is_there(&self, digest: &Digest) -> Result<bool, AwsError> {
        let image = ImageRef::Digest(digest.clone());
        let found = self.connection.ecr.describe_image(self.repository, &image).await?;
        Ok(found.is_some())
    }

    fn is_used_now(&self, tag: &Tag) -> bool {
        tag.keeps().is_none_or(|digest| {
            self.connection.in_use.uses(self.repository, &digest)
                || replicas::is_used(self.world, self.registry, self.repository, &digest)
        })
    }

    /// Takes a tag off the image that it kept. False where somebody has moved it, so that it stays.
    async fn take_off(&self, tag: &Tag) -> Result<bool, AwsError> {
        let ecr = &self.connection.ecr;
        let holder = ecr.tag_holder(self.repository, tag.as_str()).await?;
        let holder: Option<Digest> = holder.and_then(|holder| holder.parse().ok());
        let released = match protect::release(tag, holder.as_ref(), parking::digest()) {
            Release::Gone => return Ok(true),
            Release::Leave => return Ok(false),
            // What this cluster has begun to use since the look began is in use.
            Release::Move if self.is_used_now(tag) => return Ok(false),
            Release::TakeAway => holder.and_then(|holder| ReleasedTag::seen_on(&holder, tag)),
            Release::Move => ecr.park(self.repository, tag).await?,
        };
        match released {
            Some(released) => ecr.take_away(self.repository, released).await,
            None => Ok(false),
        }
    }
}

/// Whether the image, but not the repository, was not found.
fn is_missing(error: &AwsError) -> bool {
    error.fault == Fault::NotFound && !error.is("RepositoryNotFoundException")
}

/// Whether the error is about this image, so that others may fare better: it has all the tags that ECR allows, its tag is
/// immutable elsewhere, or ECR does not hand it out.
fn is_about_the_image(error: &AwsError) -> bool {
    error.fault == Fault::Quota
        || error.is("ImageTagAlreadyExistsException")
        || error.is("ImageInaccessible")
        || error.is("KmsError")
        || error.code.starts_with("Upstream")
}

/// Lists a repository, archived images included, and keeps what matters.
async fn list(look: &Look<'_>) -> Result<Listing, AwsError> {
    let mut listing = Listing::of(look.uses.clone());
    let mut token = None;
    loop {
        let page = look.connection.ecr.list_image_ids(look.repository, true, token).await?;
        for (digest, tag) in page.items {
            listing.take(digest, tag);
        }
        token = page.next;
        if token.is_none() {
            return Ok(listing);
        }
    }
}
