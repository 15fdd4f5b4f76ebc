//! The calls to SQS that the operator makes: messages are received and deleted.

use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, Message, MessageSystemAttributeName},
};
use jiff::Timestamp;

use super::error::{AwsError, Fault};
use crate::control::gate::Gate;

/// The most messages SQS gives, or deletes, at once.
pub(crate) const BATCH: usize = 10;

/// SQS with the credentials of one registry. Cheap to clone.
///
/// Its calls pass the gate: whoever receives a message hides it from others, and whoever deletes it takes it from them.
/// They are allowed where the Registry only observes, since the queue is the operator's own.
#[derive(Clone, Debug)]
pub(crate) struct Sqs {
    client: Client,
    gate: Gate,
}

/// A message that was received and is hidden for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// SQS's own id, safe to log.
    pub id: String,
    /// What deletes it.
    pub receipt: String,
    /// Anything at all.
    pub body: String,
    /// When SQS took it.
    pub sent: Option<Timestamp>,
}

impl Sqs {
    pub(crate) fn new(client: Client, gate: Gate) -> Self {
        Self { client, gate }
    }

    /// Up to [`BATCH`] messages; waits up to `wait_seconds` (at most 20) for the first.
    pub(crate) async fn receive(&self, queue_url: &str, wait_seconds: u8) -> Result<Vec<Received>, AwsError> {
        const OPERATION: &str = "ReceiveMessage";
        let request = self
            .client
            .receive_message()
            .queue_url(queue_url)
            .max_number_of_messages(i32::try_from(BATCH).unwrap_or(1))
            .wait_time_seconds(i32::from(wait_seconds.min(20)))
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp);
        let Ok(answer) = self.gate.guard(request.send()).await else {
            return Err(AwsError::not_leading(OPERATION));
        };
        let answer = answer.map_err(|error| AwsError::new(OPERATION, &error))?;
        Ok(answer
            .messages
            .unwrap_or_default()
            .into_iter()
            .filter_map(received)
            .collect())
    }

    /// Deletes up to [`BATCH`] messages by their receipts; gives how many SQS did not delete. Those come again.
    pub(crate) async fn delete(&self, queue_url: &str, receipts: &[String]) -> Result<usize, AwsError> {
        const OPERATION: &str = "DeleteMessageBatch";
        let entries = receipts.iter().enumerate().map(|(number, receipt)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(receipt)
                .build()
        });
        let entries = entries.collect::<Result<Vec<_>, _>>().map_err(|error| AwsError {
            operation: OPERATION,
            fault: Fault::Invalid,
            code: String::new(),
            message: error.to_string(),
        })?;
        let request = self
            .client
            .delete_message_batch()
            .queue_url(queue_url)
            .set_entries(Some(entries));
        let Ok(answer) = self.gate.guard(request.send()).await else {
            return Err(AwsError::not_leading(OPERATION));
        };
        let answer = answer.map_err(|error| AwsError::new(OPERATION, &error))?;
        Ok(answer.failed.len())
    }
}

/// A message without a receipt could not be deleted, and one without a body says nothing.
fn received(message: Message) -> Option<Received> {
    let sent = message
        .attributes
        .as_ref()
        .and_then(|attributes| attributes.get(&MessageSystemAttributeName::SentTimestamp))
        .and_then(|millis| Timestamp::from_millisecond(millis.parse().ok()?).ok());
    Some(Received {
        id: message.message_id.unwrap_or_default(),
        receipt: message.receipt_handle?,
        body: message.body?,
        sent,
    })
}
