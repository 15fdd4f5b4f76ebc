//! Opens the way to one registry: credentials, role, endpoints, retries.

use std::{sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region as SdkRegion, SdkConfig, sts::AssumeRoleProvider};
use aws_sdk_ecr::config::retry::{RetryConfig, RetryPartition};
use aws_smithy_types::timeout::TimeoutConfig;

use super::{
    client::Ecr,
    meter::{Meter, QuotaIsFinal},
    pace::Pace,
    sqs::Sqs,
};
use crate::{
    api::registry::{RegistryMode, RegistrySpec},
    control::gate::Gate,
    metrics::Metrics,
};

/// The name of our sessions in AWS's logs. One name for all: it becomes part of AWS's error messages, and those of
/// conditions must not change from one session to the next.
const SESSION_NAME: &str = "ecr-operator";

/// How long one attempt of a call may take. Nothing we send or read is large.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a call may take with all its attempts and their pauses.
const OPERATION_TIMEOUT: Duration = Duration::from_mins(1);

/// How long one attempt to receive events may take: SQS itself takes up to 20 s where there are none.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens the clients for the registry and its events. The writes pass the gate, and where the Registry only observes, all are refused before
/// they are sent. Makes no call yet; credentials are found, and the role assumed, with the first one.
pub(crate) async fn open(name: &str, spec: &RegistrySpec, gate: Gate, metrics: Metrics) -> (Ecr, Sqs) {
    let base = aws_config::defaults(BehaviorVersion::latest())
        .region(SdkRegion::new(spec.region.to_string()))
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .operation_timeout(OPERATION_TIMEOUT)
                .build(),
        )
        .load()
        .await;
    let endpoints = spec.endpoints.clone().unwrap_or_default();
    let with_role = assume(&base, spec, endpoints.sts.as_deref()).await;

    let meter = Meter {
        registry: Arc::from(name),
        metrics,
    };
    // Clients of one Region would share their allowance for retries: one throttled account must not starve another.
    let partition = RetryPartition::new(format!("ecr-{}-{}", spec.registry_id, spec.region));
    let mut ecr = aws_sdk_ecr::config::Builder::from(&with_role)
        .retry_config(RetryConfig::standard())
        .retry_partition(partition)
        .retry_classifier(QuotaIsFinal)
        .interceptor(meter.clone());
    if let Some(endpoint) = endpoints.ecr {
        ecr = ecr.endpoint_url(endpoint);
    }
    let mut sts = aws_sdk_sts::config::Builder::from(&with_role).interceptor(meter.clone());
    if let Some(endpoint) = endpoints.sts {
        sts = sts.endpoint_url(endpoint);
    }
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(POLL_TIMEOUT)
        .operation_timeout(OPERATION_TIMEOUT)
        .build();
    let mut sqs = aws_sdk_sqs::config::Builder::from(&with_role)
        .timeout_config(timeouts)
        .interceptor(meter);
    if let Some(endpoint) = endpoints.sqs {
        sqs = sqs.endpoint_url(endpoint);
    }
    let puts = spec.budget.clone().unwrap_or_default().put_image_per_second;
    let ecr = Ecr::new(
        aws_sdk_ecr::Client::from_conf(ecr.build()),
        aws_sdk_sts::Client::from_conf(sts.build()),
        spec.registry_id.clone(),
        spec.mode == RegistryMode::Manage,
        Arc::new(Pace::with_budget("PutImage", puts.into())),
        gate.clone(),
    );
    (ecr, Sqs::new(aws_sdk_sqs::Client::from_conf(sqs.build()), gate))
}

/// The configuration with the credentials of the role, or as it was where no role is to be assumed.
async fn assume(base: &SdkConfig, spec: &RegistrySpec, sts_endpoint: Option<&str>) -> SdkConfig {
    let Some(role) = &spec.assume_role else {
        return base.clone();
    };
    let for_sts = match sts_endpoint {
        Some(endpoint) => base.to_builder().endpoint_url(endpoint).build(),
        None => base.clone(),
    };
    let mut provider = AssumeRoleProvider::builder(role.role_arn.as_str())
        .session_name(SESSION_NAME)
        .configure(&for_sts);
    if let Some(external_id) = &role.external_id {
        provider = provider.external_id(external_id);
    }
    let provider = provider.build().await;
    base.to_builder()
        .credentials_provider(aws_sdk_ecr::config::SharedCredentialsProvider::new(provider))
        .build()
}
