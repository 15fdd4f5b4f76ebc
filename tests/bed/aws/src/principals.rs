//! Users and roles that the control endpoint makes, with keys that stay the same when their policy is replaced.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{Duration, Utc};
use fakecloud_iam::{CredentialIdentity, IamAccessKey, IamRole, IamState, IamUser, SharedIamState, StsTempCredential};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

/// The name of the one inline policy of each principal.
const POLICY: &str = "stand-in";
/// The session name under which a role's own keys act.
const SESSION: &str = "stand-in";

/// Users have lasting keys; a role's keys are those of a session that has assumed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    User,
    Role,
}

/// What `POST /principals` asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    account: String,
    name: String,
    kind: Kind,
    /// An IAM policy, `"admin"` for all rights, or null for none.
    #[serde(default)]
    policy: Value,
    /// The trust policy of a role.
    trust: Option<Value>,
}

/// A principal and its keys.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Issued {
    arn: String,
    access_key_id: String,
    secret_access_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_token: Option<String>,
}

/// The principals made so far.
pub(crate) struct Principals {
    state: SharedIamState,
    issued: RwLock<BTreeMap<(String, Kind, String), Issued>>,
    expired: RwLock<BTreeSet<String>>,
}

impl Principals {
    pub(crate) fn new(state: SharedIamState) -> Self {
        Self {
            state,
            issued: RwLock::default(),
            expired: RwLock::default(),
        }
    }

    /// Makes a principal, or replaces the policies of one that is there.
    pub(crate) fn put(&self, wanted: Wanted) -> Result<Issued, String> {
        let policy = policy_document(&wanted.policy)?;
        let trust = match (wanted.kind, wanted.trust) {
            (Kind::User, Some(_)) => return Err("only roles have a trust policy".to_owned()),
            (_, Some(trust)) if !trust.is_object() => return Err("trust is an IAM policy document".to_owned()),
            (_, trust) => trust
                .unwrap_or_else(|| json!({"Version": "2012-10-17", "Statement": []}))
                .to_string(),
        };
        if wanted.account.len() != 12 || !wanted.account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("account is a number of 12 digits".to_owned());
        }
        let mut issued = self.issued.write();
        let key = (wanted.account.clone(), wanted.kind, wanted.name.clone());
        let known = issued.get(&key).cloned();
        let principal = known.unwrap_or_else(|| issue(&wanted.account, wanted.kind, &wanted.name));
        let mut states = self.state.write();
        let state = states.get_or_create(&wanted.account);
        match wanted.kind {
            Kind::User => put_user(state, &wanted.name, &principal, policy),
            Kind::Role => put_role(state, &wanted.name, &principal, policy, trust),
        }
        issued.insert(key, principal.clone());
        Ok(principal)
    }

    /// Removes the principals of that name, user and role; their keys are unknown from then on.
    pub(crate) fn remove(&self, account: &str, name: &str) -> bool {
        let mut issued = self.issued.write();
        let mut states = self.state.write();
        let state = states.get_or_create(account);
        let user = issued.remove(&(account.to_owned(), Kind::User, name.to_owned()));
        let role = issued.remove(&(account.to_owned(), Kind::Role, name.to_owned()));
        if user.is_some() {
            state.users.remove(name);
            state.access_keys.remove(name);
            state.user_inline_policies.remove(name);
        }
        if role.is_some() {
            state.roles.remove(name);
            state.role_inline_policies.remove(name);
            // The sessions of others that have assumed the role end with it as well.
            let of_role = format!(":assumed-role/{name}/");
            state
                .sts_temp_credentials
                .retain(|_, credential| !credential.principal_arn.contains(&of_role));
        }
        user.is_some() || role.is_some()
    }

    /// Lets a key be refused as expired, for good.
    pub(crate) fn expire(&self, access_key_id: &str) {
        self.expired.write().insert(access_key_id.to_owned());
    }

    pub(crate) fn has_expired(&self, access_key_id: &str) -> bool {
        self.expired.read().contains(access_key_id)
    }
}

fn policy_document(policy: &Value) -> Result<Option<String>, String> {
    match policy {
        Value::Null => Ok(None),
        Value::String(name) if name == "admin" => {
            let all = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
            Ok(Some(json!({"Version": "2012-10-17", "Statement": [all]}).to_string()))
        }
        Value::Object(_) => Ok(Some(policy.to_string())),
        _ => Err("policy is an IAM policy document, \"admin\" or null".to_owned()),
    }
}

fn issue(account: &str, kind: Kind, name: &str) -> Issued {
    let random = || Uuid::new_v4().simple().to_string().to_uppercase();
    let (prefix, path, session_token) = match kind {
        Kind::User => ("AKIA", "user", None),
        Kind::Role => ("ASIA", "role", Some(format!("{}{}", random(), random()))),
    };
    Issued {
        arn: format!("arn:aws:iam::{account}:{path}/{name}"),
        access_key_id: format!("{prefix}{}", &random()[..16]),
        secret_access_key: format!("{}{}", random(), &random()[..8]),
        session_token,
    }
}

fn put_user(state: &mut IamState, name: &str, issued: &Issued, policy: Option<String>) {
    state.users.entry(name.to_owned()).or_insert_with(|| IamUser {
        user_name: name.to_owned(),
        user_id: format!("AIDA{}", &issued.access_key_id[4..]),
        arn: issued.arn.clone(),
        path: "/".to_owned(),
        created_at: Utc::now(),
        tags: Vec::new(),
        permissions_boundary: None,
    });
    let key = IamAccessKey {
        access_key_id: issued.access_key_id.clone(),
        secret_access_key: issued.secret_access_key.clone(),
        user_name: name.to_owned(),
        status: "Active".to_owned(),
        created_at: Utc::now(),
    };
    state.access_keys.insert(name.to_owned(), vec![key]);
    set_policy(&mut state.user_inline_policies, name, policy);
}

fn put_role(state: &mut IamState, name: &str, issued: &Issued, policy: Option<String>, trust: String) {
    let account = state.account_id.clone();
    let role = state.roles.entry(name.to_owned()).or_insert_with(|| IamRole {
        role_name: name.to_owned(),
        role_id: format!("AROA{}", &issued.access_key_id[4..]),
        arn: issued.arn.clone(),
        path: "/".to_owned(),
        assume_role_policy_document: String::new(),
        created_at: Utc::now(),
        description: None,
        max_session_duration: 12 * 3600,
        tags: Vec::new(),
        permissions_boundary: None,
    });
    role.assume_role_policy_document = trust;
    let user_id = format!("{}:{SESSION}", role.role_id);
    let principal_arn = format!("arn:aws:sts::{account}:assumed-role/{name}/{SESSION}");
    state.credential_identities.insert(
        issued.access_key_id.clone(),
        CredentialIdentity {
            arn: principal_arn.clone(),
            user_id: user_id.clone(),
            account_id: account.clone(),
        },
    );
    state.sts_temp_credentials.insert(
        issued.access_key_id.clone(),
        StsTempCredential {
            access_key_id: issued.access_key_id.clone(),
            secret_access_key: issued.secret_access_key.clone(),
            session_token: issued.session_token.clone().unwrap_or_default(),
            principal_arn,
            user_id,
            account_id: account,
            expiration: Utc::now() + Duration::days(365),
            session_policies: Vec::new(),
            mfa_present: false,
            issued_at: Utc::now(),
            federated_provider: None,
        },
    );
    set_policy(&mut state.role_inline_policies, name, policy);
}

fn set_policy(policies: &mut BTreeMap<String, BTreeMap<String, String>>, name: &str, policy: Option<String>) {
    match policy {
        Some(document) => {
            policies
                .entry(name.to_owned())
                .or_default()
                .insert(POLICY.to_owned(), document);
        }
        None => {
            policies.remove(name);
        }
    }
}
