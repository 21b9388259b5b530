//! Appending an entry: one transaction, under the chain's lock.
//!
//! On PostgreSQL it is one call of a function (`migrations/postgres/0008_audit.sql`), so that the lock is held only while the
//! database itself works; on SQLite, which is in this process and has one writer, the same steps are taken here. A change
//! to one of the two belongs into the other as well.

use super::{Limit, chain};
use crate::store::{Statement, Store, StoreError, Tx};
use edict_client::records::AuditEntry;
use std::time::Duration;

/// Where an entry belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is its action's first one.
    First,
    /// Its action is pending.
    Begin,
    /// Its action has no end yet.
    End,
    /// It is about no action, but about older entries.
    Trim,
}

impl Place {
    const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Begin => "begin",
            Self::End => "end",
            Self::Trim => "trim",
        }
    }
}

/// What the webhook is to be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Tell {
    /// Of this.
    pub(super) event: Option<&'static str>,
    /// And of an action that has been completed so many times on its target; 0: never.
    pub(super) repeats: i64,
    /// Within this time, in microseconds.
    pub(super) span: i64,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// It is in the chain, under this number.
    Written(i64),
    /// Nothing was written: the limit is reached until then.
    Limited(Duration),
    /// Nothing was written: the action is not where it should be, because somebody else has ended it.
    Ended,
}

pub(super) async fn append(
    store: &Store,
    entry: AuditEntry,
    place: Place,
    limit: Option<(&str, Limit)>,
    tell: &Tell,
) -> Result<Appended, StoreError> {
    let delivery = uuid::Uuid::now_v7().to_string();
    if let Store::Postgres(_) = store {
        return call(store, &entry, place, limit, tell, delivery).await;
    }
    let mut tx = store.begin().await?;
    let appended = step_by_step(&mut tx, entry, place, limit, tell, delivery).await?;
    if let Appended::Written(_) = appended {
        tx.commit().await?;
    }
    Ok(appended)
}

/// The function's call, which is a transaction of its own.
async fn call(
    store: &Store,
    entry: &AuditEntry,
    place: Place,
    limit: Option<(&str, Limit)>,
    tell: &Tell,
    delivery: String,
) -> Result<Appended, StoreError> {
    let sql = "SELECT written, retry FROM edict_audit_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    let statement = Statement::new(sql)
        .bind(chain::content(entry))
        .bind(entry.action_id.as_str())
        .bind(place.as_str())
        .bind(limit.map(|(kind, _)| kind.to_owned()))
        .bind(limit.map(|(_, limit)| crate::micros(limit.ttl)))
        .bind(limit.map(|(_, limit)| limit.most()))
        .bind(tell.event.map(str::to_owned))
        .bind(tell.repeats)
        .bind(tell.span)
        .bind(delivery);
    Ok(match store.fetch_one::<(Option<i64>, Option<i64>)>(statement).await? {
        Some((Some(seq), _)) => Appended::Written(seq),
        Some((None, Some(retry))) => Appended::Limited(duration(retry)),
        _ => Appended::Ended,
    })
}

async fn step_by_step(
    tx: &mut Tx,
    mut entry: AuditEntry,
    place: Place,
    limit: Option<(&str, Limit)>,
    tell: &Tell,
    delivery: String,
) -> Result<Appended, StoreError> {
    let head = "SELECT seq, hash FROM audit_head";
    let (seq, prev_hash) =
        tx.fetch::<(i64, String)>(Statement::new(head)).await?.pop().ok_or(sqlx::Error::RowNotFound)?;
    let now = crate::now_micros();
    let id = entry.action_id.clone();
    entry.step = match place {
        Place::First => 1,
        Place::Trim => 0,
        Place::Begin | Place::End => {
            let sql = "SELECT steps + 1 FROM audit_unfinished WHERE action_id = $1";
            match tx.fetch::<(i64,)>(Statement::new(sql).bind(id.as_str())).await?.pop() {
                Some((step,)) if place == Place::End || step == 2 => step,
                _ => return Ok(Appended::Ended),
            }
        }
    };
    if let Some((kind, limit)) = limit
        && let Some(wait) = tx.fetch::<(i64,)>(wait(kind, limit, now)).await?.pop()
    {
        return Ok(Appended::Limited(duration(wait.0)));
    }
    (entry.seq, entry.at, entry.prev_hash) = (seq + 1, now, prev_hash);
    entry.hash = chain::hash(&entry);
    tx.execute(insert(&entry)).await?;
    let sql = "UPDATE audit_head SET seq = $1, hash = $2";
    tx.execute(Statement::new(sql).bind(entry.seq).bind(entry.hash.as_str())).await?;
    let unfinished = match place {
        Place::First if entry.status == "pending" => Some(
            Statement::new("INSERT INTO audit_unfinished (action_id, steps, instance) VALUES ($1, 1, $2)")
                .bind(id.as_str())
                .bind(entry.instance.as_str()),
        ),
        Place::Begin => Some(
            Statement::new("UPDATE audit_unfinished SET steps = 2 WHERE action_id = $1").bind(id.as_str()),
        ),
        Place::End => {
            Some(Statement::new("DELETE FROM audit_unfinished WHERE action_id = $1").bind(id.as_str()))
        }
        Place::First | Place::Trim => None,
    };
    if let Some(statement) = unfinished {
        tx.execute(statement).await?;
    }
    let (event, times) = told(tx, &id, tell, now).await?;
    if let Some(event) = event {
        let sql = "INSERT INTO notifications (id, event, action_id, times, created_at, due_at, attempts) \
                   VALUES ($1, $2, $3, $4, $5, $5, 0)";
        let statement = Statement::new(sql).bind(delivery).bind(event).bind(id).bind(times).bind(now);
        tx.execute(statement).await?;
    }
    Ok(Appended::Written(entry.seq))
}

/// What the webhook is told, and how often the action was completed on its target.
async fn told(
    tx: &mut Tx,
    id: &str,
    tell: &Tell,
    now: i64,
) -> Result<(Option<&'static str>, i64), StoreError> {
    if tell.repeats <= 0 {
        return Ok((tell.event, 1));
    }
    let sql = "SELECT count(*) FROM audit_entries AS first JOIN audit_entries AS other \
               ON other.step = 1 AND other.resource_name = first.resource_name AND other.at > $2 \
               AND other.namespace = first.namespace AND other.resource_type = first.resource_type \
               AND other.action_type = first.action_type AND NOT other.dry_run \
               WHERE first.action_id = $1 AND first.step = 1 AND NOT first.dry_run AND EXISTS (SELECT 1 \
               FROM audit_entries AS done WHERE done.action_id = other.action_id AND done.status = 'completed')";
    let statement = Statement::new(sql).bind(id).bind(now - tell.span);
    let times = tx.fetch::<(i64,)>(statement).await?.pop().map_or(0, |(times,)| times);
    Ok(if times >= tell.repeats { (Some("action.repeated"), times) } else { (tell.event, 1) })
}

/// How long until another action of this kind may begin; a row only when none may now.
pub(super) fn wait(kind: &str, limit: Limit, now: i64) -> Statement {
    let ttl = crate::micros(limit.ttl);
    if limit.max == 0 {
        return Statement::new("SELECT $1 + 0").bind(ttl);
    }
    let sql = "SELECT max(at + $2 - $3, 1) FROM audit_entries \
               WHERE status = 'in_progress' AND kind = $1 AND at > $3 - $2 AND at <= $3 + $2 \
               ORDER BY at DESC LIMIT 1 OFFSET $4";
    Statement::new(sql).bind(kind).bind(ttl).bind(now).bind(limit.most() - 1)
}

pub(super) fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(1))
}

fn insert(entry: &AuditEntry) -> Statement {
    let sql = "INSERT INTO audit_entries (seq, at, prev_hash, step, action_id, status, instance, action_type, \
               namespace, resource_type, resource_name, action_params, requested_by, policy_decision, signature, \
               ip_address, dry_run, kind, evidence, error_code, error_message, result, execution_ms, hash) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
               $21, $22, $23, $24)";
    let AuditEntry { prev_hash, action_id, status, instance, hash, .. } = entry;
    Statement::new(sql)
        .bind(entry.seq)
        .bind(entry.at)
        .bind(prev_hash.as_str())
        .bind(entry.step)
        .bind_all([action_id, status, instance].map(|text| text.as_str().into()))
        .bind_all(
            [
                &entry.action_type,
                &entry.namespace,
                &entry.resource_type,
                &entry.resource_name,
                &entry.action_params,
                &entry.requested_by,
                &entry.policy_decision,
                &entry.signature,
                &entry.ip_address,
            ]
            .map(|text| text.clone().into()),
        )
        .bind(entry.dry_run.map(i64::from))
        .bind_all(
            [&entry.kind, &entry.evidence, &entry.error_code, &entry.error_message, &entry.result]
                .map(|text| text.clone().into()),
        )
        .bind(entry.execution_ms)
        .bind(hash.as_str())
}
