//! The queue: jobs in the database, and who is told of their changes.

use super::settle::{MOST_LOST, settle};
use super::waiters::{Waiters, Waiting};
use super::writer::{LogRow, Row, Write, Writer};
use super::{JOBS, metrics};
use crate::error::{ApiError, Code};
use crate::executors::wake::Wakes;
use crate::store::documents::Collection;
use crate::store::{Statement, Store, StoreError};
use edict_client::records::{
    AttemptEnd, AttemptLog, ClaimJobs, ClaimedJob, FinishAttempt, HeldJob, Job, JobStatus, RunFault,
};
use edict_filter::Dialect;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Jobs that wait, run and have ended, of every executor.
pub(crate) struct Queue {
    pub(super) store: Store,
    writer: Writer,
    waiters: Waiters,
    wakes: Arc<Wakes>,
    /// Whether other servers use the same database and are to be told.
    pub(super) others: AtomicBool,
}

/// A job's row as it was read.
pub(super) struct Found {
    pub(super) job: Job,
    pub(super) revision: u64,
    /// Attempts that were lost with their runner.
    pub(super) lost: i64,
    /// Attempts that do not count against the job's `backoff_limit`: those, and what was handed back.
    pub(super) excused: u32,
}

/// What the queue says to a job that is to be changed.
pub(super) enum Change {
    /// The attempt has ended.
    End(AttemptEnd),
    /// Its runner is gone, or no longer says that it lives.
    Lost,
    Cancel,
    /// It can never run.
    Fail(RunFault),
}

impl Queue {
    pub(crate) fn new(store: Store, wakes: Arc<Wakes>) -> Arc<Self> {
        let writer = Writer::start(&store);
        Arc::new(Self { store, writer, waiters: Waiters::default(), wakes, others: AtomicBool::new(false) })
    }

    /// Accepts a job: when this returns it is durable. With a runner, it is that one's from the start.
    pub(super) async fn insert(&self, job: &Job, runner_id: Option<String>) -> Result<(), ApiError> {
        let waits = runner_id.is_none();
        let row = Row {
            job_id: job.job_id.clone(),
            revision: 1,
            doc: serde_json::to_string(job).map_err(ApiError::internal)?,
            runner_id,
            ready_at: crate::now_micros(),
            lost: 0,
            returned: 0,
        };
        self.writer.write(Write::Insert(row)).await?;
        self.writer.started(usize::from(!waits));
        metrics::submitted(job);
        if waits {
            self.wakes.ring(&job.executor_id);
            self.announce("waiting".to_owned());
        }
        Ok(())
    }

    /// The job with this id.
    ///
    /// # Errors
    /// 404 when there is none.
    pub(super) async fn get(&self, job_id: &str) -> Result<Found, ApiError> {
        self.find(job_id).await?.ok_or_else(|| JOBS.missing(job_id))
    }

    /// The job with this id; None when there is none.
    async fn find(&self, job_id: &str) -> Result<Option<Found>, ApiError> {
        // PostgreSQL takes no text with NUL to compare with.
        if job_id.contains('\0') {
            return Ok(None);
        }
        let doc = Collection::doc(self.store.dialect());
        let sql = format!("SELECT {doc}, revision, lost, returned FROM jobs WHERE key = $1");
        self.store.fetch_one::<FoundRow>(Statement::new(sql).bind(job_id)).await?.map(found).transpose()
    }

    /// Gives a runner the jobs of its executor that have waited longest.
    pub(super) async fn claim(
        &self,
        executor_id: &str,
        claim: &ClaimJobs,
    ) -> Result<Vec<ClaimedJob>, ApiError> {
        let now = crate::now_micros();
        let (set, lock, doc) = match self.store.dialect() {
            Dialect::Sqlite => (
                "json_set(doc, '$.job_status', 'running', '$.attempts', json_extract(doc, '$.attempts') + 1, \
                 '$.started_at', $1, '$.node_id', $2)",
                "",
                "doc",
            ),
            Dialect::Postgres => (
                "doc || jsonb_build_object('job_status', 'running', 'attempts', (doc->>'attempts')::bigint + 1, \
                 'started_at', $1::text, 'node_id', $2::text)",
                " FOR UPDATE SKIP LOCKED",
                "doc::text",
            ),
        };
        let sql = format!(
            "UPDATE jobs SET doc = {set}, job_status = 'running', revision = revision + 1, runner_id = $3 WHERE key IN (\
             SELECT key FROM jobs WHERE executor_id = $4 AND job_status = 'pending' AND ready_at <= $5 \
             ORDER BY ready_at LIMIT $6{lock}) RETURNING {doc}, revision, lost, returned"
        );
        let statement = Statement::new(sql)
            .bind(crate::now())
            .bind(claim.node_id.as_str())
            .bind(claim.runner_id.as_str())
            .bind(executor_id)
            .bind(now)
            .bind(i64::from(claim.places));
        let mut tx = self.store.begin().await?;
        let rows = tx.fetch::<FoundRow>(statement).await?;
        tx.commit().await?;
        self.writer.started(rows.len());
        let mut claimed =
            rows.into_iter().map(|row| found(row).map(Found::claimed)).collect::<Result<Vec<_>, _>>()?;
        claimed.sort_by(|a, b| a.job.created_at.cmp(&b.job.created_at));
        Ok(claimed)
    }

    /// Ends an attempt that a runner holds; false when it no longer does.
    pub(super) async fn finish(
        &self,
        claimed: ClaimedJob,
        end: AttemptEnd,
        log: Option<&AttemptLog>,
    ) -> Result<bool, ApiError> {
        let ClaimedJob { job, revision, excused, .. } = claimed;
        let found = Found { job, revision, lost: 0, excused };
        self.change(found, Change::End(end), log).await.map(|changed| changed.is_some())
    }

    /// Lets a process carry out an attempt, unless another one was faster; says which.
    pub(super) async fn begin(&self, job_id: &str, revision: u64, runner: &str) -> Result<bool, ApiError> {
        let revision = i64::try_from(revision).unwrap_or(i64::MAX);
        let insert = "INSERT INTO attempt_runs (job_id, revision, runner) VALUES ($1, $2, $3) \
                      ON CONFLICT (job_id, revision) DO NOTHING";
        self.store.execute(Statement::new(insert).bind(job_id).bind(revision).bind(runner)).await?;
        let select = "SELECT runner FROM attempt_runs WHERE job_id = $1 AND revision = $2";
        let found =
            self.store.fetch_one::<(String,)>(Statement::new(select).bind(job_id).bind(revision)).await?;
        Ok(found.is_some_and(|(first,)| first == runner))
    }

    /// [`finish`](Self::finish) for a runner of this executor, or of any when there is none, that only says which job it held.
    pub(super) async fn finish_held(
        &self,
        executor_id: Option<&str>,
        finish: FinishAttempt,
    ) -> Result<bool, ApiError> {
        let FinishAttempt { held, end, log, node_id } = finish;
        let found = self.find(&held.job_id).await?.filter(|found| {
            found.revision == held.revision && executor_id.is_none_or(|id| id == found.job.executor_id)
        });
        let Some(mut found) = found else { return Ok(false) };
        if log.as_ref().is_some_and(|log| log.job_id != held.job_id || log.attempt != found.job.attempts) {
            return Err(ApiError::new(
                Code::InvalidField,
                format!(
                    "field `log` must be of the attempt that has ended: `job_id` `{}`, `attempt` {}",
                    held.job_id, found.job.attempts
                ),
            ));
        }
        found.job.node_id = node_id.or(found.job.node_id);
        self.change(found, Change::End(end), log.as_ref()).await.map(|changed| changed.is_some())
    }

    /// Changes a job and tells whoever it concerns. `None` when it has changed otherwise meanwhile.
    pub(super) async fn change(
        &self,
        found: Found,
        change: Change,
        log: Option<&AttemptLog>,
    ) -> Result<Option<Arc<RawValue>>, ApiError> {
        let Found { mut job, revision, lost, excused } = found;
        let was = job.job_status;
        job.waiting_for = None;
        let returned = i64::from(matches!(change, Change::End(AttemptEnd::Returned)));
        let change = match change {
            Change::End(AttemptEnd::Lost) => Change::Lost,
            change => change,
        };
        let lost_now = i64::from(matches!(change, Change::Lost));
        let delay = match change {
            Change::End(end) => settle(&mut job, excused, end),
            Change::Lost if lost + 1 < MOST_LOST => {
                job.job_status = JobStatus::Pending;
                Some(Duration::ZERO)
            }
            Change::Lost => end(&mut job, JobStatus::Failed, Some(often_lost())),
            Change::Fail(fault) => end(&mut job, JobStatus::Failed, Some(fault)),
            Change::Cancel => end(&mut job, JobStatus::Cancelled, None),
        };
        let record = to_raw_value(&job).map_err(ApiError::internal)?;
        let wait = delay.unwrap_or_default();
        let row = Row {
            job_id: job.job_id.clone(),
            revision: revision + 1,
            doc: record.get().to_owned(),
            runner_id: None,
            ready_at: crate::now_micros() + crate::micros(wait),
            lost: lost_now,
            returned,
        };
        let log = log.map(log_row).transpose()?;
        if was == JobStatus::Running {
            self.writer.ended();
        }
        if !self.writer.write(Write::Replace { row, log }).await? {
            return Ok(None);
        }
        metrics::changed(&job, was);
        let record = Arc::<RawValue>::from(record);
        if job.job_status.is_final() {
            self.waiters.tell(&job.job_id, &record);
            self.announce(format!("final {}", job.job_id));
        } else {
            self.wakes.ring_after(&job.executor_id, wait);
        }
        Ok(Some(record))
    }

    /// [`log`](Self::log) for a runner of this executor, or of any when there is none; false when it no longer has the attempt.
    pub(super) async fn log_held(
        &self,
        executor_id: Option<&str>,
        log: &AttemptLog,
    ) -> Result<bool, ApiError> {
        let is_held = self.find(&log.job_id).await?.is_some_and(|Found { job, .. }| {
            job.job_status == JobStatus::Running
                && job.attempts == log.attempt
                && executor_id.is_none_or(|id| id == job.executor_id)
        });
        Ok(is_held && self.log(log).await?)
    }

    /// Keeps what an attempt has logged so far.
    pub(super) async fn log(&self, log: &AttemptLog) -> Result<bool, ApiError> {
        self.writer.write(Write::Log(log_row(log)?)).await
    }

    /// Cancels a job that has not ended; returns its record.
    ///
    /// # Errors
    /// 404 when there is none, 409 when it has ended.
    pub(super) async fn cancel(&self, job_id: &str) -> Result<Arc<RawValue>, ApiError> {
        loop {
            let found = self.get(job_id).await?;
            let (status, executor_id) = (found.job.job_status, found.job.executor_id.clone());
            if status.is_final() {
                let status = status.as_str();
                return Err(ApiError::new(
                    Code::JobFinished,
                    format!("job `{job_id}` has ended ({status}), so it cannot be cancelled"),
                )
                .details(json!({"job_status": status})));
            }
            if let Some(record) = self.change(found, Change::Cancel, None).await? {
                if status == JobStatus::Running {
                    self.wakes.ring(&executor_id);
                }
                return Ok(record);
            }
        }
    }

    /// The jobs that a runner of this executor holds.
    pub(super) async fn held(&self, executor_id: &str, runner_id: &str) -> Result<Vec<HeldJob>, StoreError> {
        let sql = "SELECT key, revision FROM jobs WHERE runner_id = $1 AND executor_id = $2";
        let statement = Statement::new(sql).bind(runner_id).bind(executor_id);
        let rows = self.store.fetch::<(String, i64)>(statement).await?;
        let held = |(job_id, revision): (String, i64)| HeldJob { job_id, revision: revision.unsigned_abs() };
        Ok(rows.into_iter().map(held).collect())
    }

    /// Starts to wait for a job's end.
    pub(super) fn wait(&self, job_id: &str) -> Waiting<'_> {
        self.waiters.wait(job_id)
    }

    /// Tells those who wait here for a job that another server has ended.
    pub(super) async fn tell_waiters(&self, job_id: &str) {
        if !self.waiters.any(job_id) {
            return;
        }
        // A failure is made good by the waiters themselves, who look again now and then.
        if let Ok(document) = JOBS.get(&self.store, job_id).await {
            self.waiters.tell(job_id, &Arc::from(document.doc));
        }
    }

    /// Tells the other servers on the same database, without waiting for it: whoever misses it looks by itself.
    fn announce(&self, what: String) {
        if let Store::Postgres(pool) = &self.store
            && self.others.load(Ordering::Relaxed)
        {
            let pool = pool.clone();
            tokio::spawn(async move {
                let announced =
                    sqlx::query("SELECT pg_notify('edict_jobs', $1)").bind(what).execute(&pool).await;
                if let Err(error) = announced {
                    tracing::debug!(%error, "other servers could not be told of a job");
                }
            });
        }
    }
}

pub(super) type FoundRow = (String, i64, i64, i64);

pub(super) fn found((doc, revision, lost, returned): FoundRow) -> Result<Found, ApiError> {
    let job = serde_json::from_str(&doc).map_err(ApiError::internal)?;
    let excused = u32::try_from(lost + returned).unwrap_or(u32::MAX);
    Ok(Found { job, revision: revision.unsigned_abs(), lost, excused })
}

impl Found {
    /// As its runner knows it.
    pub(super) fn claimed(self) -> ClaimedJob {
        ClaimedJob {
            job: self.job,
            revision: self.revision,
            excused: self.excused,
            edition: None,
            limits: None,
            token: None,
        }
    }
}

/// Gives the record a final state without an attempt's say; there is no next attempt.
fn end(job: &mut Job, status: JobStatus, error: Option<RunFault>) -> Option<Duration> {
    job.job_status = status;
    job.error = error.or(job.error.take());
    job.finished_at = Some(crate::now());
    None
}

fn log_row(log: &AttemptLog) -> Result<LogRow, ApiError> {
    let records = serde_json::to_string(&log.records).map_err(ApiError::internal)?;
    Ok(LogRow { job_id: log.job_id.clone(), attempt: log.attempt, first: log.first, records })
}

fn often_lost() -> RunFault {
    RunFault {
        code: Code::ExecutorUnreachable.as_str().to_owned(),
        message: format!(
            "{MOST_LOST} attempts ended with the process that ran them: look at the executor's log, and whether the job \
             takes its machine down"
        ),
        details: serde_json::Value::Null,
    }
}
