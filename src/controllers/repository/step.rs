//! The changes that can be made to a repository, and the lines that plans and Events tell of them.

use std::{collections::BTreeMap, fmt};

use super::cleanup;
use crate::{
    api::{OWNER_TAG, names::RepositoryName},
    aws::{client::Creation, record::Mutability},
    control::events::cut,
    document::{lifecycle, policy::Policy},
};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create {
        name: RepositoryName,
        creation: Creation,
    },
    /// Sets tags, the mark of ownership among them where it is missing.
    Tag {
        set: BTreeMap<String, String>,
        was: BTreeMap<String, Option<String>>,
        adopts: bool,
    },
    SetMutability {
        from: Mutability,
        to: Mutability,
    },
    SetScanOnPush {
        to: bool,
    },
    SetPolicy {
        from: Option<Policy>,
        to: Policy,
    },
    RemovePolicy {
        from: Policy,
    },
    /// Has ECR work out what a lifecycle policy would do.
    PreviewLifecycle {
        by: String,
        document: lifecycle::Policy,
    },
    PutLifecycle {
        by: String,
        from: cleanup::Live,
        to: lifecycle::Policy,
    },
    RemoveLifecycle {
        from: lifecycle::Policy,
    },
    Untag {
        keys: Vec<String>,
    },
    /// Takes the mark of ownership off and leaves everything else.
    Release {
        name: RepositoryName,
    },
    Delete {
        name: RepositoryName,
        images: bool,
    },
    /// A change of the replica in another Registry.
    In {
        registry: String,
        step: Box<Step>,
    },
}

impl Step {
    /// The change, wherever it is made.
    pub(crate) fn itself(&self) -> &Self {
        match self {
            Self::In { step, .. } => step,
            step => step,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name, creation } => {
                write!(f, "create repository {name}")?;
                if let Some(mutability) = &creation.mutability {
                    write!(f, ", imageTagMutability {mutability}")?;
                }
                if let Some(encryption) = &creation.encryption {
                    write!(f, ", encryption {}", encryption.encryption_type)?;
                }
                if let Some(scan) = creation.scan_on_push {
                    write!(f, ", scanOnPush {scan}")?;
                }
                Ok(())
            }
            Self::Tag { set, was, adopts } => {
                let change = |(key, value): (&String, &String)| match was.get(key).and_then(Option::as_ref) {
                    Some(was) => format!("{key}: {was:?} -> {value:?}"),
                    None => format!("{key}: absent -> {value:?}"),
                };
                let changes: Vec<String> = set.iter().map(change).collect();
                let what = if *adopts { "adopt: set tags" } else { "tags" };
                write!(f, "{what} {}", changes.join(", "))
            }
            Self::SetMutability { from, to } => write!(f, "imageTagMutability: {from} -> {to}"),
            Self::SetScanOnPush { to } => write!(f, "scanOnPush: {} -> {to}", !to),
            Self::SetPolicy { from, to } => {
                write!(
                    f,
                    "policy: {} -> {}",
                    from.as_ref().map_or_else(|| "absent".into(), brief),
                    brief(to)
                )
            }
            Self::RemovePolicy { from } => write!(f, "policy: {} -> absent", brief(from)),
            Self::PreviewLifecycle { by, document } => write!(
                f,
                "preview of {by}, to be put if its guard lets it: {}",
                brief_rules(document)
            ),
            Self::PutLifecycle { by, from, to } => write!(
                f,
                "lifecycle policy: {} -> {} ({by})",
                match from {
                    cleanup::Live::Known(from) => brief_rules(from),
                    cleanup::Live::Absent => "absent".into(),
                    cleanup::Live::Unread | cleanup::Live::Unknown(_) => "as it was".into(),
                },
                brief_rules(to)
            ),
            Self::RemoveLifecycle { from } => write!(f, "lifecycle policy: {} -> absent", brief_rules(from)),
            Self::Untag { keys } => write!(f, "tags: remove {}", keys.join(", ")),
            Self::Release { name } => write!(
                f,
                "release repository {name}: take the tag {OWNER_TAG} off, leave everything else"
            ),
            Self::Delete { name, images: false } => write!(f, "delete repository {name}, which is empty"),
            Self::In { registry, step } => write!(f, "in Registry {registry}: {step}"),
            Self::Delete { name, images: true } => write!(f, "delete repository {name} with all its images"),
        }
    }
}

/// A policy short enough for an Event.
fn brief(policy: &Policy) -> String {
    let mut text = policy.to_text();
    cut(&mut text, 400);
    text
}

/// A lifecycle policy short enough for an Event.
fn brief_rules(policy: &lifecycle::Policy) -> String {
    let mut text = policy.to_text();
    cut(&mut text, 400);
    text
}
