//! Copies an image with everything that belongs to it to another repository, in whatever account and Region.
//!
//! # Guarantees
//! - Digests stay: manifests are put byte by byte as they were read, and every blob that is sent is hashed.
//! - Nothing is put before what it refers to is there, and a tag is set last, so a tag never shows half an image; its
//!   signatures are there before it too.
//! - What is at the destination already is not sent again, so a copy that was cut off goes on when it is repeated.
//! - A tag that is on another image is only moved if the caller says from where.
//!
//! # Caveats
//! ECR cannot set a tag on a condition. Between the last look at it and the put, which are one call apart, somebody else may
//! set it. Where tags are immutable, ECR refuses to move it.

use crate::api::names::{Digest, Tag};
use std::collections::{HashMap, HashSet, VecDeque};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{
    blob::{Arrival, copy_blob},
    destination::{Destination, MoveTag, TagWish},
    error::CopyError,
    graph::{self, Node, QUESTIONS},
    manifest::{Blob, Manifest},
    plane::Place,
    progress::{Phase, Teller},
};
use crate::aws::error::AwsError;

/// How to copy.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How many blobs travel at once; 0 counts as 1.
    pub concurrency: usize,
    /// Whether signatures, attestations and bills of material go along that are not part of the index itself.
    pub referrers: bool,
    pub teller: Teller,
}

/// What a copy has done. Everything it counts is at the destination.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Copied {
    /// Bytes of the blobs that were sent.
    pub bytes: u64,
    /// Blobs of all manifests, each once: the sum of the four that follow.
    pub blobs: u64,
    pub sent: u64,
    pub mounted: u64,
    /// Were there before.
    pub skipped: u64,
    /// Are kept elsewhere, as the layers of some base images of Windows.
    pub elsewhere: u64,
    /// Manifests that were put.
    pub manifests: u64,
    /// Manifests that were there before.
    pub manifests_skipped: u64,
    /// Of all manifests, those that say something about the image: signatures, attestations, bills of material.
    pub referrers: u64,
    /// Tags that were set. Those that were on the image already are left out.
    pub tags: Vec<String>,
    /// What was left as it is, in words.
    pub warnings: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            concurrency: 4,
            referrers: true,
            teller: Teller::default(),
        }
    }
}

/// The digest of the image that has the tag now.
pub(crate) async fn resolve(place: &Place, tag: &Tag) -> Result<Digest, CopyError> {
    place.enter().await?;
    place.look_up(tag.as_str()).await?.ok_or_else(|| CopyError::NotThere {
        place: place.to_string(),
        what: format!("image with the tag {tag}"),
    })
}

/// Copies the image `digest`, and sets the tags on it.
pub(crate) async fn copy(
    source: &Place,
    destination: &Destination,
    digest: &Digest,
    tags: &[TagWish],
    options: &Options,
) -> Result<Copied, CopyError> {
    source.enter().await?;
    destination.place.enter().await?;
    // Before a single byte travels in vain.
    for wish in tags {
        destination.is_set(wish, digest).await?;
    }
    let nodes = graph::read(source, digest, options.referrers).await?;
    let mut copy = Copy {
        source,
        destination,
        options,
        copied: Copied::default(),
    };
    copy.carry(&nodes).await?;

    options.teller.tell(|progress| progress.phase = Phase::Tagging);
    let image = nodes.iter().find(|node| node.manifest.digest == *digest);
    let image = &image.ok_or_else(|| not_there(source, digest))?.manifest;
    for wish in tags {
        if !destination.is_set(wish, digest).await? {
            destination.set_tag(wish, image).await?;
            copy.copied.tags.push(wish.tag.to_string());
        }
    }
    options.teller.tell(|progress| progress.phase = Phase::Done);
    Ok(copy.copied)
}

struct Copy<'a> {
    source: &'a Place,
    destination: &'a Destination,
    options: &'a Options,
    copied: Copied,
}

impl Copy<'_> {
    /// Puts all manifests in their order, each once its blobs are there. Blobs travel ahead in the same order, so that none
    /// waits long for the manifest that keeps the registry from clearing it away.
    async fn carry(&mut self, nodes: &[Node]) -> Result<(), CopyError> {
        let there = self.manifests_there(nodes).await?;
        let (mut waiting, known) = outstanding(nodes, &there);
        let total = known.values().copied().sum();
        let done = known.len() - waiting.len();
        let skipped = total - waiting.iter().map(|blob| blob.size).sum::<u64>();
        self.copied.blobs = known.len() as u64;
        self.copied.skipped = done as u64;
        self.copied.referrers = nodes.iter().filter(|node| node.statement).count() as u64;
        self.options.teller.tell(|progress| {
            progress.phase = Phase::Copying;
            progress.blobs_total = known.len() as u64;
            progress.blobs_done = done as u64;
            progress.bytes_total = total;
            progress.bytes_done += skipped;
        });

        let mut missing: HashSet<Digest> = waiting.iter().map(|blob| blob.digest.clone()).collect();
        // Dropped with this function, which ends what is under way.
        let mut travelling = JoinSet::new();
        let mut nodes = nodes.iter();
        let mut next = nodes.next();
        loop {
            while travelling.len() < self.options.concurrency.max(1)
                && let Some(blob) = waiting.pop_front()
            {
                let (source, destination) = (self.source.clone(), self.destination.place.clone());
                let teller = self.options.teller.clone();
                travelling.spawn(async move {
                    let arrival = copy_blob(&source, &destination, &blob, &teller).await?;
                    Ok::<_, CopyError>((blob, arrival))
                });
            }
            while let Some(node) = next
                && node.manifest.blobs.iter().all(|blob| !missing.contains(&blob.digest))
            {
                self.put(node, there.contains(&node.manifest.digest)).await?;
                next = nodes.next();
            }
            let Some(ended) = travelling.join_next().await else {
                return Ok(());
            };
            let (blob, arrival) = ended.map_err(|error| {
                let error = AwsError::incomplete("copy of a blob", &format!("its end ({error})"));
                self.source.failed(error)
            })??;
            self.count(&blob, arrival);
            missing.remove(&blob.digest);
        }
    }

    /// Which manifests are at the destination: their blobs and children are, too.
    async fn manifests_there(&self, nodes: &[Node]) -> Result<HashSet<Digest>, CopyError> {
        let place = &self.destination.place;
        let digests: Vec<Digest> = nodes.iter().map(|node| node.manifest.digest.clone()).collect();
        stream::iter(digests)
            .map(|digest| async move { Ok(place.look_up(digest.as_str()).await?.map(|_| digest)) })
            .buffer_unordered(QUESTIONS)
            .try_filter_map(|digest| async move { Ok(digest) })
            .try_collect()
            .await
    }

    async fn put(&mut self, node: &Node, there: bool) -> Result<(), CopyError> {
        if there {
            self.copied.manifests_skipped += 1;
        } else {
            self.destination.put(&node.manifest).await?;
            self.copied.manifests += 1;
        }
        for tag in &node.companions {
            self.set_companion(tag, &node.manifest).await?;
        }
        Ok(())
    }

    /// Sets the tag of a signature or the like. There is no telling who set one that is on something else; it is moved only
    /// if nothing is lost by that.
    async fn set_companion(&mut self, tag: &Tag, manifest: &Manifest) -> Result<(), CopyError> {
        let place = &self.destination.place;
        let holder = self.destination.holder(tag).await?;
        let moving = match holder {
            Some(holder) if holder == manifest.digest => return Ok(()),
            Some(holder) => match place.manifest(&holder).await? {
                Some(old) if manifest.includes(&old) => MoveTag::IfCurrently(holder),
                _ => {
                    self.copied.warnings.push(format!(
                        "the tag {tag} in {place} is on {holder}, which holds what {} does not; it was left there",
                        manifest.digest
                    ));
                    return Ok(());
                }
            },
            None => MoveTag::Never,
        };
        let wish = TagWish {
            tag: tag.clone(),
            moving,
        };
        self.destination.set_tag(&wish, manifest).await?;
        self.copied.tags.push(tag.to_string());
        Ok(())
    }

    fn count(&mut self, blob: &Blob, arrival: Arrival) {
        match arrival {
            Arrival::Skipped => self.copied.skipped += 1,
            Arrival::Mounted => self.copied.mounted += 1,
            Arrival::Elsewhere => self.copied.elsewhere += 1,
            Arrival::Copied => {
                self.copied.sent += 1;
                self.copied.bytes += blob.size;
            }
        }
        self.options.teller.tell(|progress| progress.blobs_done += 1);
    }
}

/// The blobs that are to be brought, in the order in which manifests need them, and all there are with their sizes. Those
/// of a manifest that is there are there as well.
fn outstanding(nodes: &[Node], there: &HashSet<Digest>) -> (VecDeque<Blob>, HashMap<Digest, u64>) {
    let blobs = |wanted: bool| {
        nodes
            .iter()
            .filter(move |node| there.contains(&node.manifest.digest) == wanted)
            .flat_map(|node| &node.manifest.blobs)
    };
    let mut known: HashMap<Digest, u64> = blobs(true).map(|blob| (blob.digest.clone(), blob.size)).collect();
    let mut waiting: VecDeque<Blob> = VecDeque::new();
    for blob in blobs(false) {
        if known.insert(blob.digest.clone(), blob.size).is_none() {
            waiting.push_back(blob.clone());
        }
    }
    (waiting, known)
}

fn not_there(source: &Place, digest: &Digest) -> CopyError {
    CopyError::NotThere {
        place: source.to_string(),
        what: format!("manifest {digest}"),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    /// Controllers spawn it: that it can be is checked when this is compiled.
    #[expect(dead_code, reason = "compiling it is the test")]
    fn a_copy_can_be_spawned(source: &Place, destination: &Destination, digest: &Digest, options: &Options) {
        fn spawned(_: impl Future + Send) {}
        spawned(copy(source, destination, digest, &[], options));
    }

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn node(layers: &[&str]) -> Node {
        let descriptor = |text: &&str| json!({ "digest": digest(text).as_str(), "size": text.len() });
        let layers: Vec<_> = layers.iter().map(descriptor).collect();
        let text = json!({ "schemaVersion": 2, "config": descriptor(&"config"), "layers": layers }).to_string();
        let bytes = Bytes::from(text);
        Node {
            manifest: Manifest::read(&Digest::of(&bytes), None, bytes).unwrap(),
            companions: Vec::new(),
            statement: false,
        }
    }

    #[test]
    fn a_blob_is_brought_once_and_not_where_a_manifest_vouches_for_it() {
        let (one, two) = (node(&["a", "b"]), node(&["b", "c"]));
        let (waiting, known) = outstanding(&[one.clone(), two.clone()], &HashSet::new());
        let order: Vec<Digest> = waiting.iter().map(|blob| blob.digest.clone()).collect();
        assert_eq!(order, ["config", "a", "b", "c"].map(digest));
        assert_eq!(known.len(), 4);

        let there = HashSet::from([two.manifest.digest.clone()]);
        let (waiting, known) = outstanding(&[one, two], &there);
        assert_eq!(waiting.len(), 1, "the config, b and c are there");
        assert_eq!((waiting[0].digest.clone(), known.len()), (digest("a"), 4));
    }
}
