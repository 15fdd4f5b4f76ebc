//! Which image of a repository the policy picks. Pure; the order in which images are handed in does not matter.

use std::{
    borrow::{Borrow, Cow},
    cmp::Ordering,
};

use jiff::Timestamp;
use semver::Version;

use super::{
    facts::{Image, Storage},
    filter::{Dropped, Filter, is_companion, is_reserved},
    version::{Fit, Range, version},
};
use crate::api::{
    names::{Digest, Tag},
    promotion::{ImageStatus, Order, Policy, Source},
};

/// How many candidates are kept: the best may lack a platform.
pub(crate) const MOST_CANDIDATES: usize = 20;

/// How many are named that were not it.
const MOST_PASSED_OVER: usize = 5;

/// A policy or a filter that no image can be judged by. The message names the field and the cure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct InvalidPolicy(String);

impl InvalidPolicy {
    pub(super) fn new(message: String) -> Self {
        Self(message)
    }
}

/// What the policy makes of the images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranking {
    /// The best first, each digest once; at most [`MOST_CANDIDATES`]. `since` is not set.
    pub candidates: Vec<ImageStatus>,
    /// The nearest first of those that are none; at most five.
    pub passed_over: Vec<PassedOver>,
    /// How many images were looked at; those that only the operator or cosign has use for are left out.
    pub considered: usize,
}

/// An image that is no candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PassedOver {
    /// Its tag, or the first digits of its digest.
    pub name: String,
    /// Why, as the rest of a sentence: `is archived`.
    pub reason: String,
}

/// Puts the images in the order in which the policy wants them. Never candidates: archived ones, rejected ones, and tags
/// of the operator and of cosign.
pub(crate) fn rank<I>(source: &Source, images: I, rejected: impl Fn(&Digest) -> bool) -> Result<Ranking, InvalidPolicy>
where
    I: IntoIterator<Item: Borrow<Image>>,
{
    let rule = Rule::of(&source.policy)?;
    let filter = Filter::compile(source.filter.as_ref())?;
    let mut considered = 0;
    let mut candidates = Best::new(MOST_CANDIDATES);
    let mut passed_over = Best::new(MOST_PASSED_OVER);
    for image in images {
        let image = image.borrow();
        let unfit = || match image.storage {
            Storage::Archived => Some(Obstacle::Archived),
            Storage::Activating => Some(Obstacle::Activating),
            Storage::Active => rejected(&image.digest).then_some(Obstacle::Rejected),
        };
        let mut consider = |tag: Option<&Tag>, judged: Result<Key, (Obstacle, Key)>| {
            let (obstacle, key) = match judged {
                Ok(key) => (unfit(), key),
                Err((obstacle, key)) => (Some(obstacle), key),
            };
            let standing = Standing::new(image, tag, key);
            match obstacle {
                None => candidates.offer(standing, |a, b| rule.compare(a, b)),
                Some(obstacle) => passed_over.offer((obstacle, standing), |(obstacle, a), (other, b)| {
                    obstacle.cmp(other).then_with(|| rule.compare(a, b))
                }),
            }
        };
        if rule.heeds_tags() {
            let own: Vec<&Tag> = image.tags.iter().filter(|tag| !is_reserved(tag)).collect();
            let untagged = own.is_empty() && !image.tags.iter().any(is_companion);
            if own.is_empty() && !(untagged && rule.takes_untagged()) {
                continue;
            }
            considered += 1;
            if own.is_empty() {
                // No tag can match a filter, and with one only tags count.
                match source.filter {
                    None => consider(None, Ok(Key::None)),
                    Some(_) => consider(None, Err((Obstacle::Filtered(Dropped::NotIncluded), Key::None))),
                }
            }
            for tag in own.into_iter().filter(|tag| rule.may_be(tag)) {
                consider(Some(tag), rule.judge(filter.apply(tag.as_str())));
            }
        } else {
            considered += 1;
            if rule.is_digest(&image.digest) {
                consider(None, Ok(Key::None));
            }
        }
    }
    Ok(Ranking {
        candidates: candidates.kept.into_iter().map(Standing::into_status).collect(),
        passed_over: passed_over
            .kept
            .into_iter()
            .map(|(obstacle, standing)| PassedOver {
                name: standing.name(),
                reason: rule.explain(obstacle),
            })
            .collect(),
        considered,
    })
}

impl Ranking {
    /// Why there is no candidate, in words that depend on the cause alone.
    pub(crate) fn nothing(&self, source: &Source) -> String {
        let policy = &source.policy;
        let wanted = if let Some(semver) = &policy.semver {
            format!("no tag is a version in the range {}", semver.range)
        } else if let Some(tag) = &policy.tag {
            format!("no image that may be taken has the tag {}", tag.name)
        } else if let Some(digest) = &policy.digest {
            format!("the repository has no image {digest} that may be taken")
        } else if policy.numerical.is_some() {
            "no tag that may be taken is a number".to_owned()
        } else {
            "the repository has no image that may be taken".to_owned()
        };
        if self.passed_over.is_empty() {
            return wanted;
        }
        let nearest: Vec<String> = self
            .passed_over
            .iter()
            .map(|PassedOver { name, reason }| format!("{name} {reason}"))
            .collect();
        format!("{wanted}; nearest: {}", nearest.join(", "))
    }
}

/// The policy, read.
enum Rule<'a> {
    Semver(Range),
    Tag(&'a Tag),
    Digest(&'a Digest),
    LatestPushed,
    Alphabetical(Order),
    Numerical(Order),
}

/// Why something is no candidate, from the farthest to the nearest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Obstacle {
    Filtered(Dropped),
    /// It is no version, or no number.
    Incomparable,
    Outside,
    PreRelease,
    Archived,
    Activating,
    Rejected,
}

/// What is compared first.
#[derive(Clone, Debug)]
enum Key {
    None,
    Version(Version),
    Number(Number),
    Text(String),
}

/// A tag on an image, or an image that none is needed for.
#[derive(Clone, Debug)]
struct Standing {
    key: Key,
    pushed_at: Timestamp,
    is_index: bool,
    digest: Digest,
    tag: Option<Tag>,
}

impl<'a> Rule<'a> {
    fn of(policy: &'a Policy) -> Result<Self, InvalidPolicy> {
        let mut rules = Vec::new();
        if let Some(semver) = &policy.semver {
            let range = Range::parse(&semver.range, semver.pre_releases)
                .map_err(|error| InvalidPolicy(format!("source.policy.semver.range {error}")))?;
            rules.push(Self::Semver(range));
        }
        rules.extend(policy.tag.as_ref().map(|tag| Self::Tag(&tag.name)));
        rules.extend(policy.digest.as_ref().map(Self::Digest));
        rules.extend(policy.latest_pushed.as_ref().map(|_| Self::LatestPushed));
        rules.extend(
            policy
                .alphabetical
                .as_ref()
                .map(|direction| Self::Alphabetical(direction.order)),
        );
        rules.extend(
            policy
                .numerical
                .as_ref()
                .map(|direction| Self::Numerical(direction.order)),
        );
        match (rules.pop(), rules.is_empty()) {
            (Some(rule), true) => Ok(rule),
            _ => Err(InvalidPolicy(
                "source.policy takes exactly one of semver, tag, digest, latestPushed, alphabetical and numerical"
                    .into(),
            )),
        }
    }

    fn heeds_tags(&self) -> bool {
        !matches!(self, Self::Digest(_))
    }

    /// False for the tags that a policy does not even look at.
    fn may_be(&self, tag: &Tag) -> bool {
        !matches!(self, Self::Tag(wanted) if *wanted != tag)
    }

    fn takes_untagged(&self) -> bool {
        matches!(self, Self::LatestPushed)
    }

    fn is_digest(&self, digest: &Digest) -> bool {
        matches!(self, Self::Digest(wanted) if *wanted == digest)
    }

    /// What a tag is compared by, or why it does not count, with what it would be compared by.
    fn judge(&self, filtered: Result<Cow<'_, str>, Dropped>) -> Result<Key, (Obstacle, Key)> {
        let text = filtered.map_err(|dropped| (Obstacle::Filtered(dropped), Key::None))?;
        let incomparable = (Obstacle::Incomparable, Key::None);
        match self {
            Self::Semver(range) => {
                let version = version(&text).ok_or(incomparable)?;
                match range.fit(&version) {
                    Fit::Within => Ok(Key::Version(version)),
                    Fit::PreRelease => Err((Obstacle::PreRelease, Key::Version(version))),
                    Fit::Outside => Err((Obstacle::Outside, Key::Version(version))),
                }
            }
            Self::Numerical(_) => Number::parse(&text).map(Key::Number).ok_or(incomparable),
            Self::Alphabetical(_) => Ok(Key::Text(text.into_owned())),
            Self::Tag(_) | Self::Digest(_) | Self::LatestPushed => Ok(Key::None),
        }
    }

    /// The greater is wanted more.
    fn compare(&self, a: &Standing, b: &Standing) -> Ordering {
        let by_key = match self {
            Self::Alphabetical(Order::Descending) | Self::Numerical(Order::Descending) => b.key.compare(&a.key),
            _ => a.key.compare(&b.key),
        };
        let by_time = by_key.then(a.pushed_at.cmp(&b.pushed_at));
        let by_image = match self {
            Self::LatestPushed => by_time
                .then(a.is_index.cmp(&b.is_index))
                .then(a.tag.is_some().cmp(&b.tag.is_some()))
                .then_with(|| a.digest.cmp(&b.digest)),
            _ => by_time,
        };
        by_image
            .then_with(|| a.tag.cmp(&b.tag))
            .then_with(|| a.digest.cmp(&b.digest))
    }

    fn explain(&self, obstacle: Obstacle) -> String {
        match obstacle {
            Obstacle::Filtered(Dropped::NotIncluded) => "does not match filter.include".into(),
            Obstacle::Filtered(Dropped::Excluded) => "matches filter.exclude".into(),
            Obstacle::Filtered(Dropped::Empty) => "leaves nothing for filter.extract".into(),
            Obstacle::Incomparable => match self {
                Self::Semver(_) => "is no semantic version".into(),
                _ => "is no number".into(),
            },
            Obstacle::Outside => "is not in the range".into(),
            Obstacle::PreRelease => "is a pre-release".into(),
            Obstacle::Archived => "is archived".into(),
            Obstacle::Activating => "is being restored from the archive".into(),
            Obstacle::Rejected => "was rejected".into(),
        }
    }
}

impl Key {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Version(a), Self::Version(b)) => a.cmp_precedence(b),
            (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::None, Self::None) => Ordering::Equal,
            // One policy makes one sort of key, or none.
            (Self::None, _) => Ordering::Less,
            _ => Ordering::Greater,
        }
    }
}

impl Standing {
    fn new(image: &Image, tag: Option<&Tag>, key: Key) -> Self {
        Self {
            key,
            pushed_at: image.pushed_at,
            is_index: image.is_index,
            digest: image.digest.clone(),
            tag: tag.cloned(),
        }
    }

    fn name(&self) -> String {
        match &self.tag {
            Some(tag) => tag.to_string(),
            None => self.digest.short().to_owned(),
        }
    }

    fn into_status(self) -> ImageStatus {
        ImageStatus {
            name: self.name(),
            digest: self.digest,
            tag: self.tag,
            pushed_at: Some(self.pushed_at),
            since: None,
        }
    }
}

/// An unsigned decimal number of any length: build numbers and timestamps are longer than machine numbers hold exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Number {
    /// Of the whole part; more digits are more, once leading zeros are gone.
    digits: usize,
    whole: String,
    /// Without trailing zeros.
    fraction: String,
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        if !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        Some(Self {
            digits: whole.len(),
            whole: whole.to_owned(),
            fraction: fraction.trim_end_matches('0').to_owned(),
        })
    }
}

/// Something of which an image may be kept once only.
trait OfImage {
    fn digest(&self) -> &Digest;
}

impl OfImage for Standing {
    fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl OfImage for (Obstacle, Standing) {
    fn digest(&self) -> &Digest {
        &self.1.digest
    }
}

/// The greatest few of what is offered, each digest once, the greatest first. Bounded, however much is offered.
struct Best<T> {
    kept: Vec<T>,
    limit: usize,
}

impl<T: OfImage> Best<T> {
    fn new(limit: usize) -> Self {
        Self {
            kept: Vec::with_capacity(limit + 1),
            limit,
        }
    }

    fn offer(&mut self, offered: T, compare: impl Fn(&T, &T) -> Ordering) {
        if let Some(at) = self.kept.iter().position(|kept| kept.digest() == offered.digest()) {
            if compare(&offered, &self.kept[at]) != Ordering::Greater {
                return;
            }
            self.kept.remove(at);
        }
        let at = self
            .kept
            .partition_point(|kept| compare(kept, &offered) == Ordering::Greater);
        if at < self.limit {
            self.kept.insert(at, offered);
            self.kept.truncate(self.limit);
        }
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
