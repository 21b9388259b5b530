//! The executors that an allocator chooses from, with how much they have to do.

use super::fits::fits;
use crate::app::App;
use crate::error::ApiError;
use crate::executors::{EXECUTORS, LOCAL};
use crate::store::Statement;
use edict_client::records::{Executor, ExecutorStatus, Labels, Load};
use edict_filter::Dialect;
use serde::Serialize;
use serde_json::Value;

/// An executor as allocators see it.
#[derive(Debug, Serialize)]
pub(super) struct Candidate {
    #[serde(flatten)]
    pub(super) executor: Executor,
    /// Null when it has not told.
    load: Option<Load>,
    /// Whether one of its nodes has the labels asked for.
    fits: bool,
    /// Why not.
    reason: Option<String>,
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
    let (doc, table) =
        (if store.dialect() == Dialect::Postgres { "doc::text" } else { "doc" }, EXECUTORS.name);
    let sql = format!(
        "SELECT key, {doc}, heartbeats.load FROM {table} \
         LEFT JOIN heartbeats ON heartbeats.executor_id = {table}.key ORDER BY key"
    );
    let rows = store.fetch::<(String, String, Option<String>)>(Statement::new(sql)).await?;
    let candidate = |(id, doc, load): (String, String, Option<String>)| {
        let executor: Executor = serde_json::from_str(&doc).map_err(ApiError::internal)?;
        let load = match load {
            _ if id == LOCAL => Some(app.runner.load()),
            Some(load) => serde_json::from_str(&load).map_err(ApiError::internal)?,
            None => None,
        };
        let reason = fits(&executor, selector).err();
        Ok(Candidate { executor, load, fits: reason.is_none(), reason })
    };
    rows.into_iter().map(candidate).collect()
}

/// The executors as the allocator's input has them.
pub(super) fn to_input(candidates: &[Candidate]) -> Result<Value, ApiError> {
    serde_json::to_value(candidates).map_err(ApiError::internal)
}
