//! What to do about a Registry: whose credentials are these, and who manages the registry. Pure.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::connection::ClaimTags;
use crate::{
    api::{
        CLAIM_CLUSTER_TAG, CLAIM_REPOSITORY, CLAIM_WRITER_TAG, Registry,
        registry::{ClaimStatus, EventsStatus, InUseStatus, RegistryMode, documents::RegistryDocuments},
    },
    control::{
        plan::{Goal, Plan, Verdict, Warning},
        reason::Reason,
    },
    controllers::world::Identity,
};

/// How long to wait between taking a claim over and reading it again: whoever took it over at the same time has written
/// by then.
pub(crate) const TAKEOVER_PAUSE: Duration = Duration::from_secs(5);

/// What was seen of a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The account behind the credentials.
    pub account: String,
    /// The claim, if there is one.
    pub claim: Option<ClaimTags>,
    /// A claim that was taken over in this reconcile counts only once it was read again.
    pub unconfirmed: bool,
    /// Another Registry that stands for the same registry and came first.
    pub elder: Option<String>,
    /// How the reading of events goes; `None` without a queue, and until it was tried.
    pub events: Option<EventsStatus>,
    /// What is known of images in use; `None` until it was looked at.
    pub in_use: Option<InUseStatus>,
    /// Objects that refer to this Registry; only looked for when it is to be deleted.
    pub referrers: Vec<String>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Claims the registry: creates the repository that stands for the claim, which only one can do.
    Claim { tags: BTreeMap<String, String> },
    /// Moves a claim of the same owner from another cluster to this one.
    TakeOver {
        arn: String,
        from: String,
        tags: BTreeMap<String, String>,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { tags } => {
                let writer = tags.get(CLAIM_WRITER_TAG).map_or("", String::as_str);
                write!(
                    f,
                    "claim the registry for {writer}: create repository {CLAIM_REPOSITORY}"
                )
            }
            Self::TakeOver { from, .. } => write!(f, "take the claim on the registry over from cluster {from}"),
        }
    }
}

/// What a claim says.
pub(crate) fn read_claim(claim: &ClaimTags) -> ClaimStatus {
    let tag = |key: &str| claim.tags.get(key).cloned().unwrap_or_default();
    ClaimStatus {
        writer: tag(CLAIM_WRITER_TAG),
        cluster: tag(CLAIM_CLUSTER_TAG),
    }
}

/// The tags of a claim of ours.
pub(crate) fn claim_tags(me: &Identity) -> BTreeMap<String, String> {
    BTreeMap::from([
        (CLAIM_WRITER_TAG.to_owned(), me.owner.to_string()),
        (CLAIM_CLUSTER_TAG.to_owned(), me.cluster.clone()),
    ])
}

/// Whether the claim is ours, this cluster's.
pub(crate) fn is_ours(claim: &ClaimTags, me: &Identity) -> bool {
    read_claim(claim)
        == ClaimStatus {
            writer: me.owner.to_string(),
            cluster: me.cluster.clone(),
        }
}

pub(crate) fn plan(registry: &Registry, goal: Goal, me: &Identity, seen: &Seen) -> Plan<Step> {
    if goal == Goal::Absent {
        return removal(registry, seen);
    }
    Plan {
        holds: true,
        ..decide(registry, me, seen)
    }
}

fn decide(registry: &Registry, me: &Identity, seen: &Seen) -> Plan<Step> {
    let spec = &registry.spec;
    if seen.account != spec.registry_id.as_str() {
        let message = format!(
            "the credentials belong to account {}, spec.registryId is {}",
            seen.account, spec.registry_id
        );
        return Plan::verdict(Verdict::blocked(Reason::AccountMismatch, message));
    }
    if spec.mode == RegistryMode::Observe {
        return Plan::verdict(Verdict::Observed {
            differences: Vec::new(),
        });
    }
    if let Some(elder) = &seen.elder {
        let message = format!("Registry {elder} stands for the same account and Region already; delete one of the two");
        return Plan::verdict(Verdict::blocked(Reason::Conflict, message));
    }
    let Some(claim) = &seen.claim else {
        let step = Step::Claim { tags: claim_tags(me) };
        return Plan {
            steps: vec![step],
            ..Plan::verdict(Verdict::settled())
        };
    };
    let ClaimStatus { writer, cluster } = read_claim(claim);
    if is_ours(claim, me) {
        return Plan::verdict(match seen.unconfirmed {
            false => Verdict::Settled {
                message: "This cluster manages the registry.".into(),
            },
            true => Verdict::Waiting {
                reason: Reason::RegistryNotReady,
                message: "the claim was taken over and is read again before anything else is written".into(),
                after: TAKEOVER_PAUSE,
            },
        });
    }
    if writer.is_empty() {
        let message = format!("repository {CLAIM_REPOSITORY} exists and does not say who manages the registry");
        return Plan::verdict(Verdict::blocked(Reason::Conflict, message));
    }
    if writer != me.owner.as_str() {
        let message = format!(
            "the registry is managed by the installation {writer:?}, this one is {:?}",
            me.owner.as_str()
        );
        return Plan::verdict(Verdict::blocked(Reason::ManagedElsewhere, message));
    }
    if spec.takeover.as_deref() == Some(cluster.as_str()) && !cluster.is_empty() {
        let step = Step::TakeOver {
            arn: claim.arn.clone(),
            from: cluster,
            tags: claim_tags(me),
        };
        return Plan {
            steps: vec![step],
            ..Plan::verdict(Verdict::settled())
        };
    }
    let message = format!(
        "the registry is managed from the cluster {cluster} with the same ownerId; this one is {}",
        me.cluster
    );
    Plan::verdict(Verdict::blocked(Reason::ManagedElsewhere, message))
}

/// A Registry waits for the objects that refer to it: what they have in AWS would be nobody's to keep, and tokens would run
/// out. Its claim stays in ECR: another cluster must not take the registry for unmanaged because an object was deleted here.
fn removal(registry: &Registry, seen: &Seen) -> Plan<Step> {
    if let Some(first) = seen.referrers.first() {
        let more = match seen.referrers.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        let message =
            format!("{first}{more} still refers to this Registry; delete it first, or take the reference out of it");
        return Plan::verdict(Verdict::Waiting {
            reason: Reason::Conflict,
            message,
            after: Duration::from_secs(15),
        });
    }
    let mut plan = Plan::verdict(Verdict::settled());
    if registry.spec.mode == RegistryMode::Manage && registry.spec.documents != RegistryDocuments::default() {
        plan.warnings.push(Warning {
            reason: "DocumentsKept",
            message: format!(
                "The registry's documents and settings stay in account {}, {} as they are.",
                registry.spec.registry_id, registry.spec.region
            ),
        });
    }
    if registry.spec.mode == RegistryMode::Manage {
        plan.warnings.push(Warning {
            reason: "ClaimKept",
            message: format!(
                "The claim on the registry stays: repository {CLAIM_REPOSITORY} in account {}, {}. Delete it there if nobody manages the registry any more.",
                registry.spec.registry_id, registry.spec.region
            ),
        });
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::registry::RegistrySpec;

    fn me() -> Identity {
        Identity {
            owner: "platform".parse().unwrap(),
            cluster: "uid-1".into(),
        }
    }

    fn registry(mode: RegistryMode) -> Registry {
        Registry::new(
            "main",
            RegistrySpec {
                region: "eu-west-1".parse().unwrap(),
                registry_id: "111122223333".parse().unwrap(),
                assume_role: None,
                endpoints: None,
                mode,
                tenants: Vec::new(),
                creation_defaults: None,
                events: None,
                takeover: None,
                in_use: None,
                budget: None,
                pull: None,
                replication: None,
                documents: RegistryDocuments::default(),
                suspend: false,
            },
        )
    }

    fn seen(claim: Option<(&str, &str)>) -> Seen {
        let claim = claim.map(|(writer, cluster)| ClaimTags {
            arn: "arn".into(),
            tags: BTreeMap::from([
                (CLAIM_WRITER_TAG.to_owned(), writer.to_owned()),
                (CLAIM_CLUSTER_TAG.to_owned(), cluster.to_owned()),
            ]),
        });
        Seen {
            account: "111122223333".into(),
            claim,
            unconfirmed: false,
            elder: None,
            events: None,
            in_use: None,
            referrers: Vec::new(),
        }
    }

    fn reason(plan: &Plan<Step>) -> Reason {
        assert!(plan.steps.is_empty(), "{:?}", plan.steps);
        plan.verdict.reason()
    }

    #[test]
    fn nothing_is_claimed_with_the_credentials_of_another_account() {
        let seen = Seen {
            account: "999999999999".into(),
            ..seen(None)
        };
        let plan = plan(&registry(RegistryMode::Manage), Goal::Present, &me(), &seen);
        assert_eq!(reason(&plan), Reason::AccountMismatch);
    }

    #[test]
    fn of_two_objects_for_one_registry_only_the_elder_manages() {
        let seen = Seen {
            elder: Some("first".into()),
            ..seen(Some(("platform", "uid-1")))
        };
        let plan = plan(&registry(RegistryMode::Manage), Goal::Present, &me(), &seen);
        assert_eq!(reason(&plan), Reason::Conflict);
    }

    #[test]
    fn an_observed_registry_is_never_claimed() {
        for claim in [None, Some(("platform", "uid-1")), Some(("other", "uid-2"))] {
            let plan = plan(&registry(RegistryMode::Observe), Goal::Present, &me(), &seen(claim));
            assert_eq!(reason(&plan), Reason::Observed);
        }
    }

    #[test]
    fn a_registry_that_nobody_claimed_is_claimed_and_then_managed() {
        let registry = registry(RegistryMode::Manage);
        let claim = plan(&registry, Goal::Present, &me(), &seen(None));
        assert_eq!(
            claim.steps,
            [Step::Claim {
                tags: claim_tags(&me())
            }]
        );
        let after = plan(&registry, Goal::Present, &me(), &seen(Some(("platform", "uid-1"))));
        assert_eq!(reason(&after), Reason::Settled);
    }

    #[test]
    fn a_claim_of_another_is_respected() {
        let registry = registry(RegistryMode::Manage);
        for claim in [("other", "uid-1"), ("platform", "uid-2")] {
            assert_eq!(
                reason(&plan(&registry, Goal::Present, &me(), &seen(Some(claim)))),
                Reason::ManagedElsewhere
            );
        }
        assert_eq!(
            reason(&plan(&registry, Goal::Present, &me(), &seen(Some(("", ""))))),
            Reason::Conflict
        );
    }

    #[test]
    fn only_a_claim_of_the_same_owner_is_taken_over_and_only_by_its_uid() {
        let mut registry = registry(RegistryMode::Manage);
        registry.spec.takeover = Some("uid-2".into());
        let take = plan(&registry, Goal::Present, &me(), &seen(Some(("platform", "uid-2"))));
        assert!(matches!(&take.steps[..], [Step::TakeOver { from, .. }] if from == "uid-2"));
        for claim in [("platform", "uid-3"), ("other", "uid-2"), ("platform", "")] {
            assert_eq!(
                reason(&plan(&registry, Goal::Present, &me(), &seen(Some(claim)))),
                Reason::ManagedElsewhere
            );
        }
        registry.spec.takeover = Some(String::new());
        assert_eq!(
            reason(&plan(&registry, Goal::Present, &me(), &seen(Some(("platform", ""))))),
            Reason::ManagedElsewhere
        );
    }

    #[test]
    fn a_claim_just_taken_over_counts_only_once_it_was_read_again() {
        let seen = Seen {
            unconfirmed: true,
            ..seen(Some(("platform", "uid-1")))
        };
        let plan = plan(&registry(RegistryMode::Manage), Goal::Present, &me(), &seen);
        assert!(matches!(
            plan.verdict,
            Verdict::Waiting {
                after: TAKEOVER_PAUSE,
                ..
            }
        ));
    }

    #[test]
    fn a_registry_waits_for_its_objects_and_leaves_its_claim() {
        let registry = registry(RegistryMode::Manage);
        let used = Seen {
            events: None,
            referrers: vec!["a/x".into(), "a/y".into()],
            ..seen(None)
        };
        let waits = plan(&registry, Goal::Absent, &me(), &used);
        assert!(
            waits.verdict.to_string().contains("a/x and 1 more"),
            "{}",
            waits.verdict
        );
        let goes = plan(&registry, Goal::Absent, &me(), &seen(Some(("platform", "uid-1"))));
        assert_eq!(reason(&goes), Reason::Settled);
        assert_eq!(goes.warnings[0].reason, "ClaimKept");
    }
}
