//! `GET /executor/<executor_id>/functions`

use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::executors::EXECUTORS;
use crate::http::{Data, Path, Reply};
use crate::store::{Statement, Store};
use axum::extract::State;
use edict_client::records::AssignedFunction;

/// Returns the functions that an executor is to run, as far as is needed to see which of them changed.
#[utoipa::path(
    get,
    path = "/executor/{executor_id}/functions",
    tag = "functions",
    params(("executor_id" = String, Path, example = "local")),
    responses((status = 200, body = Reply<Vec<AssignedFunction>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn assigned(
    _: Viewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Data<Vec<AssignedFunction>>, ApiError> {
    let store = &app.registry.store;
    EXECUTORS.get(store, &id).await?;
    Ok(Data::new(to(store, &id).await?))
}

/// The functions that are assigned to an executor.
pub(super) async fn to(store: &Store, executor_id: &str) -> Result<Vec<AssignedFunction>, ApiError> {
    let sql = "SELECT key, created_at, revision, coalesce(version, 0) FROM functions \
               LEFT JOIN function_changes ON function_id = key WHERE function_executor_id = $1 ORDER BY key";
    let rows = store.fetch::<(String, String, i64, i64)>(Statement::new(sql).bind(executor_id)).await?;
    let entry = |(function_id, created_at, revision, version): (String, String, i64, i64)| AssignedFunction {
        function_id,
        created_at,
        revision: revision.unsigned_abs(),
        changes_version: version.unsigned_abs(),
    };
    Ok(rows.into_iter().map(entry).collect())
}
