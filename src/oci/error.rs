//! Why an image was not copied.

use super::manifest::ManifestError;
use crate::api::names::{Digest, Tag};
use crate::{
    aws::error::{AwsError, Fault},
    control::{error::Error, reason::Reason},
};

/// A copy that did not come to its end. What had been copied stays and is not sent again by the next attempt. `place` is
/// always the repository with its host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CopyError {
    /// A registry refused or did not answer.
    #[error("{error} ({place})")]
    Registry { place: String, error: AwsError },

    /// The image, or a part of it, is not at the source.
    #[error("{place} has no {what}; push it again, or copy another image")]
    NotThere { place: String, what: String },

    /// There is no such repository.
    #[error("{place} does not exist; create the repository first")]
    NoRepository { place: String },

    /// The tag is somebody's choice, and was not to be moved.
    #[error(
        "the tag {tag} in {place} is on {holder}, not on {wanted}; it is not moved: choose another tag, or take it off"
    )]
    TagTaken {
        place: String,
        tag: Tag,
        /// What has the tag.
        holder: Digest,
        /// What was to get it.
        wanted: Digest,
    },

    /// What came is not what its digest says. Nothing of it was stored.
    #[error("{what} in {place} is damaged: {why}; push it again at the source")]
    Damaged { place: String, what: String, why: String },

    /// A manifest that is not copied.
    #[error("the manifest {digest} in {place} cannot be copied: {error}")]
    Manifest {
        place: String,
        digest: Digest,
        error: ManifestError,
    },

    /// More than anything that is an image.
    #[error("{place}@{digest} is too much to copy: {why}")]
    TooMuch { place: String, digest: Digest, why: String },

    /// The credentials lead to another registry.
    #[error("{0}")]
    WrongRegistry(String),
}

impl CopyError {
    /// The reason it becomes in a condition.
    #[allow(dead_code, reason = "for controllers; the command prints the message")]
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Registry { error, .. } => Error::Aws(error.clone()).reason(),
            Self::NotThere { .. } | Self::NoRepository { .. } | Self::Manifest { .. } | Self::TooMuch { .. } => {
                Reason::Invalid
            }
            Self::TagTaken { .. } | Self::Damaged { .. } => Reason::Conflict,
            Self::WrongRegistry(_) => Reason::AccountMismatch,
        }
    }

    /// Whether the same attempt may succeed a moment later.
    pub(crate) fn can_heal(&self) -> bool {
        matches!(self, Self::Registry { error, .. } if matches!(error.fault, Fault::Throttled | Fault::Unavailable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(fault: Fault) -> CopyError {
        let error = AwsError {
            operation: "GET blob",
            fault,
            code: "CODE".into(),
            message: "why".into(),
        };
        CopyError::Registry {
            place: "host/web".into(),
            error,
        }
    }

    #[test]
    fn only_what_the_registry_may_mend_by_itself_is_tried_again() {
        for fault in [Fault::Throttled, Fault::Unavailable] {
            assert!(refused(fault).can_heal());
            assert!(!refused(fault).reason().is_stall());
        }
        for fault in [Fault::Denied, Fault::Invalid, Fault::Quota, Fault::Conflict] {
            assert!(!refused(fault).can_heal());
            assert!(refused(fault).reason().is_stall());
        }
        let taken = CopyError::TagTaken {
            place: "host/web".into(),
            tag: "v1".parse().unwrap(),
            holder: Digest::of(b"theirs"),
            wanted: Digest::of(b"ours"),
        };
        assert!(!taken.can_heal() && taken.reason() == Reason::Conflict);
    }

    #[test]
    fn the_message_names_the_place_and_what_was_refused() {
        assert_eq!(
            refused(Fault::Denied).to_string(),
            "GET blob was refused with CODE: why (host/web)"
        );
    }
}
