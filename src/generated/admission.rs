//! Admission policies: what a structural schema cannot say, because it looks at one object alone and knows neither who
//! writes it nor IAM's grammar. One file a subject.

mod documents;
mod promotions;
mod registry;
mod requests;

use serde_json::{Value, json};

use super::GenerateError;
use crate::api::GROUP;

/// A `ValidatingAdmissionPolicy` for one kind, and its binding, which denies.
struct Policy {
    /// What it is about; the policy's name is this and the group.
    name: &'static str,
    /// The plural of the kind. Subresources such as its status are not meant.
    resource: &'static str,
    /// The expression without which the policy does not apply, with its name.
    condition: Option<(&'static str, &'static str)>,
    /// Names and expressions; each is evaluated where it is first used.
    variables: Vec<(&'static str, String)>,
    rules: Vec<Rule>,
}

/// What must hold, and the sentence that is shown when it does not.
struct Rule {
    expression: String,
    message: String,
    refusal: Refusal,
}

/// Why a rule refuses, as an HTTP status has it.
#[derive(Clone, Copy)]
enum Refusal {
    /// Nobody may write this.
    Invalid,
    /// This user may not.
    Forbidden,
}

impl Rule {
    fn new(refusal: Refusal, expression: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            expression: expression.into(),
            message: message.into(),
            refusal,
        }
    }
}

impl Policy {
    /// The policy and its binding.
    fn objects(&self) -> [Value; 2] {
        let name = format!("{}.{GROUP}", self.name);
        let named = |(name, expression): (&str, &str)| json!({ "name": name, "expression": expression });
        let variables = self.variables.iter();
        let rules = self.rules.iter().map(|rule| {
            let reason = match rule.refusal {
                Refusal::Invalid => "Invalid",
                Refusal::Forbidden => "Forbidden",
            };
            json!({ "expression": rule.expression, "message": rule.message, "reason": reason })
        });
        let mut policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": name },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [GROUP],
                    "apiVersions": ["*"],
                    "operations": ["CREATE", "UPDATE"],
                    "resources": [self.resource],
                }]},
                "variables": variables.map(|(name, expression)| named((name, expression))).collect::<Vec<_>>(),
                "validations": rules.collect::<Vec<_>>(),
            },
        });
        if let Some(condition) = self.condition {
            policy["spec"]["matchConditions"] = json!([named(condition)]);
        }
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": name },
            "spec": { "policyName": name, "validationActions": ["Deny"] },
        });
        [policy, binding]
    }
}

/// The template of the chart.
pub(super) fn template() -> Result<String, GenerateError> {
    let mut template = String::from("{{- if .Values.admissionPolicies.install }}\n");
    let policies = [
        documents::policy(),
        documents::template_policy(),
        registry::policy(),
        promotions::policy(),
        requests::policy(),
    ];
    for policy in policies {
        for object in policy.objects() {
            template += "---\n";
            template += &serde_yaml_ng::to_string(&object)?;
        }
    }
    Ok(template + "{{- end }}\n")
}
