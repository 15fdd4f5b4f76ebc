//! Whatever happens in whatever order, and wherever the operator dies.

use super::{
    promotions::{forbid, pin},
    *,
};

const NATURES: [Nature; 8] = [
    Nature::Sound,
    Nature::Crashes,
    Nature::CrashesInWorker,
    Nature::Hangs,
    Nature::Restarts,
    Nature::CannotBePulled,
    Nature::FailsItsCheck,
    Nature::CannotBeCopied,
];

fn world(random: &mut fastrand::Rng) -> World {
    let mut more = json!({"gates": {"scan": {}}, "historyLimit": 4});
    if random.bool() {
        more["verification"] = json!([{"job": {"spec": {}}}]);
    }
    if random.bool() {
        more["copyTo"] = json!({"repositoryRef": {"name": "copy"}});
    }
    if random.bool() {
        more["onVerified"] = json!({"tag": "verified"});
    }
    more["rollback"] = json!({
        "onFailure": random.u8(0..4) > 0,
        "onScanRegression": random.bool(),
        "until": if random.bool() { "Resume" } else { "NewerImage" },
    });
    let mut world = World::new(&["app", "worker"], &more);
    if random.bool() {
        world.spec.rollout.order = crate::api::promotion::RolloutOrder::InOrder;
    }
    if random.bool() {
        world.workload("worker").via = Via::FluxKustomization;
        world.workload("worker").place = Some(digest(1));
    }
    world
}

/// One thing happens.
fn event(world: &mut World, random: &mut fastrand::Rng) {
    let pushed = u32::try_from(world.images.len()).unwrap();
    let some = random.u32(1..=pushed);
    let name = if random.bool() { "app" } else { "worker" };
    match random.u8(0..26) {
        0..=3 => {
            let nature = if random.bool() {
                Nature::Sound
            } else {
                NATURES[random.usize(0..8)]
            };
            world.push_as(pushed + 1, nature);
        }
        4 | 5 => world.set(name, random.u32(1..=pushed + 1)),
        6 => world.set_as(name, some, "argocd-controller", false),
        7 => {
            let (now, uid) = (world.now, random.u32(100..9_000));
            let workload = world.workload(name);
            workload.exists = random.bool();
            workload.uid = uid;
            workload.change(Some(digest(1)), now);
            workload.rejected.clear();
        }
        8 => world.fighter = random.bool().then(|| digest(some)),
        9 => world.close(some, if random.bool() { Gate::Scan } else { Gate::Window }),
        10 => world.closed.clear(),
        11 => drop(world.regressions.insert(digest(some), "a finding".into())),
        12 => world.regressions.clear(),
        13 => {
            let presence = [Presence::There, Presence::Archived, Presence::Gone];
            world.store(some, &presence[random.usize(0..3)]);
        }
        14 => world.registry_is_down = random.bool(),
        15 => {
            let pinned = random.bool().then(|| pin(some));
            world.edit(|spec| {
                spec.reject
                    .retain(|entry| Some(&entry.digest) != pinned.as_ref().map(|pin| &pin.digest));
                spec.pin = pinned;
            });
        }
        16 => world.edit(|spec| {
            if spec.pin.as_ref().is_none_or(|pin| pin.digest != digest(some)) {
                spec.reject = vec![forbid(some)];
            }
        }),
        17 => world.edit(|spec| spec.reject.clear()),
        18 => world.now += SignedDuration::from_secs(random.i64(1..900)),
        19 => world.kill = Some(Kill::Before(world.moves + random.usize(1..12))),
        20 => world.kill = Some(Kill::After(world.moves + random.usize(1..12))),
        25 => {
            world.locked.clear();
            if random.bool() {
                world.locked.insert(name.to_owned());
            }
        }
        24 => world.workload(name).is_owned = random.bool(),
        21 => drop(world.natures.insert(digest(some), NATURES[random.usize(0..8)])),
        _ => {
            let names = ["promote", "rollback", "pin", "reject", "resume", "approve"];
            let name = names[random.usize(0..names.len())];
            let rest = match name {
                "approve" => format!("{} jane", digest(some)),
                "resume" => String::new(),
                "reject" => digest(some).to_string(),
                _ if random.bool() => String::new(),
                _ => digest(some).to_string(),
            };
            world.ask(name, &rest);
        }
    }
}

/// Nothing happens any more, and what was broken between us and the world works again.
fn calm_down(world: &mut World) {
    world.fighter = None;
    world.registry_is_down = false;
    world.locked.clear();
    world.closed.clear();
    for workload in &mut world.workloads {
        workload.exists = true;
        workload.is_owned = false;
    }
    world.calm();
    // Reverts that were counted are forgotten by then.
    world.now += SignedDuration::from_mins(11);
    world.calm();
}

#[test]
fn whatever_happens_it_comes_to_rest_and_no_rejected_image_is_written() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = world(&mut random);
        for _ in 0..60 {
            event(&mut world, &mut random);
            for _ in 0..random.u8(0..5) {
                world.round();
            }
        }
        calm_down(&mut world);
        let (status, writes) = (world.status.clone(), world.writes.len());
        world.calm();
        assert_eq!(world.status, status, "seed {seed}");
        assert_eq!(world.writes.len(), writes, "seed {seed}");
        // What is wanted runs everywhere, unless it failed and was left, or somebody has to decide.
        let current = world.current();
        let is_left = current
            .as_ref()
            .is_none_or(|current| ledger::is_rejected(&world.spec, &world.status, current));
        let stopped = ["Contested", "Refused"];
        let is_stopped = stopped.contains(&world.status.phase.as_deref().unwrap_or_default());
        if !is_left && !is_stopped {
            assert!(
                world.runs().iter().all(|it| *it == current),
                "seed {seed}:\n{}",
                world.last_moves()
            );
        }
    }
}
