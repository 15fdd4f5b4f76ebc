//! The HTTP endpoint: `/metrics`, `/livez`, `/readyz`. Serves nothing that is secret and takes no input.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use crate::{control::spawn::Readiness, metrics::Metrics};

/// The media type of OpenMetrics text.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the endpoint serves from.
#[derive(Clone)]
pub(crate) struct Served {
    pub metrics: Metrics,
    pub readiness: Readiness,
    /// Brings figures up to date that are worked out when they are asked for.
    pub refresh: Arc<dyn Fn() + Send + Sync>,
}

/// Opens the endpoint; the caller learns at once that the address is taken.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    let bound = match TcpListener::bind(address).await {
        // `:8080` asks for every address; a node without IPv6 has those of IPv4 only.
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        bound => bound,
    };
    bound.map_err(|error| {
        format!("--listen {address}: the address cannot be opened: {error}; choose another port or stop who uses it")
    })
}

/// Serves until the program ends.
pub(crate) async fn serve(listener: TcpListener, served: Served) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .with_state(served);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the HTTP endpoint ended");
    }
}

async fn metrics(State(served): State<Served>) -> impl IntoResponse {
    (served.refresh)();
    ([(header::CONTENT_TYPE, OPEN_METRICS)], served.metrics.render())
}

async fn readyz(State(served): State<Served>) -> impl IntoResponse {
    let waiting = served.readiness.waiting();
    match waiting.is_empty() {
        true => (StatusCode::OK, "ok\n".to_owned()),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for {}\n", waiting.join(", ")),
        ),
    }
}
