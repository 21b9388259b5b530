//! From a request to a job's record.

use crate::error::{ApiError, Code};
use edict_client::records::{Job, JobStatus, SubmitJob};
use serde_json::Value;
use serde_json::value::RawValue;

/// Characters of a name.
const LONGEST_NAME: usize = 256;

/// Levels of a stored value: one less than what readers of JSON take, since records hold it.
const DEEPEST: usize = 126;

/// A new job for an executor.
///
/// # Errors
/// 400 when the name or the time limit is not usable, or the input cannot be stored.
pub(super) fn from_request(
    request: SubmitJob,
    executor_id: &str,
    node_id: Option<String>,
) -> Result<Job, ApiError> {
    let invalid = |field: &str, problem: &str| {
        Err(ApiError::new(Code::InvalidField, format!("field `{field}` {problem}")))
    };
    let name = request.name.unwrap_or_else(|| request.policy_rule_uri.clone());
    if name.is_empty() || name.chars().count() > LONGEST_NAME || name.contains('\0') {
        return invalid("name", &format!("must have 1 to {LONGEST_NAME} characters, without NUL"));
    }
    if request.timeout.is_some_and(|timeout| timeout.duration().is_zero()) {
        return invalid("timeout", "must be above 0; leave it out for the policy's own limit");
    }
    if let Err(problem) = storable(&request.inputs) {
        return invalid("inputs", &problem);
    }
    let overrides = [&request.policy_rule_parameters, &request.policy_rule_settings];
    for (field, object) in ["policy_rule_parameters", "policy_rule_settings"].iter().zip(overrides) {
        if object.iter().any(|object| object.values().any(edict_filter::contains_nul)) {
            return invalid(field, "holds a NUL character, which databases cannot store; remove it");
        }
    }
    Ok(Job {
        job_id: uuid::Uuid::now_v7().to_string(),
        name,
        job_status: JobStatus::Pending,
        executor_id: executor_id.to_owned(),
        policy_rule_uri: request.policy_rule_uri,
        policy_rule_parameters: request.policy_rule_parameters.unwrap_or_default(),
        policy_rule_settings: request.policy_rule_settings.unwrap_or_default(),
        node_selector: request.node_selector,
        node_id,
        waiting_for: None,
        inputs: request.inputs,
        timeout: request.timeout,
        backoff_limit: request.backoff_limit.unwrap_or(0),
        attempts: 0,
        job_output_data: None,
        error: None,
        created_at: crate::now(),
        started_at: None,
        finished_at: None,
    })
}

/// Whether both databases can keep a value that passes through as text.
///
/// # Errors
/// Why not.
pub(super) fn storable(value: &RawValue) -> Result<(), String> {
    let value: Value = serde_json::from_str(value.get()).map_err(|error| {
        let text = error.to_string();
        format!("cannot be stored: {}", text.split(" at line ").next().unwrap_or(&text))
    })?;
    if edict_filter::contains_nul(&value) {
        return Err("holds a NUL character, which databases cannot store; remove it".to_owned());
    }
    if depth(&value) > DEEPEST {
        return Err(format!("is nested more than {DEEPEST} levels deep"));
    }
    Ok(())
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_databases_cannot_keep_is_refused() {
        let check = |text: &str| storable(&RawValue::from_string(text.to_owned()).unwrap());
        assert!(check("{\"a\": [1, 2.5, \"x\", null]}").is_ok());
        assert!(check(&format!("{}{}", "[".repeat(126), "]".repeat(126))).is_ok());
        for bad in ["\"\\u0000\"", "{\"\\u0000\": 1}", "\"\\ud800\"", "1e999"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&format!("{}{}", "[".repeat(127), "]".repeat(127))).is_err());
    }
}
