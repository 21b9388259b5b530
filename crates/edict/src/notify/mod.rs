//! The webhook: tells whoever `notify_url` names of rejected, failed and repeated actions, at least once.
//!
//! What is to be told is a row in `notifications`, written together with the audit entry (`audit/append.rs`) and removed
//! when the receiver has said that it has it. Whoever delivers takes the row for [`LEASE`] by making it due again only
//! then, so that several servers share the work and a killed one loses nothing.

mod deliver;
#[cfg(test)]
mod tests;

use crate::audit::Audit;
use crate::error::ApiError;
use crate::settings::{Secret, Settings};
use crate::store::{Statement, Store};
use edict_filter::Dialect;
use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;

/// Deliveries that one server has under way at once.
const AT_ONCE: i64 = 8;

/// How long a delivery is its taker's: more than one attempt takes, and not much more, since what a killed server had
/// taken waits for so long.
const LEASE: Duration = Duration::from_secs(15);

/// How often others' and postponed deliveries are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// What could not be delivered for this long is given up.
const GIVE_UP: Duration = Duration::from_secs(3 * 86_400);

/// Delivers what is to be told.
pub(crate) struct Notifier {
    store: Store,
    audit: Arc<Audit>,
    url: Secret,
    /// What bodies are signed with.
    key: Secret,
    http: reqwest::Client,
}

/// Something to be told.
struct Notification {
    id: String,
    event: String,
    action_id: String,
    times: i64,
    created_at: i64,
    attempts: i64,
}

impl Notifier {
    /// None when nobody is to be told.
    pub(crate) fn new(
        settings: &Settings,
        store: Store,
        audit: Arc<Audit>,
    ) -> Result<Option<Self>, reqwest::Error> {
        if settings.notify_url.given().is_none() {
            return Ok(None);
        }
        metrics::describe_counter!(
            "edict_notifications_total",
            "Attempts to deliver to the webhook, by result: delivered, failed, given_up"
        );
        metrics::describe_gauge!("edict_notifications_pending", "What the webhook has still to be told");
        let (url, key) = (settings.notify_url.clone(), settings.jwt_secret.clone());
        Ok(Some(Self { store, audit, url, key, http: deliver::client()? }))
    }

    /// Delivers, for as long as it is polled.
    pub(crate) async fn run(self) {
        loop {
            match self.round().await {
                // There may be more.
                Ok(taken) if taken >= AT_ONCE => continue,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = error.message(), "looking for notifications failed"),
            }
            tokio::time::timeout(LOOK, self.audit.told.notified()).await.ok();
        }
    }

    /// Takes what is due, and sees each to its end.
    async fn round(&self) -> Result<i64, ApiError> {
        self.gauge().await?;
        let taken = self.take().await?;
        let count = i64::try_from(taken.len()).unwrap_or(AT_ONCE);
        for done in join_all(taken.iter().map(|notification| self.settle(notification))).await {
            done?;
        }
        Ok(count)
    }

    async fn take(&self) -> Result<Vec<Notification>, ApiError> {
        let (clock, skip) = match self.store.dialect() {
            Dialect::Sqlite => ("CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)", ""),
            Dialect::Postgres => {
                ("CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)", "FOR UPDATE SKIP LOCKED")
            }
        };
        let sql = format!(
            "UPDATE notifications SET due_at = {clock} + $1, attempts = attempts + 1 WHERE id IN ( \
             SELECT id FROM notifications WHERE due_at <= {clock} ORDER BY due_at LIMIT $2 {skip}) \
             RETURNING id, event, action_id, times, created_at, attempts"
        );
        let statement = Statement::new(sql).bind(crate::micros(LEASE)).bind(AT_ONCE);
        let rows = self.store.at_once::<(String, String, String, i64, i64, i64)>(statement).await?;
        let taken = |(id, event, action_id, times, created_at, attempts)| Notification {
            id,
            event,
            action_id,
            times,
            created_at,
            attempts,
        };
        Ok(rows.into_iter().map(taken).collect())
    }

    /// Tries once, and removes it or puts it off.
    async fn settle(&self, notification: &Notification) -> Result<(), ApiError> {
        let result = match self.deliver(notification).await {
            Ok(()) => "delivered",
            Err(why) if crate::now_micros() - notification.created_at > crate::micros(GIVE_UP) => {
                tracing::error!(id = notification.id, why, "a notification is given up after three days");
                "given_up"
            }
            Err(why) => {
                tracing::warn!(
                    id = notification.id,
                    attempts = notification.attempts,
                    why,
                    "not notified yet"
                );
                "failed"
            }
        };
        metrics::counter!("edict_notifications_total", "result" => result).increment(1);
        let statement = if result == "failed" {
            let pause = crate::micros(pause(notification.attempts)) - crate::micros(LEASE);
            // Reckoned from the lease that the database wrote: its clock is the one that counts.
            Statement::new("UPDATE notifications SET due_at = due_at + $2 WHERE id = $1 AND attempts = $3")
                .bind(notification.id.as_str())
                .bind(pause)
                .bind(notification.attempts)
        } else {
            Statement::new("DELETE FROM notifications WHERE id = $1").bind(notification.id.as_str())
        };
        self.store.execute(statement).await?;
        Ok(())
    }

    async fn gauge(&self) -> Result<(), ApiError> {
        let sql = "SELECT count(*) FROM notifications";
        let count = self.store.fetch_one::<(i64,)>(Statement::new(sql)).await?.map_or(0, |(count,)| count);
        #[expect(clippy::cast_precision_loss, reason = "a backlog is far from where floats lose digits")]
        metrics::gauge!("edict_notifications_pending").set(count as f64);
        Ok(())
    }
}

/// How long to wait after so many attempts.
fn pause(attempts: i64) -> Duration {
    let doubled = u32::try_from(attempts - 1).unwrap_or(0).min(16);
    FIRST_PAUSE.saturating_mul(1 << doubled).min(LONGEST_PAUSE)
}
