//! Why an object is as it is: the one list of reasons, with cause and cure. Conditions, Events, metrics and the
//! reference page are made from it.

use std::fmt;

/// The reason of a `Ready` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    Settled,
    Observed,
    Suspended,
    RegistryNotReady,
    DocumentsPending,
    AccountMismatch,
    ManagedElsewhere,
    NotAllowed,
    OwnedByAnother,
    Exists,
    NotEmpty,
    Protected,
    Immutable,
    Conflict,
    Denied,
    Quota,
    Invalid,
    Throttled,
    Unavailable,
    Protecting,
    Previewing,
    Guarded,
    RollingOut,
    NoCandidate,
    Gated,
    TargetMissing,
    TargetOwned,
    TargetTaken,
    Contested,
    Refused,
    Failed,
}

impl Reason {
    /// Every reason, in the order of the reference page.
    pub(crate) const ALL: [Self; 31] = [
        Self::Settled,
        Self::Observed,
        Self::Suspended,
        Self::RegistryNotReady,
        Self::DocumentsPending,
        Self::AccountMismatch,
        Self::ManagedElsewhere,
        Self::NotAllowed,
        Self::OwnedByAnother,
        Self::Exists,
        Self::NotEmpty,
        Self::Protected,
        Self::Immutable,
        Self::Conflict,
        Self::Denied,
        Self::Quota,
        Self::Invalid,
        Self::Throttled,
        Self::Unavailable,
        Self::Protecting,
        Self::Previewing,
        Self::Guarded,
        Self::RollingOut,
        Self::NoCandidate,
        Self::Gated,
        Self::TargetMissing,
        Self::TargetOwned,
        Self::TargetTaken,
        Self::Contested,
        Self::Refused,
        Self::Failed,
    ];

    /// As it stands in conditions, Events and metrics.
    pub(crate) const fn as_str(self) -> &'static str {
        self.describe().0
    }

    /// What brought it about.
    pub(crate) const fn cause(self) -> &'static str {
        self.describe().1
    }

    /// What the reader can do, a sentence that stands for itself at the end of a condition's message.
    pub(crate) const fn cure(self) -> &'static str {
        self.describe().2
    }

    #[expect(clippy::too_many_lines, reason = "one list, to be read as one")]
    const fn describe(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Settled => ("Settled", "AWS is as the object asks, seen after the last change.", ""),
            Self::Observed => (
                "Observed",
                "The Registry is in mode Observe: the object is compared with AWS and nothing is written.",
                "Set spec.mode of the Registry to Manage to have differences put right.",
            ),
            Self::Suspended => (
                "Suspended",
                "spec.suspend is true, on the object or on its Registry.",
                "Set spec.suspend to false to go on.",
            ),
            Self::RegistryNotReady => (
                "RegistryNotReady",
                "The Registry that the object names does not exist or cannot be reached.",
                "See the conditions of the Registry; the object goes on by itself once it is ready.",
            ),
            Self::DocumentsPending => (
                "DocumentsPending",
                "The registry's documents (scanning, policy, signing, settings, exclusions) are being compared with the spec, or brought to it.",
                "See status.documents if it lasts; Repositories do not wait for it.",
            ),
            Self::AccountMismatch => (
                "AccountMismatch",
                "The credentials belong to another AWS account than spec.registryId says.",
                "Give the operator credentials of that account, or set spec.assumeRole to a role in it.",
            ),
            Self::ManagedElsewhere => (
                "ManagedElsewhere",
                "Another installation or another cluster has claimed the registry.",
                "Set spec.mode to Observe here. To move a claim of the same ownerId to this cluster, stop the other one and set spec.takeover of the Registry to the UID in its status.claim.cluster.",
            ),
            Self::NotAllowed => (
                "NotAllowed",
                "The Registry does not allow it: its tenants do not hold this namespace, what it asks for, this repository name or a principal in the policy, it has no role to pull with, or its spec.replication.allowDelete is not true.",
                "Ask for what is missing in spec.tenants, spec.pull or spec.replication of the Registry, or ask for what it allows.",
            ),
            Self::OwnedByAnother => (
                "OwnedByAnother",
                "What the object means belongs to another object, here or in another installation, or was deleted and created again by somebody else.",
                "Delete one of the two objects, or give this one another name or prefix in its spec (a PullSecret, another spec.secretName).",
            ),
            Self::Exists => (
                "Exists",
                "A repository or a Secret of this name, or a rule or template of this prefix, exists and belongs to no object.",
                "Set spec.adoption to Adopt to manage it from here, or use another name or prefix. A Secret is never taken over.",
            ),
            Self::NotEmpty => (
                "NotEmpty",
                "The repository holds images, and the deletion policy does not cover them.",
                "Delete the images, set spec.deletionPolicy to Retain, or set it to DeleteWithImages and the annotation ecr-operator.dev/delete-images-of to the name of the repository.",
            ),
            Self::Protected => (
                "Protected",
                "An image in the repository is in use by a cluster, and would go; or statements of the registry's policy would come into force that nobody has confirmed.",
                "Remove the workloads that run the image, set spec.deletionPolicy to Retain, or change the rules of the lifecycle policy; for a policy's scope, do what the message says.",
            ),
            Self::Immutable => (
                "Immutable",
                "A setting that ECR fixes at creation differs from what the object asks for.",
                "Create a new object without the setting, move the images to a new repository, or have what is not a repository created anew.",
            ),
            Self::Conflict => (
                "Conflict",
                "Somebody else changes the same thing, or something unexpected is in its place.",
                "Find out who else writes it (AWS CloudTrail tells) and let one of the two have it.",
            ),
            Self::Denied => (
                "Denied",
                "AWS denied a call: the credentials lack the right, or are expired or unknown.",
                "Grant the operator's role the right, or renew its credentials; the call is tried again within minutes, and at once when the object changes.",
            ),
            Self::Quota => (
                "Quota",
                "A hard limit of the AWS account is reached.",
                "Raise the quota in the Service Quotas console, or remove what is not needed.",
            ),
            Self::Invalid => (
                "Invalid",
                "The object, or something it asks AWS for, is not valid.",
                "Correct the field that the message names.",
            ),
            Self::Throttled => (
                "Throttled",
                "AWS asks for fewer calls.",
                "The operator slows down and goes on by itself.",
            ),
            Self::Unavailable => (
                "Unavailable",
                "AWS or the Kubernetes API did not answer, or answered with an error of its own.",
                "The operator tries again by itself; check the network path and the endpoints if it lasts.",
            ),
            Self::Protecting => (
                "Protecting",
                "Images in use get the tags that keep them, before something is put that could delete them: a lifecycle policy, or the replication of deletions.",
                "See status.inUse of the Registry if it lasts; the operator goes on by itself.",
            ),
            Self::Previewing => (
                "Previewing",
                "ECR works out what a changed lifecycle policy would do, before it is put.",
                "Nothing: it takes seconds, and the operator goes on by itself.",
            ),
            Self::Guarded => (
                "Guarded",
                "A lifecycle policy would expire or archive more images than its guard lets go at once, so it was not put.",
                "See status.lifecyclePolicy of the Repository; raise spec.guard of the policy, correct its rules, or accept the preview.",
            ),
            Self::RollingOut => (
                "RollingOut",
                "A rollout or a rollback is under way.",
                "See status.rollout and status.targets; it ends by itself, within spec.rollout.timeout for each target.",
            ),
            Self::NoCandidate => (
                "NoCandidate",
                "The policy picks no image, and the targets run none of this repository yet.",
                "Push an image that spec.source asks for, or change spec.source.",
            ),
            Self::Gated => (
                "Gated",
                "The first image waits for a gate; the targets run none of this repository yet.",
                "See status.blockedBy; it goes on by itself once every gate lets it through.",
            ),
            Self::TargetMissing => (
                "TargetMissing",
                "A workload, a container or a ServiceAccount that the spec names does not exist.",
                "Create it, or correct the spec; the object goes on by itself.",
            ),
            Self::TargetOwned => (
                "TargetOwned",
                "A GitOps tool or Helm owns a target, and would write its own image back.",
                "Do what the message says, and set via of the target.",
            ),
            Self::TargetTaken => (
                "TargetTaken",
                "An older promotion of the namespace means a container that this one means too.",
                "Take the container out of spec.targets of one of the two; once the older one is gone or leaves it, this one goes on by itself.",
            ),
            Self::Contested => (
                "Contested",
                "Somebody else keeps writing another image to a target, so that nothing more is written to it.",
                "Do what the message says, then ask to go on with the request resume.",
            ),
            Self::Refused => (
                "Refused",
                "The Kubernetes API, or somebody who is asked on the way, refuses what is to be written, or the operator lacks the right.",
                "See the message: a quota, an admission policy, a missing right or a setting of the installation; it is tried again, in a rollout until its time is over.",
            ),
            Self::Failed => (
                "Failed",
                "A rollout has failed and there was nothing to go back to, or going back failed too.",
                "See status.history and status.targets; push a newer image, pin one, or use the requests rollback, promote or resume.",
            ),
        }
    }

    /// Whether only an edit or somebody else can help; otherwise the operator goes on by itself.
    pub(crate) const fn is_stall(self) -> bool {
        !matches!(
            self,
            Self::Settled
                | Self::Observed
                | Self::Suspended
                | Self::RegistryNotReady
                | Self::DocumentsPending
                | Self::Throttled
                | Self::Unavailable
                | Self::Protecting
                | Self::Previewing
                | Self::RollingOut
                | Self::NoCandidate
                | Self::Gated
                | Self::TargetMissing
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The reference page of all reasons, in Markdown.
pub(crate) fn reference() -> String {
    use fmt::Write as _;
    let mut page = String::from(
        "# Reasons\n\nThe reason of an object's `Ready` condition, what it means and what to do. Generated by `cargo xtask generate`.\n\n\
         | Reason | Cause | What to do |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let cure = if reason.cure().is_empty() {
            "Nothing."
        } else {
            reason.cure()
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{reason}` | {} | {cure} |", reason.cause());
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_name_a_cause_and_a_cure() {
        let names: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.cause().ends_with('.'), "{reason}");
            assert!(reason == Reason::Settled || reason.cure().ends_with('.'), "{reason}");
        }
    }
}
