//! What makes a function's record valid.

use crate::error::{ApiError, Code};
use crate::execution::Compiled;
use edict_client::records::{Autoscaling, Function, FunctionChanges, Object, Policy};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Fields that only the server sets.
pub(super) const OWN_FIELDS: [&str; 8] = [
    "function_id",
    "function_executor_id",
    "function_executor_uri",
    "function_policy_data",
    "function_status",
    "created_at",
    "updated_at",
    "revision",
];

/// Words that stand in the place of a name in some route.
const ROUTES: [&str; 6] = ["call_function", "create", "deployments", "management", "query", "remove"];

/// Checks a function's name. It is part of addresses, log lines and metrics.
///
/// # Errors
/// 400 `invalid_name`.
pub(super) fn check_name(name: &str) -> Result<(), ApiError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let problem = if name.is_empty() {
        "must not be empty"
    } else if name.len() > 128 {
        "must have at most 128 characters"
    } else if !name.bytes().all(allowed) {
        "may only hold the characters A-Z a-z 0-9 . _ -"
    } else if matches!(name, "." | "..") {
        "must not be `.` or `..`, which addresses cannot hold"
    } else if ROUTES.contains(&name) {
        "must not be the name of a route"
    } else {
        return Ok(());
    };
    let shown = crate::shorten(name);
    Err(ApiError::new(Code::InvalidName, format!("field `name` {problem}, got `{shown}`"))
        .details(json!({"field": "name"})))
}

/// Checks how many replicas are wanted.
///
/// # Errors
/// 422 `invalid_autoscaling` when the bounds contradict each other or `replicas`, 400 when there are to be none.
pub(super) fn check_replicas(replicas: u32, autoscaling: Option<&Autoscaling>) -> Result<(), ApiError> {
    if let Some(rule) = autoscaling {
        check_rule(replicas, rule)?;
    }
    if replicas == 0 {
        return Err(ApiError::new(
            Code::InvalidField,
            "field `replicas` must be at least 1; remove the function to stop it",
        ));
    }
    Ok(())
}

fn check_rule(replicas: u32, rule: &Autoscaling) -> Result<(), ApiError> {
    let (least, most) = (rule.min_replicas, rule.max_replicas);
    let target = rule.target_cpu_utilization_percentage;
    let longest = rule.scale_up_stabilization_seconds.max(rule.scale_down_stabilization_seconds);
    let problem = if least == 0 {
        "`min_replicas` must be at least 1".to_owned()
    } else if least > most {
        format!("`min_replicas` is `{least}`, which is more than `max_replicas`, `{most}`")
    } else if !(1..=1000).contains(&target) {
        format!("`target_cpu_utilization_percentage` must be between 1 and 1000, got `{target}`")
    } else if longest > 3600 {
        format!("a stabilization window has at most 3600 seconds, got `{longest}`")
    } else if rule.enabled && !(least..=most).contains(&replicas) {
        format!(
            "`replicas` is `{replicas}`, which is not between `min_replicas`, `{least}`, and `max_replicas`, `{most}`"
        )
    } else {
        return Ok(());
    };
    Err(ApiError::new(Code::InvalidAutoscaling, format!("field `autoscaling`: {problem}")))
}

/// How many replicas a deployment starts with.
pub(super) fn replicas(told: Option<u32>, autoscaling: Option<&Autoscaling>) -> u32 {
    let least = autoscaling.filter(|rule| rule.enabled).map(|rule| rule.min_replicas);
    told.or(least).unwrap_or(1)
}

/// Checks what a deployment says about replicas, before anyone is asked where they could run.
///
/// # Errors
/// As [`check_replicas`].
pub(super) fn check_bounds(told: Option<u32>, autoscaling: Option<&Autoscaling>) -> Result<(), ApiError> {
    check_replicas(replicas(told, autoscaling), autoscaling)
}

/// The function's policy as its replicas run it: with the function's settings and parameters, and what management
/// commands changed of them.
///
/// # Errors
/// When the record is not valid, which only a change behind the server's back can cause.
pub(super) fn compile(function: &Function, changes: FunctionChanges) -> Result<Compiled, ApiError> {
    let data = Value::Object(function.function_policy_data.clone());
    let mut policy: Policy = serde_json::from_value(data).map_err(ApiError::internal)?;
    policy.policy_settings.extend(function.policy_rule_settings.clone());
    policy.policy_parameters.extend(function.policy_rule_parameters.clone());
    Compiled::new(policy, changes.changes)
}

/// Tells apart what a function's record asks of its replicas: those of one edition are interchangeable.
pub(super) fn edition(function: &Function) -> String {
    let parts = json!([
        function.created_at,
        function.function_policy_data,
        function.policy_rule_settings,
        function.policy_rule_parameters,
    ]);
    let digest = Sha256::digest(parts.to_string().as_bytes());
    hex::encode(digest.get(..10).unwrap_or_default())
}

/// Checks the function's settings and parameters against its policy's schemas.
///
/// # Errors
/// 422.
pub(super) fn check_values(function: &Function) -> Result<(), ApiError> {
    let compiled = compile(function, FunctionChanges::default())?;
    compiled.settings.with(None, &compiled.uri)?;
    compiled.parameters.with(None, &compiled.uri)?;
    Ok(())
}

/// Settings and parameters that replicas start with unless management commands changed them.
pub(super) fn values(function: &Function) -> (Object, Object) {
    let of = |field: &str| function.function_policy_data.get(field).and_then(Value::as_object).cloned();
    let mut settings = of("policy_settings").unwrap_or_default();
    settings.extend(function.policy_rule_settings.clone());
    let mut parameters = of("policy_parameters").unwrap_or_default();
    parameters.extend(function.policy_rule_parameters.clone());
    (settings, parameters)
}

/// Replicas that a function has a claim to on its executor: autoscaling adds to them what is free.
pub(super) fn claim(replicas: u32, autoscaling: Option<&Autoscaling>) -> u32 {
    match autoscaling {
        Some(rule) if rule.enabled => replicas.clamp(rule.min_replicas, rule.max_replicas),
        _ => replicas,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_kubernetes_names_and_addresses_can_be_made_of() {
        for good in ["funcA", "check-ip-fn", "a", "-a", "a..b", "_", &"x".repeat(128), "9.9"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "ü", "a\n", "query", "create", &"x".repeat(129)] {
            assert_eq!(check_name(bad).unwrap_err().code(), Code::InvalidName, "{bad}");
        }
    }

    #[test]
    fn bounds_must_agree() {
        let rule = |json: Value| serde_json::from_value::<Autoscaling>(json).unwrap();
        assert!(check_replicas(2, Some(&rule(json!({"min_replicas": 1, "max_replicas": 5})))).is_ok());
        assert!(check_replicas(1, None).is_ok());
        assert_eq!(check_replicas(0, None).unwrap_err().code(), Code::InvalidField);
        for bad in [
            json!({"min_replicas": 0, "max_replicas": 5}),
            json!({"min_replicas": 6, "max_replicas": 5}),
            json!({"min_replicas": 3, "max_replicas": 5}),
            json!({"max_replicas": 1}),
            json!({"max_replicas": 5, "target_cpu_utilization_percentage": 0}),
            json!({"max_replicas": 5, "target_cpu_utilization_percentage": 1001}),
            json!({"max_replicas": 5, "scale_down_stabilization_seconds": 3601}),
        ] {
            let error = check_replicas(2, Some(&rule(bad.clone()))).unwrap_err();
            assert_eq!(error.code(), Code::InvalidAutoscaling, "{bad}");
        }
        assert!(check_replicas(9, Some(&rule(json!({"enabled": false, "max_replicas": 5})))).is_ok());
    }
}
