//! `POST /executor/<executor_id>/jobs/log`

use super::claim::not_local;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, LargeBody, Path, Reply};
use axum::extract::State;
use edict_client::records::{AttemptLog, Taken};

/// Keeps what an attempt has logged so far.
#[utoipa::path(
    post,
    path = "/executor/{executor_id}/jobs/log",
    tag = "jobs",
    params(("executor_id" = String, Path)),
    request_body = AttemptLog,
    responses((status = 200, body = Reply<Taken>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn log(
    _: Operator,
    State(app): State<App>,
    Path(executor_id): Path<String>,
    LargeBody(log): LargeBody<AttemptLog>,
) -> Result<Data<Taken>, ApiError> {
    not_local(&executor_id)?;
    let taken = app.jobs.queue.log_held(Some(&executor_id), &log).await?;
    Ok(Data::new(Taken { taken }))
}
