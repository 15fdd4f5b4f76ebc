//! The stand-in's exact count of signed calls.

use std::collections::BTreeMap;

use anyhow::Result;
use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::Aws;

/// What was called since the start or the last reset, exact per operation, with the latest calls in detail.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Calls {
    /// How many calls there were.
    pub total: u64,
    /// How many of each operation: `DescribeRepositories`, `sts:AssumeRole`.
    pub operations: BTreeMap<String, u64>,
    /// The latest ones, in order.
    pub calls: Vec<Call>,
    /// Requests to the data plane, `oci:PatchUpload` and the like; they are in no other count.
    pub data_plane: BTreeMap<String, u64>,
}

/// One signed call.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Its place among all calls.
    pub seq: u64,
    /// As in [`Calls::operations`].
    pub operation: String,
    /// Whose resources it was about.
    pub account: String,
    /// In which Region.
    pub region: String,
    /// The caller's ARN, if it is known.
    pub principal: Option<String>,
    /// `ok`, or the error code that was answered.
    pub outcome: String,
    /// It came to the registry itself, which may have refused it; whatever became of its answer.
    pub carried_out: bool,
    /// The repository that it names, if it names one.
    pub repository: Option<String>,
    /// The images that it names, as `tag`, `@digest` or `tag@digest`.
    pub images: Vec<String>,
}

/// A call that deletes a repository or images. All since the start of the stand-in are kept, whatever is reset.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Deletion {
    /// `DeleteRepository` or `BatchDeleteImage`.
    pub operation: String,
    /// Whose registry.
    pub account: String,
    /// In which Region.
    pub region: String,
    /// The caller's ARN, if it is known.
    pub principal: Option<String>,
    /// The repository that it names.
    pub repository: Option<String>,
    /// The images that it names, as `tag`, `@digest` or `tag@digest`.
    pub images: Vec<String>,
    /// `ok` if it was carried out, whether or not its answer got through; else the code with which it was refused, or
    /// `abandoned` if it was given up before either.
    pub outcome: String,
}

impl Calls {
    /// How often an operation was called.
    #[must_use]
    pub fn of(&self, operation: &str) -> u64 {
        self.operations.get(operation).copied().unwrap_or_default()
    }

    /// How often the data plane got a request of this kind, such as `oci:PatchUpload`.
    #[must_use]
    pub fn on_plane(&self, operation: &str) -> u64 {
        self.data_plane.get(operation).copied().unwrap_or_default()
    }
}

impl Aws {
    /// The calls to one registry, by whomever.
    pub async fn calls(&self, account: &str, region: &str) -> Result<Calls> {
        self.ask(Method::GET, "calls", &[("account", account), ("region", region)], None)
            .await
    }

    /// The calls to all registries.
    pub async fn all_calls(&self) -> Result<Calls> {
        self.ask(Method::GET, "calls", &[], None).await
    }

    /// Every call to delete a repository or images, by whomever, since the start: no reset forgets one.
    pub async fn deletions(&self) -> Result<Vec<Deletion>> {
        self.ask(Method::GET, "deletions", &[], None).await
    }

    /// Counts the calls to one registry from zero again.
    pub async fn reset_calls(&self, account: &str, region: &str) -> Result<()> {
        self.tell(
            Method::POST,
            "calls/reset",
            &json!({"account": account, "region": region}),
        )
        .await
    }

    /// Counts all calls from zero again.
    pub async fn reset_all_calls(&self) -> Result<()> {
        self.tell(Method::POST, "calls/reset", &json!({})).await
    }
}
