//! The crate's promises, through its public interface: with a real Python in a real sandbox, real archives, a real
//! package index.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect shall fail there; helpers of tests included"
)]

mod archives;
mod bundle;
mod check;
mod context;
mod environment;
mod fetch;
mod hostile;
mod lifecycle;
mod runs;
mod store;
mod support;
