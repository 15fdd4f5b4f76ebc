//! From a Repository's `access` to statements, and these into what stands.

use std::collections::{BTreeMap, BTreeSet};

use super::principal::{Kind, LAMBDA, Principals, is_account_id, root_account};
use super::{Actions, Effect, Policy, Statement, Version};

/// How the Sid of every statement begins that `access` owns.
pub(crate) const SID_PREFIX: &str = "EcrOperator";

/// What a puller needs on the repository: "Private repository policy examples" and the managed policy
/// `AmazonEC2ContainerRegistryPullOnly`, with the layer check that older clients make.
/// `ecr:DescribeImages` and `ecr:ListImages` are for looking around, and none of the pull examples has them.
const PULL: [&str; 3] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
];

/// What a pusher needs on top ("IAM permissions for pushing an image to an Amazon ECR private repository").
const PUSH: [&str; 4] = [
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// What Lambda needs ("Create a function using a container image" in the Lambda Developer Guide).
const RUN: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// Who may use a repository, in the terms of the Repository kind. What is absent or empty grants nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Who may pull.
    pub(crate) pull: Option<Grantees>,
    /// Who may push, which includes pulling.
    pub(crate) push: Option<Grantees>,
    /// Accounts of 12 digits whose Lambda functions, in the repository's Region, may run its images.
    /// Whoever creates such a function must be able to pull too: that is granted by `pull`.
    pub(crate) lambda: Option<Vec<String>>,
}

/// Whom something is granted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Grantees {
    /// Account ids, ARNs of IAM principals, or service names (`codebuild.amazonaws.com`).
    pub(crate) principals: Vec<String>,
    /// Organizations (`o-…`), each with all its accounts.
    pub(crate) organization_ids: Vec<String>,
}

/// The statements that an `access` asks for, in a fixed order, sorted and without repetitions.
///
/// `region` and `partition` (`aws`, `aws-cn`, …) are those of the registry. Nothing is checked here: the schema knows the
/// forms, [`super::outside`] the tenant, and what has another form counts there as a wildcard.
pub(crate) fn compose(access: &Access, region: &str, partition: &str) -> Vec<Statement> {
    let push: Vec<_> = PULL.into_iter().chain(PUSH).collect();
    let mut statements = Vec::new();
    for (verb, grantees, actions) in [("Pull", &access.pull, PULL.as_slice()), ("Push", &access.push, &push)] {
        let Some(Grantees {
            principals,
            organization_ids,
        }) = grantees
        else {
            continue;
        };
        let entries = entries(principals, partition);
        if !entries.is_empty() {
            let principals = Principals {
                negated: false,
                bare: false,
                entries,
            };
            statements.push(allow(verb, principals, actions, None));
        }
        let organizations: BTreeSet<String> = organization_ids.iter().cloned().collect();
        if !organizations.is_empty() {
            let anyone = Principals {
                negated: false,
                bare: true,
                entries: vec![(Kind::Aws, "*".into())],
            };
            let condition = ("StringEquals", "aws:PrincipalOrgID", organizations);
            statements.push(allow(&format!("{verb}Organization"), anyone, actions, Some(condition)));
        }
    }
    let accounts = access.lambda.iter().flatten();
    let functions: BTreeSet<_> = accounts
        .map(|account| format!("arn:{partition}:lambda:{region}:{account}:function:*"))
        .collect();
    if !functions.is_empty() {
        let lambda = Principals {
            negated: false,
            bare: false,
            entries: vec![(Kind::Service, LAMBDA.into())],
        };
        statements.push(allow(
            "Lambda",
            lambda,
            &RUN,
            Some(("StringLike", "aws:SourceArn", functions)),
        ));
    }
    statements
}

/// The policy that should stand, given what stands: statements of ours are replaced or leave, others keep their place,
/// as do `Id` and `Version` (another Version would change what others' policy variables mean; ours have none).
/// None: no policy at all should stand.
pub(crate) fn merge(live: Option<&Policy>, ours: Vec<Statement>) -> Option<Policy> {
    let (id, version) = live.map_or((None, Version::V2012), |live| (live.id.clone(), live.version));
    let mut ours = ours.into_iter().map(Some).collect::<Vec<_>>();
    let mut statements = Vec::new();
    for standing in live.map_or(&[][..], Policy::statements) {
        if standing.is_ours() {
            let successor = ours
                .iter_mut()
                .find(|new| new.as_ref().is_some_and(|new| new.sid == standing.sid));
            statements.extend(successor.and_then(Option::take));
        } else {
            statements.push(standing.clone());
        }
    }
    statements.extend(ours.into_iter().flatten());
    (!statements.is_empty()).then_some(Policy {
        id,
        version,
        statements,
    })
}

/// The principals by kind, accounts as root ARNs (as in AWS's examples), each once.
fn entries(principals: &[String], partition: &str) -> Vec<(Kind, String)> {
    let entry = |name: &String| {
        if is_account_id(name) {
            (Kind::Aws, format!("arn:{partition}:iam::{name}:root"))
        } else if is_service(name) {
            (Kind::Service, name.clone())
        } else {
            (Kind::Aws, name.clone())
        }
    };
    let by_meaning = principals.iter().map(entry).map(|(kind, name)| {
        let meaning = root_account(&name).map_or_else(|| name.clone(), |(_, id)| id.to_owned());
        ((kind, meaning), (kind, name))
    });
    by_meaning.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// `service-name.amazonaws.com`, in China also with `.cn` ("AWS JSON policy elements: Principal", service principals).
fn is_service(name: &str) -> bool {
    !name.contains(':') && (name.ends_with(".amazonaws.com") || name.ends_with(".amazonaws.com.cn"))
}

fn allow(
    name: &str,
    principals: Principals,
    actions: &[&str],
    condition: Option<(&str, &str, BTreeSet<String>)>,
) -> Statement {
    let mut names: Vec<String> = actions.iter().map(|&action| action.to_owned()).collect();
    names.sort();
    let condition = condition.map(|(operator, key, values)| {
        (
            operator.to_owned(),
            BTreeMap::from([(key.to_owned(), values.into_iter().collect())]),
        )
    });
    Statement {
        sid: Some(format!("{SID_PREFIX}{name}")),
        effect: Effect::Allow,
        principals,
        actions: Actions { negated: false, names },
        resources: None,
        condition: condition.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn grantees(principals: &[&str], organizations: &[&str]) -> Grantees {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Grantees {
            principals: owned(principals),
            organization_ids: owned(organizations),
        }
    }

    fn full() -> Access {
        Access {
            pull: Some(grantees(
                &[
                    "codebuild.amazonaws.com",
                    "444455556666",
                    "arn:aws:iam::111122223333:role/b",
                    "arn:aws:iam::111122223333:role/a",
                ],
                &["o-zzzzzzzzzz", "o-aaaaaaaaaa"],
            )),
            push: Some(grantees(&["arn:aws:iam::444455556666:root"], &["o-aaaaaaaaaa"])),
            lambda: Some(vec![
                "444455556666".into(),
                "111122223333".into(),
                "444455556666".into(),
            ]),
        }
    }

    fn text(statements: Vec<Statement>) -> Value {
        let policy = merge(None, statements).expect("a policy");
        serde_json::from_str(&policy.to_text()).expect("JSON")
    }

    fn policy(statements: &Value) -> Policy {
        Policy::parse(&json!({"Statement": statements}).to_string()).expect("a policy")
    }

    fn sids(policy: &Policy) -> Vec<Option<&str>> {
        policy.statements().iter().map(Statement::sid).collect()
    }

    #[test]
    fn access_is_composed_as_the_examples_of_aws_have_it() {
        let pull = json!([
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:GetDownloadUrlForLayer"
        ]);
        let push = json!([
            "ecr:BatchCheckLayerAvailability",
            "ecr:BatchGetImage",
            "ecr:CompleteLayerUpload",
            "ecr:GetDownloadUrlForLayer",
            "ecr:InitiateLayerUpload",
            "ecr:PutImage",
            "ecr:UploadLayerPart"
        ]);
        let expected = json!({"Version": "2012-10-17", "Statement": [
            {"Sid": "EcrOperatorPull", "Effect": "Allow", "Action": pull, "Principal": {
                "AWS": ["arn:aws:iam::444455556666:root", "arn:aws:iam::111122223333:role/a", "arn:aws:iam::111122223333:role/b"],
                "Service": "codebuild.amazonaws.com"}},
            {"Sid": "EcrOperatorPullOrganization", "Effect": "Allow", "Action": pull, "Principal": "*",
                "Condition": {"StringEquals": {"aws:PrincipalOrgID": ["o-aaaaaaaaaa", "o-zzzzzzzzzz"]}}},
            {"Sid": "EcrOperatorPush", "Effect": "Allow", "Action": push, "Principal": {"AWS": "arn:aws:iam::444455556666:root"}},
            {"Sid": "EcrOperatorPushOrganization", "Effect": "Allow", "Action": push, "Principal": "*",
                "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-aaaaaaaaaa"}}},
            {"Sid": "EcrOperatorLambda", "Effect": "Allow", "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                "Principal": {"Service": "lambda.amazonaws.com"}, "Condition": {"StringLike": {"aws:SourceArn": [
                    "arn:aws:lambda:eu-west-1:111122223333:function:*", "arn:aws:lambda:eu-west-1:444455556666:function:*"]}}}
        ]});
        let statements = compose(&full(), "eu-west-1", "aws");
        assert!(statements.iter().all(Statement::is_ours));
        assert_eq!(text(statements), expected);
    }

    #[test]
    fn what_is_composed_would_pass_as_a_manifest() {
        let composed = text(compose(&full(), "eu-west-1", "aws"));
        assert_eq!(
            Policy::from_value(&composed).ok(),
            merge(None, compose(&full(), "eu-west-1", "aws"))
        );
    }

    #[test]
    fn order_and_repetition_in_access_give_the_same_text() {
        let mut shuffled = full();
        for grantees in [&mut shuffled.pull, &mut shuffled.push].into_iter().flatten() {
            grantees.principals.reverse();
            grantees.principals.extend(grantees.principals.clone());
            grantees.organization_ids.reverse();
        }
        assert_eq!(
            text(compose(&shuffled, "eu-west-1", "aws")),
            text(compose(&full(), "eu-west-1", "aws"))
        );
    }

    #[test]
    fn an_account_and_its_root_are_one_grantee() {
        let access = Access {
            pull: Some(grantees(&["444455556666", "arn:aws:iam::444455556666:root"], &[])),
            ..Access::default()
        };
        let composed = text(compose(&access, "eu-west-1", "aws"));
        assert_eq!(
            composed["Statement"][0]["Principal"],
            json!({"AWS": "arn:aws:iam::444455556666:root"})
        );
    }

    #[test]
    fn other_partitions_have_their_own_arns() {
        let access = Access {
            pull: Some(grantees(&["444455556666", "ecs.amazonaws.com.cn"], &[])),
            lambda: Some(vec!["444455556666".into()]),
            ..Access::default()
        };
        let composed = text(compose(&access, "cn-north-1", "aws-cn"));
        let principal = json!({"AWS": "arn:aws-cn:iam::444455556666:root", "Service": "ecs.amazonaws.com.cn"});
        assert_eq!(composed["Statement"][0]["Principal"], principal);
        let source = json!("arn:aws-cn:lambda:cn-north-1:444455556666:function:*");
        assert_eq!(
            composed["Statement"][1]["Condition"]["StringLike"]["aws:SourceArn"],
            source
        );
    }

    #[test]
    fn empty_access_composes_nothing_and_leaves_no_policy() {
        assert!(compose(&Access::default(), "eu-west-1", "aws").is_empty());
        let empty = Access {
            pull: Some(grantees(&[], &[])),
            push: Some(grantees(&[], &[])),
            lambda: Some(vec![]),
        };
        assert!(compose(&empty, "eu-west-1", "aws").is_empty());
        assert_eq!(merge(None, vec![]), None);
        let ours = merge(None, compose(&full(), "eu-west-1", "aws"));
        assert_eq!(merge(ours.as_ref(), vec![]), None);
    }

    #[test]
    fn ours_are_replaced_in_place_and_others_stay() {
        let live = policy(&json!([
            {"Sid": "First", "Effect": "Deny", "Principal": "*", "Action": "ecr:DeleteRepository"},
            {"Sid": "EcrOperatorPush", "Effect": "Allow", "Principal": {"AWS": "999999999999"}, "Action": "ecr:*"},
            {"Sid": "EcrOperatorGone", "Effect": "Allow", "Principal": {"AWS": "999999999999"}, "Action": "ecr:*"},
            {"Effect": "Allow", "Principal": {"AWS": "999999999999"}, "Action": "ecr:ListImages"},
            {"Sid": "ecroperatorPull", "Effect": "Deny", "Principal": {"AWS": "999999999999"}, "Action": "ecr:PutImage"}
        ]));
        let access = Access {
            pull: Some(grantees(&["444455556666"], &[])),
            push: Some(grantees(&["444455556666"], &[])),
            lambda: None,
        };
        let merged = merge(Some(&live), compose(&access, "eu-west-1", "aws")).expect("a policy");
        let expected = [
            Some("First"),
            Some("EcrOperatorPush"),
            None,
            Some("ecroperatorPull"),
            Some("EcrOperatorPull"),
        ];
        assert_eq!(sids(&merged), expected);
        assert!(!merged.to_text().contains("EcrOperatorGone"));
        assert_eq!(merged.statements()[0], live.statements()[0]);
        assert_ne!(merged.statements()[1], live.statements()[1]);

        let stored = Policy::parse(&merged.to_text()).expect("a policy");
        assert_eq!(
            merge(Some(&stored), compose(&access, "eu-west-1", "aws")),
            Some(stored.clone())
        );
        let without = merge(Some(&stored), vec![]).expect("a policy");
        assert_eq!(sids(&without), [Some("First"), None, Some("ecroperatorPull")]);
    }

    #[test]
    fn a_sid_of_ours_that_stands_twice_is_left_once() {
        let twice = json!({"Sid": "EcrOperatorPull", "Effect": "Allow", "Principal": "*", "Action": "ecr:*"});
        let live = policy(&json!([twice, twice]));
        let access = Access {
            pull: Some(grantees(&["444455556666"], &[])),
            ..Access::default()
        };
        let merged = merge(Some(&live), compose(&access, "eu-west-1", "aws")).expect("a policy");
        assert_eq!(sids(&merged), [Some("EcrOperatorPull")]);
        assert!(!merged.to_text().contains('*'));
    }

    #[test]
    fn id_and_version_of_what_stands_are_kept() {
        let live = json!({"Id": "theirs", "Statement": {"Sid": "X", "Effect": "Allow", "Principal": "*", "Action": "ecr:ListImages"}});
        let live = Policy::parse(&live.to_string()).expect("a policy");
        let merged = merge(Some(&live), compose(&full(), "eu-west-1", "aws")).expect("a policy");
        let text = merged.to_text();
        assert!(
            text.contains(r#""Id":"theirs""#) && text.contains(r#""Version":"2008-10-17""#),
            "{text}"
        );
    }
}
