//! Edict from the outside: real servers, real databases, real Python.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that panics has failed"
)]

mod support;

mod assets;
mod auth;
mod bad_input;
mod code;
mod context;
mod durability;
mod listeners;
mod queries;
mod settings;
mod smoke;
mod spec;
mod updates;
