//! Edict's records and a typed client for its API.
//!
//! The command line is built on this crate, and so are the tests; other Rust programs use it the same way.

pub mod records;
