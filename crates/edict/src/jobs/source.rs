//! Where a worker gets jobs from and reports on them: the queue beside it, or the policy system that its executor
//! registered with.

use super::lease::LEASE;
use super::queue::Queue;
use crate::error::ApiError;
use crate::execution::relay;
use edict_client::Client;
use edict_client::records::{
    AttemptEnd, AttemptLog, ClaimJobs, ClaimedJob, FinishAttempt, HeldJob, RenewJobs,
};
use std::sync::Arc;
use std::time::Duration;

/// A worker's source of jobs.
pub(crate) enum Source {
    /// For the executor in the policy system's process.
    Queue(Arc<Queue>),
    /// For an executor of its own.
    Remote(Client),
    /// For an attempt that runs in a process of its own: it reports, and gets nothing.
    Attempt(Client),
}

impl Source {
    /// Whether a runner that is gone is known to be, without a lease.
    pub(super) fn needs_no_lease(&self) -> bool {
        match self {
            Self::Queue(queue) => queue.alone(),
            Self::Remote(_) | Self::Attempt(_) => false,
        }
    }

    /// Ends the lease of a runner that has nothing any more.
    pub(super) async fn leave(&self, runner_id: &str) {
        // Otherwise it ends by itself.
        if let Self::Queue(queue) = self {
            queue.leave(runner_id).await.ok();
        }
    }

    /// The next attempts for a runner.
    pub(super) async fn claim(
        &self,
        executor_id: &str,
        claim: &ClaimJobs,
    ) -> Result<Vec<ClaimedJob>, ApiError> {
        match self {
            Self::Queue(queue) => queue.claim(executor_id, claim).await,
            Self::Remote(client) => client.claim_jobs(executor_id, claim).await.map_err(relay),
            Self::Attempt(_) => Ok(Vec::new()),
        }
    }

    /// Renews the runner's lease; returns what it holds.
    pub(super) async fn renew(
        &self,
        executor_id: &str,
        runner_id: &str,
        lease: Option<Duration>,
    ) -> Result<Vec<HeldJob>, ApiError> {
        match self {
            Self::Queue(queue) => queue.renew(executor_id, runner_id, LEASE).await,
            Self::Remote(client) => {
                let lease_seconds = lease.and_then(|lease| u32::try_from(lease.as_secs()).ok());
                let renew = RenewJobs { runner_id: runner_id.to_owned(), lease_seconds };
                client.renew_jobs(executor_id, &renew).await.map_err(relay)
            }
            Self::Attempt(_) => Ok(Vec::new()),
        }
    }

    /// Keeps what an attempt has logged so far.
    pub(super) async fn log(&self, executor_id: &str, log: &AttemptLog) -> Result<(), ApiError> {
        match self {
            Self::Queue(queue) => queue.log(log).await.map(drop),
            Self::Remote(client) => client.log_job(executor_id, log).await.map(drop).map_err(relay),
            Self::Attempt(client) => client.log_attempt(log).await.map(drop).map_err(relay),
        }
    }

    /// Ends an attempt; false when it is no longer the runner's.
    pub(super) async fn finish(
        &self,
        executor_id: &str,
        claimed: &ClaimedJob,
        end: AttemptEnd,
        log: Option<AttemptLog>,
    ) -> Result<bool, ApiError> {
        match self {
            Self::Queue(queue) => queue.finish(claimed.clone(), end, log.as_ref()).await,
            Self::Remote(client) => {
                let held = held(claimed);
                let finish = FinishAttempt { held, end, log, node_id: None };
                client.finish_job(executor_id, &finish).await.map(|taken| taken.taken).map_err(relay)
            }
            Self::Attempt(client) => {
                let finish = FinishAttempt { held: held(claimed), end, log, node_id: None };
                client.finish_attempt(&finish).await.map(|taken| taken.taken).map_err(relay)
            }
        }
    }

    /// Gives back what the runner holds without knowing of it; false when it does not hold it.
    pub(super) async fn give_back(&self, executor_id: &str, held: HeldJob) -> Result<bool, ApiError> {
        let finish = FinishAttempt { held, end: AttemptEnd::Returned, log: None, node_id: None };
        match self {
            Self::Queue(queue) => queue.finish_held(Some(executor_id), finish).await,
            Self::Attempt(_) => Ok(false),
            Self::Remote(client) => {
                client.finish_job(executor_id, &finish).await.map(|taken| taken.taken).map_err(relay)
            }
        }
    }
}

/// What a runner says of a claimed job when it reports.
pub(super) fn held(claimed: &ClaimedJob) -> HeldJob {
    HeldJob { job_id: claimed.job.job_id.clone(), revision: claimed.revision }
}
