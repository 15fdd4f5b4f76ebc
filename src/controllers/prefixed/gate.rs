//! Whether an object may act on its registry at all: the Registry, the mode, the claim. Pure. Tenants have no part in it:
//! the objects are cluster-scoped, so that whoever writes one is an administrator.

use std::time::Duration;

use crate::{
    api::{Registry, registry::RegistryMode},
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
    },
    /// Not now.
    Closed(Verdict),
    /// Not any more: a deletion leaves what is in AWS and lets the object go.
    Lost(Verdict),
}

pub(crate) fn gate(name: &str, registry: Option<&Registry>, standing: Option<Standing>) -> Gate {
    let soon = Gate::Closed(Verdict::NotYet {
        after: Duration::from_secs(2),
    });
    let waiting = |message: String| Verdict::Waiting {
        reason: Reason::RegistryNotReady,
        message,
        after: HINTED,
    };
    let Some(registry) = registry else {
        return Gate::Lost(waiting(format!("Registry {name} does not exist")));
    };
    if registry.spec.suspend {
        let message = format!("spec.suspend of Registry {name} is true: nothing in it is looked at or written");
        return Gate::Closed(Verdict::Suspended { message });
    }
    match standing {
        None => soon,
        Some(Standing::NotReady(message)) => Gate::Closed(waiting(message)),
        Some(Standing::ManagedElsewhere(message)) => Gate::Lost(Verdict::blocked(Reason::ManagedElsewhere, message)),
        Some(Standing::Observing) => Gate::Open { manage: false },
        // The Registry was just edited, and its own look is not over yet.
        Some(Standing::Managing) if registry.spec.mode == RegistryMode::Observe => soon,
        Some(Standing::Managing) => Gate::Open { manage: true },
    }
}
