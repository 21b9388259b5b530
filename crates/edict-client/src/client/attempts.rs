//! `/executor/<id>/jobs`: how an executor gets attempts of jobs, and reports on them.

use super::Client;
use crate::Error;
use crate::records::{
    AttemptBrief, AttemptLog, BeginAttempt, ClaimJobs, ClaimedJob, FinishAttempt, HeldJob, RenewJobs, Taken,
    WaitingJob,
};

impl Client {
    /// Gives a runner the next attempts of jobs that wait for its executor.
    pub async fn claim_jobs(&self, executor: &str, claim: &ClaimJobs) -> Result<Vec<ClaimedJob>, Error> {
        Ok(self.post(&["executor", executor, "jobs", "claim"], claim).await?.data)
    }

    /// Renews a runner's lease on its jobs; returns those that it holds.
    pub async fn renew_jobs(&self, executor: &str, renew: &RenewJobs) -> Result<Vec<HeldJob>, Error> {
        Ok(self.post(&["executor", executor, "jobs", "renew"], renew).await?.data)
    }

    /// Tells what keeps an attempt from starting.
    pub async fn wait_job(&self, executor: &str, waiting: &WaitingJob) -> Result<Taken, Error> {
        Ok(self.post(&["executor", executor, "jobs", "waiting"], waiting).await?.data)
    }

    /// Keeps what an attempt has logged so far.
    pub async fn log_job(&self, executor: &str, log: &AttemptLog) -> Result<Taken, Error> {
        Ok(self.post(&["executor", executor, "jobs", "log"], log).await?.data)
    }

    /// Ends an attempt.
    pub async fn finish_job(&self, executor: &str, finish: &FinishAttempt) -> Result<Taken, Error> {
        Ok(self.post(&["executor", executor, "jobs", "finish"], finish).await?.data)
    }

    /// Begins an attempt, for the process that carries it out: what it needs to know, and whether another one was faster.
    pub async fn begin_attempt(&self, job: &str, runner: &str) -> Result<AttemptBrief, Error> {
        let begin = BeginAttempt { runner: runner.to_owned() };
        Ok(self.post(&["jobs", job, "attempt"], &begin).await?.data)
    }

    /// What an attempt needs to know, for the executor that holds it.
    pub async fn attempt(&self, job: &str) -> Result<AttemptBrief, Error> {
        self.get(&["jobs", job, "attempt"]).await
    }

    /// As [`log_job`](Self::log_job), for the attempt itself.
    pub async fn log_attempt(&self, log: &AttemptLog) -> Result<Taken, Error> {
        Ok(self.post(&["jobs", &log.job_id, "attempt", "log"], log).await?.data)
    }

    /// As [`finish_job`](Self::finish_job), for the attempt itself.
    pub async fn finish_attempt(&self, finish: &FinishAttempt) -> Result<Taken, Error> {
        Ok(self.post(&["jobs", &finish.held.job_id, "attempt", "finish"], finish).await?.data)
    }
}
