//! How the controller drives the engine, and what holds of all that it writes.

use super::*;

impl World {
    pub(super) fn reconcile(&mut self) -> End {
        let mut facts = Facts::default();
        let mut status = self.status.clone();
        for _ in 0..100 {
            let requests = request::requests(&self.annotations, &status.last_handled_requests);
            let goal = Goal {
                spec: &self.spec,
                generation: Some(self.generation),
                requests: &requests,
            };
            let moved = engine::next(&goal, &status, &facts, self.now);
            self.moves += 1;
            self.trace.push(format!("{} {moved}", self.now));
            if self.kill == Some(Kill::Before(self.moves)) {
                return End::Killed;
            }
            match moved {
                Move::Look(look) => {
                    if !self.look(&look, &status, &mut facts) {
                        return End::Unavailable;
                    }
                }
                Move::Do(action) => self.act(action, &mut status, &mut facts),
                Move::Record(record) => {
                    self.check(&record.status);
                    self.told.extend(record.told);
                    status = record.status;
                    self.status = status.clone();
                }
                Move::Rest(rest) => {
                    self.check(&rest.status);
                    self.status = rest.status.clone();
                    return End::Rested(rest);
                }
            }
            if self.kill == Some(Kill::After(self.moves)) {
                return End::Killed;
            }
        }
        panic!("no rest after 100 moves:\n{}", self.last_moves());
    }

    pub(super) fn last_moves(&self) -> String {
        let from = self.trace.len().saturating_sub(40);
        self.trace[from..].join("\n")
    }

    /// Whether it could be looked at.
    pub(super) fn look(&self, look: &Look, status: &ImagePromotionStatus, facts: &mut Facts) -> bool {
        match look {
            Look::Targets => facts.targets = Some(self.workloads.iter().map(|it| self.see(it)).collect()),
            Look::Baseline => {
                let first = self.workloads.first().and_then(|it| it.digest.clone());
                let one = first.filter(|digest| {
                    self.workloads.iter().all(|it| it.digest.as_ref() == Some(digest))
                        && self.images.iter().any(|image| image.digest == *digest)
                });
                facts.baseline = Some(one.map_or(Origin::None, |digest| Origin::Image(self.image(&digest))));
            }
            Look::Selection => {
                facts.selection = Some(self.select(status));
                facts.running = status
                    .current
                    .as_ref()
                    .map(|image| (image.digest.clone(), self.presence(&image.digest)));
            }
            Look::Gates(image) => {
                let closed = self.closed.get(&image.digest).cloned().unwrap_or_default();
                facts.gates = Some((image.digest.clone(), closed));
            }
            Look::Regression(image) => {
                let found = self.regressions.get(&image.digest).cloned();
                facts.findings.push((image.digest.clone(), found));
            }
            Look::Presence(digest) => facts.presence = Some((digest.clone(), self.presence(digest))),
            Look::Named(name) => {
                if self.registry_is_down {
                    return false;
                }
                let found = self.images.iter().find(|image| {
                    image.presence == Presence::There && (image.tag == *name || image.digest.as_str() == name)
                });
                let found = found.map(|image| self.image(&image.digest));
                facts.named = Some((
                    name.clone(),
                    found.ok_or_else(|| format!("the repository has no image {name}")),
                ));
            }
            Look::Copy(image) => {
                let progress = match self.nature(&image.digest) {
                    Nature::CannotBeCopied => Progress::Failed("the tag is taken".into()),
                    _ if self.copied.contains(&image.digest) => Progress::Done,
                    _ if self.copying.contains(&image.digest) => Progress::Running("half of it".into()),
                    _ => Progress::NotStarted,
                };
                facts.copy = Some((image.digest.clone(), progress));
            }
            Look::Check { index, rollout } => {
                let progress = match self.checks.get(&(*rollout, *index)) {
                    None => Progress::NotStarted,
                    Some((_, since)) if self.now < *since + ROLLS + ROLLS => Progress::Running("the Job runs".into()),
                    Some((digest, _)) if self.nature(digest) == Nature::FailsItsCheck => {
                        Progress::Failed("exit 1".into())
                    }
                    Some(_) => Progress::Done,
                };
                facts.check = Some((*index, progress));
            }
        }
        true
    }

    pub(super) fn presence(&self, digest: &Digest) -> Presence {
        if self.registry_is_down {
            return Presence::Unknown;
        }
        let image = self.images.iter().find(|image| image.digest == *digest);
        image.map_or(Presence::Gone, |image| image.presence.clone())
    }

    pub(super) fn select(&self, status: &ImagePromotionStatus) -> Selection {
        if self.registry_is_down {
            return Selection::Unknown("ECR does not answer".into());
        }
        if let Some(followed) = &self.followed {
            return Selection::Picked(self.image(followed));
        }
        let candidates = self.images.iter().filter(|image| {
            image.presence == Presence::There && !ledger::is_rejected(&self.spec, status, &image.digest)
        });
        match candidates.max_by_key(|image| image.pushed_at) {
            Some(image) => Selection::Picked(self.image(&image.digest)),
            None => Selection::Nothing("the repository has no image that is wanted".into()),
        }
    }

    pub(super) fn see(&self, workload: &Workload) -> TargetFacts {
        let found = workload.exists.then(|| {
            let nature = workload.digest.as_ref().map_or(Nature::Sound, |it| self.nature(it));
            let is_new = self.now < workload.since + ROLLS;
            let health = match nature {
                Nature::CannotBePulled => Health::Failed("ImagePullBackOff".into()),
                _ if is_new => Health::Progressing("0 of 1 pods are new and available".into()),
                Nature::CrashesInWorker if workload.name == "worker" => Health::Failed("CrashLoopBackOff".into()),
                Nature::Crashes => Health::Failed("CrashLoopBackOff".into()),
                Nature::Hangs => Health::Progressing("0 of 1 pods are new and available".into()),
                _ => Health::Healthy,
            };
            Found {
                uid: workload.uid.to_string(),
                resource_version: workload.version.to_string(),
                digest: workload.digest.clone(),
                images: Vec::new(),
                missing: Vec::new(),
                writer: workload.writer.clone(),
                health,
                restarts: if nature == Nature::Restarts && !is_new { 9 } else { 0 },
                refused: workload.is_owned.then(|| "Argo CD owns it".to_owned()),
                remedy: "Tell Argo CD to ignore the image.".into(),
                rejected: workload.rejected.clone(),
                stuck: Vec::new(),
                abandoned: if workload.is_abandoned {
                    vec!["old".into()]
                } else {
                    Vec::new()
                },
            }
        });
        TargetFacts {
            kind: TargetKind::Deployment,
            name: workload.name.clone(),
            via: workload.via,
            written: match workload.via {
                Via::Auto | Via::Direct => workload.digest.clone(),
                Via::Publish => self.status.published.clone(),
                _ => workload.place.clone(),
            },
            found,
        }
    }

    pub(super) fn act(&mut self, action: Action, status: &mut ImagePromotionStatus, facts: &mut Facts) {
        match action {
            Action::Write { target, image } => {
                let is_pinned = self.spec.pin.as_ref().is_some_and(|pin| pin.digest == image.digest);
                assert!(
                    is_pinned || !ledger::is_rejected(&self.spec, status, &image.digest),
                    "a rejected image is written:\n{}",
                    self.last_moves()
                );
                if self.locked.contains(&target.name) {
                    facts.refused_writes.push((target, "exceeded quota".into()));
                    return;
                }
                self.writes.push((target.name.clone(), image.digest.clone()));
                let now = self.now;
                let workload = self.workload(&target.name);
                match workload.via {
                    Via::Auto | Via::Direct => workload.change(Some(image.digest), now),
                    _ => workload.place = Some(image.digest),
                }
                workload.writer = None;
                self.see_again(&target.name, facts);
            }
            Action::MarkRejected { target, digests } => {
                self.workload(&target.name).rejected = digests;
                self.see_again(&target.name, facts);
            }
            Action::Withdraw(target) => {
                self.workload(&target.name).is_abandoned = false;
                self.see_again(&target.name, facts);
            }
            // The kubelet of this world replaces pods by itself.
            Action::ReplaceStuck { .. } => {}
            Action::StartCopy(image) => {
                self.copying.insert(image.digest);
                facts.copy = None;
            }
            Action::StartCheck { index, rollout, image } => {
                self.checks.insert((rollout, index), (image.digest, self.now));
                facts.check = None;
            }
            Action::Retag { tag, image } => {
                self.verified = Some(image.digest.clone());
                status.verified_tag = Some(ImageStatus {
                    tag: Some(tag),
                    ..image
                });
            }
            Action::Publish(image) => {
                for workload in self.workloads.iter_mut().filter(|it| it.via == Via::Publish) {
                    workload.place = Some(image.digest.clone());
                }
                status.published = Some(image.digest);
            }
        }
    }

    pub(super) fn see_again(&self, name: &str, facts: &mut Facts) {
        let seen = self.workloads.iter().find(|it| it.name == name).map(|it| self.see(it));
        let fact = facts.targets.iter_mut().flatten().find(|it| it.name == name);
        if let (Some(seen), Some(fact)) = (seen, fact) {
            *fact = seen;
        }
    }

    /// What holds of every status that is written.
    pub(super) fn check(&self, new: &ImagePromotionStatus) {
        let old = &self.status;
        let said = || self.last_moves();
        assert!(new.rejected.len() <= 20 && new.approvals.len() <= 20 && new.blocked_by.len() <= 8);
        assert!(new.history.len() <= usize::from(self.spec.history_limit));
        let texts = [new.last_answer.as_ref(), new.regression.as_ref()];
        assert!(texts.into_iter().flatten().all(|text| text.len() <= 1_024));
        assert!(new.hold.as_ref().is_none_or(|hold| hold.reason.len() <= 512));
        assert!(new.history.iter().all(|entry| entry.reason.len() <= 512));
        assert!(new.last_rollout >= old.last_rollout, "{}", said());
        let (was, is) = (old.rollout.as_ref(), new.rollout.as_ref());
        if let Some(was) = was.filter(|was| is.is_none_or(|is| is.id != was.id)) {
            let ended = new.history.iter().any(|entry| entry.id == was.id);
            assert!(ended, "a rollout went without an entry in the history:\n{}", said());
        }
        let begun = is.filter(|is| was.is_none_or(|was| was.id != is.id));
        if let Some(begun) = begun.filter(|begun| begun.kind == RolloutKind::Promotion) {
            let closed = self.closed.get(&begun.image.digest).map_or(0, Vec::len);
            assert_eq!(closed, 0, "a gate was closed:\n{}", said());
        }
        // Good is only what was seen healthy on every target.
        if let Some(entry) = new.history.first().filter(|entry| {
            entry.outcome == Outcome::Succeeded && Some(&entry.image) == was.map(|was| &was.image) && is.is_none()
        }) {
            let nature = self.nature(&entry.image.digest);
            assert!(
                self.workloads
                    .iter()
                    .all(|it| it.digest.as_ref() == Some(&entry.image.digest)),
                "not every target had it:\n{}",
                said()
            );
            let harmless = [Nature::Sound, Nature::FailsItsCheck, Nature::CannotBeCopied];
            assert!(harmless.contains(&nature), "{nature:?} counts as good:\n{}", said());
        }
    }
}
