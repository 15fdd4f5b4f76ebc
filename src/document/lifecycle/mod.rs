//! ECR lifecycle policies: which images a repository lets go of, and when.
//!
//! Pure: a policy is read ([`Policy::parse`], [`Policy::from_value`]), held to ECR's grammar ([`Policy::check`]), compared
//! by meaning ([`Policy::means_the_same`]), composed with the protection of images in use ([`Policy::protecting`]) and
//! evaluated over a list of images ([`evaluate`]).
//!
//! What it knows comes from "Automate the cleanup of images by using lifecycle policies", "Lifecycle policy properties"
//! and "Examples of lifecycle policies" in the Amazon ECR User Guide. The AWS stand-in of the tests compiles these very
//! files, so nothing here names anything else of this crate.

mod check;
mod error;
mod evaluate;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod properties;
mod read;
mod tags;
mod write;

use serde_json::Value;

pub(crate) use error::Error;
pub(crate) use evaluate::{Doomed, Image, evaluate};

/// The most rules a policy has (`LifecyclePolicy` in the service quotas of ECR).
pub(crate) const MOST_RULES: usize = 50;

/// The shortest and the longest text ECR takes, in characters (`LifecyclePolicyText` in the ECR API Reference).
pub(crate) const CHARACTERS: std::ops::RangeInclusive<usize> = 100..=30_720;

/// Days or images that nothing reaches: the largest number is not documented, and this one is known to be taken.
const NEVER: u32 = 999_999;

/// A lifecycle policy, its rules sorted by priority.
///
/// `==` compares numbers and texts as they are; what the policy does is compared by [`Policy::means_the_same`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// In the order in which they are applied.
    pub(crate) rules: Vec<Rule>,
}

/// One rule: which images, and what becomes of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The lowest number is applied first.
    pub(crate) priority: u32,
    pub(crate) description: Option<String>,
    pub(crate) selection: Selection,
    pub(crate) action: Action,
}

/// Which images a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selection {
    pub(crate) tags: Tags,
    pub(crate) class: StorageClass,
    pub(crate) count: Count,
}

/// A rule's tagging requirements. An image that meets them is out of reach of all later rules of its storage class.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tags {
    /// Images without a tag.
    Untagged,
    /// All images.
    Any,
    /// Images of which some tag begins with the text, for each of these texts. Sorted, none twice.
    Prefixes(Vec<String>),
    /// Images of which some tag is like the pattern, where `*` stands for any text, for each of these. Sorted, none twice.
    Patterns(Vec<String>),
}

/// Where images are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StorageClass {
    Standard,
    Archive,
}

/// What is too many or too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// `imageCountMoreThan`
    ImagesMoreThan(u32),
    /// `sinceImagePushed`
    DaysSincePushed(u32),
    /// `sinceImagePulled`
    DaysSincePulled(u32),
    /// `sinceImageTransitioned`
    DaysSinceTransitioned(u32),
}

/// What becomes of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// It is deleted.
    Expire,
    /// It is moved to the archive, from where it cannot be pulled: `transition`.
    Archive,
}

/// A rule reduced to what it does and says.
type Meaning<'rule> = (Option<&'rule str>, Tags, StorageClass, Count, Action);

impl Policy {
    /// Reads a policy as ECR gives it back.
    ///
    /// What says something this module does not know is an error, for it could not be written back whole. Whether it keeps
    /// to the grammar is asked of [`Self::check`]: ECR has taken it, whatever is said here. Where a rule has no
    /// `rulePriority`, it has the previous rule's plus one, and the first has 1.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        let value: Value = serde_json::from_str(text).map_err(|error| Error::NotJson(error.to_string()))?;
        Ok(Self::sorted(read::rules(&value)?))
    }

    /// Reads a policy as a manifest has it, and refuses what is against the grammar, naming rules by their place there.
    ///
    /// How many rules and characters there may be depends on what is added to it: see [`Self::check`].
    pub(crate) fn from_value(value: &Value) -> Result<Self, Error> {
        let rules = read::rules(value)?;
        check::grammar(&rules)?;
        Ok(Self::sorted(rules))
    }

    /// Refuses what ECR would refuse. `reserved_rules` of the rules that a policy may have are kept free for others.
    ///
    /// The messages name rules by their place among [`Self::rules`], from 0.
    pub(crate) fn check(&self, reserved_rules: usize) -> Result<(), Error> {
        check::grammar(&self.rules)?;
        check::size(self, reserved_rules)
    }

    /// The compact JSON to send to ECR; the same policy always gives the same text, and reading it gives an equal policy.
    pub(crate) fn to_text(&self) -> String {
        write::text(self)
    }

    /// Whether both do the same, and say the same of it.
    ///
    /// Not part of the meaning: the layout, the order of rules and of the entries of lists, the numbers of priorities as
    /// long as they put the rules into the same order, a storage class that is written out where it would go without saying.
    pub(crate) fn means_the_same(&self, other: &Self) -> bool {
        self.meaning() == other.meaning()
    }

    /// This policy, with the images of which a tag begins with `prefix` out of its reach.
    ///
    /// An image that meets the tagging requirements of a rule is not acted on by a later one of the same storage class: so
    /// a rule that never strikes comes first, one for each class that the policy has rules for. The others follow,
    /// renumbered without gaps.
    pub(crate) fn protecting(&self, prefix: &str) -> Self {
        let guard = |class, count| Rule {
            priority: 0,
            description: Some("Images in use stay".to_owned()),
            selection: Selection {
                tags: Tags::Prefixes(vec![prefix.to_owned()]),
                class,
                count,
            },
            action: Action::Expire,
        };
        let mut rules = vec![guard(StorageClass::Standard, Count::ImagesMoreThan(NEVER))];
        if self
            .rules
            .iter()
            .any(|rule| rule.selection.class == StorageClass::Archive)
        {
            rules.push(guard(StorageClass::Archive, Count::DaysSinceTransitioned(NEVER)));
        }
        rules.extend(Self::sorted(self.rules.clone()).rules);
        for (priority, rule) in (1..).zip(&mut rules) {
            rule.priority = priority;
        }
        Self { rules }
    }

    fn meaning(&self) -> Vec<Meaning<'_>> {
        let mut rules: Vec<_> = self.rules.iter().collect();
        rules.sort_by_key(|rule| rule.priority);
        rules.into_iter().map(Rule::meaning).collect()
    }

    fn sorted(mut rules: Vec<Rule>) -> Self {
        rules.sort_by_key(|rule| rule.priority);
        Self { rules }
    }
}

impl Rule {
    fn meaning(&self) -> Meaning<'_> {
        (
            self.description.as_deref().filter(|text| !text.is_empty()),
            self.selection.tags.clone().normal(),
            self.selection.class,
            self.selection.count,
            self.action,
        )
    }
}

impl Count {
    /// The number, whatever it counts.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::ImagesMoreThan(number)
            | Self::DaysSincePushed(number)
            | Self::DaysSincePulled(number)
            | Self::DaysSinceTransitioned(number) => number,
        }
    }

    /// `countType`, as ECR spells it.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::ImagesMoreThan(_) => "imageCountMoreThan",
            Self::DaysSincePushed(_) => "sinceImagePushed",
            Self::DaysSincePulled(_) => "sinceImagePulled",
            Self::DaysSinceTransitioned(_) => "sinceImageTransitioned",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Policy {
        Policy::parse(&value.to_string()).expect("a policy")
    }

    fn rule(priority: u32, tags: &[&str], description: &str) -> Value {
        json!({
            "rulePriority": priority, "description": description,
            "selection": {"tagStatus": "tagged", "tagPrefixList": tags, "countType": "imageCountMoreThan", "countNumber": 5},
            "action": {"type": "expire"},
        })
    }

    #[test]
    fn the_text_is_compact_and_says_no_more_than_it_has_to() {
        let policy = read(&json!({"rules": [
            {
                "action": {"type": "expire"}, "rulePriority": 7,
                "selection": {"storageClass": "archive", "tagStatus": "any", "countType": "sinceImageTransitioned", "countUnit": "days", "countNumber": 365}
            },
            {
                "rulePriority": 2, "description": "Old builds",
                "selection": {"storageClass": "standard", "tagPatternList": ["b*", "a*"], "tagStatus": "tagged", "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 30},
                "action": {"targetStorageClass": "archive", "type": "transition"}
            }
        ]}));
        assert_eq!(
            policy.to_text(),
            concat!(
                r#"{"rules":[{"rulePriority":2,"description":"Old builds","selection":{"tagStatus":"tagged","#,
                r#""tagPatternList":["a*","b*"],"countType":"sinceImagePulled","countUnit":"days","countNumber":30},"#,
                r#""action":{"type":"transition","targetStorageClass":"archive"}},{"rulePriority":7,"#,
                r#""selection":{"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","#,
                r#""countUnit":"days","countNumber":365},"action":{"type":"expire"}}]}"#
            )
        );
        assert_eq!(Policy::parse(&policy.to_text()), Ok(policy));
    }

    #[test]
    fn without_priorities_order_counts() {
        let mut document =
            json!({"rules": [rule(0, &["a"], "first"), rule(20, &["b"], "second"), rule(0, &["c"], "third")]});
        for bare in [0, 2] {
            document["rules"][bare]
                .as_object_mut()
                .expect("a rule")
                .remove("rulePriority");
        }
        let priorities: Vec<_> = read(&document).rules.iter().map(|rule| rule.priority).collect();
        assert_eq!(priorities, [1, 20, 21]);
    }

    #[test]
    fn layout_order_numbers_and_defaults_do_not_matter() {
        let one = read(&json!({"rules": [rule(1, &["a", "b"], ""), rule(2, &["c"], "x")]}));
        let mut other = json!({"rules": [rule(70, &["c", "c"], "x"), rule(30, &["b", "a"], "")]});
        other["rules"][0]["selection"]["storageClass"] = json!("standard");
        other["rules"][1].as_object_mut().expect("a rule").remove("description");
        let other = Policy::parse(&serde_json::to_string_pretty(&other).expect("text")).expect("a policy");
        assert!(one.means_the_same(&other) && other.means_the_same(&one));
        assert_ne!(one, other);
    }

    #[test]
    fn everything_that_says_something_is_compared() {
        let usual = read(&json!({"rules": [rule(1, &["a"], "x"), rule(2, &["b"], "y")]}));
        let archived = json!({"tagStatus": "any", "storageClass": "archive", "countType": "sinceImageTransitioned", "countUnit": "days", "countNumber": 90});
        for (pointer, value) in [
            ("/rules/0/rulePriority", json!(3)),
            ("/rules/0/description", json!("z")),
            ("/rules/0/selection/tagPrefixList", json!(["a", "b"])),
            ("/rules/0/selection/countNumber", json!(6)),
            ("/rules/0/selection", archived),
            (
                "/rules/0/action",
                json!({"type": "transition", "targetStorageClass": "archive"}),
            ),
            ("/rules", json!([rule(1, &["a"], "x")])),
        ] {
            let mut changed = json!({"rules": [rule(1, &["a"], "x"), rule(2, &["b"], "y")]});
            *changed.pointer_mut(pointer).expect("a place") = value;
            assert!(!usual.means_the_same(&read(&changed)), "{pointer}");
        }
    }

    #[test]
    fn protection_comes_first_in_each_class_that_has_rules() {
        let standard = read(&json!({"rules": [rule(20, &["b"], ""), rule(10, &["a"], "")]}));
        let protected = standard.protecting("in-use.");
        let seen: Vec<_> = protected
            .rules
            .iter()
            .map(|rule| (rule.priority, rule.selection.tags.clone(), rule.selection.class))
            .collect();
        let prefix = |text: &str| Tags::Prefixes(vec![text.to_owned()]);
        assert_eq!(
            seen,
            [
                (1, prefix("in-use."), StorageClass::Standard),
                (2, prefix("a"), StorageClass::Standard),
                (3, prefix("b"), StorageClass::Standard),
            ]
        );
        let archived = read(&json!({"rules": [{
            "selection": {"tagStatus": "any", "storageClass": "archive", "countType": "sinceImageTransitioned", "countUnit": "days", "countNumber": 90},
            "action": {"type": "expire"}
        }]}));
        let protected = archived.protecting("in-use.");
        assert_eq!(protected.check(0), Ok(()));
        let classes: Vec<_> = protected.rules.iter().map(|rule| rule.selection.class).collect();
        assert_eq!(
            classes,
            [StorageClass::Standard, StorageClass::Archive, StorageClass::Archive]
        );
        let nothing = Policy { rules: Vec::new() };
        assert_eq!(nothing.protecting("in-use.").check(0), Ok(()));
    }
}
