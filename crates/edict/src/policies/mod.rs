//! Policies in the registry: their records, their code, their context.

pub(crate) mod code;
pub(crate) mod context;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod download;
pub(crate) mod query;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod registry;
pub(crate) mod update;

use crate::error::Code;
use crate::store::documents::Collection;
use edict_filter::{Column, Kind, Table};

pub(crate) const POLICIES: Collection = Collection {
    table: Table {
        doc: "doc",
        columns: &[
            Column { path: "policy_rule_uri", sql: "key", kind: Kind::Text },
            Column { path: "name", sql: "name", kind: Kind::Text },
            Column { path: "version", sql: "version", kind: Kind::Text },
            Column { path: "release_tag", sql: "release_tag", kind: Kind::Text },
            Column { path: "tags", sql: "tags", kind: Kind::Text },
            Column { path: "type", sql: "type", kind: Kind::Text },
            Column { path: "created_at", sql: "created_at", kind: Kind::Text },
            Column { path: "updated_at", sql: "updated_at", kind: Kind::Text },
        ],
    },
    name: "policies",
    noun: "policy",
    own_fields: &record::OWN_FIELDS,
    not_found: Code::PolicyNotFound,
    exists: Code::PolicyExists,
};
