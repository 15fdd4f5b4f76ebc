//! Prints plans.

use std::fmt::Write as _;

use kube::ResourceExt;
use serde::Serialize;

use crate::control::{
    driven::Driven,
    plan::{Plan, Verdict},
};

/// What would be done with one object.
#[derive(Debug)]
pub(super) struct Foreseen {
    pub plan: Plan<String>,
    /// Its steps do nothing but take over what is there.
    pub adopts: bool,
}

impl From<Plan<String>> for Foreseen {
    fn from(plan: Plan<String>) -> Self {
        Self { plan, adopts: false }
    }
}

/// The plan of one object.
#[derive(Debug, Serialize)]
pub(super) struct Planned {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    name: String,
    /// What would be done, in this order.
    steps: Vec<String>,
    /// Whether these do nothing but take over what is there, as it is.
    adopts: bool,
    /// How things stand besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    message: String,
    warnings: Vec<String>,
    /// Whether the object would be refused, or could not be looked at.
    failed: bool,
}

impl Planned {
    pub(super) fn new<K: Driven>(object: &K, planning: Result<Foreseen, String>) -> Self {
        let mut planned = Self {
            kind: K::CALLED,
            namespace: object.namespace(),
            name: object.name_any(),
            steps: Vec::new(),
            adopts: false,
            reason: None,
            message: String::new(),
            warnings: Vec::new(),
            failed: false,
        };
        match planning {
            Ok(Foreseen { plan, adopts }) => {
                planned.adopts = adopts;
                planned.reason = Some(plan.verdict.reason().as_str());
                planned.message = plan.verdict.to_string();
                planned.failed = matches!(
                    plan.verdict,
                    Verdict::Blocked { .. } | Verdict::Waiting { .. } | Verdict::NotYet { .. }
                );
                planned.warnings = plan.warnings.into_iter().map(|warning| warning.message).collect();
                planned.steps = plan.steps;
            }
            Err(message) => {
                planned.message = message;
                planned.failed = true;
            }
        }
        planned
    }
}

/// All plans.
#[derive(Debug, Serialize)]
pub(super) struct Printed {
    objects: Vec<Planned>,
    /// Objects with something to change.
    changes: usize,
    /// Objects that take over what is there and change nothing of it.
    adoptions: usize,
    /// Objects that would be refused or could not be looked at.
    errors: usize,
}

impl Printed {
    pub(super) fn new(objects: Vec<Planned>) -> Self {
        let count = |of: fn(&Planned) -> bool| objects.iter().filter(|planned| of(planned)).count();
        Self {
            changes: count(|planned| !planned.steps.is_empty() && !planned.adopts),
            adoptions: count(|planned| planned.adopts),
            errors: count(|planned| planned.failed),
            objects,
        }
    }

    /// 0 nothing to do, 2 changes, 1 an error.
    pub(super) fn exit_code(&self) -> u8 {
        match (self.errors, self.changes) {
            (0, 0) => 0,
            (0, _) => 2,
            _ => 1,
        }
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).map_or_else(|error| format!("{error}\n"), |text| text + "\n")
    }

    // Writing to a String cannot fail, so the results are dropped.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for planned in &self.objects {
            let namespace = planned
                .namespace
                .as_ref()
                .map(|namespace| format!("{namespace}/"))
                .unwrap_or_default();
            let _ = writeln!(text, "{} {namespace}{}", planned.kind, planned.name);
            for step in &planned.steps {
                let _ = writeln!(text, "  + {step}");
            }
            if planned.failed {
                let _ = writeln!(text, "  ! {}", planned.message);
            } else if planned.steps.is_empty() {
                let _ = writeln!(text, "    {}", planned.message);
            }
            for warning in &planned.warnings {
                let _ = writeln!(text, "  ! {warning}");
            }
        }
        let total = self.objects.len();
        let adoptions = match self.adoptions {
            0 => String::new(),
            adoptions => format!("{adoptions} to take over as they are, "),
        };
        let _ = writeln!(
            text,
            "{total} objects: {} to change, {adoptions}{} with errors",
            self.changes, self.errors
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::Repository, control::reason::Reason};

    fn planned(planning: Result<Plan<String>, String>) -> Planned {
        let spec = serde_json::from_value(serde_json::json!({ "registryRef": { "name": "main" } })).unwrap();
        Planned::new(&Repository::new("web", spec), planning.map(Foreseen::from))
    }

    fn changes() -> Planned {
        planned(Ok(Plan {
            steps: vec!["create".into()],
            ..Plan::verdict(Verdict::settled())
        }))
    }

    #[test]
    fn the_exit_code_tells_changes_from_errors() {
        let settled = || planned(Ok(Plan::verdict(Verdict::settled())));
        let refused = || planned(Ok(Plan::verdict(Verdict::blocked(Reason::NotAllowed, "no"))));
        assert_eq!(Printed::new(vec![settled()]).exit_code(), 0);
        assert_eq!(Printed::new(vec![settled(), changes()]).exit_code(), 2);
        assert_eq!(Printed::new(vec![changes(), refused()]).exit_code(), 1);
        assert_eq!(Printed::new(vec![planned(Err("no answer".into()))]).exit_code(), 1);
    }

    #[test]
    fn to_take_over_what_is_there_is_no_change() {
        let adopted = Planned {
            adopts: true,
            ..changes()
        };
        let printed = Printed::new(vec![adopted]);
        assert_eq!(printed.exit_code(), 0);
        assert!(
            printed
                .text()
                .ends_with("1 objects: 0 to change, 1 to take over as they are, 0 with errors\n"),
            "{}",
            printed.text()
        );
    }

    #[test]
    fn each_object_is_named_with_its_steps() {
        let text = Printed::new(vec![changes()]).text();
        assert_eq!(
            text,
            "Repository web\n  + create\n1 objects: 1 to change, 0 with errors\n"
        );
    }
}
