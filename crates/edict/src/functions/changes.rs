//! `GET` and `PATCH /function/<function_id>/changes`: what management commands changed of a function.

use super::FUNCTIONS;
use crate::app::App;
use crate::auth::{Operator, Viewer};
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Path, Reply};
use crate::store::{Statement, Store, Tx};
use axum::extract::State;
use edict_client::records::{FunctionChanges, PolicyState};

/// Returns what management commands changed of a function's settings and parameters.
#[utoipa::path(
    get,
    path = "/function/{function_id}/changes",
    tag = "functions",
    params(("function_id" = String, Path)),
    responses((status = 200, body = Reply<FunctionChanges>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read_changes(
    _: Viewer,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Data<FunctionChanges>, ApiError> {
    let store = &app.registry.store;
    FUNCTIONS.get(store, &name).await?;
    Ok(Data::new(kept(store, &name).await?))
}

/// Keeps what a management command changed, over what earlier ones did. For executors.
#[utoipa::path(
    patch,
    path = "/function/{function_id}/changes",
    tag = "functions",
    params(("function_id" = String, Path)),
    request_body = PolicyState,
    responses((status = 200, body = Reply<FunctionChanges>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn change(
    _: Operator,
    State(app): State<App>,
    Path(name): Path<String>,
    Body(change): Body<PolicyState>,
) -> Result<Data<FunctionChanges>, ApiError> {
    Ok(Data::new(keep(&app.registry.store, &name, change).await?))
}

/// What is kept of a function.
pub(super) async fn kept(store: &Store, name: &str) -> Result<FunctionChanges, ApiError> {
    store
        .fetch_one::<(String, i64)>(select(name))
        .await?
        .map_or_else(|| Ok(FunctionChanges::default()), parse)
}

/// Keeps a change over earlier ones.
///
/// # Errors
/// 404 when there is no such function (any more).
pub(super) async fn keep(
    store: &Store,
    name: &str,
    change: PolicyState,
) -> Result<FunctionChanges, ApiError> {
    let mut tx = store.begin().await?;
    // Whoever updates or removes the function holds this lock, too.
    FUNCTIONS.lock(&mut tx, store.dialect(), name).await?;
    let mut changes = locked(&mut tx, name).await?;
    changes.changes.extend(change);
    changes.version += 1;
    write(&mut tx, name, &changes).await?;
    tx.commit().await?;
    Ok(changes)
}

/// What is kept of a function whose record is locked.
pub(super) async fn locked(tx: &mut Tx, name: &str) -> Result<FunctionChanges, ApiError> {
    let row = tx.fetch::<(String, i64)>(select(name)).await?.into_iter().next();
    row.map_or_else(|| Ok(FunctionChanges::default()), parse)
}

/// Writes what is kept of a function whose record is locked.
pub(super) async fn write(tx: &mut Tx, name: &str, changes: &FunctionChanges) -> Result<(), ApiError> {
    let doc = serde_json::to_string(&changes.changes).map_err(ApiError::internal)?;
    let sql = "INSERT INTO function_changes (function_id, doc, version) VALUES ($1, $2, $3) \
               ON CONFLICT (function_id) DO UPDATE SET doc = excluded.doc, version = excluded.version";
    let version = i64::try_from(changes.version).unwrap_or(i64::MAX);
    tx.execute(Statement::new(sql).bind(name).bind(doc).bind(version)).await?;
    Ok(())
}

fn select(name: &str) -> Statement {
    Statement::new("SELECT doc, version FROM function_changes WHERE function_id = $1").bind(name)
}

fn parse((doc, version): (String, i64)) -> Result<FunctionChanges, ApiError> {
    let changes = serde_json::from_str(&doc).map_err(ApiError::internal)?;
    Ok(FunctionChanges { version: version.unsigned_abs(), changes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_travel_flat() {
        let text = r#"{"version":3,"settings":{"a":1},"parameters":{},"removed_settings":["b"]}"#;
        let changes: FunctionChanges = serde_json::from_str(text).unwrap();
        assert_eq!(changes.version, 3);
        assert_eq!(changes.changes.settings["a"], 1);
        assert_eq!(serde_json::to_string(&changes).unwrap(), text);
    }
}
