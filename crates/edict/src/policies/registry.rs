//! What the registry works with: the database, the stored code, and compiled policies kept in memory.

use super::POLICIES;
use crate::assets::storage::Storage;
use crate::error::ApiError;
use crate::execution::Compiled;
use crate::store::kept::Kept;
use crate::store::{Statement, Store, StoreError, Tx};
use bytes::Bytes;
use edict_client::records::{Policy, PolicyState};
use edict_runtime::Runtime;
use edict_runtime::bundle::{self, Bundle};
use std::sync::Arc;

/// Compiled policies kept in memory per policy kept warm; beyond it they are dropped and compiled again when needed. Each
/// keeps its code's folder open: without a bound the server would run out of descriptors.
const KEPT_PER_WARM: usize = 4;

/// Microseconds that stored code is kept after its mark of use even if no policy refers to it: longer than it takes to
/// store the policy that will.
const UNUSED: i64 = 3_600_000_000;
/// Microseconds for which a mark of use is young enough.
const MARKED: i64 = UNUSED / 6;

/// The registry of one server.
pub(crate) struct Registry {
    pub(crate) store: Store,
    pub(crate) storage: Storage,
    pub(crate) limits: bundle::Limits,
    /// Addresses under which this server itself is reached: assets behind them are read directly.
    pub(crate) own_urls: Vec<String>,
    pub(crate) http: reqwest::Client,
    /// Parses the source of policies, with the Python that will run them.
    pub(crate) runtime: Arc<Runtime>,
    /// The executor whose management state is applied here.
    pub(crate) executor_id: String,
    compiled: Kept<Compiled>,
}

/// What a [`Registry`] is made of.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) storage: Storage,
    pub(crate) limits: bundle::Limits,
    pub(crate) own_urls: Vec<String>,
    pub(crate) http: reqwest::Client,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) executor_id: String,
    /// Policies that the runtime keeps warm.
    pub(crate) max_warm: usize,
}

/// How many compiled policies to keep where `max_warm` are kept warm.
pub(crate) fn kept(max_warm: usize) -> usize {
    max_warm.max(1) * KEPT_PER_WARM
}

impl Registry {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { store, storage, limits, own_urls, http, runtime, executor_id, max_warm } = parts;
        let compiled = Kept::new(kept(max_warm));
        Self { store, storage, limits, own_urls, http, runtime, executor_id, compiled }
    }

    /// The policy, ready to run on this server's executor; it is as fresh as [`Kept`] says.
    ///
    /// # Errors
    /// 404 when there is none.
    pub(crate) async fn compiled(&self, uri: &str) -> Result<Arc<Compiled>, ApiError> {
        let load = async {
            let (policy, _) = self.policy(uri).await?;
            let state = self.state(&self.executor_id, uri).await?;
            Compiled::new(policy, state)
        };
        self.compiled.get(uri, load).await
    }

    /// Drops what is kept in memory of a policy, since it changed.
    pub(crate) fn forget(&self, uri: &str) {
        self.compiled.forget(uri);
    }

    /// Drops everything that is kept in memory, since changes may have been missed.
    pub(crate) fn forget_all(&self) {
        self.compiled.forget_all();
    }

    /// A policy's record and revision.
    ///
    /// # Errors
    /// 404 when there is none.
    pub(crate) async fn policy(&self, uri: &str) -> Result<(Policy, u64), ApiError> {
        let document = POLICIES.get(&self.store, uri).await?;
        let policy = serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?;
        Ok((policy, document.revision))
    }

    /// What management commands changed of a policy on an executor.
    pub(crate) async fn state(&self, executor_id: &str, uri: &str) -> Result<PolicyState, ApiError> {
        let sql = "SELECT doc FROM policy_states WHERE executor_id = $1 AND policy_rule_uri = $2";
        let row = self.store.fetch_one::<(String,)>(Statement::new(sql).bind(executor_id).bind(uri)).await?;
        row.map_or_else(
            || Ok(PolicyState::default()),
            |(doc,)| serde_json::from_str(&doc).map_err(ApiError::internal),
        )
    }

    /// Keeps what a management command changed, over what earlier ones did.
    pub(crate) async fn save_state(
        &self,
        executor_id: &str,
        uri: &str,
        change: PolicyState,
    ) -> Result<(), ApiError> {
        let mut tx = self.store.begin().await?;
        tx.lock(uri).await?;
        let key = |sql: &str| Statement::new(sql).bind(executor_id).bind(uri);
        let select = "SELECT doc FROM policy_states WHERE executor_id = $1 AND policy_rule_uri = $2";
        let row = tx.fetch::<(String,)>(key(select)).await?.into_iter().next();
        let mut state: PolicyState = match row {
            Some((doc,)) => serde_json::from_str(&doc).map_err(ApiError::internal)?,
            None => PolicyState::default(),
        };
        state.extend(change);
        let doc = serde_json::to_string(&state).map_err(ApiError::internal)?;
        let upsert = "INSERT INTO policy_states (executor_id, policy_rule_uri, doc) VALUES ($1, $2, $3) \
                      ON CONFLICT (executor_id, policy_rule_uri) DO UPDATE SET doc = excluded.doc";
        tx.execute(key(upsert).bind(doc)).await?;
        tx.commit().await?;
        self.forget(uri);
        Ok(())
    }

    /// The stored code with this digest.
    pub(crate) async fn bundle(&self, digest: &str) -> Result<Option<(String, Bytes)>, ApiError> {
        let sql = "SELECT format, content FROM bundles WHERE digest = $1";
        let row = self.store.fetch_one::<(String, Vec<u8>)>(Statement::new(sql).bind(digest)).await?;
        Ok(row.map(|(format, content)| (format, Bytes::from(content))))
    }

    /// Whether code with this digest is stored, and so has been checked.
    pub(crate) async fn has_bundle(&self, digest: &str) -> Result<bool, ApiError> {
        let sql = "SELECT used_at FROM bundles WHERE digest = $1";
        Ok(self.store.fetch_one::<(i64,)>(Statement::new(sql).bind(digest)).await?.is_some())
    }

    /// Removes stored code that no policy and no function refers to and that was not marked as used for a while.
    pub(crate) async fn sweep_bundles(&self) -> Result<u64, ApiError> {
        let sql = "DELETE FROM bundles WHERE used_at < $1 \
                   AND NOT EXISTS (SELECT 1 FROM policies WHERE code_digest = bundles.digest) \
                   AND NOT EXISTS (SELECT 1 FROM functions WHERE code_digest = bundles.digest)";
        Ok(self.store.execute(Statement::new(sql).bind(crate::now_micros() - UNUSED)).await?)
    }
}

/// Stores code unless it is there; its mark of use keeps the sweep away from it either way. A mark that is younger than
/// [`MARKED`] stays as it is: writing it anew would copy the code, and let those who register policies with the same
/// code wait for one another.
pub(crate) async fn store_bundle(tx: &mut Tx, bundle: &Bundle) -> Result<(), StoreError> {
    let now = crate::now_micros();
    let sql = "SELECT used_at FROM bundles WHERE digest = $1";
    let marked = tx.fetch::<(i64,)>(Statement::new(sql).bind(bundle.digest.as_str())).await?;
    if marked.first().is_some_and(|(used_at,)| now - used_at < MARKED) {
        return Ok(());
    }
    let sql = "INSERT INTO bundles (digest, format, content, used_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (digest) DO UPDATE SET used_at = excluded.used_at";
    let statement = Statement::new(sql)
        .bind(bundle.digest.as_str())
        .bind(bundle.format.as_str())
        .bind(bundle.bytes.clone())
        .bind(now);
    tx.execute(statement).await.map(|_| ())
}
