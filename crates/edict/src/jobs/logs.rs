//! `GET /jobs/<job_id>/logs`

use super::JOBS;
use crate::app::App;
use crate::auth::Viewer;
use crate::error::{ApiError, ErrorBody};
use crate::http::{Data, Parameters, Path, Reply};
use crate::store::Statement;
use axum::extract::State;
use edict_client::records::{JobLogRecord, LogRecord};
use serde::Deserialize;
use utoipa::IntoParams;

/// Which part of the log.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Only of this attempt, 1 for the first.
    attempt: Option<u32>,
    /// Records to pass over: as many as are known already.
    #[serde(default)]
    skip: usize,
}

/// Returns what a job printed and logged, attempt by attempt; while it runs, what it has so far, a second late.
#[utoipa::path(
    get,
    path = "/jobs/{job_id}/logs",
    tag = "jobs",
    params(("job_id" = String, Path), Part),
    responses((status = 200, body = Reply<Vec<JobLogRecord>>), (status = "default", body = ErrorBody))
)]
pub(crate) async fn logs(
    _: Viewer,
    State(app): State<App>,
    Path(job_id): Path<String>,
    Parameters(part): Parameters<Part>,
) -> Result<Data<Vec<JobLogRecord>>, ApiError> {
    let store = &app.registry.store;
    if JOBS.find(store, &job_id).await?.is_none() {
        return Err(JOBS.missing(&job_id));
    }
    let sql = "SELECT attempt, records FROM job_logs WHERE job_id = $1 AND ($2 = 0 OR attempt = $2) \
               ORDER BY attempt, first";
    let statement = Statement::new(sql).bind(job_id).bind(i64::from(part.attempt.unwrap_or(0)));
    let mut logs = Vec::new();
    for (attempt, records) in store.fetch::<(i64, String)>(statement).await? {
        let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
        let records: Vec<LogRecord> = serde_json::from_str(&records).map_err(ApiError::internal)?;
        logs.extend(records.into_iter().map(|record| JobLogRecord { attempt, record }));
    }
    Ok(Data::new(logs.into_iter().skip(part.skip).collect()))
}
