//! The replication configuration as it is on the wire: the SDK's model lacks a part of it.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
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

use crate::support::Scene;

/// Sends one body and keeps another.
#[derive(Clone, Debug, Default)]
struct Wire {
    send: Option<Vec<u8>>,
    came: Arc<Mutex<Vec<u8>>>,
}

#[dyn_dispatch_hint]
impl Intercept for Wire {
    fn name(&self) -> &'static str {
        "wire"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(body) = &self.send {
            let request = context.request_mut();
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.clone());
        }
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let body = context.response().body().bytes().unwrap_or_default().to_vec();
        *self.came.lock().unwrap_or_else(PoisonError::into_inner) = body;
        Ok(())
    }
}

/// The rules that the registry has.
pub(crate) async fn rules(scene: &Scene) -> Result<Vec<Value>> {
    let wire = Wire::default();
    let get = scene
        .ecr()
        .await?
        .describe_registry()
        .customize()
        .interceptor(wire.clone());
    get.send().await?;
    let body = wire.came.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let answer: Value = serde_json::from_slice(&body)?;
    let rules = answer["replicationConfiguration"]["rules"].as_array().cloned();
    rules.with_context(|| answer.to_string())
}

/// Replaces all of them, as another tool does.
pub(crate) async fn put(scene: &Scene, rules: &Value) -> Result<()> {
    let body = json!({ "replicationConfiguration": { "rules": rules } });
    let wire = Wire {
        send: Some(body.to_string().into_bytes()),
        ..Wire::default()
    };
    let empty = ReplicationConfiguration::builder()
        .set_rules(Some(Vec::new()))
        .build()?;
    let put = scene.ecr().await?.put_replication_configuration();
    let put = put.replication_configuration(empty).customize().interceptor(wire);
    put.send().await.map(drop).map_err(Into::into)
}
