//! Edict from the outside: real servers, real databases, real Python.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test that meets what it does not expect shall fail there, and say what it skips"
)]

mod support;

mod cli;
mod context;
mod execute;
mod executors;
mod hostile;
mod management;
mod requirements;
mod sdk;
mod smoke;
