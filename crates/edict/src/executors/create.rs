//! `POST /executor`

use super::{EXECUTORS, record};
use crate::app::App;
use crate::auth::Admin;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Reply};
use axum::extract::State;
use edict_client::records::{Executor, Object};

/// Registers an executor. Without `executor_host_uri` it is `pending` until infrastructure exists.
#[utoipa::path(
    post,
    path = "/executor",
    tag = "executors",
    request_body = Executor,
    responses((status = 200, body = Reply<Executor>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn create(
    _: Admin,
    State(app): State<App>,
    Body(payload): Body<Object>,
) -> Result<Data<Executor>, ApiError> {
    let executor = record::from_payload(payload, None)?;
    EXECUTORS.create(&app.registry.store, &executor.executor_id, &executor).await?;
    Ok(Data::new(executor).revision(1))
}
