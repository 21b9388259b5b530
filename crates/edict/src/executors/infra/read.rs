//! `GET /executor/<executor_id>/infra`

use super::claim::Claim;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::executors::EXECUTORS;
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::ExecutorInfra;

/// Returns what is known of an executor's infrastructure.
#[utoipa::path(
    get,
    path = "/executor/{executor_id}/infra",
    tag = "executors",
    params(("executor_id" = String, Path)),
    responses((status = 200, body = Reply<ExecutorInfra>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read_infra(
    _: Viewer,
    State(app): State<App>,
    Path(id): Path<String>,
) -> Result<Data<ExecutorInfra>, ApiError> {
    let store = &app.registry.store;
    if let Some(infra) = Claim::peek(store, &id).await? {
        return Ok(Data::new(infra));
    }
    EXECUTORS.get(store, &id).await?;
    Err(ApiError::new(
        Code::InfraNotFound,
        format!("executor `{id}` has no infrastructure that this policy system has made"),
    ))
}
