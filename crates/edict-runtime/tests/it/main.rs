//! The runtime with a real Python in a real sandbox.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod check;
mod context;
mod hostile;
mod lifecycle;
mod replicas;
mod runs;
mod support;
