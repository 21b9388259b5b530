//! `POST /jobs/<job_id>/attempt/log`

use super::finish::same_job;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, LargeBody, Path, Reply};
use axum::extract::State;
use edict_client::records::{AttemptLog, Taken};

/// Keeps what an attempt has logged so far.
#[utoipa::path(
    post,
    path = "/jobs/{job_id}/attempt/log",
    tag = "jobs",
    operation_id = "log_attempt",
    params(("job_id" = String, Path)),
    request_body = AttemptLog,
    responses((status = 200, body = Reply<Taken>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn log(
    _: Operator,
    State(app): State<App>,
    Path(job_id): Path<String>,
    LargeBody(log): LargeBody<AttemptLog>,
) -> Result<Data<Taken>, ApiError> {
    same_job(&job_id, &log.job_id)?;
    let taken = app.jobs.queue.log_held(None, &log).await?;
    Ok(Data::new(Taken { taken }))
}
