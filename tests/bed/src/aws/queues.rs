//! Queues of events, and messages that a test puts on them itself.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aws_credential_types::Credentials;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::{BehaviorVersion, Region};
use aws_sdk_sqs::types::QueueAttributeName;

use super::{Aws, Principal};

/// A queue, with an administrator's rights on it.
#[derive(Debug, Clone)]
pub struct Queue {
    /// Its URL.
    pub url: String,
    client: aws_sdk_sqs::Client,
}

impl Aws {
    /// Makes a queue in the account. What was received and not deleted is given out again after `visibility`, in whole
    /// seconds.
    pub async fn queue(&self, account: &str, region: &str, name: &str, visibility: Duration) -> Result<Queue> {
        let client = self.sqs(region, &self.admin(account).await?);
        let made = client
            .create_queue()
            .queue_name(name)
            .attributes(QueueAttributeName::VisibilityTimeout, visibility.as_secs().to_string())
            .send()
            .await
            .map_err(aws_sdk_sqs::Error::from)
            .context("CreateQueue")?;
        let url = made.queue_url.context("CreateQueue gave no URL")?;
        Ok(Queue { url, client })
    }

    /// Makes a queue and puts all events of the registry on it from now on.
    pub async fn event_queue(&self, account: &str, region: &str, visibility: Duration) -> Result<Queue> {
        let queue = self.queue(account, region, "ecr-operator", visibility).await?;
        self.set_event_queue(account, region, &queue.url).await?;
        Ok(queue)
    }

    /// An SQS client that acts as `principal`, as [`ecr`](Self::ecr) is for ECR.
    #[must_use]
    pub fn sqs(&self, region: &str, principal: &Principal) -> aws_sdk_sqs::Client {
        let credentials = Credentials::new(
            principal.access_key_id.clone(),
            principal.secret_access_key.clone(),
            principal.session_token.clone(),
            None,
            "bed",
        );
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(self.endpoint())
            .region(Region::new(region.to_owned()))
            .credentials_provider(credentials)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .retry_config(RetryConfig::disabled())
            .build();
        aws_sdk_sqs::Client::from_conf(config)
    }
}

impl Queue {
    /// Puts a message on the queue, whatever it says.
    pub async fn send(&self, body: impl Into<String>) -> Result<()> {
        let request = self.client.send_message().queue_url(&self.url).message_body(body);
        let sent = request.send().await.map_err(aws_sdk_sqs::Error::from);
        sent.map(drop).context("SendMessage")
    }

    /// Takes a message off the queue, if there is one: it is lost.
    pub async fn take(&self) -> Result<Option<String>> {
        let request = self.client.receive_message().queue_url(&self.url).wait_time_seconds(1);
        let received = request
            .send()
            .await
            .map_err(aws_sdk_sqs::Error::from)
            .context("ReceiveMessage")?;
        let Some(message) = received.messages.unwrap_or_default().pop() else {
            return Ok(None);
        };
        let request = self.client.delete_message().queue_url(&self.url);
        let deletion = request.set_receipt_handle(message.receipt_handle).send().await;
        deletion.map_err(aws_sdk_sqs::Error::from).context("DeleteMessage")?;
        Ok(message.body)
    }

    /// How many messages are on it: those that wait, and those that were received and are neither deleted nor given out
    /// again.
    pub async fn depth(&self) -> Result<(usize, usize)> {
        let (waiting, hidden) = (
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        );
        let request = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(waiting.clone())
            .attribute_names(hidden.clone());
        let answer = request
            .send()
            .await
            .map_err(aws_sdk_sqs::Error::from)
            .context("GetQueueAttributes")?;
        let attributes = answer.attributes.unwrap_or_default();
        let count = |name| attributes.get(&name).and_then(|count| count.parse().ok()).unwrap_or(0);
        Ok((count(waiting), count(hidden)))
    }
}
