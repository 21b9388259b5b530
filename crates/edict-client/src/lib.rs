//! Edict's records and a typed client for its API.
//!
//! The command line is built on this crate, and so are the tests; other Rust programs use it the same way:
//!
//! ```no_run
//! # async fn example() -> Result<(), edict_client::Error> {
//! use edict_client::{Client, Page, records::Policy};
//!
//! let client = Client::new("http://127.0.0.1:5000", None)?;
//! let filter = serde_json::json!({"tags": {"$regex": "security"}});
//! let found = client.query_policies::<Policy>(&filter, &Page::default()).await?;
//! # Ok(())
//! # }
//! ```

/// The guide's examples in Rust are tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/operations.md")]
struct OperationsGuide;

pub mod records;

mod client;
mod error;

pub use client::{
    AuditFilter, Builder, Client, Content, DecisionFilter, Download, Listing, Managed, NewAsset, Page,
    PolicyCode, Stored,
};
pub use error::{ApiError, Error};
pub use reqwest::{Body, StatusCode};
