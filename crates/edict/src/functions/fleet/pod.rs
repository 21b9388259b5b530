//! The way to one replica in a pod.

use crate::error::{ApiError, Code};
use crate::functions::route::{self, Reply};
use axum::http::{StatusCode, header};
use edict_client::records::{
    ConfirmChanges, FunctionLog, LogRecord, ManageFunction, ManagedReplica, ReplicaState,
};
use edict_runtime::Managed;
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// How long a replica may take to tell about itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a call may take beyond its policy's own time limit.
const ALLOWANCE: Duration = Duration::from_secs(10);

/// A replica in a pod.
pub(crate) struct Pod {
    /// As logs and answers name it.
    pub(super) number: u64,
    /// The pod's name and uid.
    pub(super) name: String,
    pub(super) uid: String,
    base: String,
    token: String,
    limit: Duration,
    http: reqwest::Client,
    /// Calls sent and not answered.
    pub(super) load: AtomicUsize,
    /// It has yet to tell what it was made from.
    asked: AtomicBool,
}

/// Why a call has no answer of the policy.
pub(super) enum Unanswered {
    /// It has not been carried out: another replica may.
    Untouched,
    /// An answer all the same: a refusal, a failure, or a connection that broke in the middle.
    Failed(ApiError),
}

impl Pod {
    pub(super) fn new(
        number: u64,
        (name, uid): (&str, &str),
        (address, port): (IpAddr, u16),
        (token, timeout): (&str, Duration),
        http: &reqwest::Client,
    ) -> Arc<Self> {
        let host = std::net::SocketAddr::new(address, port);
        Arc::new(Self {
            number,
            name: name.to_owned(),
            uid: uid.to_owned(),
            base: format!("http://{host}"),
            token: token.to_owned(),
            limit: timeout + ALLOWANCE,
            http: http.clone(),
            load: AtomicUsize::new(0),
            asked: AtomicBool::new(true),
        })
    }

    /// Whether it has yet to tell what it was made from.
    pub(super) fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// It has told, or failed to.
    pub(super) fn answered(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Acquire)
    }

    /// Evaluates `input`.
    pub(super) async fn call(&self, input: &RawValue) -> Result<Box<RawValue>, Unanswered> {
        let request = self
            .request(Method::POST, "call", self.limit)
            .header(header::CONTENT_TYPE, "application/json")
            .body(input.get().to_owned());
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Err(Unanswered::Untouched),
            Err(error) => return Err(Unanswered::Failed(self.broken(&error))),
        };
        // It is leaving, or not the one that its address belonged to before.
        if matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::SERVICE_UNAVAILABLE) {
            return Err(Unanswered::Untouched);
        }
        let reply: Reply<Box<RawValue>> = route::read(response).await.map_err(Unanswered::Failed)?;
        Ok(reply.data)
    }

    /// Sends a management command.
    pub(super) async fn manage(&self, command: &ManageFunction) -> Result<Managed, ApiError> {
        let request = self.request(Method::POST, "manage", self.limit).json(command);
        let managed: ManagedReplica = self.send(request).await?;
        let ManagedReplica { result, settings, parameters } = managed;
        Ok(Managed { result, settings, parameters })
    }

    /// What it was made from.
    pub(super) async fn state(&self) -> Result<ReplicaState, ApiError> {
        self.send(self.request(Method::GET, "state", PATIENCE)).await
    }

    /// Tells it that it has the changes of management commands up to this version.
    pub(super) async fn confirm(&self, changes_version: u64) -> Result<(), ApiError> {
        let confirmed = ConfirmChanges { changes_version };
        self.send::<ReplicaState>(self.request(Method::PUT, "state", PATIENCE).json(&confirmed))
            .await
            .map(drop)
    }

    /// Its last lines.
    pub(super) async fn logs(&self, lines: usize) -> Result<Vec<FunctionLog>, ApiError> {
        let request = self.request(Method::GET, &format!("logs?limit={lines}"), PATIENCE);
        let records: Vec<LogRecord> = self.send(request).await?;
        Ok(records.into_iter().map(|record| FunctionLog { replica: self.number, record }).collect())
    }

    fn request(&self, method: Method, path: &str, limit: Duration) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}/{path}", self.base)).bearer_auth(&self.token).timeout(limit)
    }

    async fn send<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ApiError> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let reply: Reply<T> = route::read(response).await?;
        Ok(reply.data)
    }

    fn broken(&self, error: &reqwest::Error) -> ApiError {
        let (code, problem) = match error.is_timeout() {
            true => (Code::PolicyTimeout, "did not answer in time"),
            false => (Code::PolicyCrashed, "ended before it answered"),
        };
        ApiError::new(code, format!("the replica in pod `{}` {problem}", self.name))
    }
}
