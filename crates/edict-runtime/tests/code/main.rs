//! Code bundles and environments, through the public interface: real archives, a real package index.
//!
//! A program of its own beside `it`: the tests there count the open descriptors of their process.

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
