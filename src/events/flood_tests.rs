//! Floods, and what they cost.

use super::*;

fn web() -> Subject {
    Subject::Repository("team-a/web".parse().unwrap())
}

#[test]
fn a_flood_has_a_few_looks_at_once_and_then_one_now_and_then() {
    let (mut flood, start) = (Flood::default(), Instant::now());
    let at_once = (0..1_000).filter(|_| flood.admit(web(), start)).count();
    assert_eq!(at_once, 5);
    assert!(flood.release(start).is_empty());
    assert_eq!(flood.due(), Some(start + ANOTHER));
    assert_eq!(
        flood.release(start + ANOTHER),
        [web()],
        "one for all that were held back"
    );
    assert_eq!(flood.due(), None);
    let mut looks = 0;
    for second in 11..=110 {
        let now = start + Duration::from_secs(second);
        looks += usize::from(flood.admit(web(), now)) + flood.release(now).len();
    }
    assert_eq!(looks, 10);
}

#[test]
fn one_thing_in_a_flood_holds_back_no_other() {
    let (mut flood, now) = (Flood::default(), Instant::now());
    while flood.admit(web(), now) {}
    assert!(flood.admit(Subject::Registry, now));
}

#[test]
fn what_was_quiet_is_forgotten_and_what_is_owed_is_not() {
    let (mut flood, now) = (Flood::default(), Instant::now());
    assert!(flood.admit(web(), now));
    while flood.admit(Subject::Registry, now) {}
    assert_eq!(flood.looks.len(), 2);
    assert_eq!(flood.release(now + ANOTHER), [Subject::Registry]);
    assert_eq!(flood.looks.len(), 1);
    flood.release(now + ANOTHER * 6);
    assert!(flood.looks.is_empty());
}
