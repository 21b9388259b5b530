//! `GET /executor/<executor_id>`

use super::EXECUTORS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::Executor;
use serde_json::value::RawValue;

/// Returns an executor.
#[utoipa::path(
    get,
    path = "/executor/{executor_id}",
    tag = "executors",
    params(("executor_id" = String, Path, example = "local")),
    responses((status = 200, body = Reply<Executor>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Data<Box<RawValue>>, ApiError> {
    let document = EXECUTORS.get(&app.registry.store, &id).await?;
    Ok(Data::new(document.doc).revision(document.revision))
}
