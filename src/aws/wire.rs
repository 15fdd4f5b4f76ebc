//! Answers as they came over the wire, and requests as they are to go. The SDK drops members that its model lacks; where a
//! document is to be written back whole, what it dropped would be lost.

use std::sync::{Arc, Mutex, PoisonError};

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
    /// The whole answer.
    pub(super) fn answer(&self, operation: &'static str) -> Result<Value, AwsError> {
        let body = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        serde_json::from_slice(&body.unwrap_or_default())
            .map_err(|error| AwsError::incomplete(operation, &format!("valid JSON ({error})")))
    }

    /// A member of the answer.
    pub(super) fn member(&self, operation: &'static str, member: &str) -> Result<Value, AwsError> {
        match self.answer(operation)?.get_mut(member).map(Value::take) {
            None | Some(Value::Null) => Err(AwsError::incomplete(operation, member)),
            Some(found) => Ok(found),
        }
    }
}

/// Sends this body in place of the one that the SDK made. Given to the call as an interceptor.
#[derive(Clone, Debug)]
pub(super) struct Instead(Arc<[u8]>);

impl Instead {
    pub(super) fn new(body: Vec<u8>) -> Self {
        Self(body.into())
    }
}

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
