//! Which policy applies to a Repository. Pure.
//!
//! How the choice could destroy something: a policy that is wrongly taken to be gone would hand its repositories to a broader
//! one, which may expire what the first kept. So a policy that cannot be read holds everything it might select.

use std::{cmp::Ordering, collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::api::{ClusterLifecyclePolicy, LifecyclePolicy, names::RepositoryName, selector::selects};

/// Labels of an object.
type Labels = BTreeMap<String, String>;

/// How closely a policy means a Repository; the closer comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Named,
    Selected,
    ClusterNamed,
    ClusterSelected,
}

/// A policy by its kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum PolicyName {
    Namespaced(String),
    Cluster(String),
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaced(name) => write!(f, "LifecyclePolicy {name}"),
            Self::Cluster(name) => write!(f, "ClusterLifecyclePolicy {name}"),
        }
    }
}

/// Which Repositories a policy means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meant<'a> {
    pub selector: Option<&'a LabelSelector>,
    pub names: Option<&'a [RepositoryName]>,
    /// For a policy of the cluster: in which namespaces.
    pub namespaces: Option<&'a LabelSelector>,
}

/// What is known of a Repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub name: &'a RepositoryName,
    pub labels: &'a Labels,
    /// The labels of its namespace; none where it does not exist.
    pub namespace: Option<&'a Labels>,
}

impl<'a> Meant<'a> {
    pub(crate) fn of(policy: &'a LifecyclePolicy) -> Self {
        Self {
            selector: policy.spec.repository_selector.as_ref(),
            names: policy.spec.repository_names.as_deref(),
            namespaces: None,
        }
    }

    pub(crate) fn of_cluster(policy: &'a ClusterLifecyclePolicy) -> Self {
        Self {
            selector: policy.spec.repository_selector.as_ref(),
            names: policy.spec.repository_names.as_deref(),
            namespaces: Some(&policy.spec.namespace_selector),
        }
    }
}

impl Meant<'_> {
    /// How closely the Repository is meant, if it is. A policy of a namespace is asked for Repositories of that namespace
    /// only.
    pub(crate) fn rank(&self, subject: Subject<'_>) -> Option<Rank> {
        let named = match (self.names, self.selector) {
            (Some(names), _) => names.contains(subject.name).then_some(true)?,
            (None, Some(selector)) => selects(selector, subject.labels).then_some(false)?,
            (None, None) => return None,
        };
        Some(match (self.namespaces, named) {
            (None, true) => Rank::Named,
            (None, false) => Rank::Selected,
            (Some(namespaces), named) => {
                let inside = subject.namespace.is_some_and(|labels| selects(namespaces, labels));
                if !inside {
                    return None;
                }
                match named {
                    true => Rank::ClusterNamed,
                    false => Rank::ClusterSelected,
                }
            }
        })
    }
}

/// Which of several policies applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice<P> {
    /// None means the Repository.
    Nobody,
    One(P),
    /// Several mean it equally closely, in the order of their names.
    Tie(Vec<PolicyName>),
}

/// Chooses the policy that means a Repository most closely.
pub(crate) fn choose<P>(meaning: impl IntoIterator<Item = (Rank, PolicyName, P)>) -> Choice<P> {
    let mut best: Option<Rank> = None;
    let mut names = Vec::new();
    let mut chosen = None;
    for (rank, name, policy) in meaning {
        match best.map_or(Ordering::Less, |best| rank.cmp(&best)) {
            Ordering::Less => {
                best = Some(rank);
                names = vec![name];
                chosen = Some(policy);
            }
            Ordering::Equal => names.push(name),
            Ordering::Greater => {}
        }
    }
    match (chosen, names.len()) {
        (Some(policy), 1) => Choice::One(policy),
        (Some(_), _) => {
            names.sort_unstable();
            Choice::Tie(names)
        }
        (None, _) => Choice::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[(&str, &str)]) -> Labels {
        labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn selector(pairs: &[(&str, &str)]) -> LabelSelector {
        LabelSelector {
            match_labels: Some(labels(pairs)),
            ..LabelSelector::default()
        }
    }

    const NOTHING: Meant<'_> = Meant {
        selector: None,
        names: None,
        namespaces: None,
    };

    #[test]
    fn a_name_beats_labels_and_both_beat_the_cluster() {
        let name: RepositoryName = "team/web".parse().unwrap();
        let names = [name.clone()];
        let (own, space) = (labels(&[("tier", "web")]), labels(&[("team", "a")]));
        let subject = Subject {
            name: &name,
            labels: &own,
            namespace: Some(&space),
        };
        let (all, web, other) = (
            LabelSelector::default(),
            selector(&[("tier", "web")]),
            selector(&[("tier", "db")]),
        );
        let by_name = Meant {
            names: Some(&names),
            ..NOTHING
        };
        let selected = Meant {
            selector: Some(&web),
            ..NOTHING
        };
        let ranks = [
            by_name,
            selected,
            Meant {
                selector: Some(&all),
                ..NOTHING
            },
            Meant {
                selector: Some(&other),
                ..NOTHING
            },
            Meant {
                namespaces: Some(&all),
                ..by_name
            },
            Meant {
                namespaces: Some(&all),
                ..selected
            },
            Meant {
                namespaces: Some(&web),
                ..selected
            },
        ]
        .map(|meant| meant.rank(subject));
        assert_eq!(
            ranks,
            [
                Some(Rank::Named),
                Some(Rank::Selected),
                Some(Rank::Selected),
                None,
                Some(Rank::ClusterNamed),
                Some(Rank::ClusterSelected),
                None
            ]
        );
        assert!(
            Rank::Named < Rank::Selected
                && Rank::Selected < Rank::ClusterNamed
                && Rank::ClusterNamed < Rank::ClusterSelected
        );
    }

    #[test]
    fn a_namespace_that_is_not_known_is_in_no_selector() {
        let name: RepositoryName = "team/web".parse().unwrap();
        let (own, all) = (Labels::new(), LabelSelector::default());
        let meant = Meant {
            selector: Some(&all),
            names: None,
            namespaces: Some(&all),
        };
        assert_eq!(
            meant.rank(Subject {
                name: &name,
                labels: &own,
                namespace: None
            }),
            None
        );
    }

    #[test]
    fn the_closest_applies_and_equals_tie() {
        let of = |rank, name: &str| (rank, PolicyName::Namespaced(name.into()), name.to_owned());
        assert_eq!(choose(Vec::<(Rank, PolicyName, String)>::new()), Choice::Nobody);
        let one = choose([
            of(Rank::ClusterSelected, "c"),
            of(Rank::Named, "a"),
            of(Rank::Selected, "b"),
        ]);
        assert_eq!(one, Choice::One("a".into()));
        let tie = choose([
            of(Rank::Selected, "z"),
            of(Rank::ClusterNamed, "c"),
            of(Rank::Selected, "b"),
        ]);
        let both = vec![PolicyName::Namespaced("b".into()), PolicyName::Namespaced("z".into())];
        assert_eq!(tie, Choice::Tie(both));
    }
}
