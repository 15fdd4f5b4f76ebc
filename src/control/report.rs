//! What is told of an object: its conditions and its Events. Pure; the loop writes what comes out.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{
    error::Error,
    events::{News, cut},
    plan::Verdict,
    reason::Reason,
};

/// The longest message of a condition; metav1 allows 32,768 characters, a table or a `kubectl describe` much less.
const MESSAGE: usize = 2_000;

/// The conditions that follow from how a reconcile ended. Those that did not change keep their transition time, so that
/// nothing is written when there is nothing new to say.
pub(crate) fn conditions(
    old: &[Condition],
    outcome: &Result<Verdict, Error>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let Some(Told { ready, reason, message }) = told(outcome) else {
        return old.to_vec();
    };
    let suspended = reason == Reason::Suspended;
    let stalled = ready != Some("True") && reason.is_stall();
    let reconciling = ready != Some("True") && !stalled && !suspended && reason != Reason::Observed;
    let condition = |type_: &str, status: &str, reason: Reason, message: &str| {
        let before = old.iter().find(|condition| condition.type_ == type_);
        let since = before.filter(|condition| condition.status == status);
        Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.as_str().into(),
            message: message.into(),
            observed_generation: generation,
            last_transition_time: since.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        }
    };
    let flag = |set: bool| if set { "True" } else { "False" };
    let mut conditions = Vec::with_capacity(3);
    match ready {
        Some(status) => conditions.push(condition("Ready", status, reason, &message)),
        // A suspended object keeps what was last seen.
        None => conditions.extend(old.iter().find(|condition| condition.type_ == "Ready").cloned()),
    }
    let why = |set: bool| if set { message.as_str() } else { "" };
    conditions.push(condition(
        "Reconciling",
        flag(reconciling),
        reason,
        if suspended { &message } else { why(reconciling) },
    ));
    conditions.push(condition("Stalled", flag(stalled), reason, why(stalled)));
    conditions
}

/// The Event that goes with a change of the `Ready` condition, if it changed.
pub(crate) fn event(old: &[Condition], new: &[Condition]) -> Option<(News, &'static str, String)> {
    let find = |conditions: &[Condition]| conditions.iter().find(|condition| condition.type_ == "Ready").cloned();
    let new = find(new)?;
    let old = find(old);
    let same = old
        .as_ref()
        .is_some_and(|old| (&old.status, &old.reason, &old.message) == (&new.status, &new.reason, &new.message));
    if same {
        return None;
    }
    let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == new.reason)?;
    match (new.status.as_str(), old) {
        // That a new object is settled is told by the Event of what was done.
        ("True", None) => None,
        ("True", Some(_)) => Some((News::Normal, reason.as_str(), reason.cause().to_owned())),
        _ => Some((News::Warning, reason.as_str(), new.message)),
    }
}

/// A `Ready` condition in the making. `ready` is `None` where the old one is to be kept.
struct Told {
    ready: Option<&'static str>,
    reason: Reason,
    message: String,
}

fn told(outcome: &Result<Verdict, Error>) -> Option<Told> {
    let (ready, reason, mut message) = match outcome {
        Ok(Verdict::NotYet { .. }) => return None,
        Ok(Verdict::Settled { message }) => (Some("True"), Reason::Settled, message.clone()),
        Ok(Verdict::Observed { differences }) if differences.is_empty() => (
            Some("True"),
            Reason::Observed,
            "Nothing differs from what the object asks.".to_owned(),
        ),
        Ok(Verdict::Observed { differences }) => (
            Some("False"),
            Reason::Observed,
            with_cure(Reason::Observed, &format!("Differs: {}", differences.join("; "))),
        ),
        Ok(Verdict::Suspended { message }) => (None, Reason::Suspended, message.clone()),
        Ok(Verdict::Waiting { reason, message, .. } | Verdict::Blocked { reason, message }) => {
            (Some("False"), *reason, with_cure(*reason, message))
        }
        Err(error) => {
            let reason = error.reason();
            // What broke on the way leaves open how things stand; a refusal does not.
            let ready = if reason.is_stall() { "False" } else { "Unknown" };
            (Some(ready), reason, with_cure(reason, &error.to_string()))
        }
    };
    cut(&mut message, MESSAGE);
    Some(Told { ready, reason, message })
}

/// The message followed by what to do.
fn with_cure(reason: Reason, message: &str) -> String {
    let stop = if message.ends_with(['.', '!', '?']) { "" } else { "." };
    match reason.cure() {
        "" => format!("{message}{stop}"),
        cure => format!("{message}{stop} {cure}"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::aws::error::{AwsError, Fault};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn get<'a>(conditions: &'a [Condition], type_: &str) -> &'a Condition {
        conditions.iter().find(|condition| condition.type_ == type_).unwrap()
    }

    #[test]
    fn what_has_not_changed_is_told_in_the_same_words_with_the_same_time() {
        let first = conditions(&[], &Ok(Verdict::settled()), Some(1), at(1));
        assert_eq!(conditions(&first, &Ok(Verdict::settled()), Some(1), at(2)), first);
        assert_eq!(get(&first, "Ready").status, "True");
        assert_eq!(get(&first, "Reconciling").status, "False");
        assert_eq!(get(&first, "Stalled").status, "False");
    }

    #[test]
    fn a_refusal_stalls_and_a_fault_on_the_way_does_not() {
        let fails = |fault| {
            let error = AwsError {
                operation: "CreateRepository",
                fault,
                code: "X".into(),
                message: "no".into(),
            };
            conditions(&[], &Err(error.into()), Some(1), at(1))
        };
        let denied = fails(Fault::Denied);
        assert_eq!(
            (
                get(&denied, "Ready").status.as_str(),
                get(&denied, "Stalled").status.as_str()
            ),
            ("False", "True")
        );
        assert!(
            get(&denied, "Ready")
                .message
                .contains("Grant the operator's role the right")
        );
        let throttled = fails(Fault::Throttled);
        assert_eq!(get(&throttled, "Ready").status, "Unknown");
        assert_eq!(get(&throttled, "Reconciling").status, "True");
        assert_eq!(get(&throttled, "Stalled").status, "False");
    }

    #[test]
    fn a_suspended_object_keeps_its_ready_condition() {
        let ready = conditions(&[], &Ok(Verdict::settled()), Some(1), at(1));
        let suspended = Verdict::Suspended {
            message: "spec.suspend is true".into(),
        };
        let told = conditions(&ready, &Ok(suspended), Some(2), at(2));
        assert_eq!(get(&told, "Ready"), get(&ready, "Ready"));
        assert_eq!(get(&told, "Reconciling").status, "False");
        assert_eq!(get(&told, "Reconciling").reason, "Suspended");
    }

    #[test]
    fn differences_make_an_observed_object_not_ready() {
        let seen = |differences: Vec<String>| conditions(&[], &Ok(Verdict::Observed { differences }), Some(1), at(1));
        assert_eq!(get(&seen(vec![]), "Ready").status, "True");
        let differs = seen(vec!["a".into(), "b".into()]);
        assert_eq!(get(&differs, "Ready").status, "False");
        assert!(get(&differs, "Ready").message.starts_with("Differs: a; b."));
    }

    #[test]
    fn an_event_is_told_once_for_a_change_and_never_for_none() {
        let waiting = Verdict::Waiting {
            reason: Reason::RegistryNotReady,
            message: "no Registry".into(),
            after: Duration::from_secs(1),
        };
        let first = conditions(&[], &Ok(waiting.clone()), Some(1), at(1));
        assert!(matches!(
            event(&[], &first),
            Some((News::Warning, "RegistryNotReady", _))
        ));
        let second = conditions(&first, &Ok(waiting), Some(2), at(2));
        assert_eq!(event(&first, &second), None);
        let settled = conditions(&second, &Ok(Verdict::settled()), Some(2), at(3));
        assert!(matches!(event(&second, &settled), Some((News::Normal, "Settled", _))));
    }

    #[test]
    fn before_the_first_look_nothing_is_told() {
        let ready = conditions(&[], &Ok(Verdict::settled()), Some(1), at(1));
        assert_eq!(
            conditions(&ready, &Ok(Verdict::NotYet { after: Duration::ZERO }), Some(1), at(2)),
            ready
        );
    }
}
