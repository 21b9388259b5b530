//! `POST /wake` on an executor's listener: there is something to do.

use super::process::ExecutorApp;
use super::{EXECUTORS, LOCAL};
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::Data;
use crate::store::{Statement, Store};
use axum::extract::State;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use edict_client::records::{Executor, Object};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// An executor that does not answer within this time finds out by itself.
const LIMIT: Duration = Duration::from_secs(2);

/// Tells this executor that there is something to do.
#[utoipa::path(
    post,
    path = "/wake",
    responses((status = 200, body = Reply<Object>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn woken(_: Operator, State(app): State<ExecutorApp>) -> Data<Object> {
    app.fleet.wake();
    app.bell.ring();
    Data::new(Object::new())
}

/// Tells an executor that there is something to do. Nobody waits for it: executors look by themselves, too, so that one
/// that is not reached is only later.
pub(crate) fn wake(store: &Store, http: &reqwest::Client, id: &str) {
    let (store, http, id) = (store.clone(), http.clone(), id.to_owned());
    tokio::spawn(async move {
        if let Err(error) = send(&store, &http, &id).await {
            tracing::debug!(executor = id, error = error.message(), "the executor was not woken");
        }
    });
}

async fn send(store: &Store, http: &reqwest::Client, id: &str) -> Result<(), ApiError> {
    let document = EXECUTORS.get(store, id).await?;
    let executor: Executor = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
    let Some(host) = executor.executor_host_uri else { return Ok(()) };
    let sql = "SELECT token FROM heartbeats WHERE executor_id = $1";
    let row = store.fetch_one::<(String,)>(Statement::new(sql).bind(id)).await?;
    let (token,) = row.unwrap_or_default();
    let request = http.post(format!("{}/wake", host.trim_end_matches('/'))).timeout(LIMIT).bearer_auth(token);
    // Whether it took the call shows in what it does.
    drop(request.send().await);
    Ok(())
}

/// How often executors look by themselves whether there are jobs for them.
pub(crate) const LOOK: Duration = Duration::from_secs(2);

/// Wakes those who work for one executor.
#[derive(Clone, Default)]
pub(crate) struct Bell(Arc<watch::Sender<()>>);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.send_replace(());
    }

    /// Hears every ring from now on; several in a row may count as one.
    pub(crate) fn listen(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// The policy system's way to its executors.
pub(crate) struct Wakes {
    store: Store,
    http: reqwest::Client,
    /// Of the executor in this process.
    pub(crate) local: Bell,
    /// Executors that are being told, and whether they must be told once more.
    telling: DashMap<String, bool>,
}

impl Wakes {
    pub(crate) fn new(store: Store, http: reqwest::Client) -> Arc<Self> {
        Arc::new(Self { store, http, local: Bell::default(), telling: DashMap::new() })
    }

    /// Tells an executor, without waiting for it.
    pub(crate) fn ring(self: &Arc<Self>, executor_id: &str) {
        if executor_id == LOCAL {
            self.local.ring();
            return;
        }
        match self.telling.entry(executor_id.to_owned()) {
            Entry::Occupied(mut telling) => drop(telling.insert(true)),
            Entry::Vacant(free) => {
                free.insert(false);
                let (wakes, executor_id) = (Arc::clone(self), executor_id.to_owned());
                tokio::spawn(async move { wakes.tell_until_told(&executor_id).await });
            }
        }
    }

    /// Tells an executor after a while.
    pub(crate) fn ring_after(self: &Arc<Self>, executor_id: &str, after: Duration) {
        if after.is_zero() {
            return self.ring(executor_id);
        }
        let (wakes, executor_id) = (Arc::clone(self), executor_id.to_owned());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            wakes.ring(&executor_id);
        });
    }

    async fn tell_until_told(&self, executor_id: &str) {
        loop {
            if let Err(error) = send(&self.store, &self.http, executor_id).await {
                tracing::debug!(
                    executor = executor_id,
                    error = error.message(),
                    "an executor could not be told"
                );
            }
            if self.telling.remove_if(executor_id, |_, again| !*again).is_some() {
                return;
            }
            self.telling.insert(executor_id.to_owned(), false);
        }
    }
}
