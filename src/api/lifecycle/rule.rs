//! A rule, field by field as ECR's documents have it.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What holds for a list of rules as a whole, and the sentence that is shown where it does not.
pub(crate) const LIST_RULES: [(&str, &str); 6] = [
    (
        "self.all(r, has(r.rulePriority)) || self.all(r, !has(r.rulePriority))",
        "rules: either every rule has a rulePriority or none has; without, their order counts",
    ),
    (
        "self.all(r, !has(r.rulePriority) || self.exists_one(s, has(s.rulePriority) && s.rulePriority == r.rulePriority))",
        "rules: each rulePriority may be used once only",
    ),
    (
        "self.all(a, a.selection.tagStatus != 'any' || !has(a.rulePriority) || self.all(o, !has(o.rulePriority) || (has(o.selection.storageClass) ? o.selection.storageClass : 'standard') != (has(a.selection.storageClass) ? a.selection.storageClass : 'standard') || o.rulePriority <= a.rulePriority))",
        "rules: a rule with tagStatus any must have the highest rulePriority of its storage class",
    ),
    (
        "self.exists(r, has(r.rulePriority)) || ['standard', 'archive'].all(c, self.filter(r, (has(r.selection.storageClass) ? r.selection.storageClass : 'standard') == c).all(r, r.selection.tagStatus != 'any') || (self.filter(r, (has(r.selection.storageClass) ? r.selection.storageClass : 'standard') == c && r.selection.tagStatus == 'any').size() == 1 && self.filter(r, (has(r.selection.storageClass) ? r.selection.storageClass : 'standard') == c)[self.filter(r, (has(r.selection.storageClass) ? r.selection.storageClass : 'standard') == c).size() - 1].selection.tagStatus == 'any'))",
        "rules: a rule with tagStatus any must be the last of its storage class",
    ),
    (
        "['standard', 'archive'].all(c, self.filter(r, r.selection.tagStatus == 'untagged' && (has(r.selection.storageClass) ? r.selection.storageClass : 'standard') == c).size() <= 1)",
        "rules: only one rule of a storage class may have tagStatus untagged",
    ),
    (
        "self.map(r, 110 + (has(r.description) ? r.description.size() : 0) + (has(r.selection.tagPatternList) ? r.selection.tagPatternList.map(p, p.size() + 3).sum() : 0) + (has(r.selection.tagPrefixList) ? r.selection.tagPrefixList.map(p, p.size() + 3).sum() : 0)).sum() <= 30720",
        "rules: the document has more than 30,720 characters, the most that ECR takes",
    ),
];

/// One rule of a lifecycle policy, as AWS documents it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.selection.countType != 'sinceImagePulled' || self.action.type == 'transition'")
        .message("rules: countType sinceImagePulled goes with action.type transition only: ECR does not expire images by their last pull")
        .field_path(".action.type"),
    validation = Rule::new("self.selection.countType != 'sinceImageTransitioned' || self.action.type == 'expire'")
        .message("rules: countType sinceImageTransitioned goes with action.type expire only: the images are in the archive already")
        .field_path(".action.type")
)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleRule {
    /// The order in which rules are applied, lowest first; 1 to 1,000,000, each once. Either every rule has one or none.
    /// Default: the order in which the rules are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rule_priority: Option<u32>,

    /// What the rule is for, at most 256 characters. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub description: Option<String>,

    /// The images the rule is for. Required.
    pub selection: LifecycleSelection,

    /// What becomes of them. Required.
    pub action: LifecycleAction,
}

/// The images a rule is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("self.tagStatus != 'tagged' || has(self.tagPatternList) != has(self.tagPrefixList)")
        .message("rules: tagStatus tagged takes exactly one of tagPatternList and tagPrefixList"),
    validation = Rule::new("self.tagStatus == 'tagged' || (!has(self.tagPatternList) && !has(self.tagPrefixList))")
        .message("rules: tagPatternList and tagPrefixList go with tagStatus tagged only"),
    validation = Rule::new("self.countType == 'imageCountMoreThan' || has(self.countUnit)")
        .message("rules: countUnit days is required with a countType that begins with since")
        .field_path(".countUnit"),
    validation = Rule::new("self.countType != 'imageCountMoreThan' || !has(self.countUnit)")
        .message("rules: countUnit does not go with countType imageCountMoreThan; leave it out")
        .field_path(".countUnit"),
    validation = Rule::new("self.countType != 'sinceImageTransitioned' || (has(self.storageClass) && self.storageClass == 'archive')")
        .message("rules: countType sinceImageTransitioned requires storageClass archive")
        .field_path(".storageClass"),
    validation = Rule::new("self.countType == 'sinceImageTransitioned' || !has(self.storageClass) || self.storageClass == 'standard'")
        .message("rules: storageClass archive goes with countType sinceImageTransitioned only")
        .field_path(".storageClass"),
    validation = Rule::new("self.countType != 'sinceImageTransitioned' || self.countNumber >= 90")
        .message("rules: countNumber is at least 90 with countType sinceImageTransitioned: ECR keeps archived images for 90 days")
        .field_path(".countNumber")
)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleSelection {
    /// `tagged`: images whose tags match every entry of the list. `untagged`: images without a tag. `any`: all images; such a
    /// rule must be the last of its storage class. Required.
    pub tag_status: TagStatus,

    /// Patterns of tags, each with up to four `*`; an image is meant if each pattern matches a tag of it. 1 to 50, each of 1
    /// to 300 characters. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 300)))]
    #[x_kube(validation = Rule::new("self.all(p, p.matches('^[^*]*([*][^*]*){0,4}$'))")
        .message("rules: an entry of tagPatternList has at most four '*'"))]
    pub tag_pattern_list: Option<Vec<String>>,

    /// Beginnings of tags; an image is meant if each is the beginning of a tag of it. 1 to 50, each of 1 to 300 characters.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 50), inner(length(min = 1, max = 300)))]
    pub tag_prefix_list: Option<Vec<String>>,

    /// `standard` or `archive`: where the images are. Default: standard.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<StorageClass>,

    /// `imageCountMoreThan`: all but the newest so many. `sinceImagePushed`, `sinceImagePulled`, `sinceImageTransitioned`:
    /// those whose last push, pull or move into the archive is longer ago than so many days. Required.
    pub count_type: CountType,

    /// `days`; required with a `countType` that begins with `since`, refused otherwise. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count_unit: Option<CountUnit>,

    /// How many images, or how many days. 1 to 1,000,000. Required.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub count_number: u32,
}

/// What becomes of the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("(self.type == 'transition') == has(self.targetStorageClass)")
        .message("rules: action.targetStorageClass archive is required with action.type transition, and goes with no other")
        .field_path(".targetStorageClass"),
    validation = Rule::new("!has(self.targetStorageClass) || self.targetStorageClass == 'archive'")
        .message("rules: action.targetStorageClass can only be archive")
        .field_path(".targetStorageClass")
)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleAction {
    /// `expire`: they are deleted. `transition`: they are moved into the archive. Required.
    #[serde(rename = "type")]
    pub type_: ActionType,

    /// `archive`; required with `transition`, refused otherwise. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_storage_class: Option<StorageClass>,
}

macro_rules! spelled {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        #[expect(missing_docs, reason = "the variants are described where the enum is used: a schema loses their own texts")]
        pub enum $name { $(#[serde(rename = $text)] $variant),+ }
    };
}

spelled!(
    /// Whether the images have tags.
    TagStatus { Tagged = "tagged", Untagged = "untagged", Any = "any" }
);
spelled!(
    /// Where images are.
    StorageClass { Standard = "standard", Archive = "archive" }
);
spelled!(
    /// What is counted.
    CountType {
        ImageCountMoreThan = "imageCountMoreThan",
        SinceImagePushed = "sinceImagePushed",
        SinceImagePulled = "sinceImagePulled",
        SinceImageTransitioned = "sinceImageTransitioned",
    }
);
spelled!(
    /// The unit of a time.
    CountUnit { Days = "days" }
);
spelled!(
    /// What becomes of images.
    ActionType { Expire = "expire", Transition = "transition" }
);
