//! How an executor that is a process of its own is reached.

use crate::error::ApiError;
use crate::http::{Peer, Peers};
use crate::store::documents::Document;
use crate::store::{Statement, Store};
use edict_client::records::Executor;
use std::sync::Arc;
use std::time::Duration;

/// How often a request that waits for an executor tries to reach it.
pub(crate) const RETRY: Duration = Duration::from_millis(100);

/// Where an executor serves, and what the policy system presents to it.
pub(crate) struct Address {
    /// Without a slash at the end.
    base: String,
    /// None until its first heartbeat.
    pub(crate) token: Option<String>,
    /// How long nothing was heard of it.
    silence: Option<Duration>,
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
        let since = |seen_at: i64| u64::try_from(crate::now_micros() - seen_at).unwrap_or(0);
        let (token, silence) =
            heartbeat.map(|(token, seen_at)| (token, Duration::from_micros(since(seen_at)))).unzip();
        Ok(Some(Self { base: host.trim_end_matches('/').to_owned(), token, silence }))
    }

    /// Whether one that cannot be reached is waited for: it may be on its way back.
    pub(crate) fn may_return(&self, patience: Duration) -> bool {
        self.silence.is_some_and(|silence| silence < patience)
    }

    pub(crate) fn peer(&self, peers: &Arc<Peers>) -> Peer {
        peers.peer(&self.base, self.token.as_deref().unwrap_or_default())
    }
}
