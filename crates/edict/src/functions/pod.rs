//! `edict function`: one replica of a function, in a process of its own: a pod. It makes the instance, says that it is ready,
//! and serves calls and management commands of its executor until it is told to stop or the instance ends.

use super::call::{input, output};
use super::logs::Limit;
use super::record;
use crate::app::{BodyLimit, Common};
use crate::auth::{Operator, Role, Tokens};
use crate::error::{ApiError, Code, ErrorBody};
use crate::execution::{Home, Tools, describe, log_record, relay, start_tools};
use crate::executors::process;
use crate::functions::context;
use crate::health;
use crate::http::{Body, Data, Parameters, RawBody, Reply};
use crate::server::{Listeners, ServeError, common, leave, stop_signal};
use crate::settings::Settings;
use crate::{router, telemetry};
use axum::extract::{FromRef, State};
use axum::response::{IntoResponse, Response};
use edict_client::records::{
    ConfirmChanges, Function, FunctionChanges, LogRecord, ManageFunction, ManagedReplica, ReplicaState,
    RunFault,
};
use edict_client::{Client, Error};
use edict_runtime::{Birth, Pool, Replica};
use serde_json::value::to_raw_value;
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Between two tries to reach the policy system.
const AGAIN: Duration = Duration::from_secs(1);
/// Lines that are kept for who asks.
const LINES: usize = 1000;
/// Calls that may wait here: its executor sends few ahead.
const QUEUE: usize = 64;
/// Where Kubernetes reads why a container ended.
const LAST_WORDS: &str = "/dev/termination-log";
/// What calls under way get beyond their time limit.
const GRACE: Duration = Duration::from_secs(5);

/// State of a replica's routes.
#[derive(Clone)]
pub(crate) struct ReplicaApp {
    live: Arc<OnceLock<Live>>,
    lines: Arc<Mutex<VecDeque<LogRecord>>>,
    common: Common,
}

/// A replica that takes calls.
struct Live {
    uri: String,
    pool: Arc<Pool>,
    replica: Arc<Replica>,
    edition: String,
    /// The version of the changes by management commands that it has.
    changes_version: AtomicU64,
    grace: Duration,
}

impl ReplicaApp {
    pub(crate) fn common(&self) -> Common {
        self.common.clone()
    }

    fn live(&self) -> Result<&Live, ApiError> {
        self.live.get().ok_or_else(|| {
            ApiError::new(Code::FunctionUnavailable, "this replica is not ready yet; try again")
        })
    }
}

impl FromRef<ReplicaApp> for Arc<Tokens> {
    fn from_ref(app: &ReplicaApp) -> Self {
        Arc::clone(&app.common.tokens)
    }
}

impl FromRef<ReplicaApp> for BodyLimit {
    fn from_ref(app: &ReplicaApp) -> Self {
        app.common.body_limit
    }
}

/// `GET /readyz`: its instance is made, and it was not told to stop.
pub(crate) async fn ready(State(app): State<ReplicaApp>) -> Result<impl IntoResponse, ApiError> {
    app.live()?;
    health::ready(State(app.common)).await
}

/// Calls the function on this replica. The body is the input itself; `data` of the reply is what `eval` returned.
#[utoipa::path(
    post,
    path = "/call",
    request_body = Object,
    responses((status = 200, body = Reply<Object>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn call(
    _: Operator,
    State(app): State<ReplicaApp>,
    RawBody(body): RawBody,
) -> Result<Response, ApiError> {
    let live = app.live()?;
    let answer = live.pool.call(&input(&body)?).await.map_err(|error| describe(&live.uri, error))?;
    Ok(output(&answer))
}

/// Sends this replica a management command; its executor sees to the others.
#[utoipa::path(
    post,
    path = "/manage",
    request_body = ManageFunction,
    responses((status = 200, body = Reply<ManagedReplica>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn manage(
    _: Operator,
    State(app): State<ReplicaApp>,
    Body(command): Body<ManageFunction>,
) -> Result<Data<ManagedReplica>, ApiError> {
    let live = app.live()?;
    let data = to_raw_value(&command.data).map_err(ApiError::internal)?;
    let managed = live.replica.manage(&command.action, &data).await;
    let managed = managed.map_err(|error| describe(&live.uri, error))?;
    let (result, settings, parameters) = (managed.result, managed.settings, managed.parameters);
    Ok(Data::new(ManagedReplica { result, settings, parameters }))
}

impl Live {
    fn state(&self) -> ReplicaState {
        let changes_version = self.changes_version.load(Ordering::SeqCst);
        ReplicaState { edition: self.edition.clone(), changes_version }
    }
}

/// What this replica was made from, and has been told since.
#[utoipa::path(
    get,
    path = "/state",
    responses((status = 200, body = Reply<ReplicaState>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn state(
    _: Operator,
    State(app): State<ReplicaApp>,
) -> Result<Data<ReplicaState>, ApiError> {
    Ok(Data::new(app.live()?.state()))
}

/// Tells this replica which management commands' changes it has: their version is known only after the first replica has
/// carried one out.
#[utoipa::path(
    put,
    path = "/state",
    request_body = ConfirmChanges,
    responses((status = 200, body = Reply<ReplicaState>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn confirm(
    _: Operator,
    State(app): State<ReplicaApp>,
    Body(confirmed): Body<ConfirmChanges>,
) -> Result<Data<ReplicaState>, ApiError> {
    let live = app.live()?;
    live.changes_version.fetch_max(confirmed.changes_version, Ordering::SeqCst);
    Ok(Data::new(live.state()))
}

/// The last lines that this replica printed and logged, the oldest first.
#[utoipa::path(
    get,
    path = "/logs",
    params(Limit),
    responses((status = 200, body = Reply<Vec<LogRecord>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn logs(
    _: Operator,
    State(app): State<ReplicaApp>,
    Parameters(limit): Parameters<Limit>,
) -> Result<Data<Vec<LogRecord>>, ApiError> {
    let limit = limit.lines()?;
    let lines = app.lines.lock().unwrap_or_else(PoisonError::into_inner);
    let skip = lines.len().saturating_sub(limit);
    Ok(Data::new(lines.iter().skip(skip).cloned().collect()))
}

/// Serves one replica of a function until SIGTERM or SIGINT.
///
/// # Errors
/// When the instance cannot be made, or has ended by itself: whoever runs this starts it again.
pub(crate) async fn run(settings: Settings, name: &str) -> Result<(), ServeError> {
    if !settings.bind.is_loopback() && settings.call_token.given().is_none() {
        return Err(ServeError::Registration(
            "set `call_token` (EDICT_CALL_TOKEN): whoever calls this replica must present it".to_owned(),
        ));
    }
    let metrics = telemetry::start_metrics()?;
    let client = process::client(&settings)?;
    let tokens = match settings.call_token.given() {
        Some(token) => Tokens::default().with(token, Role::Operator),
        None => Tokens::default(),
    };
    let app = ReplicaApp {
        live: Arc::default(),
        lines: Arc::default(),
        common: common(&settings, tokens, metrics),
    };
    let listeners = Listeners::bind(&settings, &["function"]).await?;
    let (cache, own) = (settings.data_dir.join("cache"), settings.data_dir.join("function"));
    let (tools, home) = start_tools(&settings, &cache, &own).await?;
    let home = home.set(Home::remote(client.clone(), settings.executor_id.clone(), 1));
    let serving = listeners.serve(vec![router::replica(app.clone())], settings.shutdown_grace());
    let mut stop = pin!(stop_signal());
    let born = tokio::select! {
        born = bear(&client, &home, &tools, name, &app) => born,
        () = &mut stop => return Ok(()),
    };
    let live = match born {
        Ok(live) => app.live.get_or_init(|| live),
        Err(error) => return Err(last_words(error)),
    };
    tracing::info!(function = name, "ready for calls");
    let ended = tokio::select! {
        how = live.replica.ended() => Some(how),
        () = stop => None,
    };
    if let Some(how) = ended {
        let fault = describe(&live.uri, edict_runtime::Fault::Crashed { how }.into());
        return Err(last_words(fault));
    }
    // It goes on for a while: its executor hears of its leaving by way of the cluster.
    leave(&settings, &app.common).await;
    let finish = async {
        live.pool.retire(&live.replica, live.grace).await;
        live.pool.close();
    };
    tokio::join!(serving.stop(), finish);
    tools.runtime.stop(Duration::ZERO).await;
    Ok(())
}

/// Reads what to run, and makes the instance.
async fn bear(
    client: &Client,
    home: &Home,
    tools: &Tools,
    name: &str,
    app: &ReplicaApp,
) -> Result<Live, ApiError> {
    let (function, changes) = read(client, name).await?;
    let (edition, changes_version) = (record::edition(&function), AtomicU64::new(changes.version));
    let compiled = record::compile(&function, changes)?;
    let digest = compiled.digest.clone().unwrap_or_default();
    let prepared = tools.prepare(&compiled, &digest, home.function_code(name, &digest)).await?;
    let lines = Arc::clone(&app.lines);
    let birth = Birth {
        settings: compiled.settings.with(None, &compiled.uri)?,
        parameters: compiled.parameters.with(None, &compiled.uri)?,
        scope: context::scope(name),
        log: Arc::new(move |record| {
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() == LINES {
                lines.pop_front();
            }
            lines.push_back(log_record(record.clone()));
        }),
    };
    let replica = tools.runtime.start_replica(&prepared, birth).await;
    let replica = replica.map_err(|error| describe(&compiled.uri, error))?;
    let limit = compiled.limits.timeout_ms.map_or(Duration::from_secs(30), Duration::from_millis);
    let pool = Pool::new(QUEUE, limit + GRACE);
    pool.add(Arc::clone(&replica));
    Ok(Live { uri: compiled.uri, pool, replica, edition, changes_version, grace: limit + GRACE })
}

/// Waits for a policy system that does not answer yet.
async fn read(client: &Client, name: &str) -> Result<(Function, FunctionChanges), ApiError> {
    let started = Instant::now();
    loop {
        match client.assigned_function(name).await {
            Ok(read) => return Ok(read),
            Err(error @ Error::Api(_)) => return Err(relay(error)),
            Err(error) => {
                tracing::warn!(%error, waited = ?started.elapsed(), "the policy system does not answer yet")
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Leaves word of why this ends where the executor finds it.
fn last_words(error: ApiError) -> ServeError {
    let message = error.message().to_owned();
    let mut fault = RunFault::from(error);
    // Kubernetes keeps four kilobytes of it.
    if fault.details.to_string().len() > 2048 {
        fault.details = serde_json::Value::Null;
    }
    if let Ok(text) = serde_json::to_string(&fault) {
        std::fs::write(LAST_WORDS, text).ok();
    }
    ServeError::Registration(message)
}
