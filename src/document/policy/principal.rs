//! Whom a statement names.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Map, Value};

use super::{Statement, one_or_many};

/// The service that pulls images for Lambda functions ("Creating Lambda functions in a different account" there).
pub(super) const LAMBDA: &str = "lambda.amazonaws.com";

/// The kinds of principals ("AWS JSON policy elements: Principal"), by the name of their key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Aws,
    CanonicalUser,
    Federated,
    Service,
}

/// The `Principal` or `NotPrincipal` of a statement, as written.
#[derive(Clone, Debug)]
pub(super) struct Principals {
    /// `NotPrincipal`: all but these.
    pub(super) negated: bool,
    /// Written as `"*"` instead of as an object; the only entry then is `*` of kind AWS.
    pub(super) bare: bool,
    pub(super) entries: Vec<(Kind, String)>,
}

/// One principal that a policy names, as far as its text tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NamedPrincipal {
    /// Everybody: a wildcard that nothing narrows to an organization, also one inside an ARN or a policy variable.
    Anyone,
    /// A whole account: its administrators decide who in it.
    Account {
        /// The partition, if it was named by its root ARN.
        partition: Option<String>,
        /// Twelve digits.
        id: String,
    },
    /// A user, role, session, or whatever else an ARN can name.
    Arn(String),
    /// An AWS service.
    Service(String),
    /// Every principal of an organization: a wildcard whose only condition is `StringEquals` on `aws:PrincipalOrgID`.
    Organization(String),
    /// The Lambda functions of an account: that service, whose only condition is `StringLike` on `aws:SourceArn` with a function's ARN.
    LambdaFunctions {
        /// The partition of the functions.
        partition: String,
        /// Their account.
        account: String,
    },
    /// An identity provider.
    Federated(String),
    /// An S3 canonical user id, which is an account in disguise.
    CanonicalUser(String),
    /// All but this one.
    NotPrincipal(String),
    /// A user or role by its unique id (`AIDA…`, `AROA…`), to which IAM turns one that was deleted.
    UniqueId(String),
    /// A text of no known form.
    Unrecognized(String),
}

impl fmt::Display for NamedPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => write!(f, "anyone (a wildcard)"),
            Self::Account { partition: None, id } => write!(f, "account {id}"),
            Self::Account {
                partition: Some(partition),
                id,
            } => write!(f, "arn:{partition}:iam::{id}:root"),
            Self::Arn(text) => write!(f, "{text}"),
            Self::Service(name) => write!(f, "the service {name}"),
            Self::Organization(id) => write!(f, "organization {id}"),
            Self::LambdaFunctions { partition, account } => {
                write!(f, "the Lambda functions of account {account} (partition {partition})")
            }
            Self::Federated(name) => write!(f, "the identity provider {name}"),
            Self::CanonicalUser(id) => write!(f, "the canonical user {id}"),
            Self::NotPrincipal(name) => write!(f, "everybody but {name} (NotPrincipal)"),
            Self::UniqueId(id) => write!(f, "{id} (the id of a deleted user or role)"),
            Self::Unrecognized(text) => write!(f, "{text:?}"),
        }
    }
}

impl Kind {
    pub(super) fn of(key: &str) -> Option<Self> {
        match key {
            "AWS" => Some(Self::Aws),
            "CanonicalUser" => Some(Self::CanonicalUser),
            "Federated" => Some(Self::Federated),
            "Service" => Some(Self::Service),
            _ => None,
        }
    }

    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Aws => "AWS",
            Self::CanonicalUser => "CanonicalUser",
            Self::Federated => "Federated",
            Self::Service => "Service",
        }
    }
}

impl Principals {
    /// The entries with accounts reduced to their ids.
    pub(super) fn meaning(&self) -> BTreeSet<(Kind, &str)> {
        let account = |kind, name| {
            if kind == Kind::Aws {
                root_account(name).map_or(name, |(_, id)| id)
            } else {
                name
            }
        };
        self.entries
            .iter()
            .map(|(kind, name)| (*kind, account(*kind, name)))
            .collect()
    }

    pub(super) fn to_value(&self) -> Value {
        if self.bare {
            return "*".into();
        }
        let mut kinds = Map::new();
        for kind in [Kind::Aws, Kind::CanonicalUser, Kind::Federated, Kind::Service] {
            let names: Vec<_> = self
                .entries
                .iter()
                .filter(|(k, _)| *k == kind)
                .map(|(_, name)| name)
                .collect();
            if !names.is_empty() {
                kinds.insert(kind.key().into(), one_or_many(&names));
            }
        }
        Value::Object(kinds)
    }

    /// Whether `name` of `kind` is all that is named.
    fn is_only(&self, kind: Kind, name: &str) -> bool {
        !self.negated && self.meaning() == BTreeSet::from([(kind, name)])
    }
}

impl Statement {
    /// The principals the statement names, as its condition narrows them where that is one of the two composed forms.
    pub(super) fn principals(&self) -> Vec<NamedPrincipal> {
        let Principals { negated, entries, .. } = &self.principals;
        if *negated {
            return entries
                .iter()
                .map(|(_, name)| NamedPrincipal::NotPrincipal(name.clone()))
                .collect();
        }
        self.organizations()
            .or_else(|| self.lambda_functions())
            .unwrap_or_else(|| entries.iter().map(|(kind, name)| named(*kind, name)).collect())
    }

    /// The organizations, if the statement is exactly a wildcard narrowed to some.
    fn organizations(&self) -> Option<Vec<NamedPrincipal>> {
        if !self.principals.is_only(Kind::Aws, "*") {
            return None;
        }
        let ids = self.sole_condition("stringequals", "aws:principalorgid")?;
        let organization = |id: &str| is_organization_id(id).then(|| NamedPrincipal::Organization(id.into()));
        ids.into_iter().map(organization).collect()
    }

    /// The accounts, if the statement is exactly Lambda narrowed to functions of some.
    fn lambda_functions(&self) -> Option<Vec<NamedPrincipal>> {
        if !self.principals.is_only(Kind::Service, LAMBDA) {
            return None;
        }
        let sources = self.sole_condition("stringlike", "aws:sourcearn")?;
        let mut accounts = Vec::new();
        for source in sources {
            let (partition, account) = function_account(source)?;
            let functions = NamedPrincipal::LambdaFunctions {
                partition: partition.into(),
                account: account.into(),
            };
            if !accounts.contains(&functions) {
                accounts.push(functions);
            }
        }
        Some(accounts)
    }
}

/// What one entry names by itself.
pub(super) fn named(kind: Kind, name: &str) -> NamedPrincipal {
    if has_wildcard(name) {
        return NamedPrincipal::Anyone;
    }
    let text = name.to_owned();
    match kind {
        Kind::Service => NamedPrincipal::Service(text),
        Kind::Federated => NamedPrincipal::Federated(text),
        Kind::CanonicalUser => NamedPrincipal::CanonicalUser(text),
        Kind::Aws if is_account_id(name) => NamedPrincipal::Account {
            partition: None,
            id: text,
        },
        Kind::Aws if name.contains(char::is_whitespace) => NamedPrincipal::Unrecognized(text),
        Kind::Aws if name.starts_with("arn:") => match root_account(name) {
            Some((partition, id)) => NamedPrincipal::Account {
                partition: Some(partition.into()),
                id: id.into(),
            },
            None => NamedPrincipal::Arn(text),
        },
        Kind::Aws if is_unique_id(name) => NamedPrincipal::UniqueId(text),
        Kind::Aws => NamedPrincipal::Unrecognized(text),
    }
}

/// Whether a text could stand for more than itself: a wildcard, or a policy variable.
pub(super) fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?']) || text.contains("${")
}

pub(super) fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `^o-[a-z0-9]{10,32}$` ("Organization" in the AWS Organizations API Reference).
fn is_organization_id(text: &str) -> bool {
    text.strip_prefix("o-").is_some_and(|id| {
        (10..=32).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    })
}

/// "IAM identifiers", unique identifiers: a prefix of four letters that begins with A, then letters and digits.
fn is_unique_id(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && text.starts_with('A')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// Partition and account of an account's root ARN.
pub(super) fn root_account(arn: &str) -> Option<(&str, &str)> {
    match fields(arn)? {
        [partition, "iam", "", account, "root"] if is_account_id(account) => Some((partition, account)),
        _ => None,
    }
}

/// Partition and account of a principal's ARN: user, role, session, federated user. Anything else, or anything with a
/// wildcard, belongs to no account. An assumed role's ARN carries the account of the role.
pub(super) fn principal_account(arn: &str) -> Option<(&str, &str)> {
    let [partition, service, "", account, resource] = fields(arn)? else {
        return None;
    };
    let kinds: &[&str] = match service {
        "iam" => &["user", "role"],
        "sts" => &["assumed-role", "federated-user"],
        _ => return None,
    };
    let (kind, name) = resource.split_once('/')?;
    (is_account_id(account) && kinds.contains(&kind) && !name.is_empty() && !has_wildcard(arn))
        .then_some((partition, account))
}

/// Partition and account of a pattern of function ARNs in which nothing before the function's name is a pattern.
fn function_account(arn: &str) -> Option<(&str, &str)> {
    let [partition, "lambda", region, account, resource] = fields(arn)? else {
        return None;
    };
    let fixed = !region.is_empty() && !has_wildcard(region) && is_account_id(account);
    (fixed && resource.starts_with("function:")).then_some((partition, account))
}

/// Partition, service, region, account and resource of an ARN ("Amazon Resource Names" in the IAM User Guide).
fn fields(arn: &str) -> Option<[&str; 5]> {
    let mut parts = arn.splitn(6, ':');
    if parts.next() != Some("arn") {
        return None;
    }
    let fields = [
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next()?,
        parts.next()?,
    ];
    let partition = fields[0].bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    (partition && fields[0].starts_with("aws")).then_some(fields)
}
