//! Passing a run on to an executor that is a process of its own.

use super::address::{Address, RETRY};
use super::execute::Options;
use super::{EXECUTORS, status};
use crate::app::App;
use crate::error::{ApiError, Code};
use crate::http::RequestId;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response as Answer, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use edict_client::records::ExecutorStatus;
use std::time::{Duration, Instant};

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

/// Sends a run to an executor and returns its answer as it is. One that is being started anew is waited for.
///
/// # Errors
/// 404 when there is no such executor or policy, 502 `executor_unreachable` when it does not answer; then its status
/// becomes `unreachable`.
pub(super) async fn forward(app: &App, id: &str, call: Call<'_>, body: Bytes) -> Result<Response, ApiError> {
    let store = &app.registry.store;
    let path = format!("/{}?logs={}", call.path, call.options.logs);
    let patience = app.settings.executor_patience();
    let end = Instant::now() + patience;
    loop {
        let document = EXECUTORS.get(store, id).await?;
        let policy = app.registry.compiled(call.uri).await?;
        let address = Address::of(store, id, &document)
            .await?
            .ok_or_else(|| unreachable(id, "it has no address yet"))?;
        let limit =
            policy.limits.timeout_ms.map_or(Duration::from_secs(30), Duration::from_millis) + ALLOWANCE;
        let edition = HeaderValue::from_str(policy.edition.as_str()).map_err(ApiError::internal)?;
        let peer = address.peer(&app.peers).header(EDITION, edition);
        let peer = peer.header(RequestId::HEADER, call.request_id.value());
        match peer.send((Method::POST, &path), body.clone(), limit).await {
            Ok(answer) => return Ok(relay(answer)),
            Err(lost) if lost.is_untouched() && address.may_return(patience) && Instant::now() < end => {
                tokio::time::sleep(RETRY).await;
            }
            Err(lost) => {
                tracing::warn!(executor = id, problem = lost.problem(), "executor did not answer");
                status::set(store, id, ExecutorStatus::Unreachable).await?;
                return Err(unreachable(id, lost.problem()));
            }
        }
    }
}

fn unreachable(id: &str, problem: &str) -> ApiError {
    ApiError::new(
        Code::ExecutorUnreachable,
        format!("executor `{id}` cannot be reached: {problem}; start it, or use another one"),
    )
}

fn relay(answer: Answer<Bytes>) -> Response {
    let (head, body) = answer.into_parts();
    let mut headers = HeaderMap::new();
    for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
        if let Some(value) = head.headers.get(&name) {
            headers.insert(name, value.clone());
        }
    }
    (head.status, headers, body).into_response()
}
