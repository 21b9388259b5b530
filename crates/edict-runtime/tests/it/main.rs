//! The crate's promises, through its public interface.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect shall fail there; helpers of tests included"
)]

mod archives;
mod bundle;
mod environment;
mod fetch;
mod store;
