//! `DELETE /executor/<executor_id>`

use super::update::builtin;
use super::{EXECUTORS, LOCAL, infra};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, IfMatch, Path, Reply};
use crate::store::Statement;
use axum::extract::State;
use edict_client::records::Executor;
use serde_json::value::RawValue;

/// Removes an executor, with what management commands changed on it. Returns what it was.
#[utoipa::path(
    delete,
    path = "/executor/{executor_id}",
    tag = "executors",
    params(("executor_id" = String, Path), IfMatch),
    responses((status = 200, body = Reply<Executor>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn delete(
    _: Admin,
    State(app): State<App>,
    if_match: IfMatch,
    Path(id): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    if id == LOCAL {
        return Err(builtin("removed"));
    }
    let store = &app.registry.store;
    let document = EXECUTORS.get(store, &id).await?;
    if_match.check(document.revision)?;
    infra::refuse(store, &id, "removed").await?;
    let mut tx = store.begin().await?;
    if !EXECUTORS.delete(&mut tx, &id, if_match.0).await? {
        return Err(EXECUTORS.missing(&id));
    }
    for table in ["policy_states", "heartbeats"] {
        let sql = format!("DELETE FROM {table} WHERE executor_id = $1");
        tx.execute(Statement::new(sql).bind(id.as_str())).await?;
    }
    tx.commit().await?;
    Ok(Data::new(document.doc))
}
