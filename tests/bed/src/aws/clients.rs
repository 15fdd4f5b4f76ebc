//! AWS's own SDK, pointed at the stand-in.

use aws_credential_types::Credentials;
use aws_sdk_ecr::config::retry::RetryConfig;
use aws_sdk_ecr::config::{BehaviorVersion, Region};

use super::{Aws, Principal};

impl Aws {
    /// An ECR client that acts as `principal`, which settles the account. It reads nothing from the environment and does not
    /// retry: what a test sees is what was answered.
    #[must_use]
    pub fn ecr(&self, region: &str, principal: &Principal) -> aws_sdk_ecr::Client {
        let Principal {
            access_key_id,
            secret_access_key,
            session_token,
            ..
        } = principal.clone();
        let config = aws_sdk_ecr::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(self.endpoint())
            .region(Region::new(region.to_owned()))
            .credentials_provider(Credentials::new(
                access_key_id,
                secret_access_key,
                session_token,
                None,
                "bed",
            ))
            // The default client asks the proxies of the environment, which do not reach our 127.0.0.1.
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(RetryConfig::disabled())
            .build();
        aws_sdk_ecr::Client::from_conf(config)
    }
}
