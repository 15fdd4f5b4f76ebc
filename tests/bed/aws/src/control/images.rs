//! Images: how old they are, what lifecycle policies do to them, and which are gone.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use fakecloud_core::service::AwsServiceError;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Body, Problem};
use crate::ecr::{Age, Ending};
use crate::registries::registry;
use crate::world::World;

fn problem(error: &AwsServiceError) -> Problem {
    Problem(error.message())
}

/// When lifecycle policies are carried out, and where.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Run {
    account: String,
    region: String,
    repository: Option<String>,
    #[serde(default)]
    days_from_now: i64,
}

pub(super) async fn run(State(world): State<Arc<World>>, Body(run): Body<Run>) -> Answer {
    let registry = registry(&world, &run.account, &run.region).map_err(|error| problem(&error))?;
    let done = registry.run_lifecycle(&world, run.repository.as_deref(), run.days_from_now);
    Ok(Json(json!(done.map_err(|error| problem(&error))?)))
}

/// How old an image is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Aging {
    account: String,
    region: String,
    repository: String,
    digest: String,
    days_ago: Age,
}

pub(super) async fn age(State(world): State<Arc<World>>, Body(aging): Body<Aging>) -> Answer {
    let registry = registry(&world, &aging.account, &aging.region).map_err(|error| problem(&error))?;
    let aged = registry.age_image(&aging.repository, &aging.digest, &aging.days_ago);
    aged.map_err(|error| problem(&error))?;
    Ok(Json(json!({})))
}

/// How previews go from now on; what is left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Previews {
    millis: Option<u64>,
    ending: Option<Ending>,
}

pub(super) async fn previews(State(world): State<Arc<World>>, Body(wanted): Body<Previews>) -> Json<Value> {
    if let Some(millis) = wanted.millis {
        world.previews.take(millis);
    }
    if let Some(ending) = wanted.ending {
        world.previews.end(ending);
    }
    Json(json!({}))
}

/// Whose departures.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Of {
    account: String,
    region: String,
}

pub(super) async fn departures(State(world): State<Arc<World>>, of: Result<Query<Of>, QueryRejection>) -> Answer {
    let Query(of) = of.map_err(|rejection| Problem(rejection.body_text()))?;
    Ok(Json(json!(world.departures.report(&of.account, &of.region))))
}
