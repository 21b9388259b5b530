//! `GET /jobs/<job_id>`

use super::JOBS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, Code, ErrorBody};
use crate::http::{Data, Parameters, Path, Reply};
use axum::extract::State;
use edict_client::records::{Job, JobStatus, Seconds};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use utoipa::IntoParams;

/// Longest wait for a job's end in one request.
const LONGEST: Duration = Duration::from_secs(600);

/// How often one that waits looks into the database: another server may have ended the job and failed to say so.
const LOOK: Duration = Duration::from_secs(2);

/// Whether to wait.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wait {
    /// Answer when the job has ended or this time is over: seconds, or text such as `30s`, `5m`; at most 10 minutes.
    #[param(value_type = Option<String>, example = "30s")]
    wait: Option<String>,
}

/// Returns a job, at once or when it has ended.
#[utoipa::path(
    get,
    path = "/jobs/{job_id}",
    tag = "jobs",
    params(("job_id" = String, Path), Wait),
    responses((status = 200, body = Reply<Job>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn read(
    _: Viewer,
    State(app): State<App>,
    Path(job_id): Path<String>,
    Parameters(Wait { wait }): Parameters<Wait>,
) -> Result<Data<Arc<RawValue>>, ApiError> {
    let wait = wait.map_or(Ok(Duration::ZERO), |text| duration(&text))?;
    let end = Instant::now() + wait.min(LONGEST);
    let mut waiting = app.jobs.queue.wait(&job_id);
    // One that runs in this process has not ended: no need to look.
    let mut runs = !wait.is_zero() && app.jobs.worker.runs(&job_id);
    loop {
        if !runs {
            let document = JOBS.get(&app.registry.store, &job_id).await?;
            let over = Instant::now() >= end || app.stopping.is_cancelled();
            if over || has_ended(&document.doc)? {
                return Ok(Data::new(Arc::from(document.doc)));
            }
        }
        runs = false;
        tokio::select! {
            record = waiting.record() => return Ok(Data::new(record)),
            () = sleep_until(end.min(Instant::now() + LOOK)) => {}
            () = app.stopping.cancelled() => {}
        }
    }
}

fn duration(text: &str) -> Result<Duration, ApiError> {
    let parsed: Result<Seconds, String> = text.parse();
    parsed.map(Seconds::duration).map_err(|problem| {
        ApiError::new(Code::InvalidParameter, format!("query parameter `wait`: {problem}"))
    })
}

fn has_ended(record: &RawValue) -> Result<bool, ApiError> {
    #[derive(Deserialize)]
    struct Status {
        job_status: JobStatus,
    }
    let status: Status = serde_json::from_str(record.get()).map_err(ApiError::internal)?;
    Ok(status.job_status.is_final())
}
