//! The words in which the engine answers.

use std::fmt;

use jiff::Timestamp;

use crate::{
    api::{
        names::{Digest, Tag},
        promotion::{ImagePromotionStatus, ImageStatus, TargetKind},
    },
    control::plan::Verdict,
    promotion::facts::StuckPod,
};

/// What comes next. Exactly one of these is done; then the engine is asked again.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Move {
    /// Something has to be read before anything can be said.
    Look(Look),
    /// Something is done outside; it may be done twice.
    Do(Action),
    /// The status says it first, so that a restart goes on from there; nothing is done before it is written.
    Record(Box<Record>),
    /// Nothing more to do for now.
    Rest(Box<Rest>),
}

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// The targets and their pods.
    Targets,
    /// Which image the targets run that no promotion has brought there.
    Baseline,
    /// What the policy picks.
    Selection,
    /// What the gates say to this image.
    Gates(ImageStatus),
    /// What the scan gate says to the image that runs.
    Regression(ImageStatus),
    /// Whether an earlier image is still there.
    Presence(Digest),
    /// An image that a request names by digest or tag.
    Named(String),
    /// How far the copy of this image is.
    Copy(ImageStatus),
    /// How far a verification is.
    Check { index: u8, rollout: u64 },
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The image is written to a target.
    Write { target: TargetName, image: ImageStatus },
    /// The digests that were taken back are noted on a target.
    MarkRejected { target: TargetName, digests: Vec<Digest> },
    /// Our entry is taken off containers that their owner has removed.
    Withdraw(TargetName),
    /// The copy of an image begins.
    StartCopy(ImageStatus),
    /// A verification begins.
    StartCheck {
        index: u8,
        rollout: u64,
        image: ImageStatus,
    },
    /// The tag of `onVerified` is put on an image.
    Retag { tag: Tag, image: ImageStatus },
    /// The hook is told of an image.
    Publish(ImageStatus),
    /// Pods that keep a workload from going back are deleted, each only as it was seen.
    ReplaceStuck { target: TargetName, pods: Vec<StuckPod> },
}

/// A workload by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TargetName {
    pub kind: TargetKind,
    pub name: String,
}

/// A status to write before anything else is done, and what is told with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Record {
    pub status: ImagePromotionStatus,
    pub told: Vec<Told>,
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub is_warning: bool,
    pub reason: &'static str,
    pub note: String,
}

/// How things stand while there is nothing to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rest {
    pub status: ImagePromotionStatus,
    pub verdict: Verdict,
    /// When to look again at the latest; `None` leaves it to the object's interval.
    pub wake: Option<Timestamp>,
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { target, image } => write!(f, "write {} ({}) to {target}", image.name, image.digest.short()),
            Self::MarkRejected { target, digests } => {
                write!(f, "note on {target} the {} images that were taken back", digests.len())
            }
            Self::Withdraw(target) => write!(f, "give up the containers of {target} that their owner has removed"),
            Self::StartCopy(image) => write!(f, "copy {} ({})", image.name, image.digest.short()),
            Self::StartCheck { index, image, .. } => write!(f, "start verification {index} of {}", image.name),
            Self::Retag { tag, image } => write!(f, "put the tag {tag} on {} ({})", image.name, image.digest.short()),
            Self::ReplaceStuck { target, pods } => {
                let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
                write!(
                    f,
                    "delete pods {} of {target}, which keep it from going back",
                    names.join(", ")
                )
            }
            Self::Publish(image) => write!(f, "publish {} ({})", image.name, image.digest.short()),
        }
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Look(look) => write!(f, "look at {look:?}"),
            Self::Do(action) => action.fmt(f),
            Self::Record(record) => {
                let notes: Vec<&str> = record.told.iter().map(|told| told.note.as_str()).collect();
                write!(f, "record: {}", notes.join("; "))
            }
            Self::Rest(rest) => write!(f, "rest: {}", rest.verdict),
        }
    }
}
