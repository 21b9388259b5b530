//! Asking an allocator.

use super::candidates::{Candidate, candidates, to_input};
use crate::app::App;
use crate::error::{ApiError, Code};
use edict_client::records::{Alloc, DeployFunction, ExecutePolicy, Labels, SubmitJob};
use serde::{Deserialize, Serialize};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

/// What is to be placed.
pub(crate) struct Request<'a> {
    kind: &'static str,
    /// The request as its caller made it, but for the input of jobs, which may be large and is not the allocator's
    /// business.
    request: Value,
    node_selector: &'a Labels,
    alloc: Option<&'a Alloc>,
}

impl<'a> Request<'a> {
    /// For a job.
    pub(crate) fn job(job: &'a SubmitJob) -> Self {
        let request = json!({
            "name": job.name,
            "policy_rule_uri": job.policy_rule_uri,
            "policy_rule_parameters": job.policy_rule_parameters,
            "policy_rule_settings": job.policy_rule_settings,
            "node_selector": job.node_selector,
            "timeout": job.timeout,
            "backoff_limit": job.backoff_limit,
        });
        Self { kind: "job", request, node_selector: &job.node_selector, alloc: job.alloc.as_ref() }
    }

    /// For a function.
    pub(crate) fn function(function: &'a DeployFunction) -> Result<Self, ApiError> {
        let request = serde_json::to_value(function).map_err(ApiError::internal)?;
        let alloc = function.alloc.as_ref();
        Ok(Self { kind: "function", request, node_selector: &function.node_selector, alloc })
    }
}

/// What an allocator chose.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) executor_id: String,
    /// How many replicas, if it said so.
    pub(crate) replicas: Option<u32>,
}

/// What an allocator returns.
#[derive(Deserialize)]
struct Answer {
    // Not `Option` alone, which may be left out: an answer that does not say is no answer.
    #[serde(deserialize_with = "Option::deserialize")]
    executor_id: Option<String>,
    #[serde(default)]
    replicas: Option<u32>,
    #[serde(default)]
    passed_over: Vec<PassedOver>,
}

/// An executor that was not chosen, and why.
#[derive(Debug, Serialize, Deserialize)]
struct PassedOver {
    executor_id: String,
    reason: String,
}

/// Lets the allocator that the request names, or the default one, choose an executor.
///
/// # Errors
/// 404 `policy_not_found` when there is no such allocator; 422 `no_executor_fits`, with why each executor was passed
/// over; 502 `allocator_failed` when it fails, or names an executor that isn't there or lacks the labels asked for.
pub(crate) async fn choose(app: &App, request: &Request<'_>) -> Result<Choice, ApiError> {
    let named = request.alloc.and_then(|alloc| alloc.resource_allocator_policy_uri.as_deref());
    let uri = named.unwrap_or(&app.settings.default_allocator);
    let candidates = candidates(app, request.node_selector).await?;
    let input = json!({
        "kind": request.kind,
        "request": request.request,
        "executors": to_input(&candidates)?,
    });
    let run = ExecutePolicy {
        policy_rule_uri: uri.to_owned(),
        input_data: to_raw_value(&input).map_err(ApiError::internal)?,
        parameters: request.alloc.map(|alloc| alloc.parameters.clone()),
        settings: request.alloc.map(|alloc| alloc.settings.clone()),
    };
    let finished = app.runner.execute(run, None).await.map_err(|error| failed(uri, error))?;
    let answer: Answer = serde_json::from_str(finished.data.get()).map_err(|error| {
        let told = error.to_string();
        let problem = told.split(" at line ").next().unwrap_or_default();
        nonsense(
            uri,
            &format!("returned something else than `executor_id`, `replicas` and `passed_over`: {problem}"),
        )
    })?;
    match &answer.executor_id {
        None => Err(none_fits(&candidates, answer.passed_over)),
        Some(_) => chosen(uri, &candidates, answer),
    }
}

fn chosen(uri: &str, candidates: &[Candidate], answer: Answer) -> Result<Choice, ApiError> {
    let executor_id = answer.executor_id.unwrap_or_default();
    let shown = crate::shorten(&executor_id);
    let found = candidates.iter().find(|candidate| candidate.executor.executor_id == executor_id);
    let Some(found) = found else {
        return Err(nonsense(uri, &format!("chose the executor `{shown}`, which isn't there")));
    };
    if let Some(reason) = found.unfit() {
        return Err(nonsense(uri, &format!("chose the executor `{shown}`, which does not fit: {reason}")));
    }
    if answer.replicas == Some(0) {
        return Err(nonsense(uri, "chose `0` replicas; it must be at least 1, or left out"));
    }
    Ok(Choice { executor_id, replicas: answer.replicas })
}

/// The allocator's own faults become faults of the allocation; what the caller can mend (an unknown allocator, wrong
/// overrides, too much load) stays what it is.
fn failed(uri: &str, error: ApiError) -> ApiError {
    let code = error.code();
    if !(code == Code::InputInvalid || matches!(code.status().as_u16(), 502 | 504)) {
        return error;
    }
    let message = format!("the allocator `{uri}` failed: {}", error.message());
    let details = json!({"code": code.as_str(), "message": error.message(), "details": error.into_details()});
    ApiError::new(Code::AllocatorFailed, message).details(json!({"error": details}))
}

fn nonsense(uri: &str, problem: &str) -> ApiError {
    ApiError::new(Code::AllocatorFailed, format!("the allocator `{uri}` {problem}"))
}

/// The error that lists why each executor was passed over: in the allocator's words, else in ours.
fn none_fits(candidates: &[Candidate], told: Vec<PassedOver>) -> ApiError {
    let passed_over = |candidate: &Candidate| {
        let executor_id = candidate.executor.executor_id.clone();
        let reason = told.iter().find(|told| told.executor_id == executor_id);
        let reason = reason.map_or_else(|| candidate.against(), |told| told.reason.clone());
        PassedOver { executor_id, reason }
    };
    let all: Vec<PassedOver> = candidates.iter().map(passed_over).collect();
    let listed: Vec<String> =
        all.iter().map(|one| format!("`{}`: {}", one.executor_id, crate::shorten(&one.reason))).collect();
    ApiError::new(Code::NoExecutorFits, format!("no executor fits; {}", listed.join("; ")))
        .details(json!({"executors": all}))
}
