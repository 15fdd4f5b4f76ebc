//! A small world in which the engine is driven as its controller drives it, and may be killed at any move.

mod events;
mod failures;
mod fights;
mod findings;
mod operator;
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
};
use crate::api::{
    names::Digest,
    promotion::{
        Gate, HoldKind, ImagePromotionSpec, ImagePromotionStatus, ImageStatus, Outcome, RolloutKind, TargetKind, Via,
        request,
    },
};

/// How long a workload takes to become healthy.
const ROLLS: SignedDuration = SignedDuration::from_secs(4);

/// How an image behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Sound,
    Crashes,
    CrashesInWorker,
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
    /// Workloads that the apiserver does not let anybody write.
    locked: BTreeSet<String>,
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
            locked: BTreeSet::new(),
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
            let is_still = self.workloads.iter().all(|it| self.now >= it.since + ROLLS);
            if let End::Rested(rest) = self.round()
                && is_still
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
