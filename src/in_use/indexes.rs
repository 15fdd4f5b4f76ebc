//! To which index an image belongs. Asked only of images without a name, since reading a manifest counts as a pull.

use std::collections::{BTreeSet, HashMap};

use serde::Deserialize;

use crate::{
    api::names::{Digest, RepositoryName},
    aws::{client::Ecr, error::AwsError, images::Described},
};

/// How many manifests are read at once; the search goes on with the next look.
const READS: usize = 50;

/// What is known of the indexes of a repository.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    /// The index of an image; `None` in it where all were searched.
    pub found: HashMap<Digest, Option<Digest>>,
    /// The images of an index: they never change.
    children: HashMap<Digest, BTreeSet<Digest>>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Child>,
}

#[derive(Deserialize)]
struct Child {
    digest: String,
}

impl Indexes {
    /// Looks for the indexes of these images. Where there is more to be read, some are left open.
    pub(super) async fn search(
        &mut self,
        ecr: &Ecr,
        repository: &RepositoryName,
        lone: &[Digest],
    ) -> Result<(), AwsError> {
        let mut open: Vec<&Digest> = Vec::new();
        for digest in lone {
            let known = self.children.iter().find(|(_, children)| children.contains(digest));
            match known.map(|(index, _)| index.clone()) {
                Some(index) => drop(self.found.insert(digest.clone(), Some(index))),
                None => open.push(digest),
            }
        }
        if open.is_empty() {
            return Ok(());
        }
        let mut images = Vec::new();
        let mut token = None;
        loop {
            let page = ecr.describe_images_page(repository, token).await?;
            images.extend(page.items.into_iter().map(short));
            token = page.next;
            if token.is_none() {
                break;
            }
        }
        let mut reads = 0;
        for digest in open {
            let order = nearest(&images, digest);
            let mut index = None;
            for candidate in order {
                if !self.children.contains_key(candidate) {
                    if reads == READS {
                        return Ok(());
                    }
                    reads += 1;
                    let manifest = ecr.manifest(repository, candidate).await?;
                    let children = manifest.map(|(_, bytes)| children(&bytes)).unwrap_or_default();
                    self.children.insert(candidate.clone(), children);
                }
                if self
                    .children
                    .get(candidate)
                    .is_some_and(|children| children.contains(digest))
                {
                    index = Some(candidate.clone());
                    break;
                }
            }
            self.found.insert(digest.clone(), index);
        }
        Ok(())
    }
}

/// Of an image: its digest, when it was pushed, whether it is an index.
type Short = (Digest, i64, bool);

fn short(image: Described) -> Short {
    let is_index = image.is_index();
    (image.digest, image.pushed_at.as_second(), is_index)
}

/// All indexes, those first that were pushed at about the time of the image.
fn nearest<'a>(images: &'a [Short], digest: &Digest) -> Vec<&'a Digest> {
    let pushed = images
        .iter()
        .find(|(image, ..)| image == digest)
        .map_or(0, |(_, pushed, _)| *pushed);
    let mut indexes: Vec<&Short> = images.iter().filter(|(.., is_index)| *is_index).collect();
    indexes.sort_by_key(|(digest, at, _)| (at.abs_diff(pushed), digest.clone()));
    indexes.into_iter().map(|(digest, ..)| digest).collect()
}

fn children(manifest: &[u8]) -> BTreeSet<Digest> {
    // What ECR took as an index and is none has no images.
    let index = serde_json::from_slice::<Index>(manifest).unwrap_or(Index { manifests: Vec::new() });
    index
        .manifests
        .iter()
        .filter_map(|child| child.digest.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_read_in_the_order_of_their_distance_in_time() {
        let digest = |n| Digest::from_bytes(&[n; 32]);
        let images = [
            (digest(1), 100, false),
            (digest(2), 500, true),
            (digest(3), 101, true),
            (digest(4), 90, true),
        ];
        assert_eq!(nearest(&images, &digest(1)), [&digest(3), &digest(4), &digest(2)]);
    }

    #[test]
    fn the_images_of_an_index_are_read_and_nonsense_has_none() {
        let digest = Digest::from_bytes(&[1; 32]);
        let index = format!(r#"{{"manifests":[{{"digest":"{digest}"}},{{"digest":"x"}}]}}"#);
        assert_eq!(children(index.as_bytes()), [digest].into());
        assert!(children(b"no").is_empty());
    }
}
