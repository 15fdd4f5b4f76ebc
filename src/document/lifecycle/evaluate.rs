//! What a policy would do to a repository's images, as the Amazon ECR User Guide has it ("Lifecycle policy evaluation
//! rules").
//!
//! Where the guide can be read in two ways:
//! - The time of activation takes the place of the push for a restored image, also for its age by `sinceImagePushed`.
//! - An image of an index is only deleted together with all indexes that list it, and only archived once each of them is
//!   archived or deleted. The guide has the index go first, which may be in the same run.
//! - A referrer goes with its subject and never by itself. It is counted like any other image.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Count, Policy, Rule, StorageClass};

/// An image of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) digest: String,
    pub(crate) tags: Vec<String>,
    pub(crate) pushed_at: Timestamp,
    pub(crate) pulled_at: Option<Timestamp>,
    /// Since when it has been in the archive; `None` for one that is not there now.
    pub(crate) archived_at: Option<Timestamp>,
    /// When it was last restored from the archive.
    pub(crate) activated_at: Option<Timestamp>,
    /// The digests that an index lists.
    pub(crate) children: Vec<String>,
    /// The digest that a referrer is about.
    pub(crate) subject: Option<String>,
}

/// An image that a rule acts on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    pub(crate) digest: String,
    pub(crate) action: Action,
    /// The priority of the rule; for a referrer, that of the rule that acts on its subject.
    pub(crate) rule: u32,
}

/// The images that the policy would act on now, oldest first. Each is there once.
pub(crate) fn evaluate(policy: &Policy, images: &[Image], now: Timestamp) -> Vec<Doomed> {
    let mut rules: Vec<&Rule> = policy.rules.iter().collect();
    rules.sort_by_key(|rule| rule.priority);
    let repository = Repository::of(images);
    let mut marks = repository.marked(&rules, now);
    repository.mark_referrers(&rules, &mut marks);
    repository.spare_the_held(&mut marks);
    let doomed = repository.images.iter().zip(marks);
    doomed
        .filter_map(|(image, mark)| {
            let mark = mark?;
            Some(Doomed {
                digest: image.digest.clone(),
                action: mark.action,
                rule: rules.get(mark.rule)?.priority,
            })
        })
        .collect()
}

/// What a rule, by its place in the order of priority, means to do with an image.
#[derive(Clone, Copy)]
struct Mark {
    action: Action,
    rule: usize,
}

/// Images, oldest first, and how they hang together. All numbers are places among them.
struct Repository<'images> {
    images: Vec<&'images Image>,
    subjects: Vec<Option<usize>>,
    /// The indexes that list an image.
    indexes: Vec<Vec<usize>>,
}

impl<'images> Repository<'images> {
    fn of(images: &'images [Image]) -> Self {
        let mut images: Vec<_> = images.iter().collect();
        images.sort_by_key(|image| (image.since(), &image.digest));
        let places: HashMap<_, _> = (0..).zip(&images).map(|(at, image)| (&image.digest, at)).collect();
        let mut indexes = vec![Vec::new(); images.len()];
        for (at, image) in images.iter().enumerate() {
            for child in image.children.iter().filter_map(|digest| places.get(digest)) {
                if let Some(of_child) = indexes.get_mut(*child) {
                    of_child.push(at);
                }
            }
        }
        let subjects = images.iter().enumerate().map(|(at, image)| {
            let subject = places.get(image.subject.as_ref()?).copied();
            subject.filter(|subject| *subject != at)
        });
        Self {
            subjects: subjects.collect(),
            indexes,
            images,
        }
    }

    /// What the rules mean to do with images that are nobody's referrers.
    fn marked(&self, rules: &[&Rule], now: Timestamp) -> Vec<Option<Mark>> {
        let mut marks = vec![None; self.images.len()];
        // Images whose tags a rule has asked for: out of the reach of all later rules, which still count them.
        let mut claimed = vec![false; self.images.len()];
        for (place, rule) in rules.iter().enumerate() {
            let identified: Vec<_> = (0..self.images.len())
                .filter(|at| rule.identifies(self.images[*at]))
                .collect();
            let surplus = match rule.selection.count {
                Count::ImagesMoreThan(kept) => identified
                    .len()
                    .saturating_sub(usize::try_from(kept).unwrap_or(usize::MAX)),
                _ => identified.len(),
            };
            for &at in identified.iter().take(surplus) {
                if !claimed[at] && self.subjects[at].is_none() && rule.selection.count.is_due(self.images[at], now) {
                    let action = rule.action;
                    marks[at] = Some(Mark { action, rule: place });
                }
            }
            for at in identified {
                claimed[at] = true;
            }
        }
        marks
    }

    /// Lets referrers share the fate of their subjects, unless an earlier rule has asked for their own tags.
    fn mark_referrers(&self, rules: &[&Rule], marks: &mut [Option<Mark>]) {
        for at in 0..self.images.len() {
            let mut root = at;
            // No chain is longer than the list; one that leads back to itself has no end and gets no mark.
            for _ in 0..self.images.len() {
                root = self.subjects[root].unwrap_or(root);
            }
            let Some(mark) = marks[root].filter(|_| root != at && self.subjects[root].is_none()) else {
                continue;
            };
            let image = self.images[at];
            let claimed = rules.iter().take(mark.rule).any(|rule| rule.identifies(image));
            let done = mark.action == Action::Archive && image.archived_at.is_some();
            marks[at] = Some(mark).filter(|_| !claimed && !done);
        }
    }

    /// Takes marks away from what is held by something that stays: the indexes that list it, the subject it refers to.
    fn spare_the_held(&self, marks: &mut [Option<Mark>]) {
        loop {
            let held: Vec<_> = (0..self.images.len())
                .filter(|at| {
                    let holders = || self.indexes[*at].iter().chain(&self.subjects[*at]);
                    marks[*at].is_some_and(|mark| holders().any(|holder| !self.lets_go(*holder, mark.action, marks)))
                })
                .collect();
            if held.is_empty() {
                return;
            }
            for at in held {
                marks[at] = None;
            }
        }
    }

    fn lets_go(&self, holder: usize, action: Action, marks: &[Option<Mark>]) -> bool {
        match action {
            Action::Expire => marks[holder].is_some_and(|mark| mark.action == Action::Expire),
            Action::Archive => marks[holder].is_some() || self.images[holder].archived_at.is_some(),
        }
    }
}

impl Image {
    /// The time by which images are ordered.
    fn since(&self) -> Timestamp {
        self.archived_at.unwrap_or_else(|| self.active_since())
    }

    fn active_since(&self) -> Timestamp {
        self.activated_at.unwrap_or(self.pushed_at)
    }

    const fn class(&self) -> StorageClass {
        if self.archived_at.is_some() {
            StorageClass::Archive
        } else {
            StorageClass::Standard
        }
    }
}

impl Rule {
    /// Whether an image is of the rule's storage class and meets its tagging requirements.
    fn identifies(&self, image: &Image) -> bool {
        self.selection.class == image.class() && self.selection.tags.matches(&image.tags)
    }
}

impl Count {
    /// Whether an image is old enough, where age is what counts.
    fn is_due(self, image: &Image, now: Timestamp) -> bool {
        let since = match self {
            Self::ImagesMoreThan(_) => return true,
            Self::DaysSincePushed(_) => image.active_since(),
            // A pull before the image was last archived says nothing about its life since.
            Self::DaysSincePulled(_) => image
                .pulled_at
                .filter(|pulled| image.activated_at.is_none_or(|activated| *pulled >= activated))
                .unwrap_or_else(|| image.active_since()),
            Self::DaysSinceTransitioned(_) => match image.archived_at {
                Some(archived) => archived,
                None => return false,
            },
        };
        now.duration_since(since) > SignedDuration::from_hours(24 * i64::from(self.number()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{day, expired, image, now, policy};
    use super::*;

    fn of(digest: &str, tags: &[&str], days_ago: i64) -> Image {
        image(digest, tags, days_ago)
    }

    fn index(digest: &str, tags: &[&str], days_ago: i64, children: &[&str]) -> Image {
        Image {
            children: children.iter().map(|&child| child.to_owned()).collect(),
            ..image(digest, tags, days_ago)
        }
    }

    fn referrer(digest: &str, tags: &[&str], days_ago: i64, subject: &str) -> Image {
        Image {
            subject: Some(subject.to_owned()),
            ..image(digest, tags, days_ago)
        }
    }

    fn untagged_after(days: u32) -> Policy {
        policy(&format!(
            r#"[{{"selection":{{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":{days}}},"action":{{"type":"expire"}}}}]"#
        ))
    }

    #[test]
    fn images_of_an_index_stay_as_long_as_the_index() {
        let kept = [
            of("amd64", &[], 9),
            of("arm64", &[], 9),
            index("both", &["v1"], 9, &["amd64", "arm64"]),
            of("alone", &[], 9),
        ];
        assert_eq!(expired(&untagged_after(1), &kept), ["alone"]);
        let gone = [
            of("amd64", &[], 9),
            index("outer", &[], 8, &["inner"]),
            index("inner", &[], 8, &["amd64"]),
        ];
        assert_eq!(expired(&untagged_after(1), &gone), ["amd64", "inner", "outer"]);
        let shared = [
            of("amd64", &[], 9),
            index("old", &[], 9, &["amd64"]),
            index("new", &["v2"], 9, &["amd64"]),
        ];
        assert_eq!(expired(&untagged_after(1), &shared), ["old"]);
        let nested = [
            of("amd64", &[], 9),
            index("outer", &["v1"], 8, &["inner"]),
            index("inner", &[], 8, &["amd64"]),
        ];
        assert_eq!(expired(&untagged_after(1), &nested), Vec::<String>::new());
    }

    #[test]
    fn referrers_go_with_their_subject_and_not_by_themselves() {
        let kept = [
            of("app", &["v1"], 9),
            referrer("signature", &[], 9, "app"),
            referrer("lost", &[], 9, "gone before"),
        ];
        assert_eq!(expired(&untagged_after(1), &kept), ["lost"]);
        let gone = [
            of("app", &[], 9),
            referrer("sbom", &["sbom"], 0, "app"),
            referrer("signature", &[], 0, "sbom"),
        ];
        assert_eq!(expired(&untagged_after(1), &gone), ["app", "sbom", "signature"]);
        let held = [
            index("both", &["v1"], 9, &["app"]),
            of("app", &[], 9),
            referrer("signature", &[], 9, "app"),
        ];
        assert_eq!(expired(&untagged_after(1), &held), Vec::<String>::new());
        let round = [referrer("a", &[], 9, "b"), referrer("b", &[], 9, "a")];
        assert_eq!(expired(&untagged_after(1), &round), Vec::<String>::new());
    }

    #[test]
    fn a_referrer_whose_own_tags_an_earlier_rule_asks_for_stays() {
        let images = [of("app", &[], 9), referrer("signature", &["in-use.1"], 9, "app")];
        assert_eq!(expired(&untagged_after(1).protecting("in-use."), &images), ["app"]);
    }

    #[test]
    fn a_restored_image_is_as_young_as_its_return() {
        let restored = Image {
            activated_at: Some(day(1)),
            ..of("restored", &[], 90)
        };
        assert_eq!(
            expired(&untagged_after(30), std::slice::from_ref(&restored)),
            Vec::<String>::new()
        );
        let keep_one = policy(
            r#"[{"selection":{"tagStatus":"any","countType":"imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]"#,
        );
        assert_eq!(expired(&keep_one, &[restored, of("newer", &[], 5)]), ["newer"]);
    }

    #[test]
    fn a_pull_counts_unless_the_image_was_archived_since() {
        let rules = policy(
            r#"[{"selection":{"tagStatus":"any","countType":"sinceImagePulled","countUnit":"days","countNumber":30},"action":{"type":"transition","targetStorageClass":"archive"}}]"#,
        );
        let pulled = |digest: &str, pulled: Option<i64>, activated: Option<i64>| Image {
            pulled_at: pulled.map(day),
            activated_at: activated.map(day),
            ..of(digest, &[], 200)
        };
        let images = [
            pulled("never", None, None),
            pulled("long ago", Some(31), None),
            pulled("lately", Some(29), None),
            pulled("back", Some(100), Some(10)),
            pulled("back for long", Some(100), Some(40)),
            pulled("back and pulled", Some(10), Some(40)),
        ];
        let doomed = evaluate(&rules, &images, now());
        assert!(doomed.iter().all(|doomed| doomed.action == Action::Archive));
        assert_eq!(expired(&rules, &images), ["long ago", "never", "back for long"]);
    }

    #[test]
    fn a_day_is_over_after_24_hours_and_not_with_them() {
        let rules = untagged_after(1);
        let images = [of("a", &[], 1)];
        assert!(evaluate(&rules, &images, now()).is_empty());
        assert_eq!(
            evaluate(&rules, &images, now() + SignedDuration::from_nanos(1)).len(),
            1
        );
    }

    #[test]
    fn archived_images_are_of_another_class() {
        let both = policy(
            r#"[{"selection":{"tagStatus":"any","countType":"sinceImagePushed","countUnit":"days","countNumber":30},"action":{"type":"expire"}},
                {"selection":{"tagStatus":"any","storageClass":"archive","countType":"sinceImageTransitioned","countUnit":"days","countNumber":90},"action":{"type":"expire"}}]"#,
        );
        let archived = |digest: &str, days: i64| Image {
            archived_at: Some(day(days)),
            ..of(digest, &[], 900)
        };
        let images = [archived("fresh", 89), archived("due", 91), of("plain", &[], 31)];
        let doomed = evaluate(&both, &images, now());
        let seen: Vec<_> = doomed
            .iter()
            .map(|doomed| (doomed.digest.as_str(), doomed.rule))
            .collect();
        assert_eq!(seen, [("due", 2), ("plain", 1)]);
    }

    #[test]
    fn an_image_of_an_archived_index_may_follow_into_the_archive_and_no_further() {
        let outer = Image {
            archived_at: Some(day(3)),
            ..index("outer", &["v1"], 9, &["child"])
        };
        let images = [outer, of("child", &[], 9)];
        assert_eq!(expired(&untagged_after(1), &images), Vec::<String>::new());
        let archiving = policy(
            r#"[{"selection":{"tagStatus":"untagged","countType":"sinceImagePushed","countUnit":"days","countNumber":1},"action":{"type":"transition","targetStorageClass":"archive"}}]"#,
        );
        assert_eq!(expired(&archiving, &images), ["child"]);
    }
}
