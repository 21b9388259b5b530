//! How failed runs are told to callers.

use crate::error::{ApiError, Code};
use edict_client::records::LogRecord;
use edict_runtime::{Limit, RunError};
use serde_json::json;
use std::time::Duration;

/// The caller's answer to a failed run of `uri`, with what the run logged.
pub(super) fn describe(uri: &str, error: RunError, logs: Vec<LogRecord>) -> ApiError {
    let answer = match error {
        RunError::Failed { kind, message, traceback, .. } => {
            let details = json!({"type": kind, "message": message, "traceback": traceback, "logs": logs});
            return ApiError::new(Code::PolicyFailed, format!("policy `{uri}` raised `{kind}`: {message}"))
                .details(details);
        }
        RunError::Load { message, traceback, .. } => {
            let details = json!({"message": message, "traceback": traceback, "logs": logs});
            return ApiError::new(Code::PolicyLoadFailed, format!("policy `{uri}` cannot be loaded: {message}"))
                .details(details);
        }
        RunError::Limit { which: Limit::Timeout, limit, .. } => ApiError::new(
            Code::PolicyTimeout,
            format!("policy `{uri}` was stopped after {limit}; raise `execution_limits.timeout_ms` if that is too short"),
        ),
        RunError::Limit { which, limit, .. } => ApiError::new(
            Code::PolicyLimitExceeded,
            format!("policy `{uri}` was stopped: it used more than its {} limit of {limit}", which.as_str()),
        ),
        RunError::Crashed { exit, .. } => ApiError::new(
            Code::PolicyCrashed,
            format!("the process of policy `{uri}` ended before it answered: {exit}"),
        ),
        RunError::OutputNotJson { message, .. } => ApiError::new(
            Code::PolicyOutputInvalid,
            format!("what policy `{uri}` returned is not JSON: {message}"),
        ),
        RunError::NoManagement { .. } => ApiError::new(
            Code::CommandInvalid,
            format!("policy `{uri}` takes no management commands: its class has no method `management`"),
        ),
        RunError::Busy { retry_after } => {
            return ApiError::new(Code::Overloaded, "every place and the queue of this executor are taken; try again")
                .retry_after(retry_after.max(Duration::from_secs(1)));
        }
        RunError::Stopping => return ApiError::new(Code::ShuttingDown, "this executor is stopping; try again"),
        RunError::Internal(cause) => return ApiError::internal(cause),
    };
    answer.details(json!({"logs": logs}))
}
