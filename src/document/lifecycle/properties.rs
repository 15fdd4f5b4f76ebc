//! What holds for any policy and any images: a thousand of each, made from a seed.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::examples::{day, now};
use super::{Action, Count, Doomed, Image, Policy, Rule, Selection, StorageClass, Tags, evaluate};

const ROUNDS: u64 = 1000;
const TEXTS: &[&str] = &["alpha", "beta", "gamma", "in-", "v1", "v2"];

fn tags(rng: &mut Rng) -> Tags {
    let texts = |rng: &mut Rng, end: &str| {
        let mut list: Vec<_> = (0..rng.usize(1..=2))
            .map(|_| format!("{}{end}", TEXTS[rng.usize(..TEXTS.len())]))
            .collect();
        list.sort();
        list.dedup();
        list
    };
    match rng.u8(..6) {
        0 => Tags::Untagged,
        1 => Tags::Any,
        2 | 3 => Tags::Prefixes(texts(rng, "")),
        _ => Tags::Patterns(texts(rng, "*")),
    }
}

/// A policy that ECR takes; rules that would be refused are left out.
fn policy(rng: &mut Rng) -> Policy {
    let mut policy = Policy { rules: Vec::new() };
    for _ in 0..rng.usize(1..8) {
        let count = match rng.u8(..4) {
            0 => Count::ImagesMoreThan(rng.u32(1..6)),
            1 => Count::DaysSincePushed(rng.u32(1..60)),
            2 => Count::DaysSincePulled(rng.u32(1..60)),
            _ => Count::DaysSinceTransitioned(rng.u32(90..150)),
        };
        let archived = matches!(count, Count::DaysSinceTransitioned(_));
        let action = if rng.bool() { Action::Archive } else { Action::Expire };
        let class = if archived {
            StorageClass::Archive
        } else {
            StorageClass::Standard
        };
        policy.rules.push(Rule {
            priority: rng.u32(1..100),
            description: rng.bool().then(|| "why".to_owned()),
            selection: Selection {
                tags: tags(rng),
                class,
                count,
            },
            action,
        });
        if policy.check(0).is_err() {
            policy.rules.pop();
        }
    }
    policy.rules.sort_by_key(|rule| rule.priority);
    policy
}

/// Images among them some that are archived or restored, indexes, referrers; `protected` is on some of them.
fn images(rng: &mut Rng, protected: &str) -> Vec<Image> {
    let count = rng.usize(..16);
    (0..count)
        .map(|place| {
            let mut tags: BTreeSet<_> = (0..rng.usize(..4))
                .map(|_| format!("{}-{}", TEXTS[rng.usize(..TEXTS.len())], rng.u8(..9)))
                .collect();
            if !protected.is_empty() && rng.u8(..5) == 0 {
                tags.insert(format!("{protected}{place}"));
            }
            let pushed = rng.i64(0..400);
            let sometimes = |rng: &mut Rng| (rng.u8(..4) == 0).then(|| day(rng.i64(0..=pushed)));
            // Only on images that were there before: neither a manifest nor a digest can refer to what it is part of.
            let others = |rng: &mut Rng, most: usize| -> Vec<String> {
                (0..rng.usize(..=most))
                    .filter(|_| place > 0)
                    .map(|_| format!("sha256:{}", rng.usize(..place)))
                    .collect()
            };
            let (children, subject) = match rng.u8(..6) {
                0 | 1 => (others(rng, 3), None),
                2 => (Vec::new(), others(rng, 1).pop()),
                _ => (Vec::new(), None),
            };
            Image {
                digest: format!("sha256:{place}"),
                tags: tags.into_iter().collect(),
                pushed_at: day(pushed),
                pulled_at: sometimes(rng),
                archived_at: sometimes(rng),
                activated_at: sometimes(rng),
                children,
                subject,
            }
        })
        .collect()
}

/// Runs a check with many policies and images; a failure tells the seed.
fn always(protected: &str, check: impl Fn(&mut Rng, &Policy, &[Image])) {
    for seed in 0..ROUNDS {
        let mut rng = Rng::with_seed(seed);
        let (policy, images) = (policy(&mut rng), images(&mut rng, protected));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&mut rng, &policy, &images)));
        assert!(outcome.is_ok(), "with seed {seed}: {policy:?} {images:?}");
    }
}

fn find<'images>(images: &'images [Image], doomed: &Doomed) -> &'images Image {
    let image = images.iter().find(|image| image.digest == doomed.digest);
    image.expect("an image of the list")
}

const fn class(image: &Image) -> StorageClass {
    if image.archived_at.is_some() {
        StorageClass::Archive
    } else {
        StorageClass::Standard
    }
}

#[test]
fn the_generator_makes_every_kind_of_fate() {
    let mut seen = [0_usize; 4];
    for seed in 0..ROUNDS {
        let mut rng = Rng::with_seed(seed);
        let (policy, images) = (policy(&mut rng), images(&mut rng, ""));
        for doomed in evaluate(&policy, &images, now()) {
            let image = find(&images, &doomed);
            seen[usize::from(doomed.action == Action::Archive)] += 1;
            seen[2] += usize::from(image.subject.is_some());
            seen[3] += usize::from(images.iter().any(|index| index.children.contains(&image.digest)));
        }
    }
    assert!(seen.iter().all(|count| *count > 20), "{seen:?}");
}

#[test]
fn an_image_is_acted_on_at_most_once_and_the_oldest_first() {
    always("", |_, policy, images| {
        let doomed = evaluate(policy, images, now());
        let digests: BTreeSet<_> = doomed.iter().map(|doomed| &doomed.digest).collect();
        assert_eq!(digests.len(), doomed.len());
        let times: Vec<_> = doomed
            .iter()
            .map(|doomed| find(images, doomed))
            .map(|image| image.archived_at.or(image.activated_at).unwrap_or(image.pushed_at))
            .collect();
        assert!(times.is_sorted());
    });
}

#[test]
fn what_an_earlier_rule_asks_for_by_its_tags_no_later_one_acts_on() {
    always("", |_, policy, images| {
        for doomed in evaluate(policy, images, now()) {
            let image = find(images, &doomed);
            let earlier = policy.rules.iter().find(|rule| {
                rule.priority < doomed.rule
                    && rule.selection.class == class(image)
                    && rule.selection.tags.matches(&image.tags)
            });
            assert_eq!(earlier, None);
        }
    });
}

#[test]
fn an_archived_image_is_not_archived_again() {
    always("", |_, policy, images| {
        for doomed in evaluate(policy, images, now()) {
            assert!(doomed.action == Action::Expire || class(find(images, &doomed)) == StorageClass::Standard);
        }
    });
}

#[test]
fn the_order_of_images_rules_tags_and_lists_does_not_matter() {
    always("", |rng, policy, images| {
        let (mut other_policy, mut other_images) = (policy.clone(), images.to_vec());
        rng.shuffle(&mut other_policy.rules);
        rng.shuffle(&mut other_images);
        for rule in &mut other_policy.rules {
            if let Tags::Prefixes(list) | Tags::Patterns(list) = &mut rule.selection.tags {
                rng.shuffle(list);
            }
        }
        for image in &mut other_images {
            rng.shuffle(&mut image.tags);
            rng.shuffle(&mut image.children);
        }
        assert_eq!(
            evaluate(policy, images, now()),
            evaluate(&other_policy, &other_images, now())
        );
        assert!(policy.means_the_same(&other_policy));
    });
}

#[test]
fn nothing_that_is_protected_is_touched_nor_what_it_consists_of() {
    always("in-use.", |_, policy, images| {
        let is_protected = |image: &Image| image.tags.iter().any(|tag| tag.starts_with("in-use."));
        let protecting = policy.protecting("in-use.");
        assert_eq!(protecting.check(0), Ok(()));
        for doomed in evaluate(&protecting, images, now()) {
            let image = find(images, &doomed);
            assert!(!is_protected(image));
            let of_protected = images
                .iter()
                .filter(|index| is_protected(index) && index.children.contains(&image.digest));
            for index in of_protected {
                // With its index in the archive, nobody can pull it by the index anyway.
                assert!(doomed.action == Action::Archive && index.archived_at.is_some());
            }
        }
    });
}

#[test]
fn protection_changes_nothing_where_nothing_is_protected() {
    always("", |_, policy, images| {
        let fates = |policy: &Policy| {
            let doomed = evaluate(policy, images, now());
            doomed
                .into_iter()
                .map(|doomed| (doomed.digest, doomed.action))
                .collect::<Vec<_>>()
        };
        assert_eq!(fates(policy), fates(&policy.protecting("in-use.")));
    });
}

#[test]
fn a_text_gives_back_the_policy_it_was_made_from() {
    always("", |_, policy, _| {
        assert_eq!(Policy::parse(&policy.to_text()).as_ref(), Ok(policy));
    });
}
