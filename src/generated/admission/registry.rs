//! IAM policies of registries: like those of repositories (`documents.rs`), but that each statement has a `Resource`, and a
//! `Sid` by which it is told from those of others.

use super::{Policy, Refusal, Rule};

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
        "spec.policy.document.Statement has at least one statement; to have none of ours, write policy: {}",
    ),
    (
        "variables.statements.all(s, type(s) == map && s.all(key, key in ['Sid', 'Effect', 'Principal', 'NotPrincipal', \
         'Action', 'NotAction', 'Resource', 'NotResource', 'Condition']))",
        "spec.policy.document.Statement: a statement has the keys Sid, Effect, Principal, Action, Resource and Condition, and \
         no other",
    ),
    (
        "variables.statements.all(s, type(s) == map && has(s.Sid) && type(s.Sid) == string && s.Sid.matches('^[A-Za-z0-9]{1,128}$'))",
        "spec.policy.document.Statement: each statement has a Sid of 1 to 128 letters and digits, by which it is told from those \
         of others in the registry's policy",
    ),
    (
        "variables.statements.all(s, type(s) == map && has(s.Effect) && s.Effect in ['Allow', 'Deny'])",
        "spec.policy.document.Statement: Effect is Allow or Deny",
    ),
    (
        "variables.statements.all(s, type(s) == map && has(s.Principal) != has(s.NotPrincipal))",
        "spec.policy.document.Statement: each statement names a Principal, such as {AWS: ['111122223333']}",
    ),
    (
        "variables.statements.all(s, type(s) == map && has(s.Action) != has(s.NotAction) && \
         [has(s.Action) ? s.Action : s.NotAction].all(a, type(a) == string || \
         (type(a) == list && a.size() > 0 && a.all(one, type(one) == string))))",
        "spec.policy.document.Statement: each statement has an Action, such as ecr:ReplicateImage, or a list of them",
    ),
    (
        "variables.statements.all(s, type(s) == map && has(s.Resource) != has(s.NotResource) && \
         [has(s.Resource) ? s.Resource : s.NotResource].all(a, type(a) == string || \
         (type(a) == list && a.size() > 0 && a.all(one, type(one) == string))))",
        "spec.policy.document.Statement: each statement has a Resource, such as \
         arn:aws:ecr:eu-west-1:111122223333:repository/*, or a list of them",
    ),
];

pub(super) fn policy() -> Policy {
    let rules = RULES.iter();
    Policy {
        name: "registry-policy-document",
        resource: "registries",
        condition: Some((
            "has-a-document",
            "has(object.spec.policy) && has(object.spec.policy.document)",
        )),
        variables: vec![
            ("document", "object.spec.policy.document".into()),
            ("statements", STATEMENTS.into()),
        ],
        rules: rules
            .map(|(expression, message)| Rule::new(Refusal::Invalid, *expression, *message))
            .collect(),
    }
}
