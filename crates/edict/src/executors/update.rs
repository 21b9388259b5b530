//! `PUT /executor/<executor_id>`

use super::{EXECUTORS, LOCAL, alias, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Body, Data, IfMatch, Reply};
use crate::store::{Statement, StoreError};
use axum::extract::{Path, State};
use edict_client::records::{Executor, Object};
use edict_filter::Update;
use serde_json::Value;

/// How often an update without `If-Match` starts anew because others changed the record meanwhile.
const ATTEMPTS: usize = 8;

/// Replaces an executor's record, or changes it with update operators. In their paths `metadata` and `hardware_info`
/// stand for `executor_metadata` and `executor_hardware_info`.
#[utoipa::path(
    put,
    path = "/executor/{executor_id}",
    tag = "executors",
    params(("executor_id" = String, Path), IfMatch),
    request_body(content = Object, example = json!({"$set": {"metadata.tags": ["amd_64", "ai-worker"]}})),
    responses((status = 200, body = Reply<Executor>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn update(
    _: Admin,
    State(app): State<App>,
    Path(id): Path<String>,
    if_match: IfMatch,
    Body(payload): Body<Value>,
) -> Result<Data<Executor>, ApiError> {
    let payload = alias::in_update(payload);
    let change = Update::parse(&payload)?;
    let store = &app.registry.store;
    for _ in 0..ATTEMPTS {
        let document = EXECUTORS.get(store, &id).await?;
        if_match.check(document.revision)?;
        let old: Executor = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
        let new = record::from_payload(changed(&old, change.as_ref(), &payload)?, Some(&old))?;
        if id == LOCAL && new.executor_id != LOCAL {
            return Err(builtin("renamed"));
        }
        let mut tx = store.begin().await?;
        let to = (new.executor_id.as_str(), &record::to_document(&new)?);
        match EXECUTORS.replace(&mut tx, store.dialect(), (&id, document.revision), to).await {
            Err(StoreError::Exists) => return Err(EXECUTORS.taken(&new.executor_id)),
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => return Err(error.into()),
        }
        if new.executor_id != id {
            for table in ["policy_states", "heartbeats"] {
                let sql = format!("UPDATE {table} SET executor_id = $1 WHERE executor_id = $2");
                tx.execute(Statement::new(sql).bind(new.executor_id.as_str()).bind(id.as_str())).await?;
            }
        }
        tx.commit().await?;
        let moved = (new.executor_id != id).then(|| new.executor_id.clone());
        let revision = new.revision;
        return Ok(Data::new(new).revision(revision).moved_to(moved));
    }
    Err(ApiError::new(
        Code::RevisionConflict,
        format!("the executor `{}` is being changed by others all the time; try again", crate::shorten(&id)),
    ))
}

fn changed(old: &Executor, change: Option<&Update>, payload: &Value) -> Result<Object, ApiError> {
    let new = match change {
        None => payload.clone(),
        Some(change) => {
            let mut document = record::to_document(old)?;
            change.apply(&mut document)?;
            document
        }
    };
    match new {
        Value::Object(fields) => Ok(fields),
        _ => Err(ApiError::new(Code::InvalidField, "the body must be a JSON object: a full record or update operators")),
    }
}

/// The error for what cannot be done to the built-in executor.
pub(super) fn builtin(what: &str) -> ApiError {
    ApiError::new(Code::ExecutorBuiltin, format!("the executor `{LOCAL}` is part of this server and cannot be {what}"))
}
