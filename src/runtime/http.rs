//! `/healthz`, `/readyz` and `/metrics`.

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use super::{Format, Metrics, Readiness, Shutdown};

/// Serves until shutdown is asked for.
pub(super) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    mut shutdown: Shutdown,
) -> std::io::Result<()> {
    let readyz = move || async move {
        if readiness.is_ready() {
            (StatusCode::OK, "ok\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the watches have not listed everything yet\n")
        }
    };
    let render = move |headers: HeaderMap| async move {
        let accept = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let format = Format::negotiate(accept);
        let head = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
        match metrics.render() {
            Ok(text) => (head, format.of(text)).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render));
    let ended = async move { shutdown.requested().await };
    axum::serve(listener, router).with_graceful_shutdown(ended).await
}
