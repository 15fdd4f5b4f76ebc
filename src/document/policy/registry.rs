//! A registry's policy: one document for several owners, told apart by the Sids of their statements.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Policy, PolicyError, Statement};

/// How the Sids of statements begin that let another account replicate into the registry.
pub(crate) const REPLICATE_FROM: &str = "EcrOperatorReplicateFrom";

/// The only actions that a registry's policy applies to in scope V1 ("Registry permissions" in the Amazon ECR User Guide).
const AWAKE_IN_V1: [&str; 3] = [
    "ecr:batchimportupstreamimage",
    "ecr:createrepository",
    "ecr:replicateimage",
];

/// The statements that let these accounts replicate into a registry, in a policy of their own; `None`: no account.
pub(crate) fn replication_from<'a>(
    accounts: impl IntoIterator<Item = &'a str>,
    partition: &str,
    region: &str,
    registry_id: &str,
) -> Result<Option<Policy>, PolicyError> {
    let statements: Vec<Value> = accounts
        .into_iter()
        .map(|account| {
            json!({
                "Sid": format!("{REPLICATE_FROM}{account}"),
                "Effect": "Allow",
                "Principal": { "AWS": format!("arn:{partition}:iam::{account}:root") },
                "Action": ["ecr:CreateRepository", "ecr:ReplicateImage"],
                "Resource": format!("arn:{partition}:ecr:{region}:{registry_id}:repository/*"),
            })
        })
        .collect();
    if statements.is_empty() {
        return Ok(None);
    }
    let document = json!({ "Version": "2012-10-17", "Statement": statements });
    Policy::from_value_for_registry(&document).map(Some)
}

/// The policy that should stand, given what stands. Ours are the statements of `wanted`, those whose Sid begins with
/// `prefix`, and those whose Sids are `recorded`: they are replaced or leave. All others keep their place.
/// `Ok(None)`: no policy at all should stand. An error says why the two cannot stand in one document.
pub(crate) fn unite(
    live: Option<&Policy>,
    wanted: Option<&Policy>,
    prefix: &str,
    recorded: &BTreeSet<String>,
) -> Result<Option<Policy>, String> {
    let Some(live) = live else {
        return Ok(wanted.cloned());
    };
    let mut ours: Vec<Option<&Statement>> = wanted.map_or(&[][..], Policy::statements).iter().map(Some).collect();
    let named: BTreeSet<&str> = ours.iter().flatten().filter_map(|statement| statement.sid()).collect();
    let is_ours = |statement: &Statement| {
        statement
            .sid()
            .is_some_and(|sid| sid.starts_with(prefix) || named.contains(sid) || recorded.contains(sid))
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
    /// With these statements besides.
    pub(crate) fn and(mut self, more: Self) -> Self {
        self.statements.extend(more.statements);
        self
    }

    /// In the version of another. To be asked only of a policy without variables: it means the same in each.
    pub(crate) fn in_version_of(mut self, other: &Self) -> Self {
        self.version = other.version;
        self
    }

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
    use super::{super::SID_PREFIX, *};

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
        unite(live.as_ref(), wanted.as_ref(), SID_PREFIX, &recorded).expect("one document")
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
    fn an_account_may_replicate_and_create_what_that_takes_and_nothing_else() {
        let compose = |accounts: &[&str], partition| {
            replication_from(accounts.iter().copied(), partition, "eu-west-1", "111122223333").unwrap()
        };
        assert_eq!(compose(&[], "aws"), None);
        let text = compose(&["444455556666", "777788889999"], "aws-cn").unwrap().to_text();
        let document: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            document["Statement"][1],
            json!({
                "Sid": "EcrOperatorReplicateFrom777788889999",
                "Effect": "Allow",
                "Principal": { "AWS": "arn:aws-cn:iam::777788889999:root" },
                "Action": ["ecr:CreateRepository", "ecr:ReplicateImage"],
                "Resource": "arn:aws-cn:ecr:eu-west-1:111122223333:repository/*",
            })
        );
        assert_eq!(
            asleep(&compose(&["444455556666"], "aws").unwrap()),
            [""; 0],
            "scope V1 suffices"
        );
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
        let text = unite(Some(&old), Some(&plain), SID_PREFIX, &BTreeSet::new())
            .unwrap()
            .unwrap()
            .to_text();
        assert!(text.contains("2008-10-17"), "the others' language is kept: {text}");
        let mut variable = statement("Mine", "ecr:*");
        variable["Resource"] = json!("arn:aws:ecr:eu-west-1:111122223333:repository/${aws:PrincipalTag/team}/*");
        let error = unite(
            Some(&old),
            Some(&policy(&[variable.clone()])),
            SID_PREFIX,
            &BTreeSet::new(),
        )
        .unwrap_err();
        assert!(error.contains("write the same Version"), "{error}");
        let alone =
            Policy::parse_of_registry(&json!({ "Statement": [statement("Mine", "ecr:*")] }).to_string()).unwrap();
        let text = unite(Some(&alone), Some(&policy(&[variable])), SID_PREFIX, &BTreeSet::new())
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
