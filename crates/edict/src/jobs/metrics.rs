//! What Prometheus is told about jobs.

use super::queue::Queue;
use crate::error::ApiError;
use crate::store::Statement;
use edict_client::records::{Job, JobStatus};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A job has been accepted.
pub(super) fn submitted(job: &Job) {
    metrics::counter!("edict_jobs_submitted_total", "executor" => job.executor_id.clone()).increment(1);
}

/// A job was in state `was` and is as in its record now.
pub(super) fn changed(job: &Job, was: JobStatus) {
    let executor = || job.executor_id.clone();
    if was == JobStatus::Running
        && let Some(seconds) = job.started_at.as_deref().and_then(seconds_since)
    {
        metrics::histogram!("edict_job_run_seconds", "executor" => executor()).record(seconds);
    }
    if job.job_status.is_final() {
        let outcome = match &job.error {
            Some(fault) if job.job_status == JobStatus::Failed => fault.code.clone(),
            _ => job.job_status.as_str().to_owned(),
        };
        metrics::counter!("edict_jobs_finished_total", "executor" => executor(), "outcome" => outcome)
            .increment(1);
    }
}

/// An attempt starts.
pub(super) fn started(job: &Job) {
    let waited = if job.attempts > 1 { None } else { seconds_since(&job.created_at) };
    if let Some(seconds) = waited {
        metrics::histogram!("edict_job_wait_seconds", "executor" => job.executor_id.clone()).record(seconds);
    }
}

fn seconds_since(time: &str) -> Option<f64> {
    let then = OffsetDateTime::parse(time, &Rfc3339).ok()?;
    Some((OffsetDateTime::now_utc() - then).as_seconds_f64().max(0.0))
}

impl Queue {
    /// Counts the jobs that wait and run.
    pub(crate) async fn gauge(&self) -> Result<(), ApiError> {
        let counts = [
            ("edict_jobs_pending", "SELECT count(*) FROM jobs WHERE job_status = 'pending'"),
            ("edict_jobs_running", "SELECT count(*) FROM jobs WHERE runner_id IS NOT NULL"),
        ];
        for (name, sql) in counts {
            let row = self.store.fetch_one::<(i64,)>(Statement::new(sql)).await?;
            #[expect(
                clippy::cast_precision_loss,
                reason = "counts of jobs are far from where floats lose digits"
            )]
            metrics::gauge!(name).set(row.map_or(0, |(count,)| count) as f64);
        }
        Ok(())
    }
}
