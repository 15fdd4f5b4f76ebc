//! Whether an object may act on its registry at all: tenancy, the claim, the mode. Pure, and decided before any call to
//! AWS.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};

use crate::{
    api::{
        Registry, Repository,
        names::{AccountId, RepositoryName},
        registry::{Permission, RegistryMode, Tenant},
    },
    control::{plan::Verdict, reason::Reason},
    controllers::registry::connection::Standing,
};

/// How soon to look again where a hint will come when things change; the look is only a safety net.
const HINTED: Duration = Duration::from_mins(2);

/// What an object may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    Open {
        /// Whether anything may be written.
        manage: bool,
        grants: Grants,
    },
    /// Not now.
    Closed(Verdict),
    /// Not any more: a deletion leaves what is in AWS and lets the object go.
    Lost(Verdict),
}

/// Whom the tenants that let the object in allow its policy to name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// `None`: everyone in the registry's own account.
    pub principals: Option<Vec<String>>,
    pub organization_ids: Vec<String>,
}

/// Decides. `namespace` are the labels of the object's namespace, `None` where it is gone.
pub(crate) fn gate(
    repository: &Repository,
    name: &RepositoryName,
    registry: Option<&Registry>,
    namespace: Option<&BTreeMap<String, String>>,
    standing: Option<Standing>,
) -> Gate {
    let wanted = &repository.spec.registry_ref.name;
    let Some(registry) = registry else {
        let message = format!("Registry {wanted} does not exist");
        return Gate::Lost(Verdict::Waiting {
            reason: Reason::RegistryNotReady,
            message,
            after: HINTED,
        });
    };
    if registry.spec.suspend {
        let message = format!("spec.suspend of Registry {wanted} is true: nothing in it is looked at or written");
        return Gate::Closed(Verdict::Suspended { message });
    }
    let object_namespace = repository.metadata.namespace.as_deref().unwrap_or_default();
    let own_account = &registry.spec.registry_id;
    let grants = match grants(&registry.spec.tenants, own_account, object_namespace, namespace, name) {
        Ok(grants) => grants,
        Err(message) => {
            return Gate::Lost(Verdict::blocked(
                Reason::NotAllowed,
                format!("Registry {wanted} {message}"),
            ));
        }
    };
    match standing {
        None => Gate::Closed(Verdict::NotYet {
            after: Duration::from_secs(2),
        }),
        Some(Standing::NotReady(message)) => Gate::Closed(Verdict::Waiting {
            reason: Reason::RegistryNotReady,
            message,
            after: HINTED,
        }),
        Some(Standing::ManagedElsewhere(message)) => Gate::Lost(Verdict::blocked(Reason::ManagedElsewhere, message)),
        Some(Standing::Observing) => Gate::Open { manage: false, grants },
        // The Registry was just edited, and its own look is not over yet.
        Some(Standing::Managing) if registry.spec.mode == RegistryMode::Observe => Gate::Closed(Verdict::NotYet {
            after: Duration::from_secs(2),
        }),
        Some(Standing::Managing) => Gate::Open { manage: true, grants },
    }
}

/// What the tenants grant together, or why none of them lets the object in.
fn grants(
    tenants: &[Tenant],
    own_account: &AccountId,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
    name: &RepositoryName,
) -> Result<Grants, String> {
    let granting = admitting(tenants, Permission::Manage, namespace, labels, name)?;
    let mut together = Grants::default();
    for tenant in &granting {
        together
            .organization_ids
            .extend(tenant.organization_ids.iter().cloned());
        if let Some(principals) = &tenant.principals {
            together
                .principals
                .get_or_insert_default()
                .extend(principals.iter().cloned());
        }
    }
    // A tenant that names nobody grants the own account; another that names some must not take that away.
    let silent = granting.iter().any(|tenant| tenant.principals.is_none());
    if let (Some(principals), true) = (&mut together.principals, silent) {
        principals.push(own_account.to_string());
    }
    Ok(together)
}

/// The tenants that let a namespace do something with a repository, or why none does.
pub(crate) fn admitting<'t>(
    tenants: &'t [Tenant],
    permission: Permission,
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
    name: &RepositoryName,
) -> Result<Vec<&'t Tenant>, String> {
    let what = match permission {
        Permission::Manage => "manage repositories",
        Permission::Promote => "promote images",
        Permission::Pull => "pull images",
    };
    let empty = BTreeMap::new();
    let labels = labels.unwrap_or(&empty);
    let selecting: Vec<&Tenant> = tenants
        .iter()
        .filter(|tenant| tenant.may.contains(&permission) && selects(&tenant.namespace_selector, labels))
        .collect();
    if selecting.is_empty() {
        return Err(format!("has no tenant that lets namespace {namespace} {what}"));
    }
    let holds = |tenant: &&Tenant| {
        let mut prefixes = tenant.repository_prefixes.iter();
        prefixes.any(|prefix| prefix.holds(namespace, name))
    };
    let admitting: Vec<&Tenant> = selecting.into_iter().filter(holds).collect();
    if admitting.is_empty() {
        let preposition = if permission == Permission::Manage {
            "one named"
        } else {
            "from or to"
        };
        return Err(format!(
            "lets namespace {namespace} {what}, but not {preposition} {name}"
        ));
    }
    Ok(admitting)
}

/// Whether the selector selects. One that cannot be understood selects nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        registry::{RegistrySpec, documents::RegistryDocuments},
        repository::{RegistryRef, RepositorySpec},
    };

    const OWN: &str = "111122223333";

    fn tenant(selector: serde_json::Value, prefixes: &[&str], principals: Option<&[&str]>) -> Tenant {
        Tenant {
            namespace_selector: serde_json::from_value(selector).unwrap(),
            repository_prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            may: vec![Permission::Manage],
            principals: principals.map(|list| list.iter().map(ToString::to_string).collect()),
            organization_ids: Vec::new(),
        }
    }

    fn selected(prefixes: &[&str]) -> Tenant {
        tenant(serde_json::json!({ "matchLabels": { "ecr": "yes" } }), prefixes, None)
    }

    fn registry(tenants: Vec<Tenant>) -> Registry {
        let spec = RegistrySpec {
            region: "eu-west-1".parse().unwrap(),
            registry_id: OWN.parse().unwrap(),
            assume_role: None,
            endpoints: None,
            mode: RegistryMode::Manage,
            tenants,
            creation_defaults: None,
            events: None,
            takeover: None,
            in_use: None,
            budget: None,
            pull: None,
            replication: None,
            documents: RegistryDocuments::default(),
            suspend: false,
        };
        Registry::new("main", spec)
    }

    fn decide(registry: Option<&Registry>, labels: &[(&str, &str)], name: &str, standing: Option<Standing>) -> Gate {
        let spec: RepositorySpec =
            serde_json::from_value(serde_json::json!({ "registryRef": { "name": "main" } })).unwrap();
        assert_eq!(spec.registry_ref, RegistryRef { name: "main".into() });
        let mut repository = Repository::new("web", spec);
        repository.metadata.namespace = Some("team-a".into());
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        gate(&repository, &name.parse().unwrap(), registry, Some(&labels), standing)
    }

    fn managing(tenants: Vec<Tenant>, labels: &[(&str, &str)], name: &str) -> Gate {
        decide(Some(&registry(tenants)), labels, name, Some(Standing::Managing))
    }

    fn refused(gate: &Gate) -> bool {
        matches!(
            gate,
            Gate::Lost(Verdict::Blocked {
                reason: Reason::NotAllowed,
                ..
            })
        )
    }

    #[test]
    fn without_tenants_nobody_gets_in() {
        assert!(refused(&managing(vec![], &[("ecr", "yes")], "team-a/web")));
    }

    #[test]
    fn a_namespace_gets_in_by_its_labels_and_for_its_prefixes_only() {
        let tenants = || vec![selected(&["{namespace}/"])];
        assert!(matches!(
            managing(tenants(), &[("ecr", "yes")], "team-a/web"),
            Gate::Open { manage: true, .. }
        ));
        assert!(refused(&managing(tenants(), &[("ecr", "no")], "team-a/web")));
        assert!(refused(&managing(tenants(), &[], "team-a/web")));
        assert!(refused(&managing(tenants(), &[("ecr", "yes")], "team-ab/web")));
        assert!(refused(&managing(tenants(), &[("ecr", "yes")], "team-b/web")));
    }

    #[test]
    fn every_namespace_must_be_written_out_as_an_empty_selector() {
        let all = tenant(serde_json::json!({}), &["*"], None);
        assert!(matches!(managing(vec![all], &[], "anything/at-all"), Gate::Open { .. }));
        let unknown =
            serde_json::json!({ "matchExpressions": [{ "key": "ecr", "operator": "Is", "values": ["yes"] }] });
        assert!(refused(&managing(
            vec![tenant(unknown, &["*"], None)],
            &[("ecr", "yes")],
            "team-a/web"
        )));
    }

    #[test]
    fn only_tenants_that_let_the_object_in_grant_principals() {
        let tenants = vec![
            tenant(serde_json::json!({}), &["team-a/"], Some(&["444455556666"])),
            tenant(serde_json::json!({}), &["team-b/"], Some(&["999999999999"])),
            tenant(
                serde_json::json!({ "matchLabels": { "ecr": "no" } }),
                &["*"],
                Some(&["888888888888"]),
            ),
        ];
        let Gate::Open { grants, .. } = managing(tenants, &[], "team-a/web") else {
            panic!("closed")
        };
        assert_eq!(grants.principals, Some(vec!["444455556666".to_owned()]));
    }

    #[test]
    fn a_tenant_that_names_nobody_keeps_the_own_account_beside_one_that_names_some() {
        let all = || serde_json::json!({});
        let tenants = vec![
            tenant(all(), &["*"], None),
            tenant(all(), &["*"], Some(&["444455556666"])),
        ];
        let Gate::Open { grants, .. } = managing(tenants, &[], "team-a/web") else {
            panic!("closed")
        };
        assert_eq!(grants.principals, Some(vec!["444455556666".to_owned(), OWN.to_owned()]));
    }

    #[test]
    fn the_standing_of_the_registry_decides_once_the_tenant_is_let_in() {
        let registry = registry(vec![selected(&["*"])]);
        let with = |standing| decide(Some(&registry), &[("ecr", "yes")], "team-a/web", standing);
        assert!(matches!(with(None), Gate::Closed(Verdict::NotYet { .. })));
        assert!(matches!(
            with(Some(Standing::NotReady("x".into()))),
            Gate::Closed(Verdict::Waiting { .. })
        ));
        assert!(matches!(
            with(Some(Standing::Observing)),
            Gate::Open { manage: false, .. }
        ));
        assert!(matches!(
            with(Some(Standing::ManagedElsewhere("x".into()))),
            Gate::Lost(_)
        ));
        assert!(refused(&decide(
            Some(&registry),
            &[],
            "team-a/web",
            Some(Standing::Managing)
        )));
    }

    #[test]
    fn a_missing_registry_is_waited_for_and_a_suspended_one_stops_everything() {
        let missing = decide(None, &[("ecr", "yes")], "team-a/web", None);
        assert!(matches!(
            missing,
            Gate::Lost(Verdict::Waiting {
                reason: Reason::RegistryNotReady,
                ..
            })
        ));
        let mut registry = registry(vec![selected(&["*"])]);
        registry.spec.suspend = true;
        let suspended = decide(
            Some(&registry),
            &[("ecr", "yes")],
            "team-a/web",
            Some(Standing::Managing),
        );
        assert!(matches!(suspended, Gate::Closed(Verdict::Suspended { .. })));
    }
}
