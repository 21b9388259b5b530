//! Actions out of the database: each with its first entry, which says what was asked for, and its latest, which says what
//! became of it.

use super::entries::Entry;
use super::text::shown;
use crate::error::{ApiError, Code};
use edict_client::records::{AuditEntry, AuditLog, AuditStatus, Seconds};
use edict_filter::Dialect;
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// From where the columns of a [`Log`] come.
pub(super) const FROM: &str = "FROM audit_entries AS first JOIN audit_entries AS latest \
    ON latest.action_id = first.action_id \
    AND latest.step = (SELECT max(step) FROM audit_entries AS entry WHERE entry.action_id = first.action_id) \
    WHERE first.step = 1";

/// The columns of a [`Log`].
pub(super) const COLUMNS: &str = "first.*, latest.at AS latest_at, latest.status AS latest_status, \
    latest.policy_decision AS latest_decision, latest.error_code AS latest_code, \
    latest.error_message AS latest_message, latest.result AS latest_result, latest.execution_ms AS latest_ms";

/// An action as a row of the query that [`COLUMNS`] and [`FROM`] make.
pub(super) struct Log {
    first: AuditEntry,
    latest: AuditEntry,
}

impl<'r, R: Row> FromRow<'r, R> for Log
where
    Entry: FromRow<'r, R>,
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let optional = |column| row.try_get::<Option<String>, _>(column).unwrap_or_default();
        let latest = AuditEntry {
            at: row.try_get("latest_at").unwrap_or_default(),
            status: optional("latest_status").unwrap_or_default(),
            policy_decision: optional("latest_decision"),
            error_code: optional("latest_code"),
            error_message: optional("latest_message"),
            result: optional("latest_result"),
            execution_ms: row.try_get("latest_ms").unwrap_or_default(),
            ..AuditEntry::default()
        };
        Ok(Self { first: Entry::from_row(row)?.0, latest })
    }
}

impl Log {
    /// An action that these entries tell of, the oldest first; none without entries.
    pub(super) fn of(entries: &[AuditEntry]) -> Option<Self> {
        Some(Self { first: entries.first()?.clone(), latest: entries.last()?.clone() })
    }

    pub(super) fn record(self) -> AuditLog {
        let Self { first, latest } = self;
        // A word that no server writes was put there by somebody else; verification names the entry.
        let status = AuditStatus::from_text(&latest.status).unwrap_or(AuditStatus::Failed);
        let ended = matches!(status, AuditStatus::Completed | AuditStatus::Failed | AuditStatus::Rejected);
        AuditLog {
            id: first.action_id,
            action_type: first.action_type,
            status,
            namespace: first.namespace,
            resource_type: first.resource_type,
            resource_name: first.resource_name,
            action_params: shown(first.action_params),
            requested_by: first.requested_by,
            policy_decision: shown(latest.policy_decision.or(first.policy_decision)),
            execution_duration: latest.execution_ms,
            error_code: latest.error_code,
            error_message: latest.error_message,
            result: shown(latest.result),
            signature: first.signature,
            ip_address: first.ip_address,
            dry_run: first.dry_run.unwrap_or_default(),
            created_at: moment(first.at),
            completed_at: ended.then(|| moment(latest.at)),
            steps: Vec::new(),
        }
    }
}

/// Microseconds since 1970 as replies write them.
pub(crate) fn moment(micros: i64) -> String {
    let time = OffsetDateTime::UNIX_EPOCH.checked_add(Duration::microseconds(micros));
    crate::timestamp(time.unwrap_or(OffsetDateTime::UNIX_EPOCH))
}

/// The time that a query parameter names, in microseconds since 1970: RFC 3339, or how long ago, such as `24h`.
///
/// # Errors
/// 400 when it is neither.
pub(super) fn time(name: &str, text: &str) -> Result<i64, ApiError> {
    if let Ok(ago) = text.parse::<Seconds>() {
        return Ok(crate::now_micros().saturating_sub(crate::micros(ago.duration())));
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| {
        ApiError::new(
            Code::InvalidParameter,
            format!(
                "query parameter `{name}`: `{}` is no time; write it like `2026-01-31T12:00:00Z`, or how long ago, like \
                 `90m` or `24h`",
                crate::shorten(text)
            ),
        )
    })?;
    i64::try_from(time.unix_timestamp_nanos() / 1000).map_err(ApiError::internal)
}

/// When an action was asked for, spelt as the database's index does: on PostgreSQL the one of the view's `createdAt`.
pub(super) fn created(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "first.at",
        Dialect::Postgres => "to_timestamp(first.at::float8 / 1000000)",
    }
}

/// Placeholder number `number`, which holds microseconds, to compare [`created`] with.
pub(super) fn instant(dialect: Dialect, number: usize) -> String {
    match dialect {
        Dialect::Sqlite => format!("${number}"),
        Dialect::Postgres => format!("to_timestamp(${number}::float8 / 1000000)"),
    }
}
