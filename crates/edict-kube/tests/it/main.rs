//! Actions on a real cluster, with the rights of `deploy/rbac.yaml` and no others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect shall fail there"
)]

mod deployments;
mod faults;
mod infra;
mod pods;
mod rights;
mod rollback;
mod settle;
mod shows;
mod support;
mod workloads_functions;
mod workloads_jobs;
mod workloads_support;
