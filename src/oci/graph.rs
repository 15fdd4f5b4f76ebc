//! Everything that belongs to an image, in the order in which it can be put: the manifests of an index before the index,
//! and what says something about an image after it.
//!
//! Signatures, attestations and bills of material are found where their makers keep them: within the index (buildx), under
//! tags derived from the digest (cosign, and OCI 1.1 where a registry lists no referrers), and in the registry's listing of
//! referrers.

use crate::api::names::{Digest, Tag};
use std::collections::{HashSet, VecDeque};

use futures::{
    StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, FutureExt as _},
    stream,
};

use super::{error::CopyError, manifest::Manifest, plane::Place};

/// What follows `sha256-<hex>` in the tags of cosign; nothing follows in that of OCI 1.1.
const COMPANIONS: [&str; 4] = [".sig", ".att", ".sbom", ""];

/// How deep an index may hold indexes, and how long a chain of statements about statements may be.
const DEEPEST: usize = 4;

/// How many manifests an image may have with all that belongs to it.
const MOST_MANIFESTS: usize = 1_000;

/// How many bytes these manifests may have together: they are held in memory.
const MOST_BYTES: usize = 32 << 20;

/// How many questions a registry is asked at once.
pub(super) const QUESTIONS: usize = 8;

/// A manifest, and what it is there for.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) manifest: Manifest,
    /// The tags by which it is found, for what is kept under tags: one bill of material may do for several platforms.
    pub(super) companions: Vec<Tag>,
    /// Whether it says something about the image, rather than being a part of it.
    pub(super) statement: bool,
}

/// Reads all of it from the source. The first nodes are the image and its parts; then come statements, if wanted.
pub(super) async fn read(source: &Place, root: &Digest, with_statements: bool) -> Result<Vec<Node>, CopyError> {
    let mut graph = Graph {
        source,
        root,
        nodes: Vec::new(),
        known: HashSet::new(),
        bytes: 0,
    };
    graph.add(root, 0, false).await?;
    if !with_statements {
        return Ok(graph.nodes);
    }
    let mut pending: VecDeque<(Digest, usize)> = graph.digests(0).map(|digest| (digest, 0)).collect();
    while !pending.is_empty() {
        let batch: Vec<(Digest, usize)> = pending.drain(..).collect();
        let answers: Vec<(Vec<Found>, usize)> = stream::iter(batch)
            .map(|(digest, depth)| async move { Ok::<_, CopyError>((statements(source, &digest).await?, depth)) })
            .buffered(QUESTIONS)
            .try_collect()
            .await?;
        for (found, depth) in answers {
            if depth == DEEPEST && !found.is_empty() {
                return Err(graph.too_much(format!("statements about statements are {DEEPEST} deep")));
            }
            for (digest, companion) in found {
                let first = graph.nodes.len();
                graph.add(&digest, 0, true).await?;
                if let Some(node) = graph.nodes.iter_mut().find(|node| node.manifest.digest == digest) {
                    node.companions.extend(companion);
                }
                pending.extend(graph.digests(first).map(|digest| (digest, depth + 1)));
            }
        }
    }
    Ok(graph.nodes)
}

/// A statement, and the tag it is kept under.
type Found = (Digest, Option<Tag>);

/// What is said about a manifest.
async fn statements(source: &Place, digest: &Digest) -> Result<Vec<Found>, CopyError> {
    let mut found: Vec<Found> = referrers(source, digest)
        .await?
        .into_iter()
        .map(|digest| (digest, None))
        .collect();
    for suffix in COMPANIONS {
        let tag = digest.companion(suffix);
        if let Some(digest) = source.look_up(tag.as_str()).await? {
            found.push((digest, Some(tag)));
        }
    }
    Ok(found)
}

/// By the data plane's listing or, where it has none, by ECR's.
async fn referrers(source: &Place, digest: &Digest) -> Result<Vec<Digest>, CopyError> {
    if let Some(found) = source.referrers(digest).await? {
        return Ok(found);
    }
    let found = source
        .plane
        .ecr()
        .referrers(&source.repository, digest.as_str())
        .await
        .map_err(|error| source.failed(error))?;
    // A digest of another algorithm cannot be of this registry.
    Ok(found.iter().filter_map(|digest| digest.parse().ok()).collect())
}

struct Graph<'a> {
    source: &'a Place,
    root: &'a Digest,
    nodes: Vec<Node>,
    known: HashSet<Digest>,
    bytes: usize,
}

impl Graph<'_> {
    /// Adds a manifest, its children before it. One that is known already is not added again.
    fn add<'a>(
        &'a mut self,
        digest: &'a Digest,
        depth: usize,
        statement: bool,
    ) -> BoxFuture<'a, Result<(), CopyError>> {
        async move {
            if !self.known.insert(digest.clone()) {
                return Ok(());
            }
            if self.known.len() > MOST_MANIFESTS {
                return Err(self.too_much(format!("it has more than {MOST_MANIFESTS} manifests")));
            }
            let manifest = self.source.manifest(digest).await?.ok_or_else(|| CopyError::NotThere {
                place: self.source.to_string(),
                what: format!("manifest {digest}"),
            })?;
            self.bytes += manifest.bytes.len();
            if self.bytes > MOST_BYTES {
                return Err(self.too_much(format!("its manifests have more than {MOST_BYTES} bytes")));
            }
            if depth == DEEPEST && !manifest.children.is_empty() {
                return Err(self.too_much(format!("indexes are nested more than {DEEPEST} deep")));
            }
            for child in &manifest.children {
                self.add(child, depth + 1, statement).await?;
            }
            self.nodes.push(Node {
                manifest,
                companions: Vec::new(),
                statement,
            });
            Ok(())
        }
        .boxed()
    }

    fn digests(&self, from: usize) -> impl Iterator<Item = Digest> {
        self.nodes.iter().skip(from).map(|node| node.manifest.digest.clone())
    }

    fn too_much(&self, why: String) -> CopyError {
        CopyError::TooMuch {
            place: self.source.to_string(),
            digest: self.root.clone(),
            why,
        }
    }
}
