//! One attempt: a run of the job's policy, its log as it grows, its end.
//!
//! This is what a pod would stand in for: [`run`] starts it and waits, dropping its future ends it.

use super::record::storable;
use super::settle::fault;
use super::source::Source;
use crate::error::{ApiError, Code};
use crate::execution::Runner;
use edict_client::records::{AttemptEnd, AttemptLog, ClaimedJob, ExecutePolicy, LogRecord, Seconds};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often a growing log is stored.
const FLUSH: Duration = Duration::from_secs(1);

/// What an attempt has logged, as far as it is not stored yet.
#[derive(Default)]
pub(super) struct Log(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Number of the first record here.
    first: u32,
    records: Vec<LogRecord>,
}

impl Log {
    fn add(&self, record: LogRecord) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).records.push(record);
    }

    fn is_untouched(&self) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.first == 0 && kept.records.is_empty()
    }

    /// What is to be stored. It stays here until it is known to be.
    pub(super) fn unsaved(&self, claimed: &ClaimedJob) -> Option<AttemptLog> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (!kept.records.is_empty()).then(|| AttemptLog {
            job_id: claimed.job.job_id.clone(),
            attempt: claimed.job.attempts,
            first: kept.first,
            records: kept.records.clone(),
        })
    }

    fn saved(&self, count: usize) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.records.drain(..count);
        kept.first = kept.first.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

/// Carries out an attempt. Dropping the future ends it, with every process that it has started.
pub(super) async fn run(runner: &Runner, source: &Source, claimed: &ClaimedJob, log: &Log) -> AttemptEnd {
    tokio::select! {
        end = evaluate(runner, claimed, log) => end,
        () = keep(source, claimed, log) => AttemptEnd::Returned,
    }
}

async fn evaluate(runner: &Runner, claimed: &ClaimedJob, log: &Log) -> AttemptEnd {
    let job = &claimed.job;
    let request = ExecutePolicy {
        policy_rule_uri: job.policy_rule_uri.clone(),
        input_data: job.inputs.clone(),
        parameters: Some(job.policy_rule_parameters.clone()),
        settings: Some(job.policy_rule_settings.clone()),
    };
    // An edition that no policy has makes an executor ask for the current one.
    let edition = Some(claimed.edition.as_deref().unwrap_or_default());
    let timeout = job.timeout.map(Seconds::duration);
    let output = runner.attempt(request, edition, timeout, &|record| log.add(record)).await;
    match output {
        Ok(output) => match storable(&output) {
            Ok(()) => AttemptEnd::Completed { output },
            Err(problem) => {
                let message = format!("what policy `{}` returned {problem}", job.policy_rule_uri);
                AttemptEnd::Failed(fault(ApiError::new(Code::PolicyOutputInvalid, message)))
            }
        },
        // Not the job's fault: the executor has no room, is going, or cannot reach the policy system.
        Err(error)
            if matches!(error.code(), Code::Overloaded | Code::ShuttingDown | Code::StorageUnavailable) =>
        {
            AttemptEnd::Returned
        }
        Err(error) => {
            // What a failed import printed comes with the error only.
            if log.is_untouched() {
                let details = error.clone().into_details();
                let logs = details.get("logs").cloned().unwrap_or_default();
                let records: Vec<LogRecord> = serde_json::from_value(logs).unwrap_or_default();
                records.into_iter().for_each(|record| log.add(record));
            }
            AttemptEnd::Failed(fault(error))
        }
    }
}

/// Stores the log as it grows, for as long as it is polled.
async fn keep(source: &Source, claimed: &ClaimedJob, log: &Log) {
    loop {
        tokio::time::sleep(FLUSH).await;
        let Some(unsaved) = log.unsaved(claimed) else { continue };
        match source.log(&claimed.job.executor_id, &unsaved).await {
            Ok(()) => log.saved(unsaved.records.len()),
            Err(error) => tracing::debug!(error = error.message(), "a job's log was not taken"),
        }
    }
}
