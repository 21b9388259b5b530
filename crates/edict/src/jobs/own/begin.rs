//! `POST /jobs/<job_id>/attempt`

use super::read::brief;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Path, Reply};
use axum::extract::State;
use edict_client::records::{AttemptBrief, BeginAttempt};

/// Begins an attempt: the first process to ask carries it out, and may ask again.
#[utoipa::path(
    post,
    path = "/jobs/{job_id}/attempt",
    tag = "jobs",
    operation_id = "begin_attempt",
    params(("job_id" = String, Path)),
    request_body = BeginAttempt,
    responses((status = 200, body = Reply<AttemptBrief>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn begin(
    _: Operator,
    State(app): State<App>,
    Path(job_id): Path<String>,
    Body(begin): Body<BeginAttempt>,
) -> Result<Data<AttemptBrief>, ApiError> {
    let mut brief = brief(&app, &job_id).await?;
    let first = app.jobs.queue.begin(&job_id, brief.claimed.revision, &begin.runner).await?;
    brief.begun_elsewhere = !first;
    Ok(Data::new(brief))
}
