//! What ECR is asked about images on their way to other registries: backfills, and the way of a single image.

use aws_sdk_ecr::{
    config::{Builder, retry::RetryConfig},
    types::{
        ImageIdentifier, ReplicationBackfillResultStatus, ReplicationBackfillStatus, ReplicationBackfillSummary,
        ReplicationDestination, ReplicationStatus,
    },
};
use jiff::Timestamp;

use super::{
    client::{Ecr, call, unbuildable},
    error::AwsError,
    images::ImageRef,
    record::timestamp,
};
use crate::{api::names::RepositoryName, document::replication::Place};

/// The most entries that a page of `ListReplicationBackfills` holds.
const PAGE: i32 = 50;

/// A backfill as ECR shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backfill {
    pub id: String,
    pub to: Place,
    /// In ECR's words.
    pub state: String,
    pub failure_code: Option<String>,
    pub total: u32,
    pub complete: u32,
    pub failed: u32,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

/// An image that a backfill could not send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsent {
    pub repository: String,
    /// Its digest, or else its tag.
    pub image: String,
    pub code: Option<String>,
}

/// How an image fares on its way to one registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub to: Place,
    pub state: WayState,
    pub code: Option<String>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WayState {
    InProgress,
    Complete,
    Failed,
}

impl Backfill {
    /// Whether it is over, one way or another.
    pub(crate) fn is_over(&self) -> bool {
        self.ended_at.is_some() || is_final(&self.state)
    }

    fn read(summary: ReplicationBackfillSummary) -> Result<Self, AwsError> {
        let lacks = |what: &str| AwsError::incomplete("ListReplicationBackfills", what);
        let progress = summary.progress;
        let count = |count: Option<i32>| u32::try_from(count.unwrap_or_default()).unwrap_or_default();
        Ok(Self {
            id: summary.replication_backfill_id,
            to: place(summary.destination.ok_or_else(|| lacks("destination"))?),
            state: summary.status.as_str().to_owned(),
            failure_code: summary.failure_code,
            total: count(progress.as_ref().map(|progress| progress.total_replication_count)),
            complete: count(progress.as_ref().map(|progress| progress.completed_replication_count)),
            failed: count(progress.as_ref().map(|progress| progress.failed_replication_count)),
            started_at: timestamp(&summary.started_at).ok_or_else(|| lacks("startedAt"))?,
            ended_at: summary.ended_at.as_ref().and_then(timestamp),
        })
    }
}

/// Whether a backfill in this state is over.
pub(crate) fn is_final(state: &str) -> bool {
    [
        ReplicationBackfillStatus::Complete,
        ReplicationBackfillStatus::Failed,
        ReplicationBackfillStatus::Stopped,
    ]
    .iter()
    .any(|over| over.as_str() == state)
}

fn place(destination: ReplicationDestination) -> Place {
    Place {
        region: destination.region,
        registry_id: destination.registry_id,
    }
}

impl Ecr {
    /// Every backfill that ECR still knows; it forgets them 90 days after their end.
    pub(crate) async fn backfills(&self) -> Result<Vec<Backfill>, AwsError> {
        let mut all = Vec::new();
        let mut token = None;
        loop {
            let request = self
                .client
                .list_replication_backfills()
                .registry_id(self.registry_id.as_str())
                .max_results(PAGE)
                .set_next_token(token);
            let page = call!(self, read "ListReplicationBackfills", request)?;
            for summary in page.backfills.unwrap_or_default() {
                all.push(Backfill::read(summary)?);
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(all);
            }
        }
    }

    /// Starts a backfill and returns its id. Sent once: ECR would start another for each attempt whose answer is lost.
    pub(crate) async fn start_backfill(&self, to: &Place) -> Result<String, AwsError> {
        const OPERATION: &str = "StartReplicationBackfill";
        let destination = ReplicationDestination::builder()
            .region(&to.region)
            .registry_id(&to.registry_id)
            .build()
            .map_err(|error| unbuildable(OPERATION, &error))?;
        let once = Builder::new().retry_config(RetryConfig::disabled());
        let request = self
            .client
            .start_replication_backfill()
            .registry_id(self.registry_id.as_str())
            .destination(destination)
            .customize()
            .config_override(once);
        let answer = call!(self, write "StartReplicationBackfill", request)?;
        answer
            .replication_backfill_id
            .ok_or_else(|| AwsError::incomplete(OPERATION, "replicationBackfillId"))
    }

    /// Some images that a backfill could not send, `most` of them.
    pub(crate) async fn unsent(&self, backfill: &str, most: u8) -> Result<Vec<Unsent>, AwsError> {
        let request = self
            .client
            .describe_replication_backfill_results()
            .registry_id(self.registry_id.as_str())
            .replication_backfill_id(backfill)
            .result_status_filter(ReplicationBackfillResultStatus::Failed)
            .max_results(i32::from(most));
        let answer = call!(self, read "DescribeReplicationBackfillResults", request)?;
        let results = answer.results.unwrap_or_default().into_iter();
        let unsent = results.map(|result| Unsent {
            repository: result.repository_name,
            image: result.image_id.map(image).unwrap_or_default(),
            code: result.failure_code,
        });
        Ok(unsent.collect())
    }

    /// How an image fares on its way to each registry that it was sent to; `None` where there is no such image.
    pub(crate) async fn ways(&self, repository: &RepositoryName, of: &ImageRef) -> Result<Option<Vec<Way>>, AwsError> {
        let request = self
            .client
            .describe_image_replication_status()
            .registry_id(self.registry_id.as_str())
            .repository_name(repository.as_str())
            .image_id(of.id());
        let answer = match call!(self, read "DescribeImageReplicationStatus", request) {
            Err(error) if error.is("ImageNotFoundException") || error.is("RepositoryNotFoundException") => {
                return Ok(None);
            }
            answer => answer?,
        };
        let statuses = answer.replication_statuses.unwrap_or_default().into_iter();
        let ways = statuses.filter_map(|status| {
            Some(Way {
                to: Place {
                    region: status.region?,
                    registry_id: status.registry_id?,
                },
                state: match status.status? {
                    ReplicationStatus::Complete => WayState::Complete,
                    ReplicationStatus::Failed => WayState::Failed,
                    _ => WayState::InProgress,
                },
                code: status.failure_code,
            })
        });
        Ok(Some(ways.collect()))
    }
}

fn image(id: ImageIdentifier) -> String {
    id.image_digest.or(id.image_tag).unwrap_or_default()
}
