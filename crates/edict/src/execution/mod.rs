//! Running policies on this machine, for the policy system's built-in executor and for `edict executor` alike.

mod compiled;
mod failure;
mod home;
mod runner;
mod start;

pub(crate) use compiled::{Compiled, unfit};
pub(crate) use failure::describe;
pub(crate) use home::{Home, relay};
pub(crate) use runner::{Finished, Runner, Tools, check_depth, log_record};
pub(crate) use start::{StartError, find_python, start_tools};
