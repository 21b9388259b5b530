//! Jobs (Type 3): runs that wait in a durable queue and end in exactly one final state.
//!
//! [`queue`] is the queue in the database, beside which every policy system process has a [`worker`] for the executor
//! that is built into it; `edict executor` has one, too, and reaches the queue over HTTP ([`source`]).

mod attempt;
pub(crate) mod cancel;
pub(crate) mod claim;
pub(crate) mod cluster;
pub(crate) mod finish;
pub(crate) mod lease;
pub(crate) mod log;
pub(crate) mod logs;
mod metrics;
pub(crate) mod own;
pub(crate) mod pod;
pub(crate) mod query;
pub(crate) mod queue;
pub(crate) mod read;
mod record;
pub(crate) mod renew;
pub(crate) mod seal;
mod settle;
pub(crate) mod source;
pub(crate) mod submit;
mod waiters;
pub(crate) mod waiting;
pub(crate) mod worker;
mod writer;

use crate::error::Code;
use crate::store::documents::Collection;
use edict_filter::{Column, Kind, Table};
use queue::Queue;
use std::sync::Arc;
use worker::Worker;

/// The policy system's part in jobs.
pub(crate) struct Jobs {
    pub(crate) queue: Arc<Queue>,
    /// Runs the jobs of the built-in executor.
    pub(crate) worker: Arc<Worker>,
}

impl Jobs {
    /// Takes in what another server on the same database announced.
    pub(crate) async fn heard(&self, announcement: &str) {
        match announcement.split_once(' ') {
            Some(("final", job_id)) => {
                self.worker.kill(job_id);
                self.queue.tell_waiters(job_id).await;
            }
            _ => self.worker.ring(),
        }
    }
}

pub(crate) const JOBS: Collection = Collection {
    table: Table {
        doc: "doc",
        columns: &[
            Column { path: "job_id", sql: "key", kind: Kind::Text },
            Column { path: "job_status", sql: "job_status", kind: Kind::Text },
            Column { path: "name", sql: "name", kind: Kind::Text },
            Column { path: "executor_id", sql: "executor_id", kind: Kind::Text },
            Column { path: "policy_rule_uri", sql: "policy_rule_uri", kind: Kind::Text },
            Column { path: "created_at", sql: "created_at", kind: Kind::Text },
        ],
    },
    name: "jobs",
    noun: "job",
    own_fields: &[],
    not_found: Code::JobNotFound,
    // The server makes the ids: one that is taken is its own mistake.
    exists: Code::Internal,
};
