//! Runners, and what becomes of the jobs of those that are gone.
//!
//! A runner is a process that runs jobs. It says every two seconds that it lives; one that has not done so for
//! [`LEASE`] has lost its jobs, which go back to the queue. A runner that could not say so for [`OWN_LEASE`] ends its
//! attempts itself.
//!
//! INVARIANT (one-runner): no two attempts of a job run at once. A job is taken from a runner only when its lease is
//! over, by the database's clock, and by then the runner has ended it, by its own clock that started earlier; or when
//! the runner's process is known to be gone, which its workers do not outlive.

use super::queue::{Change, Found, Queue};
use crate::error::{ApiError, Code};
use crate::executors::LOCAL;
use crate::store::documents::Collection;
use crate::store::{Statement, Store, StoreError};
use edict_client::records::{HeldJob, RunFault};
use edict_filter::Dialect;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A runner that has been silent for this long has lost its jobs, unless it asked for longer.
pub(super) const LEASE: Duration = Duration::from_secs(10);

/// What a runner itself takes for its lease, reckoned from before it last said that it lives.
pub(super) const OWN_LEASE: Duration = Duration::from_secs(8);

/// How often lost jobs are looked for.
pub(crate) const SWEEP: Duration = Duration::from_secs(2);

/// A job waits this long for an executor whose record is gone: one that lives registers itself again.
const HOMELESS: Duration = Duration::from_secs(30);

/// Jobs that one sweep takes at most.
const MOST: usize = 500;

impl Queue {
    /// Whether this process alone uses the database, so that a runner of the built-in executor that is not its own is
    /// gone. Then that runner needs no lease.
    pub(super) fn alone(&self) -> bool {
        matches!(self.store, Store::Sqlite { .. })
    }

    /// Renews the lease of an executor's runner, for so long; returns what it holds.
    pub(super) async fn renew(
        &self,
        executor_id: &str,
        runner_id: &str,
        lease: Duration,
    ) -> Result<Vec<HeldJob>, ApiError> {
        if executor_id != LOCAL || !self.alone() {
            let clock = clock(self.store.dialect());
            let sql = format!(
                "INSERT INTO runners (runner_id, executor_id, seen_at, lease) VALUES ($1, $2, {clock}, $3) \
                 ON CONFLICT (runner_id) DO UPDATE SET seen_at = excluded.seen_at, lease = excluded.lease \
                 WHERE runners.executor_id = excluded.executor_id"
            );
            let statement = Statement::new(sql).bind(runner_id).bind(executor_id).bind(crate::micros(lease));
            self.store.execute(statement).await?;
        }
        Ok(self.held(executor_id, runner_id).await?)
    }

    /// Ends a runner's lease: it is going, and has given back what it had.
    pub(super) async fn leave(&self, runner_id: &str) -> Result<(), StoreError> {
        self.store
            .execute(Statement::new("DELETE FROM runners WHERE runner_id = $1").bind(runner_id))
            .await?;
        Ok(())
    }

    /// At the start: whatever a predecessor ran in this process's place is over.
    pub(crate) async fn take_over_local(&self) -> Result<(), ApiError> {
        if !self.alone() {
            return Ok(());
        }
        let sql = "key IN (SELECT key FROM jobs WHERE runner_id IS NOT NULL AND executor_id = $1)";
        while self.take_over(Statement::new(select(self.store.dialect(), sql)).bind(LOCAL)).await? > 0 {}
        Ok(())
    }

    /// Gives jobs whose runner's lease is over back to the queue, and ends those that no executor will ever take.
    pub(crate) async fn sweep(&self) -> Result<(), ApiError> {
        let dialect = self.store.dialect();
        let (clock, lease) = (clock(dialect), crate::micros(LEASE));
        let local = if self.alone() { " AND executor_id <> 'local'" } else { "" };
        let sql = format!(
            "runner_id IS NOT NULL{local} AND NOT EXISTS (SELECT 1 FROM runners \
             WHERE runners.runner_id = jobs.runner_id AND runners.seen_at >= {clock} - runners.lease)"
        );
        self.take_over(Statement::new(select(dialect, &sql))).await?;
        self.fail_homeless().await?;
        let sql =
            format!("SELECT count(*) FROM runners WHERE executor_id = 'local' AND seen_at >= {clock} - $1");
        let servers = self.store.fetch_one::<(i64,)>(Statement::new(sql).bind(lease)).await?;
        self.others.store(servers.is_some_and(|(count,)| count > 1), Ordering::Relaxed);
        Ok(())
    }

    /// Removes finished jobs that are older than `keep`, their logs, runners that are long gone, and what was known of
    /// attempts that are over.
    pub(crate) async fn forget_old(&self, keep: Duration) -> Result<(), ApiError> {
        let clock = clock(self.store.dialect());
        let sql = format!("DELETE FROM runners WHERE seen_at < {clock} - 60 * lease");
        self.store.execute(Statement::new(sql)).await?;
        let over = "DELETE FROM attempt_runs WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.key = attempt_runs.job_id \
                    AND jobs.revision = attempt_runs.revision)";
        self.store.execute(Statement::new(over)).await?;
        let before = crate::timestamp(time::OffsetDateTime::now_utc() - keep);
        loop {
            let old =
                format!("SELECT key FROM jobs WHERE finished_at < $1 ORDER BY finished_at LIMIT {MOST}");
            let mut tx = self.store.begin().await?;
            for sql in [
                format!("DELETE FROM job_logs WHERE job_id IN ({old})"),
                format!("DELETE FROM jobs WHERE key IN ({old})"),
            ] {
                tx.execute(Statement::new(sql).bind(before.as_str())).await?;
            }
            tx.commit().await?;
            let left = "SELECT key FROM jobs WHERE finished_at < $1 LIMIT 1";
            if self.store.fetch::<(String,)>(Statement::new(left).bind(before.as_str())).await?.is_empty() {
                return Ok(());
            }
        }
    }

    async fn take_over(&self, lost: Statement) -> Result<usize, ApiError> {
        let lost = self.select(lost).await?;
        let count = lost.len();
        for found in lost {
            let (job, executor) = (found.job.job_id.clone(), found.job.executor_id.clone());
            // A change in between means that somebody else took it over, or that its runner was in time.
            if self.change(found, Change::Lost, None).await?.is_some() {
                tracing::warn!(job, executor, "the process that ran a job is gone");
            }
        }
        Ok(count)
    }

    /// Ends jobs that wait for an executor whose record was removed.
    async fn fail_homeless(&self) -> Result<(), ApiError> {
        let sql = "job_status = 'pending' AND ready_at < $1 \
                   AND NOT EXISTS (SELECT 1 FROM executors WHERE executors.key = jobs.executor_id)";
        let statement = Statement::new(select(self.store.dialect(), sql))
            .bind(crate::now_micros() - crate::micros(HOMELESS));
        for found in self.select(statement).await? {
            let fault = RunFault {
                code: Code::ExecutorNotFound.as_str().to_owned(),
                message: format!(
                    "the executor `{}` was removed while the job waited for it",
                    found.job.executor_id
                ),
                details: serde_json::Value::Null,
            };
            self.change(found, Change::Fail(fault), None).await?;
        }
        Ok(())
    }

    async fn select(&self, statement: Statement) -> Result<Vec<Found>, ApiError> {
        let rows = self.store.fetch(statement).await?;
        rows.into_iter().map(super::queue::found).collect()
    }
}

fn select(dialect: Dialect, condition: &str) -> String {
    let doc = Collection::doc(dialect);
    format!("SELECT {doc}, revision, lost, returned FROM jobs WHERE {condition} LIMIT {MOST}")
}

/// Microseconds since 1970 by the clock that all who use the database share.
pub(crate) fn clock(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
        Dialect::Postgres => "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)",
    }
}
