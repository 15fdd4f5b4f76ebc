//! The control endpoint: plain JSON over HTTP, for what a test sets up and looks at.

mod faults;
mod images;
mod principals;
mod registries;

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::calls::Filter;
use crate::world::World;

/// What is wrong with a request, for whoever wrote the test.
pub(crate) struct Problem(String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({ "error": self.0 }))).into_response()
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self(text)
    }
}

type Answer = Result<Json<Value>, Problem>;

/// A JSON body; what does not fit is a problem like any other, whatever content type it came with.
pub(crate) struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: axum::extract::Request, _: &S) -> Result<Self, Problem> {
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await;
        let body = body.map_err(|error| Problem(error.to_string()))?;
        let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(text)
            .map(Self)
            .map_err(|error| Problem(error.to_string()))
    }
}

/// Serves the control endpoint until the process ends.
pub(crate) async fn serve(listener: TcpListener, world: Arc<World>) -> std::io::Result<()> {
    let routes = Router::new()
        .route("/principals", post(principals::put).delete(principals::remove))
        .route("/expire", post(principals::expire))
        .route("/tokens", put(principals::tokens))
        .route("/principal-unknown", post(principals::unknown))
        .route("/registries/{account}/{region}", get(registries::show))
        .route("/scan", post(registries::scan))
        .route("/event-queue", put(registries::event_queue))
        .route("/upstream", put(registries::upstream))
        .route("/calls", get(calls))
        .route("/calls/reset", post(reset_calls))
        .route("/deletions", get(deletions))
        .route("/departures", get(images::departures))
        .route("/age", post(images::age))
        .route("/lifecycle", post(images::run))
        .route("/previews", put(images::previews))
        .route("/delay", put(delay))
        .route("/faults", post(faults::add).get(faults::list).delete(faults::clear))
        .route("/faults/{id}", delete(faults::remove))
        .route("/faults/{id}/release", post(faults::release))
        .fallback(|| async { Problem("no such route".to_owned()) })
        .method_not_allowed_fallback(|| async { Problem("no such method on this route".to_owned()) })
        .with_state(world);
    axum::serve(listener, routes).await
}

async fn calls(State(world): State<Arc<World>>, filter: Result<Query<Filter>, QueryRejection>) -> Answer {
    let Query(filter) = filter.map_err(|rejection| Problem(rejection.body_text()))?;
    Ok(Json(json!(world.calls.report(&filter))))
}

async fn reset_calls(State(world): State<Arc<World>>, Body(filter): Body<Filter>) -> Json<Value> {
    world.calls.reset(&filter);
    Json(json!({}))
}

async fn deletions(State(world): State<Arc<World>>) -> Json<Value> {
    Json(json!(world.deletions.report()))
}

/// How long each signed call's answer is held back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Delay {
    millis: u64,
}

async fn delay(State(world): State<Arc<World>>, Body(delay): Body<Delay>) -> Json<Value> {
    world.set_delay(delay.millis);
    Json(json!({}))
}
