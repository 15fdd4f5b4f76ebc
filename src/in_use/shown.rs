//! What the Registry's status shows of images in use. Pure.

use jiff::{SignedDuration, Timestamp};

use super::protect::{Cluster, MOST_CLUSTERS};
use crate::{
    api::registry::{ClusterInUse, InUseStatus},
    control::events::cut,
};

const MESSAGE: usize = 1_024;

/// The status for what was seen. Counts that hardly changed stay, or each look would write it.
pub(super) fn status(
    old: Option<&InUseStatus>,
    clusters: &[Cluster],
    protected: usize,
    troubles: &[String],
) -> InUseStatus {
    let before = |id: &str| old.and_then(|old| old.clusters.iter().find(|cluster| cluster.id == id));
    let clusters = clusters.iter().take(MOST_CLUSTERS).map(|cluster| ClusterInUse {
        id: cluster.id.clone(),
        published_at: cluster.published.and_then(day),
        images: about(before(&cluster.id).map(|before| before.images), cluster.images),
        silent: cluster.silent,
    });
    let mut message = match troubles {
        [] => String::new(),
        [only] => sentence(only),
        [first, rest @ ..] => format!("{} And {} more.", sentence(first), rest.len()),
    };
    cut(&mut message, MESSAGE);
    InUseStatus {
        clusters: clusters.collect(),
        protected_images: about(old.map(|old| old.protected_images), protected),
        message,
    }
}

fn day(time: Timestamp) -> Option<Timestamp> {
    const DAY: i64 = SignedDuration::from_hours(24).as_secs();
    Timestamp::from_second(time.as_second().div_euclid(DAY) * DAY).ok()
}

/// The old count, unless the new one differs by more than a tenth of it, or one of them is none.
fn about(old: Option<u32>, new: usize) -> u32 {
    let new = u32::try_from(new).unwrap_or(u32::MAX);
    match old {
        Some(old) if (old == 0) == (new == 0) && old.abs_diff(new) <= old / 10 => old,
        _ => new,
    }
}

fn sentence(text: &str) -> String {
    let mut chars = text.trim_end_matches('.').chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(published: &str, images: usize) -> Cluster {
        Cluster {
            id: "a".into(),
            published: Some(published.parse().unwrap()),
            images,
            silent: false,
        }
    }

    #[test]
    fn what_hardly_changes_is_not_written_again() {
        let first = status(None, &[cluster("2026-11-24T10:00:00Z", 100)], 50, &[]);
        let second = status(Some(&first), &[cluster("2026-11-24T22:00:00Z", 109)], 46, &[]);
        assert_eq!(first, second);
        assert_ne!(
            status(Some(&first), &[cluster("2026-11-25T00:00:00Z", 100)], 50, &[]),
            first
        );
        assert_ne!(
            status(Some(&first), &[cluster("2026-11-24T10:00:00Z", 111)], 50, &[]),
            first
        );
        assert_eq!(status(Some(&first), &[], 0, &[]).protected_images, 0);
    }

    #[test]
    fn the_message_is_prose_and_bounded() {
        let trouble = |text: &str| status(None, &[], 0, &[text.to_owned(), "x".into(), "y".into()]).message;
        assert_eq!(trouble("the report is gone."), "The report is gone. And 2 more.");
        assert!(trouble(&"ä".repeat(2_000)).len() <= MESSAGE);
        assert_eq!(status(None, &[], 0, &[]).message, "");
    }
}
