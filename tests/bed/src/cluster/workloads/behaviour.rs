//! What the containers of an image do.

use std::time::Duration;

/// What the containers of an image do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// It starts and is ready. In a pod that is not restarted for ever, as Jobs have them, and as an init container, it
    /// ends well after a second.
    #[default]
    Healthy,
    /// It starts and ends at once with exit code 1: `CrashLoopBackOff` with a rising restart count, or a failed pod where
    /// the pod's restart policy is `Never`, as Jobs may have it.
    Crash,
    /// It starts, is ready for this long, and ends with exit code 1; again after each restart.
    CrashAfterReady(Duration),
    /// Its image cannot be pulled: `ErrImagePull`, then `ImagePullBackOff`.
    PullError,
    /// It runs and never becomes ready. In a Job's pod it never ends.
    NeverReady,
}

/// The rules, in the order in which they were set.
#[derive(Debug, Default)]
pub(super) struct Behaviours {
    rules: Vec<(String, Behaviour)>,
    /// What a registry would say that a tag is on.
    digests: Vec<(String, String)>,
}

impl Behaviours {
    pub(super) fn set(&mut self, image: &str, behaviour: Behaviour) {
        self.rules.retain(|(text, _)| text != image);
        self.rules.push((image.to_owned(), behaviour));
    }

    pub(super) fn tag(&mut self, image: &str, digest: &str) {
        self.digests.retain(|(text, _)| text != image);
        self.digests.push((image.to_owned(), digest.to_owned()));
    }

    /// The digest of an image that is named by a tag, where it was told.
    pub(super) fn digest(&self, image: &str) -> Option<&str> {
        let found = self.digests.iter().find(|(text, _)| text == image)?;
        Some(&found.1)
    }

    pub(super) fn of(&self, image: &str) -> Behaviour {
        let rule = self.rules.iter().rev().find(|(text, _)| image.contains(text));
        rule.map(|(_, behaviour)| *behaviour).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_that_was_set_counts() {
        let mut behaviours = Behaviours::default();
        assert_eq!(behaviours.of("registry/app:1"), Behaviour::Healthy);
        behaviours.set("app:1", Behaviour::Crash);
        behaviours.set("registry/", Behaviour::NeverReady);
        assert_eq!(behaviours.of("registry/app:1"), Behaviour::NeverReady);
        behaviours.set("app:1", Behaviour::PullError);
        assert_eq!(behaviours.of("registry/app:1"), Behaviour::PullError);
        assert_eq!(behaviours.of("elsewhere/app:2"), Behaviour::Healthy);
    }
}
