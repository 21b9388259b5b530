//! Health, metrics, and the last resort for a mistake of ours.

use crate::app::{App, Common};
use crate::error::{ApiError, Code};
use axum::extract::State;
use axum::http::{Response, header};
use axum::response::IntoResponse;
use std::any::Any;

/// `GET /healthz`: the process serves.
pub(crate) async fn live() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
}

/// `GET /readyz` where nothing else is needed than that the process stays.
pub(crate) async fn ready(State(common): State<Common>) -> Result<impl IntoResponse, ApiError> {
    if common.leaving.is_cancelled() {
        return Err(ApiError::new(Code::ShuttingDown, "this server is stopping; ask another one"));
    }
    Ok(live().await)
}

/// `GET /readyz` of a server: the database answers.
pub(crate) async fn system_ready(State(app): State<App>) -> Result<impl IntoResponse, ApiError> {
    app.registry.store.ping().await?;
    ready(State(app.common.clone())).await
}

/// `GET /metrics` in Prometheus' text format.
pub(crate) async fn metrics(State(common): State<Common>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], common.metrics.render())
}

/// A panic ends one request, not the server.
pub(crate) fn panicked(cause: Box<dyn Any + Send>) -> Response<axum::body::Body> {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    ApiError::internal(format!("panic: {text}")).into_response()
}
