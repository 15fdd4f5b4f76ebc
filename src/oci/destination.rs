//! Where an image goes: manifests are put within a budget, and tags are taken from nobody.

use crate::api::names::{Digest, Tag};
use std::sync::Arc;

use backon::BackoffBuilder as _;

use super::{
    error::CopyError,
    manifest::Manifest,
    plane::{Place, pauses},
};
use crate::aws::{
    error::{AwsError, Fault},
    pace::Pace,
};

/// The operation whose budget manifests are put on.
pub(crate) const PUT_IMAGE: &str = "PutImage";

/// Where an image goes.
#[derive(Clone)]
pub(crate) struct Destination {
    pub place: Place,
    /// Paces [`PUT_IMAGE`]: ECR takes ten a second of an account, and CI needs them too.
    pub pace: Arc<Pace>,
}

/// A tag that the image shall have at the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TagWish {
    pub tag: Tag,
    pub moving: MoveTag,
}

/// Whether a tag may be taken from another image. One that no image has is set in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MoveTag {
    Never,
    /// From this one alone.
    IfCurrently(Digest),
}

impl TagWish {
    /// A tag that is moved from no other image.
    pub(crate) fn new(tag: Tag) -> Self {
        let moving = MoveTag::Never;
        Self { tag, moving }
    }
}

impl Destination {
    /// What has the tag, archived images included.
    pub(super) async fn holder(&self, tag: &Tag) -> Result<Option<Digest>, CopyError> {
        let place = &self.place;
        let holder = place
            .plane
            .ecr()
            .tag_holder(&place.repository, tag.as_str())
            .await
            .map_err(|error| place.failed(error))?;
        let unreadable = |_| place.failed(AwsError::incomplete("DescribeImages", "a digest of SHA-256"));
        holder.map(|digest| digest.parse()).transpose().map_err(unreadable)
    }

    /// Whether the tag is on the image already; an error if it is on another from which it may not be taken.
    pub(super) async fn is_set(&self, wish: &TagWish, digest: &Digest) -> Result<bool, CopyError> {
        let holder = self.holder(&wish.tag).await?;
        may_set(wish, holder.as_ref(), digest).map_err(|holder| self.taken(wish, holder, digest))
    }

    fn taken(&self, wish: &TagWish, holder: Digest, wanted: &Digest) -> CopyError {
        CopyError::TagTaken {
            place: self.place.to_string(),
            tag: wish.tag.clone(),
            holder,
            wanted: wanted.clone(),
        }
    }

    /// Sets the tag, unless it is set. Looks where it is right before each attempt, after every wait: nothing but that one
    /// call is between the look and the put.
    pub(super) async fn set_tag(&self, wish: &TagWish, manifest: &Manifest) -> Result<(), CopyError> {
        let mut pauses = pauses().build();
        loop {
            self.pace.turn(PUT_IMAGE).await;
            if self.is_set(wish, &manifest.digest).await? {
                return Ok(());
            }
            let outcome = self.place.put_tag(manifest, &wish.tag).await;
            let Err(error) = self.paced(outcome) else {
                return Ok(());
            };
            if error.can_heal()
                && let Some(pause) = pauses.next()
            {
                tracing::debug!(?pause, "the tag {} is set again: {error}", wish.tag);
                tokio::time::sleep(pause).await;
                continue;
            }
            // Immutable tags: somebody was faster, or the tag may not be moved even by those who know where it is.
            if matches!(&error, CopyError::Registry { error, .. } if error.fault == Fault::Invalid)
                && let Some(holder) = self.holder(&wish.tag).await?
                && holder != manifest.digest
            {
                return Err(self.taken(wish, holder, &manifest.digest));
            }
            return Err(error);
        }
    }

    /// Puts a manifest by its digest.
    pub(super) async fn put(&self, manifest: &Manifest) -> Result<(), CopyError> {
        self.pace.turn(PUT_IMAGE).await;
        self.paced(self.place.put_manifest(manifest).await)
    }

    /// Lets the pace take note of how a put went.
    fn paced(&self, outcome: Result<(), CopyError>) -> Result<(), CopyError> {
        let told = match &outcome {
            Err(CopyError::Registry { error, .. }) => Err(error.clone()),
            _ => Ok(()),
        };
        let _ = self.pace.answered(PUT_IMAGE, told);
        outcome
    }
}

/// Whether the tag is on the image already; the holder it may not be taken from otherwise.
fn may_set(wish: &TagWish, holder: Option<&Digest>, digest: &Digest) -> Result<bool, Digest> {
    match (holder, &wish.moving) {
        (Some(holder), _) if holder == digest => Ok(true),
        (Some(holder), MoveTag::IfCurrently(from)) if holder == from => Ok(false),
        (Some(holder), _) => Err(holder.clone()),
        (None, _) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    #[test]
    fn a_tag_is_moved_from_nowhere_but_where_the_caller_says() {
        let tag: Tag = "v1".parse().unwrap();
        let never = TagWish::new(tag.clone());
        let from = TagWish {
            tag,
            moving: MoveTag::IfCurrently(digest("old")),
        };
        for wish in [&never, &from] {
            assert_eq!(may_set(wish, None, &digest("new")), Ok(false));
            assert_eq!(may_set(wish, Some(&digest("new")), &digest("new")), Ok(true));
            assert_eq!(
                may_set(wish, Some(&digest("other")), &digest("new")),
                Err(digest("other"))
            );
        }
        assert_eq!(
            may_set(&never, Some(&digest("old")), &digest("new")),
            Err(digest("old"))
        );
        assert_eq!(may_set(&from, Some(&digest("old")), &digest("new")), Ok(false));
    }
}
