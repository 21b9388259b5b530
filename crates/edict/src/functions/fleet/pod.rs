//! The way to one replica in a pod.

use crate::error::{ApiError, Code};
use crate::functions::route::{self, Reply};
use crate::http::{Lost, Peer, Peers};
use axum::http::{Method, StatusCode};
use bytes::Bytes;
use edict_client::records::{
    ConfirmChanges, FunctionLog, LogRecord, ManageFunction, ManagedReplica, ReplicaState,
};
use edict_runtime::Managed;
use serde::Serialize;
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
    peer: Peer,
    limit: Duration,
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
        peers: &Arc<Peers>,
    ) -> Arc<Self> {
        let host = std::net::SocketAddr::new(address, port);
        Arc::new(Self {
            number,
            name: name.to_owned(),
            uid: uid.to_owned(),
            peer: peers.peer(&format!("http://{host}"), token),
            limit: timeout + ALLOWANCE,
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
        let body = Bytes::copy_from_slice(input.get().as_bytes());
        let response = match self.peer.send((Method::POST, "/call"), body, self.limit).await {
            Ok(response) => response,
            // Also one that is not the one which its address belonged to before.
            Err(lost) if lost.is_untouched() => return Err(Unanswered::Untouched),
            Err(lost) => return Err(Unanswered::Failed(self.broken(lost))),
        };
        // It is leaving.
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            return Err(Unanswered::Untouched);
        }
        let reply: Reply<Box<RawValue>> = route::read(&response).map_err(Unanswered::Failed)?;
        Ok(reply.data)
    }

    /// Sends a management command.
    pub(super) async fn manage(&self, command: &ManageFunction) -> Result<Managed, ApiError> {
        let managed: ManagedReplica =
            self.send((Method::POST, "/manage"), json(command)?, self.limit).await?;
        let ManagedReplica { result, settings, parameters } = managed;
        Ok(Managed { result, settings, parameters })
    }

    /// What it was made from.
    pub(super) async fn state(&self) -> Result<ReplicaState, ApiError> {
        self.send((Method::GET, "/state"), Bytes::new(), PATIENCE).await
    }

    /// Tells it that it has the changes of management commands up to this version.
    pub(super) async fn confirm(&self, changes_version: u64) -> Result<(), ApiError> {
        let confirmed = json(&ConfirmChanges { changes_version })?;
        self.send::<ReplicaState>((Method::PUT, "/state"), confirmed, PATIENCE).await.map(drop)
    }

    /// Its last lines.
    pub(super) async fn logs(&self, lines: usize) -> Result<Vec<FunctionLog>, ApiError> {
        let path = format!("/logs?limit={lines}");
        let records: Vec<LogRecord> = self.send((Method::GET, &path), Bytes::new(), PATIENCE).await?;
        Ok(records.into_iter().map(|record| FunctionLog { replica: self.number, record }).collect())
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: (Method, &str),
        body: Bytes,
        limit: Duration,
    ) -> Result<T, ApiError> {
        let sent = self.peer.send(request, body, limit).await;
        let reply: Reply<T> = route::read(&sent.map_err(|lost| self.broken(lost))?)?;
        Ok(reply.data)
    }

    fn broken(&self, lost: Lost) -> ApiError {
        let (code, problem) = match lost {
            Lost::Late => (Code::PolicyTimeout, "did not answer in time"),
            Lost::Unsent | Lost::NotLetIn | Lost::Broken => (Code::PolicyCrashed, "ended before it answered"),
        };
        ApiError::new(code, format!("the replica in pod `{}` {problem}", self.name))
    }
}

fn json(body: &impl Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(ApiError::internal)
}
