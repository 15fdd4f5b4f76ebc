//! Who may do what: users and roles of the stand-in.

use std::sync::PoisonError;

use anyhow::Result;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Aws;

/// Users have lasting keys; a role's keys are those of a session that has assumed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An IAM user.
    User,
    /// An IAM role.
    Role,
}

/// What a principal may do.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// Nothing at all.
    None,
    /// Everything.
    Admin,
    /// What this IAM policy document says.
    Document(Value),
}

/// A user or role with its keys.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Principal {
    /// Its ARN.
    pub arn: String,
    /// For `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// For `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: String,
    /// For `AWS_SESSION_TOKEN`; only roles have one.
    #[serde(default)]
    pub session_token: Option<String>,
}

impl Principal {
    /// The environment that lets a program act as this principal.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let mut variables = vec![
            ("AWS_ACCESS_KEY_ID".to_owned(), self.access_key_id.clone()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), self.secret_access_key.clone()),
        ];
        variables.extend(
            self.session_token
                .clone()
                .map(|token| ("AWS_SESSION_TOKEN".to_owned(), token)),
        );
        variables
    }
}

impl Aws {
    /// Makes a user, or replaces the policy of the one that is there; its keys stay.
    pub async fn user(&self, account: &str, name: &str, policy: Policy) -> Result<Principal> {
        self.principal(account, name, Kind::User, policy, None).await
    }

    /// Makes a role that the principals of the `trust` policy may assume, or replaces the policies of the one that is there.
    pub async fn role(&self, account: &str, name: &str, policy: Policy, trust: Value) -> Result<Principal> {
        self.principal(account, name, Kind::Role, policy, Some(trust)).await
    }

    /// A user of the account who may do everything, the same each time: the hand that edits things behind an operator's back.
    pub async fn admin(&self, account: &str) -> Result<Principal> {
        let known = self
            .admins
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(account)
            .cloned();
        if let Some(principal) = known {
            return Ok(principal);
        }
        let principal = self.user(account, "bed-admin", Policy::Admin).await?;
        let mut admins = self.admins.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(admins.entry(account.to_owned()).or_insert(principal).clone())
    }

    /// Removes user and role of that name; their keys are unknown from then on.
    pub async fn remove_principal(&self, account: &str, name: &str) -> Result<()> {
        self.tell(Method::DELETE, "principals", &json!({"account": account, "name": name}))
            .await
    }

    /// Lets this key be refused as expired, for good.
    pub async fn expire(&self, access_key_id: &str) -> Result<()> {
        self.tell(Method::POST, "expire", &json!({"accessKeyId": access_key_id}))
            .await
    }

    async fn principal(
        &self,
        account: &str,
        name: &str,
        kind: Kind,
        policy: Policy,
        trust: Option<Value>,
    ) -> Result<Principal> {
        let kind = match kind {
            Kind::User => "user",
            Kind::Role => "role",
        };
        let policy = match policy {
            Policy::None => Value::Null,
            Policy::Admin => json!("admin"),
            Policy::Document(document) => document,
        };
        let body = json!({"account": account, "name": name, "kind": kind, "policy": policy, "trust": trust});
        self.ask(Method::POST, "principals", &[], Some(&body)).await
    }
}
