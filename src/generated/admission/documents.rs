//! IAM policies in Repositories and creation templates. IAM takes a scalar or a list in most places, so the schema leaves `spec.policy.document` and
//! `spec.repositoryPolicy` open, and these rules look inside. Source of the rules: the IAM user guide, "Grammar of
//! the IAM JSON policy language", and ECR's repository policies, which take no `Resource`.

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

/// Of Repositories.
pub(super) fn policy() -> Policy {
    Policy {
        name: "repository-policy-document",
        resource: "repositories",
        condition: Some((
            "has-a-document",
            "has(object.spec.policy) && has(object.spec.policy.document)",
        )),
        variables: variables("object.spec.policy.document"),
        rules: rules(str::to_owned),
    }
}

/// Of creation templates, where `{}` means none.
pub(super) fn template_policy() -> Policy {
    let said = |message: &str| {
        message
            .replace("spec.policy.document", "spec.repositoryPolicy")
            .replace("policy: {access: {}}", "repositoryPolicy: {}")
            .replace(
                "for an organization use policy.access with organizationIds, and write",
                "write",
            )
    };
    Policy {
        name: "creation-template-document",
        resource: "repositorycreationtemplates",
        condition: Some((
            "has-a-document",
            "has(object.spec.repositoryPolicy) && object.spec.repositoryPolicy.size() > 0",
        )),
        variables: variables("object.spec.repositoryPolicy"),
        rules: rules(said),
    }
}

fn variables(document: &str) -> Vec<(&'static str, String)> {
    vec![("document", document.into()), ("statements", STATEMENTS.into())]
}

fn rules(said: impl Fn(&str) -> String) -> Vec<Rule> {
    let rules = RULES.iter();
    rules
        .map(|(expression, message)| Rule::new(Refusal::Invalid, *expression, said(message)))
        .collect()
}
