//! What settings of a registry for the repositories below a prefix have in common: pull-through cache rules and creation
//! templates. ECR keeps no tags on them, so whose they are stands in the status of the object.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What becomes of the setting in ECR with its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(
    missing_docs,
    reason = "the variants are described where the enum is used: a schema loses their own texts"
)]
pub enum RetainOrDelete {
    #[default]
    Retain,
    Delete,
}

/// Which setting in ECR is the object's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnedStatus {
    /// When ECR created what belongs to this object; one with another time is another one. Default: absent until it was
    /// created or adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime>")]
    pub created_at: Option<Timestamp>,

    /// A creation that was asked for and whose answer was not seen yet. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<AskedStatus>,
}

/// A creation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AskedStatus {
    /// When it was asked for. Required.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime")]
    pub at: Timestamp,

    /// A digest of what was asked for, at most 64 characters. Required.
    #[schemars(length(max = 64))]
    pub digest: String,
}
