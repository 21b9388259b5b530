//! What becomes of a job when an attempt has ended.

use crate::error::{ApiError, Code};
use edict_client::records::{AttemptEnd, Job, JobStatus, RunFault};
use std::time::Duration;

/// Attempts that may be lost with their runner before the job counts as what ends its runners.
pub(super) const MOST_LOST: i64 = 5;

/// Longest wait before another attempt.
const LONGEST_DELAY: Duration = Duration::from_secs(60);

/// Wait before an attempt that was handed back starts again, unless its runner is going.
const RETURN_DELAY: Duration = Duration::from_secs(1);

/// Writes into the record what the end of its attempt makes of it; tells when the next attempt may start, if there is
/// one. `excused` attempts do not count against the job's `backoff_limit`.
pub(super) fn settle(job: &mut Job, excused: u32, end: AttemptEnd) -> Option<Duration> {
    let delay = match end {
        AttemptEnd::Completed { output } => {
            job.job_status = JobStatus::Completed;
            job.job_output_data = Some(output);
            job.error = None;
            None
        }
        AttemptEnd::Returned | AttemptEnd::Lost => Some(RETURN_DELAY),
        AttemptEnd::Failed(fault) => {
            let counted = job.attempts.saturating_sub(excused).max(1);
            let again = may_pass(&fault) && counted <= job.backoff_limit;
            job.error = Some(fault);
            if !again {
                job.job_status = JobStatus::Failed;
            }
            again.then(|| delay_after(counted))
        }
    };
    match delay {
        Some(_) => job.job_status = JobStatus::Pending,
        None => job.finished_at = Some(crate::now()),
    }
    delay
}

/// 1 s after the first failed attempt, twice as long after each further one.
fn delay_after(failed: u32) -> Duration {
    Duration::from_secs(1 << failed.saturating_sub(1).min(6)).min(LONGEST_DELAY)
}

/// Whether another attempt may do better: not if the policy is gone, or the input does not fit it.
fn may_pass(fault: &RunFault) -> bool {
    Code::from_text(&fault.code).is_none_or(|code| code.status().is_server_error())
}

/// A refusal or failure as jobs record it. What was logged is kept apart.
pub(super) fn fault(error: ApiError) -> RunFault {
    let (code, message) = (error.code().as_str().to_owned(), error.message().to_owned());
    let mut details = error.into_details();
    if let Some(details) = details.as_object_mut() {
        details.remove("logs");
    }
    RunFault { code, message, details }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::record::from_request;

    fn job(backoff_limit: u32, attempts: u32) -> Job {
        let request =
            serde_json::json!({"policy_rule_uri": "a:1-b", "inputs": 1, "backoff_limit": backoff_limit});
        let mut job =
            from_request(serde_json::from_str(&request.to_string()).unwrap(), "local", None).unwrap();
        (job.attempts, job.job_status) = (attempts, JobStatus::Running);
        job
    }

    fn failed(code: Code) -> AttemptEnd {
        AttemptEnd::Failed(fault(ApiError::new(code, "no")))
    }

    #[test]
    fn failed_attempts_are_repeated_as_often_as_allowed() {
        let end = |backoff_limit, attempts, excused| {
            let mut job = job(backoff_limit, attempts);
            let delay = settle(&mut job, excused, failed(Code::PolicyFailed));
            assert_eq!(job.finished_at.is_some(), job.job_status.is_final());
            (job.job_status, delay.map(|delay| delay.as_secs()))
        };
        assert_eq!(end(0, 1, 0), (JobStatus::Failed, None));
        assert_eq!(end(1, 1, 0), (JobStatus::Pending, Some(1)));
        assert_eq!(end(1, 2, 0), (JobStatus::Failed, None));
        assert_eq!(end(1, 2, 1), (JobStatus::Pending, Some(1)));
        assert_eq!(end(9, 4, 0), (JobStatus::Pending, Some(8)));
        assert_eq!(end(100, 9, 0), (JobStatus::Pending, Some(60)));
        assert_eq!(end(u32::MAX, u32::MAX, 0), (JobStatus::Pending, Some(60)));
    }

    #[test]
    fn what_cannot_pass_is_not_tried_again() {
        for code in [Code::PolicyNotFound, Code::InputInvalid, Code::ExecutorNotFound] {
            let mut job = job(5, 1);
            assert_eq!(settle(&mut job, 0, failed(code)), None);
            assert_eq!(job.error.unwrap().code, code.as_str());
        }
    }

    #[test]
    fn what_was_handed_back_waits_again() {
        let mut job = job(0, 1);
        assert!(settle(&mut job, 1, AttemptEnd::Returned).is_some());
        assert_eq!((job.job_status, job.error), (JobStatus::Pending, None));
    }
}
