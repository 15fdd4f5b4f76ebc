//! The choice among images, as plain functions.

use serde_json::{Value, json};

use super::*;

fn source(policy: &Value, filter: &Value) -> Source {
    let mut source = json!({ "repositoryRef": { "name": "app" }, "policy": policy });
    if !filter.is_null() {
        source["filter"] = filter.clone();
    }
    serde_json::from_value(source).unwrap()
}

fn digest(number: u32) -> Digest {
    format!("sha256:{number:064x}").parse().unwrap()
}

/// An image pushed `second` seconds after the epoch.
fn image(number: u32, second: i64, tags: &[&str]) -> Image {
    Image {
        digest: digest(number),
        tags: tags.iter().map(|tag| tag.parse().unwrap()).collect(),
        pushed_at: Timestamp::from_second(second).unwrap(),
        is_index: false,
        storage: Storage::Active,
    }
}

fn ranked(policy: &Value, filter: &Value, images: &[Image]) -> Vec<String> {
    let ranking = rank(&source(policy, filter), images, |_| false).unwrap();
    ranking.candidates.into_iter().map(|candidate| candidate.name).collect()
}

fn passed_over(ranking: &Ranking) -> Vec<String> {
    ranking
        .passed_over
        .iter()
        .map(|PassedOver { name, reason }| format!("{name} {reason}"))
        .collect()
}

#[test]
fn semver_takes_the_highest_version_of_the_range() {
    let images = [
        image(1, 1, &["v1.2.0"]),
        image(2, 2, &["v1.10.0", "latest"]),
        image(3, 3, &["1.9.0"]),
        image(4, 4, &["2.0.0"]),
        image(5, 5, &["1.11.0-rc.1"]),
    ];
    let policy = json!({ "semver": { "range": ">=1.2 <2" } });
    assert_eq!(ranked(&policy, &Value::Null, &images), ["v1.10.0", "1.9.0", "v1.2.0"]);
    let policy = json!({ "semver": { "range": ">=1.2 <2", "preReleases": true } });
    assert_eq!(ranked(&policy, &Value::Null, &images)[0], "1.11.0-rc.1");
}

#[test]
fn of_two_tags_of_one_version_the_one_pushed_last_wins_then_the_last_in_alphabetical_order() {
    let policy = json!({ "semver": { "range": "1.x" } });
    let images = [image(1, 1, &["v1.2.3"]), image(2, 2, &["1.2.3"])];
    assert_eq!(ranked(&policy, &Value::Null, &images), ["1.2.3", "v1.2.3"]);
    let images = [image(2, 1, &["1.2.3"]), image(1, 1, &["v1.2.3"])];
    assert_eq!(ranked(&policy, &Value::Null, &images), ["v1.2.3", "1.2.3"]);
}

#[test]
fn one_image_is_one_candidate_under_its_best_tag() {
    let policy = json!({ "semver": { "range": "*" } });
    let images = [image(1, 1, &["1.2.3", "1.2.4", "v1.2.4"]), image(2, 2, &["1.0.0"])];
    assert_eq!(ranked(&policy, &Value::Null, &images), ["v1.2.4", "1.0.0"]);
}

#[test]
fn a_tag_is_followed_and_a_digest_is_that_image_and_no_other() {
    let images = [image(1, 1, &["prod", "v1"]), image(2, 2, &["staging"])];
    let by_tag = rank(
        &source(&json!({ "tag": { "name": "prod" } }), &Value::Null),
        &images,
        |_| false,
    )
    .unwrap();
    let expected = ImageStatus {
        name: "prod".into(),
        digest: digest(1),
        tag: Some("prod".parse().unwrap()),
        pushed_at: Some(Timestamp::from_second(1).unwrap()),
        since: None,
    };
    assert_eq!(by_tag.candidates, [expected]);
    let by_digest = rank(&source(&json!({ "digest": digest(2) }), &Value::Null), &images, |_| {
        false
    })
    .unwrap();
    assert_eq!(by_digest.candidates[0].digest, digest(2));
    assert_eq!(by_digest.candidates[0].tag, None);
    assert_eq!(by_digest.candidates[0].name, "000000000000");
}

#[test]
fn the_image_pushed_last_is_an_index_before_its_parts() {
    let policy = json!({ "latestPushed": {} });
    let index = Image {
        is_index: true,
        ..image(1, 9, &[])
    };
    let images = [
        image(5, 8, &["old"]),
        index.clone(),
        image(3, 9, &["app"]),
        image(4, 9, &[]),
        image(2, 9, &[]),
    ];
    let ranking = rank(&source(&policy, &Value::Null), &images, |_| false).unwrap();
    let order: Vec<Digest> = ranking
        .candidates
        .into_iter()
        .map(|candidate| candidate.digest)
        .collect();
    assert_eq!(order, [digest(1), digest(3), digest(4), digest(2), digest(5)]);
    // With a filter, untagged images do not count.
    assert_eq!(ranked(&policy, &json!({ "include": "." }), &images), ["app", "old"]);
}

#[test]
fn alphabetical_compares_bytes_and_numerical_numbers_of_any_length() {
    let images = [
        image(1, 1, &["build-9"]),
        image(2, 2, &["build-10"]),
        image(3, 3, &["build-99999999999999999999999999999999999999"]),
        image(4, 4, &["build-10.5"]),
        image(5, 5, &["other"]),
    ];
    let filter = json!({ "include": "^build-(?P<n>.*)$", "extract": "$n" });
    assert_eq!(
        ranked(&json!({ "numerical": {} }), &filter, &images),
        [
            "build-99999999999999999999999999999999999999",
            "build-10.5",
            "build-10",
            "build-9"
        ]
    );
    assert_eq!(
        ranked(&json!({ "numerical": { "order": "Descending" } }), &filter, &images)[0],
        "build-9"
    );
    assert_eq!(
        ranked(&json!({ "alphabetical": {} }), &filter, &images)[..2],
        ["build-99999999999999999999999999999999999999", "build-9"]
    );
    assert_eq!(
        ranked(
            &json!({ "alphabetical": { "order": "Descending" } }),
            &Value::Null,
            &images
        )[0],
        "build-10"
    );
}

#[test]
fn equal_numbers_are_equal_however_they_are_written() {
    let policy = json!({ "numerical": {} });
    let images = [image(1, 1, &["010"]), image(2, 3, &["10.0"]), image(3, 2, &["10"])];
    assert_eq!(ranked(&policy, &Value::Null, &images), ["10.0", "10", "010"]);
    for text in ["", ".", "1.", ".5", "1.2.3", "-1", "1e3", "0x1", "+1"] {
        assert!(Number::parse(text).is_none(), "{text}");
    }
}

#[test]
fn versions_can_be_extracted_from_tags() {
    let images = [
        image(1, 1, &["app-1.2.3-amd64"]),
        image(2, 2, &["app-1.2.10-amd64"]),
        image(3, 3, &["web-9.0.0-amd64"]),
    ];
    let filter = json!({ "include": r"^app-(?P<version>\d+\.\d+\.\d+)-amd64$", "extract": "$version" });
    assert_eq!(
        ranked(&json!({ "semver": { "range": "1.x" } }), &filter, &images),
        ["app-1.2.10-amd64", "app-1.2.3-amd64"]
    );
}

#[test]
fn tags_of_the_operator_and_of_cosign_are_never_candidates() {
    let hex = "b".repeat(64);
    let (signature, in_use) = (format!("sha256-{hex}.sig"), format!("in-use.{hex}"));
    let images = [
        image(1, 1, &["v1.0.0"]),
        image(2, 2, &[&signature]),
        image(3, 3, &[&in_use]),
    ];
    let latest = json!({ "latestPushed": {} });
    // Nobody but us tagged the third: it counts as untagged.
    assert_eq!(ranked(&latest, &Value::Null, &images), ["000000000000", "v1.0.0"]);
    assert_eq!(
        ranked(&json!({ "alphabetical": {} }), &Value::Null, &images),
        ["v1.0.0"]
    );
    assert!(ranked(&json!({ "tag": { "name": in_use } }), &Value::Null, &images).is_empty());
    let ranking = rank(&source(&latest, &Value::Null), &images, |_| false).unwrap();
    assert_eq!(ranking.considered, 2);
}

#[test]
fn it_is_said_why_the_nearest_ones_were_not_it() {
    let archived = Image {
        storage: Storage::Archived,
        ..image(2, 2, &["1.4.0"])
    };
    let images = [
        image(1, 1, &["1.5.0"]),
        archived,
        image(3, 3, &["1.6.0-rc.1"]),
        image(4, 4, &["2.1.0"]),
        image(5, 5, &["2.2.0"]),
        image(6, 6, &["0.9.0"]),
        image(7, 7, &["latest"]),
        image(8, 8, &["1.9.0-debug"]),
    ];
    let source = source(
        &json!({ "semver": { "range": "1.x" } }),
        &json!({ "exclude": ["debug$"] }),
    );
    let ranking = rank(&source, &images, |rejected| *rejected == digest(1)).unwrap();
    assert!(ranking.candidates.is_empty());
    assert_eq!(
        passed_over(&ranking),
        [
            "1.5.0 was rejected",
            "1.4.0 is archived",
            "1.6.0-rc.1 is a pre-release",
            "2.2.0 is not in the range",
            "2.1.0 is not in the range",
        ]
    );
    assert_eq!(ranking.considered, 8);
    assert_eq!(
        ranking.nothing(&source),
        "no tag is a version in the range 1.x; nearest: 1.5.0 was rejected, 1.4.0 is archived, 1.6.0-rc.1 is a pre-release, \
         2.2.0 is not in the range, 2.1.0 is not in the range"
    );
}

#[test]
fn an_empty_repository_is_told_without_examples() {
    for (policy, expected) in [
        (
            json!({ "tag": { "name": "prod" } }),
            "no image that may be taken has the tag prod",
        ),
        (
            json!({ "latestPushed": {} }),
            "the repository has no image that may be taken",
        ),
        (json!({ "numerical": {} }), "no tag that may be taken is a number"),
    ] {
        let source = source(&policy, &Value::Null);
        let ranking = rank(&source, Vec::<Image>::new(), |_| false).unwrap();
        assert_eq!(ranking.nothing(&source), expected);
    }
}

#[test]
fn a_policy_or_filter_that_cannot_be_read_is_an_error_that_names_the_field() {
    for (policy, filter, part) in [
        (json!({}), Value::Null, "exactly one of"),
        (
            json!({ "latestPushed": {}, "numerical": {} }),
            Value::Null,
            "exactly one of",
        ),
        (
            json!({ "semver": { "range": "new" } }),
            Value::Null,
            "source.policy.semver.range",
        ),
        (
            json!({ "latestPushed": {} }),
            json!({ "include": "(" }),
            "source.filter.include",
        ),
    ] {
        let error = rank(&source(&policy, &filter), Vec::<Image>::new(), |_| false).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn any_order_of_the_same_images_gives_the_same_result() {
    let mut random = fastrand::Rng::with_seed(11);
    let words = ["latest", "prod", "debug", "x"];
    let policies = [
        json!({ "semver": { "range": ">=1 <3" } }),
        json!({ "semver": { "range": "*", "preReleases": true } }),
        json!({ "tag": { "name": "prod" } }),
        json!({ "digest": digest(7) }),
        json!({ "latestPushed": {} }),
        json!({ "alphabetical": {} }),
        json!({ "alphabetical": { "order": "Descending" } }),
        json!({ "numerical": {} }),
        json!({ "numerical": { "order": "Descending" } }),
    ];
    let filters = [
        Value::Null,
        json!({ "exclude": ["debug"] }),
        json!({ "include": "^v?([0-9].*)$", "extract": "$1" }),
    ];
    for _ in 0..20 {
        let mut images: Vec<Image> = (0..80)
            .map(|number| random_image(&mut random, number, &words))
            .collect();
        for policy in &policies {
            for filter in &filters {
                let source = source(policy, filter);
                let refused = |digest: &Digest| digest.as_str().ends_with('3');
                let first = rank(&source, &images, refused).unwrap();
                random.shuffle(&mut images);
                assert_eq!(rank(&source, &images, refused).unwrap(), first, "{policy} {filter}");
                assert!(first.candidates.len() <= MOST_CANDIDATES && first.passed_over.len() <= 5);
                assert!(first.candidates.iter().all(|candidate| !refused(&candidate.digest)));
            }
        }
    }
}

/// With few values, so that ties of every sort occur.
fn random_image(random: &mut fastrand::Rng, number: u32, words: &[&str]) -> Image {
    let mut tags: Vec<String> = Vec::new();
    for _ in 0..random.usize(0..3) {
        let (major, minor) = (random.u8(0..4), random.u8(0..3));
        tags.push(match random.u8(0..5) {
            0 => format!("{major}.{minor}.0"),
            1 => format!("v{major}.{minor}.0"),
            2 => format!("{major}.{minor}.0-rc.{}", random.u8(0..2)),
            3 => format!("{}", random.u16(0..30)),
            _ => words[random.usize(..words.len())].to_owned(),
        });
    }
    tags.sort();
    tags.dedup();
    Image {
        is_index: random.bool(),
        storage: [Storage::Active, Storage::Active, Storage::Archived, Storage::Activating][random.usize(0..4)],
        ..image(
            number,
            random.i64(0..4),
            &tags.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    }
}

#[test]
fn the_best_of_many_are_the_best_of_all() {
    let mut random = fastrand::Rng::with_seed(3);
    let images: Vec<Image> = (0..5_000)
        .map(|number| image(number, i64::from(number), &[&format!("1.{}.{number}", random.u16(..))]))
        .collect();
    let mut expected: Vec<(Version, String)> = images
        .iter()
        .map(|image| (version(image.tags[0].as_str()).unwrap(), image.tags[0].to_string()))
        .collect();
    expected.sort_by(|a, b| b.0.cmp(&a.0));
    let expected: Vec<String> = expected.into_iter().take(MOST_CANDIDATES).map(|(_, tag)| tag).collect();
    assert_eq!(
        ranked(&json!({ "semver": { "range": "1.x" } }), &Value::Null, &images),
        expected
    );
}
