//! What makes an executor record valid.

use crate::error::{ApiError, Code};
use crate::http::document;
use crate::policies::record::check_name;
use edict_client::records::{Executor, ExecutorStatus, Object};

/// Fields that only the server sets.
pub(super) const OWN_FIELDS: [&str; 3] = ["created_at", "updated_at", "revision"];

/// Turns a payload into a record. What only the server sets is taken from `previous`, or starts anew.
///
/// # Errors
/// 400 for unknown fields, wrong types, names and addresses.
pub(crate) fn from_payload(mut payload: Object, previous: Option<&Executor>) -> Result<Executor, ApiError> {
    for field in OWN_FIELDS {
        payload.remove(field);
    }
    let mut executor: Executor = document(payload, Executor::known_fields())?;
    check_name("executor_id", &executor.executor_id)?;
    if executor.executor_id == "query" {
        return Err(ApiError::new(
            Code::InvalidName,
            "field `executor_id` must not be `query`, which is a route",
        ));
    }
    match &executor.executor_host_uri {
        Some(uri) => check_host(uri)?,
        None => executor.executor_status = ExecutorStatus::Pending,
    }
    let now = crate::now();
    executor.created_at = previous.map_or_else(|| now.clone(), |old| old.created_at.clone());
    executor.revision = previous.map_or(1, |old| old.revision + 1);
    executor.updated_at = now;
    Ok(executor)
}

/// Checks an executor's address.
pub(crate) fn check_host(uri: &str) -> Result<(), ApiError> {
    let valid = reqwest::Url::parse(uri).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    });
    if valid {
        return Ok(());
    }
    Err(ApiError::new(
        Code::InvalidField,
        format!(
            "field `executor_host_uri` must be a URL such as `http://10.0.0.7:10250`, got `{}`",
            crate::shorten(uri)
        ),
    ))
}
