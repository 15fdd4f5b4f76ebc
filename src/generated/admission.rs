//! Admission policies: what a structural schema cannot say. IAM takes a scalar or a list in most places, so the schema
//! leaves `spec.policy.document` open, and these rules look inside. Source of the rules: the IAM user guide, "Grammar of
//! the IAM JSON policy language", and ECR's repository policies, which take no `Resource`.

use serde_json::{Value, json};

use super::GenerateError;
use crate::api::GROUP;

/// The statements of the document as a list.
const STATEMENTS: &str = "!has(variables.document.Statement) ? [] : \
    type(variables.document.Statement) == list ? variables.document.Statement : [variables.document.Statement]";

/// A rule, the sentence that is shown when it does not hold.
const RULES: [(&str, &str); 9] = [
    (
        "variables.document.all(key, key in ['Version', 'Id', 'Statement'])",
        "spec.policy.document: an IAM policy has the keys Version, Id and Statement, and no other",
    ),
    (
        "!has(variables.document.Version) || variables.document.Version in ['2012-10-17', '2008-10-17']",
        "spec.policy.document.Version is '2012-10-17' or '2008-10-17', in quotes",
    ),
    (
        "variables.statements.size() > 0",
        "spec.policy.document.Statement has at least one statement; to have no policy, write policy: {access: {}}",
    ),
    (
        "variables.statements.all(s, type(s) == map && s.all(key, key in \
         ['Sid', 'Effect', 'Principal', 'NotPrincipal', 'Action', 'NotAction', 'Condition']))",
        "spec.policy.document.Statement: a statement has the keys Sid, Effect, Principal, Action and Condition, and no \
         other; a repository policy takes no Resource",
    ),
    (
        "variables.statements.all(s, type(s) == map && has(s.Effect) && s.Effect in ['Allow', 'Deny'])",
        "spec.policy.document.Statement: Effect is Allow or Deny",
    ),
    (
        "variables.statements.all(s, type(s) == map && has(s.Principal) && !has(s.NotPrincipal))",
        "spec.policy.document.Statement: each statement names a Principal; NotPrincipal would mean everyone else",
    ),
    (
        "variables.statements.all(s, type(s) == map && (!has(s.Principal) || \
         (type(s.Principal) == map && s.Principal.size() > 0 && s.Principal.all(kind, \
         type(s.Principal[kind]) == list ? s.Principal[kind].size() > 0 && s.Principal[kind].all(p, type(p) == string && !p.contains('*')) \
         : type(s.Principal[kind]) == string && !s.Principal[kind].contains('*')))))",
        "spec.policy.document.Statement: Principal is a map such as {AWS: ['111122223333']} of texts without '*': '*' would \
         open the repository to everyone; for an organization use policy.access with organizationIds, and write account ids in quotes",
    ),
    (
        "variables.statements.all(s, type(s) == map && has(s.Action) != has(s.NotAction) && \
         [has(s.Action) ? s.Action : s.NotAction].all(a, type(a) == string || \
         (type(a) == list && a.size() > 0 && a.all(one, type(one) == string))))",
        "spec.policy.document.Statement: each statement has an Action, such as ecr:BatchGetImage, or a list of them",
    ),
    (
        "variables.statements.all(s, type(s) == map && (!has(s.Condition) || type(s.Condition) == map))",
        "spec.policy.document.Statement: Condition is a map of operators",
    ),
];

/// The policies and their bindings.
pub(super) fn policies() -> Vec<Value> {
    let name = format!("repository-policy-document.{GROUP}");
    let validations: Vec<Value> = RULES
        .iter()
        .map(|(expression, message)| json!({ "expression": expression, "message": message, "reason": "Invalid" }))
        .collect();
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": { "name": name },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": [GROUP],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["repositories"],
            }]},
            "matchConditions": [{
                "name": "has-a-document",
                "expression": "has(object.spec.policy) && has(object.spec.policy.document)",
            }],
            "variables": [
                { "name": "document", "expression": "object.spec.policy.document" },
                { "name": "statements", "expression": STATEMENTS },
            ],
            "validations": validations,
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": name },
        "spec": { "policyName": name, "validationActions": ["Deny"] },
    });
    vec![policy, binding]
}

/// The template of the chart.
pub(super) fn template() -> Result<String, GenerateError> {
    let mut template = String::from("{{- if .Values.admissionPolicies.install }}\n");
    for object in policies() {
        template += "---\n";
        template += &serde_yaml_ng::to_string(&object)?;
    }
    Ok(template + "{{- end }}\n")
}
