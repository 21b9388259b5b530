//! Graphs (Type 5): functions that feed each other, and their runs.

pub(crate) mod check;
mod compiled;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod execute;
mod plan;
pub(crate) mod query;
pub(crate) mod query_runs;
pub(crate) mod read;
pub(crate) mod read_run;
mod record;
mod recorder;
mod schedule;
#[cfg(test)]
mod tests;
pub(crate) mod update;

pub(crate) use plan::Plan;

use crate::error::{ApiError, Code};
use crate::store::Store;
use crate::store::documents::Collection;
use crate::store::kept::Kept;
use compiled::Compiled;
use edict_filter::{Column, Kind, Table};
use recorder::Recorder;
use std::sync::Arc;
use std::time::Duration;

/// Graphs kept in memory, ready to run.
const KEPT: usize = 1024;

pub(crate) const GRAPHS: Collection = Collection {
    table: Table {
        doc: "doc",
        columns: &[
            Column { path: "graph_uri", sql: "key", kind: Kind::Text },
            Column { path: "graph_name", sql: "graph_name", kind: Kind::Text },
            Column { path: "graph_version", sql: "graph_version", kind: Kind::Text },
            Column { path: "graph_release_tag", sql: "graph_release_tag", kind: Kind::Text },
            Column { path: "created_at", sql: "created_at", kind: Kind::Text },
            Column { path: "updated_at", sql: "updated_at", kind: Kind::Text },
        ],
    },
    name: "graphs",
    noun: "graph",
    own_fields: &record::OWN_FIELDS,
    not_found: Code::GraphNotFound,
    exists: Code::GraphExists,
};

/// Runs are only ever added, so `exists` is never answered.
const RUNS: Collection = Collection {
    table: Table {
        doc: "doc",
        columns: &[
            Column { path: "run_id", sql: "key", kind: Kind::Text },
            Column { path: "graph_uri", sql: "graph_uri", kind: Kind::Text },
            Column { path: "run_status", sql: "run_status", kind: Kind::Text },
            Column { path: "started_at", sql: "started_at", kind: Kind::Text },
        ],
    },
    name: "graph_runs",
    noun: "run",
    own_fields: &[],
    not_found: Code::RunNotFound,
    exists: Code::Internal,
};

/// What the graphs of one server need beside the database.
pub(crate) struct Graphs {
    store: Store,
    kept: Kept<Compiled>,
    recorder: Recorder,
}

impl Graphs {
    pub(crate) fn new(store: Store) -> Self {
        let recorder = Recorder::new(store.clone());
        Self { store, kept: Kept::new(KEPT), recorder }
    }

    /// The graph, ready to run; it is as fresh as [`Kept`] says.
    async fn compiled(&self, uri: &str) -> Result<Arc<Compiled>, ApiError> {
        let load = async {
            let document = GRAPHS.get(&self.store, uri).await?;
            Compiled::new(serde_json::from_str(document.doc.get()).map_err(ApiError::internal)?)
        };
        self.kept.get(uri, load).await
    }

    /// Drops what is kept in memory of a graph, since it changed.
    pub(crate) fn forget(&self, uri: &str) {
        self.kept.forget(uri);
    }

    /// Drops everything that is kept in memory, since changes may have been missed.
    pub(crate) fn forget_all(&self) {
        self.kept.forget_all();
    }

    /// Writes recorded runs to the database for as long as it is polled.
    pub(crate) async fn record_runs(&self) {
        self.recorder.write_behind().await;
    }

    /// Writes the runs that are recorded so far to the database.
    ///
    /// # Errors
    /// When the database does not answer; they stay recorded then.
    pub(crate) async fn flush(&self) -> Result<(), ApiError> {
        self.recorder.flush().await
    }

    /// Removes recorded runs that are older than `age`. Returns how many.
    pub(crate) async fn sweep_runs(&self, age: Duration) -> Result<u64, ApiError> {
        self.recorder.sweep(age).await
    }
}
