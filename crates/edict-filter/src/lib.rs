//! Mongo-style filters, updates, sorting and projection over JSON documents.
//!
//! A [`Filter`] is parsed once and then either asked about a document in memory ([`Filter::matches`]) or compiled
//! to a boolean SQL expression for SQLite or PostgreSQL ([`Filter::to_sql`]).
//!
//! INVARIANT (one meaning): for every document, `matches` and both SQL expressions give the same answer.
//!
//! INVARIANT (bound): nothing a caller wrote becomes part of the SQL text; values and path segments are bound.
//!
//! The crate does no input or output.

mod error;
mod filter;
mod parse;
mod path;
mod projection;
mod regex;
mod sort;
mod sql;
mod update;
mod value;

pub use error::{ErrorCode, FilterError};
pub use filter::Filter;
pub use projection::Projection;
pub use sort::Sort;
pub use sql::{Arg, Column, Dialect, Kind, Sql, Table};
pub use update::Update;
pub use value::contains_nul;
