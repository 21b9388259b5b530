//! Passing a run on to an executor that is a process of its own.

use super::address::Address;
use super::execute::Options;
use super::{EXECUTORS, status};
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::http::RequestId;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use edict_client::records::ExecutorStatus;
use std::time::Duration;

/// The policy's current edition, so that an executor need not ask for it on every run.
pub(crate) const EDITION: HeaderName = HeaderName::from_static("x-edict-policy-edition");

/// How much longer than the policy's own time limit an executor may take: installing requirements counts.
const ALLOWANCE: Duration = Duration::from_secs(600);

/// What is passed on.
pub(super) struct Call<'a> {
    pub(super) path: &'static str,
    pub(super) uri: &'a str,
    pub(super) options: Options,
    pub(super) request_id: RequestId,
}

/// Sends a run to an executor and returns its answer as it is.
///
/// # Errors
/// 404 when there is no such executor or policy, 502 `executor_unreachable` when it does not answer; then its status
/// becomes `unreachable`.
pub(super) async fn forward(app: &App, id: &str, call: Call<'_>, body: Bytes) -> Result<Response, ApiError> {
    let store = &app.registry.store;
    let document = EXECUTORS.get(store, id).await?;
    let policy = app.registry.compiled(call.uri).await?;
    let Address { base, token } =
        Address::of(store, id, &document).await?.ok_or_else(|| unreachable(id, "it has no address yet"))?;
    let limit = policy.limits.timeout_ms.map_or(Duration::from_secs(30), Duration::from_millis) + ALLOWANCE;
    let mut request = app
        .http
        .post(format!("{base}/{}?logs={}", call.path, call.options.logs))
        .header(header::CONTENT_TYPE, "application/json")
        .header(EDITION, policy.edition.as_str())
        .header(RequestId::HEADER, call.request_id.value())
        .timeout(limit)
        .body(body);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    match request.send().await {
        Ok(response) => relay(response).await.map_err(|_| unreachable(id, "its answer broke off")),
        Err(error) => {
            let problem =
                if error.is_timeout() { "it did not answer in time" } else { "it cannot be connected to" };
            tracing::warn!(executor = id, %error, "executor did not answer");
            status::set(store, id, ExecutorStatus::Unreachable).await?;
            Err(unreachable(id, problem))
        }
    }
}

fn unreachable(id: &str, problem: &str) -> ApiError {
    ApiError::new(
        Code::ExecutorUnreachable,
        format!("executor `{id}` cannot be reached: {problem}; start it, or use another one"),
    )
}

async fn relay(response: reqwest::Response) -> reqwest::Result<Response> {
    let status = StatusCode::from_u16(response.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let mut headers = HeaderMap::new();
    for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
        if let Some(value) = response.headers().get(&name) {
            headers.insert(name, value.clone());
        }
    }
    Ok((status, headers, response.bytes().await?).into_response())
}
