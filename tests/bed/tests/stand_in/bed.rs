//! A running stand-in, and clients for it.

use std::process::Stdio;

use aws_credential_types::Credentials;
use aws_sdk_ecr::config::retry::RetryConfig;
use aws_sdk_ecr::config::{BehaviorVersion, Region};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const OTHER: &str = "444455556666";
pub(crate) const REGION: &str = "eu-west-1";

/// The program, which ends with its value.
pub(crate) struct Bed {
    _child: Child,
    pub(crate) endpoint: String,
    control: String,
    http: reqwest::Client,
}

/// What the control endpoint answers to `POST /principals`.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) arn: String,
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

impl Keys {
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(&self.id, &self.secret, self.token.clone(), None, "test")
    }
}

impl Bed {
    pub(crate) async fn start() -> Self {
        let mut child = Command::new(bed_programs::aws_stand_in().await.unwrap())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
        Self {
            _child: child,
            endpoint: ready["endpoint"].as_str().unwrap().to_owned(),
            control: ready["control"].as_str().unwrap().to_owned(),
            http: reqwest::Client::new(),
        }
    }

    /// A request to the control endpoint; its answer, or the error's text.
    pub(crate) async fn control(&self, method: &str, route: &str, body: Value) -> Result<Value, String> {
        let method = method.parse().unwrap();
        let request = self.http.request(method, format!("{}{route}", self.control));
        let request = if body.is_null() { request } else { request.json(&body) };
        let response = request.send().await.unwrap();
        let good = response.status().is_success();
        let answer: Value = response.json().await.unwrap();
        if good {
            Ok(answer)
        } else {
            Err(answer["error"].as_str().unwrap().to_owned())
        }
    }

    pub(crate) async fn principal(&self, account: &str, kind: &str, name: &str, policy: Value) -> Keys {
        self.principal_with(json!({ "account": account, "kind": kind, "name": name, "policy": policy }))
            .await
    }

    pub(crate) async fn principal_with(&self, body: Value) -> Keys {
        let answer = self.control("POST", "/principals", body).await.unwrap();
        let text = |member: &str| answer[member].as_str().map(str::to_owned);
        Keys {
            arn: text("arn").unwrap(),
            id: text("accessKeyId").unwrap(),
            secret: text("secretAccessKey").unwrap(),
            token: text("sessionToken"),
        }
    }

    pub(crate) async fn admin(&self, account: &str) -> Keys {
        self.principal(account, "user", "admin", json!("admin")).await
    }

    /// An ECR client that sees each answer: nothing is retried.
    pub(crate) fn ecr(&self, keys: &Keys, region: &str) -> aws_sdk_ecr::Client {
        self.ecr_with(keys, region, RetryConfig::disabled())
    }

    pub(crate) fn ecr_with(&self, keys: &Keys, region: &str, retries: RetryConfig) -> aws_sdk_ecr::Client {
        let config = aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.to_owned()))
            .credentials_provider(keys.credentials())
            .retry_config(retries)
            .endpoint_url(&self.endpoint)
            .build();
        aws_sdk_ecr::Client::from_conf(config)
    }

    pub(crate) fn sts(&self, keys: &Keys) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::Config::builder()
            .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
            .region(aws_sdk_sts::config::Region::new(REGION))
            .credentials_provider(keys.credentials())
            .endpoint_url(&self.endpoint)
            .build();
        aws_sdk_sts::Client::from_conf(config)
    }

    pub(crate) fn sqs(&self, keys: &Keys) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .region(aws_sdk_sqs::config::Region::new(REGION))
            .credentials_provider(keys.credentials())
            .endpoint_url(&self.endpoint)
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    }

    /// An administrator's client in the usual account and Region.
    pub(crate) async fn admin_ecr(&self) -> aws_sdk_ecr::Client {
        self.ecr(&self.admin(ACCOUNT).await, REGION)
    }
}

/// The code of an error.
pub(crate) fn code<T, E: ProvideErrorMetadata>(outcome: Result<T, E>) -> String {
    refused(outcome).0
}

/// Code and message of an error.
pub(crate) fn refused<T, E: ProvideErrorMetadata>(outcome: Result<T, E>) -> (String, String) {
    let error = outcome.err().unwrap();
    (
        error.code().unwrap_or("none").to_owned(),
        error.message().unwrap_or("none").to_owned(),
    )
}
