//! What can be wrong with a lifecycle policy, where, and what would mend it.

use super::{CHARACTERS, MOST_RULES};

/// Why a document is not a lifecycle policy that ECR would take.
///
/// `rule` is the place of a rule in the list, from 0; `field` is the whole way to a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The text is not JSON; says where.
    #[error("the lifecycle policy is not JSON: {0}")]
    NotJson(String),
    #[error("{field} is not an object: write one with {known}")]
    NotAnObject { field: String, known: String },
    #[error("{field} has the unknown key {key:?}: it takes {known}, in this spelling")]
    UnknownKey { field: String, key: String, known: String },
    #[error("{field} is missing: {cure}")]
    Missing { field: String, cure: &'static str },
    #[error("{field} is not a list: write one, also where it has a single entry")]
    NotAList { field: String },
    #[error("{field} is not text: put it in quotes")]
    NotText { field: String },
    #[error("{field} is not a whole number of at least 1: write one, without quotes and no larger than 4294967295")]
    NotANumber { field: String },
    #[error("{field} has the unknown value {value:?}: it takes {known}, in this spelling")]
    UnknownValue {
        field: String,
        value: String,
        known: String,
    },
    #[error("{field} is given with tagStatus {status}: leave it out, or set tagStatus to tagged")]
    ListWithoutTagged { field: String, status: String },
    #[error(
        "rules[{rule}].selection has both tagPatternList and tagPrefixList: keep one of them; a prefix is a pattern that \
         ends with *"
    )]
    BothLists { rule: usize },
    #[error(
        "rules[{rule}].selection has tagStatus tagged and neither tagPatternList nor tagPrefixList: add one of them; for \
         all tagged images, tagPatternList: [\"*\"]"
    )]
    NoList { rule: usize },
    #[error("rules[{rule}].selection.countUnit is missing: {kind} counts days, so write countUnit: days")]
    NoUnit { rule: usize, kind: &'static str },
    #[error("rules[{rule}].selection.countUnit is given with imageCountMoreThan, which counts images: leave it out")]
    UnitOfImages { rule: usize },
    #[error(
        "rules[{rule}].action.targetStorageClass is missing: for type transition, write targetStorageClass: archive"
    )]
    NoTarget { rule: usize },
    #[error(
        "rules[{rule}].action.targetStorageClass is given with type expire: leave it out, or set type to transition"
    )]
    TargetOfExpire { rule: usize },
    #[error("rules is empty: add a rule; for no lifecycle policy at all, declare none")]
    NoRules,
    #[error(
        "the lifecycle policy has {rules} rules and may have {most} (ECR takes {MOST_RULES}; the others are those that \
         protect images in use): join some"
    )]
    TooManyRules { rules: usize, most: usize },
    #[error("the lifecycle policy is {characters} characters long and ECR takes {}: join rules, or shorten descriptions", CHARACTERS.end())]
    TooLong { characters: usize },
    #[error("the lifecycle policy is {characters} characters long and ECR takes no less than {}: add a description", CHARACTERS.start())]
    TooShort { characters: usize },
    #[error("rules[{rule}].rulePriority is 0: the first priority is 1")]
    PriorityZero { rule: usize },
    #[error(
        "rules[{first}] and rules[{second}] have the same rulePriority {priority}: give each its own, or none at all"
    )]
    SamePriority { first: usize, second: usize, priority: u32 },
    #[error(
        "rules[{rule}].selection.tagStatus is any, and rules[{later}] of the same storage class comes after it: a rule for \
         any image is the last one, so give it the highest rulePriority of its storage class"
    )]
    AnyIsNotLast { rule: usize, later: usize },
    #[error(
        "rules[{first}] and rules[{second}] both have tagStatus untagged in the same storage class: ECR takes one such \
         rule for each class, so join them"
    )]
    TwoUntagged { first: usize, second: usize },
    #[error(
        "rules[{first}] and rules[{second}] have the same {list} in the same storage class: ECR takes one such rule, so join them"
    )]
    SameTags {
        first: usize,
        second: usize,
        list: &'static str,
    },
    #[error("rules[{rule}].selection.{list} is empty: name at least one, or set tagStatus to any or untagged")]
    EmptyList { rule: usize, list: &'static str },
    #[error("rules[{rule}].selection.{list} has an empty entry: write some text, or take it out")]
    EmptyEntry { rule: usize, list: &'static str },
    #[error(
        "rules[{rule}].selection.tagPatternList has {pattern:?} with more than four *: ECR takes four in each pattern"
    )]
    TooManyStars { rule: usize, pattern: String },
    #[error("rules[{rule}].selection.countNumber is 0: ECR takes 1 and more")]
    CountZero { rule: usize },
    #[error(
        "rules[{rule}].selection.storageClass is archive, and {kind} only knows images of class standard: leave it out, \
         or set countType to sinceImageTransitioned"
    )]
    NotForArchive { rule: usize, kind: &'static str },
    #[error(
        "rules[{rule}].selection.storageClass is not archive, and sinceImageTransitioned only knows archived images: \
         write storageClass: archive"
    )]
    OnlyForArchive { rule: usize },
    #[error(
        "rules[{rule}].action.type is transition, and sinceImageTransitioned is about images that were: set it to expire"
    )]
    OnlyExpires { rule: usize },
    #[error(
        "rules[{rule}].selection.countNumber is {days}: ECR keeps archived images for at least 90 days, so write 90 or more"
    )]
    TooSoon { rule: usize, days: u32 },
    #[error(
        "rules[{rule}].action.type is expire, and sinceImagePulled only goes with transition: archive by \
         sinceImagePulled, then expire by sinceImageTransitioned, or count by sinceImagePushed"
    )]
    OnlyTransitions { rule: usize },
}
