use super::*;

fn digest(n: u8) -> Digest {
    Digest::from_bytes(&[n; 32])
}

fn tag(text: &str) -> Tag {
    text.parse().unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    time("2026-11-24T10:00:00Z")
}

fn uses(digests: &[u8], tags: &[&str]) -> Uses {
    Uses {
        digests: digests.iter().copied().map(digest).collect(),
        tags: tags.iter().copied().map(tag).collect(),
    }
}

fn report(cluster: &str, published: &str, digests: &[u8]) -> Report {
    Report {
        cluster: tag(cluster),
        owner: "prod".into(),
        published: time(published),
        usage: Usage::from([("app".parse().unwrap(), uses(digests, &[]))]),
    }
}

fn readings(all: Vec<Reading>) -> BTreeMap<Tag, Reading> {
    all.into_iter()
        .enumerate()
        .map(|(n, reading)| {
            let id = match &reading {
                Reading::Read(report) | Reading::Unreadable(_, Some(report)) => report.cluster.clone(),
                Reading::Unreadable(_, None) => tag(&format!("unreadable-{n}")),
            };
            (id, reading)
        })
        .collect()
}

fn ids(all: &[&str]) -> BTreeSet<String> {
    all.iter().map(ToString::to_string).collect()
}

fn surveyed(all: Vec<Reading>, known: &[&str], retired: &[&str]) -> Survey {
    survey(
        &readings(all),
        &ids(known),
        &ids(retired),
        now(),
        SignedDuration::from_hours(7 * 24),
    )
}

fn digests(survey: &Survey) -> BTreeSet<Digest> {
    survey.usage.values().flat_map(|uses| uses.digests.clone()).collect()
}

const TODAY: &str = "2026-11-24T09:00:00Z";
const LONG_AGO: &str = "2026-11-01T09:00:00Z";

#[test]
fn what_any_cluster_uses_is_in_use() {
    let survey = surveyed(
        vec![
            Reading::Read(report("a", TODAY, &[1])),
            Reading::Read(report("b", TODAY, &[2])),
        ],
        &["a", "b"],
        &[],
    );
    assert_eq!(digests(&survey), [1, 2].map(digest).into());
    assert!(survey.gaps.is_empty() && survey.clusters.iter().all(|cluster| !cluster.silent));
}

#[test]
fn a_silent_cluster_stays_protected_until_it_is_retired() {
    let reading = || vec![Reading::Read(report("a", LONG_AGO, &[1]))];
    let silent = surveyed(reading(), &["a"], &[]);
    assert!(silent.clusters[0].silent && silent.gaps.is_empty());
    assert_eq!(digests(&silent), [digest(1)].into());
    let retired = surveyed(reading(), &["a"], &["a"]);
    assert!(retired.clusters.is_empty() && retired.gaps.is_empty() && digests(&retired).is_empty());
}

#[test]
fn a_cluster_that_is_called_retired_and_still_publishes_stays_protected() {
    let survey = surveyed(vec![Reading::Read(report("a", TODAY, &[1]))], &["a"], &["a"]);
    assert_eq!(digests(&survey), [digest(1)].into());
}

#[test]
fn a_report_that_cannot_be_read_is_a_gap_and_what_it_said_before_stays_in_use() {
    let before = Some(report("a", TODAY, &[1]));
    let survey = surveyed(vec![Reading::Unreadable("bad".into(), before)], &["a"], &[]);
    assert_eq!(digests(&survey), [digest(1)].into());
    assert!(survey.gaps[0].contains("cannot be read") && survey.unreadable == 1);
    let survey = surveyed(vec![Reading::Unreadable("bad".into(), None)], &[], &[]);
    assert_eq!(survey.gaps.len(), 1);
}

#[test]
fn a_report_that_is_gone_is_a_gap_until_its_cluster_is_retired() {
    let survey = surveyed(vec![Reading::Read(report("a", TODAY, &[1]))], &["a", "b"], &[]);
    assert!(survey.gaps[0].contains("cluster b is gone"), "{:?}", survey.gaps);
    assert!(survey.clusters[0].id == "b" && survey.clusters[0].silent);
    assert!(surveyed(vec![], &["b"], &["b"]).gaps.is_empty());
}

#[test]
fn more_clusters_than_can_be_remembered_are_a_gap() {
    let all = (0..=MOST_CLUSTERS).map(|n| Reading::Read(report(&format!("c{n}"), TODAY, &[1])));
    assert_eq!(surveyed(all.collect(), &[], &[]).gaps.len(), 1);
}

fn listing(asked: Uses, entries: &[(u8, Option<&str>)]) -> Listing {
    let mut listing = Listing::of(asked);
    for (n, name) in entries {
        listing.take(digest(*n), name.map(tag));
    }
    listing
}

#[test]
fn tags_are_the_images_that_have_them_and_what_is_not_there_is_counted() {
    let asked = uses(&[1, 9], &["v2", "gone"]);
    let listing = listing(asked.clone(), &[(1, Some("v1")), (2, Some("v2")), (3, Some("v3"))]);
    let wanted = wanted(&asked, &listing, &HashMap::new());
    assert_eq!(wanted.digests, [1, 2].map(digest).into());
    assert_eq!((wanted.missing, wanted.lone.len()), (2, 0));
}

#[test]
fn an_image_without_a_name_protects_its_index_too() {
    let asked = uses(&[1], &[]);
    let mine = digest(1).in_use_tag();
    let listing = listing(asked.clone(), &[(1, Some(mine.as_str())), (7, Some("v1"))]);
    let first = wanted(&asked, &listing, &HashMap::new());
    assert_eq!(first.lone, [digest(1)], "our own tag is no name");
    let found = wanted(&asked, &listing, &HashMap::from([(digest(1), Some(digest(7)))]));
    assert_eq!(found.digests, [1, 7].map(digest).into());
    assert!(found.lone.is_empty());
    let none = wanted(&asked, &listing, &HashMap::from([(digest(1), None)]));
    assert_eq!(none.digests, [digest(1)].into());
}

#[test]
fn images_in_use_get_their_tag_and_tags_of_others_go() {
    let parking = digest(100);
    let of = |n| digest(n).in_use_tag();
    let ours = BTreeMap::from([
        (of(1), digest(1)),
        (of(2), digest(2)),
        (of(3), parking.clone()),
        (of(4), digest(44)),
        (of(5), digest(55)),
        (of(6), parking.clone()),
    ]);
    let plan = plan(&[1, 5, 6, 7].map(digest).into(), &ours, &parking);
    // 5 was moved away by somebody, 6 is parked and is in use again, 7 has none yet.
    assert_eq!(plan.put, [5, 6, 7].map(digest));
    assert_eq!(plan.unused, [of(2), of(3)]);
    assert_eq!(plan.foreign, [of(4)]);
}

#[test]
fn only_from_its_own_image_a_tag_is_moved_and_only_from_the_parking_place_it_is_taken_away() {
    let (parking, mine) = (digest(100), digest(1).in_use_tag());
    let found = |holder: Option<u8>| release(&mine, holder.map(digest).as_ref(), &parking);
    assert_eq!(found(Some(1)), Release::Move);
    assert_eq!(found(Some(100)), Release::TakeAway);
    assert_eq!(found(Some(2)), Release::Leave);
    assert_eq!(found(None), Release::Gone);
    // A tag that keeps no digest is never moved, whatever it is on.
    for other in ["v1", "in-use.x", "in-use."] {
        assert_eq!(release(&tag(other), Some(&digest(1)), &parking), Release::Leave);
    }
}

#[test]
fn tags_that_only_look_like_ours_are_left_alone() {
    let hex = "0".repeat(64);
    for name in [
        "in-use.abc".to_owned(),
        format!("in-use.{}", "A".repeat(64)),
        format!("in-use.{hex}0"),
    ] {
        let listing = listing(Uses::default(), &[(1, Some(&name))]);
        assert!(listing.ours.is_empty(), "{name}");
    }
    assert_eq!(
        listing(Uses::default(), &[(1, Some(&format!("in-use.{hex}")))])
            .ours
            .len(),
        1
    );
}

#[test]
fn where_tags_are_immutable_ours_must_be_excepted() {
    let tag = digest(1).in_use_tag();
    let says = |value: &str, filters: &[&str]| {
        let mutability = Mutability::new(value, filters.iter().map(ToString::to_string));
        immovable(&mutability, tag.as_str())
    };
    assert_eq!(says("MUTABLE", &[]), None);
    for filter in ["in-use.*", "*", "in*", "*-use.*"] {
        assert_eq!(says("IMMUTABLE_WITH_EXCLUSION", &[filter]), None, "{filter}");
        assert!(says("MUTABLE_WITH_EXCLUSION", &[filter]).is_some(), "{filter}");
    }
    for filter in ["in-use.", "dev-*", "*x", "in-use.*z*"] {
        assert!(says("IMMUTABLE_WITH_EXCLUSION", &[filter]).is_some(), "{filter}");
        assert_eq!(says("MUTABLE_WITH_EXCLUSION", &[filter]), None, "{filter}");
    }
    assert!(says("IMMUTABLE", &[]).is_some());
    assert!(says("NEW", &["in-use.*"]).is_some());
}

#[test]
fn tags_of_ours_are_admitted_where_we_manage_the_mutability_and_no_other_changes() {
    let of = |value: &str, filters: &[&str]| Mutability::new(value, filters.iter().map(ToString::to_string));
    for (from, to) in [
        (of("IMMUTABLE", &[]), of("IMMUTABLE_WITH_EXCLUSION", &["in-use.*"])),
        (
            of("IMMUTABLE_WITH_EXCLUSION", &["dev-*"]),
            of("IMMUTABLE_WITH_EXCLUSION", &["dev-*", "in-use.*"]),
        ),
    ] {
        assert_eq!(admitting(&from), to);
        assert_eq!(admitting(&to), to);
    }
    for as_it_is in [
        of("MUTABLE", &[]),
        of("MUTABLE_WITH_EXCLUSION", &["v*"]),
        of("IMMUTABLE_WITH_EXCLUSION", &["in-*"]),
        of("IMMUTABLE_WITH_EXCLUSION", &["a*", "b*", "c*", "d*", "e*"]),
        of("NEW", &[]),
    ] {
        assert_eq!(admitting(&as_it_is), as_it_is);
    }
}
