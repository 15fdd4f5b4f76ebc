//! What can go wrong in a reconcile.

use super::reason::Reason;
use crate::aws::error::{AwsError, Fault};

/// A reconcile that did not come to a verdict.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// AWS refused or did not answer.
    #[error("{0}")]
    Aws(#[from] AwsError),

    /// The Kubernetes API refused or did not answer.
    #[error("the Kubernetes API did not {doing}: {source}")]
    Kube {
        /// What was asked, as "write the status".
        doing: &'static str,
        #[source]
        source: Box<kube::Error>,
    },

    /// Something in the cluster refuses what is to be done, and will until somebody acts.
    #[error("could not {what}: {why}")]
    Refused {
        /// What was to be done, as "write the image to Deployment web".
        what: String,
        /// Why not, with the apiserver's own words where they are its.
        why: String,
    },

    /// The Registry is there and cannot be read.
    #[error("Registry {name} cannot be read: {why}")]
    UnreadableRegistry { name: String, why: String },

    /// Steps were taken, seen to be taken, and are to be taken again.
    #[error("AWS does not keep what was written; still to do: {left}")]
    NotConverging { left: String },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn kube(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Kube {
            doing,
            source: Box::new(source),
        }
    }

    /// A write to an object of somebody else that did not succeed. What admission, quota or rights refuse is told with the
    /// words of the apiserver.
    pub(crate) fn write(what: &str, error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => Self::Refused {
                what: format!("write to {what}"),
                why: status.message.clone(),
            },
            _ => Self::Kube {
                doing: "write to a target of the promotion",
                source: Box::new(error),
            },
        }
    }

    /// Somebody changed the object since it was read.
    pub(crate) fn changed(doing: &'static str) -> Self {
        let status = kube::core::Status::failure("it was changed meanwhile", "Conflict").with_code(409);
        Self::Kube {
            doing,
            source: Box::new(kube::Error::Api(Box::new(status))),
        }
    }

    /// The reason it becomes in the `Ready` condition, and the label in metrics.
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Aws(error) => match error.fault {
                Fault::Throttled => Reason::Throttled,
                Fault::Unavailable | Fault::NotFound => Reason::Unavailable,
                Fault::Denied => Reason::Denied,
                Fault::Conflict => Reason::Conflict,
                Fault::Invalid => Reason::Invalid,
                Fault::Quota => Reason::Quota,
            },
            Self::Kube { .. } => Reason::Unavailable,
            Self::Refused { .. } => Reason::Refused,
            Self::UnreadableRegistry { .. } => Reason::RegistryNotReady,
            Self::NotConverging { .. } => Reason::Conflict,
        }
    }

    /// Whether the object was changed by somebody else since it was read, so that it is to be looked at afresh.
    pub(crate) fn is_stale_object(&self) -> bool {
        matches!(self, Self::Kube { source, .. } if is_status(source, 409))
    }

    /// Whether the object that was to be written is gone.
    pub(crate) fn is_gone_object(&self) -> bool {
        matches!(self, Self::Kube { source, .. } if is_status(source, 404))
    }
}

fn is_status(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}
