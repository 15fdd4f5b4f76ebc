//! Where images come from and which one is wanted.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{
    names::{Digest, Platform, RepositoryName, Tag},
    repository::RegistryRef,
    span::Span,
};

/// Where images come from and which one is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.repositoryRef) != (has(self.registryRef) && has(self.repositoryName)) && has(self.registryRef) == has(self.repositoryName)")
        .message("source takes either repositoryRef, or registryRef together with repositoryName")
)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A Repository of this namespace. Default: absent; then `registryRef` and `repositoryName` are required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_ref: Option<RepositoryRef>,

    /// A Registry that has this namespace as a tenant with `Promote`. Default: absent; then `repositoryRef` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_ref: Option<RegistryRef>,

    /// The name of a repository in that registry. Default: absent; then `repositoryRef` is required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_name: Option<RepositoryName>,

    /// Which image of the repository is wanted. Required.
    pub policy: Policy,

    /// Which tags are considered; `digest` heeds no filter. Default: every tag but the operator's own and those that
    /// cosign keeps signatures and the like under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,

    /// The platforms that an image must have. The digest of the index is what runs, with every listed platform in it.
    /// At most 8. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub platforms: Vec<Platform>,

    /// Another promotion in which the same digest must have proved good first. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,
}

/// A Repository of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryRef {
    /// The name of the Repository, 1 to 253 characters. Required.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Which image is wanted: exactly one way to choose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("[has(self.semver), has(self.tag), has(self.digest), has(self.latestPushed), has(self.alphabetical), has(self.numerical)].filter(p, p).size() == 1")
        .message("source.policy takes exactly one of semver, tag, digest, latestPushed, alphabetical and numerical")
)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// The highest semantic version within a range. Of two tags of one version, differing in build metadata or in a
    /// leading `v` only, the one pushed last wins, then the one that is last in alphabetical order. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub semver: Option<Semver>,

    /// The image that a tag is on, followed when the tag moves. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<TagPolicy>,

    /// This image and no other. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,

    /// The image that was pushed last, by ECR's `imagePushedAt`; of several with the same time, an index before a
    /// single image, then a tagged before an untagged one, then the one whose digest is last in alphabetical order.
    /// Without a `filter` untagged images count too; signatures and other artifacts do not. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_pushed: Option<LatestPushed>,

    /// The tag, or what `filter.extract` takes from it, that is last in alphabetical order, compared by bytes. Of
    /// several that are equal, the one pushed last wins, then the tag that is last in alphabetical order. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alphabetical: Option<Direction>,

    /// The tag, or what `filter.extract` takes from it, that is the highest number, such as `42` or `1.5`; tags that are none
    /// are passed over. Ties go as with `alphabetical`. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerical: Option<Direction>,
}

/// A range of semantic versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Semver {
    /// Comparisons that must all hold, separated by spaces or commas, such as `>=1.2 <2`, `~1.4`, `^2`, `1.x`, and
    /// alternatives separated by `||`, with the meaning they have to npm: `1.2.3` is that version alone, and `1.2` is
    /// every 1.2.x. 1 to 256 characters. Required.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new(r"self.matches(r'^\s*(v?[xX*](\.[xX*]){0,2}|(>=|<=|>|<|=|~|\^)?\s*v?(0|[1-9][0-9]{0,15})(\.[xX*](\.[xX*])?|\.(0|[1-9][0-9]{0,15})(\.[xX*]|\.(0|[1-9][0-9]{0,15})(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?)?)(\s*(\|\||,|\s)\s*(v?[xX*](\.[xX*]){0,2}|(>=|<=|>|<|=|~|\^)?\s*v?(0|[1-9][0-9]{0,15})(\.[xX*](\.[xX*])?|\.(0|[1-9][0-9]{0,15})(\.[xX*]|\.(0|[1-9][0-9]{0,15})(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?)?)?))*\s*$')")
        .message("policy.semver.range is not a range of semantic versions; write comparisons such as '>=1.2 <2', '~1.4' or '^2 || ^3'"))]
    pub range: String,

    /// Whether pre-releases such as `1.3.0-rc.1` are taken, ordered as semver has it; `<2` leaves those of 2.0.0 out.
    /// Default: false; only those that a comparison of the range names with the same three numbers.
    #[serde(default)]
    pub pre_releases: bool,
}

/// A tag to follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TagPolicy {
    /// The tag. Required.
    pub name: Tag,
}

/// No settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LatestPushed {}

/// In which direction an order counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Direction {
    /// `Ascending`: the last in order is wanted, as for timestamps and build numbers. `Descending`: the first. Default:
    /// Ascending.
    #[serde(default)]
    pub order: Order,
}

/// An order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum Order {
    #[default]
    Ascending,
    Descending,
}

/// Which tags are considered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("!has(self.extract) || has(self.include)")
        .message("filter.extract names groups of filter.include, which is missing")
)]
#[serde(rename_all = "camelCase")]
pub struct Filter {
    /// A regular expression (RE2) that a tag must match, such as `^v(?P<version>.*)$`. 1 to 256 characters. Default:
    /// every tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = Rule::new("''.matches(self) in [true, false]").message("filter.include is not a regular expression of RE2"))]
    pub include: Option<String>,

    /// Regular expressions (RE2); a tag that matches one of them is not considered. At most 10, each of 1 to 256
    /// characters. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), inner(length(min = 1, max = 256)))]
    #[x_kube(validation = Rule::new("self.all(e, ''.matches(e) in [true, false])").message("filter.exclude has an entry that is not a regular expression of RE2"))]
    pub exclude: Vec<String>,

    /// What is compared instead of the whole tag, made from the groups of `include`, such as `$version`. At most 64
    /// characters. Default: the whole tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub extract: Option<String>,
}

/// Where an image must have proved good before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct From {
    /// The promotion. One of another namespace must carry the annotation `ecr-operator.dev/promotable-from` with this
    /// namespace. Required.
    pub promotion_ref: PromotionRef,

    /// How long the same digest must have been good there without a break. Default: 0s.
    #[serde(default)]
    pub soak: Span,
}

/// An ImagePromotion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PromotionRef {
    /// The name of the ImagePromotion, 1 to 253 characters. Required.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Its namespace, 1 to 63 characters. Default: this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}
