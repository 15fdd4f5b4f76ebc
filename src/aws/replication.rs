//! A registry's replication configuration, as JSON: the SDK's model lacks `deleteReplication` and whatever comes after it,
//! and what a model lacks is lost when the whole is put back.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_ecr::types::ReplicationConfiguration;
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{AfterDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextMut},
            dyn_dispatch_hint,
        },
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{body::SdkBody, config_bag::ConfigBag};
use serde_json::{Value, json};

use super::{
    client::{Ecr, call},
    error::{AwsError, Fault},
};

/// Sends this body in place of the one that the SDK made.
#[derive(Clone, Debug)]
struct Instead(Arc<[u8]>);

#[dyn_dispatch_hint]
impl Intercept for Instead {
    fn name(&self) -> &'static str {
        "body-instead"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request_mut();
        // With the old length the body would be cut, and nobody would say so.
        let length = self.0.len().to_string();
        request.headers_mut().insert("content-length", length);
        *request.body_mut() = SdkBody::from(self.0.to_vec());
        Ok(())
    }
}

/// Keeps the answer as it came. Its body is in memory only once the SDK has read it.
#[derive(Clone, Debug, Default)]
struct Raw(Arc<Mutex<Option<Vec<u8>>>>);

#[dyn_dispatch_hint]
impl Intercept for Raw {
    fn name(&self) -> &'static str {
        "raw-answer"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = context.response().body().bytes().map(<[u8]>::to_vec);
        Ok(())
    }
}

impl Raw {
    fn json(&self, operation: &'static str) -> Result<Value, AwsError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let kept = kept.ok_or_else(|| AwsError::incomplete(operation, "a body"))?;
        serde_json::from_slice(&kept).map_err(|_| AwsError::incomplete(operation, "JSON that can be read"))
    }
}

impl Ecr {
    /// The registry's `replicationConfiguration` with everything in it.
    pub(crate) async fn replication(&self) -> Result<Value, AwsError> {
        const OPERATION: &str = "DescribeRegistry";
        let raw = Raw::default();
        let request = self.client.describe_registry().customize().interceptor(raw.clone());
        call!(self, read "DescribeRegistry", request)?;
        let mut answer = raw.json(OPERATION)?;
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
            .interceptor(Instead(body.into()));
        call!(self, write "PutReplicationConfiguration", request).map(drop)
    }
}
