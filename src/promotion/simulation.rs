//! A small world in which the engine is driven as its controller drives it, and may be killed at any move.

mod failures;
mod people;
mod promotions;
mod requests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    engine::{self, Goal},
    facts::{Closed, Facts, Found, Health, Origin, Presence, Progress, Selection, TargetFacts, Writer},
    ledger,
    moves::{Action, Look, Move, Rest, Told},
    request,
};
use crate::api::{
    names::Digest,
    promotion::{
        Gate, HoldKind, ImagePromotionSpec, ImagePromotionStatus, ImageStatus, Outcome, RolloutKind, TargetKind, Via,
    },
};

/// How long a workload takes to become healthy.
const ROLLS: SignedDuration = SignedDuration::from_secs(4);

/// How an image behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Sound,
    Crashes,
    Hangs,
    Restarts,
    CannotBePulled,
    FailsItsCheck,
    CannotBeCopied,
}

#[derive(Clone, Debug)]
struct Stored {
    digest: Digest,
    tag: String,
    pushed_at: Timestamp,
    presence: Presence,
}

#[derive(Clone, Debug)]
struct Workload {
    name: String,
    via: Via,
    uid: u32,
    version: u32,
    digest: Option<Digest>,
    /// Where its owner reads the digest, if it is not written to the workload itself.
    place: Option<Digest>,
    since: Timestamp,
    writer: Option<Writer>,
    rejected: Vec<Digest>,
    exists: bool,
    is_owned: bool,
    is_abandoned: bool,
}

/// When the operator dies: before or after the move of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    Before(usize),
    After(usize),
}

#[derive(Debug)]
enum End {
    Rested(Box<Rest>),
    Killed,
    /// A call failed; the controller tries again later.
    Unavailable,
}

struct World {
    now: Timestamp,
    spec: ImagePromotionSpec,
    generation: i64,
    /// What is stored in the apiserver.
    status: ImagePromotionStatus,
    annotations: BTreeMap<String, String>,
    images: Vec<Stored>,
    natures: BTreeMap<Digest, Nature>,
    workloads: Vec<Workload>,
    /// Sets the first workload to this image whenever it has another.
    fighter: Option<Digest>,
    closed: BTreeMap<Digest, Vec<Closed>>,
    regressions: BTreeMap<Digest, String>,
    registry_is_down: bool,
    /// The image that the followed tag is on, with a policy that follows one.
    followed: Option<Digest>,
    copied: BTreeSet<Digest>,
    copying: BTreeSet<Digest>,
    /// The image of each verification, and when it began.
    checks: BTreeMap<(u64, u8), (Digest, Timestamp)>,
    verified: Option<Digest>,
    kill: Option<Kill>,
    moves: usize,
    writes: Vec<(String, Digest)>,
    told: Vec<Told>,
    trace: Vec<String>,
    tokens: u32,
}

fn digest(number: u32) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

impl World {
    /// Workloads that run image 1, and a promotion that takes what was pushed last.
    fn new(workloads: &[&str], more: &Value) -> Self {
        let targets: Vec<Value> = workloads
            .iter()
            .map(|name| json!({"kind": "Deployment", "name": name}))
            .collect();
        let mut spec = json!({
            "source": {"repositoryRef": {"name": "app"}, "policy": {"latestPushed": {}}},
            "targets": targets,
            "rollout": {"timeout": "60s", "stabilization": "10s"},
        });
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let now: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let mut world = Self {
            now,
            spec: serde_json::from_value(spec).unwrap(),
            generation: 1,
            status: ImagePromotionStatus::default(),
            annotations: BTreeMap::new(),
            images: Vec::new(),
            natures: BTreeMap::new(),
            workloads: Vec::new(),
            fighter: None,
            closed: BTreeMap::new(),
            regressions: BTreeMap::new(),
            registry_is_down: false,
            followed: None,
            copied: BTreeSet::new(),
            copying: BTreeSet::new(),
            checks: BTreeMap::new(),
            verified: None,
            kill: None,
            moves: 0,
            writes: Vec::new(),
            told: Vec::new(),
            trace: Vec::new(),
            tokens: 0,
        };
        world.push(1);
        for (number, name) in (1..).zip(workloads) {
            world.workloads.push(Workload {
                name: (*name).to_owned(),
                via: Via::Auto,
                uid: number,
                version: 1,
                digest: Some(digest(1)),
                place: None,
                since: now - SignedDuration::from_hours(1),
                writer: None,
                rejected: Vec::new(),
                exists: true,
                is_owned: false,
                is_abandoned: false,
            });
        }
        world
    }

    // What happens in the world.

    fn push(&mut self, number: u32) {
        self.now += SignedDuration::from_secs(1);
        self.images.push(Stored {
            digest: digest(number),
            tag: format!("1.{number}.0"),
            pushed_at: self.now,
            presence: Presence::There,
        });
    }

    fn push_as(&mut self, number: u32, nature: Nature) {
        self.natures.insert(digest(number), nature);
        self.push(number);
    }

    fn store(&mut self, number: u32, presence: &Presence) {
        for image in &mut self.images {
            if image.digest == digest(number) {
                image.presence = presence.clone();
            }
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut ImagePromotionSpec)) {
        change(&mut self.spec);
        self.generation += 1;
    }

    fn ask(&mut self, name: &str, rest: &str) {
        self.tokens += 1;
        let value = match name {
            "approve" => rest.to_owned(),
            _ => format!("t{} {rest}", self.tokens),
        };
        self.annotations
            .insert(request::annotation(name), value.trim().to_owned());
    }

    /// A person sets the image of a workload with kubectl.
    fn set(&mut self, name: &str, number: u32) {
        self.set_as(name, number, "kubectl-set", true);
    }

    fn set_as(&mut self, name: &str, number: u32, manager: &str, is_person: bool) {
        let now = self.now;
        let workload = self.workload(name);
        workload.change(Some(digest(number)), now);
        workload.writer = Some(Writer {
            manager: manager.to_owned(),
            is_person,
        });
    }

    fn workload(&mut self, name: &str) -> &mut Workload {
        self.workloads.iter_mut().find(|it| it.name == name).unwrap()
    }

    /// What the owners of workloads, and those who fight, do in between.
    fn react(&mut self) {
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

    fn image(&self, digest: &Digest) -> ImageStatus {
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

    fn nature(&self, digest: &Digest) -> Nature {
        self.natures.get(digest).copied().unwrap_or(Nature::Sound)
    }

    // How the controller drives the engine.

    fn reconcile(&mut self) -> End {
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
                Move::Rest(mut rest) => {
                    rest.status.common.observed_generation = Some(self.generation);
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

    fn last_moves(&self) -> String {
        let from = self.trace.len().saturating_sub(40);
        self.trace[from..].join("\n")
    }

    /// Whether it could be looked at.
    fn look(&self, look: &Look, status: &ImagePromotionStatus, facts: &mut Facts) -> bool {
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
                facts.regression = Some((image.digest.clone(), found));
            }
            Look::Presence(digest) => facts.presence = Some((digest.clone(), self.presence(digest))),
            Look::Named(name) => {
                if self.registry_is_down {
                    return false;
                }
                let found = self.images.iter().find(|image| {
                    image.presence == Presence::There && (image.tag == *name || image.digest.as_str() == name)
                });
                facts.named = Some((name.clone(), found.map(|image| self.image(&image.digest))));
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

    fn presence(&self, digest: &Digest) -> Presence {
        if self.registry_is_down {
            return Presence::Unknown;
        }
        let image = self.images.iter().find(|image| image.digest == *digest);
        image.map_or(Presence::Gone, |image| image.presence.clone())
    }

    fn select(&self, status: &ImagePromotionStatus) -> Selection {
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

    fn see(&self, workload: &Workload) -> TargetFacts {
        let found = workload.exists.then(|| {
            let nature = workload.digest.as_ref().map_or(Nature::Sound, |it| self.nature(it));
            let is_new = self.now < workload.since + ROLLS;
            let health = match nature {
                Nature::CannotBePulled => Health::Failed("ImagePullBackOff".into()),
                _ if is_new => Health::Progressing("0 of 1 pods are new and available".into()),
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

    fn act(&mut self, action: Action, status: &mut ImagePromotionStatus, facts: &mut Facts) {
        match action {
            Action::Write { target, image } => {
                let is_pinned = self.spec.pin.as_ref().is_some_and(|pin| pin.digest == image.digest);
                assert!(
                    is_pinned || !ledger::is_rejected(&self.spec, status, &image.digest),
                    "a rejected image is written:\n{}",
                    self.last_moves()
                );
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

    fn see_again(&self, name: &str, facts: &mut Facts) {
        let seen = self.workloads.iter().find(|it| it.name == name).map(|it| self.see(it));
        let fact = facts.targets.iter_mut().flatten().find(|it| it.name == name);
        if let (Some(seen), Some(fact)) = (seen, fact) {
            *fact = seen;
        }
    }

    /// What holds of every status that is written.
    fn check(&self, new: &ImagePromotionStatus) {
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

    // The passing of time.

    /// One look, and the time until the next.
    fn round(&mut self) -> End {
        let end = self.reconcile();
        let wake = match &end {
            End::Rested(rest) => rest.wake,
            End::Killed | End::Unavailable => None,
        };
        let soon = self.now + SignedDuration::from_secs(5);
        self.now = wake.unwrap_or(soon).max(soon);
        self.react();
        end
    }

    /// Until two looks in a row find nothing to do.
    fn calm(&mut self) -> Rest {
        for _ in 0..400 {
            let before = (self.status.clone(), self.writes.len(), self.told.len());
            if let End::Rested(rest) = self.round()
                && rest.wake.is_none()
                && before == (self.status.clone(), self.writes.len(), self.told.len())
            {
                return *rest;
            }
        }
        panic!("it does not come to rest:\n{}", self.last_moves());
    }

    /// For a while, also where somebody goes on fighting.
    fn calm_enough(&mut self) {
        for _ in 0..60 {
            self.round();
        }
    }

    /// Until something is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..100 {
            if is_so(self) {
                return;
            }
            self.round();
        }
        panic!("it did not come to this: {what}\n{}", self.last_moves());
    }

    // What the tests ask.

    fn runs(&self) -> Vec<Option<Digest>> {
        self.workloads.iter().map(|it| it.digest.clone()).collect()
    }

    fn assert_runs(&self, number: u32) {
        let all = self.runs().iter().all(|it| it.as_ref() == Some(&digest(number)));
        assert!(all, "not every target runs {number}:\n{}", self.last_moves());
    }

    fn current(&self) -> Option<Digest> {
        self.status.current.as_ref().map(|image| image.digest.clone())
    }

    fn last_good(&self) -> Option<Digest> {
        self.status.last_good.as_ref().map(|image| image.digest.clone())
    }

    fn rejected(&self) -> BTreeSet<Digest> {
        self.status.rejected.iter().map(|it| it.digest.clone()).collect()
    }

    fn hold(&self) -> Option<HoldKind> {
        self.status.hold.as_ref().map(|hold| hold.kind)
    }

    fn answer(&self) -> &str {
        self.status.last_answer.as_deref().unwrap_or_default()
    }

    fn was_told(&self, reason: &str) -> usize {
        self.told.iter().filter(|told| told.reason == reason).count()
    }

    fn close(&mut self, number: u32, gate: Gate) {
        let closed = Closed {
            gate,
            message: "not yet".into(),
            opens: None,
        };
        self.closed.entry(digest(number)).or_default().push(closed);
    }
}

impl Workload {
    fn change(&mut self, digest: Option<Digest>, now: Timestamp) {
        self.digest = digest;
        self.version += 1;
        self.since = now;
    }
}

/// What has to be the same, wherever the operator was killed on the way.
fn outcome(world: &World) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        world.current(),
        world.last_good(),
        world.rejected(),
        world.runs(),
        world.hold(),
        world.status.requested.clone().map(|image| image.digest),
        world.verified.clone(),
    )
}

/// Plays a scenario undisturbed, and then once for each move before and after which the operator can die.
fn play(start: impl Fn() -> World, scenario: impl Fn(&mut World)) {
    let mut undisturbed = start();
    scenario(&mut undisturbed);
    let expected = outcome(&undisturbed);
    for number in 1..=undisturbed.moves {
        for kill in [Kill::Before(number), Kill::After(number)] {
            let mut world = start();
            world.kill = Some(kill);
            scenario(&mut world);
            assert_eq!(
                outcome(&world),
                expected,
                "killed {kill:?}:\n{}",
                world.trace.join("\n")
            );
        }
    }
}
