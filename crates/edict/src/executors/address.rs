//! How an executor that is a process of its own is reached.

use crate::error::ApiError;
use crate::http::{Peer, Peers};
use crate::store::documents::Document;
use crate::store::{Statement, Store};
use edict_client::records::Executor;
use std::sync::Arc;
use std::time::Duration;

/// How long after an executor was last heard of requests wait for it: it is being started anew. One that was killed gets its id
/// back after [`SILENCE`](super::status::SILENCE).
pub(crate) const RESTART: Duration = Duration::from_secs(30);
/// How often it tries.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// Where an executor serves, and what the policy system presents to it.
pub(crate) struct Address {
    /// Without a slash at the end.
    pub(crate) base: String,
    /// None until its first heartbeat.
    pub(crate) token: Option<String>,
    /// Whether it was heard of lately. One that is silent for longer does not come back in a moment.
    pub(crate) heard: bool,
}

impl Address {
    /// The address of the executor with this id and record; none until infrastructure exists.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn of(store: &Store, id: &str, document: &Document) -> Result<Option<Self>, ApiError> {
        let executor: Executor = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
        let Some(host) = executor.executor_host_uri else { return Ok(None) };
        let sql = "SELECT token, seen_at FROM heartbeats WHERE executor_id = $1";
        let heartbeat = store.fetch_one::<(String, i64)>(Statement::new(sql).bind(id)).await?;
        let since = crate::now_micros() - crate::micros(RESTART);
        let heard = heartbeat.as_ref().is_some_and(|(_, seen_at)| *seen_at >= since);
        let token = heartbeat.map(|(token, _)| token);
        Ok(Some(Self { base: host.trim_end_matches('/').to_owned(), token, heard }))
    }

    pub(crate) fn peer(&self, peers: &Arc<Peers>) -> Peer {
        peers.peer(&self.base, self.token.as_deref().unwrap_or_default())
    }
}
