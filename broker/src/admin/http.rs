//! Health and metrics over HTTP. Read-only: nothing here changes state.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::health::{Health, Report};
use crate::metrics::Metrics;

#[derive(Clone)]
struct Shared {
    health: Health,
    metrics: Arc<Metrics>,
}

/// Serves `/healthz` (the process works, recovering or not), `/readyz` (clients are served) and
/// `/metrics` until `stopped` completes.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Arc<Metrics>,
    stopped: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(Shared { health, metrics });
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
}

async fn healthz(State(shared): State<Shared>) -> Json<Report> {
    Json(shared.health.report())
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    let status = if shared.health.is_serving() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(shared.health.report()))
}

async fn render_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, OPEN_METRICS)],
        shared.metrics.render(),
    )
}
