//! `POST /executor/<executor_id>/jobs/waiting`

use super::claim::not_local;
use super::queue::Queue;
use crate::app::App;
use crate::auth::Operator;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Body, Data, Path, Reply};
use crate::store::Statement;
use axum::extract::State;
use edict_client::records::{Taken, WaitingJob};
use edict_filter::Dialect;

/// Longest reason that is kept, in characters.
const LONGEST: usize = 1000;

/// Keeps what an attempt waits for, for whoever looks at the job.
#[utoipa::path(
    post,
    path = "/executor/{executor_id}/jobs/waiting",
    tag = "jobs",
    params(("executor_id" = String, Path)),
    request_body = WaitingJob,
    responses((status = 200, body = Reply<Taken>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn waiting(
    _: Operator,
    State(app): State<App>,
    Path(executor_id): Path<String>,
    Body(waiting): Body<WaitingJob>,
) -> Result<Data<Taken>, ApiError> {
    not_local(&executor_id)?;
    let taken = app.jobs.queue.waits(&executor_id, waiting).await?;
    Ok(Data::new(Taken { taken }))
}

impl Queue {
    /// Writes what an attempt waits for into its job; false when the job is no longer the executor's, or has changed. The
    /// revision stays: it is what the attempt's runner reports with.
    async fn waits(&self, executor_id: &str, waiting: WaitingJob) -> Result<bool, ApiError> {
        let WaitingJob { held, waiting_for } = waiting;
        // PostgreSQL takes no text with NUL; no job has such an id.
        if held.job_id.contains('\0') {
            return Ok(false);
        }
        let why = waiting_for.map(|why| why.replace('\0', "").chars().take(LONGEST).collect::<String>());
        let set = match self.store.dialect() {
            Dialect::Sqlite => "json_set(doc, '$.waiting_for', $1)",
            Dialect::Postgres => "doc || jsonb_build_object('waiting_for', $1::text)",
        };
        let sql = format!(
            "UPDATE jobs SET doc = {set} \
             WHERE key = $2 AND revision = $3 AND executor_id = $4 AND job_status = 'running'"
        );
        let statement = Statement::new(sql)
            .bind(why)
            .bind(held.job_id)
            .bind(i64::try_from(held.revision).unwrap_or(i64::MAX))
            .bind(executor_id);
        Ok(self.store.execute(statement).await? > 0)
    }
}
