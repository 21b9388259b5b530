//! `edict decide --policies`: decides without a server.

use super::super::failure::Failure;
use super::{Answer, Considered};
use crate::decisions::folder::files;
use edict_client::records::{DecisionError, DecisionRequest};
use edict_engine::{Answers, Decision, EvaluationError, Policy, PolicyError, PolicySet, Request, Timestamp};
use std::path::Path;

pub(super) fn decide(path: &Path, request: DecisionRequest, explain: bool) -> Result<Answer, Failure> {
    let set = compile(policies(path)?)?;
    let DecisionRequest { action, resource, kind, context } = request;
    let request = Request::new(action, resource, kind, context)
        .map_err(|error| Failure::usage(format!("the request cannot be decided: {error}")))?;
    // Python policies run on a server only: what they would say is unknown here, and told so.
    let answers = Answers::default();
    let explanation = set.explain(&request, Timestamp::now(), &answers);
    let considered = explanation.considered.iter().filter(|_| explain).map(|policy| Considered {
        policy: policy.policy.to_owned(),
        effect: policy.effect.as_str(),
        priority: policy.priority,
        applied: policy.applied,
        stage: stage(policy),
        why: policy.why.clone(),
    });
    let considered = considered.collect();
    let Decision { allowed, reason, applied_policies, errors } = explanation.decision;
    Ok(Answer {
        allowed,
        reason: reason.into_owned(),
        applied_policies: applied_policies.into_iter().map(str::to_owned).collect(),
        decision_id: None,
        errors: errors.into_iter().map(error).collect(),
        considered,
    })
}

/// The policies in a file or folder.
pub(super) fn policies(path: &Path) -> Result<Vec<Policy>, Failure> {
    let read = files::read(path);
    let filed = read.map_err(|fault| Failure::failed(format!("`{}`: {fault}", path.display())))?;
    Ok(filed.into_iter().map(|filed| filed.policy).collect())
}

pub(super) fn compile(policies: Vec<Policy>) -> Result<PolicySet, Failure> {
    PolicySet::compile(policies).map_err(|errors| {
        Failure::failed(errors.iter().map(PolicyError::to_string).collect::<Vec<_>>().join("\n"))
    })
}

/// The stage as it is spelt in JSON.
pub(super) fn stage(policy: &edict_engine::Considered<'_>) -> String {
    let stage = serde_json::to_value(policy.stage).unwrap_or_default();
    stage.as_str().unwrap_or_default().to_owned()
}

fn error(error: EvaluationError<'_>) -> DecisionError {
    DecisionError { policy: error.policy.to_owned(), field: error.field.to_owned(), message: error.message }
}
