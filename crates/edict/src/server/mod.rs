//! `edict serve`: puts the parts together, serves until told to stop, and stops without losing anything.

mod chores;
mod listen;

pub(crate) use listen::{Listeners, Ready, stop_signal};

use crate::actions::Actions;
use crate::app::{App, BodyLimit, Common, Shared};
use crate::assets::storage::{Storage, StorageError};
use crate::audit::Audit;
use crate::auth::{Role, Scopes, Tokens};
use crate::decisions::log::DecisionLog;
use crate::decisions::{self, Decisions};
use crate::error::ApiError;
use crate::execution::{Home, Runner, StartError, start_tools};
use crate::executors::wake::Wakes;
use crate::executors::{self, LOCAL};
use crate::functions::Functions;
use crate::functions::fleet::Fleet;
use crate::functions::fleet::tenure::Tenure;
use crate::graphs::Graphs;
use crate::http::Peers;
use crate::jobs::Jobs;
use crate::jobs::queue::Queue;
use crate::jobs::source::Source;
use crate::jobs::worker::{Backend, Worker};
use crate::notify::Notifier;
use crate::policies::registry::{Parts, Registry};
use crate::settings::{Settings, SettingsError};
use crate::store::{OpenError, Store};
use crate::{allocation, router, telemetry};
use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Database(#[from] OpenError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Runtime(#[from] StartError),
    #[error(transparent)]
    Decisions(#[from] decisions::OpenError),
    #[error("cannot listen on {address}: {source}; stop what listens there, or choose another port")]
    Listen { address: String, source: std::io::Error },
    #[error("cannot keep a log of decisions in the data folder: {0}")]
    DecisionLog(std::io::Error),
    #[error("cannot write the ready file: {0}")]
    ReadyFile(std::io::Error),
    #[error("cannot collect metrics: {0}")]
    Metrics(#[from] BuildError),
    #[error("cannot make a client for HTTP: {0}")]
    Http(#[from] reqwest::Error),
    #[error("{0}")]
    Registration(String),
}

impl From<ApiError> for ServeError {
    fn from(error: ApiError) -> Self {
        Self::Registration(error.message().to_owned())
    }
}

/// Serves the policy system, the policy engine and the action executor until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start.
pub(crate) async fn serve(settings: Settings, ready_file: Option<&Path>) -> Result<(), ServeError> {
    settings.check_protection()?;
    let metrics = telemetry::start_metrics()?;
    let listeners = Listeners::bind(&settings, &["system", "engine", "actions"]).await?;
    let (store, lock) = Store::open(&settings).await?;
    let app = build(&settings, store.clone(), metrics, &listeners.url("system")).await?;
    let hardware = executors::hardware::info(&settings.node_labels, settings.max_replicas);
    executors::heartbeat::register_local(&store, &app.public_url, hardware).await?;
    allocation::register_default(&app.registry).await?;
    app.jobs.queue.take_over_local().await?;
    // Before the first request: an action announced by a server that never said that it lives would count as left behind.
    app.audit.renew().await?;
    let worker = tokio::spawn(Arc::clone(&app.jobs.worker).work());
    let mut chores = chores::start(&app);
    if let Some(notifier) = Notifier::new(&settings, store.clone(), Arc::clone(&app.audit))? {
        chores.spawn(notifier.run());
    }

    let routers =
        vec![router::system(app.clone()), router::engine(app.clone()), router::actions(app.clone())];
    let stop = stop_signal();
    let serving = listeners.serve(routers, settings.shutdown_grace());
    let ready = Ready::announce(&serving, ready_file).map_err(ServeError::ReadyFile)?;

    stop.await;
    tracing::info!("stopping: finishing what runs");
    drop(ready);
    leave(&settings, &app.common).await;
    app.stopping.cancel();
    let grace = settings.shutdown_grace();
    tokio::join!(serving.stop(), app.jobs.worker.stop(grace), app.actions.stop(grace));
    worker.abort();
    chores.abort_all();
    app.audit.leave().await;
    app.functions.fleet.stop(grace).await;
    app.runner.tools.runtime.stop(grace).await;
    if let Err(error) = app.graphs.flush().await {
        tracing::error!(error = error.message(), "the last runs of graphs were not recorded");
    }
    app.decision_log.stop(grace).await;
    store.close().await;
    drop(lock);
    tracing::info!("stopped");
    Ok(())
}

async fn build(
    settings: &Settings,
    store: Store,
    metrics: PrometheusHandle,
    system_url: &str,
) -> Result<App, ServeError> {
    let public_url = match settings.public_url.as_str() {
        "" => system_url.to_owned(),
        url => url.trim_end_matches('/').to_owned(),
    };
    let own_urls = vec![public_url.clone(), system_url.to_owned()];
    // Other servers on the same database present this token when they pass calls on. Where there are no tokens, all are
    // on loopback, and none is asked for.
    let token = random_token();
    let tokens = match settings.auth_tokens.is_empty() {
        true => settings.auth_tokens.clone(),
        false => settings.auth_tokens.clone().with(&token, Role::Operator),
    };
    let address = match settings.executor_url.as_str() {
        // Listening everywhere, it is reached from this machine as `127.0.0.1`, which other machines call themselves.
        "" if settings.bind.is_unspecified() => {
            system_url.replace("127.0.0.1", &executors::hardware::host_name())
        }
        "" => system_url.to_owned(),
        url => url.to_owned(),
    };
    let tenure = Tenure::new(store.clone(), address, token);
    let scopes = Arc::new(Scopes::open(store.clone()).await?);
    let tokens = tokens.with_scopes(Arc::clone(&scopes));
    let (registry, runner) = assemble(settings, store.clone(), &settings.data_dir, own_urls).await?;
    let common = common(settings, tokens, metrics);
    let peers = Peers::new(registry.http.clone());
    let wakes = Wakes::new(store.clone(), Arc::clone(&peers));
    let home = Arc::clone(&runner.home);
    let fleet = Fleet::new((Arc::clone(&runner), None), home, Some(tenure), wakes.local.clone(), settings);
    let log = DecisionLog::open(settings, store.clone()).map_err(ServeError::DecisionLog)?;
    let decision_log = Arc::new(log);
    let log = Arc::clone(&decision_log);
    let decisions = Decisions::open(settings, store.clone(), Arc::clone(&runner), log).await?;
    let (decisions, audit) = (Arc::new(decisions), Arc::new(Audit::new(store.clone(), settings)));
    let actions = Actions::new(settings, store.clone(), Arc::clone(&audit), Arc::clone(&decisions))?;
    let queue = Queue::new(store, Arc::clone(&wakes));
    let source = Source::Queue(Arc::clone(&queue));
    let worker = Worker::new(
        source,
        Backend::Processes(Arc::clone(&runner)),
        LOCAL,
        settings.max_jobs,
        wakes.local.clone(),
    );
    Ok(App::new(Shared {
        settings: settings.clone(),
        http: registry.http.clone(),
        peers: Arc::clone(&peers),
        functions: Arc::new(Functions::new(
            Arc::clone(&registry),
            fleet,
            wakes,
            (peers, settings.executor_patience()),
        )),
        graphs: Arc::new(Graphs::new(registry.store.clone())),
        decisions,
        audit,
        actions: Arc::new(actions),
        runner,
        registry,
        jobs: Jobs { queue, worker },
        decision_log,
        public_url,
        common,
        scopes,
        stopping: CancellationToken::new(),
    }))
}

/// A registry and the executor built into it. `own` is a folder for this process alone.
///
/// # Errors
/// When the storage of assets or the runtime cannot start.
pub(crate) async fn assemble(
    settings: &Settings,
    store: Store,
    own: &Path,
    own_urls: Vec<String>,
) -> Result<(Arc<Registry>, Arc<Runner>), ServeError> {
    let (tools, home) = start_tools(settings, &settings.data_dir.join("cache"), own).await?;
    let registry = Arc::new(Registry::new(Parts {
        store,
        storage: Storage::open(settings)?,
        limits: settings.bundle_limits(),
        own_urls,
        http: reqwest::Client::builder().user_agent(concat!("edict/", env!("CARGO_PKG_VERSION"))).build()?,
        runtime: Arc::clone(&tools.runtime),
        executor_id: LOCAL.to_owned(),
        max_warm: settings.max_warm,
    }));
    let home = home.set(Home::Registry(Arc::clone(&registry)));
    Ok((registry, Arc::new(Runner::new(tools, home, settings))))
}

/// A token that processes agree on by themselves.
pub(crate) fn random_token() -> String {
    format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple())
}

/// State of every listener.
pub(crate) fn common(settings: &Settings, tokens: Tokens, metrics: PrometheusHandle) -> Common {
    Common {
        tokens: Arc::new(tokens),
        body_limit: BodyLimit(settings.max_body_mb << 20),
        metrics,
        leaving: CancellationToken::new(),
    }
}

/// Serves on for a while after SIGTERM, and says that it will not for long: whoever spreads requests over servers goes by
/// `/readyz`, and callers that keep connections are told with each reply to open the next one elsewhere. Without it,
/// requests that are on their way when the door shuts are lost.
pub(crate) async fn leave(settings: &Settings, common: &Common) {
    common.leaving.cancel();
    tokio::time::sleep(settings.drain()).await;
}
