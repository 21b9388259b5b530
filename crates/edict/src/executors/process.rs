//! `edict executor`: an executor that is a process of its own. It registers with the policy system, tells it that it is
//! alive, and runs what is sent to it.

use super::execute::{Answer, Options};
use super::pods::Pods;
use super::remote::EDITION;
use super::wake::Bell;
use super::{hardware, status};
use crate::app::{BodyLimit, Common};
use crate::auth::{Operator, Role, Tokens};
use crate::error::{ApiError, Code, ErrorBody};
use crate::execution::{Home, Runner, start_tools};
use crate::functions::fleet::Fleet;
use crate::http::{Body, Data, Parameters};
use crate::jobs::cluster::Cluster;
use crate::jobs::source::Source;
use crate::jobs::worker::{self, Worker};
use crate::policies::record::check_name;
use crate::server::{Listeners, Ready, ServeError, common, leave, random_token, stop_signal};
use crate::settings::{Backend, Settings};
use crate::{router, telemetry};
use axum::Json;
use axum::extract::{FromRef, State};
use axum::http::HeaderMap;
use edict_client::records::{ExecutePolicy, ExecutorStatus, Heartbeat, Manage, Object};
use edict_client::{Client, Error};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a start waits for the same id to become free: a predecessor that was killed counts as alive for a while.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a cluster's nodes are looked at.
const NODES: Duration = Duration::from_secs(60);

/// State of an executor's routes.
#[derive(Clone)]
pub(crate) struct ExecutorApp {
    runner: Arc<Runner>,
    pub(crate) fleet: Arc<Fleet>,
    bell: Bell,
    common: Common,
}

impl ExecutorApp {
    pub(crate) fn common(&self) -> Common {
        self.common.clone()
    }
}

impl FromRef<ExecutorApp> for Arc<Tokens> {
    fn from_ref(app: &ExecutorApp) -> Self {
        Arc::clone(&app.common.tokens)
    }
}

impl FromRef<ExecutorApp> for BodyLimit {
    fn from_ref(app: &ExecutorApp) -> Self {
        app.common.body_limit
    }
}

/// Runs a policy once, statelessly.
#[utoipa::path(
    post,
    path = "/execute_policy",
    params(Options),
    request_body = ExecutePolicy,
    responses((status = 200, body = Answer), (status = "default", body = ErrorBody))
)]
pub(crate) async fn execute_policy(
    _: Operator,
    State(app): State<ExecutorApp>,
    Parameters(options): Parameters<Options>,
    headers: HeaderMap,
    Body(request): Body<ExecutePolicy>,
) -> Result<Json<Answer>, ApiError> {
    let finished = app.runner.execute(request, edition(&headers)).await?;
    Ok(Json(Answer::new(finished, options)))
}

/// Sends a policy a management command; what it changes is kept for later runs on this executor.
#[utoipa::path(
    post,
    path = "/execute_mgmt_command",
    params(Options),
    request_body = Manage,
    responses((status = 200, body = Answer), (status = "default", body = ErrorBody))
)]
pub(crate) async fn execute_mgmt_command(
    _: Operator,
    State(app): State<ExecutorApp>,
    Parameters(options): Parameters<Options>,
    headers: HeaderMap,
    Body(request): Body<Manage>,
) -> Result<Json<Answer>, ApiError> {
    let finished = app.runner.manage(request, edition(&headers)).await?;
    Ok(Json(Answer::new(finished, options)))
}

/// Tells the executor that the policy system has something for it.
#[utoipa::path(
    post,
    path = "/wake",
    responses((status = 200, body = Object), (status = "default", body = ErrorBody))
)]
pub(crate) async fn wake(_: Operator, State(app): State<ExecutorApp>) -> Data<Object> {
    app.bell.ring();
    Data::new(Object::new())
}

fn edition(headers: &HeaderMap) -> Option<&str> {
    headers.get(EDITION)?.to_str().ok()
}

/// Runs an executor until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or another executor has its id.
pub(crate) async fn run(settings: Settings, ready_file: Option<&Path>) -> Result<(), ServeError> {
    let id = match settings.executor_id.as_str() {
        "" => hardware::host_name(),
        id => id.to_owned(),
    };
    check_name("executor_id", &id)?;
    let metrics = telemetry::start_metrics()?;
    let listeners = Listeners::bind(&settings, &["executor"]).await?;
    let address = advertised(&settings, &listeners)?;
    let client = client(&settings)?;
    // Several executors may share a data folder, and its caches.
    let own = settings.data_dir.join(format!("executor-{id}"));
    let (tools, home) = start_tools(&settings, &settings.data_dir.join("cache"), &own).await?;
    let home = home.set(Home::remote(client.clone(), id.clone(), settings.max_warm));
    let runner = Arc::new(Runner::new(tools, Arc::clone(&home), &settings));
    // Whoever has this token may run policies here; only the policy system learns it.
    let token = random_token();
    let tokens = settings.auth_tokens.clone().with(&token, Role::Operator);
    let bell = Bell::default();
    let pods = match settings.backend {
        Backend::Process => None,
        Backend::Kubernetes => Some(Pods::open(&settings, &id).await?),
    };
    let fleet = Fleet::new((Arc::clone(&runner), pods.clone()), home, None, bell.clone(), &settings);
    let source = Source::Remote(client.clone());
    let carrier = match &pods {
        None => worker::Backend::Processes(Arc::clone(&runner)),
        Some(pods) => worker::Backend::Cluster(Cluster::new(Arc::clone(pods), client.clone())),
    };
    let worker = Worker::new(source, carrier, &id, settings.max_jobs, bell.clone());
    let common = common(&settings, tokens, metrics);
    let app =
        ExecutorApp { runner: Arc::clone(&runner), fleet: Arc::clone(&fleet), bell, common: common.clone() };
    let serving = listeners.serve(vec![router::executor(app)], settings.shutdown_grace());

    let heartbeat = Heartbeat {
        instance_id: uuid::Uuid::new_v4().to_string(),
        executor_host_uri: address,
        executor_token: token,
        executor_status: ExecutorStatus::Healthy,
        executor_metadata: Object::new(),
        executor_hardware_info: match &pods {
            None => hardware::info(&settings.node_labels, settings.max_replicas),
            Some(pods) => pods.hardware().await.unwrap_or_default(),
        },
        executor_load: None,
    };
    let mut stop = pin!(stop_signal());
    tokio::select! {
        registered = register(&client, &id, &heartbeat) => registered?,
        () = &mut stop => return Ok(()),
    }
    let working = tokio::spawn(Arc::clone(&worker).work());
    let ready = Ready::announce(&serving, ready_file).map_err(ServeError::ReadyFile)?;
    let result = tokio::select! {
        result = keep_alive(&client, &id, heartbeat.clone(), (&runner, pods.as_deref())) => result,
        () = Arc::clone(&fleet).run() => Ok(()),
        () = stop => Ok(()),
    };
    tracing::info!("stopping: finishing what runs");
    drop(ready);
    leave(&settings, &common).await;
    let goodbye = Heartbeat { executor_status: ExecutorStatus::Unreachable, ..heartbeat };
    tokio::time::timeout(Duration::from_secs(2), client.heartbeat(&id, &goodbye)).await.ok();
    let grace = settings.shutdown_grace();
    tokio::join!(serving.stop(), worker.stop(grace));
    working.abort();
    fleet.stop(grace).await;
    runner.tools.runtime.stop(grace).await;
    result
}

/// What the policy system is told of how to reach this process; None when it knows better.
fn advertised(settings: &Settings, listeners: &Listeners) -> Result<Option<String>, ServeError> {
    match settings.executor_url.as_str() {
        // Whoever made the Service in front of this pod has recorded where that is.
        "" if settings.bind.is_unspecified() && settings.backend == Backend::Kubernetes => Ok(None),
        "" if settings.bind.is_unspecified() => Err(ServeError::Registration(
            "set `executor_url`: the policy system cannot guess how to reach an executor that listens everywhere"
                .to_owned(),
        )),
        "" => Ok(Some(listeners.url("executor"))),
        url => {
            super::record::check_host(url)?;
            Ok(Some(url.to_owned()))
        }
    }
}

/// The way to the policy system, as the settings tell it.
pub(crate) fn client(settings: &Settings) -> Result<Client, ServeError> {
    let builder = Client::builder(&settings.server_url).timeout(Duration::from_secs(60));
    let builder = match settings.server_token.given() {
        Some(token) => builder.token(token).map_err(|error| ServeError::Registration(error.to_string()))?,
        None => builder,
    };
    builder.build().map_err(|error| ServeError::Registration(error.to_string()))
}

/// Registers, waiting for a policy system that does not answer yet and for an id that is not free yet.
async fn register(client: &Client, id: &str, heartbeat: &Heartbeat) -> Result<(), ServeError> {
    let started = Instant::now();
    loop {
        match client.heartbeat(id, heartbeat).await {
            Ok(()) => return Ok(()),
            Err(Error::Api(error))
                if error.code != Code::ExecutorTaken.as_str() || started.elapsed() > PATIENCE =>
            {
                return Err(ServeError::Registration(error.message));
            }
            Err(error) => tracing::warn!(%error, "cannot register with the policy system yet, trying again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Sends heartbeats for as long as the id is ours.
async fn keep_alive(
    client: &Client,
    id: &str,
    mut heartbeat: Heartbeat,
    (runner, pods): (&Runner, Option<&Pods>),
) -> Result<(), ServeError> {
    let mut ticks = tokio::time::interval(status::INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut looked = Instant::now();
    loop {
        ticks.tick().await;
        // Nodes come and go.
        if let Some(pods) = pods.filter(|_| looked.elapsed() > NODES) {
            looked = Instant::now();
            if let Some(hardware) = pods.hardware().await {
                heartbeat.executor_hardware_info = hardware;
            }
        }
        runner.gauge();
        let executor_status = if runner.is_full() { ExecutorStatus::Busy } else { ExecutorStatus::Healthy };
        let executor_load = Some(runner.load());
        let heartbeat = Heartbeat { executor_status, executor_load, ..heartbeat.clone() };
        match client.heartbeat(id, &heartbeat).await {
            Ok(()) => {}
            Err(Error::Api(error)) if error.code == Code::ExecutorTaken.as_str() => {
                return Err(ServeError::Registration(error.message));
            }
            Err(error) => tracing::warn!(%error, "the policy system did not take the heartbeat"),
        }
    }
}
