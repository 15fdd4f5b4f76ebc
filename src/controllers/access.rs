//! Whether an object may use its registry at all: the Registry and its `suspend`, the tenants, the claim, the mode. Pure, and
//! asked before any call to AWS. Every kind asks here, so that tenancy is decided in one place:
//!
//! | | Tenants with | for | No Registry | Suspended | Not ready | Managed elsewhere |
//! |---|---|---|---|---|---|---|
//! | Repository, each of its replicas | `Manage` | its name | not any more | not now | not now | not any more |
//! | `ImagePromotion`: source, each copy | `Promote` | the name | not any more | not now | goes back only | as always |
//! | `PullSecret`, each Registry | `Pull` | all their prefixes | not now | not now | not now | as always |
//! | Kinds of the cluster, documents of a Registry | are not asked | | not any more | not now | not now | not any more |
//!
//! An object that no tenant lets in has no access any more, a `PullSecret` not even while the Registry is suspended.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    api::{
        Registry, Repository,
        names::RepositoryName,
        registry::{Permission, RegistryMode, Tenant},
        selector::selects,
    },
    control::{
        plan::{Goal, Plan, Verdict},
        reason::Reason,
    },
};

/// How soon to look again where a hint will come when things change; the look is only a safety net.
const HINTED: Duration = Duration::from_mins(2);

/// Whether objects may use the registry, as its Registry was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This cluster is the one writer.
    Managing,
    /// Look and report only.
    Observing,
    /// Somebody else is the one writer.
    ManagedElsewhere(String),
    /// Not to be used now; the message says why.
    NotReady(String),
}

impl Standing {
    /// Whether this cluster is the one writer.
    pub(crate) fn manages(&self) -> bool {
        *self == Self::Managing
    }

    /// Whether the registry answers, whoever is its writer.
    pub(crate) fn is_usable(&self) -> bool {
        !matches!(self, Self::NotReady(_))
    }
}

/// Who asks, and for which registry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request<'a> {
    /// The Registry that the object names.
    pub registry_name: &'a str,
    /// `None` where it does not exist.
    pub registry: Option<&'a Registry>,
    /// `None` for a kind of the cluster: whoever writes one is an administrator, and tenants have no part in it.
    pub tenancy: Option<Tenancy<'a>>,
}

/// What an object of a namespace asks of the tenants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenancy<'a> {
    pub permission: Permission,
    pub namespace: &'a str,
    /// The labels of the namespace; `None` where it is gone.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// `None`: all repositories that the tenants let the namespace have.
    pub repository: Option<&'a RepositoryName>,
}

/// What an object may do. `C` is the connection to the registry.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Access<'a, C> {
    pub registry: &'a Registry,
    pub connection: C,
    /// The tenants that let the object in; none for a kind of the cluster.
    pub tenants: Vec<&'a Tenant>,
    /// Whether anything may be written that only the managing cluster may write.
    pub manage: bool,
    /// Why the registry is not to be asked now. Only an object that promotes gets access all the same.
    pub unready: Option<String>,
}

/// Why an object may not use its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// What is there stays as it is until access is given again.
    NotNow(Verdict),
    /// A deletion leaves what is in AWS and lets the object go; a token is taken away.
    NotAnyMore(Verdict),
}

/// The principals and organizations that the tenants of an object allow its policy to name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grants {
    /// `None`: everyone in the registry's own account.
    pub principals: Option<Vec<String>>,
    pub organization_ids: Vec<String>,
}

/// Decides. `connection` is the way to the registry with its standing, `None` before the Registry was looked at.
pub(crate) fn access<'a, C>(request: &Request<'a>, connection: Option<(C, Standing)>) -> Result<Access<'a, C>, Denied> {
    let name = request.registry_name;
    let permission = request.tenancy.map(|tenancy| tenancy.permission);
    let Some(registry) = request.registry else {
        let verdict = not_ready(format!("Registry {name} does not exist"));
        return Err(match permission {
            // A token ends by itself.
            Some(Permission::Pull) => Denied::NotNow(verdict),
            _ => Denied::NotAnyMore(verdict),
        });
    };
    let tenants = match request.tenancy {
        Some(tenancy) => tenancy.admitting(registry),
        None => Ok(Vec::new()),
    };
    let tenants = tenants.map_err(|why| {
        let message = format!("Registry {name} {why}");
        Denied::NotAnyMore(Verdict::blocked(Reason::NotAllowed, message))
    });
    if registry.spec.suspend {
        let spec = format!("spec.suspend of Registry {name} is true");
        return Err(Denied::NotNow(match permission {
            // What a token opens is closed even then.
            Some(Permission::Pull) => tenants.map(|_| not_ready(format!("{spec}: no token of it is renewed")))?,
            _ => Verdict::Suspended {
                message: format!("{spec}: nothing in it is looked at or written"),
            },
        }));
    }
    let tenants = tenants?;
    let not_yet = Denied::NotNow(Verdict::NotYet {
        after: Duration::from_secs(if permission == Some(Permission::Promote) { 1 } else { 2 }),
    });
    let Some((connection, standing)) = connection else {
        return Err(not_yet);
    };
    let (manage, unready) = match (permission, standing) {
        // Going back to an image whose digest is known needs no answer of the registry.
        (Some(Permission::Promote), Standing::NotReady(message)) => (false, Some(message)),
        (_, Standing::NotReady(message)) => return Err(Denied::NotNow(not_ready(message))),
        // Promoting and pulling write nothing that only the managing cluster may write.
        (Some(Permission::Promote | Permission::Pull), Standing::Managing | Standing::ManagedElsewhere(_))
        | (_, Standing::Observing) => (false, None),
        (_, Standing::ManagedElsewhere(message)) => {
            return Err(Denied::NotAnyMore(Verdict::blocked(Reason::ManagedElsewhere, message)));
        }
        // The Registry was just edited, and its own look is not over yet.
        (_, Standing::Managing) if registry.spec.mode == RegistryMode::Observe => return Err(not_yet),
        (_, Standing::Managing) => (true, None),
    };
    Ok(Access {
        registry,
        connection,
        tenants,
        manage,
        unready,
    })
}

fn not_ready(message: String) -> Verdict {
    Verdict::Waiting {
        reason: Reason::RegistryNotReady,
        message,
        after: HINTED,
    }
}

impl<'a> Request<'a> {
    /// The request of a kind of the cluster.
    pub(crate) fn of_cluster(registry_name: &'a str, registry: Option<&'a Registry>) -> Self {
        Self {
            registry_name,
            registry,
            tenancy: None,
        }
    }

    /// The request of a Repository to be managed in the Registry that it names. `labels` are those of its namespace.
    pub(crate) fn of_repository(
        object: &'a Repository,
        name: &'a RepositoryName,
        registry: Option<&'a Registry>,
        labels: Option<&'a BTreeMap<String, String>>,
    ) -> Self {
        Self {
            registry_name: &object.spec.registry_ref.name,
            registry,
            tenancy: Some(Tenancy {
                permission: Permission::Manage,
                namespace: object.metadata.namespace.as_deref().unwrap_or_default(),
                labels,
                repository: Some(name),
            }),
        }
    }
}

impl Tenancy<'_> {
    /// The tenants that let the namespace do what it asks for, or why none does.
    fn admitting<'r>(&self, registry: &'r Registry) -> Result<Vec<&'r Tenant>, String> {
        let namespace = self.namespace;
        let (what, preposition) = match self.permission {
            Permission::Manage => ("manage repositories", "one named"),
            Permission::Promote => ("promote images", "from or to"),
            Permission::Pull => ("pull images", "from"),
        };
        let empty = BTreeMap::new();
        let labels = self.labels.unwrap_or(&empty);
        let selecting =
            |tenant: &&Tenant| tenant.may.contains(&self.permission) && selects(&tenant.namespace_selector, labels);
        let selecting: Vec<&Tenant> = registry.spec.tenants.iter().filter(selecting).collect();
        let holds = |tenant: &&&Tenant| {
            let mut prefixes = tenant.repository_prefixes.iter();
            prefixes.any(|prefix| self.repository.is_none_or(|name| prefix.holds(namespace, name)))
        };
        let admitting: Vec<&Tenant> = selecting.iter().filter(holds).copied().collect();
        match (admitting.is_empty(), selecting.is_empty(), self.repository) {
            (false, ..) => Ok(admitting),
            (true, false, Some(name)) => Err(format!(
                "lets namespace {namespace} {what}, but not {preposition} {name}"
            )),
            (true, ..) => Err(format!("has no tenant that lets namespace {namespace} {what}")),
        }
    }
}

impl<C> Access<'_, C> {
    /// What the tenants grant together.
    pub(crate) fn grants(&self) -> Grants {
        let mut together = Grants::default();
        for tenant in &self.tenants {
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
        let silent = self.tenants.iter().any(|tenant| tenant.principals.is_none());
        if let (Some(principals), true) = (&mut together.principals, silent) {
            principals.push(self.registry.spec.registry_id.to_string());
        }
        together
    }
}

impl Denied {
    pub(crate) fn verdict(&self) -> &Verdict {
        let (Self::NotNow(verdict) | Self::NotAnyMore(verdict)) = self;
        verdict
    }

    /// The plan of an object that may not act. `left_behind` is that of a deletion which leaves what is in AWS, and why.
    pub(crate) fn plan<S>(&self, goal: Goal, left_behind: impl FnOnce(&str) -> Plan<S>) -> Plan<S> {
        match (self, goal) {
            (Self::NotAnyMore(verdict), Goal::Absent) => left_behind(&verdict.to_string()),
            (denied, _) => Plan::verdict(denied.verdict().clone()),
        }
    }
}
