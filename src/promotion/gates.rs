//! Which gates hold a candidate, and why. Pure; each message depends on the cause alone.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{
    facts::Closed,
    scan::{self, Scanned, Verdict},
    signature::{self, Evidence},
    window::{self, Standing},
};
use crate::api::{
    names::Digest,
    promotion::{Approval, ApprovalGate, From, Gate, Gates, ImagePromotionStatus, ImageStatus, PromotionRef, ScanGate},
    span::Span,
};

/// What the gates are judged by. What no gate asks for need not be looked up and is not looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// The promotion that `source.from` names.
    pub upstream: &'a Upstream,
    /// The scans of the candidate's images, or why they cannot be read.
    pub scans: &'a Result<Vec<Scanned>, String>,
    /// The signatures on the candidate's digest, or why they cannot be read.
    pub signatures: &'a Result<Evidence, String>,
    pub approvals: &'a [Approval],
}

/// The promotion in which the image must have proved good first.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Upstream {
    /// It does not exist.
    Absent,
    /// It is in another namespace and does not name this one in its annotation.
    NotAllowed,
    /// It waits for itself, by way of these.
    Circle(Vec<Name>),
    /// It cannot be read now; why.
    Unknown(String),
    There(Box<ImagePromotionStatus>),
}

/// The name of a promotion, with its namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub namespace: String,
    pub name: String,
}

/// The gates that do not let the candidate through, in the order in which [`Gate`] lists them.
pub(crate) fn judge(
    gates: Option<&Gates>,
    from: Option<&From>,
    candidate: &ImageStatus,
    known: Known<'_>,
    now: Timestamp,
) -> Vec<Closed> {
    let none = Gates::default();
    let gates = gates.unwrap_or(&none);
    let parts = [
        from.and_then(|from| soaked(from, &candidate.digest, known.upstream, now)),
        gates.min_age.and_then(|age| old_enough(age, candidate, now)),
        gates.scan.as_ref().and_then(|gate| scanned(gate, known.scans, now)),
        gates.signature.as_ref().and_then(|gate| {
            let signed = match known.signatures {
                Ok(evidence) => signature::judge(&gate.cosign, &candidate.digest, evidence),
                Err(why) => Err(format!("its signatures cannot be read: {why}")),
            };
            signed.err().map(|why| closed(Gate::Signature, why, None))
        }),
        gates
            .approval
            .as_ref()
            .and_then(|gate| approved(gate, &candidate.digest, known.approvals)),
        in_window(gates, now),
    ];
    parts.into_iter().flatten().collect()
}

/// What the scan gate has against an image that runs already, `None` where it has nothing. A scan that is pending or
/// cannot be had says nothing new about it: what was known `before` still stands.
pub(crate) fn regression(gate: &ScanGate, scans: &[Scanned], before: Option<&str>, now: Timestamp) -> Option<String> {
    match scan::judge(gate, scans, now) {
        Verdict::Exceeded(mut why) => {
            // What status.regression holds.
            crate::control::events::cut(&mut why, 1_000);
            Some(why)
        }
        Verdict::Passed => None,
        Verdict::Pending(_) | Verdict::Unavailable(_) => before.map(str::to_owned),
    }
}

/// The circle that a promotion waits in, or that those before it wait in, each member once, beginning with the first in
/// alphabetical order. `edges` has for each promotion the one that its `source.from` names.
pub(crate) fn circle(edges: &BTreeMap<Name, Name>, start: &Name) -> Option<Vec<Name>> {
    let mut way: Vec<&Name> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut at = start;
    while seen.insert(at) {
        way.push(at);
        at = edges.get(at)?;
    }
    let mut circle: Vec<Name> = way.into_iter().skip_while(|name| *name != at).cloned().collect();
    let first = circle
        .iter()
        .enumerate()
        .min_by_key(|(_, name)| *name)
        .map_or(0, |(index, _)| index);
    circle.rotate_left(first);
    Some(circle)
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

fn closed(gate: Gate, message: String, opens: Option<Timestamp>) -> Closed {
    Closed { gate, message, opens }
}

fn soaked(from: &From, digest: &Digest, upstream: &Upstream, now: Timestamp) -> Option<Closed> {
    let there = spelled(&from.promotion_ref);
    let shut = |message: String| Some(closed(Gate::From, message, None));
    let status = match upstream {
        Upstream::There(status) => status,
        Upstream::Absent => {
            return shut(format!(
                "source.from names the ImagePromotion {there}, which does not exist"
            ));
        }
        Upstream::NotAllowed => {
            return shut(format!(
                "the ImagePromotion {there} does not allow it: name this namespace in its annotation {}",
                crate::api::PROMOTABLE_FROM_ANNOTATION
            ));
        }
        Upstream::Circle(circle) => {
            let names: Vec<String> = circle.iter().map(Name::to_string).collect();
            return shut(format!(
                "promotions wait for each other in a circle, so that none ever begins: {}; take source.from off the first",
                names.join(" waits for ")
            ));
        }
        Upstream::Unknown(why) => return shut(format!("the ImagePromotion {there} cannot be read: {why}")),
    };
    if let Some(rejection) = status.rejected.iter().find(|rejection| rejection.digest == *digest) {
        return shut(format!("it was rejected in {there}: {}", rejection.reason));
    }
    if status.hold.as_ref().and_then(|hold| hold.away_from.as_ref()) == Some(digest) {
        return shut(format!("{there} was taken back from it"));
    }
    let runs = status.current.as_ref().filter(|current| current.digest == *digest);
    if let (Some(_), Some(regression)) = (runs, &status.regression) {
        return shut(format!("it no longer passes the scan gate of {there}: {regression}"));
    }
    let Some(good) = status.last_good.as_ref().filter(|good| good.digest == *digest) else {
        let last = status
            .last_good
            .as_ref()
            .map_or("none".into(), |good| good.name.clone());
        return shut(format!(
            "it has not proved good in {there} yet; the last good image there is {last}"
        ));
    };
    // Taken back to it after another one failed, it starts anew: what ran in between was not this.
    let Some(since) = good.since.max(runs.and_then(|current| current.since)) else {
        return shut(format!("{there} does not say since when it has been good there"));
    };
    let until = match &status.current {
        Some(current) if current.digest != *digest => current.since.unwrap_or(since),
        _ => now,
    };
    let soaks_until = plus(since, from.soak);
    if soaks_until <= until {
        return None;
    }
    match runs.is_some() || status.current.is_none() {
        true => Some(closed(
            Gate::From,
            format!("it has been good in {there} since {since} and must stay so until {soaks_until}"),
            Some(soaks_until),
        )),
        false => shut(format!(
            "it was replaced in {there} before it had been good there for {}",
            from.soak
        )),
    }
}

fn old_enough(age: Span, candidate: &ImageStatus, now: Timestamp) -> Option<Closed> {
    let Some(pushed_at) = candidate.pushed_at else {
        return (age > Span::default())
            .then(|| closed(Gate::MinAge, "ECR does not say when it was pushed".into(), None));
    };
    let old_enough = plus(pushed_at, age);
    (now < old_enough).then(|| {
        closed(
            Gate::MinAge,
            format!("it was pushed at {pushed_at} and is old enough at {old_enough}"),
            Some(old_enough),
        )
    })
}

fn scanned(gate: &ScanGate, scans: &Result<Vec<Scanned>, String>, now: Timestamp) -> Option<Closed> {
    let why = match scans {
        Err(why) => format!("its scan findings cannot be read: {why}"),
        Ok(scans) => match scan::judge(gate, scans, now) {
            Verdict::Passed => return None,
            Verdict::Pending(why) | Verdict::Unavailable(why) => why,
            Verdict::Exceeded(why) => format!("it has too many findings: {why}"),
        },
    };
    Some(closed(Gate::Scan, why, None))
}

fn approved(gate: &ApprovalGate, digest: &Digest, approvals: &[Approval]) -> Option<Closed> {
    let by: BTreeSet<&str> = approvals
        .iter()
        .filter(|approval| approval.digest == *digest)
        .map(|approval| approval.by.as_str())
        .collect();
    let required = usize::from(gate.required);
    if by.len() >= required {
        return None;
    }
    let given = match by.is_empty() {
        true => "nobody has approved it yet".to_owned(),
        false => format!("approved by {}", by.into_iter().collect::<Vec<_>>().join(", ")),
    };
    let message = match required {
        1 => format!("it needs an approval: {given}"),
        required => format!("it needs the approval of {required} people: {given}"),
    };
    Some(closed(Gate::Approval, message, None))
}

fn in_window(gates: &Gates, now: Timestamp) -> Option<Closed> {
    let (message, opens) = match window::standing(&gates.windows, now) {
        Ok(Standing::Open) => return None,
        Ok(Standing::Shut { opens: Some(opens) }) => {
            (format!("gates.windows let nothing begin before {opens}"), Some(opens))
        }
        Ok(Standing::Shut { opens: None }) => (
            "gates.windows leave no time in which anything may begin; change them".into(),
            None,
        ),
        Err(error) => (error.to_string(), None),
    };
    Some(closed(Gate::Window, message, opens))
}

fn spelled(reference: &PromotionRef) -> String {
    match &reference.namespace {
        Some(namespace) => format!("{namespace}/{}", reference.name),
        None => reference.name.clone(),
    }
}

fn plus(at: Timestamp, span: Span) -> Timestamp {
    SignedDuration::try_from(span.duration())
        .ok()
        .and_then(|span| at.checked_add(span).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
#[path = "gates_tests.rs"]
mod tests;
