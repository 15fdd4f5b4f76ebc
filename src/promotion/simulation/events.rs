//! What happens in the world.

use super::*;

impl World {
    pub(super) fn push(&mut self, number: u32) {
        self.now += SignedDuration::from_secs(1);
        self.images.push(Stored {
            digest: digest(number),
            tag: format!("1.{number}.0"),
            pushed_at: self.now,
            presence: Presence::There,
        });
    }

    pub(super) fn push_as(&mut self, number: u32, nature: Nature) {
        self.natures.insert(digest(number), nature);
        self.push(number);
    }

    pub(super) fn store(&mut self, number: u32, presence: &Presence) {
        for image in &mut self.images {
            if image.digest == digest(number) {
                image.presence = presence.clone();
            }
        }
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut ImagePromotionSpec)) {
        change(&mut self.spec);
        self.generation += 1;
    }

    pub(super) fn ask(&mut self, name: &str, rest: &str) {
        self.tokens += 1;
        let value = match name {
            "approve" => rest.to_owned(),
            _ => format!("t{} {rest}", self.tokens),
        };
        self.annotations
            .insert(request::annotation(name), value.trim().to_owned());
    }

    /// A person sets the image of a workload with kubectl.
    pub(super) fn set(&mut self, name: &str, number: u32) {
        self.set_as(name, number, "kubectl-set", true);
    }

    pub(super) fn set_as(&mut self, name: &str, number: u32, manager: &str, is_person: bool) {
        let now = self.now;
        let workload = self.workload(name);
        workload.change(Some(digest(number)), now);
        workload.writer = Some(Writer {
            manager: manager.to_owned(),
            is_person,
        });
    }

    pub(super) fn workload(&mut self, name: &str) -> &mut Workload {
        self.workloads.iter_mut().find(|it| it.name == name).unwrap()
    }

    /// What the owners of workloads, and those who fight, do in between.
    pub(super) fn react(&mut self) {
        let now = self.now;
        for workload in &mut self.workloads {
            if workload.place.is_some() && workload.digest != workload.place {
                workload.change(workload.place.clone(), now);
            }
        }
        if let Some(wanted) = self.fighter.clone()
            && let Some(first) = self.workloads.first_mut()
            && first.digest.as_ref() != Some(&wanted)
        {
            first.change(Some(wanted), now);
            first.writer = Some(Writer {
                manager: "argocd-controller".into(),
                is_person: false,
            });
        }
        self.copied.append(&mut self.copying);
    }

    pub(super) fn image(&self, digest: &Digest) -> ImageStatus {
        match self.images.iter().find(|image| image.digest == *digest) {
            Some(image) => ImageStatus {
                name: image.tag.clone(),
                digest: image.digest.clone(),
                tag: Some(image.tag.parse().unwrap()),
                pushed_at: Some(image.pushed_at),
                since: None,
            },
            None => ledger::nameless(digest.clone()),
        }
    }

    pub(super) fn nature(&self, digest: &Digest) -> Nature {
        self.natures.get(digest).copied().unwrap_or(Nature::Sound)
    }
}
