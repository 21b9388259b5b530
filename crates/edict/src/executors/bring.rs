//! Changing an executor's record by what was found out, whoever else changes it at the same time.

use super::{EXECUTORS, record};
use crate::error::ApiError;
use crate::functions;
use crate::store::documents::to_document;
use crate::store::{Statement, Store, StoreError};
use edict_client::records::Executor;

/// Brings an executor's record to what `build` makes of the one that is there, and returns it as it is then. `also` is written
/// in the same transaction. Nothing is written, and None returned, if `build` says None.
///
/// # Errors
/// When what `build` made is not valid, or the database does not answer.
pub(super) async fn bring(
    store: &Store,
    id: &str,
    also: impl Fn() -> Vec<Statement>,
    build: impl Fn(Option<&Executor>) -> Option<Executor>,
) -> Result<Option<Executor>, ApiError> {
    loop {
        let found = EXECUTORS.find(store, id).await?;
        let old: Option<Executor> = match &found {
            Some(document) => Some(serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?),
            None => None,
        };
        let Some(told) = build(old.as_ref()) else { return Ok(None) };
        let also = also();
        let unchanged = old.as_ref().is_some_and(|old| {
            old.executor_host_uri == told.executor_host_uri
                && old.executor_metadata == told.executor_metadata
                && old.executor_hardware_info == told.executor_hardware_info
        });
        if unchanged && also.is_empty() {
            return Ok(Some(told));
        }
        let payload = to_document(&told)?.as_object().cloned().unwrap_or_default();
        let new = record::from_payload(payload, old.as_ref())?;
        let document = to_document(&new)?;
        let mut tx = store.begin().await?;
        let written = match &found {
            Some(found) => {
                EXECUTORS.replace(&mut tx, store.dialect(), (id, found.revision), (id, &document)).await
            }
            None => EXECUTORS.insert(&mut tx, store.dialect(), id, &document).await.map(|()| true),
        };
        match written {
            Ok(true) => {
                let address = new.executor_host_uri.as_deref();
                tx.execute(functions::status::follow(store.dialect(), (id, id), address)).await?;
                for statement in also {
                    tx.execute(statement).await?;
                }
                tx.commit().await?;
                return Ok(Some(new));
            }
            // Someone else registered or changed it in between: look again.
            Ok(false) | Err(StoreError::Exists) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
