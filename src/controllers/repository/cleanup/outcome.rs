//! What a policy would do to a repository, and how much of it a guard lets through. Pure.

use jiff::Timestamp;

use super::short;
use crate::{
    api::lifecycle::{Cleanup, DoomedImage, GuardMode, LifecyclePreview},
    aws::lifecycle::{Listed, Stock},
    document::lifecycle::{Action, Policy},
};

/// How many per cent of a repository's images may go where a policy sets no limit.
const USUAL_PERCENT: u32 = 20;

/// The most images that a status shows.
const EXAMPLES: usize = 10;

/// What a policy would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub doomed: Vec<Listed>,
    /// Those of them that are in use, by digest.
    pub in_use: Vec<String>,
    pub stock: Stock,
    pub at: Timestamp,
}

/// How much may go at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub images: Option<u32>,
    pub percent: Option<u32>,
}

impl Limits {
    /// The limits that a policy sets.
    pub(crate) fn of(cleanup: &Cleanup) -> Option<Self> {
        let guard = &cleanup.guard;
        (guard.mode == GuardMode::Enabled).then(|| Self {
            images: guard.max_images,
            percent: guard
                .max_percent
                .or(guard.max_images.is_none().then_some(USUAL_PERCENT)),
        })
    }

    /// The limit that is exceeded, in words.
    pub(crate) fn exceeded(self, outcome: &Outcome) -> Option<String> {
        let gone = u64::try_from(outcome.doomed.len()).unwrap_or(u64::MAX);
        if let Some(most) = self.images
            && gone > u64::from(most)
        {
            return Some(format!("maxImages is {most}"));
        }
        let most = self.percent?;
        let too_many = u128::from(gone) * 100 > u128::from(outcome.stock.images) * u128::from(most);
        too_many.then(|| format!("maxPercent is {most}"))
    }
}

impl Outcome {
    pub(crate) fn count(&self, action: Action) -> u64 {
        let of = self.doomed.iter().filter(|image| image.action == action);
        u64::try_from(of.count()).unwrap_or(u64::MAX)
    }

    /// What accepts exactly this: the document and each image with what becomes of it.
    pub(crate) fn token(&self, document: &Policy) -> String {
        let mut lines: Vec<String> = self
            .doomed
            .iter()
            .map(|image| format!("{} {:?}", image.digest, image.action))
            .collect();
        lines.sort_unstable();
        short(&format!("{}\n{}", document.to_text(), lines.join("\n")))
    }

    /// As the status shows it.
    pub(crate) fn shown(&self, document: &Policy) -> LifecyclePreview {
        let example = |image: &Listed| DoomedImage {
            digest: image.digest.chars().take(80).collect(),
            tags: image
                .tags
                .iter()
                .take(5)
                .map(|tag| tag.chars().take(300).collect())
                .collect(),
            action: match image.action {
                Action::Expire => "expire",
                Action::Archive => "transition",
            }
            .into(),
            rule_priority: image.rule,
        };
        LifecyclePreview {
            token: self.token(document),
            images: self.stock.images,
            images_to_expire: self.count(Action::Expire),
            images_to_archive: self.count(Action::Archive),
            bytes: self.stock.bytes,
            examples: self.doomed.iter().take(EXAMPLES).map(example).collect(),
            at: Some(self.at),
        }
    }
}
