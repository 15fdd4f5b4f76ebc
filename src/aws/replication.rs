//! A registry's replication configuration, as JSON: the SDK's model lacks `deleteReplication` and whatever comes after it,
//! and what a model lacks is lost when the whole is put back.

use aws_sdk_ecr::types::ReplicationConfiguration;
use serde_json::{Value, json};

use super::{
    client::{Ecr, call},
    error::{AwsError, Fault},
    wire::{Instead, Wire},
};

impl Ecr {
    /// The registry's `replicationConfiguration` with everything in it.
    pub(crate) async fn replication(&self) -> Result<Value, AwsError> {
        const OPERATION: &str = "DescribeRegistry";
        let wire = Wire::default();
        let request = self.client.describe_registry().customize().interceptor(wire.clone());
        call!(self, read "DescribeRegistry", request)?;
        let mut answer = wire.answer(OPERATION)?;
        // Somebody else's registry would be taken for one without rules.
        if answer.get("registryId").and_then(Value::as_str) != Some(self.registry_id.as_str()) {
            return Err(AwsError::incomplete(OPERATION, "the registryId of the Registry"));
        }
        Ok(answer
            .get_mut("replicationConfiguration")
            .map(Value::take)
            .unwrap_or_default())
    }

    /// Replaces the registry's `replicationConfiguration`, all of it.
    pub(crate) async fn put_replication(&self, configuration: &Value) -> Result<(), AwsError> {
        const OPERATION: &str = "PutReplicationConfiguration";
        let invalid = |why: String| AwsError::unanswered(OPERATION, Fault::Invalid, why);
        let body = serde_json::to_vec(&json!({ "replicationConfiguration": configuration }))
            .map_err(|error| invalid(error.to_string()))?;
        // Only to have a request that the SDK lets pass.
        let empty = ReplicationConfiguration::builder()
            .set_rules(Some(Vec::new()))
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        let request = self
            .client
            .put_replication_configuration()
            .replication_configuration(empty)
            .customize()
            .interceptor(Instead::new(body));
        call!(self, write "PutReplicationConfiguration", request).map(drop)
    }
}
