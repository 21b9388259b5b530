//! The audit trail of actions: a table of entries that are only ever added, each holding the hash of the one before.
//!
//! An action is the entries with its id: `pending` when it passed for one that is signed by who may ask, `in_progress`
//! before anything is changed, and its end. What is refused before is a single `rejected`. The actions' room writes with
//! [`Audit::open`], [`Audit::begin`], [`Audit::close`] and [`Audit::reject`]; nothing is done that could not be written.

mod append;
pub(crate) mod chain;
mod entries;
pub(crate) mod export;
mod logs;
mod metrics;
pub(crate) mod query;
pub(crate) mod read;
mod recovery;
mod retention;
pub(crate) mod statistics;
#[cfg(test)]
pub(crate) mod tests;
mod text;
pub(crate) mod verify;

pub(crate) use logs::moment;
pub(crate) use recovery::{RENEW, Unfinished};
pub(crate) use text::MOST_JSON;

use crate::error::{ApiError, Code};
use crate::settings::Settings;
use crate::store::{Statement, Store, StoreError};
use append::{Appended, Place, Tell};
use edict_client::records::{AuditEntry, AuditLog, AuditStatus};
use logs::Log;
use serde_json::Value;
use serde_json::value::RawValue;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

/// How many of this server's requests wait for the chain's lock at once.
const TURNS: usize = 2;

/// Longest wait for a turn.
const LONGEST_TURN: Duration = Duration::from_secs(10);

/// What somebody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) action_type: String,
    pub(crate) namespace: Option<String>,
    pub(crate) resource_type: Option<String>,
    pub(crate) resource_name: Option<String>,
    pub(crate) action_params: Box<RawValue>,
    pub(crate) requested_by: Option<String>,
    /// What came with the request.
    pub(crate) policy_decision: Option<Box<RawValue>>,
    /// As it was presented: an HMAC, no secret.
    pub(crate) signature: Option<String>,
    pub(crate) ip_address: Option<IpAddr>,
    pub(crate) dry_run: bool,
}

/// How an action ended.
#[derive(Debug, Clone)]
pub(crate) struct End {
    /// `completed`, `failed` or `rejected`.
    pub(crate) status: AuditStatus,
    /// Why: a code and a text for people.
    pub(crate) error: Option<(String, String)>,
    pub(crate) result: Option<Value>,
    /// What the policy engine said.
    pub(crate) decision: Option<Value>,
    pub(crate) execution: Duration,
}

/// How many actions of a kind may begin within a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) ttl: Duration,
    pub(crate) max: u64,
}

impl Limit {
    fn most(self) -> i64 {
        i64::try_from(self.max).unwrap_or(i64::MAX)
    }
}

/// One server's access to the trail.
pub(crate) struct Audit {
    store: Store,
    /// This process; what a predecessor in its place left behind is not its own.
    instance: String,
    /// Whether there is a webhook to be told, and of how many repetitions.
    tells: bool,
    repeats: Tell,
    /// Rung when the webhook has something to be told.
    pub(crate) told: Notify,
    /// One look at the whole trail at a time.
    verifying: tokio::sync::Mutex<()>,
    /// Who may wait for the chain's lock: each holds a connection while it does, and with many requests at once there
    /// would be none left for anything else, not even for saying that this server lives.
    turns: Semaphore,
    /// When this server last said that it lives; `None` before.
    renewed: Mutex<Option<Instant>>,
}

impl Audit {
    pub(crate) fn new(store: Store, settings: &Settings) -> Self {
        let tells = settings.notify_url.given().is_some();
        let number = |setting: u64| i64::try_from(setting).unwrap_or(i64::MAX);
        let repeats = Tell {
            event: None,
            repeats: if tells { number(settings.notify_repeats) } else { 0 },
            span: number(settings.notify_repeat_minutes).saturating_mul(60_000_000),
        };
        metrics::describe();
        let instance = Uuid::new_v4().to_string();
        let (told, renewed) = (Notify::new(), Mutex::default());
        let (verifying, turns) = (tokio::sync::Mutex::default(), Semaphore::new(TURNS));
        Self { store, instance, tells, repeats, told, verifying, turns, renewed }
    }

    /// Records what is refused before it is `pending`. Whatever is in it can be recorded: what is too long is cut.
    pub(crate) async fn reject(&self, attempt: &Attempt, why: &ApiError) -> Result<Uuid, ApiError> {
        let id = Uuid::now_v7();
        let entry = AuditEntry {
            error_code: Some(why.code().as_str().to_owned()),
            error_message: Some(text::message(why.message())),
            ..self.first(id, attempt, AuditStatus::Rejected)
        };
        self.append(entry, Place::First, None, &self.tell("action.rejected")).await?;
        Ok(id)
    }

    /// Records that an action was asked for; it is `pending` from now on.
    ///
    /// # Errors
    /// 422 when the parameters are longer than [`MOST_JSON`]: they are what was asked for, and must be kept whole.
    pub(crate) async fn open(&self, attempt: &Attempt) -> Result<Uuid, ApiError> {
        let bytes = attempt.action_params.get().len();
        if bytes > MOST_JSON {
            return Err(ApiError::new(
                Code::InvalidAction,
                format!("`actionParams` takes {bytes} bytes, and at most {MOST_JSON} can be recorded"),
            ));
        }
        let id = Uuid::now_v7();
        let entry = self.first(id, attempt, AuditStatus::Pending);
        self.append(entry, Place::First, None, &Tell::default()).await?;
        Ok(id)
    }

    /// How long until an action of this kind may begin, if none may now. A look, which reserves nothing.
    pub(crate) async fn room(&self, kind: &str, limit: Limit) -> Result<Option<Duration>, ApiError> {
        let wait = match &self.store {
            Store::Sqlite { .. } => append::wait(kind, limit, crate::now_micros()),
            Store::Postgres(_) => Statement::new(
                "SELECT wait FROM edict_audit_wait($1, $2, $3, \
                 (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) AS wait WHERE wait IS NOT NULL",
            )
            .bind(kind)
            .bind(crate::micros(limit.ttl))
            .bind(limit.most()),
        };
        let wait = self.store.fetch_one::<(i64,)>(wait).await.map_err(unwritten)?;
        Ok(wait.map(|(wait,)| append::duration(wait)))
    }

    /// Records that the action is being carried out from now on, unless `limit` is reached: then nothing is written, and
    /// the inner error says when to try again. Exact, whatever other servers do at the same time. Without a limit the
    /// action does not count for others' limits either.
    ///
    /// # Errors
    /// 503 `shutting_down` when the action has been ended meanwhile, by a server that took this one for gone: it must
    /// not be carried out any more.
    pub(crate) async fn begin(
        &self,
        id: Uuid,
        kind: &str,
        limit: Option<Limit>,
        evidence: &Value,
    ) -> Result<Result<(), Duration>, ApiError> {
        let entry = AuditEntry {
            kind: limit.map(|_| kind.to_owned()),
            evidence: Some(evidence.to_string()),
            ..self.entry(id, AuditStatus::InProgress)
        };
        let limit = limit.map(|limit| (kind, limit));
        match self.append(entry, Place::Begin, limit, &Tell::default()).await? {
            Appended::Written(_) => Ok(Ok(())),
            Appended::Limited(wait) => Ok(Err(wait)),
            Appended::Ended => Err(ApiError::new(
                Code::ShuttingDown,
                "this server was silent for so long that another one has ended the action; nothing was changed, try \
                 again",
            )),
        }
    }

    /// Records how an action ended. False when it had ended before, by a server that took this one for gone.
    pub(crate) async fn close(&self, id: Uuid, end: End) -> Result<bool, ApiError> {
        let tell = match end.status {
            AuditStatus::Rejected => self.tell("action.rejected"),
            AuditStatus::Failed => self.tell("action.failed"),
            _ => self.repeats.clone(),
        };
        let (error_code, error_message) = end.error.unzip();
        let kept = |value: Value| Some(text::json(&serde_json::value::to_raw_value(&value).ok()?));
        let entry = AuditEntry {
            error_code,
            error_message: error_message.as_deref().map(text::message),
            result: end.result.and_then(kept),
            policy_decision: end.decision.and_then(kept),
            execution_ms: (!end.execution.is_zero())
                .then(|| i64::try_from(end.execution.as_millis()).unwrap_or(i64::MAX)),
            ..self.entry(id, end.status)
        };
        Ok(self.append(entry, Place::End, None, &tell).await? != Appended::Ended)
    }

    /// An action as it is now, if it is there.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<AuditLog>, ApiError> {
        Ok(Log::of(&entries::of_action(&self.store, id).await?).map(Log::record))
    }

    /// An action's first entry.
    fn first(&self, id: Uuid, attempt: &Attempt, status: AuditStatus) -> AuditEntry {
        let name = |name: &Option<String>| name.as_deref().map(text::name);
        AuditEntry {
            action_type: Some(text::name(&attempt.action_type)),
            namespace: name(&attempt.namespace),
            resource_type: name(&attempt.resource_type),
            resource_name: name(&attempt.resource_name),
            action_params: Some(text::json(&attempt.action_params)),
            requested_by: name(&attempt.requested_by),
            policy_decision: attempt.policy_decision.as_deref().map(text::json),
            signature: name(&attempt.signature),
            ip_address: attempt.ip_address.map(|address| address.to_string()),
            dry_run: Some(attempt.dry_run),
            ..self.entry(id, status)
        }
    }

    fn entry(&self, id: Uuid, status: AuditStatus) -> AuditEntry {
        AuditEntry {
            action_id: id.to_string(),
            status: status.as_str().to_owned(),
            instance: self.instance.clone(),
            ..AuditEntry::default()
        }
    }

    fn tell(&self, event: &'static str) -> Tell {
        Tell { event: self.tells.then_some(event), ..Tell::default() }
    }

    async fn append(
        &self,
        entry: AuditEntry,
        place: Place,
        limit: Option<(&str, Limit)>,
        tell: &Tell,
    ) -> Result<Appended, ApiError> {
        let (started, status) = (Instant::now(), entry.status.clone());
        let turn = tokio::time::timeout(LONGEST_TURN, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(unwritten(StoreError::Timeout));
        };
        let appended = append::append(&self.store, entry, place, limit, tell).await.map_err(unwritten)?;
        if let Appended::Written(seq) = appended {
            metrics::written(status, seq, started.elapsed());
            if tell.event.is_some() || tell.repeats > 0 {
                self.told.notify_one();
            }
        }
        Ok(appended)
    }
}

/// Whoever cannot write into the trail does nothing else either: that is what the caller learns.
fn unwritten(error: StoreError) -> ApiError {
    match error {
        StoreError::Unavailable(_) | StoreError::Timeout => {
            tracing::error!(%error, "the audit trail cannot be written");
            ApiError::new(
                Code::StorageUnavailable,
                "the audit trail cannot be written, and nothing is done without it; try again",
            )
            .retry_after(Duration::from_secs(1))
        }
        other => ApiError::internal(other),
    }
}
