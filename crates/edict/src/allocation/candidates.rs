//! The executors that an allocator chooses from, with how much they have to do.

use super::fits::fits;
use crate::app::App;
use crate::error::ApiError;
use crate::executors::{EXECUTORS, LOCAL};
use crate::store::documents::Collection;
use crate::store::{Statement, Store};
use edict_client::records::{Executor, ExecutorStatus, Labels, Load};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;

/// An executor as allocators see it.
#[derive(Debug, Serialize)]
pub(super) struct Candidate {
    #[serde(flatten)]
    pub(super) executor: Executor,
    load: Work,
    /// Whether one of its nodes has the labels asked for.
    fits: bool,
    /// Why not.
    reason: Option<String>,
}

/// How much an executor has to do.
#[derive(Debug, Serialize)]
struct Work {
    /// What it said itself, if it did.
    #[serde(flatten)]
    runs: Option<Load>,
    /// Jobs that it is running, or that wait for it.
    jobs: i64,
    /// Replicas that its functions want.
    replicas: i64,
}

impl Candidate {
    /// Why none of its nodes takes what is to be placed, if none does.
    pub(super) fn unfit(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Why it was not chosen, as far as this can be told without the allocator.
    pub(super) fn against(&self) -> String {
        match (&self.reason, self.executor.executor_status) {
            (Some(reason), _) => reason.clone(),
            (None, ExecutorStatus::Unreachable | ExecutorStatus::Pending) => {
                format!("it is {}", self.executor.executor_status.as_str())
            }
            (None, _) => "the allocator gave no reason".to_owned(),
        }
    }
}

/// Every registered executor, by id.
pub(super) async fn candidates(app: &App, selector: &Labels) -> Result<Vec<Candidate>, ApiError> {
    let store = &app.registry.store;
    let (doc, table) = (Collection::doc(store.dialect()), EXECUTORS.name);
    let sql = format!(
        "SELECT key, {doc}, heartbeats.load FROM {table} \
         LEFT JOIN heartbeats ON heartbeats.executor_id = {table}.key ORDER BY key"
    );
    // Counted here, not told by executors: what was placed a moment ago counts for the next choice.
    let jobs = "SELECT executor_id, count(*) FROM jobs WHERE job_status IN ('pending', 'running') GROUP BY executor_id";
    let replicas = "SELECT function_executor_id, CAST(sum(replicas) AS bigint) FROM functions GROUP BY function_executor_id";
    let (jobs, replicas) = (counted(store, jobs).await?, counted(store, replicas).await?);
    let rows = store.fetch::<(String, String, Option<String>)>(Statement::new(sql)).await?;
    let candidate = |(id, doc, load): (String, String, Option<String>)| {
        let executor: Executor = serde_json::from_str(&doc).map_err(ApiError::internal)?;
        let runs = match load {
            _ if id == LOCAL => Some(app.runner.load()),
            Some(load) => serde_json::from_str(&load).map_err(ApiError::internal)?,
            None => None,
        };
        let of = |counts: &HashMap<String, i64>| counts.get(&id).copied().unwrap_or_default();
        let load = Work { runs, jobs: of(&jobs), replicas: of(&replicas) };
        let reason = fits(&executor, selector).err();
        Ok(Candidate { executor, load, fits: reason.is_none(), reason })
    };
    rows.into_iter().map(candidate).collect()
}

/// Rows of a name and a number.
async fn counted(store: &Store, sql: &'static str) -> Result<HashMap<String, i64>, ApiError> {
    Ok(store.fetch::<(String, i64)>(Statement::new(sql)).await?.into_iter().collect())
}

/// The executors as the allocator's input has them.
pub(super) fn to_input(candidates: &[Candidate]) -> Result<Value, ApiError> {
    serde_json::to_value(candidates).map_err(ApiError::internal)
}
