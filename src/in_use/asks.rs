//! Which repositories ask for their images in use to be kept. Pure.
//!
//! It is derived from the objects each time. Rejected: to be told by the Repositories, for who stops telling, such as one that
//! is suspended, would have taken the protection off a policy that is still in force.

use crate::api::{Repository, repository::DeletionPolicy};

/// Whether images in use of the repository are to keep a tag.
pub(crate) fn asks(repository: &Repository) -> bool {
    let status = repository.status.as_ref();
    let in_force = status
        .and_then(|status| status.lifecycle_policy.as_ref())
        .is_some_and(|lifecycle| lifecycle.protects);
    let spec = &repository.spec;
    // A suspended object is not deleted; its policy, though, goes on.
    in_force || (spec.deletion_policy == DeletionPolicy::DeleteWithImages && !spec.suspend)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn repository(spec: &Value, lifecycle: &Value) -> Repository {
        let mut whole = json!({ "registryRef": { "name": "main" } });
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "ecr-operator.dev/v1alpha1", "kind": "Repository", "metadata": { "name": "web" },
            "spec": whole, "status": { "lifecyclePolicy": lifecycle },
        }))
        .unwrap()
    }

    #[test]
    fn a_policy_in_force_asks_whatever_became_of_its_object() {
        let protected = json!({ "put": "x", "protects": true });
        for (reason, suspend) in [
            ("Settled", false),
            ("Conflict", false),
            ("Guarded", false),
            ("Settled", true),
        ] {
            let mut lifecycle = protected.clone();
            lifecycle["reason"] = json!(reason);
            assert!(
                asks(&repository(&json!({ "suspend": suspend }), &lifecycle)),
                "{reason}"
            );
        }
        assert!(
            !asks(&repository(&json!({}), &json!({ "put": "x" }))),
            "put without protectInUse"
        );
    }

    #[test]
    fn so_does_a_deletion_that_would_take_the_images() {
        let with_images = json!({ "deletionPolicy": "DeleteWithImages" });
        assert!(asks(&repository(&with_images, &json!({}))));
        let suspended = json!({ "deletionPolicy": "DeleteWithImages", "suspend": true });
        assert!(!asks(&repository(&suspended, &json!({}))));
        assert!(!asks(&repository(&json!({}), &json!({}))));
    }
}
