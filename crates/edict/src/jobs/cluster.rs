//! Attempts that run as Kubernetes Jobs. A Job goes on without this process, which finds it again after a restart: carrying an
//! attempt out that is under way already is to wait for it.
//!
//! Its pod reads what it is to do from the policy system, and reports there ([`super::pod`]). This side watches: it tells what
//! the pod could not, and what became of pods that cannot tell anything any more.

use super::pod;
use super::settle::fault;
use super::source::held;
use crate::error::{ApiError, Code};
use crate::executors::pods::Pods;
use crate::store::Statement;
use edict_client::Client;
use edict_client::records::{
    AttemptEnd, AttemptLog, ClaimedJob, FinishAttempt, JobStatus, RunFault, Seconds, WaitingJob,
};
use edict_kube::{Fault, JobEnd, JobPod, Problem, ProblemKind};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long the jobs of an executor in a cluster stay its own without a word from it: its pod may be anywhere between two
/// nodes while its jobs run.
pub(super) const LEASE: Duration = Duration::from_secs(3600);
/// How long a Job may take beyond its policy's own time: for a place, for the image, for installing requirements.
const ALLOWANCE: Duration = Duration::from_secs(900);
/// How long the Job of an attempt that has ended stays, for people who look.
const TTL: Duration = Duration::from_secs(600);
/// How long a pod takes to start without anybody asking why, and how often it is asked.
const START: Duration = Duration::from_secs(10);
/// Between two tries to start a Job.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a pod whose end is known may take to leave by itself.
const LEAVING: Duration = Duration::from_secs(60);

/// Gives back what the executor in a cluster holds, which would else stay its own for as long as its lease: nobody is there any
/// more to carry it out.
pub(crate) fn release(executor_id: &str) -> Statement {
    Statement::new("DELETE FROM runners WHERE runner_id = $1").bind(Cluster::runner_id(executor_id).as_str())
}

/// Carries attempts out in a cluster.
pub(crate) struct Cluster {
    pods: Arc<Pods>,
    client: Client,
    /// Attempts that run and that nobody held a while ago.
    strays: Mutex<HashSet<(String, u32)>>,
}

/// What came of an attempt.
pub(super) enum Outcome {
    /// Its pod has told the policy system itself.
    Told,
    /// To be told.
    End(AttemptEnd, Option<AttemptLog>),
}

impl Cluster {
    pub(crate) fn new(pods: Arc<Pods>, client: Client) -> Arc<Self> {
        Arc::new(Self { pods, client, strays: Mutex::default() })
    }

    /// Stays the same from process to process: the jobs do.
    pub(super) fn runner_id(executor_id: &str) -> String {
        format!("cluster/{executor_id}")
    }

    /// What this executor's runner holds without having it here: it was started by a predecessor.
    pub(super) async fn adopt(&self, job_id: &str) -> Result<ClaimedJob, ApiError> {
        Ok(self.client.attempt(job_id).await.map_err(crate::execution::relay)?.claimed)
    }

    /// Carries out an attempt, or waits for the end of one that is under way.
    pub(super) async fn run(&self, claimed: &ClaimedJob) -> Outcome {
        let (job_id, attempt) = (claimed.job.job_id.as_str(), claimed.job.attempts);
        self.clear_earlier(job_id, attempt).await;
        if let Err(fault) = self.start(claimed).await {
            return Outcome::End(AttemptEnd::Failed(fault), None);
        }
        let end = tokio::select! {
            end = self.pods.workloads.job_ended(job_id, attempt) => end,
            never = self.tell_what_it_waits_for(claimed) => match never {},
        };
        self.outcome(claimed, end).await
    }

    /// Ends attempts before this one: two of a job must not run at once.
    async fn clear_earlier(&self, job_id: &str, attempt: u32) {
        let workloads = &self.pods.workloads;
        let earlier =
            workloads.jobs().into_iter().filter(|seen| seen.job_id == job_id && seen.attempt < attempt);
        for seen in earlier.filter(|seen| !seen.ended) {
            self.remove(job_id, seen.attempt).await;
        }
    }

    /// Makes the Job, as often as it takes; what cannot pass is told.
    async fn start(&self, claimed: &ClaimedJob) -> Result<(), RunFault> {
        let pod = self.pod(claimed).map_err(fault)?;
        loop {
            match self.pods.workloads.start_job(&pod).await {
                Ok(()) => return Ok(()),
                Err(fault @ (Fault::Refused { .. } | Fault::Conflict { .. } | Fault::NotFound { .. })) => {
                    return Err(refused(&fault));
                }
                Err(error) => {
                    tracing::warn!(job = claimed.job.job_id, %error, "a job cannot be started yet, trying again");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn pod(&self, claimed: &ClaimedJob) -> Result<JobPod, ApiError> {
        let job = &claimed.job;
        let limits = claimed.limits.clone().unwrap_or_default();
        let timeout = self.pods.timeout(&limits);
        let timeout = job.timeout.map_or(timeout, Seconds::duration);
        let token = claimed.token.as_deref().unwrap_or_default();
        let token = self.pods.seal.close(&job.job_id, token).map_err(ApiError::internal)?;
        Ok(JobPod {
            job_id: job.job_id.clone(),
            attempt: job.attempts,
            revision: claimed.revision,
            args: vec!["job".to_owned()],
            env: BTreeMap::from([
                ("EDICT_JOB".to_owned(), job.job_id.clone()),
                ("EDICT_JOB_TOKEN".to_owned(), token),
            ]),
            node_selector: job.node_selector.clone(),
            memory_mb: self.pods.memory_mb(&limits),
            deadline: timeout + ALLOWANCE,
            ttl: TTL,
        })
    }

    /// Tells what keeps a pod from starting, whenever it is something else.
    async fn tell_what_it_waits_for(&self, claimed: &ClaimedJob) -> Infallible {
        let job = &claimed.job;
        let mut told = job.waiting_for.clone();
        let mut pause = START;
        loop {
            tokio::time::sleep(pause).await;
            let waits = self.pods.workloads.job_waits(&job.job_id, job.attempts).await;
            // That this has passed is seen on the pod; why there is none has to be asked.
            let is_seen = waits.as_ref().is_some_and(|problem| problem.kind == ProblemKind::Unschedulable);
            pause = if is_seen { AGAIN } else { START };
            let waiting_for = waits.map(|problem| problem.message);
            if waiting_for == told {
                continue;
            }
            if let Some(problem) = &waiting_for {
                tracing::warn!(job = job.job_id, attempt = job.attempts, problem, "the pod of a job waits");
            }
            let waiting = WaitingJob { held: held(claimed), waiting_for };
            match self.client.wait_job(&job.executor_id, &waiting).await {
                Ok(_) => told = waiting.waiting_for,
                Err(error) => tracing::debug!(job = job.job_id, %error, "what a job waits for is told later"),
            }
        }
    }

    async fn outcome(&self, claimed: &ClaimedJob, end: JobEnd) -> Outcome {
        let (exit_code, problem) = match end {
            JobEnd::Succeeded => return Outcome::Told,
            JobEnd::Gone => return Outcome::End(AttemptEnd::Lost, None),
            JobEnd::Failed { exit_code, problem } => (exit_code, problem),
        };
        let (job_id, attempt) = (claimed.job.job_id.as_str(), claimed.job.attempts);
        // It may have ended, and failed to say so.
        let log = self.pods.workloads.job_output(job_id, attempt).await.ok().flatten().unwrap_or_default();
        if let Some(FinishAttempt { end, log, .. }) = pod::told_in(&log) {
            return Outcome::End(end, log);
        }
        if problem.kind == ProblemKind::Evicted {
            tracing::warn!(job = job_id, problem = problem.message, "the pod of an attempt is gone");
            return Outcome::End(AttemptEnd::Lost, None);
        }
        Outcome::End(AttemptEnd::Failed(failed(claimed, exit_code, &problem)), None)
    }

    /// An attempt is no longer ours: cancelled, or its pod has told of its end.
    pub(super) async fn leave(&self, job_id: &str, attempt: u32) {
        let told = match self.client.get_job(job_id, None).await {
            Ok(job) => matches!(job.job_status, JobStatus::Completed | JobStatus::Failed),
            Err(_) => false,
        };
        // The end of one that was told is known; only its pod is yet to leave.
        let ended = self.pods.workloads.job_ended(job_id, attempt);
        if told && tokio::time::timeout(LEAVING, ended).await.is_ok() {
            return;
        }
        if let Err(error) = self.pods.workloads.remove_job(job_id, attempt).await {
            tracing::warn!(job = job_id, %error, "the job of an attempt that is over cannot be removed yet");
        }
    }

    /// Ends what runs in the cluster and nobody holds, such as what was cancelled while this executor was away. Whatever is
    /// found twice in a row is no longer on its way here.
    pub(super) fn sweep(self: &Arc<Self>, held: &HashSet<String>) {
        let seen = self.pods.workloads.jobs().into_iter();
        let strays = seen.filter(|seen| !seen.ended && !held.contains(&seen.job_id));
        let strays: HashSet<_> = strays.map(|seen| (seen.job_id, seen.attempt)).collect();
        let before = {
            let mut kept = self.strays.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *kept, strays.clone())
        };
        for (job_id, attempt) in strays.intersection(&before).cloned() {
            tracing::info!(job = job_id, attempt, "ending a job in the cluster that is nobody's any more");
            let cluster = Arc::clone(self);
            tokio::spawn(async move { cluster.leave(&job_id, attempt).await });
        }
    }

    async fn remove(&self, job_id: &str, attempt: u32) {
        while let Err(error) = self.pods.workloads.remove_job(job_id, attempt).await {
            tracing::warn!(job = job_id, attempt, %error, "an earlier attempt cannot be ended yet");
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Why the cluster does not take the job.
fn refused(fault: &Fault) -> RunFault {
    RunFault {
        code: Code::PodFailed.as_str().to_owned(),
        message: format!("the cluster does not take the job: {fault}"),
        details: serde_json::Value::Null,
    }
}

fn failed(claimed: &ClaimedJob, exit_code: Option<i32>, problem: &Problem) -> RunFault {
    let uri = &claimed.job.policy_rule_uri;
    let message = &problem.message;
    let (code, message) = match problem.kind {
        ProblemKind::OutOfMemory => (
            Code::PolicyLimitExceeded,
            format!("policy `{uri}` was stopped: it exceeded its limit of memory ({message})"),
        ),
        ProblemKind::Deadline => {
            (Code::PodFailed, format!("the job's pod did not get to its end in time: {message}"))
        }
        _ => (Code::PodFailed, format!("the job's pod failed: {message}")),
    };
    RunFault { code: code.as_str().to_owned(), message, details: json!({"exit_code": exit_code}) }
}
