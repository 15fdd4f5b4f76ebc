//! Changes made by API calls, as CloudTrail reports them to EventBridge.

use std::sync::Arc;

use fakecloud_core::auth::PrincipalType;
use fakecloud_core::service::AwsRequest;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::credentials::Caller;
use crate::ecr::Registry;
use crate::events::{Event, now, send};
use crate::world::World;

/// Calls that change nothing, by the start of their names.
const READS: &[&str] = &["BatchCheck", "BatchGet", "Describe", "Get", "List", "Validate"];

/// One upload is many calls, and `PutImage` tells of them all.
const UPLOADS: &[&str] = &["InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload"];

/// A call that may change something.
pub(crate) struct Change {
    operation: String,
    request_id: String,
    parameters: Value,
}

impl Change {
    /// The change that a request asks for; `None` if it only reads.
    pub(crate) fn of(request: &AwsRequest) -> Option<Self> {
        let operation = request.action.as_str();
        if READS.iter().any(|start| operation.starts_with(start)) || UPLOADS.contains(&operation) {
            return None;
        }
        Some(Self {
            operation: operation.to_owned(),
            request_id: request.request_id.clone(),
            parameters: serde_json::from_slice(&request.body).unwrap_or(Value::Null),
        })
    }

    /// Tells of the change once it has been made.
    pub(crate) fn announce(self, world: &Arc<World>, caller: &Caller, registry: &Registry) {
        let arn = self.arn(registry);
        let kind = match caller.principal.principal_type {
            PrincipalType::AssumedRole => "AssumedRole",
            PrincipalType::User => "IAMUser",
            _ => "Root",
        };
        let detail = json!({
            "eventVersion": "1.11",
            "userIdentity": {
                "type": kind,
                "principalId": caller.principal.user_id,
                "arn": caller.principal.arn,
                "accountId": caller.principal.account_id,
                "accessKeyId": caller.access_key_id,
            },
            "eventTime": now(),
            "eventSource": "ecr.amazonaws.com",
            "eventName": self.operation,
            "awsRegion": registry.region,
            "sourceIPAddress": "127.0.0.1",
            "userAgent": "aws-stand-in",
            "requestParameters": self.parameters,
            "responseElements": Value::Null,
            "requestID": self.request_id,
            "eventID": Uuid::new_v4().to_string(),
            "readOnly": false,
            "resources": arn.iter().map(|arn| json!({ "accountId": registry.account, "ARN": arn })).collect::<Vec<_>>(),
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "recipientAccountId": registry.account,
            "eventCategory": "Management",
        });
        let event = Event {
            detail_type: "AWS API Call via CloudTrail",
            resources: Vec::new(),
            detail,
        };
        send(world, registry, event);
    }

    /// The repository that was changed.
    fn arn(&self, registry: &Registry) -> Option<String> {
        if let Some(arn) = self.parameters.get("resourceArn").and_then(Value::as_str) {
            return Some(arn.to_owned());
        }
        let name = self.parameters.get("repositoryName")?.as_str()?;
        Some(registry.repository_arn(name))
    }
}
