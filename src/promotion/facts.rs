//! What the engine is told of the world. Every part may be missing: the engine then asks for it.

use jiff::Timestamp;

use super::moves::{Action, Move, TargetName};
use crate::api::{
    names::{Digest, Tag},
    promotion::{ImageStatus, TargetKind, TargetStatus, Via},
};

/// What was seen since the engine was asked first. What is `None` was not looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// In the order of `spec.targets`; those of one selector by name.
    pub targets: Option<Vec<TargetFacts>>,
    pub baseline: Option<Origin>,
    pub selection: Option<Selection>,
    /// Whether `status.current` is still in the repository; told together with `selection`, where it is known.
    pub running: Option<(Digest, Presence)>,
    pub gates: Option<(Digest, Vec<Closed>)>,
    /// What the scan gate has against images that run, or that ran.
    pub findings: Vec<(Digest, Option<String>)>,
    pub presence: Option<(Digest, Presence)>,
    /// The image that a request named, or why there is none of that name that could run.
    pub named: Option<(String, Result<ImageStatus, String>)>,
    pub copy: Option<(Digest, Progress)>,
    pub check: Option<(u8, Progress)>,
    /// Targets that the apiserver refused to write in this look, with its message; they are not written again in it.
    pub refused_writes: Vec<(TargetName, String)>,
    /// What could not be done in this look, and why; it is not tried again in it. None of it may keep a rollout from its
    /// end.
    pub failed: Vec<(Action, String)>,
}

impl Facts {
    /// A target as it was read or written last; `None` where the targets were not looked at or do not have it.
    pub(crate) fn target(&self, name: &TargetName) -> Option<&TargetFacts> {
        self.targets.iter().flatten().find(|target| target.is(name))
    }

    pub(crate) fn target_mut(&mut self, name: &TargetName) -> Option<&mut TargetFacts> {
        self.targets.iter_mut().flatten().find(|target| target.is(name))
    }

    /// What the scan gate has against an image; `None` where it was not asked.
    pub(crate) fn findings_of(&self, digest: &Digest) -> Option<&Option<String>> {
        self.findings
            .iter()
            .find(|(of, _)| of == digest)
            .map(|(_, found)| found)
    }

    /// The move that does this, unless it failed already in this look.
    pub(crate) fn try_once(&self, action: Action) -> Option<Move> {
        let failed = self.failed.iter().any(|(tried, _)| *tried == action);
        (!failed).then_some(Move::Do(action))
    }
}

/// What the targets ran before the promotion did anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// All of them the same image of the repository.
    Image(ImageStatus),
    /// Different ones, or none of the repository.
    None,
}

/// How far something is that takes its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    NotStarted,
    Running(String),
    Done,
    Failed(String),
}

/// An image of the repository, as ECR describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub digest: Digest,
    /// In alphabetical order.
    pub tags: Vec<Tag>,
    pub pushed_at: Timestamp,
    /// Whether it is an index, by its media type.
    pub is_index: bool,
    pub storage: Storage,
}

/// Whether an image can be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Storage {
    Active,
    Archived,
    Activating,
}

/// What the policy picks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    Picked(ImageStatus),
    /// Nothing: why, and why the nearest ones were not it.
    Nothing(String),
    /// The repository cannot be looked at now; the running image is none the worse for it.
    Unknown(String),
}

/// Whether an image that runs, or is to run again, is still there. Not being able to ask is no reason not to go back to
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    There,
    Archived,
    Gone,
    Unknown,
}

/// A gate that does not let the candidate through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub gate: crate::api::promotion::Gate,
    /// What it waits for; depends on the cause alone.
    pub message: String,
    /// When time alone may open it.
    pub opens: Option<Timestamp>,
}

/// One workload that a target means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetFacts {
    pub kind: TargetKind,
    pub name: String,
    pub via: Via,
    /// The digest in the place that we write: the workload itself, the object of `viaRef`, or what was published last.
    pub written: Option<Digest>,
    /// `None` where it does not exist.
    pub found: Option<Found>,
}

impl TargetFacts {
    pub(crate) fn is(&self, name: &TargetName) -> bool {
        (self.kind, &self.name) == (name.kind, &name.name)
    }

    /// Whether the status has it here.
    pub(crate) fn is_of(&self, status: &TargetStatus) -> bool {
        (self.kind, &self.name) == (status.kind, &status.name)
    }
}

/// A workload as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub uid: String,
    pub resource_version: String,
    /// The digest that all of its selected containers have; `None` where one has none, or they differ.
    pub digest: Option<Digest>,
    /// The images of the selected containers as they are written, for messages.
    pub images: Vec<String>,
    /// Containers that the target names and the workload does not have.
    pub missing: Vec<String>,
    /// Who wrote the images last, where that was not us.
    pub writer: Option<Writer>,
    pub health: Health,
    /// Restarts of the containers of its newest pods, together.
    pub restarts: u32,
    /// Why it is not written to: `via` is `Auto` and a tool owns it. With what that tool needs.
    pub refused: Option<String>,
    /// What the tool that fights needs, for the message of a contested target.
    pub remedy: String,
    /// The digests that were taken back from it, by its annotation.
    pub rejected: Vec<Digest>,
    /// Containers whose entry only our field manager owns any more: their owner has removed them.
    pub abandoned: Vec<String>,
    /// Pods of an earlier template that never go by themselves, and that keep the workload from its image.
    pub stuck: Vec<StuckPod>,
}

/// A pod as it was seen: it is deleted as that and as nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StuckPod {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
}

/// A field manager that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    pub manager: String,
    /// Whether it is a person with kubectl, other than by `kubectl apply`.
    pub is_person: bool,
}

/// How far a workload is with its newest template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Every pod is of the newest template and available.
    Healthy,
    Progressing(String),
    /// It will not become healthy by waiting.
    Failed(String),
}
