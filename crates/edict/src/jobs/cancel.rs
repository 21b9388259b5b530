//! `DELETE /jobs/<job_id>`

use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Path, Reply};
use axum::extract::State;
use edict_client::records::Job;
use serde_json::value::RawValue;
use std::sync::Arc;

/// Cancels a job: one that waits never starts, one that runs is ended. Returns its record; 409 when it has ended before.
#[utoipa::path(
    delete,
    path = "/jobs/{job_id}",
    tag = "jobs",
    params(("job_id" = String, Path)),
    responses((status = 200, body = Reply<Job>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn cancel(
    _: Operator,
    State(app): State<App>,
    Path(job_id): Path<String>,
) -> Result<Data<Arc<RawValue>>, ApiError> {
    let record = app.jobs.queue.cancel(&job_id).await?;
    app.jobs.worker.kill(&job_id);
    Ok(Data::new(record))
}
