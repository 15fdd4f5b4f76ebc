//! What holds a candidate, as plain functions.

use serde_json::{Value, json};

use super::*;
use crate::promotion::scan::{Findings, Scan};

fn digest(number: u32) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// 2026-11-24 is a Tuesday.
fn now() -> Timestamp {
    at("2026-11-24T12:00:00Z")
}

fn image(number: u32, since: &str) -> ImageStatus {
    ImageStatus {
        name: format!("v{number}"),
        digest: digest(number),
        tag: None,
        pushed_at: Some(at("2026-11-24T11:00:00Z")),
        since: Some(at(since)),
    }
}

fn from(soak: &str) -> From {
    serde_json::from_value(json!({ "promotionRef": { "name": "app", "namespace": "stg" }, "soak": soak })).unwrap()
}

fn there(change: impl FnOnce(&mut ImagePromotionStatus)) -> Upstream {
    let mut status = ImagePromotionStatus {
        current: Some(image(1, "2026-11-24T10:00:00Z")),
        last_good: Some(image(1, "2026-11-24T10:05:00Z")),
        ..ImagePromotionStatus::default()
    };
    change(&mut status);
    Upstream::There(Box::new(status))
}

struct World {
    upstream: Upstream,
    scans: Result<Vec<Scanned>, String>,
    signatures: Result<Evidence, String>,
    approvals: Vec<Approval>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            upstream: Upstream::Absent,
            scans: Err("nobody asked".into()),
            signatures: Err("nobody asked".into()),
            approvals: Vec::new(),
        }
    }
}

impl World {
    fn judge(&self, gates: &Value, from: Option<&From>) -> Vec<Closed> {
        let gates: Gates = serde_json::from_value(gates.clone()).unwrap();
        let known = Known {
            upstream: &self.upstream,
            scans: &self.scans,
            signatures: &self.signatures,
            approvals: &self.approvals,
        };
        judge(Some(&gates), from, &image(1, "2026-11-24T11:30:00Z"), known, now())
    }

    fn soaks(upstream: Upstream, soak: &str) -> Option<Closed> {
        let world = Self {
            upstream,
            ..Self::default()
        };
        let mut closed = world.judge(&json!({}), Some(&from(soak)));
        assert!(closed.len() <= 1);
        closed.pop()
    }
}

#[test]
fn without_gates_everything_passes() {
    assert_eq!(World::default().judge(&json!({}), None), []);
}

#[test]
fn an_image_soaks_where_it_is_good_without_a_break() {
    assert_eq!(World::soaks(there(|_| ()), "0s"), None);
    assert_eq!(World::soaks(there(|_| ()), "1h55m"), None);
    let waiting = World::soaks(there(|_| ()), "2h").unwrap();
    assert_eq!(waiting.opens, Some(at("2026-11-24T12:05:00Z")));
    assert_eq!(
        waiting.message,
        "it has been good in stg/app since 2026-11-24T10:05:00Z and must stay so until 2026-11-24T12:05:00Z"
    );
    let taken_back = there(|status| status.current = Some(image(1, "2026-11-24T11:10:00Z")));
    assert_eq!(
        World::soaks(taken_back, "1h").unwrap().opens,
        Some(at("2026-11-24T12:10:00Z")),
        "another one ran in between"
    );
    let replaced = || there(|status| status.current = Some(image(2, "2026-11-24T11:10:00Z")));
    assert_eq!(
        World::soaks(replaced(), "1h"),
        None,
        "it had soaked when it was replaced"
    );
    let too_early = World::soaks(replaced(), "2h").unwrap();
    assert_eq!(too_early.opens, None);
    assert!(
        too_early.message.contains("replaced in stg/app"),
        "{}",
        too_early.message
    );
}

#[test]
fn an_image_that_is_not_good_there_waits_and_says_for_what() {
    let rejection = json!({ "digest": digest(1), "name": "v1", "reason": "it crashed", "at": "2026-11-24T11:00:00Z" });
    let hold = json!({ "kind": "RolledBack", "reason": "x", "since": "2026-11-24T11:00:00Z", "awayFrom": digest(1), "until": "NewerImage" });
    for (upstream, part) in [
        (Upstream::Absent, "stg/app, which does not exist"),
        (Upstream::NotAllowed, "ecr-operator.dev/promotable-from"),
        (Upstream::Unknown("no answer".into()), "cannot be read: no answer"),
        (
            there(|status| status.last_good = None),
            "the last good image there is none",
        ),
        (
            there(|status| {
                status.current = None;
                status.last_good = Some(ImageStatus {
                    since: None,
                    ..image(1, "2026-11-24T09:00:00Z")
                });
            }),
            "does not say since when",
        ),
        (
            there(|status| status.last_good = Some(image(3, "2026-11-24T09:00:00Z"))),
            "the last good image there is v3",
        ),
        (
            there(|status| status.rejected = vec![serde_json::from_value(rejection.clone()).unwrap()]),
            "was rejected in stg/app: it crashed",
        ),
        (
            there(|status| status.hold = Some(serde_json::from_value(hold.clone()).unwrap())),
            "stg/app was taken back from it",
        ),
        (
            there(|status| status.regression = Some("1 CRITICAL".into())),
            "no longer passes the scan gate of stg/app: 1 CRITICAL",
        ),
        (
            Upstream::Circle(vec![name("a"), name("b")]),
            "in a circle, so that none ever begins: ns/a waits for ns/b",
        ),
    ] {
        let closed = World::soaks(upstream, "0s").unwrap();
        assert_eq!((closed.gate, closed.opens), (Gate::From, None));
        assert!(closed.message.contains(part), "{}", closed.message);
    }
}

#[test]
fn a_young_image_waits_until_it_is_old_enough() {
    let world = World::default();
    assert_eq!(world.judge(&json!({ "minAge": "1h" }), None), []);
    let closed = world.judge(&json!({ "minAge": "90m" }), None);
    assert_eq!(closed[0].opens, Some(at("2026-11-24T12:30:00Z")));
    assert_eq!(
        closed[0].message,
        "it was pushed at 2026-11-24T11:00:00Z and is old enough at 2026-11-24T12:30:00Z"
    );
}

fn scans(counts: &[(&str, u64)]) -> Vec<Scanned> {
    vec![Scanned {
        name: "linux/amd64".into(),
        digest: digest(1),
        scan: Scan {
            status: Some("COMPLETE".into()),
            findings: Some(Findings {
                counts: counts
                    .iter()
                    .map(|(severity, count)| ((*severity).to_owned(), *count))
                    .collect(),
                list: Vec::new(),
            }),
        },
    }]
}

#[test]
fn findings_hold_a_candidate_and_are_a_regression_of_what_runs() {
    let gates = json!({ "scan": {} });
    let clean = World {
        scans: Ok(scans(&[])),
        ..World::default()
    };
    assert_eq!(clean.judge(&gates, None), []);
    let critical = World {
        scans: Ok(scans(&[("CRITICAL", 1)])),
        ..World::default()
    };
    let closed = critical.judge(&gates, None);
    assert_eq!(closed[0].gate, Gate::Scan);
    assert_eq!(
        closed[0].message,
        "it has too many findings: 1 CRITICAL (at most 0) on linux/amd64"
    );
    let unread = World::default().judge(&gates, None);
    assert_eq!(unread[0].message, "its scan findings cannot be read: nobody asked");

    let gate = ScanGate::default();
    let now_and = |scans: &[Scanned], before: Option<&str>| regression(&gate, scans, before, now());
    assert_eq!(now_and(&scans(&[]), Some("1 CRITICAL")), None);
    assert!(now_and(&scans(&[("CRITICAL", 1)]), None).is_some());
    for status in ["FAILED", "IN_PROGRESS"] {
        let mut silent = scans(&[]);
        silent[0].scan = Scan {
            status: Some(status.into()),
            findings: None,
        };
        assert_eq!(
            now_and(&silent, None),
            None,
            "a scan that fails later takes nothing back"
        );
        assert_eq!(now_and(&silent, Some("1 CRITICAL")).as_deref(), Some("1 CRITICAL"));
    }
}

#[test]
fn approvals_are_of_different_people_and_of_this_digest() {
    let approval = |number: u32, by: &str| Approval {
        digest: digest(number),
        by: by.into(),
        at: now(),
    };
    let two = json!({ "approval": { "required": 2 } });
    let world = |approvals: Vec<Approval>| World {
        approvals,
        ..World::default()
    };
    assert_eq!(
        world(vec![approval(1, "ann"), approval(1, "bob")]).judge(&two, None),
        []
    );
    let twice = world(vec![approval(1, "ann"), approval(1, "ann"), approval(2, "bob")]).judge(&two, None);
    assert_eq!(twice[0].message, "it needs the approval of 2 people: approved by ann");
    let none = World::default().judge(&json!({ "approval": {} }), None);
    assert_eq!(none[0].message, "it needs an approval: nobody has approved it yet");
}

#[test]
fn windows_say_when_they_open() {
    let world = World::default();
    let closed = world.judge(
        &json!({ "windows": [{ "kind": "Deny", "from": "10:00", "to": "14:00" }] }),
        None,
    );
    assert_eq!(closed[0].opens, Some(at("2026-11-24T14:00:00Z")));
    assert_eq!(
        closed[0].message,
        "gates.windows let nothing begin before 2026-11-24T14:00:00Z"
    );
    let never = world.judge(
        &json!({ "windows": [{ "kind": "Deny", "from": "00:00", "to": "24:00" }] }),
        None,
    );
    assert_eq!(never[0].opens, None);
}

#[test]
fn all_closed_gates_are_told_in_their_order() {
    let gates = json!({
        "scan": {}, "approval": {}, "minAge": "1d",
        "signature": { "cosign": [{ "key": "x" }] },
        "windows": [{ "kind": "Deny", "from": "10:00", "to": "14:00" }]
    });
    let told: Vec<Gate> = World::default()
        .judge(&gates, Some(&from("0s")))
        .into_iter()
        .map(|closed| closed.gate)
        .collect();
    assert_eq!(
        told,
        [
            Gate::From,
            Gate::MinAge,
            Gate::Scan,
            Gate::Signature,
            Gate::Approval,
            Gate::Window
        ]
    );
}

fn name(name: &str) -> Name {
    Name {
        namespace: "ns".into(),
        name: name.into(),
    }
}

#[test]
fn a_circle_is_found_from_everywhere_and_told_in_the_same_words() {
    let edges = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(a, b)| (name(a), name(b)))
            .collect::<BTreeMap<_, _>>()
    };
    let circle_of = |pairs: &[(&str, &str)], start: &str| circle(&edges(pairs), &name(start));
    assert_eq!(circle_of(&[("prod", "stg"), ("stg", "dev")], "prod"), None);
    assert_eq!(circle_of(&[], "prod"), None);
    assert_eq!(circle_of(&[("a", "a")], "a"), Some(vec![name("a")]));
    let round = [("c", "b"), ("b", "a"), ("a", "c"), ("after", "b")];
    for start in ["a", "b", "c", "after"] {
        assert_eq!(
            circle_of(&round, start),
            Some(vec![name("a"), name("c"), name("b")]),
            "{start}"
        );
    }
}
