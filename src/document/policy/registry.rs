//! A registry's policy: one document for several owners, told apart by the Sids of their statements.

use std::collections::BTreeSet;

use super::{Policy, Statement};

/// The only actions that a registry's policy applies to in scope V1 ("Registry permissions" in the Amazon ECR User Guide).
const AWAKE_IN_V1: [&str; 3] = [
    "ecr:batchimportupstreamimage",
    "ecr:createrepository",
    "ecr:replicateimage",
];

/// The policy that should stand, given what stands. Ours are the statements of `wanted`, those whose Sid begins with
/// [`super::SID_PREFIX`], and those whose Sids are `recorded`: they are replaced or leave. All others keep their place.
/// `Ok(None)`: no policy at all should stand. An error says why the two cannot stand in one document.
pub(crate) fn unite(
    live: Option<&Policy>,
    wanted: Option<&Policy>,
    recorded: &BTreeSet<String>,
) -> Result<Option<Policy>, String> {
    let Some(live) = live else {
        return Ok(wanted.cloned());
    };
    let mut ours: Vec<Option<&Statement>> = wanted.map_or(&[][..], Policy::statements).iter().map(Some).collect();
    let named: BTreeSet<&str> = ours.iter().flatten().filter_map(|statement| statement.sid()).collect();
    let is_ours = |statement: &Statement| {
        statement.is_ours()
            || statement
                .sid()
                .is_some_and(|sid| named.contains(sid) || recorded.contains(sid))
    };
    let others: Vec<&Statement> = live.statements.iter().filter(|statement| !is_ours(statement)).collect();
    let (id, version) = match wanted {
        Some(wanted) if others.is_empty() => (wanted.id.clone().or_else(|| live.id.clone()), wanted.version),
        Some(wanted) if wanted.version != live.version => {
            let mut all = others.iter().copied().chain(&wanted.statements);
            // In the old language a variable is plain text, so one document cannot hold both.
            if all.any(Statement::has_variable) {
                return Err(format!(
                    "the policy in ECR has Version {} and spec.policy.document {}, and with policy variables in it the two do \
                     not mean the same; write the same Version",
                    live.version.as_str(),
                    wanted.version.as_str()
                ));
            }
            (live.id.clone(), live.version)
        }
        _ => (live.id.clone(), live.version),
    };
    let mut statements = Vec::new();
    for standing in &live.statements {
        if is_ours(standing) {
            let successor = ours
                .iter_mut()
                .find(|new| new.is_some_and(|new| new.sid == standing.sid));
            statements.extend(successor.and_then(Option::take).cloned());
        } else {
            statements.push(standing.clone());
        }
    }
    statements.extend(ours.into_iter().flatten().cloned());
    Ok((!statements.is_empty()).then_some(Policy {
        id,
        version,
        statements,
    }))
}

/// The statements that scope V1 lets sleep, at least in part, and V2 would wake: their Sids, or their place.
pub(crate) fn asleep(policy: &Policy) -> Vec<String> {
    let sleeps = |statement: &Statement| {
        statement.actions.negated
            || statement
                .actions
                .names
                .iter()
                .any(|name| !AWAKE_IN_V1.contains(&name.to_ascii_lowercase().as_str()))
    };
    policy
        .statements
        .iter()
        .zip(1..)
        .filter(|(statement, _)| sleeps(statement))
        .map(|(statement, number)| match statement.sid() {
            Some(sid) => sid.to_owned(),
            None => format!("statement {number}"),
        })
        .collect()
}

impl Policy {
    /// The Sids of its statements.
    pub(crate) fn sids(&self) -> BTreeSet<String> {
        let sids = self.statements.iter().filter_map(Statement::sid);
        sids.map(str::to_owned).collect()
    }
}

impl Statement {
    fn has_variable(&self) -> bool {
        self.to_value().to_string().contains("${")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn statement(sid: &str, action: &str) -> Value {
        let mut statement = json!({
            "Effect": "Allow", "Principal": { "AWS": "444455556666" }, "Action": action,
            "Resource": "arn:aws:ecr:eu-west-1:111122223333:repository/*",
        });
        if !sid.is_empty() {
            statement["Sid"] = sid.into();
        }
        statement
    }

    fn policy(statements: &[Value]) -> Policy {
        let document = json!({ "Version": "2012-10-17", "Statement": statements });
        Policy::parse_of_registry(&document.to_string()).expect("a policy")
    }

    fn united(live: &[Value], wanted: &[Value], recorded: &[&str]) -> Option<Policy> {
        let live = (!live.is_empty()).then(|| policy(live));
        let wanted = (!wanted.is_empty()).then(|| policy(wanted));
        let recorded = recorded.iter().map(|&sid| sid.to_owned()).collect();
        unite(live.as_ref(), wanted.as_ref(), &recorded).expect("one document")
    }

    #[test]
    fn statements_of_others_stay_where_they_are() {
        let foreign = statement("Foreign", "ecr:ReplicateImage");
        let nameless = statement("", "ecr:CreateRepository");
        let live = [
            foreign.clone(),
            statement("EcrOperatorOld", "ecr:*"),
            nameless.clone(),
            statement("Mine", "ecr:*"),
        ];
        let new = [statement("Mine", "ecr:ReplicateImage"), statement("New", "ecr:*")];
        let expected = policy(&[foreign.clone(), nameless.clone(), new[0].clone(), new[1].clone()]);
        let result = united(&live, &new, &[]).unwrap();
        assert_eq!(result, expected);
        assert_eq!(result.to_text(), expected.to_text(), "and in this order");
        assert_eq!(
            united(&live, &[], &[]),
            Some(policy(&[foreign.clone(), nameless, statement("Mine", "ecr:*")])),
            "one that was there before us is not removed with ours"
        );
        assert_eq!(
            united(&[foreign.clone(), statement("Mine", "ecr:*")], &[], &["Mine"]),
            Some(policy(&[foreign]))
        );
        assert_eq!(
            united(&[statement("Mine", "ecr:*")], &[], &["Mine"]),
            None,
            "nothing is left"
        );
        assert_eq!(united(&[], &new, &[]), Some(policy(&new)));
        assert_eq!(united(&[], &[], &[]), None);
    }

    #[test]
    fn resources_are_part_of_the_meaning() {
        let mut other = statement("A", "ecr:*");
        other["Resource"] = json!(["arn:aws:ecr:eu-west-1:111122223333:repository/team/*"]);
        assert_ne!(policy(&[other.clone()]), policy(&[statement("A", "ecr:*")]));
        let negated = {
            let mut negated = other.clone();
            let object = negated.as_object_mut().unwrap();
            let resource = object.remove("Resource").unwrap();
            object.insert("NotResource".into(), resource);
            negated
        };
        assert_ne!(policy(&[other.clone()]), policy(std::slice::from_ref(&negated)));
        for value in [other, negated] {
            let read = policy(&[value]);
            assert_eq!(Policy::parse_of_registry(&read.to_text()), Ok(read));
        }
    }

    #[test]
    fn a_declared_statement_has_a_name_and_a_resource() {
        let refused = |statement: Value| {
            let document = json!({ "Version": "2012-10-17", "Statement": [statement] });
            Policy::from_value_for_registry(&document).unwrap_err().to_string()
        };
        assert!(refused(statement("", "ecr:*")).contains("has no Sid"));
        assert!(refused(statement(&"a".repeat(129), "ecr:*")).contains("more than 128 characters"));
        let mut about_nothing = statement("A", "ecr:*");
        about_nothing.as_object_mut().unwrap().remove("Resource");
        assert!(refused(about_nothing).contains("has no Resource"));
    }

    #[test]
    fn two_languages_do_not_mix_where_it_matters() {
        let old =
            Policy::parse_of_registry(&json!({ "Statement": [statement("Foreign", "ecr:*")] }).to_string()).unwrap();
        let plain = policy(&[statement("Mine", "ecr:*")]);
        let text = unite(Some(&old), Some(&plain), &BTreeSet::new())
            .unwrap()
            .unwrap()
            .to_text();
        assert!(text.contains("2008-10-17"), "the others' language is kept: {text}");
        let mut variable = statement("Mine", "ecr:*");
        variable["Resource"] = json!("arn:aws:ecr:eu-west-1:111122223333:repository/${aws:PrincipalTag/team}/*");
        let error = unite(Some(&old), Some(&policy(&[variable.clone()])), &BTreeSet::new()).unwrap_err();
        assert!(error.contains("write the same Version"), "{error}");
        let alone =
            Policy::parse_of_registry(&json!({ "Statement": [statement("Mine", "ecr:*")] }).to_string()).unwrap();
        let text = unite(Some(&alone), Some(&policy(&[variable])), &BTreeSet::new())
            .unwrap()
            .unwrap()
            .to_text();
        assert!(text.contains("2012-10-17"), "nobody else's is left: {text}");
    }

    #[test]
    fn what_v1_lets_sleep_is_named() {
        let mut all_but = statement("AllBut", "ecr:DeleteRepository");
        let object = all_but.as_object_mut().unwrap();
        let action = object.remove("Action").unwrap();
        object.insert("NotAction".into(), action);
        let policy = policy(&[
            statement("Replicate", "ecr:ReplicateImage"),
            statement("Create", "ECR:createrepository"),
            statement("Wide", "ecr:*"),
            statement("", "ecr:BatchGetImage"),
            all_but,
        ]);
        assert_eq!(asleep(&policy), ["Wide", "statement 4", "AllBut"]);
    }
}
