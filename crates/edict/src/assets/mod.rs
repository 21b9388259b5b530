//! Assets: records, and the files behind them.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod download;
pub(crate) mod query;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod storage;
pub(crate) mod update;
pub(crate) mod upload;

use crate::error::Code;
use crate::store::documents::Collection;
use edict_filter::{Column, Kind, Table};

pub(crate) const ASSETS: Collection = Collection {
    table: Table {
        doc: "doc",
        columns: &[
            Column { path: "asset_uri", sql: "key", kind: Kind::Text },
            Column { path: "asset_id", sql: "asset_id", kind: Kind::Text },
            Column { path: "asset_name", sql: "asset_name", kind: Kind::Text },
            Column { path: "created_at", sql: "created_at", kind: Kind::Text },
        ],
    },
    name: "assets",
    noun: "asset",
    own_fields: &record::OWN_FIELDS,
    not_found: Code::AssetNotFound,
    exists: Code::AssetExists,
};
