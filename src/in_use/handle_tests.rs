use std::sync::Arc;

use futures::future::join_all;

use super::*;

fn digest(n: u8) -> Digest {
    Digest::from_bytes(&[n; 32])
}

fn app() -> RepositoryName {
    "team/app".parse().unwrap()
}

fn report(digests: impl IntoIterator<Item = u8>) -> Report {
    let mut usage = Usage::new();
    usage.entry(app()).or_default().digests = digests.into_iter().map(digest).collect();
    Report {
        cluster: "a".parse().unwrap(),
        owner: "prod".into(),
        published: jiff::Timestamp::UNIX_EPOCH,
        usage,
    }
}

fn kept(protection: Protection) -> Kept {
    Kept {
        protection,
        digests: [digest(1)].into(),
        tags: HashSet::new(),
        tagged: 1,
        cannot_release: None,
    }
}

#[tokio::test]
async fn what_is_reported_costs_nothing() {
    let in_use = InUse::default();
    in_use.reported(Some(report([1])));
    assert_eq!(in_use.ensure(&app(), &digest(1)).await, Ensured::Yes);
    let announced = in_use.announced();
    assert!(
        usage::names(&announced, &app(), &digest(1)),
        "the next report has it, too"
    );
}

#[tokio::test]
async fn many_that_wait_share_one_publication() {
    let in_use = Arc::new(InUse::default());
    in_use.reported(Some(report([])));
    let waiting = (1..=50).map(|n| {
        let in_use = Arc::clone(&in_use);
        async move { in_use.ensure(&app(), &digest(n)).await }
    });
    let publisher = async {
        in_use.publish.notified().await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        let usage = in_use.announced();
        in_use.reported(Some(Report { usage, ..report([]) }));
        in_use.published.borrow().to_owned()
    };
    let (answers, publications) = tokio::join!(join_all(waiting), publisher);
    assert!(answers.iter().all(|answer| *answer == Ensured::Yes));
    assert_eq!(publications, 2);
}

#[tokio::test]
async fn a_rollout_is_not_held_up_for_long_and_after_a_failure_not_at_all() {
    let in_use = InUse::default();
    let began = Instant::now();
    assert_eq!(in_use.ensure(&app(), &digest(1)).await, Ensured::No);
    assert!(began.elapsed() >= PATIENCE && began.elapsed() < PATIENCE * 2);
    in_use.could_not_publish("no".into());
    let began = Instant::now();
    assert_eq!(in_use.ensure(&app(), &digest(2)).await, Ensured::No);
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn what_was_pushed_is_reported_only_while_somebody_waits() {
    let in_use = InUse::default();
    in_use.expect(&app(), &digest(1));
    assert!(in_use.expected().is_empty());
    let waiting = Waiting::begin(&in_use);
    assert!(usage::names(&in_use.expected(), &app(), &digest(1)));
    drop(waiting);
    assert!(in_use.expected().is_empty());
}

#[test]
fn of_what_was_not_looked_at_nothing_is_said_to_be_protected() {
    let in_use = InUse::default();
    assert!(matches!(in_use.protection(&app()), Protection::Unknown(_)));
    assert!(!in_use.protects(&app(), &digest(1)) && in_use.protected(&app()) == 0);
}

#[test]
fn it_is_told_once_that_a_protection_became_complete() {
    let in_use = InUse::default();
    assert!(!in_use.keeps(&app(), kept(Protection::Pending { missing_tags: 1 })));
    assert!(in_use.keeps(&app(), kept(Protection::Complete)));
    assert!(!in_use.keeps(&app(), kept(Protection::Complete)));
    in_use.is_blind(&[app()], "the report is gone");
    assert_eq!(
        in_use.protection(&app()),
        Protection::Unknown("the report is gone".into())
    );
    assert!(in_use.protects(&app(), &digest(1)), "its tag is still there");
    assert!(in_use.keeps(&app(), kept(Protection::Complete)));
}

/// What a destination of replicated deletions uses.
#[test]
fn a_destination_is_covered_once_it_is_known_and_the_images_here_have_their_tags() {
    let in_use = InUse::default();
    let key = ("111122223333".parse().unwrap(), "us-east-1".parse().unwrap());
    let all = |_: &str| true;
    assert!(in_use.covers(&key, all).is_err(), "nothing is known yet");
    in_use.covering(BTreeMap::from([(key.clone(), Some("no Registry".to_owned()))]));
    assert_eq!(in_use.covers(&key, all), Err("no Registry".to_owned()));
    assert!(in_use.covering(BTreeMap::from([(key.clone(), None)])));
    assert_eq!(in_use.covers(&key, all), Ok(()));

    let web: RepositoryName = "team-a/web".parse().unwrap();
    in_use.keeps(&web, kept(Protection::Pending { missing_tags: 1 }));
    assert!(in_use.covers(&key, all).is_err());
    assert_eq!(in_use.covers(&key, |name| name.starts_with("team-b/")), Ok(()));
    in_use.keeps(&web, kept(Protection::Complete));
    assert_eq!(in_use.covers(&key, all), Ok(()));
    in_use.is_blind(std::slice::from_ref(&web), "a page failed");
    assert_eq!(in_use.covers(&key, all), Err("a page failed".to_owned()));

    in_use.keeps(&web, kept(Protection::Complete));
    in_use.cover_only(&[]);
    assert!(in_use.covers(&key, all).is_err(), "nobody asked for it meanwhile");
}
