//! `POST /jobs/<job_id>/attempt/finish`

use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Data, LargeBody, Path, Reply};
use axum::extract::State;
use edict_client::records::{FinishAttempt, Taken};

/// Ends an attempt: with its result, with why it failed, or handed back. One that is no longer the job's has no say.
#[utoipa::path(
    post,
    path = "/jobs/{job_id}/attempt/finish",
    tag = "jobs",
    operation_id = "finish_attempt",
    params(("job_id" = String, Path)),
    request_body = FinishAttempt,
    responses((status = 200, body = Reply<Taken>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn finish(
    _: Operator,
    State(app): State<App>,
    Path(job_id): Path<String>,
    LargeBody(finish): LargeBody<FinishAttempt>,
) -> Result<Data<Taken>, ApiError> {
    same_job(&job_id, &finish.held.job_id)?;
    let taken = app.jobs.queue.finish_held(None, finish).await?;
    Ok(Data::new(Taken { taken }))
}

/// The path, for which the token is good, and the body must name the same job.
pub(super) fn same_job(path: &str, body: &str) -> Result<(), ApiError> {
    if path == body {
        return Ok(());
    }
    let body = crate::shorten(body);
    Err(ApiError::new(
        Code::InvalidField,
        format!("field `job_id` must be the path's, `{path}`, got `{body}`"),
    ))
}
