//! An answer as it came over the wire. The SDK drops members that its model lacks; where a document is to be written back
//! whole, what it dropped would be lost.

use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::AfterDeserializationInterceptorContextRef, dyn_dispatch_hint},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::ConfigBag;
use serde_json::Value;

use super::error::AwsError;

/// Keeps the body of one call's answer. Given to the call as an interceptor.
#[derive(Clone, Debug, Default)]
pub(super) struct Wire(Arc<Mutex<Option<Vec<u8>>>>);

#[dyn_dispatch_hint]
impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }

    // The body is in memory only after it was deserialized.
    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().map(<[u8]>::to_vec);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = body;
        Ok(())
    }
}

impl Wire {
    /// A member of the answer.
    pub(super) fn member(&self, operation: &'static str, member: &str) -> Result<Value, AwsError> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut answer: Value = serde_json::from_slice(&body.unwrap_or_default())
            .map_err(|error| AwsError::incomplete(operation, &format!("valid JSON ({error})")))?;
        match answer.get_mut(member).map(Value::take) {
            None | Some(Value::Null) => Err(AwsError::incomplete(operation, member)),
            Some(found) => Ok(found),
        }
    }
}
