//! Findings of the scan that appear on the image that runs.

use super::*;
use crate::control::reason::Reason;

fn scanned(rolls_back: bool) -> World {
    World::new(
        &["app"],
        &json!({"gates": {"scan": {}}, "rollback": {"onScanRegression": rolls_back}}),
    )
}

#[test]
fn findings_that_appear_later_are_told_once() {
    play(
        || scanned(false),
        |world| {
            world.push(2);
            world.calm();
            world.regressions.insert(digest(2), "CVE-1 is critical".into());
            world.calm();
            world.assert_runs(2);
            assert!(world.status.regression.is_some());
            world.regressions.clear();
            world.calm();
            assert!(world.status.regression.is_none());
        },
    );
    let mut world = scanned(false);
    world.push(2);
    world.calm();
    world.regressions.insert(digest(2), "x".repeat(3_000));
    world.calm();
    world.calm();
    assert_eq!(world.was_told("ScanRegression"), 1);
}

#[test]
fn findings_that_appear_later_take_the_targets_back_where_that_is_asked_for() {
    play(
        || scanned(true),
        |world| {
            world.push(2);
            world.calm();
            world.regressions.insert(digest(2), "CVE-1 is critical".into());
            world.calm();
            world.assert_runs(1);
            assert_eq!(world.rejected(), [digest(2)].into());
            assert_eq!(world.last_good(), Some(digest(1)));
        },
    );
}

#[test]
fn findings_with_nothing_to_go_back_to_are_told_once_and_the_image_stays() {
    play(
        || scanned(true),
        |world| {
            world.push(2);
            world.calm();
            world.store(1, &Presence::Archived);
            world.regressions.insert(digest(2), "CVE-1 is critical".into());
            let rest = world.calm();
            world.assert_runs(2);
            assert_eq!(rest.verdict.reason(), Reason::Failed);
            assert!(rest.verdict.to_string().contains("archived"));
            assert!(world.rejected().is_empty());
        },
    );
}
