//! The way to a function that runs in another process: an executor, or the server that runs those of `local`.

use super::fleet::Fleet;
use crate::error::{ApiError, Code};
use crate::executors::address::Address;
use crate::executors::{EXECUTORS, status};
use crate::http::{Lost, Peer, Peers};
use crate::store::Store;
use axum::http::{HeaderName, HeaderValue, Method, Response, header};
use bytes::Bytes;
use edict_client::records::{ExecutorStatus, Function};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a route is taken for true unless a change is announced: what is not announced is an executor's new address.
const FRESH: Duration = Duration::from_secs(2);
/// How much longer than the policy's own time limit an answer may take: waiting in a queue and for a replica counts.
const ALLOWANCE: Duration = Duration::from_secs(120);
/// Tells a server that it is asked by another one, so that two that each take the other for the holder do not go on
/// asking each other.
pub(super) const PASSED_ON: HeaderName = HeaderName::from_static("x-edict-passed-on");
/// The reason in an error's details when nothing was carried out, and another server is about to take the function over or
/// its executor is being started anew.
const MOVING: &str = "moving";

/// Where requests for a function go.
pub(super) struct Route {
    /// None for the server that runs the functions of `local`.
    executor_id: Option<String>,
    peer: Peer,
    /// Whether what cannot be reached is waited for.
    may_return: bool,
    limit: Duration,
    found: Instant,
    /// Its executor's status has been written.
    told: AtomicBool,
}

/// A reply's envelope.
#[derive(Deserialize)]
pub(super) struct Reply<T> {
    pub(super) data: T,
}

impl Route {
    /// # Errors
    /// 502 when the executor is gone or has no address.
    pub(super) async fn to_executor(
        store: &Store,
        (peers, patience): (&Arc<Peers>, Duration),
        function: &Function,
    ) -> Result<Self, ApiError> {
        let id = function.function_executor_id.as_str();
        let document =
            EXECUTORS.find(store, id).await?.ok_or_else(|| away(id, "it is no longer registered"))?;
        let address =
            Address::of(store, id, &document).await?.ok_or_else(|| away(id, "it has no address yet"))?;
        let may_return = address.may_return(patience);
        Ok(Self::new(Some(id.to_owned()), address.peer(peers), may_return, function))
    }

    /// # Errors
    /// 503 when no server runs the functions of `local` right now.
    pub(super) async fn to_holder(
        fleet: &Fleet,
        peers: &Arc<Peers>,
        function: &Function,
    ) -> Result<Self, ApiError> {
        let holder = match fleet.tenure() {
            Some(tenure) => tenure.holder().await?,
            None => None,
        };
        let holder = holder.ok_or_else(|| moved(&function.function_id))?;
        Ok(Self::new(None, peers.peer(&holder.address, &holder.token), true, function))
    }

    fn new(executor_id: Option<String>, peer: Peer, may_return: bool, function: &Function) -> Self {
        let limits = function.function_policy_data.get("execution_limits");
        let limit = limits.and_then(|limits| limits.get("timeout_ms")).and_then(Value::as_u64);
        let limit = limit.map_or(Duration::from_secs(30), Duration::from_millis) + ALLOWANCE;
        let peer = peer.header(PASSED_ON, HeaderValue::from_static("1"));
        Self { executor_id, peer, may_return, limit, found: Instant::now(), told: AtomicBool::new(false) }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.age() < FRESH
    }

    /// How long ago it was found.
    pub(super) fn age(&self) -> Duration {
        self.found.elapsed()
    }

    /// Whether a request that was lost on the way may be sent again in a while: nothing of it was carried out, and whoever
    /// runs the function may be on its way back.
    pub(super) const fn may_return(&self, lost: Lost) -> bool {
        lost.is_untouched() && self.may_return
    }

    /// Sends a request.
    pub(super) async fn send(&self, request: (Method, &str), body: Bytes) -> Result<Response<Bytes>, Lost> {
        self.peer.send(request, body, self.limit).await
    }

    /// The error for a process that does not answer; an executor's status follows.
    pub(super) async fn unreachable(&self, store: &Store, lost: Lost) -> ApiError {
        let problem = lost.problem();
        let reason = self.may_return(lost).then(|| json!({"reason": MOVING}));
        let Some(id) = &self.executor_id else {
            return ApiError::new(
                Code::FunctionUnavailable,
                format!(
                    "the server that runs the functions of `local` cannot be reached: {problem}; try again"
                ),
            )
            .details(reason)
            .retry_after(Duration::from_secs(1));
        };
        // Once for all calls that find out: they may be many, and try again.
        if !self.told.swap(true, Ordering::Relaxed)
            && let Err(error) = status::set(store, id, ExecutorStatus::Unreachable).await
        {
            return error;
        }
        away(id, problem).details(reason)
    }
}

fn away(id: &str, problem: &str) -> ApiError {
    ApiError::new(
        Code::ExecutorUnreachable,
        format!("executor `{id}`, which runs this function, cannot be reached: {problem}; start it"),
    )
}

/// The error for a function that is on its way from one server to another.
pub(super) fn moved(name: &str) -> ApiError {
    let name = crate::shorten(name);
    ApiError::new(
        Code::FunctionUnavailable,
        format!("function `{name}` is being taken over by another server; try again"),
    )
    .details(json!({"reason": MOVING}))
    .retry_after(Duration::from_secs(1))
}

/// Whether a call was not carried out because its function is on its way from one server to another, or its executor is being
/// started anew.
pub(super) fn is_moving(error: &ApiError) -> bool {
    matches!(error.code(), Code::FunctionUnavailable | Code::ExecutorUnreachable)
        && error.reason() == Some(MOVING)
}

/// Reads an answer: its body, or the refusal that it holds.
pub(super) fn read<T: DeserializeOwned>(response: &Response<Bytes>) -> Result<T, ApiError> {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        code: String,
        #[serde(default)]
        details: Value,
    }
    let retry_after =
        response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let strange = |error| ApiError::internal(format!("an executor answered what cannot be read: {error}"));
    if response.status().is_success() {
        return serde_json::from_slice(response.body()).map_err(strange);
    }
    let Refusal { message, error } = serde_json::from_slice(response.body()).map_err(strange)?;
    let code = Code::from_text(&error.code).unwrap_or(Code::Internal);
    let refusal = ApiError::new(code, message).details(error.details);
    Err(match retry_after {
        Some(seconds) => refusal.retry_after(Duration::from_secs(seconds)),
        None => refusal,
    })
}
