//! Tokens for pulling: those of a role whose rights were narrowed for the one who asks.

use std::fmt;

use aws_sdk_ecr::{
    Client,
    config::{Credentials, IdentityCache},
};
use jiff::{SignedDuration, Timestamp};

use super::{
    client::{Ecr, call},
    error::{AwsError, Fault},
};
use crate::api::registry::AssumeRole;

/// How long a session of the role lasts. A session of a session lasts an hour at most, and every role grants as much.
const SESSION: SignedDuration = SignedDuration::from_hours(1);

/// The most that ECR grants a token, and what it is taken to last at most whatever the clocks say.
const LONGEST: SignedDuration = SignedDuration::from_hours(12);

/// Who asks for a token, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pull<'a> {
    pub role: &'a AssumeRole,
    /// Narrows the role's rights, a policy of IAM.
    pub policy: &'a str,
    /// For CloudTrail: the object.
    pub session: &'a str,
    /// For CloudTrail, and for conditions on `sts:SourceIdentity`: the installation.
    pub source: &'a str,
}

/// A token as it stands in `auth` of a Docker configuration, `base64(user:password)`. It has no `Display` and its `Debug` shows
/// nothing, so that no message can hold it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Auth(String);

impl Auth {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The token itself, for the Secret and for nothing else.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth(..)")
    }
}

/// A token that gives nothing but what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PullToken {
    pub auth: Auth,
    /// The host and, where it has one, the port of the data plane.
    pub host: String,
    /// When it was asked for, by our clock.
    pub issued_at: Timestamp,
    /// From when on it is not to be relied on, by our clock.
    pub expires_at: Timestamp,
}

impl Ecr {
    /// Assumes the role, narrowed, and takes a token with its rights.
    ///
    /// Each token has a session of its own: the policy differs from namespace to namespace, and the session's name tells
    /// CloudTrail whose it was. Nothing of it is kept.
    pub(crate) async fn pull_token(&self, pull: &Pull<'_>) -> Result<PullToken, AwsError> {
        const ASSUME: &str = "AssumeRole";
        const OPERATION: &str = "GetAuthorizationToken";
        let issued_at = Timestamp::now();
        let request = self
            .sts
            .assume_role()
            .role_arn(pull.role.role_arn.as_str())
            .set_external_id(pull.role.external_id.clone())
            .policy(pull.policy)
            .role_session_name(pull.session)
            .source_identity(pull.source)
            .duration_seconds(i32::try_from(SESSION.as_secs()).unwrap_or(i32::MAX));
        let assumed = call!(self, read "AssumeRole", request)?;
        let given = assumed
            .credentials
            .ok_or_else(|| AwsError::incomplete(ASSUME, "the credentials"))?;
        let session_ends = Timestamp::from_second(given.expiration.secs()).ok();
        let keys = Credentials::builder()
            .access_key_id(given.access_key_id)
            .secret_access_key(given.secret_access_key)
            .session_token(given.session_token)
            .provider_name("pull role")
            .build();
        // A cache would keep the identity of every session for as long as the program runs.
        let narrowed = self
            .client
            .config()
            .to_builder()
            .credentials_provider(keys)
            .identity_cache(IdentityCache::no_cache())
            .build();
        let narrowed = Client::from_conf(narrowed);
        let answer = call!(self, read "GetAuthorizationToken", narrowed.get_authorization_token())?;
        let data = answer.authorization_data.unwrap_or_default().into_iter().next();
        let data = data.ok_or_else(|| AwsError::incomplete(OPERATION, "authorizationData"))?;
        let token_ends = data
            .expires_at
            .and_then(|time| Timestamp::from_second(time.secs()).ok());
        let endpoint = data
            .proxy_endpoint
            .ok_or_else(|| AwsError::incomplete(OPERATION, "proxyEndpoint"))?;
        Ok(PullToken {
            auth: data
                .authorization_token
                .map(Auth::new)
                .ok_or_else(|| AwsError::incomplete(OPERATION, "authorizationToken"))?,
            host: host(&endpoint).map_err(|why| AwsError::unanswered(OPERATION, Fault::Unavailable, why))?,
            issued_at,
            expires_at: expiry(issued_at, token_ends, session_ends),
        })
    }
}

/// From when on a token is not to be relied on. ECR says twelve hours, and nothing about what becomes of a token whose
/// session has ended: the earlier of the two counts. What was asked for bounds both, so that a clock of ours that is behind
/// AWS's cannot make a token look as if it lasted longer than it does.
fn expiry(issued_at: Timestamp, token: Option<Timestamp>, session: Option<Timestamp>) -> Timestamp {
    let after = |span| issued_at.checked_add(span).unwrap_or(issued_at);
    let token = token.unwrap_or_else(|| after(SESSION)).min(after(LONGEST));
    let session = session.unwrap_or_else(|| after(SESSION)).min(after(SESSION));
    token.min(session)
}

/// What an entry of a Docker configuration is called for an endpoint such as
/// `https://111122223333.dkr.ecr.eu-west-1.amazonaws.com`.
fn host(endpoint: &str) -> Result<String, String> {
    let rest = endpoint
        .strip_prefix("https://")
        .or_else(|| endpoint.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    if (1..=253).contains(&host.len()) && host.bytes().all(fits) {
        return Ok(host.to_owned());
    }
    let told: String = endpoint.chars().take(80).collect();
    Err(format!("proxyEndpoint {told:?} is no address of a registry"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_token_is_relied_on_for_as_long_as_it_and_its_session_surely_last() {
        let hours = |hours: i64| Some(at(1_000_000 + hours * 3_600));
        let expires = |token, session| expiry(at(1_000_000), token, session).as_second() - 1_000_000;
        assert_eq!(expires(hours(12), hours(1)), 3_600);
        assert_eq!(expires(Some(at(1_000_060)), hours(1)), 60);
        assert_eq!(expires(hours(12), Some(at(1_000_900))), 900);
        // Our clock is five hours behind: what AWS names is further away than what was asked for.
        assert_eq!(expires(hours(17), hours(6)), 3_600);
        assert_eq!(expires(None, None), 3_600);
    }

    #[test]
    fn an_entry_is_named_by_host_and_port() {
        let of_ecr = "https://111122223333.dkr.ecr.eu-west-1.amazonaws.com";
        assert_eq!(host(of_ecr).unwrap(), "111122223333.dkr.ecr.eu-west-1.amazonaws.com");
        assert_eq!(host("http://127.0.0.1:4711/").unwrap(), "127.0.0.1:4711");
        for bad in [
            "",
            "111122223333.dkr.ecr.eu-west-1.amazonaws.com",
            "ftp://x",
            "https://",
            "https://a b",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_not_shown() {
        let token = PullToken {
            auth: Auth::new("c2VjcmV0"),
            host: "h".into(),
            issued_at: at(1),
            expires_at: at(2),
        };
        let shown = format!("{token:?} {token:#?}");
        assert!(!shown.contains("c2VjcmV0"), "{shown}");
    }
}
