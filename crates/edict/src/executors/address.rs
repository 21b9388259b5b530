//! How an executor that is a process of its own is reached.

use crate::error::ApiError;
use crate::store::documents::Document;
use crate::store::{Statement, Store};
use edict_client::records::Executor;

/// Where an executor serves, and what the policy system presents to it.
pub(crate) struct Address {
    /// Without a slash at the end.
    pub(crate) base: String,
    /// None until its first heartbeat.
    pub(crate) token: Option<String>,
}

impl Address {
    /// The address of the executor with this id and record; none until infrastructure exists.
    ///
    /// # Errors
    /// When the database does not answer.
    pub(crate) async fn of(store: &Store, id: &str, document: &Document) -> Result<Option<Self>, ApiError> {
        let executor: Executor = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
        let Some(host) = executor.executor_host_uri else { return Ok(None) };
        let sql = "SELECT token FROM heartbeats WHERE executor_id = $1";
        let token = store.fetch_one::<(String,)>(Statement::new(sql).bind(id)).await?.map(|(token,)| token);
        Ok(Some(Self { base: host.trim_end_matches('/').to_owned(), token }))
    }
}
