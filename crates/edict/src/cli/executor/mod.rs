//! `edict executor`: without a subcommand the executor process itself; with one, the registered executors, and those that the
//! policy system sets up in a cluster.

mod infra;
pub(super) mod kubeconfig;

use super::Global;
use super::failure::Failure;
use super::list::{Column, ListArgs};
use super::output::Output;
use super::serve;
use crate::executors::process;
use crate::settings::SettingsArgs;
use clap::{Args, Subcommand};
use std::path::PathBuf;

const COLUMNS: &[Column] = &[
    ("ID", "executor_id"),
    ("STATUS", "executor_status"),
    ("ADDRESS", "executor_host_uri"),
    ("VCPUS", "executor_hardware_info.vcpus.count"),
    ("MEMORY (MB)", "executor_hardware_info.memory"),
    ("UPDATED", "updated_at"),
];

#[derive(Args)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct ExecutorArgs {
    #[command(subcommand)]
    command: Option<ExecutorCommand>,
    /// Write the listener's URL into this file, as JSON, once the executor is registered and serves
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Subcommand)]
enum ExecutorCommand {
    /// List the registered executors
    List(ListArgs),
    /// Set up an executor in a Kubernetes cluster, go on with it, or change it
    AddInfra(Box<infra::AddArgs>),
    /// Show what was set up for an executor
    ShowInfra {
        /// For example `edge-1`
        id: String,
    },
    /// Remove what was set up for an executor
    RemoveInfra(infra::RemoveArgs),
}

pub(crate) async fn run(args: ExecutorArgs, global: &Global, out: &mut Output<'_>) -> Result<(), Failure> {
    match args.command {
        None => {
            let settings = serve::settings(&args.settings)?;
            process::run(settings, args.ready_file.as_deref()).await.map_err(serve::failure)
        }
        Some(ExecutorCommand::List(list)) => {
            let (filter, page) = list.request(out, COLUMNS)?;
            let found = global.client()?.query_executors(&filter, &page).await?;
            list.print(out, COLUMNS, found)
        }
        Some(ExecutorCommand::AddInfra(args)) => infra::add(*args, &global.client()?, out).await,
        Some(ExecutorCommand::ShowInfra { id }) => infra::show(&id, &global.client()?, out).await,
        Some(ExecutorCommand::RemoveInfra(args)) => infra::remove(args, &global.client()?, out).await,
    }
}
