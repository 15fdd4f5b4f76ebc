//! What the engine says is to be done, done.

use kube::{
    Api,
    api::{DynamicObject, Patch, PatchParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::Value;

use super::Run;
use crate::{
    api::{
        names::{Digest, Tag},
        promotion::{ImageStatus, Target, TargetKind, Via},
    },
    aws::images::ImageRef,
    control::{
        error::{Error, Result},
        events::News,
    },
    in_use::{self, Ensured},
    promotion::{
        filter::is_reserved,
        moves::{Action, TargetName},
        ownership::FIELD_MANAGER,
        patch::{self, Body},
        via, workload,
    },
};

impl Run<'_> {
    pub(super) async fn act(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::Write { target, image } => match self.write_image(target, image).await {
                // The engine knows how long it may be tried.
                Err(error @ Error::Refused { .. }) => {
                    self.facts.refused_writes.push((target.clone(), error.to_string()));
                    Ok(())
                }
                other => other,
            },
            Action::StartCopy(image) => self.start_copy(image),
            Action::StartCheck { index, rollout, image } => self.start_check(*index, *rollout, image).await,
            // None of these may keep a rollout from its end. The next look tries them again.
            aside => match self.act_aside(aside).await {
                Err(error) if !error.is_stale_object() => {
                    tracing::warn!(%error, "could not {aside}");
                    self.facts.failed.push((aside.clone(), error.to_string()));
                    match aside {
                        // It is for a promotion that is created again; this one is none the worse.
                        Action::MarkRejected { target, .. } => {
                            let note = format!("{error}; what was taken back from {target} is not noted on it yet");
                            self.tell(News::Warning, "NoteRefused", note);
                        }
                        _ => self.failure = Some(error),
                    }
                    Ok(())
                }
                other => other,
            },
        }
    }

    async fn act_aside(&mut self, action: &Action) -> Result<()> {
        match action {
            Action::MarkRejected { target, digests } => self.mark_rejected(target, digests).await,
            Action::Withdraw(target) => self.withdraw(target).await,
            Action::Retag { tag, image } => self.retag(tag, image).await,
            Action::Publish(image) => self.publish(image).await,
            Action::ReplaceStuck { target, pods } => self.replace_stuck(target, pods).await,
            Action::Write { .. } | Action::StartCopy(_) | Action::StartCheck { .. } => Ok(()),
        }
    }

    async fn write_image(&mut self, name: &TargetName, image: &ImageStatus) -> Result<()> {
        let Some((target, object)) = self.objects.get(name).cloned() else {
            // It is read again, and then it is there or missing.
            self.facts.targets = None;
            return Ok(());
        };
        if self.status.rollout.is_none() {
            self.is_copied(image).await?;
        }
        self.report_in_use(image).await?;
        match target.via {
            Via::Auto | Via::Direct => self.write_workload(name, &target, &object, image).await,
            Via::Publish => Ok(()),
            Via::FluxKustomization | Via::FluxHelmRelease | Via::ArgoApplication | Via::ConfigMap => {
                self.write_via(&target, image).await?;
                self.facts.targets = None;
                Ok(())
            }
        }
    }

    /// Has the image reported as in use before anything runs it, so that no clean-up takes it away. A rollout, and a way
    /// back even more, is not held up by that for long.
    async fn report_in_use(&self, image: &ImageStatus) -> Result<()> {
        let place = self.place()?.runs();
        let connection = &place.connection;
        let is_collected = in_use::repository().is_some_and(|reports| connection.inventory.get(&reports).is_some());
        if is_collected && connection.in_use.ensure(&place.name, &image.digest).await == Ensured::No {
            tracing::warn!(
                repository = %place.name,
                digest = %image.digest,
                "the image goes to its workload before it could be reported as in use"
            );
            self.ctx.metrics.in_use.unreported();
        }
        Ok(())
    }

    /// Outside of a rollout, which copies first: the destination may have been changed since, and nothing may be told to run
    /// an image that is not there.
    async fn is_copied(&mut self, image: &ImageStatus) -> Result<()> {
        let place = self.place()?;
        let Some(to) = &place.copy else { return Ok(()) };
        if self.image(to, ImageRef::Digest(image.digest.clone())).await?.is_some() {
            return Ok(());
        }
        let to = to.uri.clone();
        self.start_copy(image)?;
        Err(Error::Refused {
            what: format!("write {}", image.name),
            why: format!("it is not in {to} yet, and is copied there first"),
        })
    }

    async fn write_workload(
        &mut self,
        name: &TargetName,
        target: &Target,
        object: &Value,
        image: &ImageStatus,
    ) -> Result<()> {
        let place = self.place()?;
        let text = patch::by_digest(&place.runs().uri, &image.digest);
        let selected = workload::selected(target, object, &place.uris());
        let owned: Vec<&str> = selected
            .iter()
            .filter(|container| container.owned)
            .map(|container| container.name.as_str())
            .collect();
        let Some(body) = patch::image(target.kind, object, &owned, &text) else {
            return Err(Error::Refused {
                what: format!("write the image to {name}"),
                why: "nobody but this operator owns its containers any more: apply the workload again by whatever manages it".into(),
            });
        };
        let written = self.send(name, Body::Apply(body)).await?;
        // The answer is what the apiserver stored: what others make of it later is seen as theirs.
        self.saw(name, &written);
        match self.seen(name) {
            Some(found) if found.digest.as_ref() != Some(&image.digest) => Err(Error::Refused {
                what: format!("write the image to {name}"),
                why: format!(
                    "the apiserver stored {} instead; an admission webhook may have changed it",
                    found.images.join(", ")
                ),
            }),
            _ => Ok(()),
        }
    }

    /// A target as it was read or written last.
    fn seen(&self, name: &TargetName) -> Option<&crate::promotion::facts::Found> {
        self.facts.target(name)?.found.as_ref()
    }

    async fn mark_rejected(&mut self, name: &TargetName, digests: &[Digest]) -> Result<()> {
        let Some((_, object)) = self.objects.get(name).cloned() else {
            self.facts.targets = None;
            return Ok(());
        };
        let written = self.send(name, Body::Merge(patch::rejected(&object, digests))).await?;
        self.saw(name, &written);
        let noted = self
            .seen(name)
            .is_some_and(|found| digests.iter().all(|digest| found.rejected.contains(digest)));
        match noted {
            true => Ok(()),
            false => Err(Error::Refused {
                what: format!("note on {name} what was taken back"),
                why: "the apiserver stored the workload without the annotation".into(),
            }),
        }
    }

    async fn withdraw(&mut self, name: &TargetName) -> Result<()> {
        let Some((target, object)) = self.objects.get(name).cloned() else {
            self.facts.targets = None;
            return Ok(());
        };
        let abandoned = crate::promotion::ownership::abandoned(target.kind, &object);
        if let Some((body, told)) = patch::abandon(target.kind, &object, &abandoned) {
            let written = self.send(name, body).await?;
            self.saw(name, &written);
            self.tell(News::Warning, "ContainerAbandoned", format!("{name}: {told}"));
        }
        Ok(())
    }

    /// Sends a patch to a workload of the promotion's own namespace, and nowhere else.
    async fn send(&self, name: &TargetName, body: Body) -> Result<Value> {
        let api = workloads(self.ctx.client.clone(), &self.place()?.namespace, name.kind);
        let sent = match &body {
            Body::Apply(body) => {
                let params = PatchParams::apply(FIELD_MANAGER).force();
                api.patch(&name.name, &params, &Patch::Apply(body)).await
            }
            Body::Merge(body) => {
                let params = PatchParams {
                    field_manager: Some(FIELD_MANAGER.into()),
                    ..PatchParams::default()
                };
                api.patch(&name.name, &params, &Patch::Merge(body)).await
            }
        };
        let object = sent.map_err(|error| Error::write(&format!("{name}"), error))?;
        serde_json::to_value(object).map_err(|error| Error::Refused {
            what: format!("read {name}"),
            why: error.to_string(),
        })
    }

    /// Writes the digest to the object that the owner of a workload reads.
    async fn write_via(&self, target: &Target, image: &ImageStatus) -> Result<()> {
        let (Some(via_ref), Some(kind)) = (&target.via_ref, via::object_kind(target.via)) else {
            return Ok(());
        };
        let place = self.place()?;
        let namespace = via_ref.namespace.as_deref().unwrap_or(&place.namespace);
        let api = self.via_objects(kind, namespace);
        let what = format!("{} {namespace}/{}", kind.kind, via_ref.name);
        let refused = |why: String| Error::Refused {
            what: format!("write the digest to {what}"),
            why,
        };
        let object = api
            .get_opt(&via_ref.name)
            .await
            .map_err(|error| Error::write(&what, error))?
            .ok_or_else(|| refused(unavailable(&place.namespace)))?;
        let object = serde_json::to_value(object).map_err(|error| refused(error.to_string()))?;
        if !via::permits(&object, &place.namespace) {
            return Err(refused(unavailable(&place.namespace)));
        }
        let body = via::write(target.via, via_ref, &object, &place.runs().uri, &image.digest).map_err(refused)?;
        if let Some(body) = body {
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.into()),
                ..PatchParams::default()
            };
            api.patch(&via_ref.name, &params, &Patch::Merge(body))
                .await
                .map_err(|error| Error::write(&what, error))?;
        }
        Ok(())
    }

    /// Moves the tag of `onVerified`. Where it was found is told if that is not where it was left.
    async fn retag(&mut self, tag: &Tag, image: &ImageStatus) -> Result<()> {
        let place = self.place()?.runs();
        if is_reserved(tag) {
            return Err(Error::Refused {
                what: format!("put the tag {tag} on {}", image.name),
                why: "such tags are of the operator and of signatures; choose another".into(),
            });
        }
        let holder = self.image(place, ImageRef::Tag(tag.clone())).await?;
        let left = self
            .status
            .verified_tag
            .as_ref()
            .filter(|left| left.tag.as_ref() == Some(tag));
        if let Some(holder) = holder.as_ref().filter(|holder| holder.digest != image.digest) {
            match left {
                Some(left) if left.digest == holder.digest => {}
                Some(_) => {
                    let note = format!(
                        "the tag {tag} was on {}, where this promotion had not put it",
                        holder.digest
                    );
                    self.tell(News::Warning, "TagMovedByOther", note);
                }
                None => {
                    return Err(Error::Refused {
                        what: format!("put the tag {tag} on {}", image.name),
                        why: format!(
                            "it is on {}, where this promotion has not put it; delete the tag there, or choose another",
                            holder.digest
                        ),
                    });
                }
            }
        }
        if holder.is_none_or(|holder| holder.digest != image.digest) {
            place.connection.ecr.put_tag(&place.name, &image.digest, tag).await?;
        }
        self.status.verified_tag = Some(ImageStatus {
            tag: Some(tag.clone()),
            ..image.clone()
        });
        Ok(())
    }

    pub(super) fn via_objects(&self, kind: via::ObjectKind, namespace: &str) -> Api<DynamicObject> {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(kind.group, kind.version, kind.kind), kind.plural);
        Api::namespaced_with(self.ctx.client.clone(), namespace, &resource)
    }
}

/// Why an object of `viaRef` is not written. The same words in both cases: what exists in other namespaces is not for
/// everybody to know.
fn unavailable(namespace: &str) -> String {
    format!(
        "it does not exist, or it is in another namespace and its annotation {} does not name {namespace}",
        crate::api::PROMOTABLE_FROM_ANNOTATION
    )
}

/// The workloads of one kind in a namespace.
pub(super) fn workloads(client: kube::Client, namespace: &str, kind: TargetKind) -> Api<DynamicObject> {
    let (group, plural) = match kind {
        TargetKind::Deployment => ("apps", "deployments"),
        TargetKind::StatefulSet => ("apps", "statefulsets"),
        TargetKind::DaemonSet => ("apps", "daemonsets"),
        TargetKind::CronJob => ("batch", "cronjobs"),
    };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind.as_str()), plural);
    Api::namespaced_with(client, namespace, &resource)
}
