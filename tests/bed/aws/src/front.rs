//! A signed call from end to end: who asks, for what, with which faults, and how it is answered and counted.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use fakecloud_aws::sigv4::{ParsedSigV4, parse_sigv4_header};
use fakecloud_core::service::{AwsRequest, AwsResponse, AwsService as _, AwsServiceError};
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use uuid::Uuid;

use crate::access::{self, Facts};
use crate::answer::{refusal, render};
use crate::calls::Call;
use crate::credentials::{self, Caller};
use crate::faults::{self, Struck, When};
use crate::registries::registry;
use crate::serve::Cut;
use crate::target::{Protocol, Service, Target};
use crate::world::World;
use crate::{cloudtrail, sts};

/// More than any request of these services carries: an uploaded layer part has 20 MiB, and a third more in base64.
const LARGEST_BODY: usize = 64 << 20;

/// The protocol of answers to requests that do not tell theirs.
const UNTOLD: Protocol = Protocol::Json("application/x-amz-json-1.1");

/// Answers a request on the AWS endpoint.
pub(crate) async fn signed_call(world: Arc<World>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let request_id = Uuid::new_v4().to_string();
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(Body::new(body), LARGEST_BODY).await else {
        return Err(Cut);
    };
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(signature) = parse_sigv4_header(header("authorization").unwrap_or_default(), header("x-amz-date")) else {
        return Ok(render(Err(credentials::unsigned()), UNTOLD, &request_id));
    };
    let Some(target) = Target::of(&signature.service, &parts, &body) else {
        let unknown = refusal(400, "UnknownOperationException", "No such service or operation");
        return Ok(render(Err(unknown), UNTOLD, &request_id));
    };
    let protocol = target.protocol;
    let outcome = counted(&world, &signature, target, parts, body, &request_id).await?;
    // Not even for no time at all: the timer ticks in milliseconds.
    let delay = world.delay();
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(render(outcome, protocol, &request_id))
}

type Outcome = Result<AwsResponse, AwsServiceError>;

/// Carries the call out, faults included, and counts it with what came of it.
async fn counted(
    world: &Arc<World>,
    signature: &ParsedSigV4,
    target: Target,
    parts: Parts,
    body: Bytes,
    request_id: &str,
) -> Result<Outcome, Cut> {
    let caller = credentials::authenticate(world, target.service, signature, &parts, &body);
    let known = caller.as_ref().ok();
    let mut call = Pending(
        world,
        Call {
            seq: 0,
            operation: target.counted_as(),
            account: known
                .map_or("unknown", |caller| &caller.principal.account_id)
                .to_owned(),
            region: signature.region.clone(),
            principal: known.map(|caller| caller.principal.arn.clone()),
            outcome: "abandoned".to_owned(),
            carried_out: false,
            repository: repository(&body),
            images: images(&body),
        },
    );
    let outcome = match caller {
        Err(error) => Ok(Err(error)),
        Ok(caller) => {
            let request = aws_request(&target, &caller, &signature.region, parts, body, request_id);
            with_faults(world, &mut call.1, target.service, &caller, request).await
        }
    };
    call.1.outcome = match &outcome {
        Ok(Ok(_)) => "ok".to_owned(),
        Ok(Err(error)) => error.code().to_owned(),
        Err(Cut) => "disconnected".to_owned(),
    };
    outcome
}

/// A call under way: it is counted when it ends, also if its client has gone away before.
struct Pending<'world>(&'world World, Call);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.calls.record(self.1.clone());
    }
}

async fn with_faults(
    world: &Arc<World>,
    call: &mut Call,
    service: Service,
    caller: &Caller,
    request: AwsRequest,
) -> Result<Outcome, Cut> {
    let strikes = world.faults.strikes(&Struck {
        operation: &call.operation,
        account: &call.account,
        region: &call.region,
        principal: call.principal.as_deref(),
    });
    let deletion = world.deletions.begin(call);
    if let Some(error) = faults::suffer(&strikes, When::Before).await? {
        world.deletions.end(deletion, error.code());
        return Ok(Err(error));
    }
    let outcome = carry_out(world, service, caller, request).await;
    call.carried_out = true;
    // Before the answer can be lost: what counts is what became of the repository.
    let code = outcome.as_ref().map_or_else(AwsServiceError::code, |_| "ok");
    world.deletions.end(deletion, code);
    match faults::suffer(&strikes, When::After).await? {
        Some(error) => Ok(Err(error)),
        None => Ok(outcome),
    }
}

async fn carry_out(world: &Arc<World>, service: Service, caller: &Caller, request: AwsRequest) -> Outcome {
    match service {
        Service::Ecr => {
            let registry = registry(world, &caller.principal.account_id, &request.region)?;
            let change = cloudtrail::Change::of(&request);
            let answer = registry.call(world, caller, request).await?;
            if let Some(change) = change {
                change.announce(world, caller, &registry);
            }
            Ok(answer)
        }
        Service::Sts => sts::call(world, caller, request).await,
        Service::Sqs => {
            let facts = Facts {
                region: request.region.clone(),
                ..Facts::default()
            };
            let mut actions = world.sqs.iam_actions_for(&request);
            for action in &mut actions {
                action.action = unbatched(action.action);
            }
            access::authorize(world, service, caller, &actions, &facts)?;
            world.sqs.handle(request).await
        }
        Service::Iam => {
            let facts = Facts {
                region: request.region.clone(),
                ..Facts::default()
            };
            access::authorize(world, service, caller, &world.iam.iam_actions_for(&request), &facts)?;
            world.iam.handle(request).await
        }
    }
}

/// IAM knows no actions for SQS's batches: whoever may delete a message may delete ten.
fn unbatched(action: &'static str) -> &'static str {
    action.strip_suffix("Batch").unwrap_or(action)
}

fn aws_request(
    target: &Target,
    caller: &Caller,
    region: &str,
    parts: Parts,
    body: Bytes,
    request_id: &str,
) -> AwsRequest {
    AwsRequest {
        service: target.service.name().to_owned(),
        action: target.operation.clone(),
        region: region.to_owned(),
        account_id: caller.principal.account_id.clone(),
        request_id: request_id.to_owned(),
        raw_path: parts.uri.path().to_owned(),
        raw_query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        query_params: target.form.clone(),
        body,
        body_stream: parking_lot::Mutex::new(None),
        path_segments: Vec::new(),
        method: parts.method,
        is_query_protocol: target.protocol == Protocol::Query,
        access_key_id: Some(caller.access_key_id.clone()),
        principal: Some(caller.principal.clone()),
    }
}

/// The images a call names, as `tag`, `@digest` or `tag@digest`.
fn images(body: &[u8]) -> Vec<String> {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
        return Vec::new();
    };
    let text = |id: &serde_json::Value, member: &str| id.get(member).and_then(|text| text.as_str()).map(str::to_owned);
    let one = |id: &serde_json::Value| {
        let digest = text(id, "imageDigest")
            .map(|digest| format!("@{digest}"))
            .unwrap_or_default();
        format!("{}{digest}", text(id, "imageTag").unwrap_or_default())
    };
    match body.get("imageIds").and_then(|ids| ids.as_array()) {
        Some(ids) => ids.iter().map(one).collect(),
        None => Some(one(&body)).filter(|image| !image.is_empty()).into_iter().collect(),
    }
}

/// The repository a call names, by its name or its ARN.
fn repository(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    if let Some(name) = body.get("repositoryName").and_then(|name| name.as_str()) {
        return Some(name.to_owned());
    }
    let arn = body.get("resourceArn")?.as_str()?;
    arn.split_once(":repository/").map(|(_, name)| name.to_owned())
}
