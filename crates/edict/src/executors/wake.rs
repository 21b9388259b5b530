//! `POST /wake` on an executor's listener: there is something to do.

use super::EXECUTORS;
use super::process::ExecutorApp;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::Data;
use crate::store::{Statement, Store};
use axum::extract::State;
use edict_client::records::{Executor, Object};
use std::time::Duration;

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
