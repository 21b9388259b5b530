//! An executor's row, and the lease of the one request that works on it.

use crate::app::App;
use crate::error::{ApiError, Code};
use crate::jobs::lease::clock;
use crate::store::{Statement, Store};
use edict_client::records::{ExecutorInfra, InfraState};
use serde_json::json;
use std::time::Duration;

/// A request that has not renewed its lease for so long is gone, and another one may go on.
const LEASE: Duration = Duration::from_secs(30);

/// The row of an executor's infrastructure while a request has it for itself.
pub(super) struct Claim {
    lease: Lease,
    /// Tells this infrastructure from what the executor had before.
    pub(super) epoch: u64,
    /// The record, written by [`Claim::save`].
    pub(super) infra: ExecutorInfra,
    /// Whether nothing was known before this request.
    pub(super) fresh: bool,
}

/// What keeps other requests off a row.
#[derive(Clone)]
pub(super) struct Lease {
    store: Store,
    executor_id: String,
    holder: String,
}

impl Claim {
    /// What is known of an executor's infrastructure; None if there is none.
    pub(super) async fn peek(store: &Store, id: &str) -> Result<Option<ExecutorInfra>, ApiError> {
        let sql = "SELECT doc FROM executor_infra WHERE executor_id = $1";
        let row = store.fetch_one::<(String,)>(Statement::new(sql).bind(id)).await?;
        row.map(|(doc,)| serde_json::from_str(&doc).map_err(ApiError::internal)).transpose()
    }

    /// Takes an executor's row, or makes `blank` into one.
    ///
    /// # Errors
    /// 409 `infra_busy` while another request has it.
    pub(super) async fn take(store: &Store, blank: &ExecutorInfra) -> Result<Self, ApiError> {
        let id = blank.executor_id.as_str();
        let clock = clock(store.dialect());
        let holder = uuid::Uuid::new_v4().simple().to_string();
        // A time is never used again, not even after a row was removed.
        let epoch = crate::now_micros();
        let sql = format!(
            "INSERT INTO executor_infra (executor_id, epoch, doc, holder, busy_until) \
             VALUES ($1, $2, $3, $4, {clock} + $5) ON CONFLICT (executor_id) DO UPDATE \
             SET holder = excluded.holder, busy_until = excluded.busy_until \
             WHERE executor_infra.busy_until < {clock}"
        );
        let statement = Statement::new(sql)
            .bind(id)
            .bind(epoch)
            .bind(text(blank)?)
            .bind(holder.as_str())
            .bind(crate::micros(LEASE));
        store.execute(statement).await?;
        let sql = "SELECT epoch, doc FROM executor_infra WHERE executor_id = $1 AND holder = $2";
        let statement = Statement::new(sql).bind(id).bind(holder.as_str());
        let Some((found, doc)) = store.fetch_one::<(i64, String)>(statement).await? else {
            let at = Self::peek(store, id).await?;
            return Err(busy(id).details(json!({"step": at.map(|infra| infra.step)})));
        };
        Ok(Self {
            lease: Lease { store: store.clone(), executor_id: id.to_owned(), holder },
            epoch: found.unsigned_abs(),
            infra: serde_json::from_str(&doc).map_err(ApiError::internal)?,
            fresh: found == epoch,
        })
    }

    /// Writes down what is being done.
    ///
    /// # Errors
    /// 409 `infra_busy` when another request has taken over.
    pub(super) async fn step(&mut self, step: &str) -> Result<(), ApiError> {
        if self.infra.step == step {
            return Ok(());
        }
        tracing::info!(executor = self.lease.executor_id, step, "infrastructure");
        step.clone_into(&mut self.infra.step);
        self.save().await
    }

    /// Writes the record.
    ///
    /// # Errors
    /// 409 `infra_busy` when another request has taken over.
    pub(super) async fn save(&mut self) -> Result<(), ApiError> {
        self.infra.updated_at = crate::now();
        let sql = "UPDATE executor_infra SET doc = $1 WHERE executor_id = $2 AND holder = $3";
        self.lease.write(Statement::new(sql).bind(text(&self.infra)?)).await
    }

    /// Does the work while the lease is renewed.
    ///
    /// # Errors
    /// What the work says; `infra_busy` when another request has taken over, `shutting_down` when the server stops.
    pub(super) async fn hold<T>(
        &mut self,
        app: &App,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let lease = self.lease.clone();
        tokio::select! {
            done = work(self) => done,
            lost = lease.keep() => Err(lost),
            () = app.stopping.cancelled() => Err(ApiError::new(
                Code::ShuttingDown,
                "this server is stopping: send the request again, which goes on where this one was",
            )),
        }
    }

    /// Gives the row free after the work was done, and returns the record as it is then.
    ///
    /// # Errors
    /// 409 `infra_busy` when another request has taken over.
    pub(super) async fn finish(mut self, state: InfraState) -> Result<ExecutorInfra, ApiError> {
        self.infra.infra_state = state;
        self.infra.error = None;
        self.save().await?;
        self.release().await?;
        Ok(self.infra)
    }

    /// Gives the row free after the work failed, with the reason written down. Returns what the caller is to be told.
    pub(super) async fn fail(mut self, error: ApiError) -> ApiError {
        let released = match error.code() {
            // Another request has the row now.
            Code::InfraBusy => return error,
            // It is to be gone on with.
            Code::ShuttingDown => self.release().await,
            _ => {
                self.infra.infra_state = InfraState::Failed;
                self.infra.error = Some(error.clone().into());
                match self.save().await {
                    Ok(()) => self.release().await,
                    Err(unsaved) => Err(unsaved),
                }
            }
        };
        if let Err(unreleased) = released {
            tracing::warn!(error = unreleased.message(), "a failure was not recorded");
        }
        error
    }

    /// Gives the row free as it was; one that this request made is removed.
    pub(super) async fn abandon(self) -> Result<(), ApiError> {
        if self.fresh {
            self.lease.store.execute(self.removal()).await?;
            return Ok(());
        }
        self.release().await
    }

    async fn release(&self) -> Result<(), ApiError> {
        let sql = "UPDATE executor_infra SET busy_until = 0 WHERE executor_id = $1 AND holder = $2";
        let Lease { store, executor_id, holder } = &self.lease;
        store.execute(Statement::new(sql).bind(executor_id.as_str()).bind(holder.as_str())).await?;
        Ok(())
    }

    /// What removes the row, and with it every token of its epoch.
    pub(super) fn removal(&self) -> Statement {
        let sql = "DELETE FROM executor_infra WHERE executor_id = $1 AND holder = $2";
        Statement::new(sql).bind(self.lease.executor_id.as_str()).bind(self.lease.holder.as_str())
    }
}

impl Lease {
    /// Renews the lease for as long as it is ours; returns why it no longer is.
    async fn keep(&self) -> ApiError {
        let sql = format!(
            "UPDATE executor_infra SET busy_until = {} + $1 WHERE executor_id = $2 AND holder = $3",
            clock(self.store.dialect())
        );
        loop {
            tokio::time::sleep(LEASE / 6).await;
            match self.write(Statement::new(sql.clone()).bind(crate::micros(LEASE))).await {
                Ok(()) => {}
                Err(error) if error.code() == Code::InfraBusy => return error,
                // The database may be back before the lease is over; if not, whoever has taken over is noticed.
                Err(error) => tracing::warn!(error = error.message(), "a lease was not renewed"),
            }
        }
    }

    /// Runs a statement whose last two values are the executor and the holder.
    async fn write(&self, statement: Statement) -> Result<(), ApiError> {
        let statement = statement.bind(self.executor_id.as_str()).bind(self.holder.as_str());
        match self.store.execute(statement).await? {
            0 => Err(busy(&self.executor_id)),
            _ => Ok(()),
        }
    }
}

fn busy(id: &str) -> ApiError {
    ApiError::new(
        Code::InfraBusy,
        format!(
            "another request works on the infrastructure of executor `{id}`: wait for its end, which \
             `GET /executor/{id}/infra` shows, and try again"
        ),
    )
}

fn text(infra: &ExecutorInfra) -> Result<String, ApiError> {
    // Messages of a cluster may hold what PostgreSQL's text cannot.
    Ok(serde_json::to_string(infra).map_err(ApiError::internal)?.replace("\\u0000", ""))
}
