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
pub(super) struct Behaviours(Vec<(String, Behaviour)>);

impl Behaviours {
    pub(super) fn set(&mut self, image: &str, behaviour: Behaviour) {
        self.0.retain(|(text, _)| text != image);
        self.0.push((image.to_owned(), behaviour));
    }

    pub(super) fn of(&self, image: &str) -> Behaviour {
        let rule = self.0.iter().rev().find(|(text, _)| image.contains(text));
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
