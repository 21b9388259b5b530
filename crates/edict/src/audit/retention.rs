//! Removing what is older than `audit_retention_days`, in a way that leaves the chain verifiable.
//!
//! First an entry in the chain itself says through which entry the trail is trimmed, and that one's hash; only then may
//! those entries go (the database's triggers look). What is left begins with an entry whose `prev_hash` is known to the
//! chain. An action is never split: whoever reads about it reads all of it.

use super::append::{Appended, Place, Tell};
use super::{Audit, chain};
use crate::error::ApiError;
use crate::store::{Statement, Store};
use edict_client::records::AuditEntry;
use serde_json::json;
use std::time::Duration;

/// Entries that one trim removes at most, so that no statement takes long.
const MOST: i64 = 20_000;

/// Entries that one statement removes.
const STEP: i64 = 2_000;

/// Nothing younger may be removed, whatever the setting says: the triggers refuse the last day, by the database's clock.
const YOUNGEST: Duration = Duration::from_secs(25 * 3600);

impl Audit {
    /// Removes entries that are older than `age`, if any can go. Returns how many were removed.
    pub(crate) async fn trim(&self, age: Duration) -> Result<u64, ApiError> {
        // What an earlier trim was about to remove when it was interrupted.
        let mut removed = self.remove().await?;
        let until = crate::now_micros().saturating_sub(crate::micros(age.max(YOUNGEST)));
        while let Some((through, hash, entries)) = self.boundary(until).await? {
            let evidence = json!({"through": through, "hash": hash, "entries": entries});
            let entry = AuditEntry {
                action_id: uuid::Uuid::now_v7().to_string(),
                status: chain::TRIMMED.to_owned(),
                instance: self.instance.clone(),
                evidence: Some(evidence.to_string()),
                ..AuditEntry::default()
            };
            if let Appended::Written(seq) = self.append(entry, Place::Trim, None, &Tell::default()).await? {
                tracing::info!(seq, through, entries, "the audit trail is trimmed");
            }
            removed += self.remove().await?;
        }
        Ok(removed)
    }

    /// The last entry that can go, its hash, and how many go with it: all before it are old and end the actions that they
    /// tell of. None when there is nothing to remove.
    pub(super) async fn boundary(&self, until: i64) -> Result<Option<(i64, String, i64)>, ApiError> {
        let number = async |sql: &str, args: &[i64]| {
            let statement = Statement::new(sql).bind_all(args.iter().map(|arg| (*arg).into()));
            self.store
                .fetch_one::<(Option<i64>,)>(statement)
                .await
                .map(|row| row.and_then(|(number,)| number))
        };
        let Some(oldest) = number("SELECT min(seq) FROM audit_entries", &[]).await? else { return Ok(None) };
        let young = "SELECT min(seq) FROM audit_entries WHERE at >= $1 AND seq < $2";
        let end = oldest.saturating_add(MOST);
        let mut through = number(young, &[until, end]).await?.unwrap_or(end) - 1;
        // An action without an end up to there would be split: the boundary moves in front of it, and may then split
        // another one.
        let split = "SELECT min(seq) FROM audit_entries AS entry WHERE seq <= $1 AND step > 0 AND NOT EXISTS ( \
                     SELECT 1 FROM audit_entries AS done WHERE done.action_id = entry.action_id AND done.seq <= $1 \
                     AND done.status IN ('completed', 'failed', 'rejected'))";
        while let Some(seq) = number(split, &[through]).await? {
            through = seq - 1;
        }
        let sql = "SELECT seq, hash, (SELECT count(*) FROM audit_entries WHERE seq <= $1) FROM audit_entries \
                   WHERE seq <= $1 ORDER BY seq DESC LIMIT 1";
        let last = self.store.fetch_one::<(i64, String, i64)>(Statement::new(sql).bind(through)).await?;
        // A trim alone is not worth another one, which would be next.
        let only = "SELECT count(*) FROM audit_entries WHERE seq <= $1 AND step > 0";
        let worth = number(only, &[through]).await?.unwrap_or(0) > 0;
        Ok(last.filter(|_| worth))
    }

    /// Removes what the last trim has recorded, the oldest first, so that what is left stays connected.
    async fn remove(&self) -> Result<u64, ApiError> {
        let mut removed = 0;
        loop {
            let step = match &self.store {
                Store::Sqlite { .. } => {
                    let sql = "DELETE FROM audit_entries WHERE seq < (SELECT min(seq) FROM audit_entries) + $1 \
                               AND seq <= (SELECT json_extract(evidence, '$.through') FROM audit_entries \
                               WHERE status = 'trimmed' ORDER BY seq DESC LIMIT 1)";
                    self.store.execute(Statement::new(sql).bind(STEP)).await?
                }
                Store::Postgres(_) => {
                    let sql = "SELECT edict_audit_remove($1)";
                    let row = self.store.fetch_one::<(i64,)>(Statement::new(sql).bind(STEP)).await?;
                    row.map_or(0, |(count,)| u64::try_from(count).unwrap_or(0))
                }
            };
            if step == 0 {
                return Ok(removed);
            }
            removed += step;
        }
    }
}
