//! For tests that need a Kubernetes cluster: a namespace of their own in a real one, and a way to its API server that
//! misbehaves as it is told. `cargo xtask test` sets the variables that this reads.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    reason = "a test that meets what it does not expect shall fail there, and say what it skips"
)]

mod namespace;
mod proxy;

pub use namespace::{Namespace, PATIENCE};
pub use proxy::{Mischief, Proxy};
