//! `edict executor`: without a subcommand the executor process itself, and `edict executor list`.

use super::Global;
use super::failure::Failure;
use super::list::{Column, ListArgs};
use super::output::Output;
use clap::{Args, Subcommand};

const COLUMNS: &[Column] = &[
    ("ID", "executor_id"),
    ("STATUS", "executor_status"),
    ("ADDRESS", "executor_host_uri"),
    ("VCPUS", "executor_hardware_info.vcpus.count"),
    ("MEMORY (MB)", "executor_hardware_info.memory"),
    ("UPDATED", "updated_at"),
];

/// What the process itself needs goes beside `command`, without positional arguments.
#[derive(Args)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct ExecutorArgs {
    #[command(subcommand)]
    command: Option<ExecutorCommand>,
}

#[derive(Subcommand)]
enum ExecutorCommand {
    /// List the registered executors
    List(ListArgs),
}

pub(crate) async fn run(args: ExecutorArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    match args.command {
        None => run_process().await,
        Some(ExecutorCommand::List(list)) => {
            let (filter, page) = list.request(out, COLUMNS)?;
            let found = global.client()?.query_executors(&filter, &page).await?;
            list.print(out, COLUMNS, found)
        }
    }
}

/// Runs the executor until it is told to stop.
async fn run_process() -> Result<(), Failure> {
    Err(Failure::failed("this build cannot run policies: it has no Python runtime"))
}
