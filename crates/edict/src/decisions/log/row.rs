//! A row of the table as the API shows it.

use crate::error::ApiError;
use edict_client::records::{ContextCut, DecisionError, LoggedDecision};
use edict_filter::Dialect;
use serde::Deserialize;
use serde_json::value::RawValue;
use time::{Duration, OffsetDateTime};

/// `id`, `created_at`, `action`, `resource`, `type`, `user_id`, `allowed`, `more`.
pub(super) type Columns = (String, i64, String, String, String, Option<String>, i64, String);

/// How [`Columns`] are selected.
pub(super) const SELECT: &str = "SELECT id, created_at, action, resource, type, user_id, \
     CAST(CASE WHEN allowed THEN 1 ELSE 0 END AS bigint), more FROM decision_log";

/// The condition that a decision policy, the argument with this number, applied.
pub(super) fn applied(dialect: Dialect, number: usize) -> String {
    match dialect {
        Dialect::Sqlite => {
            format!("EXISTS (SELECT 1 FROM json_each(more, '$.policies') WHERE value = ${number})")
        }
        Dialect::Postgres => format!("more::jsonb -> 'policies' ? ${number}"),
    }
}

/// What [`super::line`] writes.
#[derive(Deserialize)]
struct More {
    reason: String,
    policies: Vec<String>,
    #[serde(default)]
    errors: Vec<DecisionError>,
    ns: u64,
    request: String,
    ip: Option<String>,
    agent: Option<String>,
    context: Option<Box<RawValue>>,
    cut: Option<ContextCut>,
}

/// Fields of a context that have a place of their own.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Who {
    role: Option<String>,
    roles: Option<Vec<String>>,
    ip_address: Option<String>,
    user_agent: Option<String>,
}

pub(super) fn show(columns: Columns) -> Result<LoggedDecision, ApiError> {
    let (decision_id, created_at, action, resource, kind, user_id, allowed, more) = columns;
    let more: More = serde_json::from_str(&more).map_err(ApiError::internal)?;
    let who =
        more.context.as_deref().and_then(|context| serde_json::from_str::<Option<Who>>(context.get()).ok());
    let who = who.flatten().unwrap_or_default();
    let nothing = || RawValue::from_string("{}".to_owned()).map_err(ApiError::internal);
    #[expect(clippy::cast_precision_loss, reason = "no decision takes the weeks after which digits are lost")]
    let duration_ms = more.ns as f64 / 1e6;
    Ok(LoggedDecision {
        decision_id,
        created_at: crate::timestamp(OffsetDateTime::UNIX_EPOCH + Duration::microseconds(created_at)),
        action,
        resource,
        kind,
        user_id,
        role: who.role,
        roles: who.roles.unwrap_or_default(),
        ip_address: who.ip_address.or(more.ip),
        user_agent: who.user_agent.or(more.agent),
        context: more.context.map_or_else(nothing, Ok)?,
        context_cut: more.cut,
        allowed: allowed != 0,
        reason: more.reason,
        applied_policies: more.policies,
        errors: more.errors,
        duration_ms,
        request_id: more.request,
    })
}
