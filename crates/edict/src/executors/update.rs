//! `PUT /executor/<executor_id>`

use super::{EXECUTORS, LOCAL, alias, infra, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, Code, ErrorBody};
use crate::functions;
use crate::http::{Body, Data, IfMatch, Path, Reply};
use crate::store::Statement;
use crate::store::documents::Change;
use axum::extract::State;
use edict_client::records::Executor;
use serde_json::Value;

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
    let dialect = app.registry.store.dialect();
    let fixed = infra::refuse(&app.registry.store, &id, "renamed").await;
    let updated = EXECUTORS
        .update(&app.registry.store, &id, if_match, payload, |fields, old: &Executor| {
            let new = record::from_payload(fields, Some(old))?;
            if id == LOCAL && new.executor_id != LOCAL {
                return Err(builtin("renamed"));
            }
            if new.executor_id != id {
                fixed?;
            }
            let mut also = if new.executor_id == id { Vec::new() } else { moved(&id, &new.executor_id) };
            let ids = (id.as_str(), new.executor_id.as_str());
            also.push(functions::status::follow(dialect, ids, new.executor_host_uri.as_deref()));
            Ok(Change { key: new.executor_id.clone(), new, also })
        })
        .await?;
    let revision = updated.new.revision;
    Ok(Data::new(updated.new).revision(revision).moved_to(updated.moved_to))
}

fn moved(from: &str, to: &str) -> Vec<Statement> {
    let statement = |table| {
        let sql = format!("UPDATE {table} SET executor_id = $1 WHERE executor_id = $2");
        Statement::new(sql).bind(to).bind(from)
    };
    ["policy_states", "heartbeats"].map(statement).into()
}

/// The error for what cannot be done to the built-in executor.
pub(super) fn builtin(what: &str) -> ApiError {
    ApiError::new(
        Code::ExecutorBuiltin,
        format!("the executor `{LOCAL}` is part of this server and cannot be {what}"),
    )
}
