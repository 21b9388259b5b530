//! Keeping `executor_status` true.

use super::{EXECUTORS, LOCAL};
use crate::error::ApiError;
use crate::store::{Statement, Store, StoreError};
use edict_client::records::ExecutorStatus;
use edict_filter::Dialect;
use std::time::Duration;

/// How often executors send heartbeats.
pub(crate) const INTERVAL: Duration = Duration::from_secs(3);
/// An executor that has been silent for this long is unreachable. With the sweep below, its status follows within 12 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(10);
/// How often silent executors are looked for.
pub(crate) const SWEEP: Duration = Duration::from_secs(2);

/// Writes a status into a record. It is the server's observation, no change by a user: the revision stays, so that
/// nobody's `If-Match` fails because of it.
pub(crate) async fn set(store: &Store, id: &str, status: ExecutorStatus) -> Result<(), ApiError> {
    let assign = match store.dialect() {
        Dialect::Sqlite => "json_set(doc, '$.executor_status', $1)",
        Dialect::Postgres => "jsonb_set(doc, '{executor_status}', to_jsonb($1::text))",
    };
    let sql =
        format!("UPDATE {} SET doc = {assign} WHERE key = $2 AND executor_status <> $1", EXECUTORS.name);
    store.execute(Statement::new(sql).bind(status.as_str()).bind(id)).await?;
    Ok(())
}

/// Marks executors as unreachable whose heartbeat has stopped. Returns how many.
pub(crate) async fn sweep(store: &Store) -> Result<usize, ApiError> {
    let silent_since = crate::now_micros() - crate::micros(SILENCE);
    let sql = "SELECT executors.key FROM executors JOIN heartbeats ON heartbeats.executor_id = executors.key \
               WHERE heartbeats.seen_at < $1 AND executors.executor_status IN ('healthy', 'busy')";
    let silent = store.fetch::<(String,)>(Statement::new(sql).bind(silent_since)).await?;
    for (id,) in &silent {
        if id != LOCAL {
            tracing::warn!(executor = id.as_str(), "executor is silent, now unreachable");
            set(store, id, ExecutorStatus::Unreachable).await?;
        }
    }
    Ok(silent.len())
}

/// Whether an executor sent a heartbeat lately and has not taken its leave since, and from which process.
pub(super) async fn alive(store: &Store, id: &str) -> Result<Option<String>, StoreError> {
    let since = crate::now_micros() - crate::micros(SILENCE);
    let sql =
        "SELECT instance_id FROM heartbeats WHERE executor_id = $1 AND seen_at >= $2 AND instance_id <> ''";
    Ok(store
        .fetch_one::<(String,)>(Statement::new(sql).bind(id).bind(since))
        .await?
        .map(|(instance,)| instance))
}
