//! Pods that keep a `StatefulSet` from going back, deleted.

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};

use super::Run;
use crate::{
    control::{
        error::{Error, Result},
        events::News,
    },
    promotion::{facts::StuckPod, moves::TargetName},
};

impl Run<'_> {
    /// Deletes each pod as it was seen: the apiserver refuses (409) where another has its name by now, and where it has
    /// changed, as one that became ready has. What is left is seen at the next look.
    pub(super) async fn replace_stuck(&mut self, target: &TargetName, pods: &[StuckPod]) -> Result<()> {
        let api = Api::<Pod>::namespaced(self.ctx.client.clone(), &self.place()?.namespace);
        for pod in pods {
            let params = DeleteParams {
                preconditions: Some(Preconditions {
                    uid: Some(pod.uid.clone()),
                    resource_version: Some(pod.resource_version.clone()),
                }),
                ..DeleteParams::default()
            };
            match api.delete(&pod.name, &params).await {
                Ok(_) => {
                    let note = format!(
                        "pod {} of {target} was deleted: it has the image that was taken back, is not ready, and the \
                         StatefulSet waits for it",
                        pod.name
                    );
                    self.tell(News::Normal, "PodReplaced", note);
                }
                Err(error) => {
                    let error = Error::write(&format!("pod {}", pod.name), error);
                    if !error.is_stale_object() && !error.is_gone_object() {
                        return Err(error);
                    }
                }
            }
        }
        if let Some(found) = self.facts.target_mut(target).and_then(|entry| entry.found.as_mut()) {
            found.stuck.clear();
        }
        Ok(())
    }
}
