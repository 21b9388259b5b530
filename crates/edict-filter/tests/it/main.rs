//! Filters, updates, sorting and projection through the public interface.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests are not marked as tests"
)]

mod databases;
mod errors;
mod filters;
mod hostile;
mod measure;
mod patterns;
mod random;
mod sorting;
mod updates;
