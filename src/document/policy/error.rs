//! What can be wrong with a policy document, where, and what would mend it.

use std::fmt;

use super::MAX_CHARACTERS;

/// Why a document is not a repository policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PolicyError {
    /// The text is not JSON; says where.
    #[error("the policy is not JSON: {0}")]
    NotJson(String),
    /// Something other than a JSON object.
    #[error("the policy is not an object: write an object with Version and Statement")]
    NotAnObject,
    /// A key IAM does not know, or knows in another case.
    #[error("the policy has the unknown key {0:?}: it takes Version, Id and Statement, in this spelling")]
    UnknownKey(String),
    /// `Id` is there and not text.
    #[error("the policy's Id is not text: put it in quotes, or leave it out")]
    Id,
    /// A `Version` other than the two there are.
    #[error(
        "the policy has the unknown Version {0}: write \"2012-10-17\" (or \"2008-10-17\", the old language), in quotes"
    )]
    Version(String),
    /// `Statement` is absent.
    #[error("the policy has no Statement: add at least one statement")]
    NoStatement,
    /// `Statement` is an empty list.
    #[error("the policy's Statement is empty: add a statement; for no policy at all, declare none")]
    EmptyStatement,
    /// One statement is wrong.
    #[error("{place} {fault}")]
    Statement {
        /// Which one.
        place: Place,
        /// In what way.
        fault: Fault,
    },
    /// Two statements share a Sid ("IAM JSON policy elements: Sid": unique within a policy).
    #[error("statements {first} and {second} have the same Sid {sid:?}: give each its own, or none")]
    DuplicateSid {
        /// The shared Sid.
        sid: String,
        /// Number of the first statement that has it, from 1.
        first: usize,
        /// Number of the second.
        second: usize,
    },
    /// The compact text is longer than ECR takes.
    #[error(
        "the policy is {characters} characters long and ECR takes {MAX_CHARACTERS}: name accounts or an organization instead of single roles, or join statements"
    )]
    TooLong {
        /// Length of the text as it would be sent.
        characters: usize,
    },
}

/// Which statement of a document is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Position, from 1.
    pub(crate) number: usize,
    /// Its Sid, where it has one.
    pub(crate) sid: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {}", self.number)?;
        match &self.sid {
            Some(sid) => write!(f, " (Sid {sid:?})"),
            None => Ok(()),
        }
    }
}

/// What is wrong with a statement; reads on after its [`Place`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// Something other than a JSON object.
    #[error("is not an object: write an object with Effect, Principal and Action")]
    NotAnObject,
    /// A key that IAM does not know, or knows in another case.
    #[error(
        "has the unknown key {0:?}: it takes Sid, Effect, Principal or NotPrincipal, Action or NotAction, and Condition, in this spelling"
    )]
    UnknownKey(String),
    /// `Resource` or `NotResource` (awsdocs/amazon-ecr-user-guide#20, aws-cdk#24314).
    #[error(
        "has {0}, which ECR refuses in a repository policy: take it out; the policy always concerns the repository it is set on"
    )]
    Resource(String),
    /// A statement that shares a document with those of others, without a name.
    #[error(
        "has no Sid: give it one, by which it is told from the statements of others, such as EcrOperatorReplication"
    )]
    NoSid,
    /// A name that is too long to be recorded.
    #[error("has a Sid of more than {0} characters: shorten it")]
    SidLength(usize),
    /// Neither `Resource` nor `NotResource` in a registry's policy.
    #[error("has no Resource: say what it is about, for instance \"arn:aws:ecr:eu-west-1:111122223333:repository/*\"")]
    NoResource,
    /// Both of them.
    #[error("has Resource and NotResource: keep one of them")]
    BothResources,
    /// The Sid is not text.
    #[error("has a Sid that is not text: put it in quotes, or leave it out")]
    Sid,
    /// The Sid has characters other than IAM's A-Z, a-z, 0-9.
    #[error("has a Sid with characters other than letters A-Z, a-z and digits: leave the others out")]
    SidCharacters,
    /// `Effect` is absent.
    #[error("has no Effect: write Allow or Deny")]
    NoEffect,
    /// `Effect` is something else.
    #[error("has the unknown Effect {0}: write Allow or Deny, in this spelling")]
    Effect(String),
    /// Neither `Principal` nor `NotPrincipal`.
    #[error("has no Principal: say whom it concerns, for instance {{\"AWS\": \"arn:aws:iam::111122223333:root\"}}")]
    NoPrincipal,
    /// Both of them.
    #[error("has Principal and NotPrincipal: keep one of them")]
    BothPrincipals,
    /// The value of `Principal` is neither `*` nor an object with an entry.
    #[error(
        "has a {0} that is neither \"*\" nor an object: write for instance {{\"AWS\": \"arn:aws:iam::111122223333:root\"}}"
    )]
    PrincipalShape(&'static str),
    /// A kind of principal there is not.
    #[error(
        "names principals of the unknown kind {0:?}: write AWS, Service, Federated or CanonicalUser, in this spelling"
    )]
    PrincipalKind(String),
    /// Something in `AWS` that is neither `*`, an account id, an ARN, nor a unique id.
    #[error(
        "names the principal {0:?}, which is neither an account id of 12 digits, an ARN, nor \"*\": write one of these, without spaces"
    )]
    PrincipalForm(String),
    /// A wildcard within a principal ("AWS JSON policy elements: Principal" knows `*` only by itself).
    #[error(
        "names the principal {0:?} with a wildcard in it, which IAM does not match: name the account and narrow it by a Condition on aws:PrincipalArn"
    )]
    PrincipalWildcard(String),
    /// Neither `Action` nor `NotAction`.
    #[error("has no Action: say what it allows or denies, for instance \"ecr:BatchGetImage\"")]
    NoAction,
    /// Both of them.
    #[error("has Action and NotAction: keep one of them")]
    BothActions,
    /// Not `*` and not `service:Action`.
    #[error(
        "has the action {0:?}, which is neither \"*\" nor of the form service:Action: write for instance \"ecr:BatchGetImage\""
    )]
    ActionForm(String),
    /// An empty list where at least one value belongs.
    #[error("has an empty list in {0}: name at least one value, or take the statement out")]
    EmptyList(String),
    /// Something other than text, or a list of texts.
    #[error("has something other than text in {0}: write a text or a list of texts, numbers in quotes")]
    NotText(String),
    /// `Condition`, or an operator in it, is not an object.
    #[error(
        "has a {0} that is not an object: write operator, key and value, for instance {{\"StringEquals\": {{\"aws:PrincipalOrgID\": \"o-1234567890\"}}}}"
    )]
    ConditionShape(String),
    /// An operator or a key twice, in different case, of which IAM might see but one.
    #[error("has {0} twice in its Condition, since case does not count: write it once, with a list of values")]
    ConditionTwice(String),
    /// A value that is neither text, number nor boolean, nor a list of these.
    #[error(
        "has something other than text, number or true/false in the Condition {0}: write a value or a list of values"
    )]
    ConditionValue(String),
}
