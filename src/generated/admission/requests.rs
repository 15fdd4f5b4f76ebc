//! Requests to an `ImagePromotion`: what their annotations may say, and who may approve. The grammar is that of
//! `api::promotion::request`, which answers what was written before the policy was there.

use super::{Policy, Refusal, Rule};
use crate::api::{
    GROUP, REQUESTS,
    promotion::request::{LONGEST, annotation},
};

/// The annotations of an object, which may have none.
pub(super) fn annotations(object: &str) -> String {
    format!("has({object}.metadata.annotations) ? {object}.metadata.annotations : {{}}")
}

/// Whether the annotation `key` is set, or set to something else, by this write. One that is created with its object
/// counts: nobody carries an approval over to another object.
pub(super) const IS_NEW: &str =
    "key in variables.new && (!(key in variables.old) || variables.new[key] != variables.old[key])";

/// The keys of the wanted requests, as a list.
pub(super) fn keys(wanted: impl Fn(&str) -> bool) -> String {
    let keys = REQUESTS.iter().filter(|name| wanted(name));
    let quoted: Vec<_> = keys.map(|name| format!("'{}'", annotation(name))).collect();
    format!("[{}]", quoted.join(", "))
}

/// A request, what its value `v` must fulfil, and how that is said. A word has no spaces, and a digest is never taken for
/// the first word of a reason.
const GRAMMAR: [(&str, &str, &str); 6] = [
    (
        "approve",
        r"v.matches(r'^sha256:[0-9a-f]{64} [^ ](.*[^ ])?$')",
        "<digest> <user name>",
    ),
    (
        "pin",
        r"v.matches(r'^[^ ]{1,64}( .*)?$') && (!v.matches(r'^[^ ]+ +sha256:') || v.matches(r'^[^ ]+ +sha256:[0-9a-f]{64}( .*)?$'))",
        "<token> [<digest>] [reason...]",
    ),
    (
        "promote",
        r"v.matches(r'^[^ ]{1,64}( +(sha256:[0-9a-f]{64}|[A-Za-z0-9_][A-Za-z0-9._-]{0,127}|-)( .*)?)?$')",
        "<token> [<digest>|<tag>|-] [reason...]",
    ),
    (
        "reject",
        r"v.matches(r'^[^ ]{1,64} +sha256:[0-9a-f]{64}( .*)?$')",
        "<token> <digest> [reason...]",
    ),
    ("resume", r"v.matches(r'^[^ ]{1,64}$')", "<token>"),
    (
        "rollback",
        r"v.matches(r'^[^ ]{1,64}( .*)?$') && (!v.matches(r'^[^ ]+ +sha256:') || v.matches(r'^[^ ]+ +sha256:[0-9a-f]{64}( .*)?$'))",
        "<token> [<digest>] [reason...]",
    ),
];

/// The verb that lets people approve.
const VERB: &str = "approve";

pub(super) fn policy() -> Policy {
    let mut variables = vec![
        ("new", annotations("object")),
        (
            "old",
            format!("oldObject == null ? {{}} : {}", annotations("oldObject")),
        ),
    ];
    let mut rules = vec![Rule::new(
        Refusal::Invalid,
        format!(
            r"{}.all(key, !({IS_NEW}) || (variables.new[key].size() <= {LONGEST} && !variables.new[key].matches(r'\p{{Cc}}')))",
            keys(|_| true)
        ),
        format!("a request is one line of at most {LONGEST} characters, without control characters"),
    )];
    for (name, expression, grammar) in GRAMMAR {
        let key = annotation(name);
        let token = if grammar.starts_with("<token>") {
            "; a token is any new word of at most 64 characters"
        } else {
            ""
        };
        // A list of one or none, since an expression cannot name a value.
        variables.push((
            name,
            format!("['{key}'].filter(key, {IS_NEW}).map(key, variables.new[key])"),
        ));
        rules.push(Rule::new(
            Refusal::Invalid,
            format!("variables.{name}.all(v, {expression})"),
            format!("the annotation {key} is to be '{grammar}', separated by spaces{token}"),
        ));
    }
    rules.push(Rule::new(
        Refusal::Forbidden,
        format!("variables.approve.all(v, v.size() > {DIGEST_AND_SPACE} && v.substring({DIGEST_AND_SPACE}) == request.userInfo.username)"),
        "nobody approves in another's name: the annotation ecr-operator.dev/approve ends with your own user name, as \
         'kubectl auth whoami' shows it",
    ));
    rules.push(Rule::new(
        Refusal::Forbidden,
        format!(
            "variables.approve.size() == 0 || authorizer.group('{GROUP}').resource('imagepromotions')\
             .namespace(request.namespace).name(object.metadata.name).check('{VERB}').allowed()"
        ),
        format!("approving takes the verb {VERB} on this imagepromotion, which you do not have; the ClusterRole ecr-operator-approve has it"),
    ));
    Policy {
        name: "imagepromotion-requests",
        resource: "imagepromotions",
        condition: None,
        variables,
        rules,
    }
}

/// `sha256:`, 64 digits and a space.
const DIGEST_AND_SPACE: usize = 72;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_has_its_grammar() {
        let names = GRAMMAR.map(|(name, ..)| name);
        assert_eq!(names, REQUESTS);
    }
}
