//! The words a plan is made of.

use std::{fmt, time::Duration};

use super::reason::Reason;

/// What is wanted of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// As the object asks.
    Present,
    /// Whatever the object's deletion asks for.
    Absent,
}

/// The steps still to take and, once there are none, what to say about the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan<S> {
    /// In the order in which they are to be taken; what deletes comes last.
    pub steps: Vec<S>,
    pub verdict: Verdict,
    /// Whether the object has something in AWS, or will after the steps; it needs a finalizer then.
    pub holds: bool,
    /// What the reader of the object's Events must know besides, such as what a deletion leaves behind.
    pub warnings: Vec<Warning>,
}

/// Something that an Event of type `Warning` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    pub reason: &'static str,
    pub message: String,
}

/// How things stand when there is no step to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The world is as the object asks. The message may be empty.
    Settled { message: String },
    /// Looked at and compared; nothing may be written here.
    Observed { differences: Vec<String> },
    /// `spec.suspend` is set, here or on the Registry.
    Suspended { message: String },
    /// Something else has to happen first; look again after this time.
    Waiting {
        reason: Reason,
        message: String,
        after: Duration,
    },
    /// Only an edit or somebody else can help.
    Blocked { reason: Reason, message: String },
    /// Too early to say anything: the operator has just started. Nothing is told.
    NotYet { after: Duration },
}

impl<S> Plan<S> {
    /// A plan without steps.
    pub(crate) fn verdict(verdict: Verdict) -> Self {
        Self {
            steps: Vec::new(),
            verdict,
            holds: false,
            warnings: Vec::new(),
        }
    }
}

impl Verdict {
    pub(crate) fn settled() -> Self {
        Self::Settled { message: String::new() }
    }

    pub(crate) fn blocked(reason: Reason, message: impl Into<String>) -> Self {
        Self::Blocked {
            reason,
            message: message.into(),
        }
    }

    /// What keeps the object from being as it asks, without the reason; `None` where nothing is known to.
    pub(crate) fn trouble(&self) -> Option<&str> {
        match self {
            Self::Suspended { message } | Self::Waiting { message, .. } | Self::Blocked { message, .. } => {
                Some(message)
            }
            Self::Settled { .. } | Self::Observed { .. } | Self::NotYet { .. } => None,
        }
    }

    /// The reason it becomes in the `Ready` condition.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Settled { .. } => Reason::Settled,
            Self::Observed { .. } => Reason::Observed,
            Self::Suspended { .. } => Reason::Suspended,
            Self::Waiting { reason, .. } | Self::Blocked { reason, .. } => *reason,
            Self::NotYet { .. } => Reason::RegistryNotReady,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settled { message } if message.is_empty() => f.write_str("nothing to do"),
            Self::Settled { message } => write!(f, "nothing to do; {message}"),
            Self::Observed { differences } if differences.is_empty() => f.write_str("nothing differs"),
            Self::Observed { differences } => write!(f, "differs: {}", differences.join("; ")),
            Self::Suspended { message } => f.write_str(message),
            Self::Waiting { reason, message, .. } | Self::Blocked { reason, message } => {
                write!(f, "{reason}: {message}")
            }
            Self::NotYet { .. } => f.write_str("not looked at yet"),
        }
    }
}
