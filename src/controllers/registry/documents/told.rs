//! What is told of the documents: their status, and what they mean for the Registry's `Ready`. Pure.

use std::time::Duration;

use super::{
    part::{Part, hash, wish},
    plan::Recorded,
};
use crate::{
    api::{
        Registry,
        registry::{
            RegistryMode,
            documents::{DocumentState, DocumentStatus, DocumentsStatus},
        },
    },
    control::{events::cut, plan::Verdict, reason::Reason},
};

/// The longest message of a part.
const MESSAGE: usize = 1_024;

/// The parts that the spec names, with the digest of what it asks for.
pub(crate) fn named(registry: &Registry, manage: bool) -> impl Iterator<Item = (Part, String)> {
    Part::ALL
        .into_iter()
        .filter_map(move |part| Some((part, hash(part, &wish(&registry.spec, part)?, manage))))
}

/// How a part was last told.
pub(crate) fn of(registry: &Registry, part: Part) -> Option<&DocumentStatus> {
    let documents = registry.status.as_ref()?.documents.as_ref()?;
    documents.parts.iter().find(|told| told.name == part.field())
}

pub(crate) fn recorded(registry: &Registry) -> Recorded {
    let documents = registry.status.as_ref().and_then(|status| status.documents.as_ref());
    documents.map_or_else(Recorded::default, |documents| Recorded {
        exclusions: documents.managed_exclusions.iter().cloned().collect(),
        statements: documents.managed_statements.iter().cloned().collect(),
    })
}

/// The status of a part.
pub(crate) fn line(part: Part, hash: String, state: DocumentState, reason: Reason, message: &str) -> DocumentStatus {
    let mut message = message.to_owned();
    cut(&mut message, MESSAGE);
    DocumentStatus {
        name: part.field().to_owned(),
        state,
        reason: reason.as_str().to_owned(),
        message,
        desired_hash: hash,
    }
}

/// The whole status; `None` where there is nothing to say.
pub(crate) fn status(
    asked: Option<String>,
    parts: Vec<DocumentStatus>,
    recorded: &Recorded,
) -> Option<DocumentsStatus> {
    (!parts.is_empty()).then(|| DocumentsStatus {
        last_handled_reconcile: asked,
        parts,
        managed_exclusions: recorded.exclusions.iter().cloned().collect(),
        managed_statements: recorded.statements.iter().cloned().collect(),
    })
}

/// The verdict on a Registry with what was told of its documents. Whether its repositories may be used does not depend on
/// them.
pub(crate) fn weigh(registry: &Registry, verdict: Verdict) -> Verdict {
    let manage = match (&verdict, registry.spec.mode) {
        (Verdict::Settled { .. }, RegistryMode::Manage) => true,
        (Verdict::Observed { .. }, RegistryMode::Observe) => false,
        _ => return verdict,
    };
    let mut pending = false;
    let mut differences = Vec::new();
    let mut failures: Vec<(Reason, String)> = Vec::new();
    for (part, wanted) in named(registry, manage) {
        match of(registry, part).filter(|told| told.desired_hash == wanted) {
            None => pending = true,
            Some(told) => match told.state {
                DocumentState::Settled => {}
                DocumentState::Differs => differences.push(told.message.clone()),
                DocumentState::Blocked | DocumentState::Failed => {
                    let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == told.reason);
                    failures.push((
                        known.unwrap_or(Reason::Conflict),
                        format!("spec.{part}: {}", told.message),
                    ));
                }
            },
        }
    }
    // What waits for somebody is told before what heals by itself.
    failures.sort_by_key(|(reason, _)| !reason.is_stall());
    if let Some((reason, _)) = failures.first() {
        let (reason, all) = (
            *reason,
            failures.iter().map(|(_, message)| message.trim_end_matches('.')),
        );
        let message = all.collect::<Vec<_>>().join("; ");
        return match reason.is_stall() {
            true => Verdict::Blocked { reason, message },
            false => Verdict::Waiting {
                reason,
                message,
                after: AGAIN,
            },
        };
    }
    if pending {
        return Verdict::Waiting {
            reason: Reason::DocumentsPending,
            message: "the registry's documents are compared with the spec".into(),
            after: AGAIN,
        };
    }
    match verdict {
        Verdict::Observed { differences: others } => Verdict::Observed {
            differences: others.into_iter().chain(differences).collect(),
        },
        verdict => verdict,
    }
}

/// When a Registry whose documents are not settled is looked at again, besides each time that they change.
const AGAIN: Duration = Duration::from_secs(30);
