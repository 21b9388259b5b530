//! What makes a policy record valid.

use crate::error::{ApiError, Code};
use crate::http::document;
use edict_client::records::{Object, Policy};
use edict_schema::{Commands, Fault, Schema};
use serde_json::{Value, json};

/// Fields that only the server sets.
pub(super) const OWN_FIELDS: [&str; 5] =
    ["policy_rule_uri", "code_digest", "created_at", "updated_at", "revision"];

/// Turns a payload into a record: known fields only, names and schemas checked, derived fields set anew. What only the
/// server sets is taken from `previous`, or starts empty.
///
/// # Errors
/// 400 for unknown fields, wrong types and names; 422 for schemas that are not valid.
pub(crate) fn from_payload(mut payload: Object, previous: Option<&Policy>) -> Result<Policy, ApiError> {
    for field in OWN_FIELDS {
        payload.remove(field);
    }
    if let Some(tags) = payload.get_mut("tags") {
        join_tags(tags)?;
    }
    let mut policy: Policy = document(payload, Policy::known_fields())?;
    for (field, name) in
        [("name", &policy.name), ("version", &policy.version), ("release_tag", &policy.release_tag)]
    {
        check_name(field, name)?;
    }
    if policy.code.trim().is_empty() {
        return Err(ApiError::new(
            Code::InvalidField,
            "field `code` is empty: give the URL of an archive, an asset URI, or the source of `function.py`",
        ));
    }
    check_schemas(&policy)?;
    check_limits(&policy)?;
    policy.policy_rule_uri = policy.uri();
    let now = crate::now();
    policy.created_at = previous.map_or_else(|| now.clone(), |old| old.created_at.clone());
    policy.code_digest = previous.and_then(|old| old.code_digest.clone());
    policy.revision = previous.map_or(1, |old| old.revision + 1);
    policy.updated_at = now;
    Ok(policy)
}

/// A list of tags is accepted for the comma-separated string that records hold.
fn join_tags(tags: &mut Value) -> Result<(), ApiError> {
    let Value::Array(list) = tags else { return Ok(()) };
    let words: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    let joined = words
        .filter(|words| words.iter().all(|word| !word.contains(',')))
        .map(|words| words.join(","))
        .ok_or_else(|| {
            ApiError::new(Code::InvalidField, "field `tags`: a list must hold strings without commas")
        })?;
    *tags = Value::String(joined);
    Ok(())
}

/// Checks a part of a record's address. These end up in URLs, file names and log lines, so little is allowed.
///
/// # Errors
/// 400 `invalid_name`.
pub(crate) fn check_name(field: &str, name: &str) -> Result<(), ApiError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let problem = if name.is_empty() {
        "must not be empty"
    } else if name.len() > 128 {
        "must have at most 128 characters"
    } else if !name.bytes().all(allowed) {
        "may only hold the characters A-Z a-z 0-9 . _ -"
    } else if name.contains("..") || name.starts_with(['.', '-']) {
        "must not start with `.` or `-`, nor hold `..`"
    } else {
        return Ok(());
    };
    let shown = crate::shorten(name);
    Err(ApiError::new(Code::InvalidName, format!("field `{field}` {problem}, got `{shown}`"))
        .details(json!({"field": field})))
}

fn check_schemas(policy: &Policy) -> Result<(), ApiError> {
    let schemas = [
        ("policy_input_schema", &policy.policy_input_schema),
        ("policy_output_schema", &policy.policy_output_schema),
        ("policy_settings_schema", &policy.policy_settings_schema),
        ("policy_parameters_schema", &policy.policy_parameters_schema),
    ];
    for (field, schema) in schemas {
        check_schema(field, schema)?;
    }
    Commands::compile(&Value::Array(policy.management_commands_schema.clone()))
        .map_err(|faults| invalid_schema("management_commands_schema", &faults))?;
    Ok(())
}

/// Checks a field that holds a schema.
///
/// # Errors
/// 422 `invalid_schema`.
pub(crate) fn check_schema(field: &str, schema: &Object) -> Result<(), ApiError> {
    let compiled = Schema::compile(&Value::Object(schema.clone()));
    compiled.map(drop).map_err(|faults| invalid_schema(field, &faults))
}

fn invalid_schema(field: &str, faults: &[Fault]) -> ApiError {
    let first = faults.first().map(|fault| format!("at `{}`: {}", fault.pointer, fault.message));
    ApiError::new(
        Code::InvalidSchema,
        format!("field `{field}` is not a valid schema {}", first.unwrap_or_default()),
    )
    .details(json!({"field": field, "faults": faults_json(faults)}))
}

/// Faults as error details.
pub(crate) fn faults_json(faults: &[Fault]) -> Value {
    faults.iter().map(|fault| json!({"pointer": fault.pointer, "message": fault.message})).collect()
}

fn check_limits(policy: &Policy) -> Result<(), ApiError> {
    let Some(limits) = &policy.execution_limits else { return Ok(()) };
    let checks = [
        ("timeout_ms", limits.timeout_ms, 1, 86_400_000),
        ("memory_mb", limits.memory_mb, 32, 1 << 20),
        ("cpu_seconds", limits.cpu_seconds, 1, 86_400),
        ("processes", limits.processes.map(u64::from), 1, 4096),
    ];
    for (field, value, least, most) in checks {
        if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
            return Err(ApiError::new(
                Code::InvalidField,
                format!("field `execution_limits.{field}` must be between {least} and {most}, got `{value}`"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(changes: Value) -> Object {
        let mut payload = json!({"name": "a", "version": "1.0", "release_tag": "beta", "code": "x:1-2"});
        for (name, value) in changes.as_object().unwrap() {
            payload[name] = value.clone();
        }
        payload.as_object().unwrap().clone()
    }

    #[test]
    fn names_that_are_dangerous_elsewhere_are_refused() {
        for name in ["", "a/b", "a:b", "..", "a..b", ".a", "-a", "a\nb", "a b", "ü", "a\0", &"x".repeat(129)]
        {
            let error = from_payload(payload(json!({"name": name})), None).unwrap_err();
            assert!([Code::InvalidName, Code::InvalidField].contains(&error.code()), "{name:?}");
        }
        assert!(from_payload(payload(json!({"name": "A-z_0.9"})), None).is_ok());
    }

    #[test]
    fn unknown_fields_name_the_nearest() {
        let error = from_payload(payload(json!({"policy_setings": {}})), None).unwrap_err();
        assert_eq!(error.code(), Code::UnknownField);
        let text = format!("{error:?}");
        assert!(text.contains("did you mean `policy_settings`?"), "{text}");
    }

    #[test]
    fn wrong_types_name_the_field() {
        let error = from_payload(payload(json!({"version": 1.0})), None).unwrap_err();
        assert!(format!("{error:?}").contains("field `version`"), "{error:?}");
    }

    #[test]
    fn tags_may_be_a_list() {
        assert_eq!(from_payload(payload(json!({"tags": ["a", "b"]})), None).unwrap().tags, "a,b");
        assert!(from_payload(payload(json!({"tags": ["a,b"]})), None).is_err());
    }

    #[test]
    fn the_server_sets_its_own_fields() {
        let policy = from_payload(payload(json!({"revision": 7, "policy_rule_uri": "z:1-1"})), None).unwrap();
        assert_eq!((policy.revision, policy.policy_rule_uri.as_str()), (1, "a:1.0-beta"));
    }
}
