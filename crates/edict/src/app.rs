//! What the routes of a server share.

use crate::actions::Actions;
use crate::audit::Audit;
use crate::auth::{Scopes, Tokens};
use crate::decisions::Decisions;
use crate::decisions::log::DecisionLog;
use crate::execution::Runner;
use crate::functions::Functions;
use crate::graphs::Graphs;
use crate::http::Peers;
use crate::jobs::Jobs;
use crate::policies::registry::Registry;
use crate::settings::Settings;
use axum::extract::FromRef;
use metrics_exporter_prometheus::PrometheusHandle;
use std::ops::Deref;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Shared state of the policy system; cheap to clone.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

/// What an [`App`] holds.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) registry: Arc<Registry>,
    pub(crate) runner: Arc<Runner>,
    pub(crate) functions: Arc<Functions>,
    pub(crate) graphs: Arc<Graphs>,
    pub(crate) decisions: Arc<Decisions>,
    pub(crate) jobs: Jobs,
    pub(crate) decision_log: Arc<DecisionLog>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) actions: Arc<Actions>,
    pub(crate) http: reqwest::Client,
    pub(crate) peers: Arc<Peers>,
    /// How the outside reaches the policy system, without a slash at the end.
    pub(crate) public_url: String,
    pub(crate) common: Common,
    /// Makes tokens for executors, functions and attempts.
    pub(crate) scopes: Arc<Scopes>,
    /// Cancelled when the server is told to stop: what waits for something to happen answers then.
    pub(crate) stopping: CancellationToken,
}

impl App {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// State of every listener, whatever it serves.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) tokens: Arc<Tokens>,
    /// Largest JSON body in bytes.
    pub(crate) body_limit: BodyLimit,
    pub(crate) metrics: PrometheusHandle,
    /// Cancelled when the process was told to stop, although it still serves.
    pub(crate) leaving: CancellationToken,
}

/// Largest JSON body in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimit(pub(crate) usize);

impl FromRef<App> for Common {
    fn from_ref(app: &App) -> Self {
        app.common.clone()
    }
}

impl FromRef<App> for Arc<Tokens> {
    fn from_ref(app: &App) -> Self {
        Arc::clone(&app.common.tokens)
    }
}

impl FromRef<App> for BodyLimit {
    fn from_ref(app: &App) -> Self {
        app.common.body_limit
    }
}
