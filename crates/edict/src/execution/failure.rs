//! How failed runs are told to callers.

use super::runner::records;
use crate::error::{ApiError, Code};
use edict_runtime::{Fault, Limit, RunError};
use serde_json::json;

/// The caller's answer to a failed run of `uri`, with what the run logged.
pub(crate) fn describe(uri: &str, error: RunError) -> ApiError {
    let logs = records(error.logs);
    match error.fault {
        Fault::Failed { kind, message, traceback } => {
            ApiError::new(Code::PolicyFailed, format!("policy `{uri}` raised `{kind}`: {message}"))
                .details(json!({"type": kind, "message": message, "traceback": traceback, "logs": logs}))
        }
        Fault::Load { kind, message, traceback } => ApiError::new(
            Code::PolicyLoadFailed,
            format!("policy `{uri}` cannot be loaded: `{kind}`: {message}"),
        )
        .details(json!({"type": kind, "message": message, "traceback": traceback, "logs": logs})),
        Fault::Limit(limit) => {
            let code = if matches!(limit, Limit::Timeout(_)) {
                Code::PolicyTimeout
            } else {
                Code::PolicyLimitExceeded
            };
            ApiError::new(code, format!("policy `{uri}` was stopped: it exceeded its limit of {limit}"))
                .details(json!({"limit": limit.name(), "logs": logs}))
        }
        Fault::Crashed { how } => {
            ApiError::new(Code::PolicyCrashed, format!("policy `{uri}` did not answer: its process {how}"))
                .details(json!({"exit": how, "logs": logs}))
        }
        Fault::OutputNotJson { place } => ApiError::new(
            Code::PolicyOutputInvalid,
            format!("what policy `{uri}` returned is not JSON: {place}"),
        )
        .details(json!({"logs": logs})),
        fault @ Fault::NoManagement => {
            ApiError::new(Code::CommandInvalid, format!("policy `{uri}`: {fault}"))
        }
        Fault::Busy { retry_after } => {
            ApiError::new(Code::Overloaded, "every place and the queue of this executor are taken; try again")
                .retry_after(retry_after)
        }
        Fault::Stopping => ApiError::new(Code::ShuttingDown, "this executor is stopping; try again"),
        other => ApiError::internal(other),
    }
}
