//! Which server runs the functions of `local`.

use crate::error::ApiError;
use crate::executors::LOCAL;
use crate::executors::status::SILENCE;
use crate::store::{Statement, Store};

/// One server's claim to run the functions of `local`: of several servers on one database, the one that holds the row
/// of `local` in `heartbeats`. On SQLite there is only one server.
///
/// A holder that cannot reach the database goes on serving: nobody can tell whether another one has taken over, and
/// replicas that end for nothing would lose what they remember.
pub(crate) struct Tenure {
    store: Store,
    instance: String,
    /// How the other servers reach this one.
    address: String,
    /// What they present.
    token: String,
}

/// The server that holds the tenure, as others see it.
pub(crate) struct Holder {
    pub(crate) address: String,
    pub(crate) token: String,
}

impl Tenure {
    pub(crate) fn new(store: Store, address: String, token: String) -> Self {
        Self { store, instance: uuid::Uuid::new_v4().to_string(), address, token }
    }

    /// Takes or renews the tenure; false when another server holds it. One at this server's own address is over: it was
    /// the process before this one.
    pub(crate) async fn hold(&self) -> Result<bool, ApiError> {
        if let Store::Sqlite { .. } = self.store {
            return Ok(true);
        }
        let sql = "INSERT INTO heartbeats (executor_id, instance_id, token, address, seen_at) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (executor_id) DO UPDATE SET \
                   instance_id = excluded.instance_id, token = excluded.token, address = excluded.address, \
                   seen_at = excluded.seen_at \
                   WHERE heartbeats.instance_id = excluded.instance_id OR heartbeats.seen_at < $6 \
                   OR heartbeats.address = excluded.address";
        let now = crate::now_micros();
        let statement = Statement::new(sql)
            .bind(LOCAL)
            .bind(self.instance.as_str())
            .bind(self.token.as_str())
            .bind(self.address.as_str())
            .bind(now)
            .bind(now - crate::micros(SILENCE));
        Ok(self.store.execute(statement).await? == 1)
    }

    /// The server that holds the tenure now, if any.
    pub(crate) async fn holder(&self) -> Result<Option<Holder>, ApiError> {
        let sql = "SELECT address, token FROM heartbeats WHERE executor_id = $1 AND seen_at >= $2";
        let statement = Statement::new(sql).bind(LOCAL).bind(crate::now_micros() - crate::micros(SILENCE));
        let row = self.store.fetch_one::<(String, String)>(statement).await?;
        Ok(row.map(|(address, token)| Holder { address, token }))
    }

    /// Gives the tenure up, so that another server need not wait until this one counts as silent.
    pub(crate) async fn release(&self) {
        if let Store::Sqlite { .. } = self.store {
            return;
        }
        let sql = "DELETE FROM heartbeats WHERE executor_id = $1 AND instance_id = $2";
        let statement = Statement::new(sql).bind(LOCAL).bind(self.instance.as_str());
        if let Err(error) = self.store.execute(statement).await {
            tracing::warn!(%error, "the functions of `local` are handed over only when this server counts as silent");
        }
    }
}
