//! What executors and the policy system tell each other about the attempts of jobs.

use super::{ExecutionLimits, Job, LogRecord, Policy, PolicyState, RunFault};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Body of `POST /executor/<id>/jobs/claim`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ClaimJobs {
    /// Differs from process to process.
    pub runner_id: String,
    /// The machine that the process runs on.
    pub node_id: String,
    /// How many jobs it can take.
    pub places: u32,
}

/// A job whose next attempt has been given to a runner.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClaimedJob {
    /// The job, with this attempt counted.
    pub job: Job,
    /// Changes with every change of the job: whoever reports on it says which one it knows.
    pub revision: u64,
    /// Attempts so far that do not count against the job's `backoff_limit`.
    #[serde(default)]
    pub excused: u32,
    /// The edition of the policy that is current; null when there is no such policy any more.
    #[serde(default)]
    pub edition: Option<String>,
    /// The policy's limits, for an executor that sets a place for it aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<ExecutionLimits>,
    /// A token that is good for this attempt only, for an executor that has it run elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Body of `POST /jobs/<job_id>/attempt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct BeginAttempt {
    /// Tells the process that begins it from every other one: the uid of its pod.
    pub runner: String,
}

/// What an attempt that runs in a process of its own needs to know: reply of `GET` and `POST /jobs/<job_id>/attempt`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptBrief {
    /// The job, with this attempt counted.
    pub claimed: ClaimedJob,
    /// Its policy as it is now; null when there is none any more.
    pub policy: Option<Policy>,
    /// What management commands changed of the policy on the job's executor.
    pub state: PolicyState,
    /// Whether another process has begun this attempt: then whoever asks must leave it alone.
    #[serde(default)]
    pub begun_elsewhere: bool,
}

/// Body of `POST /executor/<id>/jobs/renew`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RenewJobs {
    /// Differs from process to process, unless jobs outlive the process.
    pub runner_id: String,
    /// How long the runner's jobs stay its own without hearing from it. 10 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_seconds: Option<u32>,
}

/// A job that a runner holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct HeldJob {
    /// Which job.
    pub job_id: String,
    /// Its revision since the runner has it.
    pub revision: u64,
}

/// Body of `POST /executor/<id>/jobs/waiting`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct WaitingJob {
    /// Which job, from which revision.
    pub held: HeldJob,
    /// What keeps its attempt from starting; null when nothing does any more.
    #[serde(default)]
    pub waiting_for: Option<String>,
}

/// Body of `POST /executor/<id>/jobs/finish`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct FinishAttempt {
    /// Which job, from which revision.
    pub held: HeldJob,
    /// What came of the attempt.
    pub end: AttemptEnd,
    /// What it logged since it last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<AttemptLog>,
    /// The node that it ran on, where that is not its executor's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
}

/// What came of an attempt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum AttemptEnd {
    /// `eval` returned.
    Completed {
        /// What it returned.
        #[cfg_attr(feature = "openapi", schema(value_type = Object))]
        output: Box<RawValue>,
    },
    /// It failed.
    Failed(RunFault),
    /// It was given up for reasons that are not the job's, which shall be tried again.
    Returned,
    /// What ran it is gone: its pod was evicted, or its node is away.
    Lost,
}

/// What an attempt printed and logged: body of `POST /executor/<id>/jobs/log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AttemptLog {
    /// Which job.
    pub job_id: String,
    /// Its attempt, 1 for the first.
    pub attempt: u32,
    /// Number of the first of these records in the attempt, from 0.
    pub first: u32,
    /// The records.
    pub records: Vec<LogRecord>,
}

/// Whether the policy system took what an executor reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Taken {
    /// False when the job is no longer the executor's.
    pub taken: bool,
}
