//! Runs policies written in Python: each in a sandbox, each run in a process of its own, in under a millisecond.
//!
//! [`Runtime::run`] takes a [`Policy`] and an [`Operation`] and gives an [`Outcome`] or says what went wrong
//! ([`RunError`]). The [`Host`] keeps what policies store in their `context` and receives what they log.
//! The program that embeds this crate must call [`launch::main`] first thing when [`launch::requested`].
//! `README.md` beside this crate's manifest has the process picture. Linux only.

#![cfg(target_os = "linux")]

pub mod bundle;
mod checker;
mod config;
mod control;
mod conversation;
pub mod environment;
mod error;
mod flight;
mod host;
pub mod launch;
mod logs;
mod policy;
mod process;
mod replica;
mod runtime;
mod sandbox;
mod template;

pub use self::checker::{ClassInfo, SourceFault};
pub use self::config::RuntimeConfig;
pub use self::error::{Fault, Limit, RunError, StartError};
pub use self::host::{ContextOp, Host};
pub use self::logs::{LogLevel, LogRecord};
pub use self::policy::{Isolation, Limits, LogSink, Operation, Outcome, Policy, RunOptions};
pub use self::replica::{Birth, Managed, Pool, PoolStats, Replica, ReplicaLog};
pub use self::runtime::{Runtime, Stats};
pub use self::sandbox::SandboxReport;
