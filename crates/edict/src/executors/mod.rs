//! Policy executors in the registry, and running policies on them.

pub(crate) mod address;
mod alias;
mod bring;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod execute;
pub(crate) mod hardware;
pub(crate) mod heartbeat;
pub(crate) mod infra;
pub(crate) mod pods;
pub(crate) mod process;
pub(crate) mod query;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod remote;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod update;
pub(crate) mod wake;

use crate::error::Code;
use crate::store::documents::Collection;
use edict_filter::{Column, Kind, Table};

/// The executor that is built into the policy system.
pub(crate) const LOCAL: &str = "local";

pub(crate) const EXECUTORS: Collection = Collection {
    table: Table {
        doc: "doc",
        columns: &[
            Column { path: "executor_id", sql: "key", kind: Kind::Text },
            Column { path: "executor_status", sql: "executor_status", kind: Kind::Text },
            Column { path: "created_at", sql: "created_at", kind: Kind::Text },
        ],
    },
    name: "executors",
    noun: "executor",
    own_fields: &record::OWN_FIELDS,
    not_found: Code::ExecutorNotFound,
    exists: Code::ExecutorExists,
};
