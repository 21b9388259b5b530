//! What servers that are gone left behind.
//!
//! A server says every two seconds that it lives; one that has not done so for [`LEASE`] counts as gone, and others look
//! at the cluster and end its actions. It may only be slow: so whoever is about to change something asks
//! [`Audit::holds`] first, and the end that is written first is the one that counts.

use super::{Attempt, Audit, entries};
use crate::error::ApiError;
use crate::store::{Statement, Store};
use edict_client::records::{AuditEntry, AuditStatus};
use serde_json::Value;
use serde_json::value::RawValue;
use std::sync::PoisonError;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// A server that has been silent for this long is gone.
const LEASE: Duration = Duration::from_secs(15);

/// What a server itself takes for its lease, reckoned from before it last said that it lives.
const OWN_LEASE: Duration = Duration::from_secs(10);

/// How often a server says that it lives.
pub(crate) const RENEW: Duration = Duration::from_secs(2);

/// Actions that are handed out at once.
const MOST: i64 = 100;

/// The clock that all servers on PostgreSQL share, in microseconds.
const CLOCK: &str = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)";

/// An action without an end, of a server that is gone.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    pub(crate) id: Uuid,
    /// `pending`: nothing was changed. `in_progress`: something may have been.
    pub(crate) status: AuditStatus,
    pub(crate) attempt: Attempt,
    /// How the target was before; null while it is `pending`.
    pub(crate) evidence: Value,
    /// When the last entry was written, in microseconds since 1970.
    pub(crate) at: i64,
}

impl Audit {
    /// Says that this server lives. On SQLite there is no other that could want to know.
    pub(crate) async fn renew(&self) -> Result<(), ApiError> {
        let before = Instant::now();
        if let Store::Postgres(_) = self.store {
            let sql = format!(
                "INSERT INTO servers (instance, seen_at) VALUES ($1, {CLOCK}) \
                 ON CONFLICT (instance) DO UPDATE SET seen_at = excluded.seen_at"
            );
            self.store.execute(Statement::new(sql).bind(self.instance.as_str())).await?;
            let sql = format!("DELETE FROM servers WHERE seen_at < {CLOCK} - $1");
            self.store.execute(Statement::new(sql).bind(crate::micros(LEASE * 60))).await?;
        }
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        Ok(())
    }

    /// Says that this server goes, so that others need not wait until it counts as gone.
    pub(crate) async fn leave(&self) {
        let sql = "DELETE FROM servers WHERE instance = $1";
        if let Err(error) = self.store.execute(Statement::new(sql).bind(self.instance.as_str())).await {
            tracing::warn!(%error, "what this server leaves behind is found only when it counts as silent");
        }
    }

    /// Whether nobody takes this server for gone, so that it may change something that it has announced.
    pub(crate) fn holds(&self) -> bool {
        let alone = matches!(self.store, Store::Sqlite { .. });
        let renewed = *self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        alone || renewed.is_some_and(|renewed| renewed.elapsed() < OWN_LEASE)
    }

    /// Actions that are pending or in progress, of servers that are gone; some of them, if there are many.
    pub(crate) async fn unfinished(&self) -> Result<Vec<Unfinished>, ApiError> {
        let statement = match self.store {
            Store::Sqlite { .. } => Statement::new(
                "SELECT action_id FROM audit_unfinished WHERE instance <> $1 ORDER BY action_id LIMIT $2",
            )
            .bind(self.instance.as_str()),
            Store::Postgres(_) => Statement::new(format!(
                "SELECT action_id FROM audit_unfinished WHERE NOT EXISTS (SELECT 1 FROM servers \
                 WHERE servers.instance = audit_unfinished.instance AND seen_at >= {CLOCK} - $1) \
                 ORDER BY action_id LIMIT $2"
            ))
            .bind(crate::micros(LEASE)),
        };
        let mut found = Vec::new();
        for (id,) in self.store.fetch::<(String,)>(statement.bind(MOST)).await? {
            let entries = entries::of_action(&self.store, &id).await?;
            found.extend(unfinished(&id, &entries));
        }
        Ok(found)
    }
}

/// An action as its entries tell it; none when they have been tampered with.
fn unfinished(id: &str, entries: &[AuditEntry]) -> Option<Unfinished> {
    let (first, last) = (entries.first()?, entries.last()?);
    let raw = |text: &Option<String>| text.clone().and_then(|text| RawValue::from_string(text).ok());
    let attempt = Attempt {
        action_type: first.action_type.clone()?,
        namespace: first.namespace.clone(),
        resource_type: first.resource_type.clone(),
        resource_name: first.resource_name.clone(),
        action_params: raw(&first.action_params)?,
        requested_by: first.requested_by.clone(),
        policy_decision: raw(&first.policy_decision),
        signature: first.signature.clone(),
        ip_address: first.ip_address.as_deref().and_then(|address| address.parse().ok()),
        dry_run: first.dry_run?,
    };
    Some(Unfinished {
        id: id.parse().ok()?,
        status: AuditStatus::from_text(&last.status)?,
        attempt,
        evidence: last
            .evidence
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
        at: last.at,
    })
}
