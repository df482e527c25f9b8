//! Health and metrics over HTTP. Read-only: nothing here changes state.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::health::{Health, Report};
use crate::metrics::Metrics;

#[derive(Clone)]
struct Shared {
    health: Health,
    metrics: Arc<Metrics>,
    /// One rendering at a time: on a disk that hangs none ends.
    rendering: Arc<Semaphore>,
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
        .with_state(Shared {
            health,
            metrics,
            rendering: Arc::new(Semaphore::new(1)),
        });
    axum::serve(listener, router)
        .with_graceful_shutdown(stopped)
        .await
}

async fn healthz(State(shared): State<Shared>) -> impl IntoResponse {
    report(&shared, shared.health.is_healthy())
}

async fn readyz(State(shared): State<Shared>) -> impl IntoResponse {
    report(&shared, shared.health.is_serving())
}

fn report(shared: &Shared, good: bool) -> (StatusCode, Json<Report>) {
    let status = if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(shared.health.report()))
}

/// Numbers of partitions are behind their locks, which are held while something is written. So they are
/// read on a thread of their own, not on those of elections and heartbeats, which serve HTTP.
async fn render_metrics(State(shared): State<Shared>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let Ok(permit) = shared.rendering.try_acquire_owned() else {
        let busy = "the metrics asked for before are still being read; is a disk hanging?\n";
        return (StatusCode::SERVICE_UNAVAILABLE, busy).into_response();
    };
    let rendered = spawn_blocking(move || {
        let _permit = permit;
        shared.metrics.render()
    });
    match rendered.await {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics not rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::sync::mpsc::{Receiver, channel};

    use parking_lot::Mutex;
    use prometheus_client::collector::Collector;
    use prometheus_client::encoding::DescriptorEncoder;

    use super::*;

    /// Something whose numbers can't be read while its disk hangs: until the sender lets go.
    #[derive(Debug)]
    struct Hanging(Mutex<Receiver<()>>);

    impl Collector for Hanging {
        fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
            let _ = self.0.lock().recv();
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_hanging_disk_under_the_metrics_stalled_the_control_threads() {
        let ((disk, hangs), metrics) = (channel(), Arc::new(Metrics::default()));
        metrics.add(Hanging(Mutex::new(hangs)));
        let shared = Shared {
            health: Health::default(),
            metrics,
            rendering: Arc::new(Semaphore::new(1)),
        };
        let first = tokio::spawn(render_metrics(State(shared.clone())));
        // The only thread of this runtime is free, and nobody queues up behind the disk.
        while shared.rendering.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let second = render_metrics(State(shared.clone())).await;
        assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
        drop(disk);
        assert_eq!(first.await.unwrap().status(), StatusCode::OK);
        let third = render_metrics(State(shared)).await;
        assert_eq!(third.status(), StatusCode::OK);
    }
}
