//! What each ReplicationConfig asks for, in the terms of the document. Pure.

use kube::{Resource as _, ResourceExt as _};

use crate::{
    api::{
        Registry, ReplicationConfig,
        replication::{
            Backfill, DeleteReplication, FilterType, ReplicationDestination, ReplicationFilter, ReplicationRule,
        },
    },
    control::reason::Reason,
    document::replication::{
        Meaning, Place,
        compose::{Claim, Wish},
    },
};

/// Why an object's rules are not put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub reason: Reason,
    pub message: String,
    /// Whether it goes on by itself.
    pub waits: bool,
}

/// What is known of the images that destinations of deletions use.
pub(crate) trait Covers {
    /// Whether they are kept at the source, and why that is not known.
    fn covers(&self, rule: &ReplicationRule, to: &ReplicationDestination) -> Result<(), Refused>;
}

/// An object of the registry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub name: String,
    pub claim: Claim,
    pub refused: Option<Refused>,
    /// Its rules were seen in ECR as it asks for them now.
    pub settled: bool,
    /// What was there before its rules is to be sent, too.
    pub backfills: bool,
}

pub(crate) fn meaning(rule: &ReplicationRule) -> Meaning {
    let places = rule.destinations.iter().map(place);
    let filters = rule.repository_filters.as_ref();
    Meaning {
        destinations: places.collect(),
        filters: filters.map(|filters| filters.iter().map(|filter| filter.filter.clone()).collect()),
        deletes: deletes(rule),
    }
}

pub(crate) fn place(destination: &ReplicationDestination) -> Place {
    Place {
        region: destination.region.to_string(),
        registry_id: destination.registry_id.to_string(),
    }
}

/// As it stands in a status.
pub(crate) fn destination(place: &Place) -> Option<ReplicationDestination> {
    Some(ReplicationDestination {
        region: place.region.parse().ok()?,
        registry_id: place.registry_id.parse().ok()?,
    })
}

pub(crate) fn deletes(rule: &ReplicationRule) -> bool {
    rule.delete_replication
        .as_ref()
        .is_some_and(|deletion| deletion.enabled)
}

/// As it stands in a status. What was made from an object's rules can be written as such.
pub(crate) fn rule(meaning: &Meaning) -> Option<ReplicationRule> {
    let places = meaning.destinations.iter().map(destination);
    let filters = meaning.filters.as_ref().map(|filters| {
        let filters = filters.iter().map(|filter| ReplicationFilter {
            filter: filter.clone(),
            filter_type: FilterType::PrefixMatch,
        });
        filters.collect()
    });
    Some(ReplicationRule {
        destinations: places.collect::<Option<_>>()?,
        repository_filters: filters,
        delete_replication: meaning.deletes.then_some(DeleteReplication { enabled: true }),
    })
}

/// What the object asks for, and what it gets of it before limits.
pub(crate) fn part(object: &ReplicationConfig, registry: &Registry, known: &impl Covers) -> Part {
    let allow_delete = registry
        .spec
        .replication
        .as_ref()
        .is_some_and(|limits| limits.allow_delete);
    let status = object.status.as_ref();
    let mut in_force: Vec<Meaning> = status.iter().flat_map(|status| &status.in_force).map(meaning).collect();
    let wanted: Vec<Meaning> = object.spec.rules.iter().map(meaning).collect();
    let settled = in_force == wanted;
    let refused = match object.spec.suspend {
        true => None,
        false => refused(object, registry, allow_delete, settled, known),
    };
    if !allow_delete {
        // What is not allowed any more ends, whatever holds the object up; the copies go on.
        for rule in &mut in_force {
            rule.deletes = false;
        }
    }
    let wish = match (&object.meta().deletion_timestamp, &refused, object.spec.suspend) {
        (Some(_), _, false) => Wish::Gone,
        (None, None, false) => Wish::Rules(wanted),
        _ => Wish::Held,
    };
    Part {
        name: object.name_any(),
        claim: Claim {
            id: object.name_any(),
            wish,
            in_force,
        },
        refused,
        settled: settled && !object.spec.suspend,
        backfills: object.spec.backfill == Backfill::OnChange,
    }
}

fn refused(
    object: &ReplicationConfig,
    registry: &Registry,
    allow_delete: bool,
    settled: bool,
    known: &impl Covers,
) -> Option<Refused> {
    let name = registry.name_any();
    let rules = &object.spec.rules;
    let own = (&registry.spec.region, &registry.spec.registry_id);
    let mut places = rules.iter().flat_map(|rule| &rule.destinations);
    if places.any(|place| (&place.region, &place.registry_id) == own) {
        let message = format!("spec.rules: Registry {name} is a destination of its own images");
        return Some(Refused {
            reason: Reason::Invalid,
            message,
            waits: false,
        });
    }
    let deleting: Vec<&ReplicationRule> = rules.iter().filter(|rule| deletes(rule)).collect();
    if deleting.is_empty() {
        return None;
    }
    if !allow_delete {
        let message =
            format!("spec.replication.allowDelete of Registry {name} is not true, and a rule has deleteReplication");
        return Some(Refused {
            reason: Reason::NotAllowed,
            message,
            waits: false,
        });
    }
    // What is in force was let through then. To take it out because something cannot be seen for a while would end the
    // replication; nothing is released at the source meanwhile.
    if settled {
        return None;
    }
    let mut reasons = deleting
        .iter()
        .flat_map(|rule| rule.destinations.iter().map(|to| known.covers(rule, to)));
    reasons.find_map(Result::err)
}
