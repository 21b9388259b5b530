//! The action executor: carries out on the cluster what is signed, sane, allowed and not too often, and leaves a trail of
//! everything that was asked for.
//!
//! A request passes through the files in this order: [`request`] (what was sent), [`signature`] and [`nonces`] (by whom),
//! [`parameters`] (what for), [`engine`] (whether it may be), [`limits`] (how often), [`cluster`] (on what); [`flow`] is the
//! order itself. [`recovery`] ends what servers that are gone left behind.

mod attempt;
mod cluster;
mod counters;
mod engine;
pub(crate) mod execute;
mod flow;
pub(crate) mod generate_signature;
mod json;
mod limits;
mod nonces;
mod number;
mod parameters;
mod recovery;
mod request;
mod signature;

pub(crate) use recovery::SWEEP;

use crate::audit::Audit;
use crate::decisions::Decisions;
use crate::error::ApiError;
use crate::settings::Settings;
use crate::store::Store;
use cluster::Clusters;
use engine::Engine;
use nonces::Nonces;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The action executor of one server.
pub(crate) struct Actions {
    settings: Settings,
    audit: Arc<Audit>,
    engine: Engine,
    clusters: Clusters,
    nonces: Nonces,
    /// What is under way: callers may go away, their actions are carried through.
    running: TaskTracker,
    /// Cancelled when the server is told to stop: nobody waits for workloads any longer then.
    stopping: CancellationToken,
}

impl Actions {
    /// # Errors
    /// When there can be no client for HTTP.
    pub(crate) fn new(
        settings: &Settings,
        store: Store,
        audit: Arc<Audit>,
        decisions: Arc<Decisions>,
    ) -> Result<Self, reqwest::Error> {
        counters::begin(&settings.allowed_namespaces);
        if settings.jwt_secret.given().is_none() {
            match settings.bind.is_loopback() {
                true => tracing::warn!(
                    "actions need no signature, and whoever reaches this machine's loopback may ask for them: set \
                     `jwt_secret` (JWT_SECRET)"
                ),
                false => tracing::warn!("actions are refused until `jwt_secret` (JWT_SECRET) is set"),
            }
        }
        Ok(Self {
            audit,
            engine: Engine::new(settings, decisions)?,
            clusters: Clusters::new(settings),
            nonces: Nonces::new(store, settings),
            running: TaskTracker::new(),
            stopping: CancellationToken::new(),
            settings: settings.clone(),
        })
    }

    /// Lets what is under way come to its end, for the grace time at most; what is cut off then is ended by
    /// [`recovery`], here after the next start or by another server before.
    pub(crate) async fn stop(&self, grace: Duration) {
        self.stopping.cancel();
        self.running.close();
        if tokio::time::timeout(grace, self.running.wait()).await.is_err() {
            tracing::warn!("actions were still running at the end of the grace time");
        }
    }

    /// Forgets nonces that nobody can use any longer.
    pub(crate) async fn sweep_nonces(&self) -> Result<(), ApiError> {
        self.nonces.sweep().await
    }
}
