//! Entries out of the database.

use crate::store::{Statement, Store, StoreError};
use edict_client::records::{AuditEntry, AuditHead};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};

/// Entries that are in memory at once.
pub(super) const BATCH: i64 = 1000;

/// A row of `audit_entries`. A column that does not have its type any more, which only a tamperer can have caused, is
/// read as its default: then the hash does not fit, and verification names the entry instead of giving up.
pub(super) struct Entry(pub(super) AuditEntry);

impl<'r, R: Row> FromRow<'r, R> for Entry
where
    &'static str: ColumnIndex<R>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
    String: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> sqlx::Result<Self> {
        let number = |column| row.try_get::<i64, _>(column).unwrap_or_default();
        let text = |column| row.try_get::<String, _>(column).unwrap_or_default();
        let optional = |column| row.try_get::<Option<String>, _>(column).unwrap_or_default();
        Ok(Self(AuditEntry {
            seq: row.try_get("seq")?,
            at: number("at"),
            prev_hash: text("prev_hash"),
            step: number("step"),
            action_id: text("action_id"),
            status: text("status"),
            instance: text("instance"),
            action_type: optional("action_type"),
            namespace: optional("namespace"),
            resource_type: optional("resource_type"),
            resource_name: optional("resource_name"),
            action_params: optional("action_params"),
            requested_by: optional("requested_by"),
            policy_decision: optional("policy_decision"),
            signature: optional("signature"),
            ip_address: optional("ip_address"),
            dry_run: row.try_get("dry_run").unwrap_or_default(),
            kind: optional("kind"),
            evidence: optional("evidence"),
            error_code: optional("error_code"),
            error_message: optional("error_message"),
            result: optional("result"),
            execution_ms: row.try_get("execution_ms").unwrap_or_default(),
            hash: text("hash"),
        }))
    }
}

/// The entries after number `after`, a batch of them.
pub(super) async fn batch(store: &Store, after: i64) -> Result<Vec<AuditEntry>, StoreError> {
    let sql = "SELECT * FROM audit_entries WHERE seq > $1 ORDER BY seq LIMIT $2";
    let statement = Statement::new(sql).bind(after).bind(BATCH);
    Ok(store.fetch::<Entry>(statement).await?.into_iter().map(|Entry(entry)| entry).collect())
}

/// The entries of an action, the oldest first.
pub(super) async fn of_action(store: &Store, id: &str) -> Result<Vec<AuditEntry>, StoreError> {
    let sql = "SELECT * FROM audit_entries WHERE action_id = $1 AND step > 0 ORDER BY step";
    let entries = store.fetch::<Entry>(Statement::new(sql).bind(id)).await?;
    Ok(entries.into_iter().map(|Entry(entry)| entry).collect())
}

/// Where the chain ends by what the database keeps beside it; none when that row is gone.
pub(super) async fn head(store: &Store) -> Result<Option<AuditHead>, StoreError> {
    let head = store.fetch_one::<(i64, String)>(Statement::new("SELECT seq, hash FROM audit_head")).await?;
    Ok(head.map(|(seq, hash)| AuditHead { seq, hash }))
}
