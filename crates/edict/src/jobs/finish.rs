//! `POST /executor/<executor_id>/jobs/finish`

use super::claim::not_local;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, LargeBody, Path, Reply};
use axum::extract::State;
use edict_client::records::{FinishAttempt, Taken};

/// Ends an attempt: with its result, with why it failed, or handed back.
#[utoipa::path(
    post,
    path = "/executor/{executor_id}/jobs/finish",
    tag = "jobs",
    params(("executor_id" = String, Path)),
    request_body = FinishAttempt,
    responses((status = 200, body = Reply<Taken>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn finish(
    _: Operator,
    State(app): State<App>,
    Path(executor_id): Path<String>,
    LargeBody(finish): LargeBody<FinishAttempt>,
) -> Result<Data<Taken>, ApiError> {
    not_local(&executor_id)?;
    let taken = app.jobs.queue.finish_held(Some(&executor_id), finish).await?;
    Ok(Data::new(Taken { taken }))
}
