//! What the audit trail keeps of a request before anything comes of it.

use super::request::Request;
use crate::audit::Attempt;
use crate::decisions::Origin;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A request that could be read. What it says of its target has not been checked.
pub(super) fn of(request: &Request, origin: &Origin) -> Attempt {
    let params: Value = serde_json::from_str(request.params_text.get()).unwrap_or_default();
    Attempt {
        action_type: request.action_type.clone(),
        requested_by: Some(request.requested_by.clone()),
        policy_decision: request.policy_decision.clone(),
        signature: request.signature.clone(),
        dry_run: request.dry_run,
        ..with(&params, request.params_text.clone(), origin)
    }
}

/// A request that could not be read: as much as can be made out, since it may be an attack in the making.
pub(super) fn unreadable(body: &[u8], origin: &Origin) -> Attempt {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
    let params = body.get("actionParams").unwrap_or(&Value::Null);
    Attempt {
        action_type: text("actionType").unwrap_or_default(),
        requested_by: text("requestedBy"),
        policy_decision: body.get("policyDecision").and_then(|decision| to_raw_value(decision).ok()),
        signature: text("signature"),
        dry_run: body.get("dryRun") == Some(&Value::Bool(true)),
        ..with(params, to_raw_value(params).unwrap_or_else(|_| RawValue::NULL.to_owned()), origin)
    }
}

fn with(params: &Value, action_params: Box<RawValue>, origin: &Origin) -> Attempt {
    let text = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
    let (resource_type, resource_name) = match (text("podName"), text("deploymentName")) {
        (Some(pod), _) => (Some("pod".to_owned()), Some(pod)),
        (None, Some(deployment)) => (Some("deployment".to_owned()), Some(deployment)),
        (None, None) => (None, None),
    };
    Attempt {
        action_type: String::new(),
        namespace: text("namespace"),
        resource_type,
        resource_name,
        action_params,
        requested_by: None,
        policy_decision: None,
        signature: None,
        ip_address: origin.ip,
        dry_run: false,
    }
}
