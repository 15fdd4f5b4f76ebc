//! When policies would act on images that are in use, if nothing else happened. Pure.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};

use crate::document::lifecycle::{Action, Doomed, Image, Policy, evaluate};

/// What becomes of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub digest: String,
    pub action: Action,
    pub rule: u32,
    /// After how many days. 0: ECR acts within a day.
    pub days: u32,
}

/// What becomes of the images in use within so many days, those first that go first.
///
/// One rule at most can ever act on an image, and time only makes images older, so that what is acted on once stays so: the
/// first day is found by halving.
pub(super) fn fates(
    policy: &Policy,
    images: &[Image],
    in_use: &BTreeSet<String>,
    now: Timestamp,
    within: u32,
) -> Vec<Fate> {
    let mut days = Days {
        policy,
        images,
        in_use,
        now,
        known: HashMap::new(),
    };
    let mut fates = Vec::new();
    for (digest, doomed) in days.on(within).clone() {
        let (mut safe, mut gone) = (0, within);
        if days.on(0).contains_key(&digest) {
            gone = 0;
        }
        while safe + 1 < gone {
            let middle = safe.midpoint(gone);
            match days.on(middle).contains_key(&digest) {
                true => gone = middle,
                false => safe = middle,
            }
        }
        fates.push(Fate {
            digest,
            action: doomed.action,
            rule: doomed.rule,
            days: gone,
        });
    }
    fates.sort_by(|a, b| (a.days, &a.digest).cmp(&(b.days, &b.digest)));
    fates
}

/// What the policy would act on after so many days, of what is in use.
struct Days<'a> {
    policy: &'a Policy,
    images: &'a [Image],
    in_use: &'a BTreeSet<String>,
    now: Timestamp,
    known: HashMap<u32, HashMap<String, Doomed>>,
}

impl Days<'_> {
    fn on(&mut self, day: u32) -> &HashMap<String, Doomed> {
        self.known.entry(day).or_insert_with(|| {
            let then = self.now + SignedDuration::from_hours(24 * i64::from(day));
            evaluate(self.policy, self.images, then)
                .into_iter()
                .filter(|doomed| self.in_use.contains(&doomed.digest))
                .map(|doomed| (doomed.digest.clone(), doomed))
                .collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(digest: &str, tag: &str, days_ago: i64) -> Image {
        Image {
            digest: digest.into(),
            tags: vec![tag.into()],
            pushed_at: now() - SignedDuration::from_hours(24 * days_ago),
            pulled_at: None,
            archived_at: None,
            activated_at: None,
            children: Vec::new(),
            subject: None,
        }
    }

    fn now() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn policy(count: &serde_json::Value, action: &serde_json::Value) -> Policy {
        let mut selection = serde_json::json!({ "tagStatus": "any" });
        selection
            .as_object_mut()
            .unwrap()
            .extend(count.as_object().unwrap().clone());
        Policy::from_value(&serde_json::json!({ "rules": [{ "selection": selection, "action": action }] })).unwrap()
    }

    #[test]
    fn the_first_day_is_found_on_which_an_image_in_use_goes() {
        let older_than_30_days = policy(
            &serde_json::json!({ "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 30 }),
            &serde_json::json!({ "type": "expire" }),
        );
        let images = [
            image("young", "v3", 1),
            image("old", "v1", 40),
            image("due", "v2", 20),
            image("unused", "v0", 90),
        ];
        let in_use = ["young", "old", "due"].map(str::to_owned).into();
        let days = |within| -> Vec<(String, u32)> {
            let fates = fates(&older_than_30_days, &images, &in_use, now(), within);
            fates.into_iter().map(|fate| (fate.digest, fate.days)).collect()
        };
        assert_eq!(days(365), [("old".into(), 0), ("due".into(), 11), ("young".into(), 30)]);
        assert_eq!(days(11), [("old".into(), 0), ("due".into(), 11)]);
        assert_eq!(days(10), [("old".into(), 0)]);
        assert_eq!(days(0), [("old".into(), 0)]);

        let protecting = older_than_30_days.protecting("in-use.");
        let mut kept = images.clone();
        kept[1].tags.push("in-use.old".into());
        let fates = fates(&protecting, &kept, &in_use, now(), 365);
        assert!(
            fates.iter().all(|fate| fate.digest != "old") && fates.len() == 2,
            "{fates:?}"
        );
    }

    #[test]
    fn surplus_images_go_at_once_and_the_archive_is_told_from_the_end() {
        let keep_one = policy(
            &serde_json::json!({ "countType": "imageCountMoreThan", "countNumber": 1 }),
            &serde_json::json!({ "type": "expire" }),
        );
        let images = [image("new", "v2", 1), image("old", "v1", 2)];
        let in_use = ["new", "old"].map(str::to_owned).into();
        let gone = fates(&keep_one, &images, &in_use, now(), 365);
        assert_eq!(
            gone.iter()
                .map(|fate| (fate.digest.as_str(), fate.days))
                .collect::<Vec<_>>(),
            [("old", 0)]
        );
        let archiving = policy(
            &serde_json::json!({ "countType": "sinceImagePulled", "countUnit": "days", "countNumber": 10 }),
            &serde_json::json!({ "type": "transition", "targetStorageClass": "archive" }),
        );
        let archived = fates(&archiving, &images, &in_use, now(), 365);
        assert_eq!(
            archived
                .iter()
                .map(|fate| (fate.digest.as_str(), fate.action, fate.days))
                .collect::<Vec<_>>(),
            [("old", Action::Archive, 9), ("new", Action::Archive, 10)]
        );
    }
}
