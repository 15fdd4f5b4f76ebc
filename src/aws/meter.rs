//! Counts and logs every attempt of every call, the SDK's own retries included, and tells the pace of what AWS
//! throttled. Also keeps the SDK from retrying a hard limit.

use std::{sync::Arc, time::Instant};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef, InterceptorContext},
            dyn_dispatch_hint,
        },
        orchestrator::{HttpResponse, Metadata},
        retries::classifiers::{ClassifyRetry, RetryAction},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use aws_types::request_id::RequestId;

use crate::metrics::Metrics;

/// Watches the attempts of one registry's client.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    pub(crate) registry: Arc<str>,
    pub(crate) metrics: Metrics,
}

/// When the attempt under way was sent.
#[derive(Debug)]
struct Sent(Instant);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for Meter {
    fn name(&self) -> &'static str {
        "meter"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        cfg.interceptor_state().store_put(Sent(Instant::now()));
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = cfg.load::<Metadata>().map_or("unknown", Metadata::name);
        let took = cfg.load::<Sent>().map(|sent| sent.0.elapsed()).unwrap_or_default();
        let request_id = context
            .response()
            .and_then(|response| response.request_id())
            .unwrap_or_default();
        let failed = !matches!(context.output_or_error(), Some(Ok(_)));
        let code = match (failed, context.response()) {
            (false, _) => "ok".to_owned(),
            (true, Some(response)) => {
                error_code(response).unwrap_or_else(|| format!("http-{}", response.status().as_u16()))
            }
            (true, None) => "no-answer".to_owned(),
        };
        self.metrics.call(&self.registry, operation, &code, took);
        if is_throttling(&code) {
            self.metrics.throttled(&self.registry, operation);
        }
        tracing::debug!(
            registry = %self.registry,
            aws.operation = operation,
            aws.request_id = request_id,
            aws.result = code,
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "AWS answered"
        );
        Ok(())
    }
}

/// The error code in an awsJson answer: the field `__type`, with or without a namespace before `#`.
fn error_code(response: &HttpResponse) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(response.body().bytes()?).ok()?;
    let code = body.get("__type")?.as_str()?;
    Some(code.rsplit('#').next().unwrap_or(code).to_owned())
}

fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" | "http-429"
    )
}

/// The SDK takes `LimitExceededException` for throttling and sends the call again at once; a hard limit does not lift
/// within seconds, so it must surface.
#[derive(Debug)]
pub(crate) struct QuotaIsFinal;

impl ClassifyRetry for QuotaIsFinal {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.response().and_then(error_code).as_deref() {
            Some("LimitExceededException") => RetryAction::RetryForbidden,
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "quota is final"
    }
}
