//! Every example of "Examples of lifecycle policies in Amazon ECR" that states a result, under the headings of that page;
//! and those that state none are read and taken.

use jiff::{SignedDuration, Timestamp};

use super::{Image, Policy, evaluate};

/// The moment at which all tests look.
pub(super) fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().expect("a time")
}

/// So many days ago.
pub(super) fn day(ago: i64) -> Timestamp {
    now() - SignedDuration::from_hours(24 * ago)
}

pub(super) fn image(digest: &str, tags: &[&str], days_ago: i64) -> Image {
    Image {
        digest: digest.to_owned(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        pushed_at: day(days_ago),
        pulled_at: None,
        archived_at: None,
        activated_at: None,
        children: Vec::new(),
        subject: None,
    }
}

/// A policy of these rules, in JSON; ECR would take it.
pub(super) fn policy(rules: &str) -> Policy {
    let value = serde_json::from_str(&format!(r#"{{"rules":{rules}}}"#)).expect("JSON");
    let policy = Policy::from_value(&value).expect("a policy");
    policy.check(0).expect("a policy that ECR takes");
    policy
}

/// What it acts on.
pub(super) fn expired(policy: &Policy, images: &[Image]) -> Vec<String> {
    evaluate(policy, images, now())
        .into_iter()
        .map(|doomed| doomed.digest)
        .collect()
}

/// A rule for tags that expires all images but some.
fn keep(selection: &str, most: u32) -> String {
    format!(
        r#"{{"selection":{{{selection},"countType":"imageCountMoreThan","countNumber":{most}}},"action":{{"type":"expire"}}}}"#
    )
}

fn after(selection: &str, days: u32) -> String {
    format!(
        r#"{{"selection":{{{selection},"countType":"sinceImagePushed","countUnit":"days","countNumber":{days}}},"action":{{"type":"expire"}}}}"#
    )
}

/// The page has had the same examples with prefixes and, since there are patterns, with patterns.
fn both_ways(rules: impl Fn(&dyn Fn(&[&str]) -> String) -> Vec<String>) -> [Policy; 2] {
    let patterns = |texts: &[&str]| {
        let list: Vec<_> = texts.iter().map(|text| format!("{text}*")).collect();
        format!(r#""tagStatus":"tagged","tagPatternList":{list:?}"#)
    };
    let prefixes = |texts: &[&str]| format!(r#""tagStatus":"tagged","tagPrefixList":{texts:?}"#);
    [
        policy(&format!("[{}]", rules(&patterns).join(","))),
        policy(&format!("[{}]", rules(&prefixes).join(","))),
    ]
}

fn beta_and_prod() -> [Image; 3] {
    [
        image("A", &["beta-1", "prod-1"], 10),
        image("B", &["beta-2", "prod-2"], 9),
        image("C", &["beta-3"], 8),
    ]
}

#[test]
fn filtering_on_image_count_keeps_only_one_untagged_image() {
    let one = policy(&format!("[{}]", keep(r#""tagStatus":"untagged""#, 1)));
    let images = [
        image("A", &[], 3),
        image("B", &[], 2),
        image("C", &["v1"], 9),
        image("D", &[], 1),
    ];
    assert_eq!(expired(&one, &images), ["A", "B"]);
}

#[test]
fn filtering_on_image_age_expires_what_begins_with_prod_and_is_older() {
    for policy in both_ways(|tagged| vec![after(&tagged(&["prod"]), 14)]) {
        let images = [
            image("A", &["prod1"], 15),
            image("B", &["prod2"], 13),
            image("C", &["dev"], 99),
        ];
        assert_eq!(expired(&policy, &images), ["A"]);
    }
}

#[test]
fn filtering_on_multiple_rules_example_a() {
    for policy in both_ways(|tagged| vec![keep(&tagged(&["prod"]), 1), keep(&tagged(&["beta"]), 1)]) {
        assert_eq!(expired(&policy, &beta_and_prod()), ["A"]);
    }
}

#[test]
fn filtering_on_multiple_rules_example_b() {
    for policy in both_ways(|tagged| vec![keep(&tagged(&["beta"]), 1), keep(&tagged(&["prod"]), 1)]) {
        assert_eq!(expired(&policy, &beta_and_prod()), ["A", "B"]);
    }
}

#[test]
fn filtering_on_multiple_tags_in_a_single_rule_example_a() {
    let images = [
        image("A", &["alpha-1"], 12),
        image("B", &["beta-1"], 11),
        image("C", &["alpha-2", "beta-2"], 10),
        image("D", &["alpha-3"], 4),
        image("E", &["beta-3"], 3),
        image("F", &["alpha-4", "beta-4"], 2),
    ];
    for policy in both_ways(|tagged| vec![after(&tagged(&["alpha", "beta"]), 5)]) {
        assert_eq!(expired(&policy, &images), ["C"]);
    }
}

#[test]
fn filtering_on_multiple_tags_in_a_single_rule_example_b() {
    let images = [
        image("A", &["alpha-1", "beta-1", "gamma-1"], 10),
        image("B", &["alpha-2", "beta-2"], 9),
        image("C", &["alpha-3", "beta-3", "gamma-2"], 8),
    ];
    for policy in both_ways(|tagged| vec![keep(&tagged(&["alpha", "beta"]), 1)]) {
        assert_eq!(expired(&policy, &images), ["A", "B"]);
    }
}

#[test]
fn filtering_on_all_images_example_a() {
    let images = [
        image("A", &["alpha-1"], 4),
        image("B", &["beta-1"], 3),
        image("C", &[], 2),
        image("D", &["alpha-2"], 1),
    ];
    let any = policy(&format!("[{}]", keep(r#""tagStatus":"any""#, 1)));
    assert_eq!(expired(&any, &images), ["A", "B", "C"]);
}

#[test]
fn filtering_on_all_images_example_b() {
    let images = [
        image("A", &["alpha-1", "beta-1"], 4),
        image("B", &[], 3),
        image("C", &["alpha-2"], 2),
        image("D", &["git hash"], 1),
        image("E", &[], 1),
    ];
    let rules = |tagged: &dyn Fn(&[&str]) -> String| {
        vec![
            keep(&tagged(&["alpha"]), 1),
            after(r#""tagStatus":"untagged""#, 1),
            keep(r#""tagStatus":"any""#, 1),
        ]
    };
    for policy in both_ways(rules) {
        let doomed = evaluate(&policy, &images, now());
        let seen: Vec<_> = doomed
            .iter()
            .map(|doomed| (doomed.digest.as_str(), doomed.rule))
            .collect();
        assert_eq!(seen, [("A", 1), ("B", 2), ("D", 3)]);
    }
}

#[test]
fn combining_archive_and_expire_rules() {
    let combined = policy(
        r#"[{"rulePriority":1,"description":"Archive images older than 30 days",
             "selection":{"tagStatus":"any","countType":"sinceImagePushed","countUnit":"days","countNumber":30},
             "action":{"type":"transition","targetStorageClass":"archive"}},
            {"rulePriority":2,"description":"Expire images archived for more than 365 days",
             "selection":{"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":365},
             "action":{"type":"expire"}}]"#,
    );
    let archived = |digest: &str, days: i64| Image {
        archived_at: Some(day(days)),
        ..image(digest, &["v1"], 900)
    };
    let images = [
        image("young", &["v3"], 29),
        image("old", &["v2"], 31),
        archived("kept", 364),
        archived("over", 366),
    ];
    assert_eq!(expired(&combined, &images), ["over", "old"]);
}
