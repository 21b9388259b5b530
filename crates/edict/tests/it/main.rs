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

mod actions;
mod actions_cluster;
mod actions_faults;
mod actions_signing;
mod allocation;
mod assets;
mod audit;
mod audit_faults;
mod auth;
mod bad_input;
mod cli;
mod cli_decide;
mod cli_functions;
mod cli_graphs;
mod cli_jobs;
mod code;
mod context;
mod context_api;
mod decision_log;
mod decision_log_faults;
mod decisions;
mod decisions_folder;
mod decisions_policies;
mod decisions_python;
mod demo;
mod documents;
mod durability;
mod execute;
mod executors;
mod functions;
mod functions_faults;
mod functions_update;
mod graphs;
mod graphs_faults;
mod hostile;
mod image;
mod infra;
mod jobs;
mod jobs_faults;
mod listeners;
mod management;
mod pods_cluster;
mod pods_functions;
mod pods_jobs;
mod queries;
mod requirements;
mod sdk;
mod settings;
mod smoke;
mod spec;
mod updates;
mod watching;
