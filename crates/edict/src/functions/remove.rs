//! `DELETE /function/deployments/remove/<name>`

use super::{FUNCTIONS, context};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, IfMatch, Path, Reply};
use crate::store::Statement;
use axum::extract::State;
use edict_client::records::Function;
use serde_json::value::RawValue;

/// Removes a function, with its context and what management commands changed of it. Calls that it has begun are
/// finished. Returns what it was.
#[utoipa::path(
    delete,
    path = "/function/deployments/remove/{name}",
    tag = "functions",
    params(("name" = String, Path), IfMatch),
    responses((status = 200, body = Reply<Function>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn remove(
    _: Admin,
    State(app): State<App>,
    if_match: IfMatch,
    Path(name): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let store = &app.registry.store;
    let document = FUNCTIONS.get(store, &name).await?;
    if_match.check(document.revision)?;
    let mut tx = store.begin().await?;
    if !FUNCTIONS.delete(&mut tx, &name, if_match.0).await? {
        return Err(FUNCTIONS.missing(&name));
    }
    for (sql, key) in [
        ("DELETE FROM context WHERE scope = $1", context::scope(&name)),
        ("DELETE FROM function_changes WHERE function_id = $1", name.clone()),
    ] {
        tx.execute(Statement::new(sql).bind(key)).await?;
    }
    tx.commit().await?;
    app.functions.changed(&name, &document).await;
    Ok(Data::new(document.doc))
}
