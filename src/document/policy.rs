//! ECR repository policies: the IAM resource policy that says who else may use a repository; and the policy of a whole
//! registry, which differs in that its statements name resources ([`Policy::parse_of_registry`], [`unite`]).
//!
//! Pure: a policy is read ([`Policy::parse`], [`Policy::from_value`]), compared by meaning (`==`), composed from a
//! Repository's `access` ([`compose`], [`merge`]) and held to what a tenant may name ([`outside`]).
//!
//! ECR keeps the document as text and gives it back in another layout, with lists in another order and with accounts
//! written another way (terraform-provider-aws#19365), so text is never compared. The language is IAM's: "Grammar of
//! the IAM JSON policy language" and "AWS JSON policy elements" in the IAM User Guide; what is special to ECR comes from
//! "Private repository policies" and "Private repository policy examples" in the Amazon ECR User Guide.

mod access;
mod error;
mod parse;
mod principal;
mod registry;
mod tenancy;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

pub(crate) use access::{Access, Grantees, SID_PREFIX, compose, merge};
pub(crate) use error::PolicyError;
#[cfg(test)]
pub(crate) use principal::NamedPrincipal;
pub(crate) use registry::{REPLICATE_FROM, asleep, replication_from, unite};
pub(crate) use tenancy::{Allowed, outside};

use principal::{Kind, Principals};

/// The longest text ECR takes, in characters (`RepositoryPolicyText` in the ECR API Reference).
pub(crate) const MAX_CHARACTERS: usize = 10_240;

/// A repository policy. `==` compares meaning: whom it allows or denies what, under which condition.
///
/// Not part of the meaning: `Id`; the order of statements, lists and keys; repetitions; one value or a list of one; the
/// case of actions, condition operators and condition keys; an account as its id or as its root ARN; `"*"` or
/// `{"AWS": "*"}`; a number or boolean in a condition or its text. Part of it: each `Sid`, because access ownership rests
/// on them, and `Version`, because policy variables are plain text in 2008-10-17 (which an absent Version means).
///
/// Not seen through: an action pattern that covers others (`ecr:*` beside `ecr:PutImage`), statements that could be
/// written as one, and role names in another case. Such policies compare as different, which costs a write, never access.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    id: Option<String>,
    version: Version,
    statements: Vec<Statement>,
}

/// The version of the policy language ("IAM JSON policy elements: Version").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// 2008-10-17, also where none is written: no policy variables.
    V2008,
    /// 2012-10-17, the current one.
    V2012,
}

/// One statement of a [`Policy`], spelled as its author spelled it; `==` compares meaning, as for the policy.
#[derive(Clone, Debug)]
pub(crate) struct Statement {
    sid: Option<String>,
    effect: Effect,
    principals: Principals,
    actions: Actions,
    /// What it is about, in a registry's policy; a repository's concerns the repository.
    resources: Option<Resources>,
    /// Operator to key to values. Neither an operator nor a key of an operator occurs twice in another case.
    condition: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug)]
struct Actions {
    /// `NotAction`: all but these.
    negated: bool,
    names: Vec<String>,
}

#[derive(Clone, Debug)]
struct Resources {
    /// `NotResource`: all but these.
    negated: bool,
    names: Vec<String>,
}

/// A statement reduced to what it says: equal exactly when two statements mean the same.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Meaning<'a> {
    sid: Option<&'a str>,
    effect: Effect,
    not_principal: bool,
    principals: BTreeSet<(Kind, &'a str)>,
    not_action: bool,
    actions: BTreeSet<String>,
    resources: Option<(bool, BTreeSet<&'a str>)>,
    condition: BTreeMap<(String, String), BTreeSet<&'a str>>,
}

impl Policy {
    /// Reads a policy as ECR returns it.
    ///
    /// What ECR already stores is taken more gently than a manifest: any `Sid` (the console has long written
    /// `new statement`), repeated Sids, principals of unknown form, and any length, since ECR returns the text with
    /// white space that does not count when it is set. A document that says something this module does not know is an
    /// error even so: it could not be written back whole.
    pub(crate) fn parse(text: &str) -> Result<Self, PolicyError> {
        let value: Value = serde_json::from_str(text).map_err(|error| PolicyError::NotJson(error.to_string()))?;
        parse::policy(&value, parse::Origin::Stored, parse::Subject::Repository)
    }

    /// Reads a policy as a manifest has it, and refuses what ECR or IAM would refuse, as far as the text alone tells.
    ///
    /// Whether a named user or role exists is only known to ECR, which answers `Principal not found` or
    /// `Invalid repository policy provided` if not.
    pub(crate) fn from_value(value: &Value) -> Result<Self, PolicyError> {
        let policy = parse::policy(value, parse::Origin::Declared, parse::Subject::Repository)?;
        policy.check_length()?;
        Ok(policy)
    }

    /// Reads a registry's policy as ECR returns it, as gently as [`Self::parse`].
    pub(crate) fn parse_of_registry(text: &str) -> Result<Self, PolicyError> {
        let value: Value = serde_json::from_str(text).map_err(|error| PolicyError::NotJson(error.to_string()))?;
        parse::policy(&value, parse::Origin::Stored, parse::Subject::Registry)
    }

    /// Reads a registry's policy as a manifest has it. Each statement must have a Sid, by which it is told from those of
    /// others.
    pub(crate) fn from_value_for_registry(value: &Value) -> Result<Self, PolicyError> {
        let policy = parse::policy(value, parse::Origin::Declared, parse::Subject::Registry)?;
        policy.check_length()?;
        Ok(policy)
    }

    /// The compact JSON to send to ECR; the same policy always gives the same text, and reading it gives an equal policy.
    pub(crate) fn to_text(&self) -> String {
        let mut policy = Map::new();
        policy.insert("Version".into(), self.version.as_str().into());
        if let Some(id) = &self.id {
            policy.insert("Id".into(), id.as_str().into());
        }
        policy.insert(
            "Statement".into(),
            self.statements.iter().map(Statement::to_value).collect(),
        );
        Value::Object(policy).to_string()
    }

    /// Refuses a policy whose text is longer than [`MAX_CHARACTERS`]. To be asked of a merged policy before it is sent.
    pub(crate) fn check_length(&self) -> Result<(), PolicyError> {
        match self.to_text().chars().count() {
            characters if characters > MAX_CHARACTERS => Err(PolicyError::TooLong { characters }),
            _ => Ok(()),
        }
    }

    /// The statements, in the order of the document.
    pub(crate) fn statements(&self) -> &[Statement] {
        &self.statements
    }
}

impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        fn meanings(policy: &Policy) -> BTreeSet<Meaning<'_>> {
            policy.statements.iter().map(Statement::meaning).collect()
        }
        self.version == other.version && meanings(self) == meanings(other)
    }
}

impl Eq for Policy {}

impl Version {
    const fn as_str(self) -> &'static str {
        match self {
            Self::V2008 => "2008-10-17",
            Self::V2012 => "2012-10-17",
        }
    }
}

impl Statement {
    /// The statement's identifier; none where it is absent or empty.
    pub(crate) fn sid(&self) -> Option<&str> {
        self.sid.as_deref()
    }

    /// Whether the statement belongs to `access`: its Sid begins with [`SID_PREFIX`], in that very case.
    pub(crate) fn is_ours(&self) -> bool {
        self.sid().is_some_and(|sid| sid.starts_with(SID_PREFIX))
    }

    fn meaning(&self) -> Meaning<'_> {
        let mut condition = BTreeMap::new();
        for (operator, keys) in &self.condition {
            for (key, values) in keys {
                condition.insert(
                    (operator.to_ascii_lowercase(), key.to_ascii_lowercase()),
                    values.iter().map(String::as_str).collect(),
                );
            }
        }
        Meaning {
            sid: self.sid(),
            effect: self.effect,
            not_principal: self.principals.negated,
            principals: self.principals.meaning(),
            not_action: self.actions.negated,
            actions: self
                .actions
                .names
                .iter()
                .map(|name| name.to_ascii_lowercase())
                .collect(),
            resources: self
                .resources
                .as_ref()
                .map(|resources| (resources.negated, resources.names.iter().map(String::as_str).collect())),
            condition,
        }
    }

    /// The values of the only condition of the statement, if it has exactly one: this operator on this key.
    ///
    /// Both are given in lower case. `StringEqualsIfExists`, `ForAnyValue:StringEquals` and the like are other operators.
    fn sole_condition(&self, operator: &str, key: &str) -> Option<BTreeSet<&str>> {
        let mut conditions = self.meaning().condition.into_iter();
        match (conditions.next(), conditions.next()) {
            (Some(((o, k), values)), None) if o == operator && k == key => Some(values),
            _ => None,
        }
    }

    fn to_value(&self) -> Value {
        let mut statement = Map::new();
        if let Some(sid) = &self.sid {
            statement.insert("Sid".into(), sid.as_str().into());
        }
        statement.insert(
            "Effect".into(),
            if self.effect == Effect::Allow { "Allow" } else { "Deny" }.into(),
        );
        statement.insert(
            if self.principals.negated {
                "NotPrincipal"
            } else {
                "Principal"
            }
            .into(),
            self.principals.to_value(),
        );
        statement.insert(
            if self.actions.negated { "NotAction" } else { "Action" }.into(),
            one_or_many(&self.actions.names),
        );
        if let Some(Resources { negated, names }) = &self.resources {
            let key = if *negated { "NotResource" } else { "Resource" };
            statement.insert(key.into(), one_or_many(names));
        }
        if !self.condition.is_empty() {
            let condition = self.condition.iter().map(|(operator, keys)| {
                let keys: Map<_, _> = keys
                    .iter()
                    .map(|(key, values)| (key.clone(), one_or_many(values)))
                    .collect();
                (operator.clone(), Value::Object(keys))
            });
            statement.insert("Condition".into(), Value::Object(condition.collect()));
        }
        Value::Object(statement)
    }
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        self.meaning() == other.meaning()
    }
}

impl Eq for Statement {}

/// One value as itself, several as a list.
fn one_or_many<S: AsRef<str>>(values: &[S]) -> Value {
    match values {
        [one] => one.as_ref().into(),
        many => many.iter().map(AsRef::as_ref).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Policy {
        Policy::parse(&value.to_string()).expect("a policy")
    }

    /// A policy of one statement: the usual one, with some keys set anew.
    fn with(keys: &Value) -> Policy {
        let mut statement =
            json!({"Sid": "A", "Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "ecr:BatchGetImage"});
        for (key, value) in keys.as_object().expect("keys") {
            statement[key] = value.clone();
        }
        read(&json!({"Version": "2012-10-17", "Statement": [statement]}))
    }

    #[test]
    fn layout_order_and_repetition_do_not_matter() {
        let ours = Policy::parse(
            r#"{"Version":"2012-10-17","Statement":[
                {"Sid":"A","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:role/a","444455556666"]},"Action":["ecr:BatchGetImage","ecr:PutImage"]},
                {"Sid":"B","Effect":"Deny","Principal":"*","Action":"ecr:DeleteRepository"}]}"#,
        );
        let theirs = Policy::parse(
            r#"{ "Statement" : [ {
                "Action" : [ "ecr:DeleteRepository" ], "Principal" : { "AWS" : [ "*" ] }, "Sid" : "B", "Effect" : "Deny"
              }, {
                "Action" : [ "ecr:putimage", "ecr:BATCHGETIMAGE", "ecr:PutImage" ],
                "Principal" : { "AWS" : [ "arn:aws:iam::444455556666:root", "arn:aws:iam::111122223333:role/a" ] },
                "Effect" : "Allow", "Sid" : "A"
              } ], "Version" : "2012-10-17" }"#,
        );
        assert_eq!(ours, theirs);
        assert!(ours.is_ok());
    }

    #[test]
    fn an_account_is_its_root_in_every_partition() {
        for partition in ["aws", "aws-cn", "aws-us-gov"] {
            let root = json!({"Principal": {"AWS": [format!("arn:{partition}:iam::111122223333:root")]}});
            assert_eq!(with(&root), with(&json!({})));
        }
        assert_ne!(
            with(&json!({"Principal": {"AWS": "arn:aws:iam::111122223333:role/root"}})),
            with(&json!({}))
        );
        assert_ne!(with(&json!({"Principal": {"AWS": "111122223334"}})), with(&json!({})));
    }

    #[test]
    fn everything_that_says_something_is_compared() {
        for change in [
            json!({"Sid": "B"}),
            json!({"Sid": "a"}),
            json!({"Sid": ""}),
            json!({"Effect": "Deny"}),
            json!({"Principal": {"Service": "111122223333"}}),
            json!({"Principal": "*"}),
            json!({"Action": "ecr:*"}),
            json!({"Action": ["ecr:BatchGetImage", "ecr:PutImage"]}),
            json!({"Condition": {"Bool": {"aws:SecureTransport": true}}}),
        ] {
            assert_ne!(with(&change), with(&json!({})), "{change}");
        }
        let negated = |principal: &str, action: &str| {
            read(&json!({"Statement": {"Effect": "Deny", principal: {"AWS": "111122223333"}, action: "ecr:*"}}))
        };
        assert_ne!(negated("Principal", "Action"), negated("NotPrincipal", "Action"));
        assert_ne!(negated("Principal", "Action"), negated("Principal", "NotAction"));
    }

    #[test]
    fn role_names_and_condition_values_keep_their_case() {
        let role = |name: &str| with(&json!({"Principal": {"AWS": format!("arn:aws:iam::111122223333:role/{name}")}}));
        assert_ne!(role("Deploy"), role("deploy"));
        let tag = |value| with(&json!({"Condition": {"StringEquals": {"aws:PrincipalTag/team": value}}}));
        assert_ne!(tag("A"), tag("a"));
    }

    #[test]
    fn conditions_are_compared_by_meaning() {
        let one = with(
            &json!({"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}, "Bool": {"aws:SecureTransport": true}, "NumericLessThan": {"x:y": 3}}}),
        );
        let two = with(
            &json!({"Condition": {"bool": {"AWS:securetransport": ["true"]}, "numericlessthan": {"X:Y": ["3", 3]}, "stringEquals": {"aws:principalorgid": ["o-1234567890"]}}}),
        );
        assert_eq!(one, two);
        assert_eq!(with(&json!({"Condition": {}})), with(&json!({})));
        assert_eq!(with(&json!({"Condition": {"Bool": {}}})), with(&json!({})));
        let if_exists = with(
            &json!({"Condition": {"StringEqualsIfExists": {"aws:PrincipalOrgID": "o-1234567890"}, "Bool": {"aws:SecureTransport": true}, "NumericLessThan": {"x:y": 3}}}),
        );
        assert_ne!(one, if_exists);
    }

    #[test]
    fn an_absent_version_is_the_old_one_and_versions_differ() {
        let statement = json!([{"Effect": "Allow", "Principal": "*", "Action": "ecr:*"}]);
        let absent = read(&json!({"Statement": statement}));
        assert_eq!(absent, read(&json!({"Version": "2008-10-17", "Statement": statement})));
        assert_ne!(absent, read(&json!({"Version": "2012-10-17", "Statement": statement})));
    }

    #[test]
    fn an_id_is_kept_and_not_compared() {
        let statement = json!({"Effect": "Allow", "Principal": "*", "Action": "ecr:*"});
        let with_id = read(&json!({"Id": "mine", "Statement": statement}));
        assert_eq!(with_id, read(&json!({"Statement": statement})));
        assert!(with_id.to_text().contains(r#""Id":"mine""#));
    }

    #[test]
    fn one_statement_needs_no_list() {
        let statement = json!({"Effect": "Allow", "Principal": "*", "Action": "ecr:*"});
        assert_eq!(
            read(&json!({"Statement": statement})),
            read(&json!({"Statement": [statement, statement]}))
        );
    }

    #[test]
    fn what_is_written_is_compact_keeps_its_spelling_and_reads_back_equal() {
        let policy = read(&json!({
            "Version": "2008-10-17",
            "Id": "x",
            "Statement": [
                {"Sid": "new statement", "Effect": "Allow", "Principal": {"Service": "codebuild.amazonaws.com", "AWS": ["111122223333", "AROAEXAMPLEEXAMPLE123"]}, "Action": ["ecr:batchgetimage"]},
                {"Effect": "Deny", "NotPrincipal": {"AWS": "arn:aws:iam::111122223333:user/\"q\""}, "NotAction": ["ecr:Get*", "ecr:List*"], "Condition": {"bool": {"aws:SecureTransport": [false]}, "IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::1"]}}},
                {"Effect": "Allow", "Principal": "*", "Action": "ecr:ListImages"}
            ]
        }));
        let text = policy.to_text();
        assert_eq!(Policy::parse(&text), Ok(policy.clone()));
        assert_eq!(text, Policy::parse(&text).expect("a policy").to_text());
        for part in [
            r#""Action":"ecr:batchgetimage""#,
            r#""bool":{"aws:SecureTransport":"false"}"#,
            r#""Principal":"*""#,
            r#""AWS":["111122223333""#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains('\n'));
    }

    #[test]
    fn ecrs_own_example_of_an_answer_is_read() {
        let text = "{\n  \"Version\" : \"2008-10-17\",\n  \"Statement\" : [ {\n    \"Sid\" : \"new policy\",\n    \"Effect\" : \"Allow\",\n    \"Principal\" : {\n     \"AWS\" : \"arn:aws:iam::012345678901:role/CodeDeployDemo\"\n    },\n\"Action\" : [ \"ecr:GetDownloadUrlForLayer\", \"ecr:BatchGetImage\", \"ecr:BatchCheckLayerAvailability\" ]\n } ]\n}";
        let policy = Policy::parse(text).expect("a policy");
        assert_eq!(policy.statements().first().and_then(Statement::sid), Some("new policy"));
        assert_eq!(
            named(&policy),
            [NamedPrincipal::Arn(
                "arn:aws:iam::012345678901:role/CodeDeployDemo".into()
            )]
        );
    }

    fn named(policy: &Policy) -> Vec<NamedPrincipal> {
        let mut named: Vec<_> = policy.statements().iter().flat_map(Statement::principals).collect();
        named.dedup();
        named
    }

    #[test]
    fn each_principal_is_listed_in_order() {
        let policy = read(&json!({"Statement": [
            {"Effect": "Allow", "Principal": {"AWS": ["111122223333", "AIDAEXAMPLEEXAMPLE123"], "Federated": "accounts.google.com"}, "Action": "ecr:*"},
            {"Effect": "Deny", "Principal": {"AWS": "111122223333", "CanonicalUser": "79a5"}, "Action": "ecr:*"},
            {"Effect": "Deny", "NotPrincipal": {"AWS": "111122223333"}, "Action": "ecr:*"}
        ]}));
        let names: Vec<_> = named(&policy).iter().map(ToString::to_string).collect();
        let expected = [
            "account 111122223333",
            "AIDAEXAMPLEEXAMPLE123 (the id of a deleted user or role)",
            "the identity provider accounts.google.com",
            "account 111122223333",
            "the canonical user 79a5",
            "everybody but 111122223333 (NotPrincipal)",
        ];
        assert_eq!(names, expected);
    }
}
