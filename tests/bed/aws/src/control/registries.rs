//! Registries: where their data plane is, what scans find, where events go.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Body, Problem};
use crate::ecr::ScanResult;
use crate::registries::registry;
use crate::world::World;

pub(super) async fn show(State(world): State<Arc<World>>, Path((account, region)): Path<(String, String)>) -> Answer {
    let registry = registry(&world, &account, &region).map_err(|error| Problem(error.to_string()))?;
    Ok(Json(json!({ "dataPlane": registry.data_plane_url() })))
}

/// The result of an image's scan; without a status there never was one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Scan {
    account: String,
    region: String,
    repository: String,
    digest: String,
    status: Option<String>,
    #[serde(default)]
    findings: Vec<Value>,
    enhanced_findings: Option<Vec<Value>>,
}

pub(super) async fn scan(State(world): State<Arc<World>>, Body(scan): Body<Scan>) -> Answer {
    let problem = |error: fakecloud_core::service::AwsServiceError| Problem(error.to_string());
    let registry = registry(&world, &scan.account, &scan.region).map_err(problem)?;
    let result = scan.status.map(|status| ScanResult {
        status,
        findings: scan.findings,
        enhanced: scan.enhanced_findings,
    });
    registry
        .set_scan(&world, &scan.repository, &scan.digest, result)
        .map_err(problem)?;
    Ok(Json(json!({})))
}

/// The queue that gets a registry's events; null for none.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EventQueue {
    account: String,
    region: String,
    queue_url: Option<String>,
}

pub(super) async fn event_queue(State(world): State<Arc<World>>, Body(queue): Body<EventQueue>) -> Answer {
    world.event_queues.set(&queue.account, &queue.region, queue.queue_url);
    Ok(Json(json!({})))
}

/// What is wrong with the upstream of a pull-through cache rule; null for nothing.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Upstream {
    account: String,
    region: String,
    prefix: String,
    failure: Option<String>,
}

pub(super) async fn upstream(State(world): State<Arc<World>>, Body(upstream): Body<Upstream>) -> Answer {
    let registry = registry(&world, &upstream.account, &upstream.region).map_err(|error| Problem(error.to_string()))?;
    registry.set_upstream_failure(upstream.prefix, upstream.failure);
    Ok(Json(json!({})))
}
