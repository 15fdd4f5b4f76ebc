//! Whether a policy names only those whom a tenant may name.

use super::Statement;
use super::principal::{LAMBDA, NamedPrincipal, is_account_id, principal_account, root_account};

/// Whom a tenant's policies may name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed<'a> {
    /// The account of the registry.
    pub(crate) own_account: &'a str,
    /// Its partition (`aws`, `aws-cn`, …); an account of another partition is another account.
    pub(crate) partition: &'a str,
    /// None: the registry's own account, with every user and role in it. Otherwise exactly these, and the own account
    /// only if it is among them: an account id or a root ARN covers the whole account, anything else must be equal.
    pub(crate) principals: Option<&'a [String]>,
    /// Organizations that may be named in the form [`super::compose`] gives them.
    pub(crate) organization_ids: &'a [String],
}

/// The first principal that is outside what a tenant may name; None when all are within.
///
/// Holds for `Deny` as for `Allow`: locking somebody out is not for a tenant either. Never within: wildcards other than
/// in the composed organization form, `NotPrincipal`, identity providers, canonical users, and texts of no known form.
/// Lambda in its composed form is judged by the accounts of its functions, in any other form by its name.
pub(crate) fn outside(statements: &[Statement], allowed: &Allowed<'_>) -> Option<NamedPrincipal> {
    statements
        .iter()
        .flat_map(Statement::principals)
        .find(|principal| !allowed.permits(principal))
}

impl Allowed<'_> {
    fn permits(&self, principal: &NamedPrincipal) -> bool {
        match principal {
            NamedPrincipal::Account { partition, id } => {
                self.covers(partition.as_deref().unwrap_or(self.partition), id)
            }
            NamedPrincipal::Arn(arn) => {
                self.lists(arn)
                    || principal_account(arn).is_some_and(|(partition, account)| self.covers(partition, account))
            }
            NamedPrincipal::Service(name) | NamedPrincipal::UniqueId(name) => self.lists(name),
            // Who may name the service without any condition may name it with one.
            NamedPrincipal::LambdaFunctions { partition, account } => {
                self.covers(partition, account) || self.lists(LAMBDA)
            }
            NamedPrincipal::Organization(id) => self.organization_ids.contains(id),
            NamedPrincipal::Anyone
            | NamedPrincipal::Federated(_)
            | NamedPrincipal::CanonicalUser(_)
            | NamedPrincipal::NotPrincipal(_)
            | NamedPrincipal::Unrecognized(_) => false,
        }
    }

    /// Whether the whole account is within.
    fn covers(&self, partition: &str, account: &str) -> bool {
        let is_account = |entry: &String| {
            if is_account_id(entry) {
                entry == account
            } else {
                root_account(entry) == Some((self.partition, account))
            }
        };
        partition == self.partition
            && match self.principals {
                None => account == self.own_account,
                Some(principals) => principals.iter().any(is_account),
            }
    }

    fn lists(&self, name: &str) -> bool {
        self.principals
            .is_some_and(|principals| principals.iter().any(|entry| entry == name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::document::policy::{Access, Grantees, Policy, compose};

    const OWN: &str = "111122223333";

    /// The first one outside in a policy of this one statement, with `principals` and organization `o-friend0000` listed.
    fn first_outside(principals: Option<&[&str]>, keys: &Value) -> Option<NamedPrincipal> {
        let mut statement = json!({"Effect": "Allow", "Action": "ecr:BatchGetImage"});
        for (key, value) in keys.as_object().expect("keys") {
            statement[key] = value.clone();
        }
        let policy =
            Policy::parse(&json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()).expect("a policy");
        judge(principals, policy.statements())
    }

    fn judge(principals: Option<&[&str]>, statements: &[Statement]) -> Option<NamedPrincipal> {
        let principals: Option<Vec<String>> =
            principals.map(|names| names.iter().map(|&name| name.to_owned()).collect());
        let organization_ids = ["o-friend0000".to_owned()];
        let allowed = Allowed {
            own_account: OWN,
            partition: "aws",
            principals: principals.as_deref(),
            organization_ids: &organization_ids,
        };
        outside(statements, &allowed)
    }

    fn aws(principals: Option<&[&str]>, name: &str) -> Option<NamedPrincipal> {
        first_outside(principals, &json!({"Principal": {"AWS": name}}))
    }

    fn anyone_if(condition: &Value) -> Option<NamedPrincipal> {
        first_outside(None, &json!({"Principal": "*", "Condition": condition}))
    }

    fn lambda_if(principals: Option<&[&str]>, condition: &Value) -> Option<NamedPrincipal> {
        first_outside(
            principals,
            &json!({"Principal": {"Service": "lambda.amazonaws.com"}, "Condition": condition}),
        )
    }

    #[test]
    fn without_a_list_this_account_and_all_in_it_may_be_named() {
        for name in [
            OWN,
            "arn:aws:iam::111122223333:root",
            "arn:aws:iam::111122223333:role/path/deploy",
            "arn:aws:iam::111122223333:user/eve",
            "arn:aws:sts::111122223333:assumed-role/deploy/session",
            "arn:aws:sts::111122223333:federated-user/eve",
        ] {
            assert_eq!(aws(None, name), None, "{name}");
        }
    }

    #[test]
    fn nothing_that_only_looks_like_this_account_may_be_named() {
        for name in [
            "444455556666",
            " 111122223333",
            "111122223333 ",
            "1111 2222 3333",
            "1111-2222-3333",
            "0111122223333",
            "arn:aws:iam::444455556666:root",
            "arn:aws:iam::444455556666:role/111122223333",
            "arn:aws:iam::444455556666:role/arn:aws:iam::111122223333:root",
            "arn:aws:sts::444455556666:assumed-role/deploy/session",
            "arn:aws:iam::111122223333:role/",
            "arn:aws:iam::111122223333:role",
            "arn:aws:iam::111122223333:ROOT",
            "arn:aws:iam::111122223333:saml-provider/x",
            "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com",
            "arn:aws:iam:444455556666:111122223333:role/x",
            "arn:aws:iam::111122223333:role/x y",
            "arn:aws:sts::111122223333:root",
            "arn:aws:s3::111122223333:role/x",
            "arn:aws-cn:iam::111122223333:root",
            "arn:aws-cn:iam::111122223333:role/x",
            "arn:aws-us-gov:sts::111122223333:assumed-role/x/y",
            "arn:AWS:iam::111122223333:role/x",
            "ARN:aws:iam::111122223333:root",
            "AROAEXAMPLEEXAMPLE123",
            "AIDAEXAMPLEEXAMPLE123",
        ] {
            assert!(aws(None, name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_wildcard_anywhere_is_anyone_even_if_listed() {
        for name in [
            "*",
            "**",
            "arn:aws:iam::*:root",
            "arn:aws:iam::111122223333:*",
            "arn:aws:iam::111122223333:role/*",
            "arn:aws:iam::111122223333:role/deplo?",
            "arn:aws:iam::11112222333?:root",
            "arn:aws:iam::111122223333:role/${aws:PrincipalTag/x}",
            "11112222333*",
        ] {
            assert_eq!(aws(None, name), Some(NamedPrincipal::Anyone), "{name}");
            assert_eq!(aws(Some(&[name, "*"]), name), Some(NamedPrincipal::Anyone), "{name}");
        }
        for principal in [
            json!("*"),
            json!({"AWS": ["*"]}),
            json!({"Service": "*"}),
            json!({"Federated": "*"}),
            json!({"CanonicalUser": "*"}),
            json!({"AWS": [OWN, "*"]}),
        ] {
            assert_eq!(
                first_outside(None, &json!({"Principal": principal})),
                Some(NamedPrincipal::Anyone),
                "{principal}"
            );
        }
    }

    #[test]
    fn with_a_list_only_those_may_be_named() {
        let list: Option<&[&str]> = Some(&[
            "444455556666",
            "arn:aws:iam::777788889999:root",
            "arn:aws:iam::222233334444:role/ci",
            "codebuild.amazonaws.com",
        ]);
        for name in [
            "444455556666",
            "arn:aws:iam::444455556666:root",
            "arn:aws:iam::444455556666:user/x",
            "arn:aws:sts::777788889999:assumed-role/a/b",
            "777788889999",
            "arn:aws:iam::222233334444:role/ci",
        ] {
            assert_eq!(aws(list, name), None, "{name}");
        }
        for name in [
            OWN,
            "arn:aws:iam::111122223333:role/x",
            "222233334444",
            "arn:aws:iam::222233334444:root",
            "arn:aws:iam::222233334444:role/CI",
            "arn:aws:iam::222233334444:role/ci2",
            "arn:aws:sts::222233334444:assumed-role/ci/x",
            "arn:aws-cn:iam::777788889999:root",
        ] {
            assert!(aws(list, name).is_some(), "{name}");
        }
        assert!(aws(Some(&[]), OWN).is_some());
        assert!(aws(Some(&["arn:aws-cn:iam::444455556666:root"]), "444455556666").is_some());
        assert_eq!(aws(Some(&["AROAEXAMPLEEXAMPLE123"]), "AROAEXAMPLEEXAMPLE123"), None);
    }

    #[test]
    fn a_service_must_be_listed_exactly() {
        let service = |list, name: &str| first_outside(list, &json!({"Principal": {"Service": name}}));
        assert_eq!(
            service(Some(&["codebuild.amazonaws.com"]), "codebuild.amazonaws.com"),
            None
        );
        assert!(service(None, "codebuild.amazonaws.com").is_some());
        assert!(service(Some(&["codebuild.amazonaws.com"]), "CodeBuild.amazonaws.com").is_some());
        assert!(service(Some(&["codebuild.amazonaws.com"]), "ecs.amazonaws.com").is_some());
    }

    #[test]
    fn not_principal_providers_and_canonical_users_are_never_within() {
        let all: Option<&[&str]> = Some(&[
            OWN,
            "accounts.google.com",
            "79a59df900b949e5",
            "arn:aws:iam::111122223333:saml-provider/x",
        ]);
        for keys in [
            json!({"NotPrincipal": {"AWS": OWN}}),
            json!({"NotPrincipal": "*"}),
            json!({"Effect": "Deny", "NotPrincipal": {"AWS": OWN}}),
            json!({"NotPrincipal": "*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}}}),
            json!({"Principal": {"Federated": "accounts.google.com"}}),
            json!({"Principal": {"Federated": "arn:aws:iam::111122223333:saml-provider/x"}}),
            json!({"Principal": {"CanonicalUser": "79a59df900b949e5"}}),
        ] {
            assert!(first_outside(all, &keys).is_some(), "{keys}");
        }
    }

    #[test]
    fn a_statement_is_judged_by_all_it_names() {
        let keys = json!({"Principal": {"AWS": [OWN, "444455556666"]}});
        assert_eq!(
            first_outside(None, &keys),
            Some(NamedPrincipal::Account {
                partition: None,
                id: "444455556666".into()
            })
        );
        let keys = json!({"Principal": {"AWS": OWN, "Service": "ecs.amazonaws.com"}});
        assert_eq!(
            first_outside(None, &keys),
            Some(NamedPrincipal::Service("ecs.amazonaws.com".into()))
        );
        let keys = json!({"Effect": "Deny", "Principal": {"AWS": "444455556666"}});
        assert!(first_outside(None, &keys).is_some());
    }

    #[test]
    fn no_condition_lets_a_foreign_principal_in() {
        let keys = json!({"Principal": {"AWS": "444455556666"}, "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}}});
        assert!(first_outside(None, &keys).is_some());
        let keys = json!({"Principal": {"Service": "ecs.amazonaws.com"}, "Condition": {"StringLike": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:111122223333:function:*"}}});
        assert!(first_outside(None, &keys).is_some());
    }

    #[test]
    fn a_listed_organization_may_be_named_in_the_composed_form() {
        for condition in [
            json!({"StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}}),
            json!({"stringequals": {"AWS:PrincipalOrgId": ["o-friend0000", "o-friend0000"]}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}, "Bool": {}}),
        ] {
            assert_eq!(anyone_if(&condition), None, "{condition}");
        }
        let keys =
            json!({"Principal": {"AWS": ["*"]}, "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}}});
        assert_eq!(first_outside(None, &keys), None);
        let stranger = anyone_if(&json!({"StringEquals": {"aws:PrincipalOrgID": ["o-friend0000", "o-stranger00"]}}));
        assert_eq!(stranger, Some(NamedPrincipal::Organization("o-stranger00".into())));
    }

    #[test]
    fn any_other_condition_leaves_a_wildcard_anyone() {
        for condition in [
            json!({"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-friend0000"}}),
            json!({"ForAnyValue:StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}}),
            json!({"ForAllValues:StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}}),
            json!({"StringLike": {"aws:PrincipalOrgID": "o-friend0000"}}),
            json!({"StringEqualsIgnoreCase": {"aws:PrincipalOrgID": "o-friend0000"}}),
            json!({"StringNotEquals": {"aws:PrincipalOrgID": "o-friend0000"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "o-friend0000", "aws:PrincipalAccount": "444455556666"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}, "Bool": {"aws:SecureTransport": true}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "o-friend0000", "aws:SourceVpc": "vpc-1"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}, "StringLike": {"aws:PrincipalArn": "*"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "${aws:PrincipalOrgID}"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": ["o-friend0000", "${aws:PrincipalOrgID}"]}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "*"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "o-*"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": "O-FRIEND0000"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID": " o-friend0000"}}),
            json!({"StringEquals": {"aws:PrincipalOrgPaths": "o-friend0000"}}),
            json!({"StringEquals": {"aws:ResourceOrgID": "o-friend0000"}}),
            json!({"StringEquals": {"aws:PrincipalOrgID ": "o-friend0000"}}),
            json!({"StringEquals": {"aws:PrincipalAccount": OWN}}),
            json!({"StringEquals": {}}),
            json!({}),
        ] {
            assert_eq!(anyone_if(&condition), Some(NamedPrincipal::Anyone), "{condition}");
        }
    }

    #[test]
    fn an_organization_does_not_cover_further_principals_of_the_statement() {
        let condition = json!({"StringEquals": {"aws:PrincipalOrgID": "o-friend0000"}});
        for principal in [
            json!({"AWS": ["*", "444455556666"]}),
            json!({"AWS": ["*", OWN]}),
            json!({"AWS": "*", "Service": "ecs.amazonaws.com"}),
            json!({"AWS": "*", "Federated": "accounts.google.com"}),
            json!({"Service": "*"}),
            json!({"AWS": "arn:aws:iam::*:root"}),
        ] {
            assert_eq!(
                first_outside(None, &json!({"Principal": principal, "Condition": condition})),
                Some(NamedPrincipal::Anyone),
                "{principal}"
            );
        }
    }

    #[test]
    fn lambda_in_the_composed_form_is_judged_by_its_accounts() {
        let source = |account: &str| json!({"StringLike": {"aws:sourceARN": format!("arn:aws:lambda:eu-west-1:{account}:function:*")}});
        assert_eq!(lambda_if(None, &source(OWN)), None);
        assert_eq!(
            lambda_if(Some(&["arn:aws:iam::444455556666:root"]), &source("444455556666")),
            None
        );
        assert_eq!(
            lambda_if(Some(&["lambda.amazonaws.com"]), &source("444455556666")),
            None
        );
        let foreign = NamedPrincipal::LambdaFunctions {
            partition: "aws".into(),
            account: "444455556666".into(),
        };
        assert_eq!(lambda_if(None, &source("444455556666")), Some(foreign.clone()));
        assert!(lambda_if(Some(&["444455556666"]), &source(OWN)).is_some());
        let both = json!({"StringLike": {"aws:SourceArn": ["arn:aws:lambda:eu-west-1:111122223333:function:app", "arn:aws:lambda:eu-west-1:444455556666:function:app"]}});
        assert_eq!(lambda_if(None, &both), Some(foreign));
        let china = json!({"StringLike": {"aws:SourceArn": "arn:aws-cn:lambda:cn-north-1:111122223333:function:*"}});
        assert!(lambda_if(None, &china).is_some());
    }

    #[test]
    fn lambda_in_any_other_form_is_the_whole_service() {
        let service = Some(NamedPrincipal::Service("lambda.amazonaws.com".into()));
        for condition in [
            json!({}),
            json!({"StringLike": {"aws:SourceArn": "*"}}),
            json!({"StringLike": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:*:function:*"}}),
            json!({"StringLike": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:11112222333?:function:*"}}),
            json!({"StringLike": {"aws:SourceArn": "arn:aws:lambda:*:111122223333:function:*"}}),
            json!({"StringLike": {"aws:SourceArn": "arn:aws*:lambda:eu-west-1:111122223333:function:*"}}),
            json!({"StringLike": {"aws:SourceArn": "arn:aws:*:eu-west-1:111122223333:function:*"}}),
            json!({"StringLike": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:${aws:PrincipalAccount}:function:*"}}),
            json!({"StringLike": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:111122223333:*"}}),
            json!({"StringLike": {"aws:SourceArn": ["arn:aws:lambda:eu-west-1:111122223333:function:*", "*"]}}),
            json!({"StringLikeIfExists": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:111122223333:function:*"}}),
            json!({"StringNotLike": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:111122223333:function:*"}}),
            json!({"StringLike": {"aws:PrincipalArn": "arn:aws:lambda:eu-west-1:111122223333:function:*"}}),
        ] {
            assert_eq!(lambda_if(None, &condition), service, "{condition}");
        }
        let mixed = json!({"Principal": {"Service": ["lambda.amazonaws.com", "ecs.amazonaws.com"]},
            "Condition": {"StringLike": {"aws:SourceArn": "arn:aws:lambda:eu-west-1:111122223333:function:*"}}});
        assert!(first_outside(None, &mixed).is_some());
    }

    #[test]
    fn composed_access_is_judged_like_any_policy() {
        let access = |principals: &[&str], organizations: &[&str], lambda: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
            let pull = Some(Grantees {
                principals: owned(principals),
                organization_ids: owned(organizations),
            });
            let composed = compose(
                &Access {
                    pull,
                    push: None,
                    lambda: Some(owned(lambda)),
                },
                "eu-west-1",
                "aws",
            );
            judge(None, &composed)
        };
        assert_eq!(
            access(&[OWN, "arn:aws:iam::111122223333:role/x"], &["o-friend0000"], &[OWN]),
            None
        );
        assert_eq!(access(&["*"], &[], &[]), Some(NamedPrincipal::Anyone));
        assert!(access(&["444455556666"], &[], &[]).is_some());
        assert!(access(&["lambda.amazonaws.com"], &[], &[]).is_some());
        assert!(access(&[" lambda.amazonaws.com"], &[], &[]).is_some());
        assert!(access(&[], &["o-stranger00"], &[]).is_some());
        assert_eq!(
            access(&[], &["${aws:PrincipalOrgID}"], &[]),
            Some(NamedPrincipal::Anyone)
        );
        assert!(access(&[], &[], &["*"]).is_some());
        assert!(access(&[], &[], &["444455556666"]).is_some());
        assert!(access(&[], &[], &["444455556666:function:*:111122223333"]).is_some());
    }
}
