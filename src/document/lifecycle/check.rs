//! ECR's grammar, as far as single fields do not tell it.

use super::{Action, CHARACTERS, Count, Error, MOST_RULES, Policy, Rule, StorageClass, Tags};

/// The fewest days that an image stays in the archive before a rule may delete it.
const FEWEST_ARCHIVED_DAYS: u32 = 90;

/// The most `*` in a pattern.
const MOST_STARS: usize = 4;

/// Refuses what is wrong in a rule, or between two of them.
pub(super) fn grammar(rules: &[Rule]) -> Result<(), Error> {
    for (place, rule) in rules.iter().enumerate() {
        alone(place, rule)?;
    }
    for (second, later) in rules.iter().enumerate() {
        for (first, rule) in rules.iter().enumerate().take(second) {
            together((first, rule), (second, later))?;
        }
    }
    Ok(())
}

/// Refuses what is too much or too little as a whole.
pub(super) fn size(policy: &Policy, reserved_rules: usize) -> Result<(), Error> {
    let (rules, most) = (policy.rules.len(), MOST_RULES.saturating_sub(reserved_rules));
    if rules == 0 {
        return Err(Error::NoRules);
    }
    if rules > most {
        return Err(Error::TooManyRules { rules, most });
    }
    match policy.to_text().chars().count() {
        characters if characters > *CHARACTERS.end() => Err(Error::TooLong { characters }),
        characters if characters < *CHARACTERS.start() => Err(Error::TooShort { characters }),
        _ => Ok(()),
    }
}

fn alone(place: usize, rule: &Rule) -> Result<(), Error> {
    if rule.priority == 0 {
        return Err(Error::PriorityZero { rule: place });
    }
    if let Tags::Patterns(list) | Tags::Prefixes(list) = &rule.selection.tags {
        entries(place, &rule.selection.tags, list)?;
    }
    let count = rule.selection.count;
    if count.number() == 0 {
        return Err(Error::CountZero { rule: place });
    }
    let archived = rule.selection.class == StorageClass::Archive;
    match count {
        Count::DaysSinceTransitioned(_) if !archived => Err(Error::OnlyForArchive { rule: place }),
        Count::DaysSinceTransitioned(_) if rule.action == Action::Archive => Err(Error::OnlyExpires { rule: place }),
        Count::DaysSinceTransitioned(days) if days < FEWEST_ARCHIVED_DAYS => Err(Error::TooSoon { rule: place, days }),
        Count::DaysSinceTransitioned(_) => Ok(()),
        _ if archived => Err(Error::NotForArchive {
            rule: place,
            kind: count.kind(),
        }),
        Count::DaysSincePulled(_) if rule.action == Action::Expire => Err(Error::OnlyTransitions { rule: place }),
        _ => Ok(()),
    }
}

fn entries(place: usize, tags: &Tags, list: &[String]) -> Result<(), Error> {
    let name = list_of(tags);
    if list.is_empty() {
        return Err(Error::EmptyList {
            rule: place,
            list: name,
        });
    }
    if list.iter().any(String::is_empty) {
        return Err(Error::EmptyEntry {
            rule: place,
            list: name,
        });
    }
    let too_many = |pattern: &&String| pattern.matches('*').count() > MOST_STARS;
    if let (Tags::Patterns(_), Some(pattern)) = (tags, list.iter().find(too_many)) {
        return Err(Error::TooManyStars {
            rule: place,
            pattern: pattern.clone(),
        });
    }
    Ok(())
}

fn together((first, one): (usize, &Rule), (second, other): (usize, &Rule)) -> Result<(), Error> {
    if one.priority == other.priority {
        let priority = one.priority;
        return Err(Error::SamePriority {
            first,
            second,
            priority,
        });
    }
    if one.selection.class != other.selection.class {
        return Ok(());
    }
    let ((sooner, rule), (later, _)) = if one.priority < other.priority {
        ((first, one), (second, other))
    } else {
        ((second, other), (first, one))
    };
    if rule.selection.tags == Tags::Any {
        return Err(Error::AnyIsNotLast { rule: sooner, later });
    }
    if one.selection.tags.clone().normal() != other.selection.tags.clone().normal() {
        return Ok(());
    }
    Err(match &one.selection.tags {
        Tags::Untagged => Error::TwoUntagged { first, second },
        tags => Error::SameTags {
            first,
            second,
            list: list_of(tags),
        },
    })
}

const fn list_of(tags: &Tags) -> &'static str {
    match tags {
        Tags::Patterns(_) => "tagPatternList",
        _ => "tagPrefixList",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A policy of rules that differ from a usual one as told; each rule has tags of its own.
    fn refused(changes: &[&[(&str, Value)]]) -> String {
        let rules = changes.iter().enumerate().map(|(place, changes)| {
            let mut rule = json!({
                "selection": {"tagStatus": "tagged", "tagPrefixList": [format!("p{place}")], "countType": "imageCountMoreThan", "countNumber": 3},
                "action": {"type": "expire"},
            });
            for (path, value) in *changes {
                let (way, key) = path.rsplit_once('/').unwrap_or(("", path));
                let parent = rule.pointer_mut(way).and_then(Value::as_object_mut).expect("an object");
                parent.insert(key.to_owned(), value.clone());
            }
            rule
        });
        let document = json!({"rules": rules.collect::<Vec<_>>()});
        match Policy::from_value(&document).and_then(|policy| policy.check(0)) {
            Ok(()) => "taken".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    fn one(changes: &[(&str, Value)]) -> String {
        refused(&[&[], changes])
    }

    fn since(kind: &str) -> [(&'static str, Value); 2] {
        [
            ("/selection/countType", json!(kind)),
            ("/selection/countUnit", json!("days")),
        ]
    }

    fn archive() -> (&'static str, Value) {
        (
            "/action",
            json!({"type": "transition", "targetStorageClass": "archive"}),
        )
    }

    #[test]
    fn a_message_names_rule_field_and_cure() {
        assert_eq!(one(&[]), "taken");
        assert_eq!(
            one(&[("/selection/countNumber", json!(0))]),
            "rules[1].selection.countNumber is 0: ECR takes 1 and more"
        );
        assert_eq!(
            one(&[("/selection/countType", json!("sinceImagePushed"))]),
            "rules[1].selection.countUnit is missing: sinceImagePushed counts days, so write countUnit: days"
        );
        assert_eq!(
            one(&[("/selection/tagStatus", json!("Any"))]),
            "rules[1].selection.tagStatus has the unknown value \"Any\": it takes tagged, untagged and any, in this spelling"
        );
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        for (path, place) in [
            ("/colour", "rules[1]"),
            ("/selection/colour", "rules[1].selection"),
            ("/action/colour", "rules[1].action"),
        ] {
            let message = one(&[(path, json!(1))]);
            assert!(
                message.starts_with(&format!("{place} has the unknown key \"colour\": it takes ")),
                "{message}"
            );
        }
        let message = Policy::parse(r#"{"rules":[],"Rules":[]}"#)
            .expect_err("an error")
            .to_string();
        assert!(message.contains("\"Rules\""), "{message}");
        let message = one(&[("/selection/countType", json!("sinceImageScanned"))]);
        assert!(
            message.contains("rules[1].selection.countType has the unknown value"),
            "{message}"
        );
    }

    #[test]
    fn tag_lists_go_with_tagged_and_exactly_one_of_them() {
        let both = one(&[("/selection/tagPatternList", json!(["a*"]))]);
        assert!(both.contains("both tagPatternList and tagPrefixList"), "{both}");
        let neither = one(&[("/selection/tagPrefixList", Value::Null)]);
        assert!(
            neither.contains("neither tagPatternList nor tagPrefixList"),
            "{neither}"
        );
        for status in ["untagged", "any"] {
            let message = one(&[("/selection/tagStatus", json!(status))]);
            assert!(
                message.starts_with("rules[1].selection.tagPrefixList is given with tagStatus"),
                "{message}"
            );
        }
        let empty = one(&[("/selection/tagPrefixList", json!([]))]);
        assert!(empty.contains("tagPrefixList is empty"), "{empty}");
        let entry = one(&[("/selection/tagPrefixList", json!(["a", ""]))]);
        assert!(entry.contains("empty entry"), "{entry}");
    }

    #[test]
    fn a_pattern_has_at_most_four_stars() {
        let patterns = |list: Value| {
            one(&[
                ("/selection/tagPrefixList", Value::Null),
                ("/selection/tagPatternList", list),
            ])
        };
        assert_eq!(patterns(json!(["*test*1*2*3", "test*1*2*3*"])), "taken");
        let message = patterns(json!(["test*1*2*3*4*5*6"]));
        assert!(message.contains("more than four *"), "{message}");
    }

    #[test]
    fn priorities_differ_and_any_is_the_last_of_its_class() {
        let any = [(
            "/selection",
            json!({"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1}),
        )];
        let archived_any = [(
            "/selection",
            json!({"tagStatus": "any", "storageClass": "archive", "countType": "sinceImageTransitioned", "countUnit": "days", "countNumber": 90}),
        )];
        assert_eq!(refused(&[&[], &any]), "taken");
        assert_eq!(
            refused(&[&any, &archived_any]),
            "taken",
            "each class has its own last rule"
        );
        let message = refused(&[&any, &[]]);
        assert!(
            message.contains("rules[0]") && message.contains("rules[1] of the same storage class"),
            "{message}"
        );
        let message = refused(&[
            &[("/rulePriority", json!(9))],
            &[any[0].clone(), ("/rulePriority", json!(3))],
        ]);
        assert!(
            message.starts_with("rules[1].selection.tagStatus is any, and rules[0]"),
            "{message}"
        );
        assert!(refused(&[&any, &any]).contains("is any"));
        let same = refused(&[&[("/rulePriority", json!(2))], &[("/rulePriority", json!(2))]]);
        assert_eq!(
            same,
            "rules[0] and rules[1] have the same rulePriority 2: give each its own, or none at all"
        );
        assert!(one(&[("/rulePriority", json!(0))]).contains("the first priority is 1"));
    }

    #[test]
    fn tags_are_asked_for_once_in_a_class() {
        let untagged = [(
            "/selection",
            json!({"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1}),
        )];
        assert!(refused(&[&untagged, &untagged]).contains("both have tagStatus untagged"));
        let tags = |list: Value| [("/selection/tagPrefixList", list)];
        let message = refused(&[&tags(json!(["a", "b"])), &tags(json!(["b", "a", "a"]))]);
        assert!(message.contains("the same tagPrefixList"), "{message}");
        assert_eq!(refused(&[&tags(json!(["a", "b"])), &tags(json!(["a"]))]), "taken");
    }

    #[test]
    fn units_and_classes_go_with_what_is_counted() {
        assert!(one(&[("/selection/countUnit", json!("days"))]).contains("leave it out"));
        let [kind, unit] = since("sinceImagePushed");
        assert!(one(&[kind, (unit.0, json!("hours"))]).contains("unknown value \"hours\""));
        let class = ("/selection/storageClass", json!("archive"));
        assert!(one(std::slice::from_ref(&class)).contains("imageCountMoreThan only knows images of class standard"));
        let [kind, unit] = since("sinceImageTransitioned");
        let days = ("/selection/countNumber", json!(90));
        let transitioned = [kind, unit, days, class];
        assert_eq!(one(&transitioned), "taken");
        assert!(one(&transitioned[..3]).contains("write storageClass: archive"));
        let mut soon = transitioned.clone();
        soon[2].1 = json!(89);
        assert!(one(&soon).contains("so write 90 or more"));
        let mut moved = transitioned.to_vec();
        moved.push(archive());
        assert!(one(&moved).contains("set it to expire"));
    }

    #[test]
    fn what_was_not_pulled_is_archived_and_not_deleted() {
        let [kind, unit] = since("sinceImagePulled");
        assert!(one(&[kind.clone(), unit.clone()]).contains("only goes with transition"));
        assert_eq!(one(&[kind, unit, archive()]), "taken");
        assert!(one(&[("/action", json!({"type": "transition"}))]).contains("targetStorageClass is missing"));
        let expire = json!({"type": "expire", "targetStorageClass": "archive"});
        assert!(one(&[("/action", expire)]).contains("given with type expire"));
    }

    #[test]
    fn rules_and_characters_are_counted() {
        let policy = |rules: usize, description: &str| {
            let rules = (0..rules).map(|place| {
                json!({
                    "description": description,
                    "selection": {"tagStatus": "tagged", "tagPrefixList": [format!("p{place}")], "countType": "imageCountMoreThan", "countNumber": 3},
                    "action": {"type": "expire"},
                })
            });
            Policy::from_value(&json!({"rules": rules.collect::<Vec<_>>()})).expect("a policy")
        };
        assert_eq!(policy(50, "").check(0), Ok(()));
        assert_eq!(policy(48, "").check(2), Ok(()));
        assert_eq!(
            policy(49, "").check(2),
            Err(Error::TooManyRules { rules: 49, most: 48 })
        );
        assert_eq!(policy(0, "").check(0), Err(Error::NoRules));
        let frame = policy(1, "").to_text().chars().count();
        let longest = "é".repeat(30_720 - frame);
        assert_eq!(policy(1, &longest).check(0), Ok(()));
        let characters = 30_721;
        assert_eq!(
            policy(1, &format!("{longest}e")).check(0),
            Err(Error::TooLong { characters })
        );
    }
}
